"""The tests every agent inherits.

    class TestTelescope(AgentCase):
        def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> Telescope:
            return Telescope(site_agent, arguments(add_agent_args(), "--root", str(tmp_path)))

        def parameters(self, name: str) -> dict[str, object] | None:
            return {"record": {"array": "array_1"}}.get(name, {})

No router is needed: the agent is built in this process and its operations are started as OCS starts them.
"""

from __future__ import annotations

import argparse
import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import ocs
import pytest
import pytest_twisted
from twisted.internet import task
from twisted.internet.defer import Deferred

from socs_bl.agentkit import Agent, MachineAgent, SiteAgent, Specification
from socs_bl.core.journal import Stored
from socs_bl.services.redis_journal import RedisJournal
from tests.agentkit.fakes import FakeRouter, FakeSubscriber

NAN, INFINITE = float("nan"), float("inf")
PATIENCE = 120.0  # on a fresh checkout an agent compiles its loops first
SESSION_LIMIT = 100_000
WRONG: dict[Any, list[object]] = {
    int: [True, 1.0, NAN, "1", [1], {}],
    float: [NAN, INFINITE, -INFINITE, True, "1.0", [1.0], {}],
    str: [1, True, NAN, ["text"], {}],
    bool: [1, 0.0, "true", [True], {}],
    list: ["text", 1, True, {"a": 1}],
    dict: ["text", 1, True, [1]],
}


def site_args(instance_id: str = "agent-1", **changes: object) -> argparse.Namespace:
    """What OCS's site-config parsing leaves in the arguments, for an agent without a router."""
    values = {
        "instance_id": instance_id, "address_root": "observatory", "site_hub": "ws://127.0.0.1:1/ws",
        "site_http": "http://127.0.0.1:1/call", "site_realm": "test_realm", "access_policy": None, "log_dir": None,
        "working_dir": None, "crossbar_timeout": 0, "site_file": None, "site_host": "localhost",
    }  # fmt: skip
    return argparse.Namespace(**{**values, **changes})


def arguments(parser: argparse.ArgumentParser, *argv: str, **changes: object) -> argparse.Namespace:
    """An agent's own arguments parsed, with those of the site added."""
    return argparse.Namespace(**{**vars(site_args(**changes)), **vars(parser.parse_args(argv))})


def make_site_agent(class_name: str = "Agent", **changes: object) -> SiteAgent:
    """A connection that was never made."""
    from twisted.internet import reactor

    return SiteAgent(reactor, site_args(**changes), class_name)


def wrong_values(annotation: Any) -> list[object]:
    """Values that a parameter with this annotation must refuse."""
    origin = get_origin(annotation)
    if hasattr(annotation, "__metadata__"):
        return wrong_values(get_args(annotation)[0])
    if origin is Literal:
        return ["no such choice", NAN, -12345, []]
    if origin in (Union, types.UnionType):
        members = [wrong_values(member) for member in get_args(annotation) if member is not type(None)]
        return [value for value in members[0] if all(any(value is other for other in rest) for rest in members[1:])]
    return WRONG[origin or annotation]


def pause(seconds: float = 0.0) -> Deferred[None]:
    """Let the reactor turn."""
    from twisted.internet import reactor

    return task.deferLater(reactor, seconds, lambda: None)


async def until(wish: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Let the reactor turn until `wish` holds."""
    from twisted.internet import reactor

    deadline = reactor.seconds() + timeout  # type: ignore[attr-defined]  # the reactor is a module to mypy
    while not wish():
        assert reactor.seconds() < deadline, f"not within {timeout} s: {what}"  # type: ignore[attr-defined]
        await pause(0.01)


def stored(redis_url: str, journal: str) -> Stored:
    """What a journal on Redis holds: writers so far, events so far, the cells of the machine."""
    reading = RedisJournal(redis_url, journal)
    try:
        return reading.load()
    finally:
        reading.close()


async def ended(agent: Agent, name: str, timeout: float = PATIENCE) -> dict[str, Any]:
    """Wait until an operation has ended; returns its session as clients get it."""
    status, text, session = await agent.site_agent.wait(name, timeout=timeout)
    assert status == ocs.OK, f"{name} did not end within {timeout} s: {text}"
    return session


async def begun(agent: Agent, name: str, /, **parameters: object) -> None:
    """Start an operation and let it run up to its first pause."""
    status, text, _ = agent.start_own(name, **parameters)
    assert status == ocs.OK, f"{name} did not start: {text}"
    await pause()
    await pause()


async def run_operation(agent: Agent, name: str, /, **parameters: object) -> dict[str, Any]:
    """Start a task and wait for its end; returns its session as clients get it."""
    await begun(agent, name, **parameters)
    return await ended(agent, name)


def end(agent: Agent, name: str) -> tuple[int, str, Any]:
    """Stop a process or abort a task."""
    site = agent.site_agent
    return (site.stop if name in site.processes else site.abort)(name, password=site)


class AgentCase:
    """Base of an agent's tests; see the module. Override `make_agent`, and what else the agent needs."""

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> Agent:
        """Build the agent, with files under `tmp_path`."""
        raise NotImplementedError

    def parameters(self, name: str) -> dict[str, object] | None:
        """Parameters an operation can be started with here, or None to leave it out of the tests that run it."""
        return {}

    def state(self, agent: Agent) -> object:
        """What must not change when a request is refused; compared with ``==``. Agents with a machine: its journal."""
        return None

    async def prepare(self, agent: Agent) -> None:
        """Bring the agent where requests could do harm: by default the processes that start with it run, at rest."""
        for specification, parameters in self.startup_processes(agent):
            await begun(agent, specification.name, **parameters)
        await until(lambda: self.at_rest(agent), "the agent is at rest")

    def at_rest(self, agent: Agent) -> bool:
        """Whether its processes have reported and nothing it has decided is still being written or carried out."""
        sessions = [agent.session(specification.name) for specification, _ in self.startup_processes(agent)]
        if not all(session is None or session.raw.status == "done" or session.data for session in sessions):
            return False
        runner = agent.runner if isinstance(agent, MachineAgent) else None
        if runner is None:
            return True
        machine = runner.machine
        written = runner.driver.journal.load().sequence
        return not runner.backlog and not machine.outstanding and machine.sequence == written

    @pytest.fixture
    def agent(self, tmp_path: Path) -> Iterator[Agent]:
        """The agent, ended and closed after the test."""
        agent = self.make_agent(make_site_agent(type(self).__name__), tmp_path)
        yield agent
        pytest_twisted.blockon(agent.site_agent.end())
        agent.close()

    def runnable(self, agent: Agent) -> Iterator[tuple[Specification, dict[str, object]]]:
        """The operations that can run here, with their parameters."""
        for name, specification in agent.specifications.items():
            parameters = self.parameters(name)
            required = [item.name for item in specification.parameters if item.required]
            if parameters is not None and all(item in parameters for item in required):
                yield specification, parameters

    def startup_processes(self, agent: Agent) -> Iterator[tuple[Specification, dict[str, object]]]:
        """Those of them that are processes which start with the agent."""
        for specification, parameters in self.runnable(agent):
            if specification.kind == "process" and agent.auto_start(specification):
                yield specification, parameters

    @pytest_twisted.ensureDeferred
    async def test_wrong_parameters_are_refused(self, agent: Agent) -> None:
        """A wrong type, NaN, True for a number, an unknown or missing name is refused in words and changes nothing."""
        await self.prepare(agent)
        for name, specification in agent.specifications.items():
            good = {item.name: item.default for item in specification.parameters if not item.required}
            tries: list[tuple[str, dict[str, object]]] = [("no_such_parameter", {"no_such_parameter": 1})]
            for parameter in specification.parameters:
                for value in wrong_values(parameter.annotation):
                    others = dict(self.parameters(name) or good)
                    tries.append((parameter.name, {**others, parameter.name: value}))
                if parameter.required:
                    tries.append((parameter.name, {}))
            before, session_before = self.state(agent), agent.site_agent.sessions[name]
            for wrong, params in tries:
                status, text, session = agent.site_agent.start(name, params, password=agent.site_agent)
                assert (status, session) == (ocs.ERROR, {}), f"{name} accepted {params}"
                required = [item.name for item in specification.parameters if item.required]
                assert name in text and any(word in text for word in (wrong, *required)), text
                assert "Traceback" not in text and "\n" not in text, text
            await self.settle(agent)
            assert agent.site_agent.sessions[name] is session_before
            assert self.state(agent) == before

    @pytest_twisted.ensureDeferred
    async def test_held_lock_refuses_and_names_the_holder(self, agent: Agent) -> None:
        """An operation on hardware somebody works with is refused (or waits), naming who and since when."""
        await self.prepare(agent)
        for specification, parameters in self.runnable(agent):
            if specification.hardware is None:
                continue
            lock = agent.lock(specification.hardware)
            holder = lock.holding
            if holder is not None and holder.job != specification.name:
                await self.check_refusal(agent, specification, parameters)
                assert lock.holding is holder and lock.waiting == 0
                continue
            if holder is not None:
                end(agent, specification.name)
                await ended(agent, specification.name)
            async with lock.held("another operator") as holding:
                await self.check_refusal(agent, specification, parameters)
                assert lock.holding is holding and lock.waiting == 0
            assert lock.holding is None
            if holder is not None:
                await begun(agent, specification.name, **parameters)
                await until(lambda: self.at_rest(agent), "the agent is at rest again")

    @pytest_twisted.ensureDeferred
    async def test_operations_end_when_told_and_start_again(self, agent: Agent) -> None:
        """A stop ends every process, an abort every task; locks are free and the next start works."""
        for specification, parameters in self.runnable(agent):
            for _ in range(2):
                await begun(agent, specification.name, **parameters)
                self.check_lock(agent, specification)
                end(agent, specification.name)
                session = await ended(agent, specification.name)
                if specification.kind == "process":
                    assert session["success"], session["messages"]
                assert not any("CRASH" in text for _, text in session["messages"]), session["messages"]
                held = agent.lock(specification.hardware).holding if specification.hardware else None
                assert held is None, f"{specification.name} kept {specification.hardware}"

    @pytest_twisted.ensureDeferred
    async def test_session_data_is_small_finite_json(self, agent: Agent) -> None:
        """Whatever an operation reports, every client can read it, and it stays under 100 kB."""
        for specification, parameters in self.runnable(agent):
            await begun(agent, specification.name, **parameters)
            self.check_session(agent, specification.name)
            end(agent, specification.name)
            await ended(agent, specification.name)
            self.check_session(agent, specification.name)

    @pytest_twisted.ensureDeferred
    async def test_it_restarts_and_reconnects(self, tmp_path: Path) -> None:
        """Ended and made again on the same files, its processes run as before; a rejoin of the router ends nothing."""
        for _ in range(2):
            agent = self.make_agent(make_site_agent(type(self).__name__), tmp_path)
            processes = [item for item in self.runnable(agent) if item[0].kind == "process"]
            try:
                for specification, parameters in processes:
                    await begun(agent, specification.name, **parameters)
                await until(lambda agent=agent: self.at_rest(agent), "the agent is at rest")  # type: ignore[misc]
                for _ in range(2):
                    agent._joined()
                for specification, _ in processes:
                    session = agent.site_agent.sessions[specification.name]
                    assert session.status == "running" and not session.degraded, session.encoded()
                    self.check_session(agent, specification.name)
            finally:
                await agent.site_agent.end()
                agent.close()
            for specification, _ in processes:
                session = agent.site_agent.sessions[specification.name].encoded()
                assert session["success"] is True, session["messages"]

    @pytest_twisted.ensureDeferred
    async def test_late_subscriber_gets_the_last_state(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who subscribes after the end reads the last state, which has the number of the last message; a gap is read."""
        router = FakeRouter()

        def send(topic: str, payload: tuple[Any, ...], acknowledge: bool) -> object:
            return router(payload[0], acknowledge) if topic.endswith(".feeds.operations") else None

        monkeypatch.setattr(agent.site_agent, "send", send)
        await begun(agent, "monitor", interval=0.1)
        monitor = agent.session("monitor")
        assert monitor is not None
        watcher = FakeSubscriber("monitor", agent.site_agent.sessions)
        router.subscribers.append(watcher)
        watcher.turn()
        watcher.online = False
        agent.stream.watch(10.0)
        for online in (False, True):
            watcher.online = online
            sent = len(router.sent)
            monitor.update(turn=sent)
            await until(lambda sent=sent: len(router.sent) > sent, "a change is published")  # type: ignore[misc]
        assert watcher.follower.gap
        watcher.turn()
        assert watcher.reads == 2 and watcher.states[-1]["data"] == agent.site_agent.sessions["monitor"].data
        end(agent, "monitor")
        session = await ended(agent, "monitor")
        final = [message for message in router.sent if message["op"] == "monitor"][-1]
        late = FakeSubscriber("monitor", agent.site_agent.sessions)
        router.subscribers.append(late)
        state = late.turn()
        agent._joined()
        assert late.turn() is None, "nothing new is told by a rejoin"
        assert final["final"] and late.follower.finished and late.reads == 1
        assert state == session and state["data"]["sequence"] == final["sequence"]

    async def settle(self, agent: Agent) -> None:
        """Give what a request may have set off the time to be seen."""
        await pause()
        await pause()
        await until(lambda: self.at_rest(agent), "the agent is at rest")

    async def check_refusal(self, agent: Agent, specification: Specification, parameters: dict[str, object]) -> None:
        """Assert that an operation whose hardware is held is refused (or waits, and ends when told), changing nothing."""
        assert specification.hardware is not None
        lock, before = agent.lock(specification.hardware), self.state(agent)
        assert lock.holding is not None
        if specification.lock_timeout == 0:
            status, text, _ = agent.start_own(specification.name, **parameters)
            assert status == ocs.ERROR
            assert lock.holding.job in text and lock.name in text and "since" in text
        else:
            await begun(agent, specification.name, **parameters)
            end(agent, specification.name)
            await ended(agent, specification.name)
        await self.settle(agent)
        assert self.state(agent) == before

    def check_lock(self, agent: Agent, specification: Specification) -> None:
        """Assert that an operation that runs holds its hardware."""
        if specification.hardware and agent.site_agent.sessions[specification.name].status == "running":
            holding = agent.lock(specification.hardware).holding
            assert holding is not None and holding.job == specification.name

    def check_session(self, agent: Agent, name: str) -> None:
        """Assert that OCS can encode the session of an operation, as small finite JSON."""
        session = agent.site_agent.sessions[name].encoded()
        assert len(json.dumps(session, allow_nan=False)) < SESSION_LIMIT
        json.dumps(agent.site_agent._management_handler("get_api"), allow_nan=False)
