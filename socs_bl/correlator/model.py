"""What a node knows: its processes, configurations and recordings; its events, effects and cells."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell

DEFAULT_CONFIGURATION = "c0"
INGEST_LANE = "ingest"


class Phase(enum.Enum):
    """Where a configuration stands: asked of the ingest process, there, or on its way out."""

    CREATING = "creating"
    CREATED = "created"
    DESTROYING = "destroying"


class Stage(enum.Enum):
    """Where a process stands."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"
    ENDING = "ending"


SETTLED = (Stage.RUNNING, Stage.QUARANTINED)  # nothing is to be waited for


class PipeText(msgspec.Struct, frozen=True):
    """A pipeline as its configuration has it.

    Attributes
    ----------
    name, text : str
    ring_bytes : int
        What its ring takes in memory.
    """

    name: str
    text: str
    ring_bytes: int


class Wait(msgspec.Struct, frozen=True):
    """An activation that is not in effect yet.

    Attributes
    ----------
    name : str
        Of the configuration.
    order : int
        Place among all that was asked.
    sent : bool
        The ingest process has been told and waits for frames.
    """

    name: str
    order: int
    sent: bool = False


class Writer(msgspec.Struct, frozen=True):
    """A pipeline's part of a recording.

    Attributes
    ----------
    open : bool
        It has been told of the recording, or will be as soon as it runs, and has not said that it is done.
    integrations, dropped : int
        What it has written and could not write, before it said that it was done.
    error, ending : str
        As it said: ``stop``, ``silence``, ``flush``, ``told`` or ``fault``.
    """

    open: bool = True
    integrations: int = 0
    dropped: int = 0
    error: str = ""
    ending: str = ""


# -- events: what people ask -------------------------------------------------------------------------------------------


class CreateAsked(Event, frozen=True):
    """A person or program brings a configuration; its document has been read without complaint."""

    name: str
    document: str
    pipes: tuple[PipeText, ...]
    slots: int = 0
    autodestroy: bool = False


class ActivateAsked(Event, frozen=True):
    """A configuration is to be active from the next frames on."""

    name: str


class DestroyAsked(Event, frozen=True):
    """A configuration is not wanted any more; one in use goes as soon as it is not."""

    name: str


class AutodestroyAsked(Event, frozen=True):
    """Whether a configuration goes when another one has taken its place."""

    name: str
    autodestroy: bool


class SourceAsked(Event, frozen=True):
    """Frames are to come from `uri`; empty: from nowhere."""

    uri: str


class FlowAsked(Event, frozen=True):
    """Frames are to flow or not."""

    on: bool


class PlaybackAsked(Event, frozen=True):
    """How a file is played: frames a second (0: as fast as possible), and whether with the times of today."""

    rate: int
    live_timestamps: bool


class FramedumpAsked(Event, frozen=True):
    """Frames are to be written into files as they come: `mode` none, ascii or binary; `size` rotates them."""

    mode: str
    directory: str
    size: int


class BdfdirAsked(Event, frozen=True):
    """Recordings that begin from now on are created in `directory`."""

    directory: str


class RecordAsked(Event, frozen=True):
    """A scan is to be recorded; `scan` is its record as JSON."""

    uid: str
    scan: str
    start_ns: int
    stop_ns: int


class StopAsked(Event, frozen=True):
    """A recording ends with the frames of `stop_ns`; 0: at once."""

    uid: str
    stop_ns: int
    reason: str = ""


# -- events: what the processes say ------------------------------------------------------------------------------------


class Activated(Event, frozen=True):
    """The frames after `cut_ns` belong to `name`; what came before belonged to `previous`."""

    run: int
    name: str
    previous: str
    cut_ns: int


class Destroyed(Event, frozen=True):
    """No frame enters the rings of a configuration any more."""

    run: int
    name: str


class EndOfFile(Event, frozen=True):
    """The file that was played is at its end, and is no source any more."""

    run: int
    uri: str


class IngestRefused(Event, frozen=True):
    """The ingest process does not do what the machine told it about a configuration (or the source, when `name` is empty)."""

    run: int
    action: str
    name: str
    reason: str


class IngestEnded(Event, frozen=True):
    """The ingest process is gone."""

    run: int
    reason: str


class PipelineEnded(Event, frozen=True):
    """A lag pipeline is gone."""

    configuration: str
    pipe: str
    run: int
    reason: str


class RecordingDone(Event, frozen=True):
    """A pipeline has closed its part of a recording; see `Writer`."""

    configuration: str
    pipe: str
    run: int
    uid: str
    integrations: int
    dropped: int
    error: str
    ending: str


class FrameTimeRead(Event, frozen=True):
    """The newest frame time, asked on behalf of a recording, and whether frames come at all."""

    uid: str
    newest_ns: int
    flowing: bool


# -- effects -----------------------------------------------------------------------------------------------------------


class StartIngest(Effect, frozen=True):
    """Start the ingest process, after ending one that is left; done when it answers."""

    deadline: ClassVar[float] = 180.0

    run: int


class SetSource(Effect, frozen=True):
    """Receive from `uri`; this destroys all configurations there."""

    run: int
    uri: str


class SetFlow(Effect, frozen=True):
    """Let frames flow, or not."""

    run: int
    on: bool


class SetPlayback(Effect, frozen=True):
    """How a file is played."""

    run: int
    rate: int
    live_timestamps: bool


class SetFramedump(Effect, frozen=True):
    """Write frames into files, or not."""

    run: int
    mode: str
    directory: str
    size: int


class CreateTables(Effect, frozen=True):
    """Have the ingest process make its tables for a configuration, and the rings."""

    deadline: ClassVar[float] = 60.0

    run: int
    name: str


class Activate(Effect, frozen=True):
    """Have the ingest process go over to a configuration, between two frames."""

    run: int
    name: str


class Destroy(Effect, frozen=True):
    """Have the ingest process forget a configuration, behind what it was told before."""

    run: int
    name: str


class StartPipeline(Effect, frozen=True):
    """Start a lag pipeline on its ring, after ending one that is left; done when it answers."""

    deadline: ClassVar[float] = 180.0

    configuration: str
    pipe: str
    run: int


class StopPipeline(Effect, frozen=True):
    """End a lag pipeline; what is left in its ring it writes first."""

    deadline: ClassVar[float] = 60.0

    configuration: str
    pipe: str


class SendRecording(Effect, frozen=True):
    """Tell a pipeline what to record, and where to."""

    configuration: str
    pipe: str
    run: int
    uid: str
    scan: str
    stop_ns: int
    directory: str


class SendStop(Effect, frozen=True):
    """Tell a pipeline when a recording ends; 0: now."""

    configuration: str
    pipe: str
    run: int
    uid: str
    stop_ns: int
    reason: str


class WriteMarker(Effect, frozen=True):
    """Say beside the file, for the publisher, that this node is done with a recording."""

    deadline: ClassVar[float] = 30.0

    uid: str
    directory: str
    integrations: int
    dropped: int
    stop_ns: int
    aborted: bool
    reason: str


class ReadFrameTime(Effect, frozen=True):
    """Ask the ingest process how far the frames are."""

    uid: str


class Tell(Effect, frozen=True):
    """Tell people; `level` is info, warning or error."""

    level: str
    text: str


# -- cells -------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of its configuration, so that a journal replays by itself; comes with every restart.

    Attributes
    ----------
    node : str
        What its markers are called.
    ring_bytes, configurations, recordings : int
        Limits.
    frame_patience : float
    first_pause, longest_pause, stable_seconds : float
    quarantine_after : int
        See `socs_bl.correlator.config`.
    """

    node: str = ""
    ring_bytes: int = 1 << 30
    configurations: int = 64
    recordings: int = 64
    frame_patience: float = 10.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    stable_seconds: float = 60.0
    quarantine_after: int = 5


class Source(Cell, frozen=True):
    """Where frames come from and where copies of them go, as people want it."""

    uri: str = ""
    on: bool = False
    rate: int = 0
    live_timestamps: bool = False
    dump_mode: str = "none"
    dump_directory: str = ""
    dump_size: int = 0
    bdfdir: str = ""


class Ingest(Cell, frozen=True):
    """The ingest process.

    Attributes
    ----------
    stage : Stage
    run : int
        Number of its present life; what an earlier one says is not heard.
    failures, restarts : int
        Ends in a row; all of them.
    since : float
        Unix time of its start.
    active : str
        The configuration frames belong to; empty: none.
    queue : tuple of Wait
        Activations in the order they were asked.
    flow_told : bool
        It has been told to let frames flow.
    """

    stage: Stage = Stage.WAITING
    run: int = 0
    failures: int = 0
    restarts: int = 0
    since: float = 0.0
    active: str = ""
    queue: tuple[Wait, ...] = ()
    flow_told: bool = False


class Held(Cell, frozen=True):
    """A configuration.

    Attributes
    ----------
    name : str
    phase : Phase
    order : int
        Place of its creation among all that was asked.
    pipes : tuple of PipeText
    slots : int
        Dumps that each of its rings holds.
    autodestroy : bool
    doomed : int
        Place of the wish to destroy it; 0: none.
    """

    name: str
    phase: Phase
    order: int
    pipes: tuple[PipeText, ...]
    slots: int = 0
    autodestroy: bool = False
    doomed: int = 0


class Document(Cell, frozen=True):
    """Text of a configuration; apart from it, since it may be long and never changes."""

    text: str


class Line(Cell, frozen=True):
    """A lag pipeline's process; fields as of `Ingest`."""

    configuration: str
    pipe: str
    stage: Stage = Stage.WAITING
    run: int = 0
    failures: int = 0
    restarts: int = 0
    since: float = 0.0


class Recording(Cell, frozen=True):
    """A recording.

    Attributes
    ----------
    uid, scan : str
    directory : str
        Where its file is created.
    start_ns, stop_ns : int
        Unix ns; a stop of 0 is not known yet.
    order : int
    reason : str
        Why it was stopped, as told.
    writers : mapping of str to Writer
        By ``configuration/pipe``.
    told : bool
        Frames do not come up to its stop any more: pipelines have been told to end it.
    closed : bool
        Over; its marker is written or being written.
    marked : bool
        The marker is there, or has been given up.
    tries : int
        How often the marker could not be written.
    """

    uid: str
    scan: str
    directory: str
    start_ns: int
    stop_ns: int
    order: int
    reason: str = ""
    writers: Mapping[str, Writer] = {}
    told: bool = False
    closed: bool = False
    marked: bool = False
    tries: int = 0


EVENTS: tuple[type[Event], ...] = (
    CreateAsked, ActivateAsked, DestroyAsked, AutodestroyAsked, SourceAsked, FlowAsked, PlaybackAsked, FramedumpAsked,
    BdfdirAsked, RecordAsked, StopAsked, Activated, Destroyed, EndOfFile, IngestRefused, IngestEnded, PipelineEnded,
    RecordingDone, FrameTimeRead,
)  # fmt: skip
EFFECTS: tuple[type[Effect], ...] = (
    StartIngest, SetSource, SetFlow, SetPlayback, SetFramedump, CreateTables, Activate, Destroy, StartPipeline,
    StopPipeline, SendRecording, SendStop, WriteMarker, ReadFrameTime, Tell,
)  # fmt: skip
CELLS: tuple[type[Cell], ...] = (Settings, Source, Ingest, Held, Document, Line, Recording)
