"""Lag frames put together to dumps, and dumps emitted in the order of time.

A dump is open from its first frame until all of its frames have come or its time is up, by the timestamps of the frames
alone: ``max(3 dumps, 0.5 s)`` behind the newest. A complete dump is emitted as soon as none can come before it: its
predecessor has been emitted, or is too late. What is missing then is zero. Closed dumps are remembered for a while, so that
a frame that comes twice is a duplicate whenever it comes, and the counters do not depend on the order of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from socs_bl.correlator import dumps
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.counters import Counters, Counts, Kind
from socs_bl.correlator.decode import decode
from socs_bl.correlator.lookup import Lookup
from socs_bl.correlator.ring import RingWriter
from socs_bl.correlator.slots import NOWHERE
from socs_bl.correlator.source import Batch
from socs_bl.correlator.wire import BOARDS

HISTORY = 32  # dumps remembered at least after they were emitted
RESERVE = 2  # slots of a ring that are kept for dumps that wait for the pipeline
UNKNOWN_DUMP_NS = 10_000_000_000  # what is taken for three dumps as long as the length of a dump is not known


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
    counts : numpy.ndarray
        int64 (kinds, products), in the order of ``lookup.names``.
    own, entries, queues, seen, origin, addresses : numpy.ndarray
        The dumps, as `socs_bl.correlator.decode.decode` has them; `addresses` are those of the rings.
    """

    def __init__(self, configuration: Configuration, rings: Mapping[str, RingWriter]) -> None:
        self.configuration = configuration
        self.rings = dict(rings)
        self.lookup = Lookup(configuration, {pipe: ring.plan for pipe, ring in rings.items()})
        self.counts: Counts = np.zeros((len(Kind), len(self.lookup.names)), np.int64)
        self.own: Counts = np.zeros(dumps.WORDS, np.int64)
        self.own[dumps.MOST_OPEN] = max(1, min((ring.slots for ring in rings.values()), default=0) - RESERVE)
        self.own[dumps.DUMP] = configuration.dump_ns
        self.own[dumps.LEARNING] = not configuration.dump_ns
        entries = int(self.own[dumps.MOST_OPEN]) + HISTORY
        self.entries: Counts = np.zeros((entries, dumps.FIRST_PIPE + dumps.PIPE_COLUMNS * len(rings)), np.int64)
        self.queues: Counts = np.zeros((2, entries), np.int64)
        self.seen = np.zeros((entries, self.lookup.cells), np.uint8)
        self.origin = np.zeros(self.lookup.cells, np.uint16)
        self.addresses: Counts = np.array([ring.address for ring in rings.values()], np.int64)
        self.forget()

    @property
    def size_bytes(self) -> int:
        """Memory, rings included."""
        arrays = (self.counts, self.own, self.entries, self.queues, self.seen, self.origin, self.addresses)
        return (
            sum(array.nbytes for array in arrays)
            + self.lookup.size_bytes
            + sum(r.size_bytes for r in self.rings.values())
        )

    @property
    def dump_ns(self) -> int:
        """Length of a dump: as configured, else as learned so far; 0: unknown."""
        return int(self.own[dumps.DUMP])

    @property
    def open_dumps(self) -> int:
        """Dumps that are open."""
        return int(self.own[dumps.OPENED])

    @property
    def emitted(self) -> int:
        """Dumps emitted."""
        return int(self.own[dumps.EMITTED])

    @property
    def incomplete(self) -> int:
        """Those of them with frames missing."""
        return int(self.own[dumps.INCOMPLETE])

    @property
    def forced(self) -> int:
        """Those emitted early for want of slots."""
        return int(self.own[dumps.FORCED])

    def forget(self) -> None:
        """As if no dump had ever been; counters stay. All are closed."""
        self.entries[:, dumps.ENTRY_STATE] = dumps.EMPTY
        self.queues[dumps.FREE_QUEUE] = np.arange(len(self.entries))
        self.own[[dumps.OPENED, dumps.FREE_AT, dumps.LAST]] = 0
        self.own[dumps.FIRST_TIME] = NOWHERE
        if self.own[dumps.LEARNING]:
            self.own[dumps.DUMP] = 0


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
        self._registers = np.zeros(dumps.REGISTERS, np.int64)
        self.begin()

    @property
    def newest_ns(self) -> int:
        """Newest timestamp believed, -1 before the first."""
        return int(self._registers[dumps.NEWEST])

    @property
    def flowing(self) -> bool:
        """Frames come, and their time is known."""
        return bool(self._registers[dumps.ANCHORED])

    def begin(self) -> None:
        """Another stream will come, of any time; nothing is open."""
        self.current.forget()
        self._votes[:] = 0
        self._registers[:] = 0
        self._set(NEWEST=NOWHERE, STAMP=NOWHERE, CUT=NOWHERE, CLOSED=NOWHERE, OLDEST=dumps.NEVER, BAD_MESSAGE=NOWHERE)
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
        silence_ns = round(silence_s * 1e9)
        registers[dumps.FORWARD] = registers[dumps.WINDOW] + silence_ns
        registers[dumps.MESSAGE] = registers[dumps.OFFSET] = 0
        registers[dumps.BAD_MESSAGE] = NOWHERE
        while (why := self._decode(batch)) != dumps.DONE:
            if why == dumps.FIRST:
                self._begin(int(registers[dumps.TIME]))
            elif why == dumps.JUMP:
                self._jump(int(registers[dumps.CANDIDATE]))
            elif why == dumps.NO_ROOM:
                list(self.current.rings.values())[registers[dumps.PIPE]].make_room(self.patience_s)
            else:
                self._new_window(silence_ns)
        for ring in self.current.rings.values():
            ring.settle()
        bad = int(self._registers[dumps.BAD_MESSAGE])
        if bad != NOWHERE:
            kind, offset = Kind(int(self._registers[dumps.BAD_KIND])), int(self._registers[dumps.BAD_OFFSET])
            self.last_bad = {"kind": kind.name.lower(), "byte": offset, "origin": origin(bad)}

    def activate(self, assembly: Assembly, cut_ns: int, reason: str = "deactivated") -> None:
        """Switch: what is open is emitted and flushed, frames up to the cut are stale, then `assembly` takes over."""
        self.flush(reason)
        assembly.forget()
        self.current = assembly
        self._set(CUT=cut_ns, CLOSED=cut_ns)
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
        return decode(
            batch.address, batch.starts, batch.lengths, batch.segments, batch.count,
            self._registers, self._votes, self.counters.totals, self.counters.boards, self.counters.known, now.counts,
            tables.products, tables.table, tables.shift,
            now.own, now.entries, now.queues, now.seen, now.origin, now.addresses, tables.pipes,
        )  # fmt: skip

    def _begin(self, time_ns: int) -> None:
        """Frames begin to come, or come again."""
        newest = self.newest_ns
        if newest != NOWHERE and time_ns < newest - int(self._registers[dumps.BACK]):
            self._jump(time_ns)
        else:
            self._set(NEWEST=max(newest, time_ns), STAMP=NOWHERE)
        self._set(ANCHORED=1)
        self._on_first(time_ns)

    def _jump(self, time_ns: int) -> None:
        """The boards agree on another time: that holds from now on. Shortly ahead it is a gap, and nothing else changes."""
        if not self.newest_ns < time_ns <= self.newest_ns + int(self._registers[dumps.BACK]):
            self.flush("time has jumped")
            self.current.forget()
            self.jumps += 1
            closed = time_ns - int(self._registers[dumps.WINDOW]) - 1
            self._set(CLOSED=closed, CUT=min(int(self._registers[dumps.CUT]), closed))
        self._votes[:] = 0
        self._set(NEWEST=time_ns, STAMP=NOWHERE, SCORE=0, EPOCH=0, AGREEING=0, BELIEVED=0)
        self._new_window()

    def _close_all(self) -> None:
        now, counters = self.current, self.counters
        dumps.close_all(
            self._registers, now.own, now.entries, now.queues, now.seen, now.addresses, now.lookup.pipes,
            now.lookup.products, now.origin, counters.totals, counters.boards, now.counts,
        )  # fmt: skip
        for ring in now.rings.values():
            ring.settle()

    def _new_window(self, silence_ns: int = 0) -> None:
        window = self.timing.window(self.current.dump_ns)
        self._set(WINDOW=window, FORWARD=window + silence_ns, BACK=max(self.timing.back_ns, 4 * window))

    def _set(self, **registers: int) -> None:
        for name, value in registers.items():
            self._registers[getattr(dumps, name)] = value
