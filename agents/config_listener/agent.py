"""Config listener: makes and activates the configurations whose paths are written into a named pipe."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.client import AsyncClient
from socs_bl.client.command import command
from socs_bl.core.clock import SystemClock
from socs_bl.core.config import from_arguments
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import Event
from socs_bl.correlator.listener.config import ListenerConfig
from socs_bl.correlator.listener.machine import REFUSED, ListenerMachine
from socs_bl.correlator.listener.model import ActivateConfiguration, CreateConfiguration, Notify, PathGiven
from socs_bl.correlator.listener.pipe import Pipe
from socs_bl.correlator.listener.wire import parse_path
from socs_bl.correlator.rejections import Rejections
from socs_bl.services.redis_url import add_redis_arguments

JOURNAL = "socs_bl:listener:"
REPORT_INTERVAL = 0.5  # seconds


class ConfigListener(MachineAgent[ListenerMachine]):
    """Reads paths of configuration documents and has the nodes of the back end take them.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "config_listener",
            {"configurations": {"given": int, "activated": int, "failed": int, "rejected": int, "waiting": int}},
        ),
    )

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.config = from_arguments(args, ListenerConfig)
        self.client = AsyncClient(site_agent, site_agent.site_args.address_root, self.on_join)
        self.clock = SystemClock()
        self.rejections = Rejections()

    @operation("process", privs=2, startup=True, hardware="pipe")
    async def listen(self, session: Session, *, test_mode: bool = False) -> str | None:
        """listen(test_mode=False)

        **Process** - Read the pipe; for each path make a configuration named after the time, ``HH_MM_SS``, that is
        destroyed when another is activated, and activate it; starts with the agent.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The process is degraded while the pipe cannot be opened or the journal does not answer. 'waiting' holds by
            node what it has not taken yet, 'last' how the last ones have ended. The session data are::

                >>> response.session['data']
                {"pipe": "/tmp/wcbe-dev/config", "listening": True, "nodes": ["cbe-01"],
                 "waiting": {"cbe-01": ["12_00_05"]},
                 "last": [{"node": "cbe-01", "name": "12_00_01", "path": "/home/wcbe/c1.xml", "time": 1795233601.5,
                           "fault": ""}],
                 "configurations": {"given": 2, "activated": 1, "failed": 0},
                 "rejected": {"path": 1},
                 "last_rejected": {"kind": "path", "sender": "/tmp/wcbe-dev/config", "text": "'c1.xml' is not ...",
                                   "time": 1795233600.0},
                 "fault": "", "timestamp": 1795233610.0, "sequence": 12}
        """
        instance_id = self.address.rpartition(".")[2]
        runner = self.make_runner(
            ListenerMachine, self.open_journal(JOURNAL + instance_id), self._carry_out, self._look
        )  # fmt: skip
        pipe = Pipe(self.config.pipe, self.config.group, self._line, self._too_long)
        try:
            await runner.start()
            while True:
                trouble = await self._open(pipe)
                self._show(session, trouble)
                self.check_writer()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            pipe.close()
            self.runner = None
            await runner.stop()

    @operation("task", privs=2)
    async def submit(self, session: Session, *, path: str) -> str | None:
        """submit(path=None)

        **Task** - Do as if a path had been written into the pipe. It ends when the configuration has its name; the
        process ``listen`` shows how it fares.

        Parameters:
            path (str): Absolute path of the document, as the nodes see it.

        Notes:
            The session data are::

                >>> response.session['data']
                {"name": "12_00_05", "nodes": ["cbe-01"], "sequence": 1}
        """
        text = parse_path(path)
        await self.ask(PathGiven(path=text, asked=True))
        jobs = [job for queue in self.running().machine.queues() for job in queue.jobs if job.path == text]
        session.data = {"name": jobs[-1].name, "nodes": self.config.nodes}
        return f"{text} becomes configuration {jobs[-1].name}."

    # -- how it works ---------------------------------------------------------------------------------------------

    async def _open(self, pipe: Pipe) -> str:
        """Open the pipe, also when somebody has removed it; why it cannot be opened, or nothing."""
        try:
            pipe.open(self.reactor)
        except Retry as error:
            return str(error)
        return ""

    async def _look(self) -> Mapping[str, Any]:
        config = self.config.model_dump(mode="json")
        return {name: config[name] for name in ("nodes", "first_pause", "longest_pause", "give_up")}

    def _line(self, line: bytes) -> None:
        """Take a path, or count why not."""
        if not line.strip():
            return
        try:
            path = parse_path(line)
        except Refused as error:
            self._reject("path", str(error))
        else:
            self.feed(PathGiven(path=path))

    def _too_long(self, beginning: bytes) -> None:
        self._reject("oversized", f"a line that begins {beginning!r:.60} is too long for a path")

    def _reject(self, kind: str, text: str) -> None:
        if self.rejections.count(kind, str(self.config.pipe), text, self.clock.now().wall):
            self.alert("warning", f"a line of {self.config.pipe} was not taken: {text}", kind=kind)

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        match effect:
            case CreateConfiguration(node=node, name=name, path=path):
                await self._told(node, "create_configuration", name=name, path=path, autodestroy=True)
            case ActivateConfiguration(node=node, name=name):
                await self._told(node, "activate_configuration", name=name)
            case Notify(level=level, text=text):
                self.alert(level, text)
            case _:
                raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")
        return []

    async def _told(self, node: str, op: str, **params: Any) -> None:
        """Have a node do something; what it refuses while it runs it will always refuse."""
        try:
            await command(self.client, node, op, **params)
        except Refused as error:
            if (await self.client.status(node, "run")).session.get("status") != "running":
                raise Retry(str(error)) from error
            raise Refused(f"{REFUSED}{error}") from error

    def _show(self, session: Session, trouble: str) -> None:
        machine = self.running().machine
        ledger = machine.ledger
        counts = {"given": ledger.given, "activated": ledger.activated, "failed": ledger.failed}
        waiting = {queue.node: [job.name for job in queue.jobs] for queue in machine.queues()}
        session.degraded = bool(self.fault or trouble)
        session.data = {
            "pipe": self.config.pipe,
            "listening": not trouble,
            "nodes": self.config.nodes,
            "waiting": waiting,
            "last": msgspec.to_builtins(machine.history.jobs),
            "configurations": counts,
            "rejected": self.rejections.counts,
            "last_rejected": self.rejections.last,
            "fault": self.fault or trouble,
            "timestamp": self.clock.now().wall,
        }
        self.feeds["config_listener"].publish(
            "configurations",
            {**counts, "rejected": self.rejections.total, "waiting": sum(len(names) for names in waiting.values())},
        )


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    add_redis_arguments(group, "Redis of the journal")
    group.add_argument("--nodes", help="instance-ids of the back end's nodes, such as cbe-01,cbe-02 (default: cbe-01)")
    group.add_argument("--pipe", help="the named pipe (default: /tmp/wcbe-dev/config)")
    group.add_argument("--group", help="group that may write into it, such as cbemgrs (default: the process's)")
    group.add_argument("--first-pause", type=float, help="seconds before a node is asked again (default: 0.5)")
    group.add_argument("--longest-pause", type=float, help="longest of these pauses, which grow (default: 10)")
    group.add_argument(
        "--give-up", type=float, help="seconds after which a node that does not answer is given up (default: 60)"
    )
    add_journal_argument(group, movable=True)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(ConfigListener, add_agent_args(), args)


if __name__ == "__main__":
    main()
