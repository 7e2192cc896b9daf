"""Assembly against a plain model: any order, duplication or loss of frames, and what is wrong with them; time that jumps."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.correlator.assembly import Assembler, Assembly, Timing
from socs_bl.correlator.configuration import Assignment, Configuration, Mapping, Pipe
from socs_bl.correlator.counters import OUTCOMES, Kind, named, summary
from socs_bl.correlator.plan import GOOD, SUSPECT, make_plan
from socs_bl.correlator.ring import RingReader, RingWriter
from tests.correlator.frames import DUMP_NS, START_NS, batch_of, cells, configuration, contents, dump_of, frame, lags_of

WINDOW_NS = 500_000_000
CUT_NS = START_NS - DUMP_NS
SLOTS = 64


class Bench:
    """An assembler whose rings are read; time is known to be just before dump 0."""

    def __init__(self, config: Configuration, slots: int = SLOTS, begin: bool = True) -> None:
        self.config = config
        self._directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.assembler = Assembler(Timing())
        self.rings: dict[str, RingWriter] = {}
        self.readers: dict[str, RingReader] = {}
        self.assembly = self.prepare(config, slots)
        if begin:
            stranger = replace(configuration(1).products[0], x=replace(configuration(1).products[0].x, station=99))
            self.take([frame(stranger, (0, 0, 0), -1)])
            self.assembler.activate(self.assembly, self.assembler.newest_ns)

    def prepare(self, config: Configuration, slots: int = SLOTS) -> Assembly:
        rings = {}
        for pipe in config.pipes:
            path = Path(self._directory.name) / f"{config.name}.{pipe.name}"
            plan = make_plan(config.pipe_products(pipe.name))
            rings[pipe.name] = RingWriter(path, plan, slots)
            self.readers[f"{config.name}.{pipe.name}"] = RingReader(path, plan)
            self.rings[f"{config.name}.{pipe.name}"] = rings[pipe.name]
        return Assembly(config, rings)

    def take(self, frames: Sequence[object], size: int = 0) -> None:
        """Take frames in batches of `size`; 0: all at once."""
        for first in range(0, len(frames), size or len(frames) or 1):
            self.assembler.take(batch_of(frames[first : first + (size or len(frames))]))  # type: ignore[arg-type]

    def emitted(self, pipe: str = "c1.P0") -> list[tuple[int, bytes] | str]:
        return contents(self.readers[pipe])

    def totals(self) -> dict[str, int]:
        return named(self.assembler.counters.totals)

    def close(self) -> None:
        for end in [*self.rings.values(), *self.readers.values()]:
            end.close()
        self._directory.cleanup()


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.close()


# -- the model --------------------------------------------------------------------------------------------------------

Arrival = tuple[int, int, int]  # product, number of the cell, dump


@dataclass
class Model:
    """Assembly as the documents say it, without batches, tables, rings or bytes."""

    config: Configuration
    open: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    done: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    emitted: list[tuple[int, frozenset[tuple[int, int]]]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    newest: int = -1
    closed: int = -1

    def take(self, arrival: Arrival) -> None:
        product, cell, dump = arrival
        self.newest = max(self.newest, dump)
        self.emit()
        if dump in self.open or dump in self.done:
            cells_seen = self.open.get(dump, self.done.get(dump, set()))
            if (product, cell) in cells_seen:
                self.counts["duplicate"] += 1
            else:
                cells_seen.add((product, cell))
                self.counts["good" if dump in self.open else "late"] += 1
        elif dump <= self.closed or (self.newest - dump) * DUMP_NS > WINDOW_NS:
            self.counts["late"] += 1
        else:
            self.open[dump] = {(product, cell)}
            self.counts["good"] += 1
        self.emit()

    def emit(self, everything: bool = False) -> None:
        for dump in sorted(self.open):
            complete = len(self.open[dump]) == sum(len(cells(product)) for product in self.config.products)
            previous_is_over = self.closed >= dump - 1 or (self.newest - dump + 1) * DUMP_NS > WINDOW_NS
            expired = (self.newest - dump) * DUMP_NS > WINDOW_NS
            if not (everything or expired or (complete and previous_is_over)):
                return
            expected = sum(len(cells(product)) for product in self.config.products)
            self.counts["missing"] += expected - len(self.open[dump])
            self.emitted.append((dump, frozenset(self.open[dump])))
            self.done[dump] = self.open.pop(dump)
            self.closed = dump


def expected_slot(config: Configuration, dump: int, present: frozenset[tuple[int, int]]) -> bytes:
    """State, counts and lags of a dump in which these frames are."""
    state, counts, lags = [], [], []
    for number, product in enumerate(config.products):
        for at, cell in enumerate(cells(product)):
            here = (number, at) in present
            state.append(GOOD if here else 0)
            counts.append((1000 + dump, 900 + dump) if here else (0, 0))
            lags.append(lags_of(product, cell, dump) * here)
    return b"".join(
        [np.array(state, np.uint8).tobytes(), np.array(counts, np.uint32).tobytes(), np.array(lags, np.int32).tobytes()]
    )


SHAPES = {
    "plain": configuration(3),
    "half": configuration(2, half=True),
    "chain": configuration(2, frames=3, recirculation=2),
    "bins": configuration(2, bins=2, recirculation=4),
}


@st.composite
def arrivals(draw: st.DrawFn, config: Configuration, dumps: int) -> list[Arrival]:
    """Frames of some dumps: some lost, some twice, some late."""
    sent = [
        (product, cell, dump)
        for dump in range(dumps)
        for product in range(len(config.products))
        for cell in range(len(cells(config.products[product])))
    ]
    copies = draw(st.lists(st.sampled_from([0, 1, 1, 1, 2, 3]), min_size=len(sent), max_size=len(sent)))
    of_dump = len(sent) // dumps
    # Whole dumps come late, single frames come very late, and all are stirred.
    shifts = draw(st.lists(st.sampled_from([0, 0, 0, 1, 3, 5]), min_size=dumps, max_size=dumps))
    reach = draw(st.sampled_from([0, of_dump, 3 * of_dump]))
    moved = []
    for place, (arrival, count) in enumerate(zip(sent, copies, strict=True)):
        for _ in range(count):
            delay = draw(st.sampled_from([0] * 9 + [8 * of_dump])) + shifts[arrival[2]] * of_dump
            moved.append((place + delay + draw(st.integers(0, reach)), arrival))
    arrived = [arrival for _, arrival in sorted(moved, key=lambda item: item[0])]
    newest = -1  # further ahead is a wrong clock, which has tests of its own
    for _, _, dump in arrived:
        assume((dump - newest) * DUMP_NS <= WINDOW_NS)
        newest = max(newest, dump)
    return arrived


@pytest.mark.parametrize("shape", SHAPES)
def test_any_order_loss_and_duplication(shape: str) -> None:
    """Dumps, their bytes and every counter are those of the plain model, whatever arrives when, in batches of any size."""
    config = SHAPES[shape]
    made = {
        (p, c, dump): frame(product, cell, dump).tobytes()
        for dump in range(12)
        for p, product in enumerate(config.products)
        for c, cell in enumerate(cells(product))
    }

    @settings(max_examples=25)
    @given(arrivals(config, 12), st.sampled_from([0, 1, 7]))
    def holds(sent: list[Arrival], size: int) -> None:
        bench = Bench(config)
        try:
            bench.take([made[arrival] for arrival in sent], size)
            bench.assembler.idle()
            model = Model(config)
            for arrival in sent:
                model.take(arrival)
            model.emit(everything=True)
            totals = bench.totals()
            totals.pop("unknown")
            assert totals == {kind: count for kind, count in model.counts.items() if count}
            assert bench.emitted() == [
                (START_NS + dump * DUMP_NS, expected_slot(config, dump, present)) for dump, present in model.emitted
            ]
            per_product = bench.assembly.counts[[Kind.GOOD, Kind.MISSING]].sum(axis=0)
            assert per_product.tolist() == [len(model.emitted) * len(cells(product)) for product in config.products]
            assert (
                bench.assembler.counters.boards.sum(axis=1)[: Kind.SHORT]
                == bench.assembler.counters.totals[: Kind.SHORT]
            ).all()
        finally:
            bench.close()

    holds()


@pytest.mark.parametrize("shape", SHAPES)
def test_within_the_time_out_order_does_not_matter(shape: str) -> None:
    """Any permutation of a stream no longer than the time-out gives what the sorted unique frames give, counters too."""
    config = SHAPES[shape]

    @settings(max_examples=10)
    @given(st.randoms(use_true_random=False), arrivals(config, 5))
    def holds(random: object, sent: list[Arrival]) -> None:
        results = []
        shuffled = list(sent)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        for order in (sorted(sent, key=lambda item: item[2]), shuffled):
            bench = Bench(config)
            bench.take([frame(config.products[p], cells(config.products[p])[c], dump) for p, c, dump in order])
            bench.assembler.idle()
            results.append((bench.emitted(), bench.totals()))
            bench.close()
        assert results[0] == results[1]

    holds()


@pytest.mark.parametrize("lost", [0.01, 0.5])
def test_losses(benches: list[Bench], lost: float) -> None:
    """One frame in a hundred lost, or every other one: zero where they were, counted for their products, and no more."""
    config, random = SHAPES["chain"], np.random.default_rng(1)
    benches.append(bench := Bench(config))
    model = Model(config)
    for dump in range(40):
        places = [(p, c) for p, product in enumerate(config.products) for c in range(len(cells(product)))]
        sent = [place for place in places if random.random() >= lost]
        bench.take([frame(config.products[p], cells(config.products[p])[c], dump) for p, c in sent])
        for p, c in sent:
            model.take((p, c, dump))
    bench.assembler.idle()
    model.emit(everything=True)
    assert bench.emitted() == [
        (START_NS + dump * DUMP_NS, expected_slot(config, dump, present)) for dump, present in model.emitted
    ]
    assert bench.totals() == {**model.counts, "unknown": 1} and model.counts["missing"]


@pytest.mark.parametrize("factor", [1, 4, 256])
def test_recirculation(benches: list[Bench], factor: int) -> None:
    """Each pair of delay blocks has its place in the set, up to the largest factor, in whatever order they come."""
    config = configuration(1, half=True, recirculation=factor)
    benches.append(bench := Bench(config))
    (product,) = config.products
    bench.take([frame(product, cell, 0) for cell in reversed(cells(product))])
    bench.assembler.idle()
    everything = frozenset((0, number) for number in range(factor))
    assert bench.emitted() == [(START_NS, expected_slot(config, 0, everything))]
    assert bench.totals() == {"good": factor, "unknown": 1}


@pytest.mark.parametrize("delay", [5, 6])
def test_the_time_out_is_exact(benches: list[Bench], delay: int) -> None:
    """A dump that nobody has seen can begin until its time-out, and not one dump later."""
    config = configuration(2)
    benches.append(bench := Bench(config))
    for dump in [*range(1, delay + 1), 0]:
        bench.take(dump_of(config, dump)[:1])
    bench.assembler.idle()
    emitted = 6 if delay == 5 else delay
    late = {} if delay == 5 else {"late": 1}
    assert bench.totals() == {"good": emitted, "missing": emitted, "unknown": 1, **late}
    assert len(bench.emitted()) == emitted


# -- bad frames -------------------------------------------------------------------------------------------------------


def test_bad_pieces_by_kind(benches: list[Bench]) -> None:
    """Each kind of damage is counted as what it is, located, and costs nothing else."""
    config = configuration(3)
    benches.append(bench := Bench(config))
    good = dump_of(config, 0)
    wrong_sum = bytearray(good[0])
    wrong_sum[100] ^= 1
    many_lags = bytearray(good[0])
    many_lags[9] ^= 0x10
    unsynced = b"\0" + bytes(good[0])[1:]
    two = bytes(good[0]) + bytes(good[1])
    pieces = [
        b"", b"xy", unsynced, bytes(wrong_sum), bytes(many_lags), bytes(good[2])[:-4], two + b"tail",
        frame(config.products[0], (0, 0, 0), 0, nanoseconds=10**9), good[2],
        frame(config.products[0], (0, 0, 0), 0, recirculation_x=1),
        frame(config.products[0], (0, 0, 0), 1, bin=1), frame(config.products[0], (0, 0, 0), 1, nblocks=2),
    ]  # fmt: skip
    bench.take(pieces)
    bench.assembler.idle()
    assert bench.totals() == {
        "good": 3, "unknown": 1, "short": 3, "long": 1, "sync": 1, "lags": 1, "checksum": 1, "clock": 1, "shape": 3,
    }  # fmt: skip
    assert bench.assembler.last_bad == {"kind": "clock", "byte": 0, "origin": "7"}
    assert summary(bench.assembler.counters)["frames"] == sum(
        bench.assembler.counters.totals[kind] for kind in OUTCOMES
    )
    assert named(bench.assembler.counters.boards[:, 7]) == {
        "good": 3,
        "unknown": 1,
        "checksum": 1,
        "clock": 1,
        "shape": 3,
    }
    assert [item[0] for item in bench.emitted()] == [START_NS]


def test_suspect_frames_are_kept(benches: list[Bench]) -> None:
    """Frames whose status bits are set are in their place, marked, and counted as good and suspect."""
    config = configuration(2)
    benches.append(bench := Bench(config))
    bench.take([frame(config.products[0], (0, 0, 0), 0, status=2), frame(config.products[1], (0, 0, 0), 0, status=8)])
    (item,) = bench.emitted()
    assert item[1][:2] == bytes([SUSPECT, GOOD])
    assert bench.totals() == {"good": 2, "suspect": 1, "unknown": 1}


def test_products_of_the_same_streams(benches: list[Bench]) -> None:
    """Chip and first cell tell them apart, also where a chain goes on in the next cells and chip."""
    first = replace(configuration(1, frames=3).products[0], chip=1, cell=15)
    products = (first, replace(first, name="q", chip=2, cell=3))
    config = replace(
        configuration(1), products=products,
        mappings=(Mapping("w1", "P0", tuple(Assignment(product.name, "RR") for product in products)),),
    )  # fmt: skip
    benches.append(bench := Bench(config))
    for product in products:
        for block in range(3):
            place = product.chip * 16 + product.cell + block
            bench.take([frame(product, (0, 0, block), 0, chip=place // 16, cell=place % 16)])
    bench.take([frame(first, (0, 0, 0), 0, chip=9)])
    assert bench.assembly.counts[Kind.GOOD].tolist() == [3, 3]
    assert bench.totals()["unknown"] == 2
    with pytest.raises(Refused, match="give each its chip"):
        bench.prepare(replace(config, name="c2", products=(first, replace(first, name="q"))))


def test_a_product_alone_takes_its_own_frames_only(benches: list[Bench]) -> None:
    """Frames of a product of the same streams that enters no pipe never stand in for those of the one that does."""
    mine = replace(configuration(1).products[0], chip=1, cell=2)
    other = replace(mine, name="q", chip=2)
    config = replace(configuration(1), products=(mine, other))
    benches.append(bench := Bench(config))
    bench.take([frame(product, (0, 0, 0), 0, chip=product.chip, cell=2) for product in (other, mine)])
    assert bench.totals() == {"good": 1, "unknown": 2}


def test_a_product_enters_one_pipe(benches: list[Bench]) -> None:
    """A configuration that sends a product to two pipes is refused."""
    config = configuration(1)
    twice = replace(
        config, name="c2", pipes=(*config.pipes, Pipe("P1", "null")),
        mappings=(*config.mappings, replace(config.mappings[0], pipe="P1")),
    )  # fmt: skip
    benches.append(bench := Bench(config))
    with pytest.raises(Refused, match="p0 enters two pipes"):
        bench.prepare(twice)


# -- back pressure, time, switching -----------------------------------------------------------------------------------


def test_bursts_drop_the_oldest_whole_dumps(benches: list[Bench]) -> None:
    """A pipeline that stands still loses the oldest dumps, whole, counted, and has the newest when it goes on."""
    config = configuration(2)
    benches.append(bench := Bench(config, slots=6))
    for dump in range(50):
        bench.take(dump_of(config, dump))
    assert bench.rings["c1.P0"].dropped == 44
    left = bench.emitted()
    assert [item[0] for item in left] == [START_NS + dump * DUMP_NS for dump in range(44, 50)]
    for dump in range(50, 53):
        bench.take(dump_of(config, dump))
    assert len(bench.emitted()) == 3
    assert bench.totals() == {"good": 106, "unknown": 1}


def test_many_dumps_in_one_batch(benches: list[Bench]) -> None:
    """More dumps than there are slots can come in one batch: each is emitted when it is complete, none before its time."""
    config = configuration(2)
    benches.append(bench := Bench(config, slots=6))
    bench.take([piece for dump in range(50) for piece in dump_of(config, dump)])
    assert (bench.assembly.emitted, bench.assembly.forced, bench.rings["c1.P0"].dropped) == (50, 0, 44)
    assert [item[0] for item in bench.emitted()] == [START_NS + dump * DUMP_NS for dump in range(44, 50)]


def test_more_open_dumps_than_slots(benches: list[Bench]) -> None:
    """When dumps stay incomplete and slots run out the oldest is emitted before its time, counted as forced."""
    config = configuration(2)
    benches.append(bench := Bench(config, slots=5))
    for dump in range(5):
        bench.take(dump_of(config, dump)[:1])
    assert bench.assembly.forced == 2
    bench.take(dump_of(config, 0)[1:])
    bench.assembler.idle()
    assert [item[0] for item in bench.emitted()] == [START_NS + dump * DUMP_NS for dump in range(5)]
    assert bench.totals() == {"good": 5, "late": 1, "missing": 5, "unknown": 1}


def test_one_board_with_a_wrong_clock(benches: list[Bench]) -> None:
    """A single board in 1970 or in the far future never moves time, however many frames it sends; the others are whole."""
    config = configuration(4)
    benches.append(bench := Bench(config))
    for dump in range(3):
        frames = dump_of(config, dump)
        for number in range(3):
            frames[number] = frame(config.products[number], (0, 0, 0), dump, board=number)
        past, future = (
            frame(config.products[3], (0, 0, 0), dump, board=9, seconds=second) for second in (5, 2**32 - 5)
        )
        bench.take([*frames[:2], *[past] * 40, *[future] * 40, *frames[2:]])
    assert bench.totals() == {"good": 12, "implausible": 240, "unknown": 1}
    assert len(bench.emitted()) == 3 and bench.assembler.jumps == 0


@pytest.mark.parametrize("seconds", [-3600, 3600, 86400 * 365 * 10])
def test_when_the_boards_agree_time_has_jumped(benches: list[Bench], seconds: int) -> None:
    """Sixteen frames that agree, from most boards, are believed: what was open is emitted and a flush lies between."""
    config = configuration(8)
    benches.append(bench := Bench(config))
    bench.take(dump_of(config, 0)[:5])
    jump = seconds * 10**9 // DUMP_NS
    for dump in range(jump, jump + 4):
        bench.take(dump_of(config, dump))
    bench.assembler.idle()
    times = [item if isinstance(item, str) else (item[0] - START_NS) // DUMP_NS for item in bench.emitted()]
    assert times == [0, "time has jumped", jump + 1, jump + 2, jump + 3]
    assert bench.totals() == {"good": 22, "implausible": 15, "missing": 10, "unknown": 1}
    assert bench.assembler.jumps == 1


def test_the_first_clock_may_be_the_wrong_one(benches: list[Bench]) -> None:
    """When the first frame is of the one board with a wrong clock, the majority puts time right."""
    config = configuration(8)
    benches.append(bench := Bench(config, begin=False))
    bench.assembler.activate(bench.assembly, -1)
    bench.take([frame(config.products[0], (0, 0, 0), 0, board=99, seconds=10)])
    for dump in range(6):
        bench.take([frame(product, (0, 0, 0), dump, board=n) for n, product in enumerate(config.products)])
    assert bench.totals()["good"] == 1 + 48 - 15


def test_a_clock_that_is_wrong_now_and_then(benches: list[Bench]) -> None:
    """Of the only board, single frames of another hour never add up to a jump."""
    config = configuration(4)
    benches.append(bench := Bench(config))
    for dump in range(80):
        frames = dump_of(config, dump)
        frames[1 + dump % 2] = frame(config.products[1], (0, 0, 0), dump + 36000)
        bench.take(frames)
    assert bench.totals()["implausible"] == 80 and bench.assembler.jumps == 0


@pytest.mark.parametrize("ahead", [8, 30, 80])
def test_the_first_clock_may_be_a_little_ahead(benches: list[Bench], ahead: int) -> None:
    """One board whose clock is seconds ahead, and which is heard first, does not make the others late for ever."""
    config = configuration(4)
    benches.append(bench := Bench(config, begin=False))
    bench.assembler.activate(bench.assembly, -1)
    for dump in range(40):
        bench.take([frame(config.products[3], (0, 0, 0), dump + ahead, board=99)])
        bench.take([frame(product, (0, 0, 0), dump, board=n) for n, product in enumerate(config.products[:3])])
    assert bench.assembler.jumps == 1
    assert (bench.assembly.counts[Kind.GOOD, :3] >= 17).all() and bench.totals()["late"] < 70


@pytest.mark.parametrize("told", [False, True])
def test_a_gap_is_no_jump(benches: list[Bench], told: bool) -> None:
    """After a second without frames all goes on without a flush; where the silence was noticed, nothing is lost."""
    config = configuration(20)
    benches.append(bench := Bench(config))
    for dump in (0, 1, 2, 13, 14, 15):
        silence = 1.0 if told and dump == 13 else 0.0
        bench.assembler.take(batch_of(dump_of(config, dump)), silence_s=silence)
    bench.assembler.idle()
    times = [item if isinstance(item, str) else (item[0] - START_NS) // DUMP_NS for item in bench.emitted()]
    assert times == [0, 1, 2, 13, 14, 15]
    assert bench.totals().get("implausible", 0) == (0 if told else 15) and bench.assembler.jumps == 0


def test_seconds_that_wrap(benches: list[Bench]) -> None:
    """Timestamps go on when the 32-bit count of seconds begins again in 2106."""
    config = configuration(3)
    benches.append(bench := Bench(config, begin=False))
    bench.assembler.activate(bench.assembly, -1)
    wrap = (2**32 * 10**9 - START_NS) // DUMP_NS
    for dump in range(wrap - 3, wrap + 4):
        bench.take(dump_of(config, dump))
    bench.assembler.idle()
    assert [(item[0] - START_NS) // DUMP_NS - wrap for item in bench.emitted() if isinstance(item, tuple)] == [
        -3,
        -2,
        -1,
        0,
        1,
        2,
        3,
    ]
    assert bench.totals() == {"good": 21}


def test_1970(benches: list[Bench]) -> None:
    """A stream that begins at second 0 is as good as any."""
    config = configuration(2)
    benches.append(bench := Bench(config, begin=False))
    bench.assembler.activate(bench.assembly, -1)
    for dump in range(3):
        bench.take(dump_of(config, dump - START_NS // DUMP_NS))
    bench.assembler.idle()
    assert [item[0] for item in bench.emitted()] == [0, DUMP_NS, 2 * DUMP_NS]


def test_a_leap_second_costs_that_second(benches: list[Bench]) -> None:
    """Boards that repeat a second for a leap second send timestamps that were there: late or twice, then all goes on."""
    config = configuration(2)
    benches.append(bench := Bench(config))
    for dump in [*range(20), *range(10, 30)]:
        bench.take(dump_of(config, dump))
    bench.assembler.idle()
    assert [(item[0] - START_NS) // DUMP_NS for item in bench.emitted() if isinstance(item, tuple)] == list(range(30))
    assert bench.totals() == {"good": 60, "duplicate": 20, "unknown": 1}


def test_the_length_of_a_dump_is_learned(benches: list[Bench]) -> None:
    """Without a length in the configuration it follows from the timestamps; long dumps are not taken for jumps."""
    for length in (DUMP_NS, 40 * DUMP_NS):
        config = configuration(2, name=f"c{length}", dump_ns=0)
        benches.append(bench := Bench(config))
        for dump in range(12):
            bench.take(dump_of(config, dump * length // DUMP_NS))
        assert bench.assembly.dump_ns == length
        assert len(bench.emitted(f"c{length}.P0")) == 12 if length == DUMP_NS else 11
        bench.assembler.idle()
        assert bench.totals() == {"good": 24, "unknown": 1}


def test_switching_is_clean(benches: list[Bench]) -> None:
    """At a switch, what is open is emitted to the old pipelines and flushed; nothing of one side is on the other."""
    one, two = configuration(2), configuration(3, name="c2")
    benches.append(bench := Bench(one))
    bench.take([*dump_of(one, 0), *dump_of(one, 1)[:1]])
    bench.assembler.activate(bench.prepare(two), bench.assembler.newest_ns)
    bench.take([*dump_of(one, 1)[1:], *dump_of(two, 1), *dump_of(two, 2)])
    assert [item if isinstance(item, str) else item[0] for item in bench.emitted()] == [
        START_NS, START_NS + DUMP_NS, "deactivated"
    ]  # fmt: skip
    assert bench.emitted("c2.P0") == [
        (START_NS + 2 * DUMP_NS, expected_slot(two, 2, frozenset((product, 0) for product in range(3))))
    ]
    assert bench.totals() == {"good": 6, "stale": 4, "missing": 1, "unknown": 1}


def test_without_a_configuration(benches: list[Bench]) -> None:
    """c0 has no products: frames are counted as unknown, their time is known."""
    benches.append(bench := Bench(Configuration("c0")))
    bench.take(dump_of(configuration(3), 5))
    assert bench.totals() == {"unknown": 4}
    assert bench.assembler.newest_ns == START_NS + 5 * DUMP_NS


def test_pipes_have_their_own_rings(benches: list[Bench]) -> None:
    """Each pipe gets the dumps of its products; one that is missing in one pipe does not mark the other's."""
    config = configuration(4)
    assignments = config.mappings[0].assignments
    config = replace(
        config, pipes=(Pipe("P0", "null"), Pipe("P1", "null")),
        mappings=(Mapping("w1", "P0", assignments[:1]), Mapping("w2", "P1", assignments[1:])),
    )  # fmt: skip
    benches.append(bench := Bench(config))
    bench.take(dump_of(config, 0)[:-1])
    bench.assembler.idle()
    assert bench.emitted("c1.P0")[0][1][:1] == bytes([GOOD])
    assert bench.emitted("c1.P1")[0][1][:3] == bytes([GOOD, GOOD, 0])


def test_counters_add_up_to_the_products(benches: list[Bench]) -> None:
    """The last board that sent a frame is charged when it does not come."""
    config = configuration(2)
    benches.append(bench := Bench(config))
    bench.take([frame(product, (0, 0, 0), 0, board=11 + n) for n, product in enumerate(config.products)])
    bench.take([frame(config.products[0], (0, 0, 0), 1, board=11)])
    bench.assembler.idle()
    assert named(bench.assembler.counters.boards[:, 12]) == {"good": 1, "missing": 1}
    assert bench.assembler.counters.by_board(10)["11"] == {"good": 2}
