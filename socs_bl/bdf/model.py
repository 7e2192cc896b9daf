"""What the publisher knows: what lies in the directories, its events, effects and cells."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has written when it had finished a recording: ``NAME.<node>.done``.

    Attributes
    ----------
    node : str
    integrations, dropped : int
        Integrations the node has written to, and those it had to leave out.
    aborted : bool
    reason : str
        Why it ended early; empty when it did not.
    stop_ns : int
        End of the recording as the node was told, Unix ns; 0: not told.
    """

    node: str
    integrations: int = 0
    dropped: int = 0
    aborted: bool = False
    reason: str = ""
    stop_ns: int = 0


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in the directories under one name.

    Attributes
    ----------
    name : str
        The file name of the uid, such as ``uid____evla_bdf_1433189755525``; of a second copy, its published name.
    part : bool
        ``NAME.part`` is there.
    scan : bool
        ``NAME.scan.json`` is there.
    stop_ns : int
        End of the recording by the scan, Unix ns; 0: open, or no scan.
    nodes : tuple of str
        Nodes that write the file, by the scan.
    markers : tuple of Marker
        By node.
    linked : str
        The published name of the same file; empty when it is not published.
    informed : bool
        The side file ``<linked>.json`` is there.
    sent : bool
        The record ``<linked>.sent`` is there: BdfInfo has been sent.
    wrong : str
        What could not be read; empty when all could.
    """

    name: str
    part: bool = False
    scan: bool = False
    stop_ns: int = 0
    nodes: tuple[str, ...] = ()
    markers: tuple[Marker, ...] = ()
    linked: str = ""
    informed: bool = False
    sent: bool = False
    wrong: str = ""

    @property
    def leftovers(self) -> bool:
        """Something lies in the creation directory."""
        return self.part or self.scan or bool(self.markers)

    @property
    def missing_nodes(self) -> tuple[str, ...]:
        """Nodes that have not said that they have finished."""
        finished = {marker.node for marker in self.markers}
        return tuple(node for node in self.nodes if node not in finished)

    @property
    def end_ns(self) -> int:
        """End of the recording, Unix ns, by the scan or else by the nodes; 0: nobody has said."""
        return self.stop_ns or max((marker.stop_ns for marker in self.markers), default=0)


class Size(msgspec.Struct, frozen=True):
    """By what it is seen whether a file still grows: bytes, time of the last change (ns), and how long it may rest."""

    bytes: int
    changed_ns: int
    interval_s: float


# -- events ------------------------------------------------------------------------------------------------------------


class Looked(Event, frozen=True):
    """What has changed in the directories: names as they lie there now. One without anything is gone."""

    sightings: tuple[Sighting, ...]


class Measured(Event, frozen=True):
    """The size of a file that is being written."""

    name: str
    size: Size


class Finished(Event, frozen=True):
    """The file ends with its last whole integration and the closing boundary.

    Attributes
    ----------
    expected : int
        Integrations that fit into the time of its recording; 0: nobody has said when that ends.
    """

    name: str
    integrations: int
    bytes: int
    expected: int = 0


class Damaged(Event, frozen=True):
    """A file cannot be finished or described, however often it is tried."""

    name: str
    reason: str


class NameTaken(Event, frozen=True):
    """Another file has been published under this name."""

    name: str
    target: str


class Announced(Event, frozen=True):
    """BdfInfo of a published file has been sent, and recorded as sent."""

    name: str
    target: str
    integrations: int
    bytes: int


class PublishNow(Event, frozen=True):
    """A person asks to finish a file without waiting for its nodes, or to try again."""

    name: str


class DiscardNow(Event, frozen=True):
    """A person asks to delete a file that is not published."""

    name: str


class Resend(Event, frozen=True):
    """A person asks to describe and announce a published file again."""

    name: str


# -- effects -----------------------------------------------------------------------------------------------------------


class Step(Effect, frozen=True):
    """One step with the files of a name; afterwards it is said what lies there. All of them can be repeated."""

    deadline: ClassVar[float] = 600.0  # to bring a large file to the disk

    name: str


class Measure(Step, frozen=True):
    """Look at the size of a file.

    Attributes
    ----------
    rested : float
        Seconds since the last measurement; 0: it is the first.
    """

    rested: float


class Finish(Step, frozen=True):
    """Cut a file after its last whole integration and close it.

    Attributes
    ----------
    stop_ns : int
        Integrations that end later are cut off; Unix ns, 0: none are.
    reason : str
        Why the recording was aborted; empty when it was not.
    """

    stop_ns: int
    reason: str


class Link(Step, frozen=True):
    """Bring a file to the disk and give it its name in the publication directory, unless that is taken."""

    target: str


class Inform(Step, frozen=True):
    """Write the side file of a published file."""

    target: str
    reason: str


class Describe(Step, frozen=True):
    """Bring the SDM of the execution block, and the catalogue, up to date with a published file."""

    target: str


class Announce(Step, frozen=True):
    """Send BdfInfo of a published file, and record that it was sent."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    target: str


class Unsend(Step, frozen=True):
    """Remove the record that BdfInfo of a published file was sent, so that it is sent again."""


class CleanUp(Step, frozen=True):
    """Remove scan, markers and private name of a published file."""


class Discard(Step, frozen=True):
    """Delete a file that is not published, and what lies beside it.

    Attributes
    ----------
    rule : str
        Why it may be deleted: `EMPTY` (proven again when it is done) or `ASKED`.
    """

    rule: str


class Tell(Effect, frozen=True):
    """Tell people."""

    level: str
    text: str
    file: str = ""


EMPTY = "it holds no integration"
ASKED = "a person asked for it"


# -- cells -------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of the configuration; comes with every restart."""

    grace_seconds: float = 30.0
    grace_integrations: int = 5
    abandoned_seconds: float = 3600.0


class File(Cell, frozen=True):
    """One name, and what has been decided about it.

    Attributes
    ----------
    sighting : Sighting
        What lies there.
    size : Size or None
        At the last measurement.
    asked : bool
        A person wants it published now.
    ended : str
        Why it is finished without waiting for its nodes; empty: not decided.
    integrations : int
        Of the finished file; -1: not finished.
    target : str
        The name that it gets when it is published.
    described : bool
        SDM and catalogue have it.
    fault : str
        Why it does not go on; empty while it does.
    damaged : bool
        Trying again is no use; a person must look at it.
    tries : int
        Failures in a row.
    """

    sighting: Sighting
    size: Size | None = None
    asked: bool = False
    ended: str = ""
    integrations: int = -1
    target: str = ""
    described: bool = False
    fault: str = ""
    damaged: bool = False
    tries: int = 0


class Done(msgspec.Struct, frozen=True):
    """A file that has been published."""

    name: str
    integrations: int
    bytes: int
    at: float


class Tally(Cell, frozen=True):
    """What has been done since the journal began."""

    published: int = 0
    integrations: int = 0
    bytes: int = 0
    announced: int = 0
    discarded: int = 0
    latest: tuple[Done, ...] = ()


EVENTS: tuple[type[Event], ...] = (
    Looked,
    Measured,
    Finished,
    Damaged,
    NameTaken,
    Announced,
    PublishNow,
    DiscardNow,
    Resend,
)
EFFECTS: tuple[type[Effect], ...] = (Measure, Finish, Link, Inform, Describe, Announce, Unsend, CleanUp, Discard, Tell)
CELLS: tuple[type[Cell], ...] = (Settings, File, Tally)
