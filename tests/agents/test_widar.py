"""The simulated correlator's agent: operations, and one observation as a listener hears it."""

from __future__ import annotations

import socket
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import yaml

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.widar.agent import Widar, add_agent_args
from socs_bl.correlator import wire
from socs_bl.simulators.sky import CorrelatorTruth
from socs_bl.simulators.truth_file import read_truth
from tests.harness.agent_case import AgentCase, arguments, begun, end, ended, make_site_agent, run_operation, until

GROUPS = ("239.192.53.1", "239.192.53.2", "239.192.53.3")
SCANS = [
    {"source": "CAL", "ra_deg": 200.0, "dec_deg": 30.0, "seconds": 0.4, "calibrator": True},
    {"source": "FIELD", "ra_deg": 210.0, "dec_deg": 20.0, "seconds": 0.4},
]


def make(site_agent: SiteAgent, directory: Path, ports: tuple[int, int] = (53601, 53602)) -> Widar:
    """A correlator with two short scans, on groups of its own."""
    network = {
        "lag_group": GROUPS[0], "lag_port": ports[0], "observation_group": GROUPS[1], "observation_port": ports[1],
        "antenna_group": GROUPS[2], "antenna_port": ports[1],
    }  # fmt: skip
    config = directory / "widar.yaml"
    config.write_text(yaml.safe_dump({"scans": SCANS, "lead_s": 0.2, "dump_factor": 40, "network": network}))
    return Widar(
        site_agent, arguments(add_agent_args(), "--config", str(config), "--run-dir", str(directory / "widar"))
    )


@pytest.mark.live
class TestWidar(AgentCase):
    """What every agent promises."""

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> Widar:
        return make(site_agent, tmp_path)

    def state(self, agent: Any) -> object:
        return agent.process.started, agent.config_id


@pytest.fixture
def ears() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Who hears frames, and who hears documents."""
    found = []
    for groups in (GROUPS[:1], GROUPS[1:]):
        heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        heard.bind(("", 0))
        heard.setblocking(False)
        for group in groups:
            membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("127.0.0.1"))
            heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        found.append(heard)
    yield found[0], found[1]
    for heard in found:
        heard.close()


def documents(heard: socket.socket) -> list[ElementTree.Element]:
    """The documents that have come."""
    found = []
    while True:
        try:
            found.append(ElementTree.fromstring(heard.recv(100_000)))
        except BlockingIOError:
            return found


@pytest.fixture
def agent(tmp_path: Path, ears: tuple[socket.socket, socket.socket]) -> Iterator[Widar]:
    """A correlator that the ears hear."""
    agent = make(make_site_agent("Widar"), tmp_path, (ears[0].getsockname()[1], ears[1].getsockname()[1]))
    yield agent
    pytest_twisted.blockon(agent.site_agent.end())
    agent.close()


@pytest.mark.live
@pytest.mark.network
@pytest_twisted.ensureDeferred
async def test_an_observation_is_heard(agent: Widar, ears: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    """Promise: boards send sound frames; observe writes what it injects, says every document in order and ends."""
    assert not (await run_operation(agent, "observe"))["success"], "without boards"
    configured = await run_operation(agent, "configure")
    root = ElementTree.parse(configured["data"]["document"]).getroot()
    assert root.get("configId") == configured["data"]["config_id"]
    assert configured["data"]["edges_hz"] == {"AC_8BIT": 1e9, "BD_8BIT": 2.1e9}
    await begun(agent, "boards")
    session = await run_operation(agent, "observe", seed=3)
    assert session["success"], session["messages"]
    heard = documents(ears[1])
    assert [root.findtext("name", "table") for root in heard] == ["table", "CAL", "FIELD", "FINISH"]
    assert heard[1].get("configId") == configured["data"]["config_id"]
    truth = read_truth(Path(session["data"]["truth"]), CorrelatorTruth)
    assert (truth.seed, truth.dataset_id) == (3, heard[1].get("datasetId"))
    assert session["data"]["progress"]["step"] == "FINISH" and len(session["data"]["said"]) == 4
    frame = wire.parse_frame(ears[0].recv(2048))
    assert frame.header["sid_x"] in (3, 7, 12, 19, 24)
    end(agent, "boards")
    counters = (await ended(agent, "boards"))["data"]["counters"]
    assert counters["frames"] == counters["dumps"] * 165 and not agent.process.started


@pytest.mark.live
@pytest.mark.network
@pytest_twisted.ensureDeferred
async def test_abort_ends_the_dataset(agent: Widar, ears: tuple[socket.socket, socket.socket]) -> None:
    """Promise: an observation that is aborted says FINISH, so that nobody records on."""
    await begun(agent, "boards")
    await begun(agent, "observe")
    session = agent.session("observe")
    assert session is not None
    await until(lambda: len(session.data.get("said", [])) == 2, "the first scan is announced")
    end(agent, "observe")
    assert not (await ended(agent, "observe"))["success"]
    assert [root.findtext("name", "table") for root in documents(ears[1])][-1] == "FINISH"


@pytest_twisted.ensureDeferred
async def test_two_on_one_machine_do_not_mix_their_frames(tmp_path: Path) -> None:
    """Promise: with --own-port each sends to a port of its own."""
    made = [
        Widar(make_site_agent("Widar"), arguments(add_agent_args(), "--own-port", "--run-dir", str(tmp_path / name)))
        for name in ("one", "two")
    ]
    ports = {agent.config.network.lag_port for agent in made}
    for agent in made:
        await agent.site_agent.end()
        agent.close()
    assert len(ports) == 2 and 53500 not in ports


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_faults_are_told_to_the_boards(agent: Widar) -> None:
    """Promise: inject reaches the boards, which count what they did; impossible fractions are refused in words."""
    assert "do not run" in str((await run_operation(agent, "inject", lost=0.5))["messages"])
    await begun(agent, "boards")
    assert "add up to 1.2" in str((await run_operation(agent, "inject", lost=0.6, cut=0.6))["messages"])
    assert (await run_operation(agent, "inject", lost=0.5, restart=1))["success"]
    await until(lambda: agent.process.report().get("lost", 0) > 0, "frames are lost")
    assert agent.process.counters["silent"] > 0
