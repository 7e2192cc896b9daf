"""What the executor says, what is recorded of it, what the nodes have been told; events, effects and cells."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from socs_bl.bdf.scan import Scan, ScanAntenna
from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell

FINISH = "FINISH"
_TRUE = ("true", "t", "1", "yes")


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """An Observation document, as far as it is used.

    Attributes
    ----------
    dataset_id, config_id, subarray_id : str
    start_ns : int
        When what it describes begins, ns since 1970 UTC.
    sequence : int
        The executor's own number of the document; -1 where it has none.
    source : str
        ``FINISH`` ends the dataset.
    ra, dec : float
        Radians.
    intents : tuple of str
        ``Key="value"``.
    scan, subscan : int
    correlator : str
    """

    dataset_id: str
    start_ns: int
    source: str
    scan: int
    subscan: int
    correlator: str
    config_id: str = ""
    subarray_id: str = ""
    sequence: int = -1
    ra: float = 0.0
    dec: float = 0.0
    intents: tuple[str, ...] = ()

    def intent(self, key: str) -> str:
        """The value of an intent, whose key may be written with capitals and ``_`` or without; empty when it is not there."""
        for text in self.intents:
            name, _, value = text.partition("=")
            if name.strip().lower().replace("_", "") == key:
                return value.strip(" \"'")
        return ""

    @property
    def suppressed(self) -> bool:
        """Whether an intent says that there are to be no data."""
        return self.intent("suppressdata").lower() in _TRUE

    def records(self, correlator: str) -> bool:
        """Whether it asks this correlator for data."""
        return self.correlator == correlator and self.source != FINISH and not self.suppressed


class AntennaTable(msgspec.Struct, frozen=True, kw_only=True):
    """An AntennaPropertyTable document: which antennas a dataset has, and where they stand."""

    dataset_id: str
    configuration: str = ""
    antennas: tuple[ScanAntenna, ...] = ()


# -- events ------------------------------------------------------------------------------------------------------------


class ObservationHeard(Event, frozen=True):
    """An Observation document came."""

    observation: Observation


class AntennasHeard(Event, frozen=True):
    """A table of antennas came."""

    table: AntennaTable


class CloseAsked(Event, frozen=True):
    """A person ends the open scan of a dataset now."""

    dataset_id: str


# -- effects -----------------------------------------------------------------------------------------------------------


class Record(Effect, frozen=True):
    """Have a node record a scan; it knows the uid, so twice is once."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    deadline: ClassVar[float] = 25.0

    node: str
    scan: Scan


class StopRecording(Effect, frozen=True):
    """Tell a node where a scan ends, ns since 1970 UTC."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    deadline: ClassVar[float] = 25.0

    node: str
    uid: str
    stop_ns: int
    reason: str


class Notify(Effect, frozen=True):
    """Tell people."""

    level: str
    text: str


# -- cells -------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of its configuration; comes with every restart. See `ObservationConfig`."""

    correlator: str = "widar"
    nodes: tuple[str, ...] = ()
    first_pause: float = 0.5
    longest_pause: float = 30.0
    give_up: float = 600.0


class Ledger(Cell, frozen=True):
    """Counts, and the last number that was given to a uid.

    Attributes
    ----------
    last_ms : int
        No two uids have one number; it is the time of the event, milliseconds, or the next that is free.
    accepted, repeated, outdated, crowded : int
        Documents that were taken; that said again what was known; that came when what they cut was over; that came
        when too many datasets were under way.
    opened, closed : int
        Scans.
    lost : int
        Orders that a node never took.
    """

    last_ms: int = 0
    accepted: int = 0
    repeated: int = 0
    outdated: int = 0
    crowded: int = 0
    opened: int = 0
    closed: int = 0
    lost: int = 0


class Boundary(msgspec.Struct, frozen=True):
    """Where a dataset was cut by a document.

    Attributes
    ----------
    start_ns : int
    sequence : int
        Of the document; -1 where it has none.
    said : tuple of str
        What documents of this start have said, the one in force last; a repetition of any is nothing new.
    uid : str
        The recording that begins here; empty where none does.
    """

    start_ns: int
    sequence: int
    said: tuple[str, ...]
    uid: str = ""


class Dataset(Cell, frozen=True):
    """One execution block.

    Attributes
    ----------
    id : str
    exec_block : str
        Its uid.
    heard : float
        Unix time of its last document, seconds.
    boundaries : tuple of Boundary
        By start; the oldest are forgotten.
    """

    id: str
    exec_block: str
    heard: float = 0.0
    boundaries: tuple[Boundary, ...] = ()


class Order(msgspec.Struct, frozen=True):
    """What a node has been told of a recording.

    Attributes
    ----------
    known : bool
        It has taken the scan.
    stop_ns : int
        The end it knows; 0: none.
    tries : int
        Failures since the last success.
    """

    known: bool = False
    stop_ns: int = 0
    tries: int = 0


class Recording(Cell, frozen=True):
    """A scan that is recorded; gone when it is closed and every node knows.

    Attributes
    ----------
    scan : Scan
        Its `stop_ns` is 0 while it is open.
    reason : str
        What closed it.
    orders : dict of str to Order
        By node; without the nodes that were given up.
    """

    scan: Scan
    reason: str = ""
    orders: dict[str, Order] = {}


class Antennas(Cell, frozen=True):
    """The table of a dataset's antennas."""

    table: AntennaTable
    heard: float = 0.0


class Past(msgspec.Struct, frozen=True):
    """A scan that every node knows the end of, for people."""

    uid: str
    dataset_id: str
    scan: int
    subscan: int
    source: str
    start_ns: int
    stop_ns: int
    reason: str


class History(Cell, frozen=True):
    """The last scans, the newest last."""

    scans: tuple[Past, ...] = ()


EVENTS: tuple[type[Event], ...] = (ObservationHeard, AntennasHeard, CloseAsked)
EFFECTS: tuple[type[Effect], ...] = (Record, StopRecording, Notify)
CELLS: tuple[type[Cell], ...] = (Settings, Ledger, Dataset, Recording, Antennas, History)
