"""Integrations to files: cutting, joining, slow and refusing disks. Files are read by the room's reader and by sdmpy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from socs_bl.bdf.finish import finish
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import Scan, ScanAntenna, decode_scan, make_uid, mjd_ns
from socs_bl.bdf.writer import BdfWriter, part_path, scan_path
from socs_bl.core.errors import Lost, Refused
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.observation.wire import parse_mjd
from socs_bl.correlator.output import make_outputs
from socs_bl.correlator.pipeline import make_recipe, parse_pipeline
from socs_bl.correlator.plan import SUSPECT, make_plan
from socs_bl.correlator.recorder import FAULT, FLUSH, QUEUED, STOP, Recorder, choose_subarray
from socs_bl.correlator.stage import Stage
from tests.correlator.dumps import SECOND, START, noise_slot, observation

DUMP = SECOND // 10
TEXT = "flag ! integrate n=5 ! dvnorm ! fft ! bdf"
INTERVAL = 5 * DUMP


class Bench:
    """A stage and a recorder, fed by hand."""

    def __init__(self, configuration: Configuration, **options: Any) -> None:
        pipe = configuration.pipes[0]
        elements = parse_pipeline(pipe.text)
        self.plan = make_plan(configuration.pipe_products(pipe.name))
        outputs = make_outputs(configuration, pipe.name, self.plan, make_recipe(elements))
        self.told: list[tuple[str, str]] = []
        self.recorder = Recorder(configuration, outputs, lambda *words: self.told.append(words), **options)
        self.stage = Stage(
            elements,
            self.plan,
            configuration.dump_ns,
            lambda done: self.recorder.deliver(done, self.stage.spectra),
        )

    def feed(self, first: int, count: int, slot: npt.NDArray[np.uint8] | None = None) -> None:
        """Dumps by their number after START."""
        for number in range(first, first + count):
            time = START + number * DUMP
            self.stage.take(time, noise_slot(self.plan, number) if slot is None else slot)
            self.recorder.passed(time)


@contextmanager
def bench(configuration: Configuration, **options: Any) -> Iterator[Bench]:
    """A bench whose thread ends."""
    made = Bench(configuration, **options)
    try:
        yield made
    finally:
        made.recorder.close()


def scan_from(start: float, stop: float = 0.0, number: int = 1) -> Scan:
    """A scan whose window is given in integrations after START."""
    return Scan(
        uid=make_uid(number),
        dataset_id="D",
        config_id="cfg",
        start_ns=START + round(start * INTERVAL),
        stop_ns=START + round(stop * INTERVAL) if stop else 0,
    )


def test_integrations_wholly_inside_the_window_are_kept(tmp_path: Path) -> None:
    """A window that begins and ends within integrations loses those; times, durations and flags are what was measured."""
    configuration = observation(TEXT)
    telescope = tuple(ScanAntenna(f"ea{station:02}", station, f"W{station}", x=1.5) for station in (9, 2, 1))
    scan = msgspec.structs.replace(scan_from(1.3, 5.9), antennas=telescope)
    directory = tmp_path / ".private"
    with bench(configuration) as made:
        made.recorder.open(scan, directory)
        made.feed(0, 11)
        for number, members in ((11, slice(0, 1)), *((number, slice(None)) for number in range(15, 20))):
            bad = noise_slot(made.plan, number)
            made.plan.groups[0].state(bad)[members] = SUSPECT
            made.feed(made.stage.counters["dumps"], number - made.stage.counters["dumps"])
            made.feed(number, 1, bad)
        made.feed(20, 13)
        [done] = made.recorder.close()
    assert (done.integrations, done.dropped, done.error, done.ending) == (3, 0, "", STOP)
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        assert reader.header.start_ns == mjd_ns(START + 2 * INTERVAL) and len(reader) == 3
        middles = [mjd_ns(START + k * INTERVAL + INTERVAL // 2) for k in (2, 3, 4)]
        assert [item.time_ns for item in reader] == middles
        flags, durations, times = (
            [parts[0] for parts in (getattr(item, f"auto_{name}") for item in reader)]
            for name in ("flags", "durations", "times")
        )
        # The plan's first product is RR of station 1; of its first integration the second dump of five is missing.
        assert durations[0][:, 0].tolist() == [[4 * DUMP, INTERVAL, INTERVAL], [INTERVAL] * 3, [INTERVAL] * 3]
        assert times[0][:, 0].tolist() == [[middles[0] + DUMP // 4, middles[0], middles[0]], *[[middles[0]] * 3] * 2]
        assert [array.any() or array.all() for array in flags] == [False, True, False]
        assert set(durations[1].ravel()) == {0} and set(times[1].ravel()) == {middles[1]}
        assert not np.any((reader[1].cross or ())[0]) and (reader[1].cross_flags or ())[0].all()
        assert set((reader[2].cross_durations or ())[0].ravel()) == {INTERVAL}
    stored = decode_scan(scan_path(directory, scan.uid).read_bytes())
    assert [(antenna.name, antenna.pad) for antenna in stored.antennas] == [
        ("ea01", "W1"),
        ("ea02", "W2"),
        ("ea03", ""),
    ]
    # Channel m lies m widths of 1 MHz above the edge, so the middle of the 64 is half a width below the subband's.
    assert stored.windows[0].centre == 1.4995e9


def test_dates_in_double_precision_cost_no_integration(tmp_path: Path) -> None:
    """Edges that are told as Modified Julian Dates are off by half a microsecond: an integration at the edge is inside."""
    # Of whole seconds: the first text is late, the second early.
    start, stop = (parse_mjd(repr(40587 + (START // SECOND + after) / 86400)) for after in (0, 6))
    assert start > START and stop < START + 6 * SECOND
    scan = msgspec.structs.replace(scan_from(0), start_ns=start, stop_ns=stop)
    with bench(observation("flag ! integrate n=20 ! dvnorm ! fft ! bdf", stations=2)) as made:
        made.recorder.open(scan, tmp_path / ".private")
        made.feed(0, 100)
        [done] = made.recorder.close()
    assert (done.integrations, done.dropped, done.ending) == (3, 0, STOP)
    assert finish(part_path(tmp_path / ".private", scan.uid), stop).integrations == 3


def test_a_gap_at_the_stop_lets_nothing_in(tmp_path: Path) -> None:
    """When dumps are missing around the stop, an integration that reaches beyond it is not kept either."""
    with bench(observation(TEXT, stations=2)) as made:
        made.recorder.open(scan_from(2, 5.5), tmp_path / ".private")
        made.feed(10, 10)
        made.feed(25, 3)
        made.feed(30, 1)
        [done] = made.recorder.close()
    assert (done.integrations, done.dropped, done.ending) == (2, 0, STOP)


def test_the_other_order_of_hands_is_conjugated(tmp_path: Path) -> None:
    """B*A of a station goes to the place of A*B with the sign of its imaginary part changed."""
    spectra = []
    for swapped in (False, True):
        configuration = observation("flag ! dvnorm ! fft ! bdf", stations=2)
        if swapped:
            [mapping] = configuration.mappings
            assignments = tuple(
                replace(item, polarisation="LR") if item.product == "p1_1_RL" else item for item in mapping.assignments
            )
            configuration = replace(configuration, mappings=(replace(mapping, assignments=assignments),))
        directory = tmp_path / str(swapped) / ".private"
        with bench(configuration) as made:
            made.recorder.open(scan_from(0), directory)
            made.feed(0, 1)
            made.recorder.close()
        with BdfReader(part_path(directory, make_uid(1)), partial=True) as reader:
            spectra.append(np.array((reader[0].auto or ())[0][0, 0]))
    signs = np.array([1, 1, -1, 1])
    assert spectra[0][:, 2].any() and (spectra[0] * signs == spectra[1]).all()


@pytest.mark.parametrize("sideband", ["U", "L"])
@pytest.mark.parametrize("order", ["flag ! dvnorm ! fft ! boxcar span=2 ! bdf", "flag ! dvnorm ! bdf"])
def test_every_product_stands_in_its_place(tmp_path: Path, sideband: str, order: str) -> None:
    """What sdmpy reads for each baseline, antenna, polarisation, bin and channel is that product's own spectrum."""
    from sdmpy.bdf import BDF

    configuration = observation(order, sideband=sideband, bins=2)
    directory, scan = tmp_path / ".private", scan_from(0, 0)
    with bench(configuration) as made:
        made.recorder.open(scan, directory)
        slot = noise_slot(made.plan, 1)
        made.feed(0, 1, slot)
        assert made.recorder.close()[0].integrations == 1
        results = {
            product.name: values
            for group, result in zip(made.plan.groups, made.stage.spectra(), strict=True)
            for product, values in zip(group.products, result.values, strict=True)
        }
    integration = BDF(str(part_path(directory, scan.uid)))[0]
    cross, auto = integration.get_data(0, type="cross"), integration.get_data(0, type="auto")
    mirror = sideband == "L" and "fft" in order
    expected = {name: values[:, ::-1].conj() if mirror else values for name, values in results.items()}
    for row, (x, y) in enumerate([(1, 2), (1, 3), (2, 3)]):
        for place, label in enumerate(("RR", "RL", "LR", "LL")):
            assert (cross[row, ..., place].reshape(2, -1) == expected[f"p{x}_{y}_{label}"]).all()
    for station in (1, 2, 3):
        values = auto[station - 1].reshape(2, -1, 4)
        mixed = expected[f"p{station}_{station}_RL"]
        assert (values[..., 0] == expected[f"p{station}_{station}_RR"].real).all()
        assert (values[..., 1] == mixed.real).all() and (values[..., 2] == mixed.imag).all()
        assert (values[..., 3] == expected[f"p{station}_{station}_LL"].real).all()


def test_a_lower_sideband_comes_out_as_the_sky_has_it(tmp_path: Path) -> None:
    """Mixed with an oscillator above it, a signal that y has three samples later still has a phase that rises with frequency.

    A tone of the sky m channels below the oscillator stands m channels below the last one.
    """
    lags, tone = 128, 20
    configuration = observation("flag ! dvnorm ! fft ! bdf", stations=2, sideband="L")
    time = np.arange(lags)
    sky = np.fft.ifft(np.where((time >= 8) & (time < 56), np.exp(1j * time**2), 0)) * lags
    sky[:] += 100 * np.exp(2j * np.pi * (lags // 2 - tone) * time / lags)
    x, y = (np.conj(wave) * np.exp(1j * np.pi * time) for wave in (sky, np.roll(sky, 3)))
    pairs = np.array([np.mean(np.roll(x, -(k - lags // 2)) * np.conj(y)) for k in range(lags)])
    with bench(configuration) as made:
        made.recorder.open(scan_from(0), tmp_path / ".private")
        slot = noise_slot(made.plan, 1, 1000)
        made.plan.groups[0].lag_pairs(slot)[:] = np.rint(np.stack([pairs.real, pairs.imag], -1) * 1000)
        made.feed(0, 1, slot)
        made.recorder.close()
    with BdfReader(part_path(tmp_path / ".private", make_uid(1)), partial=True) as reader:
        spectrum = (reader[0].cross or ())[0][0, 0, :, 0].copy()
    assert int(np.argmax(np.abs(spectrum))) == lags // 2 - 1 - tone
    band = np.r_[spectrum[8 : lags // 2 - 3 - tone], spectrum[lags // 2 - 2 - tone :][:10]]
    assert np.angle(np.sum(band[1:11] * np.conj(band[:10]))) == pytest.approx(2 * np.pi * 3 / lags, abs=0.01)


def test_a_process_that_goes_on_flags_one_integration(tmp_path: Path) -> None:
    """Fault 25: the successor of a killed process writes the integration whose first dumps it missed, flagged; no other."""
    configuration, directory, scan = observation(TEXT), tmp_path / ".private", scan_from(0)
    with bench(configuration) as made:
        made.recorder.open(scan, directory)
        made.feed(0, 5)
    with bench(configuration) as made:
        made.recorder.open(scan, directory)
        made.feed(7, 13)
        [done] = made.recorder.close()
    assert (done.integrations, done.dropped) == (3, 0)
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        flags = [(item.cross_flags or ())[0] for item in reader]
        durations = [(item.cross_durations or ())[0] for item in reader]
        assert [int(array.min()) for array in flags] == [0, 1, 0, 0]
        assert [int(array.max()) for array in flags] == [0, 1, 0, 0]
        assert [int(array.max()) for array in durations] == [INTERVAL, 3 * DUMP, INTERVAL, INTERVAL]


def test_nothing_begins_with_a_part(tmp_path: Path) -> None:
    """Partial integrations at the beginning and at the end of an activation are in no file."""
    configuration, directory, scan = observation(TEXT), tmp_path / ".private", scan_from(-9)
    with bench(configuration) as made:
        made.recorder.open(scan, directory)
        made.feed(2, 16)
        made.stage.flush()
        made.recorder.end_all(FLUSH)
        [done] = made.recorder.close()
    assert (done.integrations, done.dropped, done.ending) == (2, 1, FLUSH)
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        assert reader.header.start_ns == mjd_ns(START + INTERVAL) and len(reader) == 2


def test_pipelines_of_one_file_agree_on_its_start(tmp_path: Path) -> None:
    """Who comes later takes the start from the file; what it has from before that is dropped and counted."""
    configuration, directory, scan = observation(TEXT), tmp_path / ".private", scan_from(0)
    with bench(configuration) as early, bench(configuration) as late:
        for made in (late, early):
            made.recorder.open(scan, directory)
        late.feed(5, 5)
        [first] = late.recorder.close()
        early.feed(0, 15)
        [second] = early.recorder.close()
    assert (first.integrations, second.integrations, second.dropped) == (1, 2, 1)
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        assert reader.header.start_ns == mjd_ns(START + INTERVAL) and len(reader) == 2


def test_a_configuration_of_another_shape_does_not_join(tmp_path: Path) -> None:
    """The recording ends there with a reason; the file is as it was, and is asked for again without effect."""
    directory, scan = tmp_path / ".private", scan_from(0)
    for text, stations in ((TEXT, 3), (TEXT, 4), (TEXT.replace("n=5", "n=10"), 3)):
        with bench(observation(text, stations)) as made:
            made.recorder.open(scan, directory)
            made.feed(0 if text == TEXT and stations == 3 else 10, 10)
            [done] = made.recorder.close()
            assert bool(done.error) == (done.ending == FAULT) == (done.integrations == 0)
            if done.error:
                assert "all writers of a file need the same configuration" in done.error
                assert made.recorder.open(scan, directory) == done
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        assert len(reader) == 2


def test_a_slow_disk_costs_whole_integrations(tmp_path: Path) -> None:
    """Fault 29: a disk that stands still keeps a bounded number waiting; the others are dropped whole, counted and told."""
    free, entered = threading.Event(), threading.Event()

    class Slow(BdfWriter):
        def write(self, *arguments: Any) -> None:
            entered.set()
            assert free.wait(100)
            super().write(*arguments)

    configuration, directory, scan = observation(TEXT), tmp_path / ".private", scan_from(0)
    with bench(configuration, open_writer=Slow.open) as made:
        made.recorder.open(scan, directory)
        made.feed(0, 5)
        assert entered.wait(100)
        made.feed(5, 45)
        waiting = made.recorder.recordings[scan.uid].waiting
        free.set()
        [done] = made.recorder.close()
    assert waiting == QUEUED
    assert (done.integrations, done.dropped, done.error) == (QUEUED, 10 - QUEUED, "")
    assert [severity for severity, _ in made.told] == ["warning"]
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        assert len(reader) == QUEUED


def test_a_disk_that_refuses_ends_one_recording(tmp_path: Path) -> None:
    """Fault 28: what the disk does not take ends that recording, with the reason; the next one is whole."""

    class Full(BdfWriter):
        def write(self, index: int, *arguments: Any) -> None:
            if index == 1 and self.header.uid == make_uid(1):
                raise Lost(f"{self.path}: no space left")
            super().write(index, *arguments)

    configuration, directory = observation(TEXT), tmp_path / ".private"
    with bench(configuration, open_writer=Full.open) as made:
        made.recorder.open(scan_from(0), directory)
        made.feed(0, 20)
        made.recorder.open(scan_from(4, 6, number=2), directory)
        made.feed(20, 15)
        done = {item.uid: item for item in made.recorder.close()}
    assert (done[make_uid(1)].integrations, done[make_uid(1)].ending) == (1, FAULT)
    assert "no space left" in done[make_uid(1)].error
    assert (done[make_uid(2)].integrations, done[make_uid(2)].error) == (2, "")


def test_stops_and_silence(tmp_path: Path) -> None:
    """A stop cuts at its time; one that is never reached ends when dumps have stopped coming and the time has passed."""
    configuration, directory = observation(TEXT), tmp_path / ".private"
    with bench(configuration) as made:
        recorder = made.recorder
        for number in (1, 2, 3):
            recorder.open(scan_from(0, number=number), directory)
        recorder.stop(make_uid(1), START + 2 * INTERVAL)
        recorder.stop(make_uid(2), 0)
        recorder.stop(make_uid(9), 0)
        recorder.stop(make_uid(3), START + 7 * INTERVAL)
        made.feed(0, 13)
        recorder.silent(100.0, START + 3 * INTERVAL)
        assert list(recorder.recordings) == [make_uid(3)]
        recorder.silent(100.0, START + 1000 * INTERVAL)
        assert not recorder.recordings
        done = {item.uid: (item.integrations, item.ending) for item in recorder.close()}
    assert done == {make_uid(1): (2, "stop"), make_uid(2): (0, "told"), make_uid(3): (2, "silence")}


def test_which_subarray(tmp_path: Path) -> None:
    """By name, by config_id, the only one; a name that is not there is refused, as is a choice among several.

    A product without a place is refused, too.
    """
    configuration = observation(TEXT)
    with bench(configuration) as made:
        for subarray, config_id in (("sa0", "other"), ("", "cfg"), ("", "other")):
            scan = Scan(uid=make_uid(1), dataset_id="D", start_ns=1, subarray=subarray, config_id=config_id)
            made.recorder.open(scan, tmp_path)
            assert made.recorder.recordings.pop(scan.uid).subarray.name == "sa0"
        with pytest.raises(Refused, match="is not one of configuration c1; it has sa0"):
            made.recorder.open(Scan(uid=make_uid(2), dataset_id="D", start_ns=1, subarray="sa1"), tmp_path)
    for cfg in ("", "cfg"):
        both = tuple(replace(configuration.subarrays[0], name=name, config_id=cfg) for name in ("sa0", "sa1"))
        for config_id in ("", "cfg"):
            with pytest.raises(Refused, match="it has sa0, sa1"):
                scan = Scan(uid=make_uid(3), dataset_id="D", start_ns=1, config_id=config_id)
                choose_subarray(replace(configuration, subarrays=both), scan)
    strange = observation(TEXT, bins=2)
    with pytest.raises(Refused, match="gives 32 channels and 2 bins, but its window w1 has 64 and 2"):
        recipe = make_recipe(parse_pipeline(TEXT.replace("fft", "fft ! boxcar span=2")))
        make_outputs(strange, "P0", make_plan(strange.pipe_products("P0")), recipe)
