"""Fixtures of all tests: live services started once per run, leak checks, Hypothesis profiles.

Live tests take `router`, `redis_url` or `fresh_redis`, and `make_site` or `run_agent`; the services start when the first
test needs them, the router (which takes its time) as soon as a test that wants it is collected.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_twisted
import redis
from twisted.internet import defer
from xdist.scheduler import LoadScopeScheduling

from socs_bl.core.errors import Refused
from socs_bl.search import seticore_files
from socs_bl.services import crossbar_node, redis_server
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.redis_server import RedisServer
from tests.harness.leaks import Snapshot
from tests.harness.live import Agents, write_site
from tests.harness.programs import missing

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_ROUTER = pytest.StashKey[CrossbarNode]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the leak check."""
    config.addinivalue_line(
        "markers", "may_leave(*kinds): what the leak check allows: processes, threads, descriptors, calls"
    )


# Whole observatories share multicast groups; what uses the run's router or Redis shares those. Each is one worker's.
_OBSERVATORIES = ("tests/live/", "tests/docs/", "tests/cli/", "tests/services/test_observatory.py")
_SERVICES = tuple(
    f"tests/{folder}/" for folder in ("agentkit", "agents", "capture", "hashpipe", "page", "services", "simulators")
)


def _group(nodeid: str) -> str:
    """The part of the run that one worker does: observatories, services, or a file of pure tests."""
    if nodeid.startswith(_OBSERVATORIES):
        return "observatories"
    if nodeid.startswith(_SERVICES) or nodeid.startswith("tests/test_plugin.py"):
        return "services"
    return nodeid.partition("::")[0]


class _Groups(LoadScopeScheduling):
    """Hands out whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With several workers: pure tests fill the time in which the live ones wait."""
    return _Groups(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long groups come first."""
    order = ["observatories", "services"]
    items.sort(key=lambda item: order.index(group) if (group := _group(item.nodeid)) in order else len(order))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the router boot while the first tests run; with several workers only one will want it, and starts it then."""
    if session.config.option.collectonly or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if any("router" in getattr(item, "fixturenames", ()) for item in session.items):
        directory = session.config._tmp_path_factory.mktemp("crossbar")  # type: ignore[attr-defined]
        node = CrossbarNode(directory)
        with contextlib.suppress(Refused):  # without crossbar the fixture says what is missing
            node.launch()
        session.config.stash[_ROUTER] = node


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the router also when no test got as far as using it."""
    node = session.config.stash.get(_ROUTER, None)
    if node is not None:
        node.kill()


@pytest.fixture(scope="session", autouse=True)
def reactor_running() -> None:
    """Start pytest-twisted's reactor now: its waker pipes belong to the run, not to the first test."""
    from twisted.internet import reactor  # pytest-twisted has installed it by now

    running = defer.Deferred()
    reactor.callWhenRunning(running.callback, None)
    pytest_twisted.blockon(running)


@pytest.fixture(scope="session", autouse=True)
def schemas_loaded() -> None:
    """Load the Cap'n Proto schemas now: the library keeps their folders open for good, whichever test is the first."""
    for name in ("hit", "stamp"):
        seticore_files.schema(name)


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, reactor_running: None) -> Iterator[None]:
    """Fail a test that leaves a child process, thread, file descriptor or delayed call behind.

    Fixtures of session and module scope exist before and after, so what they hold is not held against the test.
    """
    before = Snapshot()
    yield
    marker = request.node.get_closest_marker("may_leave")
    leaks = before.wait_clean(frozenset(marker.args if marker else ()))
    if leaks:
        pytest.fail("left behind:\n" + "\n".join(sorted(leaks)), pytrace=False)


@pytest.fixture(scope="session")
def redis_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The session's own Redis server."""
    try:
        redis_server.executable()
    except Refused:
        missing("redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_url(redis_service: RedisServer) -> str:
    """URL of the session's Redis; its contents stay from test to test (see `fresh_redis`)."""
    return redis_service.url


@pytest.fixture
def fresh_redis(redis_url: str) -> str:
    """URL of the session's Redis, emptied."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture(scope="session")
def router(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrossbarNode]:
    """The session's own crossbar node; a test that kills it starts it again (`kill`, `start`: same port)."""
    try:
        crossbar_node.executable()
    except Refused:
        missing("crossbar")
    node = request.config.stash.get(_ROUTER, None) or CrossbarNode(tmp_path_factory.mktemp("crossbar"))
    if node.child is None:
        node.launch()
    node.wait_ready()
    yield node
    node.stop()


@pytest.fixture
def make_site(router: CrossbarNode, tmp_path: Path) -> Callable[..., Path]:
    """``make_site(agents) -> Path``: write a site config on the session's router (see `write_site`)."""

    def make(agents: list[dict[str, Any]]) -> Path:
        return write_site(tmp_path, router.hub, agents)

    return make


@pytest.fixture
def site_dir(router: CrossbarNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``site_dir(agents) -> Path``: the same, set as OCS_CONFIG_DIR; returns the directory."""

    def make(agents: list[dict[str, Any]]) -> Path:
        write_site(tmp_path, router.hub, agents)
        monkeypatch.setenv("OCS_CONFIG_DIR", str(tmp_path))
        return tmp_path

    return make


@pytest.fixture
def run_agents() -> Iterator[Callable[[Path], Agents]]:
    """``run_agents(site_file) -> Agents``: start agents as processes; they are killed after the test."""
    started: list[Agents] = []

    def make(site_file: Path) -> Agents:
        agents = Agents(site_file)
        started.append(agents)
        return agents

    yield make
    for agents in started:
        agents.stop()
