"""Node of the correlator's back end: lag frames in, integrated spectra out, as its configurations say."""

from __future__ import annotations

import argparse
import os
import signal
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.bdf.scan import decode_scan, encode_scan, parse_uid
from socs_bl.core.clock import SystemClock
from socs_bl.core.config import check, load
from socs_bl.core.errors import Refused
from socs_bl.core.journal import Journal
from socs_bl.correlator.bring import Brought, bring, read_file
from socs_bl.correlator.config import NodeConfig
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.effects import Performer, Status
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import (
    DEFAULT_CONFIGURATION,
    ActivateAsked,
    AutodestroyAsked,
    BdfdirAsked,
    CreateAsked,
    DestroyAsked,
    FlowAsked,
    FramedumpAsked,
    PlaybackAsked,
    RecordAsked,
    SourceAsked,
    StopAsked,
)
from socs_bl.correlator.names import parse_name
from socs_bl.correlator.source import check_source
from socs_bl.correlator.story import NodeTeller
from socs_bl.correlator.view import INPUT_STAGE, feed_values, overview
from socs_bl.correlator.workdir import WorkDirectory

REPORT_INTERVAL = 1.0  # seconds
CHUNK = 40_000  # characters of a document in one answer
JOURNAL = "socs_bl:node:"
PREFIX = "cbe-"


class CBEPipeline(MachineAgent[NodeMachine]):
    """Runs one node.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "cbe",
            {
                "node": {
                    "frames": int, "bad": int, "unknown": int, "duplicate": int, "late": int, "missing": int,
                    "dropped": int, "actual_rate": float, "integrations": int, "flowing": int, "recordings": int,
                }
            },
        ),
    )  # fmt: skip

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.instance = self.address.rpartition(".")[2]
        self.name = parse_name(args.name or self.instance.removeprefix(PREFIX).replace("-", "_"), "instance")
        self.config = load(Path(args.config), NodeConfig) if args.config else NodeConfig()
        if args.bdfdir:
            self.config = check({**self.config.model_dump(), "bdfdir": args.bdfdir}, NodeConfig, "--bdfdir")
        self.clock = SystemClock()
        self.performer: Performer | None = None
        self._ingest: Status = {}
        self._pipelines: dict[tuple[str, str], Status] = {}
        self._names: set[str] = set()

    @operation("process", privs=2, startup=True, hardware="node")
    async def run(self, session: Session, *, test_mode: bool = False) -> str | None:
        """run(test_mode=False)

        **Process** - Receive lag frames, process and record them; starts with the agent. After a restart source, flow,
        configurations and recordings are what they were.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The process is degraded while the journal does not answer, a process of the node is being started again, or
            a pipeline is quarantined. The session data are::

                >>> response.session['data']
                {"name": "01",
                 "source": {"uri": "udp://239.192.50.1:5000?interface=127.0.0.1", "kind": "udp",
                            "live_timestamps": False, "rate": 0},
                 "flow": "on", "active": "04_12_59", "pending": [["activate", "04_13_20"]],
                 "configurations": {"04_12_59": {"autodestroy": True, "state": "active", "pipelines": {"P0": {
                     "text": "flag ! integrate n=5 ! dvnorm ! fft ! bdf", "state": "running", "restarts": 0,
                     "elements": [{"name": "integrate", "kind": "integrate", "properties": {"n": 5}}]}}}},
                 "input_stage": {"src": {"uri": "udp://239.192.50.1:5000?interface=127.0.0.1", "actual-rate": 24192.0,
                                         "num-frames": 1451520, "fps": 0, "live-timestamps": False,
                                         "widar-max-framesize": 1064},
                                 "framedump": {"mode": "none", "directory": "", "size": 0},
                                 "decode": {"frames": 1451520, "bad": 0}, "assembly": {}},
                 "bdfdir": "/data/wcbe/.private",
                 "framedump": {"mode": "none", "directory": "", "size": 0},
                 "counters": {"frames": 1451520, "pipelines_integrations": 12},
                 "boards": {"1": {"good": 725760}, "2": {"good": 725760}}, "last_bad": {},
                 "recordings": {"uid:///evla/bdf/1795233600123": {"state": "open", "start_ns": 1795233605000000000,
                     "stop_ns": 0, "directory": "/data/wcbe/.private", "integrations": 0, "dropped": 0, "reason": "",
                     "writers": {"04_12_59/P0": "open"}}},
                 "ingest": {"state": "running", "restarts": 0},
                 "memory": {"used": 17301504, "limit": 1073741824},
                 "fault": "", "timestamp": 1795233610.0, "sequence": 12}

            'pending' is what was asked and is not done, in the order of asking; 'active' is None until frames have come.
            'integrations' of a recording are counted when a pipeline has closed its part. 'boards' counts what became of
            each board's frames, by serial number; 'last_bad' has kind, byte and origin of the last bad one.
        """
        workdir = WorkDirectory(self.instance, self.config.ring_directory)
        journal = self.open_journal(JOURNAL + self.instance)
        runner = self.make_runner(NodeMachine, journal, self._make_performer(workdir).perform, self._look)
        try:
            await runner.start()
            while True:
                await self._read_statuses()
                self._show(session)
                self._publish()
                self.check_writer()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            performer, self.performer = self.performer, None
            await runner.stop()
            self.runner = None
            if performer is not None:
                await performer.stop()
            workdir.remove()

    # -- configurations -------------------------------------------------------------------------------------------

    @operation("task", privs=2)
    async def create_configuration(
        self, session: Session, *, name: str, document: str = "", path: str = "", autodestroy: bool = False
    ) -> str | None:
        """create_configuration(name=None, document='', path='', autodestroy=False)

        **Task** - Make a configuration; its pipelines are started. Asked again with the same document it does nothing.

        Parameters:
            name (str): Letters, digits and ``_``, such as ``c0`` or ``04_12_59``.
            document (str, optional): The configuration as XML, or a VCI subArray document.
            path (str, optional): Absolute path of a file on this node with the same, instead of `document`.
            autodestroy (bool, optional): Destroy it when another one has taken its place.

        Notes:
            What is wrong with a document is told with its line. There are no session data.
        """
        parse_name(name)
        if bool(document) == bool(path):
            raise Refused("give either document or path")
        text = await self.in_thread(read_file, path, self.config.document_bytes) if path else document
        brought: Brought = await self.in_thread(bring, text, name, self.config)
        await self._do(CreateAsked(name=name, autodestroy=autodestroy, **brought._asdict()))
        return f"Configuration {name} is being made; it has {len(brought.pipes)} pipelines."

    @operation("task", privs=2)
    async def activate_configuration(self, session: Session, *, name: str) -> str | None:
        """activate_configuration(name=None)

        **Task** - Make a configuration the active one. It takes effect between two frames, so that nothing happens until
        frames flow: meanwhile it is pending.

        Parameters:
            name (str): Of the configuration.

        Notes:
            There are no session data.
        """
        await self._do(ActivateAsked(name=parse_name(name)))
        return f"Configuration {name} becomes active with the next frames."

    @operation("task", privs=3)
    async def destroy_configuration(self, session: Session, *, name: str) -> str | None:
        """destroy_configuration(name=None)

        **Task** - Destroy a configuration; one that is active, or waits to be, as soon as it is not any more.

        Parameters:
            name (str): Of the configuration.

        Notes:
            There are no session data.
        """
        await self._do(DestroyAsked(name=parse_name(name)))
        return f"Configuration {name} is destroyed when it is not in use."

    @operation("task", privs=2)
    async def set_autodestroy(self, session: Session, *, name: str, autodestroy: bool) -> str | None:
        """set_autodestroy(name=None, autodestroy=None)

        **Task** - Say whether a configuration is destroyed when another one has taken its place.

        Parameters:
            name (str): Of the configuration.
            autodestroy (bool): Whether.

        Notes:
            There are no session data.
        """
        await self._do(AutodestroyAsked(name=parse_name(name), autodestroy=autodestroy))
        return None

    @operation("task", privs=1)
    async def read_document(self, session: Session, *, name: str, offset: int = 0) -> str | None:
        """read_document(name=None, offset=0)

        **Task** - Read a piece of a configuration's document.

        Parameters:
            name (str): Of the configuration.
            offset (int, optional): Characters before the piece.

        Notes:
            The session data are::

                >>> response.session['data']
                {"name": "c0", "offset": 0, "total": 118, "text": "<config ...", "sequence": 1}
        """
        text = self.running().machine.document(parse_name(name))
        if text is None or not 0 <= offset <= len(text):
            raise Refused(f"there is no configuration {name}, or its document does not reach to {offset}")
        session.data = {"name": name, "offset": offset, "total": len(text), "text": text[offset : offset + CHUNK]}
        return None

    @operation("task", privs=2)
    async def set_property(
        self, session: Session, *, configuration: str, pipeline: str, element: str, property: str, value: str
    ) -> str | None:
        """set_property(configuration=None, pipeline=None, element=None, property=None, value=None)

        **Task** - Change a property of an element of a lag pipeline, as long as its process runs.

        Parameters:
            configuration (str): Name of the configuration.
            pipeline (str): Name of its pipeline.
            element (str): Such as ``window``.
            property (str): Such as ``algorithm``.
            value (str): As the pipeline's text would have it.

        Notes:
            The session data are::

                >>> response.session['data']
                {"value": "none", "sequence": 1}
        """
        if pipeline == INPUT_STAGE:
            raise Refused("properties of the input stage are set with set_source, set_playback and set_framedump")
        fields = {"element": element, "property": property, "value": value}
        answer = await self._working().ask_pipeline(configuration, pipeline, "WCBE_PROPERTY_MSG", "command", **fields)
        await self._read_statuses()
        self._refresh()
        session.data = {"value": answer.get("value")}
        return None

    # -- frames ---------------------------------------------------------------------------------------------------

    @operation("task", privs=3)
    async def set_source(self, session: Session, *, uri: str) -> str | None:
        """set_source(uri=None)

        **Task** - Say where frames come from. Another source than before destroys all configurations and stops the flow.

        Parameters:
            uri (str): ``udp://239.192.50.1:5000?interface=127.0.0.1``, ``udp://0.0.0.0:5000``, ``file:///data/x.blf``, or
                nothing.

        Notes:
            There are no session data.
        """
        if uri:
            await self.in_thread(check_source, uri)
        await self._do(SourceAsked(uri=uri))
        return f"Frames come from {uri or 'nowhere'}."

    @operation("task", privs=2)
    async def set_flow(self, session: Session, *, flow: Literal["on", "off"]) -> str | None:
        """set_flow(flow=None)

        **Task** - Let frames flow, or not. Configurations stay.

        Parameters:
            flow (str): ``on`` or ``off``.

        Notes:
            There are no session data.
        """
        await self._do(FlowAsked(on=flow == "on"))
        return None

    @operation("task", privs=2)
    async def set_playback(
        self, session: Session, *, rate: int | None = None, live_timestamps: bool | None = None
    ) -> str | None:
        """set_playback(rate=None, live_timestamps=None)

        **Task** - Say how a file is played.

        Parameters:
            rate (int, optional): Frames a second; 0: as fast as possible. Unchanged when not given.
            live_timestamps (bool, optional): Give frames the time at which they are played. Unchanged when not given.

        Notes:
            There are no session data.
        """
        source = self.running().machine.source
        rate = source.rate if rate is None else rate
        live = source.live_timestamps if live_timestamps is None else live_timestamps
        if rate < 0:
            raise Refused(f"rate {rate}; give frames a second, or 0 for as fast as possible")
        await self._do(PlaybackAsked(rate=rate, live_timestamps=live))
        return None

    @operation("task", privs=2)
    async def set_framedump(
        self, session: Session, *, mode: Literal["none", "ascii", "binary"], directory: str = "", size: int = 0
    ) -> str | None:
        """set_framedump(mode=None, directory='', size=0)

        **Task** - Write all frames into files as they come, or stop it.

        Parameters:
            mode (str): ``none``, ``ascii`` or ``binary`` (BLF, which can be played again).
            directory (str, optional): Absolute path on this node; needed unless `mode` is ``none``.
            size (int, optional): Bytes after which the next file begins; 0: the default.

        Notes:
            There are no session data.
        """
        if (directory or mode != "none") and not Path(directory).is_absolute():
            raise Refused(f"directory {directory!r:.200} is no absolute path; write one, such as /data/frames")
        if size < 0:
            raise Refused(f"size {size}; give bytes, or 0 for the default")
        await self._do(FramedumpAsked(mode=mode, directory=directory, size=size))
        return None

    @operation("task", privs=1)
    async def product_counters(self, session: Session, *, first: int = 0, count: int = 100) -> str | None:
        """product_counters(first=0, count=100)

        **Task** - Read the counters of products of the active configuration.

        Parameters:
            first (int, optional): Number of the first product.
            count (int, optional): How many, at most 500.

        Notes:
            The session data are::

                >>> response.session['data']
                {"first": 0, "total": 378, "products": [{"name": "p0", "good": 1200, "missing": 3}], "sequence": 1}
        """
        if first < 0 or not 0 < count <= 500:
            raise Refused("first is a number from 0, count one from 1 to 500")
        answer = await self._working().ask_ingest("WCBE_PRODUCT_COUNTERS_MSG", first=first, count=count)
        session.data = {key: value for key, value in answer.items() if key not in ("tag", "kind", "type")}
        return None

    # -- recordings -----------------------------------------------------------------------------------------------

    @operation("task", privs=2)
    async def set_bdfdir(self, session: Session, *, directory: str) -> str | None:
        """set_bdfdir(directory=None)

        **Task** - Say where files of recordings are created; those that are open stay where they are.

        Parameters:
            directory (str): Absolute path, such as ``/data/wcbe/.private``; the publisher works beside it.

        Notes:
            There are no session data.
        """
        if not Path(directory).is_absolute():
            raise Refused(f"directory {directory!r:.200} is no absolute path; write one, such as /data/wcbe/.private")
        await self._do(BdfdirAsked(directory=directory))
        return None

    @operation("task", privs=2)
    async def record(self, session: Session, *, scan: str) -> str | None:
        """record(scan=None)

        **Task** - Record a scan: whole integrations between its start and its stop, by the times of the frames. A scan
        that is known is not recorded again.

        Parameters:
            scan (str): The scan as JSON.

        Notes:
            There are no session data.
        """
        asked = decode_scan(scan)
        event = RecordAsked(uid=asked.uid, scan=encode_scan(asked), start_ns=asked.start_ns, stop_ns=asked.stop_ns)
        await self._do(event)
        return f"{asked.uid} is recorded."

    @operation("task", privs=2)
    async def stop_recording(self, session: Session, *, uid: str, stop_ns: int, reason: str = "") -> str | None:
        """stop_recording(uid=None, stop_ns=None, reason='')

        **Task** - Say when a recording ends. One that is over or was never known needs no end.

        Parameters:
            uid (str): Of the scan.
            stop_ns (int): Unix time, ns; of two stops the earlier one counts. 0: now, whatever frames have come.
            reason (str, optional): Why.

        Notes:
            There are no session data.
        """
        if stop_ns < 0:
            raise Refused(f"stop_ns {stop_ns}; give Unix time in ns, or 0 for now")
        await self._do(StopAsked(uid=parse_uid(uid), stop_ns=stop_ns, reason=reason[:200]))
        return None

    @operation("task", privs=1)
    async def explain(self, session: Session, *, subject: str) -> str | None:
        """explain(subject=None)

        **Task** - Say why something is as it is, from the journal.

        Parameters:
            subject (str): A configuration, ``CONFIGURATION/PIPELINE``, the uid of a recording, ``source`` or ``ingest``.

        Notes:
            The same as text: ``socs-bl explain``. The session data are::

                >>> response.session['data']
                {"subject": "c0", "standing": ["Held(name='c0', ...)"],
                 "chapters": [{"sequence": 31, "time": 1795233602.0, "changes": ["configuration/c0: ..."], "said": [],
                               "chain": [{"sequence": 31, "time": 1795233602.0, "text": "configuration c0 ..."}]}],
                 "journal_sequence": 40, "first": 1, "unlike": 0, "sequence": 1}
        """
        return await self.show_story(session, subject, NodeTeller())

    @operation("task", privs=3)
    async def shutdown(self, session: Session) -> str | None:
        """shutdown()

        **Task** - End the agent and all its processes in order. Who supervises it may start it again.

        Notes:
            There are no session data.
        """
        self.reactor.callLater(REPORT_INTERVAL / 4, os.kill, os.getpid(), signal.SIGTERM)
        return "The agent ends."

    # -- how it works ---------------------------------------------------------------------------------------------

    def open_journal(self, name: str, *, riding: bool = False) -> Journal:
        """At ``--journal``, else in a file of this instance in the state directory."""
        if self.args.journal is None:
            directory = Path(self.args.state_dir or default_state_dir())
            directory.mkdir(parents=True, exist_ok=True)
            self.args.journal = f"sqlite://{(directory / f'{self.instance}.db').resolve()}"
        return super().open_journal(name, riding=riding)

    def _make_performer(self, workdir: WorkDirectory) -> Performer:
        self.performer = Performer(
            self.instance,
            self.config,
            workdir,
            self.reactor,
            self.feed,
            self.alert,
            lambda name: self.running().machine.held(name),
            lambda name: self.running().machine.document(name),
            lambda name, pipe: self.running().machine.recordings_of(name, pipe),
            self.in_thread,
        )
        return self.performer

    async def _look(self) -> Mapping[str, Any]:
        published = os.environ.get("WCBE_BDFDIR", "")
        bdfdir = self.config.bdfdir or (Path(published) / ".private" if published else "")
        empty = write_configuration(Configuration(DEFAULT_CONFIGURATION)) if self.args.default_configuration else None
        settings = self.config.for_machine(self.instance)
        return {"settings": settings, "bdfdir": str(bdfdir), "default_document": empty}

    async def _do(self, event: Any) -> None:
        """Have the machine decide, and show what it has decided."""
        await self.ask(event)
        self._refresh()

    def _working(self) -> Performer:
        if self.performer is None:
            raise Refused("nothing runs here at the moment; start 'run' first")
        return self.performer

    async def _read_statuses(self) -> None:
        machine = self.running().machine
        lines = [line for held in machine.all_held() for line in machine.lines_of(held)]
        self._ingest, self._pipelines = await self._working().read_statuses(lines)

    def _refresh(self) -> None:
        session = self.session("run")
        if session is not None and self.runner is not None:
            self._show(session)

    def _show(self, session: Session) -> None:
        machine = self.running().machine
        data = overview(machine, self.name, self._ingest, self._pipelines)
        names = set(data["configurations"])
        for name in self._names - names:
            self._working().free(name)
        self._names = names
        session.degraded = bool(self.fault) or machine.troubled
        session.data = {**data, "fault": self.fault, "timestamp": self.clock.now().wall}

    def _publish(self) -> None:
        values = feed_values(self.running().machine, self._ingest, self._pipelines)
        self.feeds["cbe"].publish("node", values)


def default_state_dir() -> Path:
    """Where journals are: systemd's ``$STATE_DIRECTORY``, else the user's own directory for state."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "socs_bl"


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    group.add_argument("--name", help="name of the node (default: the instance-id without 'cbe-')")
    group.add_argument("--config", metavar="YAML", help="file with limits, times and directories (default: none)")
    group.add_argument("--bdfdir", metavar="DIR", help="where files are created (default: $WCBE_BDFDIR/.private)")
    group.add_argument(
        "--default-configuration",
        action="store_true",
        help="make the configuration c0, which has no products: frames can be received and dumped",
    )
    group.add_argument("--journal", metavar="URL", help="where the journal is (default: a file in --state-dir)")
    group.add_argument(
        "--state-dir",
        metavar="DIR",
        help="for the journal (default: $STATE_DIRECTORY, else socs_bl in $XDG_STATE_HOME or ~/.local/state)",
    )
    add_journal_argument(group)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(CBEPipeline, add_agent_args(), args)


if __name__ == "__main__":
    main()
