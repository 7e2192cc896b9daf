"""A node's state as people, clients and pipelinefs see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socs_bl.core.errors import Refused
from socs_bl.correlator.invariants import memory_of
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import Held, Line, Phase, Recording
from socs_bl.correlator.pipeline import parse_pipeline
from socs_bl.correlator.recordings import integrations_of

Status = Mapping[str, Any]
INPUT_STAGE = "INPUT_STAGE"
RECORDINGS_SHOWN = 20
KINDS = {"udp": "udp", "file": "file"}


def overview(
    machine: NodeMachine, name: str, ingest: Status, pipelines: Mapping[tuple[str, str], Status]
) -> dict[str, Any]:
    """The session data of `run`.

    Parameters
    ----------
    machine : NodeMachine
    name : str
        Of the instance.
    ingest : mapping
        What the ingest process last said; empty while it does not run.
    pipelines : mapping
        What the lag pipelines last said, by configuration and pipe.
    """
    source = machine.source
    return {
        "name": name,
        "source": {
            "uri": source.uri,
            "kind": KINDS.get(source.uri.partition(":")[0], ""),
            "live_timestamps": source.live_timestamps,
            "rate": source.rate,
        },
        "flow": "on" if source.on else "off",
        "active": machine.ingest.active or None,
        "pending": pending(machine),
        "configurations": {held.name: _configuration(machine, held, pipelines) for held in machine.all_held()},
        "input_stage": input_stage(machine, ingest),
        "bdfdir": source.bdfdir,
        "framedump": {"mode": source.dump_mode, "directory": source.dump_directory, "size": source.dump_size},
        "counters": counters(ingest, pipelines),
        "boards": dict(ingest.get("boards", {})),
        "last_bad": dict(ingest.get("last_bad", {})),
        "recordings": {item.uid: described(item) for item in machine.all_recordings()[-RECORDINGS_SHOWN:]},
        "ingest": {"state": machine.ingest.stage.value, "restarts": machine.ingest.restarts},
        "memory": {
            "used": sum(memory_of(held.pipes) for held in machine.all_held()),
            "limit": machine.settings.ring_bytes,
        },
    }


def feed_values(machine: NodeMachine, ingest: Status, pipelines: Mapping[tuple[str, str], Status]) -> dict[str, Any]:
    """A sample of the numeric feed; what the ingest process does not say is 0."""
    numbers = counters(ingest, pipelines)
    sample: dict[str, Any] = {
        name: numbers.get(name, 0) for name in ("frames", "bad", "unknown", "duplicate", "late", "missing", "dropped")
    }
    return {
        **sample,
        "actual_rate": ingest.get("actual_rate", 0.0),
        "integrations": numbers.get("pipelines_integrations", 0),
        "flowing": int(bool(ingest.get("flowing"))),
        "recordings": len(machine.open_recordings()),
    }


def pending(machine: NodeMachine) -> list[list[str]]:
    """What was asked and is not done, as ``[action, configuration]``, in the order of asking."""
    waiting = [(wait.order, "activate", wait.name) for wait in machine.ingest.queue]
    for held in machine.all_held():
        if held.phase is Phase.CREATING:
            waiting.append((held.order, "create", held.name))
        if held.doomed:
            waiting.append((held.doomed, "destroy", held.name))
    return [[action, name] for _, action, name in sorted(waiting)]


def described(recording: Recording) -> dict[str, Any]:
    """One recording."""
    return {
        "state": "done" if recording.closed else "open",
        "start_ns": recording.start_ns,
        "stop_ns": recording.stop_ns,
        "directory": recording.directory,
        "integrations": integrations_of(recording),
        "dropped": sum(writer.dropped for writer in recording.writers.values()),
        "reason": "; ".join(writer.error for writer in recording.writers.values() if writer.error) or recording.reason,
        "writers": {key: "open" if writer.open else writer.ending for key, writer in recording.writers.items()},
    }


def counters(ingest: Status, pipelines: Mapping[tuple[str, str], Status]) -> dict[str, Any]:
    """The numbers of all processes: of ingest as they are, of the pipelines together."""
    totals: dict[str, int] = {}
    for status in pipelines.values():
        for key, value in status.get("counters", {}).items():
            totals[key] = totals.get(key, 0) + int(value)
    numbers = {key: value for key, value in ingest.get("counters", {}).items() if isinstance(value, int | float)}
    return {**{f"pipelines_{key}": value for key, value in totals.items()}, **numbers}


def input_stage(machine: NodeMachine, ingest: Status) -> dict[str, Any]:
    """The elements of the input stage and their properties."""
    source, numbers = machine.source, ingest.get("counters", {})
    return {
        "src": {
            "uri": source.uri,
            "actual-rate": ingest.get("actual_rate", 0.0),
            "num-frames": numbers.get("frames", 0),
            "fps": source.rate,
            "live-timestamps": source.live_timestamps,
            "widar-max-framesize": ingest.get("max_frame_bytes", 0),
        },
        "framedump": {"mode": source.dump_mode, "directory": source.dump_directory, "size": source.dump_size},
        "decode": {key: value for key, value in numbers.items() if isinstance(value, int | float)},
        "assembly": dict(ingest.get("assembly", {})),
    }


def _configuration(machine: NodeMachine, held: Held, pipelines: Mapping[tuple[str, str], Status]) -> dict[str, Any]:
    active = held.name == machine.ingest.active
    texts = {pipe.name: pipe.text for pipe in held.pipes}
    return {
        "autodestroy": held.autodestroy,
        "state": "active" if active else held.phase.value,
        "pipelines": {
            line.pipe: _pipeline(line, texts[line.pipe], pipelines.get((held.name, line.pipe), {}))
            for line in machine.lines_of(held)
        },
    }


def _pipeline(line: Line, text: str, status: Status) -> dict[str, Any]:
    return {
        "text": text,
        "state": line.stage.value,
        "restarts": line.restarts,
        "elements": status.get("elements") or _elements(text),
    }


def _elements(text: str) -> list[dict[str, Any]]:
    """The elements as the text has them, while their process says nothing."""
    try:
        elements = parse_pipeline(text)
    except Refused:  # of a version that knew other elements
        return []
    return [{"name": item.kind, "kind": item.kind, "properties": dict(item.properties)} for item in elements]
