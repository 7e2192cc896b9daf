"""Commensal coordinator: decides which instance records and searches for which subarray."""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.agentkit.notifier import Notifier
from socs_bl.agentkit.runner import MachineRunner
from socs_bl.agentkit.sinks import Notice, configured, level_of
from socs_bl.agents.coordinator.supervision import make_supervisor
from socs_bl.client import AsyncClient
from socs_bl.commensal import CommensalConfig, CommensalMachine, wire
from socs_bl.commensal.effects import Reader, heard, result
from socs_bl.commensal.model import (
    Notify,
    ReadMetadata,
    ReadStatus,
    Requested,
    StartProcessing,
    TelescopeEvent,
)
from socs_bl.commensal.view import overview
from socs_bl.core.codec import Entry
from socs_bl.core.config import load
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.core.names import parse_instance, parse_subarray
from socs_bl.services.redis_server import connect
from socs_bl.services.redis_url import add_redis_arguments
from socs_bl.services.subscriber import StreamReader, Subscriber

JOURNAL = "socs_bl:commensal"
REPORT_INTERVAL = 1.0  # seconds
SUBSCRIBE_PATIENCE = 5.0  # seconds for the subscription to CAM's channels


class CommensalCoordinator(MachineAgent[CommensalMachine]):
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
    )

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.config = load(Path(args.config), CommensalConfig)
        self.redis = connect(args.redis_url)
        self.reader = Reader(self.redis, self.config.domain)
        self.client = AsyncClient(site_agent, site_agent.site_args.address_root, self.on_join)
        self.supervisor = make_supervisor(self.config.supervisor, self.client, self.reactor, args.analyzer_prefix)
        self.notifier = Notifier(configured(self.config.notifications), self.reactor, super().alert, self.health)
        self.listening = False

    def close(self) -> None:
        """Also give connections back."""
        super().close()
        self.supervisor.close()
        self.notifier.close()
        self.redis.close()

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
                                        "obsid": "MeerKAT:array_1:20261121T040000Z", "target": "Hyd_A",
                                        "ends": 1795233620.0, "last_event": "tracking"}},
                 "pool": {"free": 2, "ready": 0, "recording": 2, "processing": 0, "quarantined": 0},
                 "quarantined": {},
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

    @operation("task", privs=2)
    async def send_event(
        self,
        session: Session,
        *,
        array: str,
        event: Literal["configure", "conf_complete", "tracking", "not-tracking", "rec-timeout", "deconfigure"],
    ) -> str | None:
        """send_event(array=None, event=None)

        **Task** - Hand the coordinator an event as if CAM had sent it.

        Parameters:
            array (str): The subarray.
            event (str): ``configure``, ``conf_complete``, ``tracking``, ``not-tracking``, ``rec-timeout`` or
                ``deconfigure``.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 119, "effects": ["ReadMetadata 119.1"], "sequence": 1}
        """
        return await self._submit(session, TelescopeEvent(word=event, array=parse_subarray(array)))

    @operation("task", privs=3)
    async def reset_array(self, session: Session, *, array: str) -> str | None:
        """reset_array(array=None)

        **Task** - Take a subarray out of WAITING or ERROR.

        Parameters:
            array (str): The subarray.

        Notes:
            The session data are those of ``send_event``.
        """
        return await self._submit(session, Requested(what="reset_array", name=parse_subarray(array)))

    @operation("task", privs=2)
    async def release_instance(self, session: Session, *, instance: str) -> str | None:
        """release_instance(instance=None)

        **Task** - Take an instance out of quarantine, into the pool.

        Parameters:
            instance (str): Its name, such as ``blpn64/1``.

        Notes:
            The session data are those of ``send_event``.
        """
        return await self._submit(session, Requested(what="release_instance", name=str(parse_instance(instance))))

    @operation("task", privs=2)
    async def quarantine_instance(self, session: Session, *, instance: str, reason: str = "") -> str | None:
        """quarantine_instance(instance=None, reason='')

        **Task** - Keep a free instance from being allocated.

        Parameters:
            instance (str): Its name, such as ``blpn64/1``.
            reason (str, optional): Why; it is shown to whoever asks.

        Notes:
            The session data are those of ``send_event``.
        """
        return await self._submit(
            session, Requested(what="quarantine_instance", name=str(parse_instance(instance)), reason=reason)
        )

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

    async def _submit(self, session: Session, event: Event) -> str:
        entry = await self.ask(event)
        effects = [f"{type(effect).__name__} {effect.id}" for effect in entry.effects]
        session.data = {"journal_sequence": entry.envelope.sequence, "effects": effects}
        return f"Taken in as event {entry.envelope.sequence}."

    async def _look(self) -> Mapping[str, Any]:
        """The world at a restart: the configuration, and what the instances say."""
        statuses = await self.in_thread(self.reader.statuses, self.config.hashpipe_instances)
        return {"config": self.config.model_dump(mode="json"), "statuses": statuses}

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        match effect:
            case ReadMetadata():
                return await self.in_thread(self.reader.metadata, effect)
            case ReadStatus():
                return await self.in_thread(self.reader.status, effect)
            case StartProcessing():
                await self.supervisor.start_processing(effect)
            case Notify():
                self.alert(effect.severity.value, effect.text, array=effect.array, code=effect.code, id=effect.id)
            case _:
                raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")
        return []

    def committed(self, entries: Sequence[Entry]) -> None:
        """Show what has changed."""
        session = self.session("coordinate")
        if session is not None and self.runner is not None:
            self._show(session, self.runner)

    def _show(self, session: Session, runner: MachineRunner[CommensalMachine]) -> None:
        data = overview(runner.machine)
        session.data = {**data, "listening": self.listening, "fault": self.fault, "timestamp": self.clock_time()}
        self.feeds["commensal"].publish("pool", {**data["pool"], "runs": data["completed_runs"]})

    def clock_time(self) -> float:
        """Unix time of the last event the machine has seen, seconds."""
        return self.runner.machine.now.wall if self.runner else 0.0


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
