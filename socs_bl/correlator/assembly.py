"""Lag frames put together to dumps, and dumps emitted in the order of time.

A dump is open from its first frame until all of its frames have come or its time is up, by the timestamps of the frames
alone: ``max(3 dumps, 0.5 s)`` behind the newest. A complete dump is emitted as soon as none can come before it: its
predecessor has been emitted, or is too late. What is missing then is zero. Closed dumps are remembered for a while, so that
a frame that comes twice is a duplicate whenever it comes, and the counters do not depend on the order of frames.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator import decode
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.counters import Counters, Kind
from socs_bl.correlator.kernel import fence
from socs_bl.correlator.lookup import Lookup
from socs_bl.correlator.ring import RingWriter
from socs_bl.correlator.source import Batch
from socs_bl.correlator.wire import BOARDS

HISTORY = 32  # dumps remembered at least after they were emitted
RESERVE = 2  # slots of a ring that are kept for dumps that wait for the pipeline
UNKNOWN_DUMP_NS = 10_000_000_000  # what is taken for three dumps as long as the length of a dump is not known
NOWHERE = -1


@dataclass(frozen=True)
class Timing:
    """When a dump's time is up.

    Attributes
    ----------
    dumps : int
    least_ns : int
        A dump stays open for `dumps` dumps behind the newest, for `least_ns` at least.
    back_ns : int
        Timestamps further behind than this, and than four times that, are no late frames but a wrong clock.
    """

    dumps: int = 3
    least_ns: int = 500_000_000
    back_ns: int = 10_000_000_000

    def window(self, dump_ns: int) -> int:
        """How long a dump of this length (0: unknown) stays open, ns of frame time."""
        return max(self.dumps * dump_ns, self.least_ns) if dump_ns else UNKNOWN_DUMP_NS


class Assembly:
    """The dumps of one configuration.

    Parameters
    ----------
    configuration : Configuration
    rings : mapping
        The ring of each pipe that has products.

    Attributes
    ----------
    open_dumps : list of tuple
        Time and entry of the dumps that are open, oldest first.
    counts : numpy.ndarray
        int64 (kinds, products), in the order of ``lookup.names``.
    emitted, incomplete, forced : int
        Dumps: all, those with frames missing, those emitted early for want of slots.
    """

    def __init__(self, configuration: Configuration, rings: Mapping[str, RingWriter]) -> None:
        self.configuration = configuration
        self.rings = dict(rings)
        self._rings = tuple(self.rings.values())
        self.lookup = Lookup(configuration, {pipe: ring.plan for pipe, ring in rings.items()})
        pipes = len(self.rings)
        self.most_open = max(1, min((ring.slots for ring in rings.values()), default=0) - RESERVE)
        entries = self.most_open + HISTORY
        self.counts = np.zeros((len(Kind), len(self.lookup.names)), np.int64)
        self.times = np.zeros(entries, np.int64)
        self.states = np.zeros(entries, np.uint8)
        self.seen = np.zeros((entries, self.lookup.cells), np.uint8)
        self.addresses = np.zeros((entries, pipes), np.uint64)
        self.left = np.zeros((entries, pipes), np.int64)
        self.slots: npt.NDArray[np.int64] = np.full((entries, pipes), NOWHERE, np.int64)
        self.origin = np.zeros(self.lookup.cells, np.uint16)
        self.emitted = self.incomplete = self.forced = 0
        self.forget()

    @property
    def size_bytes(self) -> int:
        """Memory, rings included."""
        arrays = (self.counts, self.times, self.states, self.seen, self.addresses, self.left, self.slots, self.origin)
        return (
            sum(array.nbytes for array in arrays)
            + self.lookup.size_bytes
            + sum(r.size_bytes for r in self.rings.values())
        )

    def forget(self) -> None:
        """As if no dump had ever been; counters stay. All are closed."""
        self.states[:] = decode.EMPTY
        # Entries in the order in which they will be used again: never used, else closed longest ago.
        self._free = deque(range(len(self.times)))
        self.open_dumps: list[tuple[int, int]] = []
        self._first_time, self._learned = NOWHERE, 0

    def open(self, time_ns: int, patience_s: float) -> None:
        """Open a dump in a free entry, else in that of the dump closed longest ago; `patience_s`: see `RingWriter`."""
        entry = self._free.popleft()
        if not self.configuration.dump_ns:
            self._learn(time_ns)
        bisect.insort(self.open_dumps, (time_ns, entry))
        self.times[entry], self.states[entry] = time_ns, decode.OPEN
        self.seen[entry] = 0
        self.left[entry] = self.lookup.pipe_cells
        for pipe, ring in enumerate(self._rings):
            slot = ring.open_slot(patience_s)
            self.slots[entry, pipe] = NOWHERE if slot is None else slot
            self.addresses[entry, pipe] = 0 if slot is None else ring.address(slot)

    def is_complete(self, entry: int) -> bool:
        """No frame that could be kept is missing."""
        return not ((self.left[entry] > 0) & (self.addresses[entry] != 0)).any()

    def close_oldest(self, counters: Counters) -> int:
        """Emit the oldest open dump, zero where frames are missing; returns its time."""
        fence()
        time_ns, entry = self.open_dumps.pop(0)
        self.emitted += 1
        self.incomplete += bool(self.left[entry].any())
        for pipe, ring in enumerate(self._rings):
            slot = int(self.slots[entry, pipe])
            if slot == NOWHERE:
                ring.drop()
                continue
            if self.left[entry, pipe]:
                first, last = self.lookup.bounds[pipe : pipe + 2]
                decode.fill_missing(
                    entry, first, last, self.addresses[entry, pipe], self.lookup.products, self.seen, self.origin,
                    counters.totals, counters.boards, self.counts,
                )  # fmt: skip
            ring.publish(slot, time_ns)
        self.states[entry] = decode.CLOSED_ENTRY
        self._free.append(entry)
        return time_ns

    def _learn(self, time_ns: int) -> None:
        """The smallest difference of two timestamps is taken for the length of a dump."""
        if self._first_time == NOWHERE:
            self._first_time = time_ns
        others = self.times[self.states != decode.EMPTY]
        if len(others):
            nearest = int(np.abs(others - time_ns).min())
            self._learned = min(self._learned, nearest) if self._learned else nearest

    @property
    def dump_ns(self) -> int:
        """Length of a dump: as configured, else as learned so far; 0: unknown."""
        return self.configuration.dump_ns or self._learned

    def is_next(self, time_ns: int, closed_ns: int, newest_ns: int, window_ns: int) -> bool:
        """No dump can come between the last that was emitted and this one."""
        dump = self.dump_ns
        # What has been learned is relied on when dumps that came in disorder have all been seen.
        if not dump or (not self.configuration.dump_ns and newest_ns - self._first_time <= window_ns):
            return False
        return time_ns - closed_ns < dump + dump // 2 or newest_ns - (time_ns - dump) > window_ns


NOTHING = Configuration("")


class Assembler:
    """Takes batches and emits dumps of the active configuration.

    Parameters
    ----------
    timing : Timing
    on_first : callable
        Given the timestamp of the first frame of a stream before that frame is taken.

    Attributes
    ----------
    counters : Counters
    current : Assembly
        Of the active configuration; without one it has no products.
    patience_s : float
        How long to wait for a pipeline that is behind, before its oldest dump is dropped.
    jumps : int
        How often time was found to be another.
    last_bad : dict
        The last bad piece: kind, byte in its message, message; empty before the first.
    """

    def __init__(self, timing: Timing, on_first: Callable[[int], None] = lambda time_ns: None) -> None:
        self.timing, self._on_first = timing, on_first
        self.counters = Counters()
        self.current = Assembly(NOTHING, {})
        self.patience_s = 0.0
        self.jumps = 0
        self.last_bad: dict[str, Any] = {}
        self._votes = np.zeros(BOARDS, np.int32)
        self._registers = np.zeros(decode.REGISTERS, np.int64)
        self.begin()

    @property
    def newest_ns(self) -> int:
        """Newest timestamp believed, -1 before the first."""
        return int(self._registers[decode.NEWEST])

    @property
    def flowing(self) -> bool:
        """Frames come, and their time is known."""
        return bool(self._registers[decode.ANCHORED])

    def begin(self) -> None:
        """Another stream will come, of any time; nothing is open."""
        self.current.forget()
        self._votes[:] = 0
        self._registers[:] = 0
        self._set(NEWEST=NOWHERE, CUT=NOWHERE, CLOSED=NOWHERE, OLDEST=decode.NEVER, BAD_MESSAGE=NOWHERE)
        self._new_window()

    def take(self, batch: Batch, origin: Callable[[int], str] = str, silence_s: float = 0.0) -> None:
        """Take in a batch.

        Parameters
        ----------
        batch : Batch
        origin : callable
            Says where a message of it came from.
        silence_s : float
            For how long no frame was believed: time may have gone on so much.
        """
        registers = self._registers
        self._new_window(round(silence_s * 1e9))
        registers[decode.MESSAGE] = registers[decode.OFFSET] = 0
        registers[decode.BAD_MESSAGE] = NOWHERE
        while (why := self._decode(batch)) != decode.DONE:
            time_ns = int(self._registers[decode.TIME])
            if why == decode.FIRST:
                self._begin(time_ns)
            elif why == decode.JUMP:
                self._jump(int(self._registers[decode.CANDIDATE]))
            elif why == decode.NEW_DUMP:
                self._open(time_ns)
                continue
            self._emit()
        if self._registers[decode.COMPLETED]:
            self._emit()
        bad = int(self._registers[decode.BAD_MESSAGE])
        if bad != NOWHERE:
            kind, offset = Kind(int(self._registers[decode.BAD_KIND])), int(self._registers[decode.BAD_OFFSET])
            self.last_bad = {"kind": kind.name.lower(), "byte": offset, "origin": origin(bad)}

    def activate(self, assembly: Assembly, cut_ns: int, reason: str = "deactivated") -> None:
        """Switch: what is open is emitted and flushed, frames up to the cut are stale, then `assembly` takes over."""
        self.flush(reason)
        assembly.forget()
        self.current = assembly
        self._set(CUT=cut_ns, CLOSED=cut_ns, LAST=0)
        self._new_window()

    def deactivate(self, reason: str) -> None:
        """No configuration is active."""
        self.activate(Assembly(NOTHING, {}), self.newest_ns, reason)

    def flush(self, reason: str) -> None:
        """Emit all that is open, oldest first, and tell the pipelines that something else follows."""
        self._close_all()
        for ring in self.current.rings.values():
            ring.flush(reason)

    def idle(self, silent: bool = True) -> None:
        """Emit all that is open: no frames have come for a while, or (not `silent`) none that could be believed.

        After a silence the next frame may have any time.
        """
        self._close_all()
        if silent:
            self._set(ANCHORED=0)

    def _decode(self, batch: Batch) -> int:
        now, tables = self.current, self.current.lookup
        return decode.decode(
            batch.address, batch.starts, batch.lengths, batch.segments, batch.count,
            self._registers, self._votes, self.counters.totals, self.counters.boards, self.counters.known, now.counts,
            tables.products, tables.table, tables.shift,
            now.times, now.states, now.seen, now.addresses, now.left, now.origin,
        )  # fmt: skip

    def _begin(self, time_ns: int) -> None:
        """Frames begin to come, or come again."""
        newest = self.newest_ns
        if newest != NOWHERE and time_ns < newest - int(self._registers[decode.BACK]):
            self._jump(time_ns)
        else:
            self._set(NEWEST=max(newest, time_ns))
        self._set(ANCHORED=1)
        self._on_first(time_ns)

    def _jump(self, time_ns: int) -> None:
        """The boards agree on another time: that holds from now on. Shortly ahead it is a gap, and nothing else changes."""
        if not self.newest_ns < time_ns <= self.newest_ns + int(self._registers[decode.BACK]):
            self.flush("time has jumped")
            self.current.forget()
            self.jumps += 1
            closed = time_ns - int(self._registers[decode.WINDOW]) - 1
            self._set(CLOSED=closed, CUT=min(int(self._registers[decode.CUT]), closed))
        self._votes[:] = 0
        self._set(NEWEST=time_ns, SCORE=0, EPOCH=0, AGREEING=0, BELIEVED=0)
        self._new_window()

    def _open(self, time_ns: int) -> None:
        now = self.current
        if len(now.open_dumps) >= now.most_open:
            if time_ns < now.open_dumps[0][0]:
                self._set(CLOSED=time_ns)  # no slot for one that is older than all: it is late
                return
            now.forced += 1
            self._close_oldest()
        now.open(time_ns, self.patience_s)
        if not now.configuration.dump_ns:
            self._new_window()
        self._registers[decode.OLDEST] = now.open_dumps[0][0]

    def _emit(self) -> None:
        """Emit what has expired, and what is complete and next."""
        now, registers = self.current, self._registers
        registers[decode.COMPLETED] = 0
        newest, window = int(registers[decode.NEWEST]), int(registers[decode.WINDOW])
        while now.open_dumps:
            time_ns, entry = now.open_dumps[0]
            if newest - time_ns <= window and not (
                now.is_complete(entry) and now.is_next(time_ns, int(registers[decode.CLOSED]), newest, window)
            ):
                return
            self._close_oldest()

    def _close_all(self) -> None:
        while self.current.open_dumps:
            self._close_oldest()

    def _close_oldest(self) -> None:
        closed = self.current.close_oldest(self.counters)
        left = self.current.open_dumps
        self._registers[decode.CLOSED] = closed
        self._registers[decode.OLDEST] = left[0][0] if left else decode.NEVER

    def _new_window(self, silence_ns: int = 0) -> None:
        window = self.timing.window(self.current.dump_ns)
        self._set(WINDOW=window, FORWARD=window + silence_ns, BACK=max(self.timing.back_ns, 4 * window))

    def _set(self, **registers: int) -> None:
        for name, value in registers.items():
            self._registers[getattr(decode, name)] = value
