"""Instance analyzer: searches what its instance has recorded, catalogues what it finds, and reports it."""

from __future__ import annotations

import argparse
import re
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from twisted.internet.defer import CancelledError, Deferred

from socs_bl.agentkit import Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.agentkit.runner import MachineRunner
from socs_bl.agents.instance_analyzer.raw_data import POLL_INTERVAL, RawData
from socs_bl.core.codec import Entry
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import Event
from socs_bl.core.names import agent_suffix
from socs_bl.search.effects import SearchEffects
from socs_bl.search.machine import AnalyzerMachine
from socs_bl.search.model import (
    WORST_GOOD_CODE,
    AbortRequested,
    Batch,
    Listed,
    ListRead,
    Notify,
    ProcessRequested,
    RequeueRequested,
    Stage,
)
from socs_bl.search.view import described, overview, queue_status
from socs_bl.services.redis_server import connect
from socs_bl.services.redis_url import add_redis_arguments

REPORT_INTERVAL = 1.0  # seconds
READY_PATIENCE = 20.0  # seconds
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}")


class InstanceAnalyzer(RawData):
    """Works through the queue of recordings that one instance is asked to search.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
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
                               "stage": "searching", "code": -1, "reason": "", "text": "", "tries": 1, "hits": 0,
                               "stamps": 0, "bytes_freed": 0, "rule": "", "raw": true, "obsid": "", "products": [],
                               "asked": 1795233620.0, "began": 1795233620.0, "ended": 0.0},
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
            if self.config.warm_up and self.config.engine == "built-in":
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
        self,
        session: Session,
        *,
        run: str,
        datadir: str,
        duration: float = 0.0,
        preserve: bool = False,
        min_duration: float | None = None,
        snr: float | None = None,
        keep_raw: bool | None = None,
    ) -> str | None:
        """process(run=None, datadir=None, duration=0.0, preserve=False, min_duration=None, snr=None, keep_raw=None)

        **Task** (abortable) - Search a recording; ends when the run has been reported. A run that is known is not
        searched again: the task waits for its end, and its result is reported again. An abort gives the run up.

        Parameters:
            run (str): Name of the run, given by the coordinator: the OBSID.
            datadir (str): The instance's DATADIR, such as ``/buf0/20261121T040000Z-20261121-0001``.
            duration (float, optional): What was to be recorded, seconds.
            preserve (bool, optional): Preserve the directory, as ``preserve`` does.
            min_duration (float, optional): Do not search what is shorter than this many seconds, instead of what is
                configured.
            snr (float, optional): Smallest signal-to-noise ratio, instead of what is configured.
            keep_raw (bool, optional): Keep the raw data or not, instead of what is configured.

        Examples:
            Search a directory once more, by hand::

                client.process.start(run="by-hand-1", datadir="/buf0/20261121T040000Z-20261121-0001", snr=8.0)
                status, message, session = client.process.wait()

        Notes:
            The session data are::

                >>> response.session['data']
                {"run": "MeerKAT:array_1:20261121T040000Z", "datadir": "/buf0/20261121T040000Z-20261121-0001",
                 "progress": {"step": "search", "done": 40, "total": 64, "unit": "coarse channels", "eta_s": 2.1,
                              "percent": 62.5, "elapsed_s": 3.4},
                 "stage": "reported", "code": 0, "reason": "searched", "text": "", "tries": 1, "hits": 4, "stamps": 3,
                 "bytes_freed": 1073741824, "rule": "searched", "raw": false,
                 "obsid": "MeerKAT:array_1:20261121T040000Z",
                 "products": ["/data/products/20261121T040000Z-20261121-0001/blpn64-0/guppi_61365_14400_J0918.dat"],
                 "asked": 1795233620.0, "began": 1795233620.0, "ended": 1795233627.0, "sequence": 9}

            Codes: 0 searched, or too short to search; 1 nothing recorded; 2 searched, but the raw data could not be
            deleted, or are not what was searched; 3 damaged; 4 a product could not be written; 5 wrong settings; 6
            crashed; 7 killed; 8 overdue; 9 aborted; 10 the engine declined the recording; 11 the engine's device failed;
            12 the engine's products cannot be read. The task fails for codes above 1. What fails with 4, 6 to 8 or 10 to
            12 is tried once more and then left alone, with its raw data, until ``requeue``.
        """
        if not _RUN.fullmatch(run):
            raise Refused(f"process: run {run!r:.140} is not a name of letters, digits and ._:/+@- (128 at most)")
        self.places.data(datadir)
        self.places.engine.arguments(min_duration, snr)
        if duration < 0:
            raise Refused(f"process: duration {duration} is negative; nothing was changed")
        session.update(run=run, datadir=datadir)
        runner = await self._ready(session)
        self._acceptable(runner.machine, run, datadir)
        noted = await self._noted(session, datadir)
        request = ProcessRequested(
            run=run, datadir=datadir, duration=duration, preserve=preserve, min_duration=min_duration, snr=snr,
            keep_raw=keep_raw, band=noted.band, antennas=noted.antennas,
        )  # fmt: skip
        await runner.submit(request)
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
        if ended.code > WORST_GOOD_CODE:
            raise Refused(f"{run} {ended.outcome.value if ended.outcome else ''}: {ended.text}")
        return f"{run}: {ended.hits} hits."

    def _acceptable(self, machine: AnalyzerMachine, run: str, datadir: str) -> None:
        known = machine.run(run)
        if known is not None and known.datadir != datadir:
            raise Refused(f"process: run {run} is that of {known.datadir}; give {datadir} a name of its own")
        if len(machine.queued()) >= self.config.longest_queue:
            raise Refused(f"process: {self.config.longest_queue} runs are queued already; nothing was changed")

    @operation("task", privs=2)
    async def process_queue(self, session: Session) -> str | None:
        """process_queue()

        **Task** - Search what is on the coordinator's list ``<instance>:unprocessed``, as a coordinator that knows no
        runs expects it: one ``RETURN`` at the end, with the worst code, also when there was nothing to do. A directory is
        taken off the list when it has been searched, not before.

        Notes:
            What is too short is measured, whatever the coordinator noted. If ``<instance>:last-datadir`` is not on the
            list, something was recorded in the wrong place: it is searched like the others, and the code is at least 1.
            An abort ends the waiting; the runs stay queued. The session data are::

                >>> response.session['data']
                {"listed": ["/buf0/20261121T040000Z-20261121-0001"], "preserved": [], "last": "",
                 "runs": ["MeerKAT:array_1:20261121T040000Z"], "worst": 0, "waiting": [], "sequence": 4}
        """
        runner = await self._ready(session)
        read = await self.listing(lambda work: work.read())
        listed = tuple(entry for entry in read.listed if self.is_sound(entry.datadir))
        last = read.last if read.last is not None and self.is_sound(read.last.datadir) else None
        session.update(
            listed=[entry.datadir for entry in listed],
            preserved=list(read.preserved),
            last=last.datadir if last else "",
        )
        await self.ask(ListRead(listed=listed, preserved=tuple(filter(self.is_sound, read.preserved)), last=last))
        batch = runner.machine.get("batch", Batch)
        session.update(runs=list(batch.runs) if batch else [])
        while batch is not None and self.runner is runner:
            session.update(worst=batch.worst, waiting=list(batch.runs))
            if not await session.sleep(POLL_INTERVAL):
                return "Not waited for; the runs stay queued."
            batch = runner.machine.get("batch", Batch)
        session.update(waiting=[])
        return f"{len(session.data['runs'])} runs."

    @operation("task", privs=2)
    async def requeue(self, session: Session, *, datadir: str) -> str | None:
        """requeue(datadir=None)

        **Task** - Search a directory once more whose run has ended, under the same name; it is reported again. For what
        was given up, when its cause is mended. Ends when the run is queued.

        Parameters:
            datadir (str): The instance's DATADIR.

        Notes:
            Refused when no run of it is known, when one waits for it or works on it, or when its raw data are deleted.
            The session data are those of ``queue_status``.
        """
        self.places.data(datadir)
        await self.ask(RequeueRequested(datadir=datadir))
        session.data = queue_status(self.running().machine)
        return None

    @operation("task")
    async def queue_status(self, session: Session) -> str | None:
        """queue_status()

        **Task** - Say which runs are queued, under way and done, which were given up, what is preserved, and what was
        deleted when somebody asked or the disk was short.

        Notes:
            Beside what ``work_queue`` shows, the session data hold::

                >>> response.session['data']
                {"pending": [], "failed": [], "cleaned": [],
                 "preserved": [{"datadir": "/buf0/20261121T040000Z-20261121-0001", "reason": "a candidate",
                                "since": 1795233620.0}]}

            'pending' and 'failed' hold runs as 'under_way' of ``work_queue``, 'cleaned' deletions as ``clean_raw``.
        """
        machine = self.running().machine
        session.data = {**queue_status(machine), "fault": self.fault or self._silence}
        return None

    # --- the shell

    async def _look(self) -> Mapping[str, Any]:
        config = self.config
        return {
            "instance": self.instance, "keep_raw": config.keep_raw, "delete_short": config.delete_short,
            "reclaim": config.reclaim, "beams": config.beams,
            "preserved": [name for name in await self.listing(lambda work: work.preserved()) if self.is_sound(name)],
        }  # fmt: skip

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

    async def _noted(self, session: Session, datadir: str) -> Listed:
        """What the coordinator noted about a directory; waits, like the journal, for a Redis that is away."""
        while True:
            try:
                noted = await self.listing(lambda work: work.noted(datadir))
                await self.take_over_preserved()
            except Retry as away:
                if not await session.sleep(away.after):
                    raise
            else:
                return noted

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
        session, known = self.session("process"), self.runner.machine.run(run) if self.runner else None
        if session is not None and session.data.get("run") == run:
            done, total = line.get("done", 0), line.get("total", 0)
            elapsed = max(0.0, time.time() - known.began) if known is not None and known.began else 0.0
            share = round(100.0 * done / total, 1) if total else 0.0
            session.update(progress={**line, "percent": share, "elapsed_s": round(elapsed, 2)})

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
    group.add_argument("--recipe-dir", help="directory of the beamformer recipes, instead of what the file says")
    add_journal_argument(group)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(InstanceAnalyzer, add_agent_args(), args)


if __name__ == "__main__":
    main()
