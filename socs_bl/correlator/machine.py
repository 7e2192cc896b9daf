"""The machine of a node: configurations, the processes that work for them, and recordings.

What must hold (`NodeMachine.check`):

* At most one configuration is active; frames of one never reach the output of another: that is cut in band, by the
  ingest process, and every pipeline belongs to one configuration.
* Activations take effect in the order they were asked, each as soon as its pipelines run and frames flow. Only the first
  of the queue has been sent.
* A configuration that is active, or waits to be, is not destroyed; a wish to destroy it waits until it is not.
* One that nobody wants any more does not stay: with ``autodestroy`` it goes when another has taken its place.
* A new source destroys all configurations and sets flow off.
* A process that ends by itself is started again, with growing pauses; a lag pipeline that fails again and again is
  quarantined. An ingest process that comes back is told everything again, in order.
* A recording whose end is known ends, whether frames come or not, and its marker is written (`recordings`).
* The rings of all configurations fit into the memory they are given.

Source: WIDAR correlator backend software design, "configurations" and "control protocol"; man page wcbe-sys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Outstanding
from socs_bl.correlator.invariants import check_node, memory_of
from socs_bl.correlator.model import (
    CELLS,
    DEFAULT_CONFIGURATION,
    EFFECTS,
    EVENTS,
    INGEST_LANE,
    SETTLED,
    Activate,
    ActivateAsked,
    Activated,
    AutodestroyAsked,
    BdfdirAsked,
    CreateAsked,
    CreateTables,
    Destroy,
    DestroyAsked,
    Destroyed,
    Document,
    EndOfFile,
    FlowAsked,
    FramedumpAsked,
    FrameTimeRead,
    Held,
    Ingest,
    IngestEnded,
    IngestRefused,
    Line,
    Phase,
    PipelineEnded,
    PlaybackAsked,
    ReadFrameTime,
    RecordAsked,
    RecordingDone,
    SetFlow,
    SetFramedump,
    SetPlayback,
    SetSource,
    Settings,
    SourceAsked,
    Stage,
    StartIngest,
    StartPipeline,
    StopAsked,
    StopPipeline,
    Tell,
    Wait,
    WriteMarker,
)
from socs_bl.correlator.node import lane_of
from socs_bl.correlator.recordings import Recordings

FILE = "file:"


class NodeMachine(Recordings):
    """Decides what a node does. Its `Settings` come with ``Restarted.world``, beside the default configuration's document."""

    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    # -- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Answer an event."""
        _ANSWERS[type(event)](self, event)

    def done(self, effect: Effect) -> None:
        """An effect has been carried out."""
        match effect:
            case StartIngest() if self.ingest.stage is Stage.STARTING:
                self._bring_up()
            case SetSource():
                self._remove_doomed()
            case CreateTables(name=name):
                self._created(name)
            case StartPipeline(configuration=name, pipe=pipe):
                self._pipeline_up(name, pipe)
            case StopPipeline(configuration=name, pipe=pipe):
                self._pipeline_gone(name, pipe)
            case WriteMarker(uid=uid):
                self.on_marked(uid)

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """What the processes do not do makes them suspect; they are started again."""
        match effect:
            case StartIngest() | SetSource() | SetFlow() | SetPlayback() | SetFramedump() | CreateTables():
                self._ingest_down(reason)
            case Activate() | Destroy():
                self._ingest_down(reason)
            case StartPipeline(configuration=name, pipe=pipe, run=run):
                self._pipeline_down(name, pipe, run, reason)
            case StopPipeline(configuration=name, pipe=pipe):
                self.tell("error", f"pipeline {name}/{pipe} does not end: {reason}; end its process by hand")
                self._pipeline_gone(name, pipe)
            case WriteMarker(uid=uid):
                self.on_marker_failed(uid, reason)
            case ReadFrameTime(uid=uid):
                self.on_frame_time(FrameTimeRead(uid=uid, newest_ns=0, flowing=False))
            case Tell():
                pass
            case _:
                self.tell("warning", f"{type(effect).__name__} {effect.lane}: {reason}")

    def fired(self, name: str) -> None:
        """A timer has run out."""
        kind, _, rest = name.partition("/")
        match kind:
            case "ingest":
                self._start_ingest()
            case "pipeline":
                line = self.line(*rest.split("/", 1))
                if line is not None:
                    self._start_pipeline(line)
            case "guard":
                self.on_guard(rest)
            case "end":
                self.on_end_timer(rest)
            case "marker":
                self.on_marker_timer(rest)

    # -- restart --------------------------------------------------------------------------------------------------

    def keep(self, outstanding: Outstanding, event: Restarted) -> Effect | None:
        """What is for people and for the publisher; the rest is ordered anew, since all processes have died with us."""
        return outstanding.effect if isinstance(outstanding.effect, WriteMarker | Tell) else None

    def restarted(self, event: Restarted) -> None:
        """All processes are gone: start them again, with the configurations that are wanted."""
        self._adopt(event)
        for timer in [name for name in self.timers if name.partition("/")[0] in ("ingest", "pipeline")]:
            self.cancel(timer)
        self.change(stage=Stage.WAITING)
        self._forget_activation()
        for held in self.all_held():
            if held.phase is Phase.DESTROYING:
                self._drop(held)
                continue
            self.put_held(held, phase=Phase.CREATING)
            for line in self.lines_of(held):
                self.put_line(line, stage=Stage.WAITING, failures=0)
        self._collect()
        self.restart_recordings()
        document = event.world.get("default_document")
        if isinstance(document, str) and self.held(DEFAULT_CONFIGURATION) is None:
            self._create(CreateAsked(name=DEFAULT_CONFIGURATION, document=document, pipes=()))
        self._start_ingest()

    def _adopt(self, event: Restarted) -> None:
        settings = event.world.get("settings")
        if isinstance(settings, Mapping):
            self.put("settings", msgspec.convert(dict(settings), Settings))
        bdfdir = event.world.get("bdfdir")
        if isinstance(bdfdir, str) and bdfdir and not self.source.bdfdir:
            self.change_source(bdfdir=bdfdir)

    # -- what people ask: configurations --------------------------------------------------------------------------

    def _on_create(self, event: CreateAsked) -> None:
        known = self.held(event.name)
        if known is not None and known.phase is not Phase.DESTROYING and self.document(event.name) == event.document:
            self.issue(Answer())  # asked a second time
            return
        refusal = self._why_not(event)
        if not refusal:
            self._create(event)
        self.issue(Answer(refusal=refusal))

    def _why_not(self, event: CreateAsked) -> str:
        known = self.held(event.name)
        if known is not None:
            going = ", which is being destroyed" if known.phase is Phase.DESTROYING else ""
            return f"there is a configuration {event.name} already{going}; choose another name, or destroy it first"
        held = self.all_held()
        if len(held) >= self.settings.configurations:
            return f"{event.name}: {len(held)} configurations exist, which is the limit; destroy some"
        needed, used = memory_of(event.pipes), sum(memory_of(item.pipes) for item in held)
        if needed + used > self.settings.ring_bytes:
            return (
                f"{event.name} needs {needed} bytes of memory for its rings, {self.settings.ring_bytes - used} of "
                f"{self.settings.ring_bytes} are left; destroy configurations, or give the node more (ring_bytes)"
            )
        return ""

    def _create(self, event: CreateAsked) -> None:
        name = event.name
        held = Held(
            name=name,
            phase=Phase.CREATING,
            order=self.sequence,
            pipes=event.pipes,
            slots=event.slots,
            autodestroy=event.autodestroy,
        )
        self.put(f"configuration/{name}", held)
        self.put(f"document/{name}", Document(text=event.document))
        for pipe in event.pipes:
            line = Line(configuration=name, pipe=pipe.name)
            self.put(lane_of(line), line)
        self._create_tables(held)

    def _on_activate(self, event: ActivateAsked) -> None:
        held = self._wanted(event.name)
        if held is None:
            return
        ingest = self.ingest
        if (ingest.queue[-1].name if ingest.queue else ingest.active) != event.name:
            self.change(queue=(*ingest.queue, Wait(event.name, self.sequence)))
            for line in self.lines_of(held):
                if line.stage is Stage.QUARANTINED:  # somebody believes in it
                    line = self.put_line(line, stage=Stage.WAITING, failures=0)
                    if held.phase is Phase.CREATED:
                        self._start_pipeline(line)
            self._advance()
        self.issue(Answer())

    def _on_destroy(self, event: DestroyAsked) -> None:
        held = self._wanted(event.name)
        if held is not None:
            if not held.doomed:
                self.put_held(held, doomed=self.sequence)
                self._collect()
            self.issue(Answer())

    def _on_autodestroy(self, event: AutodestroyAsked) -> None:
        held = self._wanted(event.name)
        if held is not None:
            self.put_held(held, autodestroy=event.autodestroy)
            self.issue(Answer())

    def _wanted(self, name: str) -> Held | None:
        """A configuration that can be asked for something; otherwise the person is told why not."""
        held = self.held(name)
        if held is None:
            names = ", ".join(item.name for item in self.all_held()) or "none"
            self.issue(Answer(refusal=f"there is no configuration {name}; there are: {names}"))
        elif held.phase is Phase.DESTROYING:
            self.issue(Answer(refusal=f"configuration {name} is being destroyed; create it again"))
            return None
        return held

    # -- what people ask: frames ----------------------------------------------------------------------------------

    def _on_source(self, event: SourceAsked) -> None:
        if event.uri != self.source.uri:
            self.change_source(uri=event.uri, on=False)
            self.change(active="", queue=(), flow_told=False)
            for effect in self.outstanding_of(Effect, lane=INGEST_LANE):
                if not isinstance(effect, StartIngest):
                    self.withdraw(effect.id)
            for held in self.all_held():
                self.put_held(held, phase=Phase.DESTROYING, doomed=held.doomed or self.sequence)
            if self.ingest.stage is Stage.RUNNING:
                self.issue(SetSource(run=self.ingest.run, uri=event.uri), lane=INGEST_LANE)
                self._tell_playback()
            else:
                self._remove_doomed()
        self.issue(Answer())

    def _on_flow(self, event: FlowAsked) -> None:
        if event.on and not self.source.uri:
            self.issue(Answer(refusal="no frames can flow without a source; set the source first"))
            return
        self.change_source(on=event.on)
        if not event.on and self.ingest.stage is Stage.RUNNING:
            self.issue(SetFlow(run=self.ingest.run, on=False), lane=INGEST_LANE)
        if not event.on:
            self.change(flow_told=False)
        self._advance()
        self.issue(Answer())

    def _on_playback(self, event: PlaybackAsked) -> None:
        if not self.source.uri.startswith(FILE):
            self.issue(Answer(refusal="rate and times of playback are for a file; set a file as the source first"))
            return
        self.change_source(rate=event.rate, live_timestamps=event.live_timestamps)
        if self.ingest.stage is Stage.RUNNING:
            self._tell_playback()
        self.issue(Answer())

    def _on_framedump(self, event: FramedumpAsked) -> None:
        self.change_source(dump_mode=event.mode, dump_directory=event.directory, dump_size=event.size)
        if self.ingest.stage is Stage.RUNNING:
            self._tell_framedump()
        self.issue(Answer())

    def _on_bdfdir(self, event: BdfdirAsked) -> None:
        self.change_source(bdfdir=event.directory)
        self.issue(Answer())

    # -- the ingest process ---------------------------------------------------------------------------------------

    def _start_ingest(self) -> None:
        ingest = self.change(stage=Stage.STARTING, run=self.ingest.run + 1, since=self.now.wall, flow_told=False)
        self.issue(StartIngest(run=ingest.run), lane=INGEST_LANE)

    def _bring_up(self) -> None:
        """It answers: tell it everything, in order; flow comes last."""
        self.change(stage=Stage.RUNNING)
        if self.source.uri:
            self.issue(SetSource(run=self.ingest.run, uri=self.source.uri), lane=INGEST_LANE)
            self._tell_playback()
        if self.source.dump_mode != "none":
            self._tell_framedump()
        for held in self.all_held():
            if held.phase is Phase.CREATING:
                self._create_tables(held)
        self._advance()

    def _ingest_down(self, reason: str) -> None:
        """It is gone, or as good as: start it again after a pause. Its rings stay, and pipelines go on reading them."""
        if self.ingest.stage not in (Stage.STARTING, Stage.RUNNING):
            return
        for effect in self.outstanding_of(Effect, lane=INGEST_LANE):
            self.withdraw(effect.id)
        failures = self._failures(self.ingest)
        self.change(stage=Stage.RESTARTING, failures=failures, restarts=self.ingest.restarts + 1)
        self._forget_activation()
        for held in self.all_held():
            if held.phase is Phase.CREATED:
                self.put_held(held, phase=Phase.CREATING)
        self._remove_doomed()
        self._collect()
        self.tell("error", f"the ingest process has ended and is started again: {reason}")
        self.arm("ingest", self._pause(failures))

    def _forget_activation(self) -> None:
        """What was active must be activated again, before what waits."""
        ingest = self.ingest
        queue = tuple(msgspec.structs.replace(wait, sent=False) for wait in ingest.queue)
        if ingest.active:
            queue = (Wait(ingest.active, 0), *queue)
        self.change(active="", queue=queue, flow_told=False)

    def _tell_playback(self) -> None:
        source = self.source
        if source.uri.startswith(FILE):
            effect = SetPlayback(run=self.ingest.run, rate=source.rate, live_timestamps=source.live_timestamps)
            self.issue(effect, lane=INGEST_LANE)

    def _tell_framedump(self) -> None:
        source = self.source
        effect = SetFramedump(
            run=self.ingest.run, mode=source.dump_mode, directory=source.dump_directory, size=source.dump_size
        )
        self.issue(effect, lane=INGEST_LANE)

    def _on_ingest_ended(self, event: IngestEnded) -> None:
        if event.run == self.ingest.run:
            self._ingest_down(event.reason)

    def _on_end_of_file(self, event: EndOfFile) -> None:
        if event.run == self.ingest.run and event.uri == self.source.uri:
            self.change_source(uri="", on=False)
            self.change(flow_told=False)
            self.tell("info", f"{event.uri} has been played to its end")

    def _on_ingest_refused(self, event: IngestRefused) -> None:
        if event.run != self.ingest.run:
            return
        what = f"{event.action} {event.name}".rstrip()
        self.tell("error", f"the ingest process refuses {what}: {event.reason}")
        if event.action == "source":
            self.change_source(uri="", on=False)
        elif event.action == "flow":
            self.change_source(on=False)
            self.change(flow_told=False)
        elif event.action == "framedump":
            self.change_source(dump_mode="none")
        held = self.held(event.name)
        if held is None:
            return
        queue = tuple(wait for wait in self.ingest.queue if wait.name != event.name)
        if event.action == "activate":
            queue = tuple(wait for wait in self.ingest.queue if not (wait.sent and wait.name == event.name))
        self.change(queue=queue)
        if event.action != "activate":
            self.put_held(held, phase=Phase.DESTROYING, doomed=held.doomed or self.sequence)
            self._remove_doomed()
        self._collect()
        self._advance()

    # -- configurations -------------------------------------------------------------------------------------------

    def _create_tables(self, held: Held) -> None:
        if self.ingest.stage is Stage.RUNNING:
            self.issue(CreateTables(run=self.ingest.run, name=held.name), lane=INGEST_LANE)

    def _created(self, name: str) -> None:
        """Its rings are there: its pipelines can read them."""
        held = self.held(name)
        if held is None or held.phase is not Phase.CREATING:
            return
        self.put_held(held, phase=Phase.CREATED)
        for line in self.lines_of(held):
            if line.stage is Stage.WAITING:
                self._start_pipeline(line)
        self._collect()
        self._advance()

    def _advance(self) -> None:
        """Send the first activation that waits when all is ready for it; then let frames flow."""
        ingest = self.ingest
        if ingest.stage is not Stage.RUNNING:
            return
        if ingest.queue and not ingest.queue[0].sent:
            first = ingest.queue[0]
            held = self.held(first.name)
            if held is None or held.phase is not Phase.CREATED:
                return
            if any(line.stage not in SETTLED for line in self.lines_of(held)):
                return
            # The recordings first, so that none of its frames comes before them.
            self.enlist(first.name, self.open_recordings())
            told = [effect.id for line in self.lines_of(held) for effect in self.outstanding_of(Effect, lane_of(line))]
            self.issue(Activate(run=ingest.run, name=first.name), lane=INGEST_LANE, after=told)
            ingest = self.change(queue=(msgspec.structs.replace(first, sent=True), *ingest.queue[1:]))
        if self.source.on and not ingest.flow_told:
            self.change(flow_told=True)
            self.issue(SetFlow(run=ingest.run, on=True), lane=INGEST_LANE)

    def _on_activated(self, event: Activated) -> None:
        ingest = self.ingest
        first = ingest.queue[0] if ingest.queue else None
        if event.run != ingest.run or first is None or not first.sent or first.name != event.name:
            return
        before = ingest.active
        self.change(active=event.name, queue=ingest.queue[1:])
        previous = self.held(before)
        if previous is not None and before != event.name and previous.autodestroy and not previous.doomed:
            self.put_held(previous, doomed=self.sequence)
        self._collect()
        self._advance()

    def _collect(self) -> None:
        """Destroy what nobody wants and nothing needs any more."""
        ingest = self.ingest
        in_use = {ingest.active, *(wait.name for wait in ingest.queue)}
        for held in self.all_held():
            if held.doomed and held.name not in in_use and held.phase is not Phase.DESTROYING:
                self.put_held(held, phase=Phase.DESTROYING)
                if ingest.stage is Stage.RUNNING:
                    self.issue(Destroy(run=ingest.run, name=held.name), lane=INGEST_LANE)
                else:
                    self._remove(held)

    def _on_destroyed(self, event: Destroyed) -> None:
        held = self.held(event.name)
        if event.run == self.ingest.run and held is not None and held.phase is Phase.DESTROYING:
            self._remove(held)

    def _remove_doomed(self) -> None:
        """The ingest process knows nothing of these any more."""
        for held in self.all_held():
            if held.phase is Phase.DESTROYING:
                self._remove(held)

    def _remove(self, held: Held) -> None:
        """Frames do not reach its rings any more: end its pipelines, then forget it."""
        for line in self.lines_of(held):
            if line.stage is Stage.ENDING:
                continue
            self.cancel(lane_of(line))
            if line.stage in (Stage.STARTING, Stage.RUNNING):
                for effect in self.outstanding_of(StartPipeline, lane=lane_of(line)):
                    self.withdraw(effect.id)
                self.put_line(line, stage=Stage.ENDING)
                self.issue(StopPipeline(configuration=line.configuration, pipe=line.pipe), lane=lane_of(line))
            else:
                self.strike(line, "")
                self.drop(lane_of(line))
        self._forget_if_empty(held.name)

    def _forget_if_empty(self, name: str) -> None:
        held = self.held(name)
        if held is not None and held.phase is Phase.DESTROYING and not self.lines_of(held):
            self._drop(held)

    def _drop(self, held: Held) -> None:
        for line in self.lines_of(held):
            self.strike(line, "")
            self.drop(lane_of(line))
        self.drop(f"configuration/{held.name}")
        self.drop(f"document/{held.name}")

    # -- lag pipelines --------------------------------------------------------------------------------------------

    def _start_pipeline(self, line: Line) -> None:
        line = self.put_line(line, stage=Stage.STARTING, run=line.run + 1, since=self.now.wall)
        effect = StartPipeline(configuration=line.configuration, pipe=line.pipe, run=line.run)
        self.issue(effect, lane=lane_of(line))

    def _pipeline_up(self, name: str, pipe: str) -> None:
        line = self.line(name, pipe)
        if line is not None and line.stage is Stage.STARTING:
            self.resume(self.put_line(line, stage=Stage.RUNNING))
            self._advance()

    def _on_pipeline_ended(self, event: PipelineEnded) -> None:
        self._pipeline_down(event.configuration, event.pipe, event.run, event.reason)

    def _pipeline_down(self, name: str, pipe: str, run: int, reason: str) -> None:
        """It is gone though nobody told it to: start it again, unless it has failed too often."""
        line = self.line(name, pipe)
        if line is None or line.run != run or line.stage not in (Stage.STARTING, Stage.RUNNING):
            return
        for effect in self.outstanding_of(Effect, lane=lane_of(line)):
            self.withdraw(effect.id)
        failures = self._failures(line)
        line = self.put_line(line, stage=Stage.RESTARTING, failures=failures, restarts=line.restarts + 1)
        if failures >= self.settings.quarantine_after:
            self.put_line(line, stage=Stage.QUARANTINED)
            self.strike(line, f"the pipeline has failed {failures} times: {reason}")
            self.tell(
                "error", f"pipeline {name}/{pipe} has failed {failures} times and is left alone: {reason}; activate {name}"
                " again when that is put right"
            )  # fmt: skip
            self._advance()
            return
        self.tell("warning", f"pipeline {name}/{pipe} has ended and is started again: {reason}")
        self.arm(lane_of(line), self._pause(failures))

    def _pipeline_gone(self, name: str, pipe: str) -> None:
        """It has ended as it was told."""
        line = self.line(name, pipe)
        if line is not None and line.stage is Stage.ENDING:
            self.strike(line, "")
            self.drop(lane_of(line))
            self._forget_if_empty(name)

    # -- changes --------------------------------------------------------------------------------------------------

    def _failures(self, process: Ingest | Line) -> int:
        """Failures in a row, this one counted."""
        return 1 if self.now.wall - process.since > self.settings.stable_seconds else process.failures + 1

    def _pause(self, failures: int) -> float:
        return min(self.settings.first_pause * 2.0 ** (min(failures, 32) - 1), self.settings.longest_pause)

    def check(self) -> None:
        """What must hold after every event; see the top of this module."""
        check_node(self)


_ANSWERS: Mapping[type[Event], Callable[[NodeMachine, Any], None]] = {
    CreateAsked: NodeMachine._on_create,
    ActivateAsked: NodeMachine._on_activate,
    DestroyAsked: NodeMachine._on_destroy,
    AutodestroyAsked: NodeMachine._on_autodestroy,
    SourceAsked: NodeMachine._on_source,
    FlowAsked: NodeMachine._on_flow,
    PlaybackAsked: NodeMachine._on_playback,
    FramedumpAsked: NodeMachine._on_framedump,
    BdfdirAsked: NodeMachine._on_bdfdir,
    RecordAsked: NodeMachine.on_record,
    StopAsked: NodeMachine.on_stop,
    Activated: NodeMachine._on_activated,
    Destroyed: NodeMachine._on_destroyed,
    EndOfFile: NodeMachine._on_end_of_file,
    IngestRefused: NodeMachine._on_ingest_refused,
    IngestEnded: NodeMachine._on_ingest_ended,
    PipelineEnded: NodeMachine._on_pipeline_ended,
    RecordingDone: NodeMachine.on_recording_done,
    FrameTimeRead: NodeMachine.on_frame_time,
}
