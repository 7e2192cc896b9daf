"""Dumps from the ingest process to one lag pipeline: slots in shared memory, one writer, one reader.

The ring is a file on tmpfs: a head, a table of slots, a table of flushes, then the slots, each laid out by a `Plan`; what
is done to a slot, step by step, is in `socs_bl.correlator.slots`, and no step takes a lock. Beside it ``<ring>.wake`` is a
FIFO that wakes the reader, and whose lock the reader holds while it lives. What a reader had claimed when it died is gone:
the next dump's sequence number shows the gap.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import mmap
import os
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.plan import Plan
from socs_bl.correlator.slots import (
    CLAIMED,
    FIRST_FLUSH,
    FLUSH,
    FREE,
    HEAD,
    NO_ROOM,
    NOWHERE,
    OPEN,
    ORDER_SHIFT,
    PAGE,
    READY,
    REASON_BYTES,
    SLOT,
    STATES,
    claim,
    open_one,
    publish_one,
    swap,
    warm_up,
)

MINIMUM_SLOTS = 4  # one being filled, one ready, one being worked on, one to go on with
DEFAULT_SLOTS = 8
MOST_BEHIND = 512
RESTART_NS = 5_000_000_000  # a lag pipeline that was killed is at work again after so long
MAGIC = 0x676E6972_67616C  # "lagring"
VERSION = 2
PATIENCE_STEP_S = 0.002
READER_PATIENCE = 1.0  # seconds a new reader waits for the lock of the one before


@dataclass(frozen=True, slots=True)
class Dump:
    """One dump of all products of the pipeline.

    Attributes
    ----------
    time_ns : int
        Start of the dump, ns since 1970 UTC.
    sequence : int
        Counts the dumps of this ring; a gap: dumps were dropped.
    number : int
        Of its slot.
    slot : numpy.ndarray
        uint8 view of the slot, laid out by the plan. Good until the dump is released.
    """

    time_ns: int
    sequence: int
    number: int
    slot: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Flush:
    """Everything before belongs together and what comes now does not: an activation ends, or time has jumped."""

    reason: str


def slot_stride(plan: Plan) -> int:
    """Bytes from one slot to the next: whole pages."""
    return max(PAGE, -(-plan.slot_bytes // PAGE) * PAGE)


def ring_bytes(plan: Plan, slots: int = DEFAULT_SLOTS) -> int:
    """Size of a ring's file."""
    return _data_offset(slots) + slots * slot_stride(plan)


def choose_slots(plan: Plan, window_ns: int, dump_ns: int, limit_bytes: int, spare_bytes: int = 0) -> int:
    """How many slots a ring gets: the dumps that can be open together, and some for the pipeline to fall behind.

    Parameters
    ----------
    plan : Plan
    window_ns : int
        How long a dump stays open at most, ns.
    dump_ns : int
        Length of a dump; 0: unknown.
    limit_bytes : int
        The largest file allowed.
    spare_bytes : int
        What may be spent on the dumps that come while a pipeline is started again; a few are kept anyway.

    Raises
    ------
    Refused
        When not even `MINIMUM_SLOTS` fit.
    """
    behind, together = DEFAULT_SLOTS, DEFAULT_SLOTS
    if dump_ns:
        together = -(-window_ns // dump_ns)
        behind = max(behind, min(RESTART_NS // dump_ns, spare_bytes // slot_stride(plan), MOST_BEHIND))
    wanted = behind + together
    slots = min(wanted, (limit_bytes - _data_offset(wanted)) // slot_stride(plan))
    if slots < MINIMUM_SLOTS:
        raise Refused(
            f"a ring of {MINIMUM_SLOTS} dumps of {plan.slot_bytes} bytes does not fit into {limit_bytes} bytes; allow more"
            " memory, or divide the products among more nodes"
        )
    return int(slots)


def wake_path(path: Path) -> Path:
    """The FIFO beside a ring."""
    return path.with_name(path.name + ".wake")


class _Ring:
    """What both ends have: the file, its tables, the FIFO."""

    def __init__(self, path: Path, descriptor: int, slots: int, plan: Plan) -> None:
        self.path, self.plan, self.slots = path, plan, slots
        self._descriptor = descriptor
        try:
            self._map = mmap.mmap(descriptor, ring_bytes(plan, slots), mmap.MAP_SHARED | mmap.MAP_POPULATE)
            self._wake = os.open(wake_path(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            os.close(descriptor)
            raise
        self._bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._data, self._stride = _data_offset(slots), slot_stride(plan)
        self.address = self._bytes.ctypes.data
        self._head = self._view(HEAD, 1, 0)[0]
        self._slots = self._view(SLOT, slots, PAGE)
        self._tags = self._slots["tag"]
        self._flushes_at = PAGE + slots * SLOT.itemsize
        self._flushes = self._view(FLUSH, slots + 2, self._flushes_at)

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return ring_bytes(self.plan, self.slots)

    @property
    def dropped(self) -> int:
        """Dumps that the writer dropped since the ring was made."""
        return int(self._head["dropped"])

    @property
    def abandoned(self) -> int:
        """Dumps that died with their readers."""
        return int(self._head["abandoned"])

    @property
    def waiting(self) -> int:
        """Dumps that wait for the reader."""
        return len(self._in_state(READY))

    def slot(self, number: int) -> npt.NDArray[np.uint8]:
        """A slot's bytes."""
        start = self._data + number * self._stride
        return self._bytes[start : start + self.plan.slot_bytes]

    def close(self) -> None:
        """Give up this end; views of slots that others hold stay good."""
        del self._head, self._slots, self._tags, self._flushes, self._bytes
        with contextlib.suppress(BufferError):  # such views; the memory goes with the last of them
            self._map.close()
        os.close(self._descriptor)
        os.close(self._wake)

    def _view(self, dtype: np.dtype[Any], count: int, offset: int) -> npt.NDArray[Any]:
        return np.ndarray((count,), dtype, self._bytes.data, offset)

    def _abandon(self) -> None:
        """Free what a reader that is dead had claimed."""
        claimed = self._in_state(CLAIMED)
        self._head["abandoned"] += len(claimed)
        self._tags[claimed] = FREE

    def _in_state(self, state: int) -> npt.NDArray[np.intp]:
        """Numbers of the slots in a state."""
        return np.flatnonzero(self._tags & STATES == state)


class RingWriter(_Ring):
    """The ingest's end. Makes the ring, or goes on with one that is there and fits: its reader need not notice.

    Parameters
    ----------
    path : Path
        On tmpfs.
    plan : Plan
    slots : int

    Raises
    ------
    Refused
        When there are fewer than `MINIMUM_SLOTS` slots.
    Faulty
        When the memory is not there.
    """

    def __init__(self, path: Path, plan: Plan, slots: int = DEFAULT_SLOTS) -> None:
        if slots < MINIMUM_SLOTS:
            raise Refused(f"ring {path}: {slots} slots; at least {MINIMUM_SLOTS}")
        try:
            goes_on = _fits(path, plan, slots)
            if not goes_on:
                _make(path, plan, slots)
            super().__init__(path, os.open(path, os.O_RDWR | os.O_CLOEXEC), slots, plan)
        except OSError as error:
            raise Faulty(
                f"ring {path} of {ring_bytes(plan, slots)} bytes: {error.strerror}; free memory on that file system",
                str(path),
            ) from error
        head = self._head
        for name, value in _shape(plan, slots).items():
            head[name] = value
        self._tags[self._in_state(OPEN)] = FREE  # of a writer that was killed
        orders = (head["order"], int((self._tags >> ORDER_SHIFT).max()), int(self._flushes["order"].max()))
        self._rung = head["order"] = max(orders)
        head["hurried"] = 0
        if goes_on:
            self.flush("its writer was started again")

    def open_slot(self, patience_s: float = 0.0) -> int | None:
        """A slot to fill, its state area zero; None when none can be had. May drop the oldest dump that waits.

        Parameters
        ----------
        patience_s : float
            See `make_room`.
        """
        number = open_one(self.address)
        if number == NO_ROOM:
            self.make_room(patience_s)
            number = open_one(self.address)
        return None if number == NOWHERE else number

    def publish(self, number: int, time_ns: int) -> None:
        """Hand a filled slot to the reader. Dumps come in the order of this call."""
        publish_one(self.address, number, time_ns)
        self.settle()

    def make_room(self, patience_s: float) -> None:
        """See that a slot can be opened: take back what a dead reader had claimed, else wait, else hurry.

        Parameters
        ----------
        patience_s : float
            How long to wait for the reader: a source that can wait is better held up. After a wait in vain a slot that is
            opened is the oldest that waits, and that dump is dropped, until a slot is free again.
        """
        self.settle()
        self._abandon_if_gone()
        deadline = time.monotonic() + patience_s
        while self._tags.all() and time.monotonic() < deadline:
            time.sleep(PATIENCE_STEP_S)
        self._head["hurried"] = 1

    def settle(self) -> None:
        """Wake the reader when dumps were published, and if the writer hurries, see whether there still is one."""
        if self._head["order"] != self._rung:
            self._rung = self._head["order"]
            self._ring_bell()
        if self._head["hurried"]:
            self._abandon_if_gone()

    def flush(self, reason: str) -> None:
        """Tell the reader, behind everything that is published, that what follows is something else."""
        orders = self._flushes["order"]
        ready = self._tags[self._in_state(READY)] >> ORDER_SHIFT
        pending = np.sort(orders[orders > 0])
        # Flushes with no dump between them say the same thing: the last is enough, and the table cannot run full.
        for first, following in itertools.pairwise([*pending, np.inf]):
            if not np.any((ready > first) & (ready < following)):
                orders[orders == first] = 0
        place = int(np.argmin(orders))
        self._flushes["reason"][place] = reason.encode()[:REASON_BYTES]
        order = self._head["order"] + 1
        orders[place] = order
        self._head["order"] = order
        self.settle()

    def unlink(self) -> None:
        """Remove the ring's files."""
        self.path.unlink(missing_ok=True)
        wake_path(self.path).unlink(missing_ok=True)

    def _abandon_if_gone(self) -> None:
        try:
            fcntl.flock(self._wake, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # a reader lives
        self._abandon()
        fcntl.flock(self._wake, fcntl.LOCK_UN)

    def _ring_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: the reader has more than enough to wake it
            os.write(self._wake, b"!")


class RingReader(_Ring):
    """The pipeline's end. One at a time.

    Parameters
    ----------
    path : Path
    plan : Plan

    Raises
    ------
    Retry
        When there is no ring yet.
    Refused
        When it is laid out otherwise, or has a reader.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        warm_up()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Retry(f"ring {path}: does not exist; the ingest process makes it") from error
        head = _read_head(descriptor)
        if head is None or head["layout"] != _digest(plan):
            os.close(descriptor)
            raise Refused(f"ring {path}: is not laid out for this pipeline; it belongs to another configuration")
        super().__init__(path, descriptor, int(head["slots"]), plan)
        deadline = time.monotonic() + READER_PATIENCE
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._wake, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                self.close()
                raise Refused(f"ring {path}: another process reads it; end that one first")
            time.sleep(0.01)
        self._abandon()

    def fileno(self) -> int:
        """Readable when something may have come, for poll; call `take` until it gives None."""
        return self._wake

    def take(self, timeout_s: float = 0.0) -> Dump | Flush | None:
        """The next dump or flush; None when none comes in time."""
        deadline = time.monotonic() + timeout_s
        while (found := self._claim()) is None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 1 << 16)
            # What came before the bell was read is there; what comes after it rings again.
            found = self._claim()
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                break
            select.select([self._wake], [], [], left)
        return found

    def release(self, dump: Dump) -> None:
        """Give a dump's slot back to the writer."""
        self._tags[dump.number] = FREE

    def _claim(self) -> Dump | Flush | None:
        while (number := claim(self.address)) <= FIRST_FLUSH:
            place = FIRST_FLUSH - number
            order, reason = self._flushes[place].item()
            # Unless it was forgotten for a newer one meanwhile.
            if order and swap(self.address + self._flushes_at + place * FLUSH.itemsize, order, 0):
                return Flush(reason.decode("utf-8", "replace"))
        if number == NOWHERE:
            return None
        _, sequence, time_ns = self._slots[number].item()
        return Dump(time_ns, sequence, number, self.slot(number))


def _data_offset(slots: int) -> int:
    tables = slots * SLOT.itemsize + (slots + 2) * FLUSH.itemsize
    return PAGE + -(-tables // PAGE) * PAGE


def _shape(plan: Plan, slots: int) -> dict[str, int]:
    """What the head says of the places of things."""
    return {
        "magic": MAGIC, "version": VERSION, "slots": slots, "slot_bytes": plan.slot_bytes, "layout": _digest(plan),
        "flushes_at": PAGE + slots * SLOT.itemsize, "data_at": _data_offset(slots), "stride": slot_stride(plan),
        "state_bytes": min((group.counts_at for group in plan.groups), default=0),
    }  # fmt: skip


def _digest(plan: Plan) -> int:
    return int.from_bytes(hashlib.blake2b(repr(plan).encode(), digest_size=7).digest(), "big")


def _make(path: Path, plan: Plan, slots: int) -> None:
    """Make the ring's file with its memory, so that no store to it can fail later, and the FIFO."""
    private = path.with_name(path.name + ".part")
    descriptor = os.open(private, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, ring_bytes(plan, slots))
        head = np.zeros(1, HEAD)
        for name, value in _shape(plan, slots).items():
            head[name] = value
        os.pwrite(descriptor, head.tobytes(), 0)
        wake_path(path).unlink(missing_ok=True)
        os.mkfifo(wake_path(path), 0o600)
        os.rename(private, path)
    except OSError:
        os.unlink(private)
        raise
    finally:
        os.close(descriptor)


def _fits(path: Path, plan: Plan, slots: int) -> bool:
    """There is a ring already, of this layout and size."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        head = _read_head(descriptor)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    fits = head is not None and head["layout"] == _digest(plan) and head["slots"] == slots
    return fits and size == ring_bytes(plan, slots) and wake_path(path).is_fifo()


def _read_head(descriptor: int) -> Any:
    data = os.pread(descriptor, HEAD.itemsize, 0)
    if len(data) < HEAD.itemsize:
        return None
    head = np.frombuffer(data, HEAD)[0]
    return head if head["magic"] == MAGIC and head["version"] == VERSION else None
