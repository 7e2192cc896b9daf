"""Executor listener: has every scan that the observation executor announces recorded."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.bdf.scan import encode_scan
from socs_bl.client import AsyncClient
from socs_bl.client.command import command
from socs_bl.core.clock import SystemClock
from socs_bl.core.config import from_arguments
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import Event
from socs_bl.core.xml import BadXml
from socs_bl.correlator.observation import wire
from socs_bl.correlator.observation.config import ObservationConfig
from socs_bl.correlator.observation.hearing import Group
from socs_bl.correlator.observation.machine import ObservationMachine
from socs_bl.correlator.observation.model import (
    Antennas,
    AntennasHeard,
    CloseAsked,
    Notify,
    Observation,
    ObservationHeard,
    Record,
    StopRecording,
)
from socs_bl.correlator.observation.story import ObservationTeller
from socs_bl.correlator.observation.view import overview, scans_view
from socs_bl.correlator.rejections import Rejections
from socs_bl.services.redis_url import add_redis_arguments

JOURNAL = "socs_bl:observation:"
REPORT_INTERVAL = 0.5  # seconds
NODE_PATIENCE = 20.0  # seconds an order waits while the node takes another


class ExecutorListener(MachineAgent[ObservationMachine]):
    """Hears Observation documents and tells the nodes of the back end which scans to record. It configures nothing.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "executor_listener",
            {
                "documents": {
                    "accepted": int, "repeated": int, "outdated": int, "rejected": int, "open": int, "waiting": int,
                }
            },
        ),
    )  # fmt: skip

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.config = from_arguments(args, ObservationConfig)
        self.client = AsyncClient(site_agent, site_agent.site_args.address_root, self.on_join)
        self.clock = SystemClock()
        self.rejections = Rejections()

    @operation("process", privs=2, startup=True, hardware="documents")
    async def listen(self, session: Session, *, test_mode: bool = False) -> str | None:
        """listen(test_mode=False)

        **Process** - Hear the executor's documents and have their scans recorded; starts with the agent. After a
        restart the scans that were open are open still, and nodes are told what they were not told yet.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The process is degraded while a group cannot be joined or the journal does not answer. 'datasets' holds
            the open scan of each dataset, or None; 'waiting' by uid the nodes that have not taken all they should.
            The session data are::

                >>> response.session['data']
                {"listening": True, "nodes": ["cbe-01"],
                 "groups": {"observation": "239.192.3.2:53001", "antennas": "239.192.3.1:53000"},
                 "datasets": {"TST.61365.1": {"uid": "uid:///evla/bdf/1795233600123", "dataset_id": "TST.61365.1",
                                              "scan": 2, "subscan": 1, "source": "3C286", "start": 1795233605.0,
                                              "stop": None, "nodes": {"cbe-01": "told"}}},
                 "waiting": {},
                 "documents": {"accepted": 2, "repeated": 0, "outdated": 0, "crowded": 0, "opened": 2, "closed": 1,
                               "lost": 0},
                 "rejected": {"malformed": 1},
                 "last_rejected": {"kind": "malformed", "sender": "10.64.1.9:41231", "text": "document is not ...",
                                   "time": 1795233601.0},
                 "fault": "", "timestamp": 1795233610.0, "sequence": 12}
        """
        config = self.config
        groups = {
            "observation": Group(str(config.observation_group), config.observation_port, str(config.interface), self._heard),
            "antennas": Group(str(config.antenna_group), config.antenna_port, str(config.interface), self._heard),
        }  # fmt: skip
        instance_id = self.address.rpartition(".")[2]
        runner = self.make_runner(
            ObservationMachine, self.open_journal(JOURNAL + instance_id), self._carry_out, self._look
        )
        try:
            # Joined before the journal is read, so that nothing is said in between unheard.
            trouble = await self._join(groups)
            await runner.start()
            while True:
                trouble = await self._join(groups) if trouble else ""
                self._show(session, groups, trouble)
                self.check_writer()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            for group in groups.values():
                await group.leave()
            self.runner = None
            await runner.stop()

    @operation("task", privs=2)
    async def close_scan(self, session: Session, *, dataset_id: str) -> str | None:
        """close_scan(dataset_id=None)

        **Task** - End the open scan of a dataset now, as when the executor has died without ``FINISH``.

        Parameters:
            dataset_id (str): As ``scans`` shows it.

        Notes:
            There are no session data.
        """
        await self.ask(CloseAsked(dataset_id=dataset_id))
        return f"The scan of {dataset_id} ends now."

    @operation("task", privs=1)
    async def scans(self, session: Session) -> str | None:
        """scans()

        **Task** - List the scans that are under way, and the last ones that are over.

        Notes:
            The session data are::

                >>> response.session['data']
                {"under_way": [{"uid": "uid:///evla/bdf/1795233600123", "dataset_id": "TST.61365.1", "scan": 2,
                                "subscan": 1, "source": "3C286", "start": 1795233605.0, "stop": None,
                                "nodes": {"cbe-01": "told"}}],
                 "over": [{"uid": "uid:///evla/bdf/1795233590001", "dataset_id": "TST.61365.1", "scan": 1,
                           "subscan": 1, "source": "3C48", "start": 1795233595.0, "stop": 1795233605.0,
                           "reason": "3C286, scan 2.1"}], "sequence": 1}
        """
        session.data = scans_view(self.running().machine)
        return None

    @operation("task", privs=1)
    async def explain(self, session: Session, *, subject: str) -> str | None:
        """explain(subject=None)

        **Task** - Say why a dataset or a recording is as it is, from the journal.

        Parameters:
            subject (str): A dataset id, the uid of a recording, or the id of an effect.

        Notes:
            The same as text: ``socs-bl explain``. The session data are::

                >>> response.session['data']
                {"subject": "TST.61365.1", "standing": ["has no scan under way"],
                 "chapters": [{"sequence": 31, "time": 1795233602.0, "changes": ["dataset/TST.61365.1: ..."],
                               "said": [], "chain": [{"sequence": 31, "time": 1795233602.0, "text": "a document ..."}]}],
                 "journal_sequence": 40, "first": 1, "unlike": 0, "sequence": 1}
        """
        return await self.show_story(session, subject, ObservationTeller())

    # -- how it works ---------------------------------------------------------------------------------------------

    async def _join(self, groups: Mapping[str, Group]) -> str:
        """Join the groups that are not joined; why one is not, or nothing."""
        try:
            for group in groups.values():
                await group.join(self.reactor)
        except Retry as error:
            return str(error)
        return ""

    async def _look(self) -> Mapping[str, Any]:
        config = self.config.model_dump(mode="json")
        return {name: config[name] for name in ("correlator", "nodes", "first_pause", "longest_pause", "give_up")}

    def _heard(self, datagram: bytes, sender: str) -> None:
        """Take a document, or count why not."""
        try:
            document = wire.parse_document(datagram)
        except BadXml as error:
            if self.rejections.count(error.kind, sender, str(error), self.clock.now().wall):
                self.alert("warning", f"a datagram from {sender} was not taken: {error}", kind=error.kind)
            return
        if isinstance(document, Observation):
            self.feed(ObservationHeard(observation=document))
            return
        known = self.runner and self.runner.machine.get(f"antennas/{document.dataset_id}", Antennas)
        if not known or known.table != document:  # it is repeated all the time
            self.feed(AntennasHeard(table=document))

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        match effect:
            case Record(node=node, scan=scan):
                await self._order(node, "record", scan=encode_scan(scan))
            case StopRecording(node=node, uid=uid, stop_ns=stop_ns, reason=reason):
                await self._order(node, "stop_recording", uid=uid, stop_ns=stop_ns, reason=reason)
            case Notify(level=level, text=text):
                self.alert(level, text)
            case _:
                raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")
        return []

    async def _order(self, node: str, op: str, **params: Any) -> None:
        """Have a node do something; it takes one order of a kind at a time."""
        async with self.lock(f"{node} {op}").held(op, NODE_PATIENCE):
            await command(self.client, node, op, **params)

    def _show(self, session: Session, groups: Mapping[str, Group], trouble: str) -> None:
        data = overview(self.running().machine)
        session.degraded = bool(self.fault or trouble)
        session.data = {
            "listening": not trouble,
            "nodes": self.config.nodes,
            "groups": {name: f"{group.group}:{group.port}" for name, group in groups.items()},
            **data,
            "rejected": self.rejections.counts,
            "last_rejected": self.rejections.last,
            "fault": self.fault or trouble,
            "timestamp": self.clock.now().wall,
        }
        documents, open_scans = data["documents"], [scan for scan in data["datasets"].values() if scan]
        counts = {name: documents[name] for name in ("accepted", "repeated", "outdated")}
        waiting = sum(len(nodes) for nodes in data["waiting"].values())
        self.feeds["executor_listener"].publish(
            "documents", {**counts, "rejected": self.rejections.total, "open": len(open_scans), "waiting": waiting}
        )


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    add_redis_arguments(group, "Redis of the journal")
    group.add_argument("--nodes", help="instance-ids of the back end's nodes, such as cbe-01,cbe-02 (default: cbe-01)")
    group.add_argument("--observation-group", help="group of the Observation documents (default: 239.192.3.2)")
    group.add_argument("--observation-port", type=int, help="their port (default: 53001)")
    group.add_argument("--antenna-group", help="group of the antenna property tables (default: 239.192.3.1)")
    group.add_argument("--antenna-port", type=int, help="their port (default: 53000)")
    group.add_argument("--interface", help="address of the interface that joins the groups (default: 127.0.0.1)")
    group.add_argument("--correlator", help="whose scans are recorded (default: widar)")
    group.add_argument("--first-pause", type=float, help="seconds before a node is asked again (default: 0.5)")
    group.add_argument("--longest-pause", type=float, help="longest of these pauses, which grow (default: 30)")
    group.add_argument(
        "--give-up",
        type=float,
        help="seconds after a scan at which a node that never took it is given up (default: 600)",
    )
    add_journal_argument(group, movable=True)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(ExecutorListener, add_agent_args(), args)


if __name__ == "__main__":
    main()
