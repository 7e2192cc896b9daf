"""Redis that is killed and comes back: the long processes of the agents wait, degraded, and go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from socs_bl.agentkit import Agent
from socs_bl.core.errors import Refused
from socs_bl.services import redis_server
from socs_bl.services.redis_server import RedisServer
from tests.agents import test_coordinator, test_instance_analyzer, test_instance_recorder
from tests.harness.agent_case import begun, end, ended, make_site_agent, until
from tests.harness.programs import missing

pytestmark = pytest.mark.live

# Process; agent; a request whose answer must be in the journal, with what it needs; None: the process notices by itself.
CASES: list[tuple[str, Callable[..., Agent], tuple[str, dict[str, object]] | None]] = [
    ("coordinate", test_coordinator.make, ("send_event", {"array": "array_1", "event": "configure"})),
    ("record", test_instance_recorder.make, None),
    (
        "work_queue",
        test_instance_analyzer.make,
        ("process", {"run": test_instance_analyzer.RUN, "datadir": test_instance_analyzer.DATADIR}),
    ),
]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server that a test may kill and start again."""
    try:
        redis_server.executable()
    except Refused:
        missing("redis-server")
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make(tmp_path: Path, own_redis: RedisServer) -> Iterator[Callable[[Callable[..., Any]], Agent]]:
    """``make(factory) -> Agent``: an agent on that server, ended and closed after the test."""
    made: list[Agent] = []

    def build(factory: Callable[..., Any]) -> Agent:
        made.append(factory(make_site_agent("Agent"), tmp_path, own_redis.url))
        return made[-1]

    yield build
    for agent in made:
        pytest_twisted.blockon(agent.site_agent.end())
        agent.close()


@pytest.mark.parametrize(("name", "factory", "request_meanwhile"), CASES, ids=[case[0] for case in CASES])
@pytest_twisted.ensureDeferred
async def test_a_process_outlives_its_redis(
    name: str,
    factory: Callable[..., Any],
    request_meanwhile: tuple[str, dict[str, object]] | None,
    make: Any,
    own_redis: RedisServer,
) -> None:
    """While Redis is away the process is degraded, and says so; when it is back it goes on, and nothing asked is lost."""
    agent = make(factory)
    await begun(agent, name)
    await until(lambda: bool(agent.session(name).data), f"{name} works")
    run = agent.site_agent.sessions[name]
    assert not run.degraded
    own_redis.kill()
    if request_meanwhile is None or name == "work_queue":
        await until(lambda: run.degraded, f"{name}, asked for nothing, is degraded")
    if request_meanwhile is not None:
        await begun(agent, request_meanwhile[0], **request_meanwhile[1])
    await until(lambda: run.degraded, f"{name} is degraded")
    own_redis.start()
    await until(lambda: not run.degraded, f"{name} has recovered")
    if request_meanwhile is not None:
        asked = await ended(agent, request_meanwhile[0])
        assert asked["success"], asked["messages"]
    assert agent.site_agent.sessions[name] is run and run.status == "running"
    end(agent, name)
    session = await ended(agent, name)
    texts = [text for _, text in session["messages"]]
    assert session["success"] and texts.index("degraded") < texts.index("recovered"), texts
