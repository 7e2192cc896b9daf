"""The executor listener: what every agent promises, and documents on loopback multicast that make nodes record."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.executor_listener import agent as module
from socs_bl.agents.executor_listener.agent import ExecutorListener, add_agent_args
from socs_bl.bdf.scan import Scan, decode_scan
from socs_bl.correlator.observation.wire import parse_observation
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

pytestmark = [pytest.mark.live, pytest.mark.network]
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
    """Stands for the nodes of a site: orders come in as they would by WAMP; some nodes do not answer."""

    def __init__(self) -> None:
        self.scans: dict[tuple[str, str], Scan] = {}
        self.stops: dict[tuple[str, str], int] = {}
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def command(self, client: object, node: str, op: str, **params: Any) -> dict[str, Any]:
        """Take an order."""
        self.asked.append((node, op))
        if node in self.silent:
            await Deferred()  # for ever: the effect's deadline ends it
        if op == "record":
            scan = decode_scan(params["scan"])
            self.scans[node, scan.uid] = scan
        else:
            self.stops[node, params["uid"]] = params["stop_ns"]
        return {}


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
def orders(monkeypatch: pytest.MonkeyPatch) -> Orders:
    """Nodes that answer in this process."""
    made = Orders()
    monkeypatch.setattr(module, "command", made.command)
    return made


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Callable[..., ExecutorListener]]:
    """Makes listeners on one journal, one after the other."""
    made: list[ExecutorListener] = []

    def make_one(*more: str) -> ExecutorListener:
        made.append(make(make_site_agent("ExecutorListener"), tmp_path, *more))
        return made[-1]

    yield make_one
    for agent in made:
        pytest_twisted.blockon(agent.site_agent.end())
        agent.close()


def data(agent: ExecutorListener) -> dict[str, Any]:
    """The session data of the process."""
    found: dict[str, Any] = agent.site_agent.sessions["listen"].data
    return found


@pytest_twisted.ensureDeferred
async def test_scans_by_multicast(
    listener: Callable[..., ExecutorListener], executor: Executor, orders: Orders
) -> None:
    """Antennas and three documents on the wire: each node is told two scans, both ends, and nothing of FINISH."""
    agent = listener("--nodes", "cbe-01,cbe-02")
    await begun(agent, "listen")
    await until(lambda: bool(data(agent).get("listening")), "the groups are joined")
    executor.send(ANTENNAS, ANTENNA_GROUP, ANTENNA_PORT)
    await until(
        lambda: agent.runner is not None and f"antennas/{DATASET}" in agent.runner.machine.cells, "the antennas"
    )
    executor.scan(1, 0.2)
    await until(lambda: len(orders.scans) == 2, "both nodes record the first scan")
    executor.scan(2, 0.5)
    executor.scan(3, 0.9, name="FINISH")
    await until(lambda: len(orders.stops) == 4, "both nodes know the ends of two scans")
    for node in ("cbe-01", "cbe-02"):
        first, second = (scan for (name, _), scan in orders.scans.items() if name == node)
        assert (first.scan, second.scan, first.dataset_id, first.source) == (1, 2, DATASET, "J1041+0610")
        assert orders.stops[node, first.uid] == second.start_ns and len(first.antennas) == 2
        assert 0.3e9 < orders.stops[node, second.uid] - second.start_ns < 60e9
        assert first.nodes == ("cbe-01", "cbe-02")
    await until(lambda: data(agent)["documents"]["closed"] == 2 and not data(agent)["waiting"], "all is shown")
    told = await run_operation(agent, "explain", subject=DATASET)
    assert told["success"] and told["data"]["chapters"], told
    await until(lambda: not agent.runner or not agent.runner.machine.recordings(), "the scans are over")
    listed = await run_operation(agent, "scans")
    assert [scan["scan"] for scan in listed["data"]["over"]] == [1, 2] and not listed["data"]["under_way"]


@pytest_twisted.ensureDeferred
async def test_bad_documents_are_counted_and_cost_nothing(
    listener: Callable[..., ExecutorListener], executor: Executor, orders: Orders
) -> None:
    """Cut, bombed, of another kind, repeated, of another correlator: by kind, with the sender; the next one is taken."""
    agent = listener()
    await begun(agent, "listen")
    await until(lambda: bool(data(agent).get("listening")), "the groups are joined")
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
    assert data(agent)["documents"]["repeated"] == 1 and len(orders.scans) == 1
    assert parse_observation(good).records("widar")


@pytest_twisted.ensureDeferred
async def test_an_open_scan_survives_a_restart_and_can_be_closed_by_hand(
    listener: Callable[..., ExecutorListener], executor: Executor, orders: Orders
) -> None:
    """A node that hangs holds up nobody; after a restart the scan is open, a person closes it, the node is told."""
    orders.silent.add("cbe-02")
    agent = listener("--nodes", "cbe-01,cbe-02")
    await begun(agent, "listen")
    await until(lambda: bool(data(agent).get("listening")), "the groups are joined")
    executor.scan(1, 0.0)
    await until(lambda: len(orders.scans) == 1 and ("cbe-02", "record") in orders.asked, "one node records, one hangs")
    await agent.site_agent.end()
    orders.silent.clear()
    again = listener("--nodes", "cbe-01,cbe-02")
    await begun(again, "listen")
    await until(lambda: len(orders.scans) == 2, "the node that hung is asked again")
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
async def test_an_interface_that_is_not_there_is_told(listener: Callable[..., ExecutorListener]) -> None:
    """The process goes on degraded, saying what cannot be joined, and tries again."""
    agent = listener("--interface", "203.0.113.77")
    await begun(agent, "listen")
    await until(lambda: "203.0.113.77" in str(data(agent).get("fault")), "the fault is shown")
    assert agent.site_agent.sessions["listen"].degraded and data(agent)["listening"] is False
