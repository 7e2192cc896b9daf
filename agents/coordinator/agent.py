"""Commensal coordinator: decides which instance records and searches for which subarray."""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from socs_bl.agentkit import FeedSchema, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.agentkit.notifier import Notifier
from socs_bl.agentkit.runner import MachineRunner
from socs_bl.agentkit.sinks import Notice, configured, level_of
from socs_bl.agents.coordinator.arrays import ArrayOperations
from socs_bl.agents.coordinator.base import JOURNAL
from socs_bl.agents.coordinator.pool import PoolOperations
from socs_bl.agents.coordinator.records import RecordOperations
from socs_bl.agents.coordinator.supervision import make_supervisor
from socs_bl.agents.coordinator.telescope import TelescopeOperations
from socs_bl.client import AsyncClient
from socs_bl.commensal import CommensalMachine, wire
from socs_bl.commensal.calibration_model import FetchCalibration, ReadPhaseup
from socs_bl.commensal.effects import heard, result
from socs_bl.commensal.model import Notify, ReadMetadata, ReadStatus, RestartPart, StartProcessing
from socs_bl.commensal.view import overview
from socs_bl.core.codec import Entry
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.services.redis_url import add_redis_arguments
from socs_bl.services.subscriber import StreamReader, Subscriber

REPORT_INTERVAL = 1.0  # seconds
SUBSCRIBE_PATIENCE = 5.0  # seconds for the subscription to CAM's channels


class CommensalCoordinator(ArrayOperations, PoolOperations, TelescopeOperations, RecordOperations):
    """Runs the commensal machine: hears CAM, commands instances through Redis, has analyzers search.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "commensal",
            {
                "pool": {
                    "free": int,
                    "ready": int,
                    "recording": int,
                    "processing": int,
                    "quarantined": int,
                    "drained": int,
                    "runs": int,
                }
            },
        ),
        FeedSchema(
            "instances", {"count": {"alive": int, "receiving": int, "recording": int, "silent": int, "stale": int}}
        ),
    )

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.client = AsyncClient(site_agent, site_agent.site_args.address_root, self.on_join)
        self.supervisor = make_supervisor(self.config.supervisor, self.client, self.reactor, args.analyzer_prefix)
        self.notifier = Notifier(configured(self.config.notifications), self.reactor, super().alert, self.health)
        self.listening = False

    def close(self) -> None:
        """Also give connections back."""
        super().close()
        self.supervisor.close()
        self.notifier.close()

    @operation("process", privs=2, startup=True, hardware="pool")
    async def coordinate(self, session: Session, *, test_mode: bool = False) -> str | None:
        """coordinate(test_mode=False)

        **Process** - Hear CAM and results, decide, command; starts with the agent. After a restart it goes on where
        its journal ends.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The process is degraded while the journal does not answer, and fails when another coordinator has taken
            the journal over. The session data are::

                >>> response.session['data']
                {"arrays": {"array_1": {"freesub_state": "SUBSCRIBED", "recproc_state": "RECORD",
                                        "since": 1795233600.0, "requested": 2, "subscribed": ["blpn64/0", "blpn64/1"],
                                        "recording": ["blpn64/0", "blpn64/1"], "processing": [],
                                        "obsid": "MeerKAT:array_1:20261121T040000Z", "target": "Hyd_A", "band": "l",
                                        "antennas": 4, "ends": 1795233620.0, "tracking": true, "calibration": "",
                                        "last_event": "tracking"}},
                 "pool": {"free": 2, "ready": 0, "recording": 2, "processing": 0, "quarantined": 0, "drained": 0},
                 "quarantined": {}, "draining": {},
                 "completed_runs": 3, "bad_messages": 0, "journal_sequence": 118, "listening": True, "fault": "",
                 "timestamp": 1795233610.0, "sequence": 12}
        """
        journal = self.open_journal(JOURNAL, riding=True)
        runner = self.make_runner(CommensalMachine, journal, self._carry_out, self._look)
        # Heard before the world is looked at, so that nothing is said in between unheard.
        alerts = self._alerts()
        listeners: list[Subscriber | StreamReader] = [alerts]
        try:
            await runner.start()
            listeners.append(self._results(runner))
            await self.in_thread(alerts.subscribed.wait, SUBSCRIBE_PATIENCE)
            while True:
                self.listening = alerts.subscribed.is_set()
                session.degraded = bool(self.fault) or not self.listening
                self._show(session, runner)
                self.check_writer()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            self.listening = False
            for listener in listeners:
                await self.in_thread(listener.stop)
            await runner.stop()
            self.runner = None

    def alert(self, level: str, text: str, **facts: object) -> None:
        """Tell people, also by the sinks: what the machine says, and what befalls the agent itself."""
        super().alert(level, text, **facts)
        self.notifier.tell(Notice(level_of(level), str(facts.get("code", "agent")), text, time.time()))

    # --- the shell

    def _alerts(self) -> Subscriber:
        def event(channel: str, payload: str) -> None:
            self.feed_from_thread(heard(channel, payload))

        def interrupted(text: str) -> None:
            self.reactor.callFromThread(self.alert, "warning", text)

        subscriber = Subscriber(self.args.redis_url, wire.CHANNELS, event, interrupted)
        subscriber.start()
        return subscriber

    def _results(self, runner: MachineRunner[CommensalMachine]) -> StreamReader:
        def entry(cursor: str, fields: dict[str, str]) -> None:
            self.hand_over(result(cursor, fields))

        cursor = runner.machine.ledger().results_cursor
        reader = StreamReader(self.args.redis_url, wire.RESULTS_STREAM, cursor, entry)
        reader.start()
        return reader

    async def _look(self) -> Mapping[str, Any]:
        """The world at a restart; at the very first start also what the original coordinator has saved."""
        world = {"config": self.config.model_dump(mode="json"), **await self.world()}
        if self.running().machine.sequence == 0:
            world["saved"] = await self.in_thread(self.saved.read)
        return world

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        match effect:
            case ReadMetadata():
                return await self.in_thread(self.reader.metadata, effect)
            case ReadStatus():
                return await self.in_thread(self.reader.status, effect)
            case ReadPhaseup():
                return await self.in_thread(self.calibrator.phaseup, effect)
            case FetchCalibration():
                return await self.in_thread(self.calibrator.fetch, effect)
            case StartProcessing():
                await self.supervisor.start_processing(effect)
            case RestartPart():
                await self.supervisor.restart(effect.instance, effect.part)
            case Notify():
                self.alert(effect.severity.value, effect.text, array=effect.array, code=effect.code, id=effect.id)
            case _:
                raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")
        return []

    def committed(self, entries: Sequence[Entry]) -> None:
        """Show what has changed."""
        super().committed(entries)
        session = self.session("coordinate")
        if session is not None and self.runner is not None:
            self._show(session, self.runner)

    def _show(self, session: Session, runner: MachineRunner[CommensalMachine]) -> None:
        data = overview(runner.machine)
        session.data = {**data, "listening": self.listening, "fault": self.fault, "timestamp": self.clock_time()}
        self.feeds["commensal"].publish("pool", {**data["pool"], "runs": data["completed_runs"]})


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    add_redis_arguments(group, "Redis that CAM and the instances share")
    group.add_argument("--config", required=True, help="YAML file: instances, subarrays, times, rules")
    group.add_argument("--analyzer-prefix", default="analyzer-", help="instance-ids of analyzers: prefix, host, number")
    add_journal_argument(group)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(CommensalCoordinator, add_agent_args(), args)


if __name__ == "__main__":
    main()
