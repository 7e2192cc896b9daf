"""What a node's journal says, in words."""

from __future__ import annotations

from collections.abc import Callable

from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.core.explain import Teller
from socs_bl.core.walk import Change
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import Activated, CreateAsked, IngestEnded, PipelineEnded, RecordingDone, Tell


class NodeTeller(Teller[NodeMachine]):
    """Knows configurations, pipelines (``CONFIGURATION/PIPE``), recordings (by uid), ``source`` and ``ingest``."""

    def concerns(self, machine: NodeMachine, subject: str) -> Callable[[Change], bool]:
        """Which changes a subject is about."""
        keys = _keys(subject)
        return lambda change: change.key in keys

    def standing(self, machine: NodeMachine, subject: str) -> list[str]:
        """How it stands now."""
        found = [machine.cells[key] for key in _keys(subject) if key in machine.cells]
        return [self.part(part) for part in found] or ["is not in the present state"]

    def event(self, event: Event) -> str:
        """What happened; a document is not told in full."""
        match event:
            case CreateAsked(name=name, pipes=pipes):
                return f"configuration {name} with {len(pipes)} pipelines was brought"
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


def _keys(subject: str) -> tuple[str, ...]:
    if not subject:
        raise Refused("say what is to be explained: a configuration, CONFIGURATION/PIPE, a uid, source or ingest")
    return (subject, f"configuration/{subject}", f"pipeline/{subject}", f"recording/{subject}")
