"""The elements of a lag pipeline against a second implementation, and against signals with known spectra."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.correlator.configuration import Product, Stream
from socs_bl.correlator.integration import Grid, Spectra
from socs_bl.correlator.pipeline import parse_pipeline
from socs_bl.correlator.plan import GOOD, MISSING, SUSPECT, Plan, make_plan
from socs_bl.correlator.stage import Integration, Stage
from tests.correlator import reference
from tests.correlator.dumps import START, empty_slot, noise_slot

X, Y = Stream("x", 1, 0, 0), Stream("y", 2, 0, 0)
DUMP = 100_000_000
Delivered = list[tuple[Integration, list[Spectra]]]


def make_stage(text: str, plan: Plan, dump_ns: int = DUMP) -> tuple[Stage, Delivered]:
    """A stage, and the list it fills."""
    found: Delivered = []
    stage = Stage(parse_pipeline(text), plan, dump_ns, lambda done: found.append((done, stage.spectra())))
    return stage, found


def text_of(steps: reference.Steps, dumps: int) -> str:
    """The pipeline that does these steps."""
    taper = f" ! window hanning width={steps.width}" if steps.window else ""
    flag = f"flag suspect={'keep' if steps.keep_suspect else 'drop'}"
    fft = f"dvnorm{taper} ! fft ! boxcar span={steps.span}"
    return {
        "integrateFirst": f"{flag} ! integrate n={dumps} ! {fft} ! null",
        "transformFirst": f"{flag} ! {fft} ! integrate n={dumps} ! accnorm ! null",
        "noTransform": f"{flag} ! integrate n={dumps} ! dvnorm ! null",
    }[steps.order]


@dataclass(frozen=True)
class Case:
    """Steps, the plan, and the dumps of one integration."""

    steps: reference.Steps
    plan: Plan
    slots: list[npt.NDArray[np.uint8]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any order, mixed shapes, bins, recirculation, bad frames and counts."""
    shapes = st.sampled_from([(1, 1, False), (1, 1, True), (2, 1, True), (2, 2, True), (1, 2, False), (4, 1, True)])
    products = []
    for number in range(draw(st.integers(1, 3))):
        frames, recirculation, half = draw(shapes)
        lags = frames * recirculation * (64 if half else 128)
        bins = draw(st.integers(1, 3))
        products.append(Product(f"p{number}", X, Y, lags, frames, recirculation, bins, half=half))
    plan = make_plan(products)
    steps = reference.Steps(
        draw(st.sampled_from(["integrateFirst", "transformFirst", "noTransform"])),
        draw(st.booleans()),
        draw(st.sampled_from([0, 10, 64])),
        draw(st.sampled_from([1, 2, 32])),
        draw(st.booleans()),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.1, 0.9]))
    slots = [_random_slot(plan, random, share) for _ in range(draw(st.integers(1, 4)))]
    return Case(steps, plan, slots)


def _random_slot(plan: Plan, random: np.random.Generator, share: float) -> npt.NDArray[np.uint8]:
    """A dump of which this share of the frames is missing, suspect or without a valid sample."""
    slot = noise_slot(plan, int(random.integers(2**32)))
    for group in plan.groups:
        state, counts = group.state(slot), group.counts(slot)
        counts[:] = random.integers(1, 2**32, counts.shape)
        state[random.random(state.shape) < share / 3] = MISSING
        state[random.random(state.shape) < share / 3] = SUSPECT
        counts[random.random(counts.shape) < share / 3] = 0
        group.lag_pairs(slot)[:] = random.integers(-(2**31), 2**31, group.lag_pairs(slot).shape)
    return slot


@settings(max_examples=40)
@given(cases())
def test_every_order_and_shape_agrees_with_the_equations(case: Case) -> None:
    """Spectra and the number of good dumps are those of a plain double-precision implementation, in single precision."""
    stage, found = make_stage(text_of(case.steps, len(case.slots)), case.plan)
    first = START // DUMP // len(case.slots) * len(case.slots)
    for number, slot in enumerate(case.slots):
        stage.take((first + number) * DUMP, slot)
    [(_, spectra)] = found
    for group, result in zip(case.plan.groups, spectra, strict=True):
        for member, phase in itertools.product(range(len(group.products)), range(group.bins)):
            dumps = [
                reference.SetOfDump(
                    group.lag_pairs(slot)[member, phase].tolist(),
                    group.counts(slot)[member, phase].tolist(),
                    group.state(slot)[member, phase].tolist(),
                )
                for slot in case.slots
            ]
            expected, good = reference.integrate(dumps, case.steps)
            values = result.values[member, phase]
            assert result.dumps[member, phase] == good
            wanted = np.array(expected or [0] * len(values))
            assert np.abs(values - wanted).max() <= 3e-6 * max(np.abs(wanted).max(), _largest(dumps)) * (good > 0)


def _largest(dumps: list[reference.SetOfDump]) -> float:
    """Largest normalised lag: rounding errors of a spectrum are in proportion to it."""
    sizes = [
        abs(complex(*pair)) / reference.valid_count(k, len(dump.lags), dump.counts)
        for dump in dumps
        if all(count for pair in dump.counts for count in pair)
        for k, pair in enumerate(dump.lags)
    ]
    return max(sizes, default=0.0)


def one_product(frames: int = 1, recirculation: int = 1) -> Plan:
    """The plan of one product."""
    return make_plan([Product("p", X, Y, 128 * frames * recirculation, frames, recirculation)])


def spectrum_of(lags: npt.NDArray[np.complex128], text: str, plan: Plan) -> npt.NDArray[np.complex64]:
    """What a pipeline makes of these lags, which are at most of the order of 1."""
    slot, group = empty_slot(plan), plan.groups[0]
    group.state(slot)[:], group.counts(slot)[:] = GOOD, 2**24
    scaled = np.rint(lags * 2**24)
    group.lag_pairs(slot)[0, 0] = np.stack([scaled.real, scaled.imag], -1)
    stage, found = make_stage(text, plan)
    stage.take(START, slot)
    return found[0][1][0].values[0, 0]


def correlate(x: npt.NDArray[np.complex128], y: npt.NDArray[np.complex128], lags: int) -> npt.NDArray[np.complex128]:
    """<X(t + k - c) Y*(t)> of two periodic signals."""
    return np.array([np.mean(np.roll(x, -(k - lags // 2)) * np.conj(y)) for k in range(lags)])


@pytest.mark.parametrize(("frames", "recirculation"), [(1, 1), (4, 1), (2, 4)])
def test_a_tone_is_in_its_channel(frames: int, recirculation: int) -> None:
    """A tone in both streams appears in its channel alone, with the product of the amplitudes and the phase between them."""
    plan = one_product(frames, recirculation)
    lags = plan.products[0].lags
    time = np.arange(4 * lags)
    channel = 2 * lags // 11
    x = 0.7 * np.exp(2j * np.pi * channel * time / lags)
    y = 0.5 * np.exp(2j * np.pi * channel * time / lags - 0.9j)
    spectrum = spectrum_of(correlate(x, y, lags), "flag ! dvnorm ! fft ! null", plan)
    wanted = np.zeros(lags // 2, complex)
    wanted[channel] = 0.35 * np.exp(0.9j)
    assert spectrum == pytest.approx(wanted, abs=1e-6)


def test_a_delay_is_a_phase_slope() -> None:
    """The signal reaches y three samples after x: the phase of <X Y*> rises with the channel by 2 pi 3 / L."""
    plan, lags, random = one_product(), 128, np.random.default_rng(4)
    band = np.zeros(lags, complex)
    band[8:56] = np.exp(2j * np.pi * random.random(48))
    x = np.fft.ifft(band)
    y = np.roll(x, 3)
    spectrum = spectrum_of(correlate(x, y, lags) * lags, "flag ! dvnorm ! fft ! null", plan)[8:56]
    slope = np.angle(np.sum(spectrum[1:] * np.conj(spectrum[:-1])))
    assert slope == pytest.approx(2 * np.pi * 3 / lags, abs=1e-5)


def test_the_hanning_window_smooths_neighbours() -> None:
    """Channel m becomes 1/4, 1/2, 1/4 of channels m-1, m, m+1 of the full spectrum of both sidebands."""
    plan, lags, random = one_product(2), 256, np.random.default_rng(5)
    noise = (random.normal(size=lags) + 1j * random.normal(size=lags)) / 8
    both = np.fft.fft(np.roll(noise, -lags // 2)) / lags
    smooth = np.roll(both, 1) / 4 + both / 2 + np.roll(both, -1) / 4
    found = spectrum_of(noise, "flag ! dvnorm ! window hanning ! fft ! null", plan)
    assert found == pytest.approx(smooth[: lags // 2], abs=1e-6)


def test_lags_first_and_spectra_first_agree_when_weighted() -> None:
    """integrateFirst is transformFirst weighted with valid counts, exactly, when counts fall off alike in all dumps."""
    plan, group = one_product(4), one_product(4).groups[0]
    slots = [noise_slot(plan, seed) for seed in range(5)]
    for slot, count in zip(slots, (100, 2000, 30, 1, 999), strict=True):
        group.counts(slot)[..., 0], group.counts(slot)[..., 1] = 10 * count, 9 * count
    results = []
    for text in ("flag ! integrate n=5 ! dvnorm ! fft ! null", "flag ! dvnorm ! fft ! integrate n=5 ! accnorm ! null"):
        stage, found = make_stage(text, plan)
        for number, slot in enumerate(slots):
            stage.take(START + number * DUMP, slot)
        results.append(found[0][1][0].values)
    assert np.abs(results[0]).max() > 0
    assert results[0] == pytest.approx(results[1], rel=1e-5, abs=1e-6 * float(np.abs(results[0]).max()))


def test_sums_of_the_largest_lags_are_exact() -> None:
    """Fault 24: thousands of dumps of the largest lags overflow nothing."""
    plan = one_product()
    stage, found = make_stage("flag ! integrate n=5000 ! dvnorm ! null", plan)
    slot, group = empty_slot(plan), plan.groups[0]
    group.state(slot)[:], group.counts(slot)[:] = GOOD, 2**32 - 1
    group.lag_pairs(slot)[..., 0], group.lag_pairs(slot)[..., 1] = 2**31 - 1, -(2**31)
    for number in range(5000):
        stage.take(START + number * DUMP, slot)
    assert found[0][1][0].values == pytest.approx(np.full((1, 1, 128), 0.5 - 0.5j), rel=1e-6)


@pytest.mark.parametrize("text", ["flag ! integrate n=2 ! dvnorm ! fft ! null", "flag ! dvnorm ! fft ! null"])
def test_nothing_valid_is_flagged_and_zero(text: str) -> None:
    """Fault 24: suspect frames (overflow) and counts of 0 give no NaN: value 0, no dumps."""
    plan = make_plan([Product(name, X, Y) for name in "abc"])
    stage, found = make_stage(text, plan)
    for number in range(2):
        slot, group = noise_slot(plan, number), plan.groups[0]
        group.state(slot)[0], group.counts(slot)[1, 0, 0, 0] = SUSPECT, 0
        stage.take(START + number * DUMP, slot)
    result = found[-1][1][0]
    assert result.dumps[:, 0].tolist() == [0, 0, stage.recipe.dumps]
    assert not result.values[:2].any() and result.values[2].any()


def test_the_grid_hangs_on_the_epoch() -> None:
    """Pipelines that start at different dumps cut at the same places, and say which integration was not whole."""
    plan = one_product()
    numbers = []
    for late in range(3):
        stage, found = make_stage("flag ! integrate n=3 ! dvnorm ! fft ! null", plan)
        for number in range(late, 9):
            stage.take(START + number * DUMP + 17, noise_slot(plan, number))
        numbers.append([(done.number, done.partial, done.start_ns) for done, _ in found])
    grid = Grid(DUMP, 3)
    place, offset = grid.place(START)
    assert [item[0] for item in numbers[0]] == [place, place + 1, place + 2][: len(numbers[0])]
    whole = {item for items in numbers for item in items if not item[1]}
    assert len(whole) == len({number for number, _, _ in whole})
    assert all(start % (3 * DUMP) == 17 for _, _, start in whole)
    assert [items[0][1] for items in numbers] == [bool((offset + late) % 3) for late in range(3)]


def test_missing_dumps_shorten_and_shift_the_mean() -> None:
    """A dump that never comes is not in the sums; the integration ends with the first dump of the next."""
    plan = one_product()
    stage, found = make_stage("flag ! integrate n=4 ! dvnorm ! fft ! null", plan)
    first = START // (4 * DUMP) * 4
    for number in (0, 1, 4):
        stage.take((first + number) * DUMP, noise_slot(plan, number))
    [(done, [result])] = found
    assert done.start_ns == first * DUMP and not done.partial
    assert result.dumps.tolist() == [[2]] and result.offsets.tolist() == [[0.5]]


def test_dumps_off_the_grid_and_out_of_order() -> None:
    """Timestamps a little early or late are of their dump; one that comes twice or too late is left out and counted."""
    plan = one_product()
    stage, found = make_stage("flag ! integrate n=4 ! dvnorm ! fft ! null", plan)
    first = START // (4 * DUMP) * 4
    for number, error in ((0, -900), (1, 900), (1, 1000), (0, 0), (2, -900), (3, 0), (2, 0)):
        stage.take((first + number) * DUMP + error, noise_slot(plan, number))
    [(done, [result])] = found
    assert result.dumps.tolist() == [[4]] and result.offsets.tolist() == [[1.5]]
    assert (done.number, done.start_ns) == (first // 4, first * DUMP - 900)
    assert stage.counters["late"] == 3


def test_the_length_of_a_dump_is_learned() -> None:
    """Without it in the configuration the first dumps are held, and none of them is lost, though one was missing."""
    plan = one_product()
    slots = [noise_slot(plan, number) for number in range(12)]
    results = []
    for dump_ns in (DUMP, 0):
        stage, found = make_stage("flag ! integrate n=2 ! dvnorm ! fft ! null", plan, dump_ns)
        for number in (0, 2, 3, 4, 5, 6, 7, 8, 9):
            stage.take(START + number * DUMP, slots[number])
        results.append([(done, spectra[0].values.tolist()) for done, spectra in found])
    assert results[0] == results[1] and len(results[0]) == 5


def test_a_flush_forgets() -> None:
    """What was summed before the end of an activation is in no integration; order of time begins anew."""
    plan = one_product()
    stage, found = make_stage("flag ! integrate n=4 ! dvnorm ! fft ! null", plan)
    first = START // (4 * DUMP) * 4
    for number in (2, 3):
        stage.take((first + 40 + number) * DUMP, noise_slot(plan, number))
    stage.take((first + 44) * DUMP, noise_slot(plan, 1))
    stage.flush()
    for number in range(4):
        stage.take((first + number) * DUMP, noise_slot(plan, number))
    assert [done.partial for done, _ in found] == [True, False]
    assert found[-1][1][0].dumps.tolist() == [[4]]
    assert stage.counters["discarded"] == 1 and stage.counters["late"] == 0


def test_after_a_flush_the_length_is_learned_again() -> None:
    """Another activation may have other dumps: nothing of the length learned before is left."""
    plan = one_product()
    stage, found = make_stage("flag ! integrate n=2 ! dvnorm ! fft ! null", plan, 0)
    for length in (DUMP, 3 * DUMP):
        first = START // (6 * DUMP) * 6 * DUMP
        for number in range(8):
            stage.take(first + number * length, noise_slot(plan, number))
        assert stage.dump_ns == length
        stage.flush()
        assert stage.dump_ns == 0
    assert [done.end_ns - done.start_ns for done, _ in found] == [2 * DUMP] * 4 + [6 * DUMP] * 4
    assert all(spectra[0].dumps.tolist() == [[2]] for _, spectra in found)


def test_properties_are_live_and_some_can_be_changed() -> None:
    """A window is changed from the next integration on; what alters shapes, or is no value, is refused and changes nothing."""
    plan = one_product()
    stage, found = make_stage("flag ! integrate n=2 ! dvnorm ! window hanning ! fft ! null", plan)
    for number in range(6):
        if number == 1:
            assert stage.set_property("window", "algorithm", "none") == "none"
        stage.take(START + number * DUMP, noise_slot(plan, number % 2))
    for element, name, value in [
        ("integrate", "n", "3"),
        ("window", "algorithm", "kaiser"),
        ("fft", "x", "1"),
        ("bdf", "x", "1"),
    ]:
        with pytest.raises(Refused):
            stage.set_property(element, name, value)
    [before, after, again] = [spectra[0].values for _, spectra in found]
    assert (after == again).all() and not np.allclose(before, after)
    described = {item["name"]: item for item in stage.properties()}
    assert described["flag"]["properties"] == {"suspect": "drop", "sets": 6, "flagged": 0}
    assert described["integrate"]["properties"] == {"n": 2, "integrations": 3, "discarded": 0, "dump-ns": DUMP}
    assert described["window"]["writable"] == ["algorithm", "width"]
