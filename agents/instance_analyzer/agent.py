"""Instance analyzer: searches what its instance has recorded, catalogues what it finds, and reports it."""

from __future__ import annotations

import argparse
import re
import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from twisted.internet.defer import CancelledError, Deferred

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.agentkit.runner import MachineRunner
from socs_bl.core.codec import Entry
from socs_bl.core.config import load
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import Event
from socs_bl.core.names import agent_suffix, parse_instance
from socs_bl.search.analyzer_config import AnalyzerConfig
from socs_bl.search.effects import Places, SearchEffects
from socs_bl.search.machine import AnalyzerMachine
from socs_bl.search.model import AbortRequested, Notify, ProcessRequested, Stage
from socs_bl.search.view import described, overview
from socs_bl.services.redis_server import connect
from socs_bl.services.redis_url import add_redis_arguments

REPORT_INTERVAL = 1.0  # seconds
READY_PATIENCE = 20.0  # seconds
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}")


class InstanceAnalyzer(MachineAgent[AnalyzerMachine]):
    """Works through the queue of recordings that one instance is asked to search.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "analyzer",
            {
                "queue": {"queued": int, "under_way": int, "searched_runs": int, "hits": int},
                "disk": {"data_free_bytes": float, "products_free_bytes": float},
            },
        ),
    )

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.instance = str(parse_instance(args.instance))
        config = Path(args.config) if args.config else None
        self.config = load(config, AnalyzerConfig) if config else AnalyzerConfig()
        self.places = Places(
            self.instance, Path(args.root).absolute(), Path(args.products).absolute(), self.config.search
        )
        self.effects = SearchEffects(self.places, self.reactor, self.in_thread, self._progressed)
        self._waiting: dict[str, Deferred[None]] = {}
        self._silence = ""

    @operation("process", privs=2, startup=True, hardware="queue")
    async def work_queue(self, session: Session, *, test_mode: bool = False) -> str | None:
        """work_queue(test_mode=False)

        **Process** - Search the queued recordings one by one; starts with the agent. After a restart it goes on where
        its journal ends; a search that was under way begins anew.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            A stop gives the search under way up; it stays queued. The process is degraded while the journal does not
            answer, and fails when another analyzer has taken the journal over. The session data are::

                >>> response.session['data']
                {"instance": "blpn64/0",
                 "under_way": {"run": "MeerKAT:array_1:20261121T040000Z", "datadir": "/buf0/20261121T040000Z-20261121-0001",
                               "stage": "searching", "code": -1, "reason": "", "text": "", "hits": 0, "obsid": "",
                               "products": [], "asked": 1795233620.0, "ended": 0.0},
                 "queued": ["MeerKAT:array_1:20261121T050000Z"],
                 "reported": [],
                 "searched_runs": 3, "hits": 12, "fault": "", "sequence": 12}

            'reported' holds the latest runs, the last one first, in the form of 'under_way'. The codes are explained
            with ``process``.
        """
        journal = self.open_journal(f"socs_bl:analyzer:{agent_suffix(self.instance)}", riding=True)
        runner = self.make_runner(AnalyzerMachine, journal, self._carry_out, self._look)
        client = connect(self.args.redis_url)
        try:
            if self.config.warm_up:
                self.effects.warm_up()
            await runner.start()
            while True:
                # An empty queue writes nothing, and would not notice that nothing can be written.
                self._silence = await self.in_thread(_silence_of, client)
                session.degraded = bool(self.fault or self._silence)
                self._show(session)
                self.check_writer()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            await runner.stop()
            await self.effects.settled()
            client.close()
            self.runner = None
            self._release(Retry("the queue is not worked on any more; the run stays queued, ask again when it is"))

    @operation("task", privs=2)
    async def process(
        self, session: Session, *, run: str, datadir: str, duration: float = 0.0, preserve: bool = False
    ) -> str | None:
        """process(run=None, datadir=None, duration=0.0, preserve=False)

        **Task** (abortable) - Search a recording; ends when the run has been reported. A run that is known is not
        searched again: the task waits for its end, and its result is reported again. An abort gives the run up.

        Parameters:
            run (str): Name of the run, given by the coordinator: the OBSID.
            datadir (str): The instance's DATADIR, such as ``/buf0/20261121T040000Z-20261121-0001``.
            duration (float, optional): What was to be recorded, seconds.
            preserve (bool, optional): Keep the raw data whatever the configuration says.

        Examples:
            Search a directory once more, by hand::

                client.process.start(run="by-hand-1", datadir="/buf0/20261121T040000Z-20261121-0001")
                status, message, session = client.process.wait()

        Notes:
            The session data are::

                >>> response.session['data']
                {"run": "MeerKAT:array_1:20261121T040000Z", "datadir": "/buf0/20261121T040000Z-20261121-0001",
                 "progress": {"step": "search", "done": 40, "total": 64, "unit": "coarse channels", "eta_s": 2.1},
                 "stage": "reported", "code": 0, "reason": "searched", "text": "", "hits": 4,
                 "obsid": "MeerKAT:array_1:20261121T040000Z",
                 "products": ["/data/products/20261121T040000Z-20261121-0001/blpn64-0/guppi_61365_14400_J0918.dat"],
                 "asked": 1795233620.0, "ended": 1795233627.0, "sequence": 9}

            Codes: 0 searched, or too short to search; 1 nothing recorded; 2 searched, but the raw data could not be
            deleted; 3 damaged; 4 a product could not be written; 5 wrong settings; 6 crashed; 7 killed; 8 overdue;
            9 aborted. The task fails for codes above 1.
        """
        if not _RUN.fullmatch(run):
            raise Refused(f"process: run {run!r:.140} is not a name of letters, digits and ._:/+@- (128 at most)")
        self.places.data(datadir)
        if duration < 0:
            raise Refused(f"process: duration {duration} is negative; nothing was changed")
        session.update(run=run, datadir=datadir)
        runner = await self._ready(session)
        known = runner.machine.run(run)
        if known is not None and known.datadir != datadir:
            raise Refused(f"process: run {run} is that of {known.datadir}; give {datadir} a name of its own")
        if len(runner.machine.queued()) >= self.config.longest_queue:
            raise Refused(f"process: {self.config.longest_queue} runs are queued already; nothing was changed")
        await runner.submit(ProcessRequested(run=run, datadir=datadir, duration=duration, preserve=preserve))
        try:
            await self._reported(run)
        except CancelledError:
            # An abort of this task, or the end of the agent, which asks its other operations to end in this same turn.
            self.reactor.callLater(0, self._give_up, run)
            raise
        ended = runner.machine.run(run)
        if ended is None:
            raise Refused(f"process: {run} is too long ago to be remembered")
        session.update(**described(ended))
        if ended.code > 1:
            raise Refused(f"{run} {ended.outcome.value if ended.outcome else ''}: {ended.text}")
        return f"{run}: {ended.hits} hits."

    @operation("task")
    async def queue_status(self, session: Session) -> str | None:
        """queue_status()

        **Task** - Say which runs are queued, under way and done.

        Notes:
            The session data are those of ``work_queue``.
        """
        session.data = self._overview(self.running())
        return None

    @operation("process", startup=True)
    async def monitor_disk(self, session: Session, *, interval: float = 10.0, test_mode: bool = False) -> str | None:
        """monitor_disk(interval=10.0, test_mode=False)

        **Process** - Watch the disks with recordings and products; starts with the agent.

        Parameters:
            interval (float, optional): Seconds between two looks.
            test_mode (bool, optional): Look only once. This is meant only for testing.

        Notes:
            The process is degraded while a disk has less free space than the configuration wants. The session data
            are::

                >>> response.session['data']
                {"data": {"path": "/", "free_bytes": 81234567168.0, "total_bytes": 214748364800.0},
                 "products": {"path": "/data/products", "free_bytes": 81234567168.0, "total_bytes": 214748364800.0},
                 "least_free_bytes": 1073741824.0, "sequence": 3}
        """
        if interval < 0.1:
            raise Refused(f"monitor_disk: interval must be at least 0.1 s; found {interval}; nothing was changed")
        low = False
        while True:
            report = await self.in_thread(self._disks)
            session.data = {**report, "least_free_bytes": self.config.least_free_bytes}
            free = {name: disk["free_bytes"] for name, disk in report.items()}
            self.feeds["analyzer"].publish("disk", {f"{name}_free_bytes": value for name, value in free.items()})
            was_low, low = low, min(free.values()) < self.config.least_free_bytes
            session.degraded = low
            if low and not was_low:
                self.alert(
                    "warning", f"{self.instance}: a disk is nearly full; move products or recordings away", **free
                )
            if test_mode or not await session.sleep(interval):
                return "Stopped."

    # --- the shell

    async def _look(self) -> Mapping[str, Any]:
        return {"instance": self.instance, "keep_raw": self.config.keep_raw}

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        if isinstance(effect, Notify):
            self.alert(effect.level, f"{self.instance}: {effect.text}", id=effect.id)
            return []
        return await self.effects.perform(effect)

    async def _ready(self, session: Session) -> MachineRunner[AnalyzerMachine]:
        """The runner, waiting a little for an agent that is just starting."""
        deadline = self.reactor.seconds() + READY_PATIENCE
        while self.runner is None or not self.runner.machine.ready:
            if self.reactor.seconds() > deadline or not await session.sleep(0.1):
                raise Retry("process: the queue is not worked on; start 'work_queue', then ask again")
        return self.runner

    def _reported(self, run: str) -> Deferred[None]:
        """Fires when a run has been reported."""
        if run not in self._waiting:
            self._waiting[run] = Deferred(lambda _: self._forget(run))
        waiter = self._waiting[run]
        self._wake()
        return waiter

    def _forget(self, run: str) -> None:
        self._waiting.pop(run, None)

    def _wake(self) -> None:
        for name in list(self._waiting):
            run = self.runner.machine.run(name) if self.runner else None
            if run is None or run.stage is Stage.REPORTED:
                self._waiting.pop(name).callback(None)

    def _release(self, error: Retry) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.errback(error)

    def _give_up(self, run: str) -> None:
        queue = self.session("work_queue")
        if self.runner is not None and queue is not None and not queue.stopping:
            self.runner.feed(AbortRequested(run=run, reason="aborted by its client"))

    def _progressed(self, run: str, line: Mapping[str, Any]) -> None:
        session = self.session("process")
        if session is not None and session.data.get("run") == run:
            session.update(progress=line)

    def committed(self, entries: Sequence[Entry]) -> None:
        """Show what has changed, and wake who waits for it."""
        self._wake()
        queue, task = self.session("work_queue"), self.session("process")
        if self.runner is None:
            return
        if queue is not None:
            self._show(queue)
        run = self.runner.machine.run(str(task.data.get("run"))) if task is not None else None
        if task is not None and run is not None:
            task.update(**described(run))

    def _overview(self, runner: MachineRunner[AnalyzerMachine]) -> dict[str, Any]:
        return {**overview(runner.machine), "fault": self.fault or self._silence}

    def _show(self, session: Session) -> None:
        if self.runner is not None:
            data = self._overview(self.runner)
            session.data = data
            counts = {"queued": len(data["queued"]), "under_way": int(data["under_way"] is not None)}
            totals = {name: data[name] for name in ("searched_runs", "hits")}
            self.feeds["analyzer"].publish("queue", {**counts, **totals})

    def _disks(self) -> dict[str, dict[str, Any]]:
        found = {}
        for name, path in (("data", self.places.root), ("products", self.places.products)):
            path.mkdir(parents=True, exist_ok=True)
            usage = shutil.disk_usage(path)
            found[name] = {"path": str(path), "free_bytes": float(usage.free), "total_bytes": float(usage.total)}
        return found


def _silence_of(client: redis.Redis) -> str:
    """Why Redis does not answer; empty when it does. Blocks."""
    try:
        client.ping()
    except redis.RedisError as error:
        return f"Redis does not answer: {error}"
    return ""


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    group.add_argument("--instance", required=True, help="the instance it works for: host/number, such as blpn64/0")
    add_redis_arguments(group, "Redis that the coordinator reads")
    group.add_argument("--root", default="/", help="directory under which the instance's absolute paths are placed")
    group.add_argument("--products", required=True, help="directory for hit lists, pictures and the catalogue")
    group.add_argument("--config", help="YAML file: what to look for, what to keep")
    add_journal_argument(group)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(InstanceAnalyzer, add_agent_args(), args)


if __name__ == "__main__":
    main()
