"""A simulated node: an ingest process and lag pipelines that obey, with rings between them, on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from socs_bl.core.driver import Caused
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import (
    Activate,
    Activated,
    CreateTables,
    Destroy,
    Destroyed,
    FrameTimeRead,
    IngestEnded,
    PipelineEnded,
    PipeText,
    ReadFrameTime,
    RecordAsked,
    RecordingDone,
    SendRecording,
    SendStop,
    SetFlow,
    SetSource,
    StartIngest,
    StartPipeline,
    StopPipeline,
    Tell,
    WriteMarker,
)
from tests.harness.simulation import EPOCH, Failed, Simulation

DUMP = 0.5  # seconds
NS = 10**9
SETTINGS = {"node": "cbe-01", "ring_bytes": 1000, "frame_patience": 5.0, "stable_seconds": 20.0, "quarantine_after": 3}


def wall_ns(at: float) -> int:
    """Virtual time as Unix ns."""
    return round((EPOCH + at) * NS)


def pipes(*names: str, ring_bytes: int = 10) -> tuple[PipeText, ...]:
    """Pipelines of a configuration."""
    return tuple(PipeText(name, "flag ! integrate ! dvnorm ! fft ! bdf", ring_bytes) for name in names)


def record_asked(number: int, start: float, stop: float = 0.0) -> RecordAsked:
    """A scan from `start` to `stop`, virtual seconds; open when there is no stop."""
    uid = f"uid:///evla/bdf/{number}"
    stop_ns = wall_ns(stop) if stop else 0
    return RecordAsked(uid=uid, scan=json.dumps({"uid": uid}), start_ns=wall_ns(start), stop_ns=stop_ns)


@dataclass
class Ingest:
    """An ingest process: configurations, commands that wait for frames, and what is active."""

    run: int
    configurations: set[str] = field(default_factory=set)
    queue: list[tuple[str, str]] = field(default_factory=list)
    active: str = ""
    flow: bool = False
    newest: float = 0.0


@dataclass
class Pipe:
    """A lag pipeline: recordings by uid, as (start, stop, integrations)."""

    run: int
    recordings: dict[str, list[int]] = field(default_factory=dict)


class Plant:
    """The world. All processes die with the shell."""

    simulation: Simulation[NodeMachine]

    def __init__(self) -> None:
        self.ingest: Ingest | None = None
        self.pipes: dict[tuple[str, str], Pipe] = {}
        self.rings: set[str] = set()
        self.sending = True
        self.refuses: set[str] = set()
        self.broken: set[tuple[str, str]] = set()  # pipelines that end as soon as they start
        self.activations: list[str] = []
        self.written: dict[str, list[tuple[str, str, float]]] = {}
        self.in_force: dict[float, str] = {}
        self.markers: dict[str, list[WriteMarker]] = {}
        self.told: list[str] = []
        self.wrongs: list[str] = []

    # -- what the machine wants -----------------------------------------------------------------------------------

    def perform(self, effect: Effect, now: float) -> list[tuple[float, Event]] | None:
        """Obey, as the processes do."""
        match effect:
            case StartIngest(run=run):
                self.ingest = Ingest(run)
            case SetSource() | SetFlow() | CreateTables() | Activate() | Destroy():
                self._command(effect)
            case StartPipeline(configuration=name, pipe=pipe, run=run):
                if (name, pipe) in self.broken:
                    raise Failed("ended before it answered")
                if name not in self.rings:
                    self.wrongs.append(f"{name}/{pipe} was started without a ring")
                self.pipes[name, pipe] = Pipe(run)
            case StopPipeline(configuration=name, pipe=pipe):
                self._end_all((name, pipe), "told")
                self.pipes.pop((name, pipe), None)
            case SendRecording(uid=uid):
                found = self._pipe(effect.configuration, effect.pipe, effect.run)
                kept = found.recordings.get(uid, [0, 0, 0])
                start = RECORDED[uid][0]
                found.recordings[uid] = [start, effect.stop_ns, kept[2]]
            case SendStop(uid=uid, stop_ns=stop_ns):
                found = self._pipe(effect.configuration, effect.pipe, effect.run)
                if uid in found.recordings and stop_ns:
                    found.recordings[uid][1] = stop_ns
                elif uid in found.recordings:
                    self._done((effect.configuration, effect.pipe), uid, "told")
            case WriteMarker(uid=uid):
                self.markers.setdefault(uid, []).append(effect)
            case ReadFrameTime(uid=uid):
                newest = self.ingest.newest if self.ingest else 0.0
                flowing = self.ingest is not None and self.ingest.flow and self.sending
                return [(0.001, FrameTimeRead(uid=uid, newest_ns=wall_ns(newest), flowing=flowing))]
            case Tell(text=text):
                self.told.append(text)
        return []

    def _command(self, effect: Any) -> None:
        ingest = self.ingest
        if ingest is None or effect.run != ingest.run:
            raise Failed("nobody listens there")
        match effect:
            case SetSource():
                self._flush(ingest.active)
                self.ingest = Ingest(ingest.run)
            case SetFlow(on=on):
                ingest.flow = on
            case CreateTables(name=name):
                ingest.configurations.add(name)
                self.rings.add(name)
                if any(key[0] == name for key in self.pipes):  # the rings of before: what was open there is lost
                    self._flush(name)
            case Activate(name=name):
                ingest.queue.append(("activate", name))
                if name not in ingest.configurations:
                    self.wrongs.append(f"{name} activated before it was made")
            case Destroy(name=name):
                ingest.queue.append(("destroy", name))
                self._obey(frames=False)

    def _pipe(self, name: str, pipe: str, run: int) -> Pipe:
        found = self.pipes.get((name, pipe))
        if found is None or found.run != run:
            raise Failed("does not run")
        return found

    # -- frames ---------------------------------------------------------------------------------------------------

    def tick(self, at: float) -> None:
        """The dump that begins at `at` comes."""
        self.simulation.call(at + DUMP, lambda: self.tick(at + DUMP))
        if self.simulation.shell is None:
            self.kill_all()
        ingest = self.ingest
        if ingest is None or not ingest.flow or not self.sending:
            return
        self._obey(frames=True)
        ingest.newest = at
        if not ingest.active:
            return
        self.in_force[at] = ingest.active
        for key in [key for key in self.pipes if key[0] == ingest.active]:
            for uid, (start, stop, _) in list(self.pipes[key].recordings.items()):
                if start <= wall_ns(at) and (not stop or wall_ns(at + DUMP) <= stop):
                    self.pipes[key].recordings[uid][2] += 1
                    self.written.setdefault(uid, []).append((*key, at))
                if stop and wall_ns(at + DUMP) >= stop:
                    self._done(key, uid, "stop")

    def _obey(self, frames: bool) -> None:
        """Take commands in, in order; an activation needs frames."""
        ingest = self.ingest
        assert ingest is not None
        while ingest.queue and (frames or ingest.queue[0][0] == "destroy"):
            action, name = ingest.queue.pop(0)
            if action == "destroy":
                if name == ingest.active:
                    self.wrongs.append(f"{name} destroyed while it was active")
                ingest.configurations.discard(name)
                self._say(Destroyed(run=ingest.run, name=name))
                continue
            self._flush(ingest.active)
            previous, ingest.active = ingest.active, name
            self.activations.append(name)
            self._say(Activated(run=ingest.run, name=name, previous=previous, cut_ns=1))

    # -- ends -----------------------------------------------------------------------------------------------------

    def kill_all(self) -> None:
        """The agent is gone, and all with it."""
        self.ingest, self.pipes, self.rings = None, {}, set()

    def kill_ingest(self) -> None:
        """Somebody kills the ingest process; nothing happens when there is none."""
        if self.ingest is not None:
            run, self.ingest = self.ingest.run, None
            self._say(IngestEnded(run=run, reason="signal 9"))

    def kill_pipe(self, name: str, pipe: str) -> None:
        """Somebody kills a pipeline."""
        found = self.pipes.pop((name, pipe), None)
        if found is not None:
            self._say(PipelineEnded(configuration=name, pipe=pipe, run=found.run, reason="signal 11"))

    def _flush(self, name: str) -> None:
        for key in [key for key in self.pipes if key[0] == name]:
            self._end_all(key, "flush")

    def _end_all(self, key: tuple[str, str], ending: str) -> None:
        for uid in list(self.pipes[key].recordings) if key in self.pipes else []:
            self._done(key, uid, ending)

    def _done(self, key: tuple[str, str], uid: str, ending: str) -> None:
        pipe = self.pipes[key]
        _, _, count = pipe.recordings.pop(uid)
        self._say(
            RecordingDone(
                configuration=key[0], pipe=key[1], run=pipe.run, uid=uid, integrations=count, dropped=0, error="",
                ending=ending,
            )
        )  # fmt: skip

    def _say(self, event: Event) -> None:
        """Tell the shell of this life, if it still lives then."""
        life = self.simulation.shell

        def deliver() -> None:
            if life is not None and self.simulation.shell is life:
                life.take(Caused(event))

        self.simulation.call(self.simulation.time + 0.002, deliver)

    def write(self, command: tuple[str, ...], now: float) -> list[tuple[float, Event]]:
        """Nothing rides in commits of a node."""
        raise AssertionError(command)

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """A new life: no process is there."""
        self.kill_all()
        return {"settings": SETTINGS, "bdfdir": "/bdf/.private", "default_document": "<config/>"}


RECORDED = {
    event.uid: (event.start_ns, event.stop_ns)
    for event in (
        record_asked(1, 10.0, 20.0),
        record_asked(2, 25.0, 45.0),
        record_asked(3, 50.0),
        record_asked(4, 130.0, 140.0),
    )
}
