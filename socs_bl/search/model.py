"""State, events and effects of the analyzer: a durable queue of runs, each searched, catalogued, and reported once."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell


class Outcome(enum.Enum):
    """How a run ended.

    ``SEARCHED``: every recording in the directory was searched. ``TOO_SHORT``: there is too little of it to search.
    ``MISSING``: there is no recording. ``NOT_DELETED``: searched, but the raw data, which were to go, could not be
    deleted. ``DAMAGED``: the recording cannot be read, or not be searched with these settings. ``DISK``: a product could
    not be written. ``SETTINGS``: the search did not accept its arguments. ``CRASHED``: the search ended with a defect.
    ``KILLED``: it was ended by a signal, or could not be started. ``OVERDUE``: it took longer than its deadline.
    ``ABORTED``: somebody aborted it.
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
}
# May go better a second time.
WORTH_ANOTHER_TRY = frozenset({Outcome.KILLED, Outcome.CRASHED})
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


# -- state ------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of its configuration; it comes with every restart."""

    instance: str = ""
    keep_raw: bool = True


class Run(Cell, frozen=True):
    """One requested run.

    Attributes
    ----------
    name : str
        Given by the coordinator; a run is searched once however often it is asked for.
    number : int
        Order of the first request.
    datadir : str
        Directory as in the instance's DATADIR.
    duration : float
        What was to be recorded, seconds; 0 when not said.
    preserve : bool
        The raw data must stay.
    stage : Stage
    tries : int
        Searches begun.
    catalogue_tries : int
        Registrations begun.
    delete_tries : int
        Deletions begun.
    outcome : Outcome or None
        Known when the search has ended.
    text : str
        Details for people.
    hits : int
    obsid : str
    recordings : tuple of Recorded
    products : tuple of str
        Files written, full paths.
    asked, ended : float
        Unix UTC seconds.
    """

    name: str
    number: int
    datadir: str
    duration: float = 0.0
    preserve: bool = False
    stage: Stage = Stage.QUEUED
    tries: int = 0
    catalogue_tries: int = 0
    delete_tries: int = 0
    outcome: Outcome | None = None
    text: str = ""
    hits: int = 0
    obsid: str = ""
    recordings: tuple[Recorded, ...] = ()
    products: tuple[str, ...] = ()
    asked: float = 0.0
    ended: float = 0.0

    @property
    def code(self) -> int:
        """The result code; -1 while there is none."""
        return -1 if self.outcome is None else CODES[self.outcome]


# -- events -----------------------------------------------------------------------------------------------------------


class ProcessRequested(Event, frozen=True):
    """Somebody wants a run searched."""

    run: str
    datadir: str
    duration: float = 0.0
    preserve: bool = False


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
    obsid: str = ""
    recordings: tuple[Recorded, ...] = ()
    products: tuple[str, ...] = ()


# -- effects ----------------------------------------------------------------------------------------------------------


class RunSearch(Effect, frozen=True):
    """Search a directory. A second search writes the same products; withdrawing it ends the search."""

    deadline: ClassVar[float] = 6 * 3600.0

    run: str
    attempt: int
    datadir: str


class RegisterProducts(Effect, frozen=True):
    """Enter recordings and products in the catalogue, keyed by observation and file name."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    deadline: ClassVar[float] = 120.0

    run: str
    recordings: tuple[Recorded, ...]
    products: tuple[str, ...]
    searched: bool


class DeleteRaw(Effect, frozen=True):
    """Delete raw data under a named rule, after proving that it holds; what is gone already is no failure."""

    deadline: ClassVar[float] = 600.0

    run: str
    rule: str
    recordings: tuple[Recorded, ...]
    products: tuple[str, ...]


class Notify(Effect, frozen=True):
    """Tell people."""

    level: str
    text: str


EVENTS: tuple[type[Event], ...] = (ProcessRequested, AbortRequested, SearchEnded)
EFFECTS: tuple[type[Effect], ...] = (RunSearch, RegisterProducts, DeleteRaw, Notify)
CELLS: tuple[type[Cell], ...] = (Settings, Run)
