"""Carries out what a node's machine wants: processes, what they are told, and markers. Runs in the reactor."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults

from socs_bl.bdf.scan import file_name
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry, SocsError
from socs_bl.core.event import Event
from socs_bl.core.whole_file import write_whole
from socs_bl.correlator.children import NodeProcess
from socs_bl.correlator.config import NodeConfig
from socs_bl.correlator.model import (
    Activate,
    Activated,
    CreateTables,
    Destroy,
    Destroyed,
    EndOfFile,
    FrameTimeRead,
    Held,
    IngestEnded,
    IngestRefused,
    Line,
    PipelineEnded,
    ReadFrameTime,
    Recording,
    RecordingDone,
    SendRecording,
    SendStop,
    SetFlow,
    SetFramedump,
    SetPlayback,
    SetSource,
    Stage,
    StartIngest,
    StartPipeline,
    StopPipeline,
    Tell,
    WriteMarker,
)
from socs_bl.correlator.workdir import WorkDirectory

INGEST = "socs_bl.correlator.ingest"
PIPELINE = "socs_bl.correlator.lagset_pipeline"
STATUS_SECONDS = 2.0
STOP_SECONDS = 2.0
Status = Mapping[str, Any]
Message = tuple[str, dict[str, Any]]


class Performer:
    """The processes of a node.

    Parameters
    ----------
    node : str
        What markers and the ingest process are called.
    config : NodeConfig
    workdir : WorkDirectory
    reactor : Any
    feed : callable
        Takes events that nobody waits for.
    alert : callable
        Tells people: level, text.
    held, document : callable
        A configuration, and its text, by name.
    recordings : callable
        What a pipeline records: configuration, pipe.
    in_thread : callable
        ``await in_thread(function, *args)`` calls what blocks.
    """

    def __init__(
        self,
        node: str,
        config: NodeConfig,
        workdir: WorkDirectory,
        reactor: Any,
        feed: Callable[[Event], None],
        alert: Callable[[str, str], None],
        held: Callable[[str], Held | None],
        document: Callable[[str], str | None],
        recordings: Callable[[str, str], Sequence[Recording]],
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        self._node, self._config, self._workdir, self._reactor = node, config, workdir, reactor
        self._feed, self._alert, self._held, self._document = feed, alert, held, document
        self._recordings, self._in_thread = recordings, in_thread
        self._ingest: NodeProcess | None = None
        self._pipelines: dict[tuple[str, str], NodeProcess] = {}
        self._sockets = 0

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Carry out one effect.

        Raises
        ------
        Retry, Faulty
            When a process does not do it.
        Refused
            When the effect is not known.
        """
        match effect:
            case StartIngest():
                await self._start_ingest(effect)
            case StartPipeline():
                await self._start_pipeline(effect)
            case StopPipeline(configuration=name, pipe=pipe):
                process = self._pipelines.pop((name, pipe), None)
                if process is not None:
                    await process.quit(self._config.end_seconds)
            case SendRecording():
                return await self._send_recording(effect)
            case SendStop(uid=uid, stop_ns=stop_ns, reason=reason):
                process = self._pipeline(effect.configuration, effect.pipe)
                await process.ask("WCBE_RECORDING_STOP_MSG", uid=uid, stop_ns=stop_ns, reason=reason)
            case WriteMarker():
                await self._in_thread(self._write_marker, effect)
            case ReadFrameTime(uid=uid):
                status = await self._running().ask("WCBE_STATUS_MSG", "query")
                newest, flowing = int(status.get("newest_ns", 0)), bool(status.get("flowing"))
                return [FrameTimeRead(uid=uid, newest_ns=newest, flowing=flowing)]
            case Tell(level=level, text=text):
                self._alert(level, text)
            case _:
                return await self._tell_ingest(effect)
        return []

    # -- ingest ---------------------------------------------------------------------------------------------------

    async def _tell_ingest(self, effect: Effect) -> Sequence[Event]:
        """What it refuses it will refuse again; whoever asked is told."""
        action, name, messages = await self._in_words(effect)
        try:
            for type, fields in messages:
                await self._running().ask(type, timeout=effect.deadline, **fields)
        except Refused as error:
            run: int = getattr(effect, "run", 0)
            return [IngestRefused(run=run, action=action, name=name, reason=str(error))]
        return []

    async def _in_words(self, effect: Effect) -> tuple[str, str, list[Message]]:
        """Action, configuration, and the messages that mean an effect."""
        match effect:
            case SetSource(uri=uri):
                return "source", "", [("WCBE_SRC_MSG", {"uri": uri})]
            case SetFlow(on=on):
                return "flow", "", [("WCBE_FLOW_MSG", {"flow": "on" if on else "off"})]
            case SetPlayback(rate=rate, live_timestamps=live):
                messages: list[Message] = [("WCBE_RATE_MSG", {"rate": rate})]
                return "playback", "", [*messages, ("WCBE_LIVE_TS_MSG", {"live_timestamps": live})]
            case SetFramedump(mode=mode, directory=directory, size=size):
                fields = {"mode": mode, "directory": directory, "size": size}
                return "framedump", "", [("WCBE_FRAMEDUMP_MSG", fields)]
            case CreateTables(name=name):
                return "create", name, [("WCBE_CONFIG_CREATE_MSG", await self._description(name))]
            case Activate(name=name):
                return "activate", name, [("WCBE_CONFIG_ACTIVATE_MSG", {"name": name})]
            case Destroy(name=name):
                return "destroy", name, [("WCBE_CONFIG_DESTROY_MSG", {"name": name})]
        raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")

    async def _description(self, name: str) -> dict[str, Any]:
        held, document = self._held(name), self._document(name)
        if held is None or document is None:
            raise Retry(f"configuration {name} is gone")
        await self._in_thread(self._workdir.document(name).write_text, document, "utf-8")
        rings = {pipe.name: str(self._workdir.ring(name, pipe.name)) for pipe in held.pipes}
        return {"name": name, "desc": document, "rings": rings, "slots": held.slots}

    async def _start_ingest(self, effect: StartIngest) -> None:
        if self._ingest is not None:
            self._ingest.kill()
        run = effect.run
        socket = self._next_socket()
        self._ingest = process = NodeProcess(
            self._reactor,
            "ingest",
            INGEST,
            ["--name", self._node, "--control", str(socket), "--sockdir", str(self._workdir.path)],
            socket,
            self._workdir.log("ingest"),
            lambda report: self._hear_ingest(run, report),
            lambda reason: self._feed(IngestEnded(run=run, reason=reason)),
        )
        await self._answering(process, "WCBE_NAME_MSG")

    def _hear_ingest(self, run: int, report: dict[str, Any]) -> None:
        match report.get("type"):
            case "WCBE_CONFIG_ACTIVATED":
                name, previous = str(report["name"]), str(report.get("previous") or "")
                self._feed(Activated(run=run, name=name, previous=previous, cut_ns=int(report.get("cut_ns") or 0)))
            case "WCBE_CONFIG_DESTROYED":
                self._feed(Destroyed(run=run, name=str(report["name"])))
            case "WCBE_END_OF_FILE":
                self._feed(EndOfFile(run=run, uri=str(report["uri"])))
            case "WCBE_BUS_MSG":
                self._hear_bus(report)

    def _hear_bus(self, report: Mapping[str, Any]) -> None:
        level = str(report.get("severity"))
        text = f"{report.get('src')}: {report.get('text')}"
        self._alert(level if level in ("info", "warning", "error") else "warning", text)

    # -- lag pipelines --------------------------------------------------------------------------------------------

    async def _start_pipeline(self, effect: StartPipeline) -> None:
        name, pipe, run = effect.configuration, effect.pipe, effect.run
        old = self._pipelines.pop((name, pipe), None)
        if old is not None:
            old.kill()
        held = self._held(name)
        text = next((item.text for item in held.pipes if item.name == pipe), None) if held is not None else None
        if text is None:
            raise Retry(f"configuration {name} is gone")
        socket = self._next_socket()
        arguments = [
            "--input",
            str(self._workdir.ring(name, pipe)),
            "--configuration",
            str(self._workdir.document(name)),
        ]
        arguments += ["--pipe", pipe, "--control", str(socket), "--name", f"{name}/{pipe}"]
        recordings = self._workdir.recordings(name, pipe)
        wanted = [_wanted(item.scan, item.stop_ns, item.directory) for item in self._recordings(name, pipe)]
        recordings.write_bytes(msgspec.json.encode(wanted))
        arguments += ["--recordings", str(recordings)]
        lag_sets = self._config.bls_directory or self._workdir.path.parent / f"{self._node}.bls"
        arguments += ["--bls-directory", str(lag_sets), text]
        process = NodeProcess(
            self._reactor,
            f"pipeline {name}/{pipe}",
            PIPELINE,
            arguments,
            socket,
            self._workdir.log(f"{name}.{pipe}"),
            lambda report: self._hear_pipeline(name, pipe, run, report),
            lambda reason: self._feed(PipelineEnded(configuration=name, pipe=pipe, run=run, reason=reason)),
        )
        self._pipelines[name, pipe] = process
        await self._answering(process, "WCBE_STATUS_MSG")

    async def _answering(self, process: NodeProcess, query: str) -> None:
        """Wait until a new process answers; one that is not waited for any more is ended."""
        try:
            await process.ready(query)
        except BaseException:  # also when the wait is cancelled
            process.kill()
            raise

    def _hear_pipeline(self, name: str, pipe: str, run: int, report: dict[str, Any]) -> None:
        match report.get("type"):
            case "WCBE_RECORDING_DONE":
                self._feed(_done(name, pipe, run, report))
            case "WCBE_BUS_MSG":
                self._hear_bus(report)

    async def _send_recording(self, effect: SendRecording) -> Sequence[Event]:
        name, pipe, run, uid = effect.configuration, effect.pipe, effect.run, effect.uid
        wanted = _wanted(effect.scan, effect.stop_ns, effect.directory)
        try:
            await self._pipeline(name, pipe).ask("WCBE_RECORDING_MSG", recording=wanted)
        except Refused as error:
            refused = {"uid": uid, "error": str(error), "ending": "fault"}
            return [_done(name, pipe, run, refused)]
        return []

    # -- for the agent --------------------------------------------------------------------------------------------

    async def ask_ingest(self, type: str, **fields: Any) -> Status:
        """Ask the ingest process something.

        Raises
        ------
        Retry, Refused
            When it does not answer; when it refuses.
        """
        return await self._running().ask(type, "query", STATUS_SECONDS, **fields)

    async def ask_pipeline(self, name: str, pipe: str, type: str, kind: str = "query", **fields: Any) -> Status:
        """Ask a pipeline something; raises as `ask_ingest` does."""
        return await self._pipeline(name, pipe).ask(type, kind, STATUS_SECONDS, **fields)

    async def read_statuses(self, lines: Iterable[Line]) -> tuple[Status, dict[tuple[str, str], Status]]:
        """What ingest and the pipelines that run say of themselves; nothing of those that do not answer."""
        ingest: Status = {}
        with contextlib.suppress(SocsError):
            ingest = await self.ask_ingest("WCBE_STATUS_MSG")
        found: dict[tuple[str, str], Status] = {}
        for line in [line for line in lines if line.stage is Stage.RUNNING]:
            with contextlib.suppress(SocsError):
                status = await self.ask_pipeline(line.configuration, line.pipe, "WCBE_STATUS_MSG")
                found[line.configuration, line.pipe] = status
        return ingest, found

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        running = [*([self._ingest] if self._ingest else []), *self._pipelines.values()]
        return {process.name: process.pid for process in running}

    def free(self, name: str) -> None:
        """A configuration is no more: free the memory of its rings."""
        self._workdir.free_rings(name)

    async def stop(self) -> None:
        """End all processes, in less time than an agent has to end."""
        running = [*([self._ingest] if self._ingest else []), *self._pipelines.values()]
        self._ingest, self._pipelines = None, {}
        await gatherResults([Deferred.fromCoroutine(process.quit(STOP_SECONDS)) for process in running])

    # -- inside ---------------------------------------------------------------------------------------------------

    def _running(self) -> NodeProcess:
        if self._ingest is None:
            raise Retry("the ingest process does not run; it is being started")
        return self._ingest

    def _pipeline(self, name: str, pipe: str) -> NodeProcess:
        try:
            return self._pipelines[name, pipe]
        except KeyError:
            raise Retry(f"pipeline {name}/{pipe} does not run at the moment") from None

    def _next_socket(self) -> Path:
        self._sockets += 1
        return self._workdir.socket(self._sockets)

    def _write_marker(self, effect: WriteMarker) -> None:
        path = Path(effect.directory) / f"{file_name(effect.uid)}.{self._node}.done"
        marker = {
            "node": self._node,
            "integrations": effect.integrations,
            "dropped": effect.dropped,
            "aborted": effect.aborted,
            "reason": effect.reason,
            "stop_ns": effect.stop_ns,
        }
        try:
            write_whole(path, msgspec.json.encode(marker))
        except OSError as error:
            raise Retry(f"{path}: {error.strerror}; see to the directory") from error


def _wanted(scan: str, stop_ns: int, directory: str) -> dict[str, Any]:
    """What a pipeline is told of a recording."""
    return {"scan": {**json.loads(scan), "stop_ns": stop_ns}, "directory": directory}


def _done(name: str, pipe: str, run: int, report: Mapping[str, Any]) -> RecordingDone:
    return RecordingDone(
        configuration=name,
        pipe=pipe,
        run=run,
        uid=str(report["uid"]),
        integrations=int(report.get("integrations") or 0),
        dropped=int(report.get("dropped") or 0),
        error=str(report.get("error") or ""),
        ending=str(report.get("ending") or "stop"),
    )
