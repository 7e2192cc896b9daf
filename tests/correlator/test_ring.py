"""The ring between ingest and a lag pipeline: order, dropping the oldest, readers and writers that are killed."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.configuration import Product, Stream
from socs_bl.correlator.plan import Plan, make_plan
from socs_bl.correlator.ring import Dump, Flush, RingReader, RingWriter, choose_slots, ring_bytes
from socs_bl.correlator.slots import PAGE

SLOTS = 4


def plan_of(products: int = 3) -> Plan:
    streams = [Stream(f"s{n}", n + 1, 0, 0) for n in range(products + 1)]
    return make_plan([Product(f"p{n}", streams[0], streams[n + 1]) for n in range(products)])


PLAN = plan_of()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory) / "P0.ring"


@pytest.fixture
def writer(path: Path) -> Iterator[RingWriter]:
    ring = RingWriter(path, PLAN, SLOTS)
    yield ring
    ring.close()


def put(writer: RingWriter, time_ns: int) -> None:
    number = writer.open_slot()
    assert number is not None
    writer.slot(number)[-1] = time_ns % 251
    writer.publish(number, time_ns)


def taken(reader: RingReader) -> list[int | str]:
    """Times of dumps and reasons of flushes that are there; the dumps are released."""
    found: list[int | str] = []
    while (item := reader.take()) is not None:
        if isinstance(item, Flush):
            found.append(item.reason)
        else:
            found.append(item.time_ns)
            reader.release(item)
    return found


def test_dumps_and_flushes_in_order(writer: RingWriter, path: Path) -> None:
    """What is published comes out in that order, with its bytes, and a flush lies where it was put."""
    reader = RingReader(path, PLAN)
    put(writer, 10)
    writer.flush("deactivated")
    put(writer, 20)
    first = reader.take()
    assert isinstance(first, Dump) and (first.time_ns, first.sequence, first.slot[-1]) == (10, 1, 10)
    reader.release(first)
    assert taken(reader) == ["deactivated", 20]
    assert reader.take(0.01) is None
    reader.close()


def test_oldest_is_dropped(writer: RingWriter, path: Path) -> None:
    """A full ring gives up the oldest dump that waits, never the one being worked on, counts it, and shows the gap."""
    reader = RingReader(path, PLAN)
    put(writer, 0)
    claimed = reader.take()
    assert isinstance(claimed, Dump)
    for time_ns in range(1, 8):
        put(writer, time_ns)
    assert writer.dropped == 4
    left = [item for item in iter(reader.take, None) if isinstance(item, Dump)]
    assert [(item.time_ns, item.sequence) for item in left] == [(5, 6), (6, 7), (7, 8)]
    assert claimed.slot[-1] == 0
    assert writer.open_slot() is None  # all are being worked on
    reader.close()


def test_flushes_do_not_pile_up(writer: RingWriter, path: Path) -> None:
    """Any number of switches without a reader leaves one flush between two dumps, and the newest reason."""
    for time_ns in range(50):
        put(writer, time_ns)
        writer.flush(f"first {time_ns}")
        writer.flush(f"second {time_ns}")
    reader = RingReader(path, PLAN)
    assert taken(reader) == ["second 45", 46, "second 46", 47, "second 47", 48, "second 48", 49, "second 49"]
    reader.close()


def _read_and_hang(path: str, ready: object) -> None:
    reader = RingReader(Path(path), PLAN)
    assert isinstance(reader.take(30.0), Dump)
    ready.set()  # type: ignore[attr-defined]
    signal.pause()


def test_killed_reader(writer: RingWriter, path: Path) -> None:
    """The claim of a reader that is killed disappears: its dump is a gap, and the next reader has all other dumps."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_read_and_hang, args=(str(path), ready))
    child.start()
    for time_ns in (1, 2):
        put(writer, time_ns)
    assert ready.wait(30)
    with pytest.raises(Refused, match="another process reads it"):
        RingReader(path, PLAN)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    child.close()
    reader = RingReader(path, PLAN)
    assert (writer.abandoned, taken(reader)) == (1, [2])
    reader.close()


def test_killed_reader_without_another(writer: RingWriter, path: Path) -> None:
    """The writer takes back what a dead reader had claimed when it needs the slots."""
    reader = RingReader(path, PLAN)
    for time_ns in range(SLOTS):
        put(writer, time_ns)
    assert len(list(iter(reader.take, None))) == SLOTS
    reader.close()
    put(writer, 9)
    assert (writer.abandoned, writer.dropped) == (SLOTS, 0)


def test_next_writer_goes_on(path: Path) -> None:
    """A writer that is started again keeps what waits; its half-filled slots are free; the reader sees a flush."""
    first = RingWriter(path, PLAN, SLOTS)
    reader = RingReader(path, PLAN)
    put(first, 1)
    assert first.open_slot() is not None
    first.close()
    second = RingWriter(path, PLAN, SLOTS)
    put(second, 2)
    assert taken(reader) == [1, "its writer was started again", 2]
    for time_ns in range(3, 3 + SLOTS):
        put(second, time_ns)
    assert second.dropped == 0
    second.close()
    reader.close()


def test_other_layouts_are_refused(writer: RingWriter, path: Path) -> None:
    """A reader of another configuration does not misread the ring; a writer of one makes it anew."""
    with pytest.raises(Refused, match="another configuration"):
        RingReader(path, plan_of(4))
    with pytest.raises(Retry, match="does not exist"):
        RingReader(path.with_name("other"), PLAN)
    other = RingWriter(path, plan_of(4), SLOTS)
    RingReader(path, plan_of(4)).close()
    other.close()


def test_memory_is_had_or_refused(path: Path) -> None:
    """A ring that does not fit fails when it is made, in a sentence; its size is known before."""
    products = [
        Product(f"p{n}", Stream("a", 1, 0, 0), Stream("b", 2, 0, 0), lags=1 << 18, recirculation=2048) for n in range(4)
    ]
    huge = make_plan(products)
    with pytest.raises(Faulty, match="free memory"):
        RingWriter(path, huge, 1 << 16)
    assert list(path.parent.iterdir()) == []
    assert choose_slots(PLAN, 500_000_000, 100_000_000, 1 << 30) == 13
    assert choose_slots(PLAN, 500_000_000, 100_000_000, 1 << 30, 1 << 28) == 55  # five seconds of dumps, for a restart
    assert choose_slots(PLAN, 500_000_000, 100_000_000, 1 << 30, 4096) == 13
    assert ring_bytes(PLAN, choose_slots(PLAN, 500_000_000, 1_000_000, 1 << 20)) <= 1 << 20
    with pytest.raises(Refused, match="does not fit"):
        choose_slots(huge, 10**9, 10**8, 1 << 20)


def _make_without_room(path: str) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), used + (8 << 20)))
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(Faulty, match="Cannot allocate memory"):
        RingWriter(Path(path), PLAN, 1 << 12)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_memory_that_cannot_be_mapped(path: Path) -> None:
    """A process that may not have the memory says so, and keeps nothing open."""
    child = multiprocessing.get_context("fork").Process(target=_make_without_room, args=(str(path),))
    child.start()
    child.join(60)
    status = child.exitcode
    child.close()
    assert status == 0


def test_views_are_of_the_plan(writer: RingWriter, path: Path) -> None:
    """What the writer puts into a group's arrays, the reader finds in them."""
    number = writer.open_slot()
    assert number is not None
    PLAN.groups[0].lag_pairs(writer.slot(number))[2, 0, 127] = (5, -6)
    PLAN.groups[0].state(writer.slot(number))[2, 0, 0] = 1
    writer.publish(number, 1)
    reader = RingReader(path, PLAN)
    dump = reader.take()
    assert isinstance(dump, Dump)
    assert np.array_equal(PLAN.groups[0].lag_pairs(dump.slot)[2, 0, 127], (5, -6))
    assert PLAN.groups[0].state(dump.slot).sum() == 1
    del dump
    reader.close()


STRESS = 30_000


def _write(path: str, first: int, count: int) -> None:
    """Dumps whose bytes are their time, and after every tenth a flush that names the last before it."""
    writer = RingWriter(Path(path), PLAN, SLOTS)
    for time_ns in range(first, first + count):
        number = writer.open_slot()
        if number is not None:
            writer.slot(number)[:] = time_ns % 251
            writer.publish(number, time_ns)
        if time_ns % 10 == 0:
            writer.flush(str(time_ns))
    writer.close()


def _check(items: Iterator[Dump | Flush], reader: RingReader, last: int = -1) -> int:
    """Time of the last dump. They come in order and whole; a flush comes behind all before it and before all others."""
    sequence, flushed = -1, -1
    for item in items:
        if isinstance(item, Flush):
            if item.reason.isdigit():
                flushed = int(item.reason)
                assert last <= flushed
            continue
        assert item.time_ns > max(last, flushed) and item.sequence > sequence
        assert item.slot[0] == item.slot[-1] == item.time_ns % 251
        last, sequence = item.time_ns, item.sequence
        reader.release(item)
    return last


def test_order_under_stress(writer: RingWriter, path: Path) -> None:
    """With both ends at work as fast as they can, dumps and flushes come in order, whole, and every gap is counted."""
    reader = RingReader(path, PLAN)
    child = multiprocessing.get_context("fork").Process(target=_write, args=(str(path), 0, STRESS))
    taken = 0

    def items() -> Iterator[Dump | Flush]:
        nonlocal taken
        ended = False
        while not ended:
            ended = not child.is_alive()
            while (item := reader.take()) is not None:
                taken += isinstance(item, Dump)
                yield item

    child.start()
    last = _check(items(), reader)
    child.join()
    child.close()
    assert last == STRESS - 1 and taken + reader.dropped == STRESS
    reader.close()


def test_killed_writer(path: Path) -> None:
    """A writer that is killed at any moment leaves a ring that the next goes on with: whole dumps, in order."""
    RingWriter(path, PLAN, SLOTS).close()
    reader, last = RingReader(path, PLAN), -1
    for number in range(5):
        child = multiprocessing.get_context("fork").Process(
            target=_write, args=(str(path), (last // 10 + 1) * 10 + 1, 1 << 40)
        )
        child.start()
        last = _check(itertools.islice(iter(lambda: reader.take(10.0), None), 500 + 37 * number), reader, last)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        child.close()
        again = RingWriter(path, PLAN, SLOTS)
        last = _check(iter(reader.take, None), reader, last)
        assert again.open_slot() is not None and again.waiting == 0
        again.close()
    reader.close()
