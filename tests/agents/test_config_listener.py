"""The config listener: what every agent promises, a real pipe, and nodes on a real router."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.config_listener.agent import ConfigListener, add_agent_args
from socs_bl.client import connect
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.sqlite_journal import SqliteJournal
from tests.harness.agent_case import AgentCase, arguments, begun, end, ended, make_site_agent, run_operation, until
from tests.harness.node_agent import NodeAgent

pytestmark = pytest.mark.live
NAME = re.compile(r"\d\d_\d\d_\d\d(_\d)?")


def make(site_agent: SiteAgent, directory: Path, *more: str) -> ConfigListener:
    """A listener with pipe and journal below `directory`."""
    argv = ["--pipe", str(directory / "wcbe" / "config"), "--journal", f"sqlite://{directory}/journal.db", *more]
    return ConfigListener(site_agent, arguments(add_agent_args(), *argv))


class TestConfigListener(AgentCase):
    """What every agent promises."""

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> ConfigListener:
        self.journal = tmp_path / "journal.db"
        return make(site_agent, tmp_path, "--first-pause", "60", "--longest-pause", "60")

    def parameters(self, name: str) -> dict[str, object] | None:
        return {"submit": {"path": "/home/wcbe/c1.xml"}}.get(name, {})

    def state(self, agent: Any) -> object:
        journal = SqliteJournal(self.journal, "socs_bl:listener:agent-1")
        try:
            return journal.load()
        finally:
            journal.close()


class World:
    """A listener, its pipe, and two nodes."""

    def __init__(self, router: CrossbarNode, directory: Path) -> None:
        self.router = router
        self.directory = directory
        self.pipe = directory / "wcbe" / "config"
        self.nodes = {name: NodeAgent(router, name) for name in ("cbe-01", "cbe-02")}
        self.agents: list[ConfigListener] = []
        self.clients: list[Any] = []

    async def start(self, *more: str) -> ConfigListener:
        """Start the listener, connected to the router."""
        agent = make(make_site_agent("ConfigListener"), self.directory, *more)
        self.agents.append(agent)
        agent.client = await connect(self.router.ws_url, self.router.realm, self.router.address_root)
        self.clients.append(agent.client)
        await begun(agent, "listen")
        await until(lambda: bool(self.data().get("listening")), "the pipe is open")
        return agent

    def data(self) -> dict[str, Any]:
        """The session data of the process."""
        found: dict[str, Any] = self.agents[-1].site_agent.sessions["listen"].data
        return found

    def write(self, text: str | bytes) -> None:
        """Write into the pipe as a shell does: open, write, close."""
        with open(self.pipe, "wb", buffering=0) as pipe:
            pipe.write(text if isinstance(text, bytes) else text.encode())

    async def close(self) -> None:
        for agent in self.agents:
            await agent.site_agent.end()
            agent.close()
        for client in self.clients:
            await client.close()
        for node in self.nodes.values():
            await node.stop()


@pytest.fixture
def world(router: CrossbarNode, tmp_path: Path) -> Iterator[World]:
    """Both nodes answer."""
    made = World(router, tmp_path)
    for node in made.nodes.values():
        pytest_twisted.blockon(Deferred.fromCoroutine(node.start()))
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest_twisted.ensureDeferred
async def test_paths_become_configurations(world: World) -> None:
    """Mode 660; each line a configuration HH_MM_SS with autodestroy, activated at once, in order, by every node."""
    await world.start("--nodes", "cbe-01,cbe-02")
    found = os.stat(world.pipe)
    assert stat.S_ISFIFO(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o660
    world.write("/home/wcbe/a.xml\n\n  \n/home/wcbe/b.xml\n")
    world.write("/home/wcbe/")
    world.write("c.xml\n")
    await until(lambda: world.data()["configurations"]["activated"] == 6, "three configurations at two nodes")
    for node in world.nodes.values():
        made, activated = node.of("create_configuration"), node.of("activate_configuration")
        assert [params["path"] for params in made] == [f"/home/wcbe/{name}.xml" for name in "abc"]
        assert all(params["autodestroy"] is True and NAME.fullmatch(params["name"]) for params in made)
        assert [params["name"] for params in activated] == [params["name"] for params in made]
        assert [op for op, _ in node.told] == ["create_configuration", "activate_configuration"] * 3
    assert len({params["name"] for params in world.nodes["cbe-01"].of("create_configuration")}) == 3
    assert not world.data()["waiting"] and not world.data()["rejected"]


@pytest_twisted.ensureDeferred
async def test_any_error_is_counted_and_it_goes_on(world: World) -> None:
    """Relative, hostile, endless and garbled lines, and a document the node refuses: told, and the next one is made."""
    await world.start()
    node = world.nodes["cbe-01"]
    node.refuses["create_configuration"] = "line 3: no stream s9"
    for bad in ("c.xml\n", "/a/../etc/passwd\n", b"/\xff\xfe\n", b"/" * 5000 + b"\n"):
        world.write(bad)
    world.write("/bad.xml\n/good.xml\n")
    await until(lambda: world.data()["configurations"] == {"given": 2, "activated": 1, "failed": 1}, "both have ended")
    assert world.data()["rejected"] == {"path": 3, "oversized": 1}
    (failed,) = [past for past in world.data()["last"] if past["fault"]]
    assert failed["path"] == "/bad.xml" and "line 3: no stream s9" in failed["fault"]
    assert [params["path"] for params in node.of("create_configuration")] == ["/good.xml"]


@pytest_twisted.ensureDeferred
async def test_a_lost_answer_is_no_second_configuration(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has made it and its answer was lost: it is asked again under the same name, then activates it."""
    monkeypatch.setattr("socs_bl.client.wamp.DEADLINE", 0.5)
    await world.start()
    node = world.nodes["cbe-01"]
    node.forgets.add("create_configuration")
    world.write("/home/wcbe/a.xml\n")
    await until(lambda: world.data()["configurations"]["activated"] == 1, "it is activated")
    assert [op for op, _ in node.told] == ["create_configuration"] * 2 + ["activate_configuration"]
    assert len(node.configurations) == 1


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_run_yet_is_asked_again(world: World) -> None:
    """A node whose process does not run refuses everything; that is no verdict about the document."""
    agent = await world.start("--first-pause", "0.1")
    node = world.nodes["cbe-01"]
    node.running, node.refuses["create_configuration"] = False, "nothing decides here; start 'run' first"
    world.write("/home/wcbe/a.xml\n")
    await until(lambda: any(job.tries for job in agent.running().machine.queue("cbe-01").jobs), "it was asked in vain")
    node.running = True
    await until(lambda: world.data()["configurations"]["activated"] == 1, "it is activated")


@pytest_twisted.ensureDeferred
async def test_the_pipe_is_made_again(world: World) -> None:
    """Removed while the listener runs, as at a reboot: made again, with its mode; a restart finds it as it is."""
    agent = await world.start()
    world.pipe.unlink()
    await until(world.pipe.exists, "the pipe is there again")
    await until(lambda: stat.S_IMODE(os.stat(world.pipe).st_mode) == 0o660, "with its mode")
    world.write("/home/wcbe/a.xml\n")
    await until(lambda: world.data()["configurations"]["activated"] == 1, "it is activated")
    end(agent, "listen")
    await ended(agent, "listen")
    await world.start()
    world.write("/home/wcbe/b.xml\n")
    await until(lambda: world.data()["configurations"]["activated"] == 2, "after the restart")


@pytest.mark.parametrize("kind", ["file", "link", "taken"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_pipe_of_ours_is_not_read(world: World, kind: str) -> None:
    """A file or a link in its place, or a pipe that another listener reads: degraded, told, and left as it is."""
    world.pipe.parent.mkdir()
    if kind == "file":
        world.pipe.write_text("precious")
    elif kind == "link":
        os.mkfifo(world.directory / "other")
        world.pipe.symlink_to(world.directory / "other")
    else:
        await world.start()
        more: Callable[..., ConfigListener] = make
        world.agents.append(
            more(make_site_agent("ConfigListener"), world.directory, "--journal", f"sqlite://{world.directory}/2.db")
        )
    if kind != "taken":
        world.agents.append(make(make_site_agent("ConfigListener"), world.directory))
    await begun(world.agents[-1], "listen")
    await until(lambda: str(world.pipe) in str(world.data().get("fault")), "the fault is shown")
    assert world.agents[-1].site_agent.sessions["listen"].degraded
    assert kind != "file" or world.pipe.read_text() == "precious"


@pytest_twisted.ensureDeferred
async def test_submit_is_the_same_by_hand(world: World) -> None:
    """A person gives a path; what is no path is refused in words and changes nothing."""
    agent = await world.start()
    session = await run_operation(agent, "submit", path="/home/wcbe/a.xml")
    assert session["success"] and NAME.fullmatch(session["data"]["name"]), session
    refused = await run_operation(agent, "submit", path="a.xml")
    assert not refused["success"] and "absolute path" in str(refused["messages"])
    await until(lambda: world.data()["configurations"]["activated"] == 1, "it is activated")
