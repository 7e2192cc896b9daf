"""What a node's journal says, in words."""

from __future__ import annotations

from collections.abc import Callable

from socs_bl.core.clock import iso_utc
from socs_bl.core.codec import Part
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.core.explain import Teller
from socs_bl.core.walk import Change
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import (
    Activated,
    CreateAsked,
    Document,
    Held,
    Ingest,
    IngestEnded,
    Line,
    PipelineEnded,
    RecordAsked,
    Recording,
    RecordingDone,
    Source,
    SourceAsked,
    StopAsked,
    Tell,
)

LATER = "when its pipelines are up and what was asked before it is done"


class NodeTeller(Teller[NodeMachine]):
    """Knows configurations, pipelines (``CONFIGURATION/PIPE``), recordings (by uid), ``source`` and ``ingest``."""

    def concerns(self, machine: NodeMachine, subject: str) -> Callable[[Change], bool]:
        """Which changes a subject is about."""
        keys = _keys(subject)
        return lambda change: change.key in keys

    def standing(self, machine: NodeMachine, subject: str) -> list[str]:
        """How it stands now; a configuration with its pipelines and what its activation waits for."""
        lines = []
        for part in [machine.cells[key] for key in _keys(subject) if key in machine.cells]:
            lines.append(self.part(part))
            if isinstance(part, Held):
                lines += [self.part(line) for line in machine.lines_of(part)]
                if machine.ingest.active == part.name:
                    lines.append("is active")
                waits = [wait for wait in machine.ingest.queue if wait.name == part.name]
                lines += [f"becomes active {'with the next frames' if wait.sent else LATER}" for wait in waits]
        return lines or ["is not in the present state"]

    def part(self, part: Part) -> str:
        """Cells in words."""
        match part:
            case Held(name=name, phase=phase, pipes=pipes, doomed=doomed):
                after = ", to be destroyed" if doomed else ", destroyed after use" if part.autodestroy else ""
                return f"configuration {name} is {phase.value}, {len(pipes)} pipelines{after}"
            case Line(configuration=name, pipe=pipe, stage=stage, restarts=restarts):
                return f"pipeline {name}/{pipe} is {stage.value}, {restarts} restarts"
            case Ingest(stage=stage, restarts=restarts, active=active, queue=queue):
                waiting = f", then {', '.join(wait.name for wait in queue)}" if queue else ""
                return (
                    f"the ingest process is {stage.value}, {restarts} restarts; active: {active or 'nothing'}{waiting}"
                )
            case Source(uri=uri, on=on):
                return f"frames come from {uri or 'nowhere'}, the flow is {'on' if on else 'off'}"
            case Document(text=text):
                return f"a document of {len(text)} characters"
            case Recording():
                return _recording(part)
        return super().part(part)

    def event(self, event: Event) -> str:
        """What happened; a document is not told in full."""
        match event:
            case CreateAsked(name=name, pipes=pipes):
                return f"configuration {name} with {len(pipes)} pipelines was brought"
            case RecordAsked(uid=uid, start_ns=start_ns):
                return f"a recording of {uid} from {iso_utc(start_ns / 1e9)} on was asked for"
            case StopAsked(uid=uid, stop_ns=stop_ns, reason=reason):
                when = f"at {iso_utc(stop_ns / 1e9)}" if stop_ns else "at once"
                return f"the end of {uid} {when} was asked for" + (f" ({reason})" if reason else "")
            case SourceAsked(uri=uri):
                return f"frames from {uri or 'nowhere'} were asked for"
            case Activated(name=name, previous=previous, cut_ns=cut):
                return f"frames after {cut} ns belong to {name}, before that to {previous or 'nobody'}"
            case IngestEnded(reason=reason):
                return f"the ingest process ended: {reason}"
            case PipelineEnded(configuration=name, pipe=pipe, reason=reason):
                return f"pipeline {name}/{pipe} ended: {reason}"
            case RecordingDone(uid=uid, integrations=count, ending=ending, error=error):
                return (
                    f"{event.configuration}/{event.pipe} has written {count} integrations of {uid} ({error or ending})"
                )
        return super().event(event)

    def said(self, effect: Effect) -> str:
        """What people were told."""
        return effect.text if isinstance(effect, Tell) else ""


def _recording(recording: Recording) -> str:
    end = f"to {iso_utc(recording.stop_ns / 1e9)}" if recording.stop_ns else "without an end"
    state = "over" if recording.closed else "open"
    parts = [
        f"{key} {'writes' if writer.open else f'wrote {writer.integrations} ({writer.error or writer.ending})'}"
        for key, writer in recording.writers.items()
    ]
    return f"recording from {iso_utc(recording.start_ns / 1e9)} {end} is {state}: {', '.join(parts) or 'nobody writes'}"


def _keys(subject: str) -> tuple[str, ...]:
    if not subject:
        raise Refused("say what is to be explained: a configuration, CONFIGURATION/PIPE, a uid, source or ingest")
    return (subject, f"configuration/{subject}", f"pipeline/{subject}", f"recording/{subject}")
