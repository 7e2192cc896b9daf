"""The BDF publisher: what every agent promises, BdfInfo on a real group, and real kills at random moments."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.bdf_publisher.agent import BDFPublisher, add_agent_args
from socs_bl.bdf.wire import BdfInfo, parse_info
from socs_bl.services.journals import open_journal
from socs_bl.services.process import free_port
from tests.bdf.publishing import NODES, make_config, make_scan, mark, record
from tests.bdf.test_publishing import check_published
from tests.harness.agent_case import AgentCase, arguments, begun, end, ended, make_site_agent, run_operation, until

pytestmark = [pytest.mark.live, pytest.mark.network]
GROUP = "239.192.61.7"
NAME = "uid____evla_bdf_1433189755001"


def make(site_agent: SiteAgent, directory: Path, port: int) -> BDFPublisher:
    """A publisher below `directory`."""
    argv = (
        "--bdfdir", str(directory / "data"), "--group", GROUP, "--port", str(port), "--poll-seconds", "0.05",
        "--redis-url", "redis://127.0.0.1:1/0", "--journal", f"sqlite://{directory}/journal.db",
    )  # fmt: skip
    return BDFPublisher(site_agent, arguments(add_agent_args(), *argv))


class TestBDFPublisher(AgentCase):
    """What every agent promises."""

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> BDFPublisher:
        self.journal = f"sqlite://{tmp_path}/journal.db"
        return make(site_agent, tmp_path, free_port())

    def parameters(self, name: str) -> dict[str, object] | None:
        return {"name": NAME} if name in ("publish_now", "discard", "resend", "explain") else {}

    def state(self, agent: Any) -> object:
        journal = open_journal(self.journal, "socs_bl:bdf_publisher:agent-1")
        try:
            return journal.load()
        finally:
            journal.close()


class Ear:
    """Hears the group on loopback."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((GROUP, 0))
        self.port = int(self.socket.getsockname()[1])
        membership = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton("127.0.0.1"))
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        self.heard: list[bytes] = []

    def listen(self) -> list[BdfInfo]:
        """Everything that has been heard so far."""
        while select.select([self.socket], [], [], 0)[0]:
            self.heard.append(self.socket.recv(65536))
        return [parse_info(data) for data in self.heard]


@pytest.fixture
def ear() -> Iterator[Ear]:
    """A receiver of BdfInfo."""
    made = Ear()
    yield made
    made.socket.close()


@pytest.fixture
def agent(ear: Ear, tmp_path: Path) -> Iterator[BDFPublisher]:
    """A publisher that is not started yet."""
    made = make(make_site_agent("BDFPublisher"), tmp_path, ear.port)
    yield made
    pytest_twisted.blockon(made.site_agent.end())
    made.close()


def files(agent: BDFPublisher) -> dict[str, Any]:
    """Files that are not done, as the session data show them."""
    shown: dict[str, Any] = agent.site_agent.sessions["publish"].data.get("files", {})
    return shown


@pytest_twisted.ensureDeferred
async def test_files_are_published_and_announced(agent: BDFPublisher, ear: Ear) -> None:
    """What nodes have finished before and after the start is published; session data, BdfInfo and files agree."""
    private = agent.config.private
    first = record(private, make_scan(1))
    for node in NODES:
        mark(private, first, node)
    await begun(agent, "publish")
    await until(lambda: len(ear.listen()) == 1, "the first file is announced")
    second = record(private, make_scan(2))
    mark(private, second, NODES[0])
    await until(
        lambda: [file["missing"] for file in files(agent).values()] == [["cbe-02"]], "only the second one waits"
    )
    listed = await run_operation(agent, "list_files")
    assert [file["name"] for file in listed["data"]["files"]] == [second]
    mark(private, second, NODES[1])
    await until(lambda: len(ear.listen()) == 2 and not files(agent), "the second file is announced")
    for number, name in enumerate((first, second), 1):
        check_published(agent.config, name, ear.heard, number)
    data = agent.site_agent.sessions["publish"].data
    assert [item["name"] for item in data["latest"]] == [second, first] and data["integrations"] == 12
    resent = await run_operation(agent, "resend", name=first)
    await until(lambda: len(ear.listen()) == 3 and not agent.running().machine.files, "it is announced again")
    assert resent["success"] and ear.heard[2] == ear.heard[0]
    story = await run_operation(agent, "explain", name=first)
    assert story["data"]["standing"] == ["is published and announced"] and story["data"]["chapters"]
    unknown = await run_operation(agent, "resend", name="uid____evla_bdf_9")
    assert not unknown["success"] and "list_files" in str(unknown["messages"])
    end(agent, "publish")
    assert (await ended(agent, "publish"))["success"]


@pytest_twisted.ensureDeferred
async def test_people_decide(agent: BDFPublisher, ear: Ear) -> None:
    """publish_now and discard; the process is degraded while a file waits for people."""
    private = agent.config.private
    names = [record(private, make_scan(number)) for number in (1, 2)]
    part = private / f"{names[1]}.part"
    part.write_bytes(b"x" + part.read_bytes())
    for node in NODES:
        mark(private, names[1], node)
    await begun(agent, "publish")
    session = agent.site_agent.sessions["publish"]
    await until(lambda: session.degraded and files(agent)[names[1]]["stage"] == "damaged", "it is damaged")
    hostile = await run_operation(agent, "discard", name="../../etc/passwd")
    assert not hostile["success"] and part.exists()
    assert (await run_operation(agent, "discard", name=names[1]))["success"]
    assert (await run_operation(agent, "publish_now", name=names[0]))["success"]
    await until(lambda: len(ear.listen()) == 1 and not files(agent), "the other one is published")
    await until(lambda: not session.degraded, "all is well")
    assert not part.exists() and "published by hand" in (agent.config.bdfdir / f"{names[0]}.json").read_text()


PROGRAM = """
import sys
from pathlib import Path
from socs_bl.bdf.effects import Announcer
from socs_bl.services.journals import open_journal
from ipaddress import IPv4Address
import tests.bdf.publishing as publishing
from socs_bl.bdf.files import Files

directory, port = Path(sys.argv[1]), int(sys.argv[2])
config = publishing.make_config(directory)
announcer = Announcer(IPv4Address(sys.argv[3]), port, IPv4Address("127.0.0.1"), 0)

class Sent(list):
    append = staticmethod(announcer.send)

print("ready", flush=True)
sys.stdin.readline()
journal = open_journal(f"sqlite://{directory}/journal.db", "publisher")
publishing.Publisher(config, journal, Files(), Sent(), wall=publishing.START_NS / 1e9 + 6)
print("done", flush=True)
"""


def test_killed_at_random_moments(tmp_path: Path, ear: Ear) -> None:
    """SIGKILL while two files are published, again and again: in the end each is there once, whole and announced."""
    chance = random.Random(7)
    private = tmp_path / "data" / ".private"
    names = [record(private, make_scan(number)) for number in (1, 2)]
    for name in names:
        for node in NODES:
            mark(private, name, node)
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path), str(ear.port), GROUP]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = 0
    for life in range(6):
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("\n")
            process.stdin.flush()
            if life < 5:
                time.sleep(chance.uniform(0.0, 0.04))  # the moment of the kill is what is tried
                process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        for name in names:
            assert (private / f"{name}.part").exists() or (tmp_path / "data" / name).exists()
    infos = ear.listen()
    assert killed >= 1 and {info.id for info in infos} == set(names)
    for number, name in enumerate(names, 1):
        check_published(make_config(tmp_path), name, ear.heard, number)
