"""State, events and effects of the analyzer: a durable queue of runs, each searched, catalogued, and reported once."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell

# Endings of hit lists: turbo_seti's, seticore's.
HIT_LISTS = (".dat", ".hits")


class Outcome(enum.Enum):
    """How a run ended.

    ``SEARCHED``: every recording in the directory was searched. ``TOO_SHORT``: there is too little of it to search.
    ``MISSING``: there is no recording. ``NOT_DELETED``: searched, but the raw data, which were to go, could not be
    deleted. ``DAMAGED``: the recording cannot be read, or not be searched with these settings. ``DISK``: a product could
    not be written. ``SETTINGS``: the search did not accept its arguments. ``CRASHED``: the search ended with a defect.
    ``KILLED``: it was ended by a signal, or could not be started. ``OVERDUE``: it took longer than its deadline.
    ``ABORTED``: somebody aborted it. ``UNPROVEN``: searched, but the raw data, which were to go, are not what was
    searched. ``DECLINED``: the engine read the recording and declined it, for want of a recipe or with another number of
    antennas. ``DEVICE``: the engine's processor failed. ``GARBAGE``: the engine says it has searched, and its products
    cannot be read.
    """

    SEARCHED = "searched"
    TOO_SHORT = "too_short"
    MISSING = "missing"
    NOT_DELETED = "not_deleted"
    DAMAGED = "damaged"
    DISK = "disk"
    SETTINGS = "settings"
    CRASHED = "crashed"
    KILLED = "killed"
    OVERDUE = "overdue"
    ABORTED = "aborted"
    UNPROVEN = "unproven"
    DECLINED = "declined"
    DEVICE = "device"
    GARBAGE = "garbage"


# What the coordinator gets. 0: all well. 1: nothing to search. 2: raw data are still there although they should not be.
# Above: not searched, raw data kept. The original reported death by a signal as 0 and deleted the data.
CODES: Mapping[Outcome, int] = {
    Outcome.SEARCHED: 0,
    Outcome.TOO_SHORT: 0,
    Outcome.MISSING: 1,
    Outcome.NOT_DELETED: 2,
    Outcome.DAMAGED: 3,
    Outcome.DISK: 4,
    Outcome.SETTINGS: 5,
    Outcome.CRASHED: 6,
    Outcome.KILLED: 7,
    Outcome.OVERDUE: 8,
    Outcome.ABORTED: 9,
    Outcome.UNPROVEN: 2,
    Outcome.DECLINED: 10,
    Outcome.DEVICE: 11,
    Outcome.GARBAGE: 12,
}
WORST_GOOD_CODE = 1
# May go better a second time; after that the recording is left alone until somebody asks for it again.
WORTH_ANOTHER_TRY = frozenset(
    {
        Outcome.KILLED,
        Outcome.CRASHED,
        Outcome.OVERDUE,
        Outcome.DISK,
        Outcome.DECLINED,
        Outcome.DEVICE,
        Outcome.GARBAGE,
    }
)
MOST_TRIES = 2


class Stage(enum.Enum):
    """Where a run is."""

    QUEUED = "queued"
    SEARCHING = "searching"
    CATALOGUING = "cataloguing"
    DELETING = "deleting"
    REPORTED = "reported"


class Recorded(msgspec.Struct, frozen=True):
    """One recording in a run's directory, as the search found it.

    Attributes
    ----------
    stem : str
        Name of its files without sequence number.
    obsid, instance, source : str
        From its header.
    start : float
        Unix UTC seconds of its first sample.
    duration_s : float
        Its length.
    low_hz, high_hz : float
        Edges of its band.
    hit_count : int
        Hits found.
    files : tuple of str
        Its GUPPI RAW files, full paths.
    damage : str
        Why it was not read to its end; empty when it was.
    bytes : int
        Size of its files together, taken before the search began.
    changed : tuple of int
        When each of them was last written, nanoseconds (``st_mtime_ns``), taken before the search began; empty when
        nobody looked.
    """

    stem: str
    obsid: str
    instance: str
    source: str
    start: float
    duration_s: float
    low_hz: float
    high_hz: float
    hit_count: int
    files: tuple[str, ...]
    damage: str = ""
    bytes: int = 0
    changed: tuple[int, ...] = ()


# -- state ------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of its configuration (`AnalyzerConfig`); it comes with every restart."""

    instance: str = ""
    keep_raw: bool = True
    delete_short: bool = False
    reclaim: bool = False
    beams: int = 64


class Run(Cell, frozen=True):
    """One requested run.

    Attributes
    ----------
    name : str
        Given by the coordinator; a run is searched once however often it is asked for.
    number, place : int
        Order of the first request, and among those of one request.
    datadir : str
        Directory as in the instance's DATADIR.
    duration : float
        What was to be recorded, seconds; 0 when not said.
    min_duration, snr : float or None
        Asked for instead of what the configuration says.
    keep_raw : bool or None
        Likewise.
    preserve : bool
        A journal of schema 1 says that the raw data must stay; `Preserved` since the restart with this one.
    band : str
        Name of the receiver's band, for the target selector; empty when not said.
    antennas : int
        Antennas of the subarray, for the target selector; 0 when not said.
    listed : bool
        It comes from the coordinator's list; its result counts into one return for all of them.
    stage : Stage
    tries : int
        Searches begun.
    catalogue_tries : int
        Registrations begun.
    delete_tries : int
        Deletions begun.
    rule : str
        Name of the rule under which its raw data are deleted; empty while none is.
    outcome : Outcome or None
        Known when the search has ended.
    text : str
        Details for people.
    hits, stamps : int
        Hits, and pieces of voltages around hits, that were written.
    catalogued : bool
        The catalogue has its recordings and products.
    raw : bool
        Its raw data are there, as far as is known.
    freed : int
        Bytes of raw data deleted.
    obsid : str
    recordings : tuple of Recorded
    products : tuple of str
        Files written, full paths.
    asked, began, ended : float
        Unix UTC seconds.
    """

    name: str
    number: int
    datadir: str
    place: int = 0
    duration: float = 0.0
    min_duration: float | None = None
    snr: float | None = None
    keep_raw: bool | None = None
    preserve: bool = False
    band: str = ""
    antennas: int = 0
    listed: bool = False
    stage: Stage = Stage.QUEUED
    tries: int = 0
    catalogue_tries: int = 0
    delete_tries: int = 0
    rule: str = ""
    outcome: Outcome | None = None
    text: str = ""
    hits: int = 0
    stamps: int = 0
    catalogued: bool = False
    raw: bool = True
    freed: int = 0
    obsid: str = ""
    recordings: tuple[Recorded, ...] = ()
    products: tuple[str, ...] = ()
    asked: float = 0.0
    began: float = 0.0
    ended: float = 0.0

    @property
    def code(self) -> int:
        """The result code; -1 while there is none."""
        return -1 if self.outcome is None else CODES[self.outcome]

    @property
    def complete(self) -> bool:
        """Whether each of its recordings was read to its end and has a hit list; one that is too short has none."""
        names = {name.rpartition("/")[2] for name in self.products}
        return self.whole and all(
            any(f"{item.stem}{ending}" in names for ending in HIT_LISTS) for item in self.recordings
        )

    @property
    def whole(self) -> bool:
        """Whether each of its recordings was read to its end."""
        return bool(self.recordings) and not any(item.damage for item in self.recordings)


class Preserved(Cell, frozen=True):
    """A data directory whose raw data must stay, whatever any rule says."""

    datadir: str
    reason: str = ""
    since: float = 0.0


class Cleaning(Cell, frozen=True):
    """A deletion that was asked for after the fact, by a person or by a disk that runs short.

    Attributes
    ----------
    datadir : str
    number : int
        Order of the requests.
    rule : str
        Name of the rule that allows it (`socs_bl.search.rules`).
    run : str
        The run that searched it; empty when none did.
    tries : int
    asked, ended : float
        Unix UTC seconds; 0 while it is under way.
    freed : int
        Bytes deleted.
    refusal : str
        Why they were not; empty when they were.
    """

    datadir: str
    number: int
    rule: str
    run: str = ""
    tries: int = 1
    asked: float = 0.0
    ended: float = 0.0
    freed: int = 0
    refusal: str = ""


class Batch(Cell, frozen=True):
    """What the coordinator's list held when a legacy coordinator asked to process it: one return for all."""

    runs: tuple[str, ...] = ()
    worst: int = 0


# -- events -----------------------------------------------------------------------------------------------------------


class ProcessRequested(Event, frozen=True):
    """Somebody wants a run searched."""

    run: str
    datadir: str
    duration: float = 0.0
    preserve: bool = False
    min_duration: float | None = None
    snr: float | None = None
    keep_raw: bool | None = None
    band: str = ""
    antennas: int = 0


class Listed(msgspec.Struct, frozen=True):
    """A data directory on the coordinator's list, with what the coordinator noted about it.

    `run` is its observation id, or made of the directory where there is none; `duration` is ``rec_end`` less
    ``start_ts``, 0 when either is missing.
    """

    run: str
    datadir: str
    duration: float = 0.0
    band: str = ""
    antennas: int = 0


class ListRead(Event, frozen=True):
    """The coordinator's lists were read because somebody wants them processed.

    Attributes
    ----------
    listed : tuple of Listed
        ``<instance>:unprocessed``, oldest first.
    preserved : tuple of str
        ``<instance>:preserved``.
    last : Listed or None
        ``<instance>:last-datadir``: where the instance says it recorded; None when not known.
    """

    listed: tuple[Listed, ...] = ()
    preserved: tuple[str, ...] = ()
    last: Listed | None = None


class RequeueRequested(Event, frozen=True):
    """Somebody wants a directory that was given up searched once more."""

    datadir: str


class PreserveRequested(Event, frozen=True):
    """Somebody wants the raw data of a directory to stay."""

    datadir: str
    reason: str = ""


class UnpreserveRequested(Event, frozen=True):
    """They need not stay any more."""

    datadir: str


class CleanRequested(Event, frozen=True):
    """Somebody wants raw data deleted: one directory, or all that were processed before `before` (Unix seconds)."""

    datadir: str = ""
    before: float = 0.0
    force: bool = False


class DiskShort(Event, frozen=True):
    """The disk with the raw data has less room than is wanted; `text` says how much."""

    text: str = ""


class AbortRequested(Event, frozen=True):
    """Somebody wants a run given up."""

    run: str
    reason: str


class SearchEnded(Event, frozen=True):
    """The search of a run has ended, well or badly; `attempt` is that of its effect."""

    run: str
    attempt: int
    outcome: Outcome
    text: str = ""
    hits: int = 0
    stamps: int = 0
    obsid: str = ""
    recordings: tuple[Recorded, ...] = ()
    products: tuple[str, ...] = ()


class DeletionEnded(Event, frozen=True):
    """The shell has deleted raw data, or has found that the rule does not hold.

    Attributes
    ----------
    datadir, run, rule : str
        As in the effect.
    freed : int
        Bytes deleted.
    refusal : str
        Why nothing was deleted; empty when it was. Asking again does not change it.
    """

    datadir: str
    run: str
    rule: str
    freed: int = 0
    refusal: str = ""


# -- effects ----------------------------------------------------------------------------------------------------------


class RunSearch(Effect, frozen=True):
    """Search a directory. A second search writes the same products; withdrawing it ends the search."""

    deadline: ClassVar[float] = 6 * 3600.0

    run: str
    attempt: int
    datadir: str
    min_duration: float | None = None
    snr: float | None = None


class RegisterProducts(Effect, frozen=True):
    """Enter recordings and products in the catalogue, keyed by observation and file name."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    deadline: ClassVar[float] = 120.0

    run: str
    recordings: tuple[Recorded, ...]
    products: tuple[str, ...]
    searched: bool


class Proof(enum.Enum):
    """What must be shown before raw data go: that they are those which were searched and have a hit list, that they are
    those which were measured, or nothing, since a person insists."""

    SEARCHED = "searched"
    MEASURED = "measured"
    NOTHING = "nothing"


class DeleteRaw(Effect, frozen=True):
    """Delete raw data under a named rule, after proving that it holds; what is gone already is no failure.

    Attributes
    ----------
    datadir : str
        Whose raw data.
    run : str
        The run that searched them; empty when none did.
    rule : str
        Name of the rule (`socs_bl.search.rules`).
    proof : Proof
    recordings : tuple of Recorded
        What goes. With `Proof.NOTHING`, everything that is in the directory.
    products : tuple of str
    """

    deadline: ClassVar[float] = 600.0

    datadir: str
    run: str
    rule: str
    proof: Proof
    recordings: tuple[Recorded, ...] = ()
    products: tuple[str, ...] = ()


class Notify(Effect, frozen=True):
    """Tell people."""

    level: str
    text: str


EVENTS: tuple[type[Event], ...] = (
    ProcessRequested, ListRead, AbortRequested, RequeueRequested, PreserveRequested, UnpreserveRequested, CleanRequested,
    DiskShort, SearchEnded, DeletionEnded,
)  # fmt: skip
EFFECTS: tuple[type[Effect], ...] = (RunSearch, RegisterProducts, DeleteRaw, Notify)
CELLS: tuple[type[Cell], ...] = (Settings, Run, Preserved, Cleaning, Batch)
