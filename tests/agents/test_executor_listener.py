"""The executor listener: what every agent promises, and documents on loopback multicast that make nodes record."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.executor_listener.agent import ExecutorListener, add_agent_args
from socs_bl.bdf.scan import Scan, decode_scan
from socs_bl.client import connect
from socs_bl.correlator.observation.wire import parse_observation
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.process import free_port
from socs_bl.services.sqlite_journal import SqliteJournal
from tests.correlator.observation.documents import ANTENNAS, OBSERVATION
from tests.harness.agent_case import (
    AgentCase,
    arguments,
    begun,
    end,
    ended,
    make_site_agent,
    pause,
    run_operation,
    until,
)
from tests.harness.node_agent import NodeAgent

pytestmark = [pytest.mark.live, pytest.mark.network]
NODES = ("cbe-01", "cbe-02")
GROUP, ANTENNA_GROUP = "239.192.60.2", "239.192.60.1"
# Ports of this run's own: multicast on loopback is heard by every process of the machine.
PORT, ANTENNA_PORT = free_port(), free_port()
DATASET = "L_realfast.57897.87981900463"
BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><Observation datasetId="&c;"/>'


def make(site_agent: SiteAgent, directory: Path, *more: str) -> ExecutorListener:
    """A listener with its journal below `directory`."""
    argv = ["--observation-group", GROUP, "--observation-port", str(PORT), "--antenna-group", ANTENNA_GROUP]
    argv += ["--antenna-port", str(ANTENNA_PORT), "--journal", f"sqlite://{directory}/journal.db", *more]
    return ExecutorListener(site_agent, arguments(add_agent_args(), *argv))


class TestExecutorListener(AgentCase):
    """What every agent promises."""

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> ExecutorListener:
        self.journal = tmp_path / "journal.db"
        return make(site_agent, tmp_path)

    def parameters(self, name: str) -> dict[str, object] | None:
        return {"close_scan": {"dataset_id": "nobody"}, "explain": {"subject": "ledger"}}.get(name, {})

    def state(self, agent: Any) -> object:
        journal = SqliteJournal(self.journal, "socs_bl:observation:agent-1")
        try:
            return journal.load()
        finally:
            journal.close()


class Orders:
    """What the nodes of a site have been told."""

    def __init__(self, router: CrossbarNode) -> None:
        self.nodes = {name: NodeAgent(router, name) for name in NODES}

    @property
    def scans(self) -> dict[tuple[str, str], Scan]:
        """By node and uid, what is recorded."""
        told = (
            (name, decode_scan(params["scan"])) for name, node in self.nodes.items() for params in node.of("record")
        )
        return {(name, scan.uid): scan for name, scan in told}

    @property
    def stops(self) -> dict[tuple[str, str], int]:
        """By node and uid, the ends."""
        told = ((name, params) for name, node in self.nodes.items() for params in node.of("stop_recording"))
        return {(name, params["uid"]): params["stop_ns"] for name, params in told}


class Executor:
    """Sends documents."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))

    def send(self, document: str | bytes, group: str = GROUP, port: int = PORT) -> None:
        data = document.encode() if isinstance(document, str) else document
        self.socket.sendto(data, (group, port))

    def scan(self, number: int, seconds: float, **changes: str) -> None:
        """An Observation that begins so many seconds from now."""
        text = OBSERVATION.replace('startTime="57897.87981900463"', f'startTime="{mjd(time.time() + seconds)}"')
        text = text.replace("<scanNo>2<", f"<scanNo>{number}<")
        for old, new in changes.items():
            text = text.replace(f"<{old}>{ {'name': 'J1041+0610', 'correlator': 'widar'}[old] }<", f"<{old}>{new}<")
        self.send(text)


def mjd(wall: float) -> str:
    """Unix seconds as the executor writes them."""
    return f"{wall / 86400 + 40587:.11f}"


@pytest.fixture
def executor() -> Iterator[Executor]:
    """A sender on loopback."""
    made = Executor()
    yield made
    made.socket.close()


@pytest.fixture
def orders(router: CrossbarNode) -> Iterator[Orders]:
    """Two nodes on the router."""
    made = Orders(router)
    for node in made.nodes.values():
        pytest_twisted.blockon(Deferred.fromCoroutine(node.start()))
    yield made
    for node in made.nodes.values():
        pytest_twisted.blockon(Deferred.fromCoroutine(node.stop()))


@pytest.fixture
def listener(router: CrossbarNode, tmp_path: Path) -> Iterator[Callable[..., Awaitable[ExecutorListener]]]:
    """Starts listeners on one journal, one after the other, connected to the router."""
    made: list[ExecutorListener] = []

    async def start(*more: str) -> ExecutorListener:
        agent = make(make_site_agent("ExecutorListener"), tmp_path, "--nodes", ",".join(NODES), *more)
        made.append(agent)
        agent.client = await connect(router.ws_url, router.realm, router.address_root)
        await begun(agent, "listen")
        await until(lambda: "listening" in data(agent), "it reports")
        return agent

    yield start
    for agent in made:
        pytest_twisted.blockon(agent.site_agent.end())
        agent.close()
        pytest_twisted.blockon(Deferred.fromCoroutine(agent.client.close()))


def data(agent: ExecutorListener) -> dict[str, Any]:
    """The session data of the process."""
    found: dict[str, Any] = agent.site_agent.sessions["listen"].data
    return found


@pytest_twisted.ensureDeferred
async def test_scans_by_multicast(
    listener: Callable[..., Awaitable[ExecutorListener]], executor: Executor, orders: Orders
) -> None:
    """Antennas and three documents on the wire: each node is told two scans, both ends, and nothing of FINISH."""
    agent = await listener()
    executor.send(ANTENNAS, ANTENNA_GROUP, ANTENNA_PORT)
    await until(
        lambda: agent.runner is not None and f"antennas/{DATASET}" in agent.runner.machine.cells, "the antennas"
    )
    executor.scan(1, 0.2)
    await until(lambda: len(orders.scans) == 2, "both nodes record the first scan")
    executor.scan(2, 0.5)
    executor.scan(3, 0.9, name="FINISH")
    await until(lambda: len(orders.stops) == 4, "both nodes know the ends of two scans")
    for node in NODES:
        first, second = (scan for (name, _), scan in orders.scans.items() if name == node)
        assert (first.scan, second.scan, first.dataset_id, first.source) == (1, 2, DATASET, "J1041+0610")
        assert orders.stops[node, first.uid] == second.start_ns and len(first.antennas) == 2
        assert 0.3e9 < orders.stops[node, second.uid] - second.start_ns < 60e9
        assert first.nodes == NODES
    await until(lambda: data(agent)["documents"]["closed"] == 2 and not data(agent)["waiting"], "all is shown")
    told = await run_operation(agent, "explain", subject=DATASET)
    assert told["success"] and told["data"]["chapters"], told
    await until(lambda: not agent.runner or not agent.runner.machine.recordings(), "the scans are over")
    listed = await run_operation(agent, "scans")
    assert [scan["scan"] for scan in listed["data"]["over"]] == [1, 2] and not listed["data"]["under_way"]


@pytest_twisted.ensureDeferred
async def test_bad_documents_are_counted_and_cost_nothing(
    listener: Callable[..., Awaitable[ExecutorListener]], executor: Executor, orders: Orders
) -> None:
    """Cut, bombed, of another kind, repeated, of another correlator: by kind, with the sender; the next one is taken."""
    agent = await listener()
    good = OBSERVATION.replace('57897.87981900463" seq', f'{mjd(time.time() + 5)}" seq')
    for bad in (good[:200], BOMB, "<Other/>", b"\xff\xfe\x00", b"", good.replace("<scanNo>2<", "<scanNo>two<")):
        executor.send(bad)
    executor.send(good)
    executor.send(good)
    executor.send(good.replace("widar", "dbe"))
    await until(
        lambda: sum(data(agent)["documents"][name] for name in ("accepted", "repeated", "outdated")) == 3, "all"
    )
    assert data(agent)["rejected"] == {"malformed": 2, "doctype": 1, "root": 1, "encoding": 1, "content": 1}
    assert data(agent)["last_rejected"]["kind"] == "content"
    assert data(agent)["last_rejected"]["sender"] == f"127.0.0.1:{executor.socket.getsockname()[1]}"
    assert data(agent)["documents"]["repeated"] == 1
    await until(lambda: len(orders.scans) == len(NODES), "the good one is recorded")
    assert parse_observation(good).records("widar")


@pytest_twisted.ensureDeferred
async def test_an_open_scan_survives_a_restart_and_can_be_closed_by_hand(
    listener: Callable[..., Awaitable[ExecutorListener]], executor: Executor, orders: Orders
) -> None:
    """A node that hangs holds up nobody; after a restart the scan is open, a person closes it, the node is told."""
    orders.nodes["cbe-02"].forgets.add("record")
    agent = await listener()
    executor.scan(1, 0.0)
    await until(lambda: len(orders.scans) == 2, "one node records; the other does not answer")
    (uid,) = {uid for _, uid in orders.scans}
    await until(lambda: data(agent)["waiting"] == {uid: ["cbe-02"]}, "one is waited for")
    await agent.site_agent.end()
    again = await listener()
    await until(lambda: len(orders.nodes["cbe-02"].of("record")) == 2, "the node that did not answer is asked again")
    refused = await run_operation(again, "close_scan", dataset_id="nobody")
    assert not refused["success"] and DATASET in json.dumps(refused["messages"])
    closed = await run_operation(again, "close_scan", dataset_id=DATASET)
    assert closed["success"], closed
    await until(lambda: len(orders.stops) == 2, "both nodes know the end")
    assert abs(orders.stops.popitem()[1] / 1e9 - time.time()) < 60.0
    end(again, "listen")
    assert (await ended(again, "listen"))["success"]
    await pause()


@pytest_twisted.ensureDeferred
async def test_an_interface_that_is_not_there_is_told(listener: Callable[..., Awaitable[ExecutorListener]]) -> None:
    """The process goes on degraded, saying what cannot be joined, and tries again."""
    agent = await listener("--interface", "203.0.113.77")
    await until(lambda: "203.0.113.77" in str(data(agent).get("fault")), "the fault is shown")
    assert agent.site_agent.sessions["listen"].degraded and data(agent)["listening"] is False
