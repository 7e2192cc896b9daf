"""What the commensal machine remembers, what it is told, and what it asks for."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from socs_bl.commensal.allocation import Share
from socs_bl.commensal.calibration_model import CALIBRATION_EFFECTS, CALIBRATION_EVENTS
from socs_bl.commensal.metadata import BandMetadata, Target
from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell


class FreeSub(enum.Enum):
    """Allocation state of a subarray."""

    FREE = "FREE"
    CONFIGURING = "CONFIGURING"
    SUBSCRIBED = "SUBSCRIBED"


class RecProc(enum.Enum):
    """Recording state of a subarray."""

    READY = "READY"
    RECORD = "RECORD"
    PROCESS = "PROCESS"
    WAITING = "WAITING"
    ERROR = "ERROR"


class Duty(enum.Enum):
    """What an instance is doing. It has exactly one owner (a subarray) when it is ready, recording or processing."""

    FREE = "free"
    READY = "ready"
    RECORDING = "recording"
    PROCESSING = "processing"
    QUARANTINED = "quarantined"
    DRAINED = "drained"


class Severity(enum.Enum):
    """How much a notification matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# -- state ----------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """The configuration the machine works by, as plain data, so that a journal replays by itself."""

    config: Mapping[str, Any]


class Instance(Cell, frozen=True):
    """One instance.

    Attributes
    ----------
    name : str
    duty : Duty
    owner : str
        The subarray that owns it, empty when nobody does.
    run : str
        The run it records or processes.
    reason : str
        Why it is out of use.
    tries : int
        How often its analyzer was asked to process the run.
    heard : tuple of (int, int) or None
        Codes of a return without a run, until the result itself has had time to come.
    """

    name: str
    duty: Duty = Duty.FREE
    owner: str = ""
    run: str = ""
    reason: str = ""
    tries: int = 0
    heard: tuple[int, int] | None = None


class Drain(Cell, frozen=True):
    """People want an instance out of service: it is not allocated, and leaves its subarray when its run has ended."""

    instance: str
    reason: str


class Silence(Cell, frozen=True):
    """An instance was quarantined because nothing was heard of it, or was and came back by itself.

    Attributes
    ----------
    instance : str
    run, datadir : str
        The run whose result did not come, and its directory; empty when it was the recorder that was silent.
    down : bool
        It has been seen down, so that fresh readings mean that it has come back.
    beat : str
        What its status hash said last.
    beats : int
        How many readings in a row said something new.
    returns : int
        How often it came back by itself since it last returned a good result.
    """

    instance: str
    run: str = ""
    datadir: str = ""
    down: bool = True
    beat: str = ""
    beats: int = 0
    returns: int = 0


class Rules(Cell, frozen=True):
    """Proposals that are kept for people, and those that are not recorded, as set while running."""

    primary: tuple[str, ...]
    skip: tuple[str, ...]


class Wish(msgspec.Struct, frozen=True):
    """What an operator wants of one recording; None leaves it to the configuration, or the target to CAM."""

    dwell: float | None = None
    lead_seconds: float | None = None
    min_quorum: float | None = None
    target: Target | None = None


class Preparation(Cell, frozen=True):
    """A recording that is being prepared: how often a target was looked for, what is known, what is awaited.

    `wish` is what an operator wants of it; None for one that the telescope's tracking has begun.
    """

    array: str
    tries: int = 1
    schedule_block: str = ""
    target: Target | None = None
    proposal: str = ""
    wish: Wish | None = None


class Subscribing(Cell, frozen=True):
    """What an operator wants of the next subscription of a subarray: so many instances at most, or only these."""

    array: str
    most: int = 0
    only: tuple[str, ...] = ()


class Subarray(Cell, frozen=True):
    """One subarray.

    Attributes
    ----------
    name : str
    freesub, recproc : FreeSub, RecProc
    since : float
        Unix time of the last change of either, seconds.
    shares : tuple of Share
        Its instances and their streams, in order.
    band : BandMetadata or None
    announced : bool
        Whether the groups have been told what to receive.
    unconfirmed : int
        How often instances were told again.
    tracking : bool
        Whether the telescope is on source, as far as we have been told.
    run : str
        Id of the current run (its OBSID), empty outside RECORD and PROCESS.
    stopping : bool
        An early stop is under way.
    requested : int
        Instances asked for at the last allocation.
    last_started : float
        Unix time of the last PKTSTART, seconds.
    last_event : str
    configured : float
        Unix time at which CAM had configured what it is subscribed to, seconds; 0 when CAM does not say.
    calibration : str
        How the last retrieval of calibration solutions ended.
    """

    name: str
    freesub: FreeSub = FreeSub.FREE
    recproc: RecProc = RecProc.READY
    since: float = 0.0
    shares: tuple[Share, ...] = ()
    band: BandMetadata | None = None
    announced: bool = False
    unconfirmed: int = 0
    tracking: bool = False
    run: str = ""
    stopping: bool = False
    requested: int = 0
    last_started: float = 0.0
    last_event: str = ""
    configured: float = 0.0
    calibration: str = ""


class Run(Cell, frozen=True):
    """One recording and its search.

    Attributes
    ----------
    id : str
        OBSID: ``<telescope>:<array>:<PKTSTART time>``.
    array : str
    instances : tuple of str
        Who recorded.
    started, ended : float
        Unix time of PKTSTART and of the (planned, then true) end, seconds.
    pktstart : int
    datadirs : mapping of str to str
        Instance to directory.
    band : str
    antennas : int
    target : Target
    counts : mapping of str to int
        How many results came with each code (as text, since it is a key of JSON).
    hits : int
    primary : bool
        Recorded in primary time: not searched, kept for people.
    closed : bool
        The recording has ended.
    """

    id: str
    array: str
    instances: tuple[str, ...]
    started: float
    ended: float
    pktstart: int
    datadirs: Mapping[str, str]
    band: str
    antennas: int
    target: Target
    counts: Mapping[str, int] = {}
    hits: int = 0
    primary: bool = False
    closed: bool = False


class Kept(Cell, frozen=True):
    """The recording in primary time for which a subarray waits."""

    run: Run


class Ledger(Cell, frozen=True):
    """Counters and cursors of the whole system: last result read, completed runs, bad messages."""

    results_cursor: str = "0-0"
    completed: int = 0
    bad_messages: int = 0


# -- events ---------------------------------------------------------------------------------------------------------


class TelescopeEvent(Event, frozen=True):
    """A message on ``alerts`` or ``rec_result``: its word and the subarray."""

    word: str
    array: str


class BadMessage(Event, frozen=True):
    """A message that could not be read; `reason` says why."""

    channel: str
    reason: str


class MetadataRead(Event, frozen=True):
    """CAM's keys of a subarray; `purpose` is ``subscribe`` or ``record``."""

    array: str
    purpose: str
    prefix: str
    values: Mapping[str, str]


class StatusRead(Event, frozen=True):
    """Status hashes of instances, None for a missing one; `purpose` says what they were read for."""

    array: str
    purpose: str
    run: str
    statuses: Mapping[str, Mapping[str, str] | None]


class ResultRead(Event, frozen=True):
    """A result in the stream ``socs_bl:results``; `cursor` is its place."""

    cursor: str
    instance: str
    run: str
    code: int
    code2: int = -1
    hits: int = 0
    reason: str = ""


class LegacyReturn(Event, frozen=True):
    """``RETURN:<instance>:<code1>:<code2>`` on ``proc_result``; it carries no run."""

    instance: str
    code: int
    code2: int


class Requested(Event, frozen=True):
    """An operator's wish; `socs_bl.commensal.requests` has the list.

    Attributes
    ----------
    what : str
        Name of the operation.
    name : str
        Subarray, instance or host it is about; empty for the whole system.
    reason : str
    options : mapping
        Its other parameters, as plain data.
    """

    what: str
    name: str
    reason: str = ""
    options: Mapping[str, Any] = {}


# -- effects --------------------------------------------------------------------------------------------------------


class ReadMetadata(Effect, frozen=True):
    """Read CAM's keys of a subarray."""

    array: str
    purpose: str


class ReadStatus(Effect, frozen=True):
    """Read the status hashes of instances."""

    array: str
    purpose: str
    run: str
    instances: tuple[str, ...]


class StartProcessing(Effect, frozen=True):
    """Ask an instance's analyzer to search a recording. The analyzer drops a run it already has."""

    delivery: ClassVar[Delivery] = Delivery.KEYED

    instance: str
    run: str
    datadir: str
    duration: float
    preserve: bool = False


class RestartPart(Effect, frozen=True):
    """Restart an instance's recorder (DAQ) or its gateway; a second restart of one that is fresh does no harm.

    Attributes
    ----------
    instance : str
    part : str
        ``recorder`` or ``gateway``.
    """

    delivery: ClassVar[Delivery] = Delivery.REPEATABLE
    deadline: ClassVar[float] = 40.0  # circusd waits up to its graceful_timeout, 30 s, for the old process

    instance: str
    part: str


class Notify(Effect, frozen=True):
    """Tell people."""

    severity: Severity
    code: str
    text: str
    array: str = ""


EVENTS: tuple[type[Event], ...] = (
    TelescopeEvent,
    BadMessage,
    MetadataRead,
    StatusRead,
    ResultRead,
    LegacyReturn,
    Requested,
    *CALIBRATION_EVENTS,
)
EFFECTS: tuple[type[Effect], ...] = (
    ReadMetadata,
    ReadStatus,
    StartProcessing,
    RestartPart,
    Notify,
    *CALIBRATION_EFFECTS,
)
CELLS: tuple[type[Cell], ...] = (
    Settings,
    Instance,
    Drain,
    Silence,
    Rules,
    Preparation,
    Subscribing,
    Subarray,
    Run,
    Kept,
    Ledger,
)
