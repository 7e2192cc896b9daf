"""What a recorder knows: the geometry of its stream, the window it records, its events, effects and cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from socs_bl.capture import wire
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell

Value = str | int | float
MAX_HEAPS_PER_BLOCK = 1 << 22


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """Shape and axes of the stream one instance receives.

    Attributes
    ----------
    nants, nstrm, hnchan, hntime : int
        Antennas, multicast groups, channels and spectra of a heap.
    hclocks : int
        Digitiser samples per heap time.
    fenchan, schan : int
        Channels of the F-engine; first channel of this instance.
    chan_bw, fecenter : float
        Channel width and band centre, MHz.
    synctime : float
        Unix time of digitiser sample 0.
    """

    nants: int
    nstrm: int
    hnchan: int
    hntime: int
    hclocks: int
    fenchan: int
    schan: int
    chan_bw: float
    fecenter: float
    synctime: float

    @classmethod
    def from_keys(cls, keys: Mapping[str, Value], groups: int) -> Geometry:
        """The geometry that the keys of a status buffer describe, for `groups` multicast groups.

        Raises
        ------
        Refused
            When a key is missing or impossible; the text names all of them.
        """
        wrong: list[str] = []
        values: dict[str, int] = {}
        for key, least in (("NANTS", 1), ("HNCHAN", 1), ("HNTIME", 1), ("HCLOCKS", 1), ("FENCHAN", 1), ("SCHAN", 0)):
            value = keys.get(key)
            if isinstance(value, int) and value >= least:
                values[key.lower()] = value
            else:
                wrong.append(key)
        floats: dict[str, float] = {}
        for key in ("CHAN_BW", "FECENTER", "SYNCTIME"):
            value = keys.get(key)
            if isinstance(value, int | float) and (key != "CHAN_BW" or value):
                floats[key.lower()] = float(value)
            else:
                wrong.append(key)
        if wrong:
            raise Refused(f"missing or impossible: {', '.join(wrong)}")
        geometry = cls(nstrm=groups, **values, **floats)  # type: ignore[arg-type]  # the names are checked above
        if geometry.schan + geometry.channels > geometry.fenchan:
            raise Refused(f"channels {geometry.schan} to {geometry.schan + geometry.channels} exceed FENCHAN")
        return geometry

    @property
    def channels(self) -> int:
        """Channels of this instance."""
        return self.nstrm * self.hnchan

    @property
    def heap_bytes(self) -> int:
        """Bytes of one heap."""
        return wire.heap_bytes(self.hnchan, self.hntime)

    @property
    def heaps_per_time(self) -> int:
        """Heaps that carry the same timestamp: one a group and antenna."""
        return self.nants * self.nstrm

    @property
    def tbin(self) -> float:
        """Seconds between samples of a channel."""
        return 1e-6 / abs(self.chan_bw)

    @property
    def heap_seconds(self) -> float:
        """Duration of one packet index."""
        return self.hclocks / (2e6 * self.fenchan * abs(self.chan_bw))

    @property
    def obsfreq(self) -> float:
        """Centre of the instance's band, MHz."""
        return wire.observing_frequency(self.schan, self.channels, self.fecenter, self.fenchan, self.chan_bw)

    @property
    def obsbw(self) -> float:
        """Width of the instance's band, MHz."""
        return self.channels * self.chan_bw

    def piperblk(self, block_bytes: int) -> int:
        """Packet indices per block: as many whole heap sets as fit into `block_bytes`.

        Raises
        ------
        Refused
            When not even one fits.
        """
        count = block_bytes // (self.heaps_per_time * self.heap_bytes)
        if not 1 <= count * self.heaps_per_time <= MAX_HEAPS_PER_BLOCK:
            raise Refused(f"{self.heaps_per_time * self.heap_bytes} bytes a heap time in blocks of {block_bytes}")
        return count

    def wall(self, pktidx: int) -> float:
        """Unix time of the first sample of a packet index."""
        return self.synctime + pktidx * self.heap_seconds


class Window(msgspec.Struct, frozen=True):
    """Packet indices to record: ``start <= PKTIDX < stop``, both multiples of ``PIPERBLK``."""

    start: int
    stop: int

    @classmethod
    def of(cls, pktstart: int, dwell: float, geometry: Geometry, piperblk: int) -> Window | None:
        """The window that ``PKTSTART`` and ``DWELL`` ask for; None when there is nothing to record.

        ``PKTSTART`` is rounded down to a block and ``PKTSTOP = PKTSTART + PIPERBLK * trunc(DWELL / block duration)``
        (source: hpguppi_daq). ``PKTSTART`` 0 means "not set": packet index 0 is never recorded.
        """
        if pktstart <= 0 or not dwell > 0 or math.isinf(dwell):
            return None
        block_seconds = geometry.tbin * geometry.hntime * piperblk
        # A dwell of whole blocks must not lose one to the last bit of the division.
        blocks = math.trunc(dwell / block_seconds + 1e-9)
        start = pktstart - pktstart % piperblk
        return cls(start, start + blocks * piperblk) if blocks else None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What to receive."""

    groups: tuple[str, ...]
    port: int
    geometry: Geometry
    piperblk: int

    @property
    def block_bytes(self) -> int:
        """Bytes of samples in a block."""
        return self.piperblk * self.geometry.heaps_per_time * self.geometry.heap_bytes


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to record, where to, and the header cards that stay the same in all blocks.

    Attributes
    ----------
    window : Window
        Which packet indices.
    directory : str
        Absolute path as the sender of the keys sees it, below the root of the instance.
    source : str
        Target name, safe for file names.
    scan : int
        Number of this recording since the groups were joined.
    cards : Mapping[str, str | int | float]
        Header cards.
    """

    window: Window
    directory: str
    source: str
    scan: int
    cards: Mapping[str, Value]


# -- events ------------------------------------------------------------------------------------------------------------


class KeysChanged(Event, frozen=True):
    """Keys of the status buffer were set from outside."""

    pairs: Mapping[str, Value]


class RecordingStarted(Event, frozen=True):
    """The first block of the window that starts at `start` is in the file at `path`; it begins with `pktidx`."""

    start: int
    pktidx: int
    path: str


class RecordingEnded(Event, frozen=True):
    """The recording of the window that starts at `start` is closed. `fault` is empty unless writing failed."""

    start: int
    blocks: int
    missing: int
    fault: str = ""


class StreamStalled(Event, frozen=True):
    """A recording is open and no block came for long."""

    seconds: float


class TimestampsWentBack(Event, frozen=True):
    """So many heaps in a row, and no others, were older than what was received: the F-engines count anew."""

    heaps: int


class ManualStart(Event, frozen=True):
    """A person asks to record `destip` from `lead` seconds from now on, for `dwell` seconds."""

    destip: str
    dwell: float
    datadir: str
    lead: float = 3.0


class ManualStop(Event, frozen=True):
    """A person asks to stop what a person has started."""


# -- effects -----------------------------------------------------------------------------------------------------------


class JoinGroups(Effect, frozen=True):
    """Receive `target`; receiving it already is success."""

    deadline: ClassVar[float] = 30.0  # the first time compiles the placement function

    target: Target


class LeaveGroups(Effect, frozen=True):
    """Receive nothing; an open recording is closed first."""

    deadline: ClassVar[float] = 30.0


class Arm(Effect, frozen=True):
    """From the next block on, record `plan`. An open recording of the same start only gets the new stop."""

    plan: Plan


class Disarm(Effect, frozen=True):
    """From the next block on, record nothing; an open recording is closed."""


class SetStatus(Effect, frozen=True):
    """Put values of our own into the status buffer."""

    pairs: Mapping[str, Value]


class Restore(Effect, frozen=True):
    """After a restart: fill the status buffer again and join `group` again (none when empty)."""

    pairs: Mapping[str, Value]
    group: str


# -- cells -------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of its configuration, so that a journal replays by itself; comes with every restart.

    Attributes
    ----------
    instance : str
        Whose recorder it is, ``host/number``.
    block_bytes : int
        Upper limit of a block.
    """

    instance: str = ""
    block_bytes: int = 0


class Keys(Cell, frozen=True):
    """The status buffer, as far as it was set from outside."""

    pairs: Mapping[str, Value] = {}


class Daq(Cell, frozen=True):
    """Where the recorder stands.

    Attributes
    ----------
    target : Target or None
        What is received; None when idle.
    manual : bool
        Whether a person started it rather than the keys.
    plan : Plan or None
        What is armed.
    recording : int or None
        Start of the window whose recording is open.
    spent : int
        Start of the last window that is over, done or failed; it is not recorded again.
    scans : int
        Recordings armed since the groups were joined.
    path : str
        First file of the last recording.
    fault : str
        Why what the keys ask for is not done; empty when it is.
    """

    target: Target | None = None
    manual: bool = False
    plan: Plan | None = None
    recording: int | None = None
    spent: int = 0
    scans: int = 0
    path: str = ""
    fault: str = ""


EVENTS: tuple[type[Event], ...] = (
    KeysChanged,
    RecordingStarted,
    RecordingEnded,
    StreamStalled,
    TimestampsWentBack,
    ManualStart,
    ManualStop,
)
EFFECTS: tuple[type[Effect], ...] = (JoinGroups, LeaveGroups, Arm, Disarm, SetStatus, Restore)
CELLS: tuple[type[Cell], ...] = (Settings, Keys, Daq)
