"""A whole (small) observatory: up, looked at, disturbed, killed, up again, down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis
import yaml

from socs_bl.cli.status import gather
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services import process
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.observatory import Observatory
from socs_bl.services.operators import Operator
from socs_bl.services.process import Identity, free_port
from socs_bl.services.redis_server import check_server
from socs_bl.services.run_dir import MARK, State, end_observatory, end_orphans, mark, read_state
from tests.harness.live import REPOSITORY, wait_until

HUB = {
    "wamp_server": "$WAMP_SERVER",
    "wamp_http": "$WAMP_HTTP",
    "wamp_realm": "test_realm",
    "address_root": "observatory",
}
AGENTS = [
    {"agent-class": "HostManager", "instance-id": "hm", "arguments": []},
    {"agent-class": "RegistryAgent", "instance-id": "registry", "manage": "host/up", "arguments": []},
    {"agent-class": "FakeDataAgent", "instance-id": "fake", "manage": "host/up", "arguments": ["--mode", "idle"]},
    {"agent-class": "FakeDataAgent", "instance-id": "spare", "manage": "host/down", "arguments": []},
]
Up = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def site_config(tmp_path: Path) -> Path:
    """A site config with an embedded router and Redis and two of OCS's own agents."""
    host = {"crossbar_timeout": 0, "log-dir": "$RUN_DIR/logs", "redis": "$REDIS_URL", "agent-instances": AGENTS}
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({"hub": HUB, "hosts": {"localhost": host}}))
    return path


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory in which nothing is left running."""
    yield tmp_path / "run"
    end_observatory(tmp_path / "run")


@pytest.fixture
def up(run_dir: Path, site_config: Path) -> Iterator[Up]:
    """``socs-bl up`` in the foreground, as a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        argv = [
            sys.executable,
            "-m",
            "socs_bl.cli.main",
            "up",
            "--run-dir",
            str(run_dir),
            "--site-config",
            str(site_config),
        ]
        with (run_dir.parent / "up.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            started.append(subprocess.Popen(argv, stdout=log, stderr=log, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for running in started:
        running.kill()
        running.wait()


def ready(running: subprocess.Popen[bytes], run_dir: Path) -> State:
    """Wait until this supervisor says that all is up."""

    def state() -> State | None:
        assert running.poll() is None, (run_dir.parent / "up.log").read_text()
        found = read_state(run_dir)
        return found if found and found.ready and found.supervisor.pid == running.pid else None

    found: State = wait_until(state, 240.0, what="the observatory")
    return found


def agent(run_dir: Path, name: str) -> Identity:
    """The process of an agent, as it says itself."""
    state = read_state(run_dir)
    assert state is not None
    found = process.identify(Operator(state.wamp_http, state.address_root).api(name)["instance_pid"])
    assert found is not None
    return found


@pytest.mark.live
@pytest.mark.timeout(600)  # two boots of a router, on machines that may be busy
def test_it_runs_heals_and_stops(up: Up, run_dir: Path, site_config: Path) -> None:
    """All answer; killed services and agents come back; a second one is refused; ``down`` leaves no process."""
    running = up()
    state = ready(running, run_dir)

    def seen() -> bool:
        """The HostManager looks once a second: an agent may answer before it is seen to be up."""
        status = gather(run_dir)
        assert status is not None and [one.instance_id for one in status.agents] == ["hm", "registry", "fake"]
        managed = [one.managed for one in status.agents]
        return status.well and managed == ["", "up", "up"] and status.agents[1].operations == {"main": "running"}

    wait_until(seen, 60.0, 0.5, "the HostManager")
    with redis.Redis.from_url(state.redis_url) as client:
        client.set("kept", "yes")
    with pytest.raises(Refused, match="runs in .* already"):
        Observatory(run_dir, site_config).start()
    assert read_state(run_dir) == state  # the refused one has not touched what is not its own

    killed = [process.read_records(run_dir / "pids")[name] for name in ("redis", "crossbar")] + [agent(run_dir, "fake")]
    registry = agent(run_dir, "registry")
    for identity in killed:
        assert process.signal_exactly(identity, signal.SIGKILL)
    assert process.wait_gone(killed, 10.0) == []

    def healed() -> bool:
        status = gather(run_dir)
        return status is not None and status.well and status.agents[2].managed == "up"

    wait_until(healed, 240.0, 0.5, "healing")
    assert agent(run_dir, "registry") == registry  # it waited for the router and went on
    with redis.Redis.from_url(state.redis_url) as client:
        assert client.get("kept") == b"yes"
    everything = [*process.marked(MARK, str(run_dir)), *process.read_records(run_dir / "pids").values()]
    assert end_observatory(run_dir)
    assert running.wait(10) == 0
    assert process.wait_gone(everything, 10.0) == []
    assert gather(run_dir) is None
    assert not end_observatory(run_dir)


@pytest.mark.live
@pytest.mark.timeout(600)  # two boots of a router, on machines that may be busy
def test_a_killed_one_is_cleaned_up_by_the_next(up: Up, run_dir: Path) -> None:
    """SIGKILL takes services and HostManager along; orphan agents end at the next start, a stranger with an old pid not."""
    first = up()
    ready(first, run_dir)
    services = list(process.read_records(run_dir / "pids").values())
    orphans = [agent(run_dir, name) for name in ("registry", "fake")]
    first.kill()
    assert process.wait_gone(services, 20.0) == []
    assert all(process.identify(orphan.pid) == orphan for orphan in orphans)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        identity = process.identify(stranger.pid)
        assert identity is not None
        process.write_record(run_dir / "pids", "redis", msgspec.structs.replace(identity, start=identity.start - 1))
        second = up()
        ready(second, run_dir)
        assert process.wait_gone(orphans, 0.1) == []
        assert stranger.poll() is None
        stranger.kill()
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == 0
    assert process.marked(MARK, str(run_dir)) == []


@pytest.mark.live
def test_a_sites_own_services_are_used_and_left_alone(
    router: CrossbarNode, redis_url: str, run_dir: Path, site_config: Path
) -> None:
    """With real addresses nothing is embedded: what answers is used and goes on afterwards, what does not is named."""

    def site(url: str) -> None:
        spare = {**AGENTS[3], "arguments": ["--redis-url", url]}
        hosts = {"localhost": {"crossbar_timeout": 0, "agent-instances": [*AGENTS[:2], spare]}}
        site_config.write_text(yaml.safe_dump({"hub": router.hub, "hosts": hosts}))

    site(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Retry, match="does not answer"):
        Observatory(run_dir, site_config).start()
    site(redis_url)
    with Observatory(run_dir, site_config) as observatory:
        assert (observatory.redis, observatory.router, observatory.redis_url) == (None, None, redis_url)
        status = gather(run_dir)
        assert status is not None and status.well
    assert router.answers()
    assert check_server(redis_url)
    assert process.marked(MARK, str(run_dir)) == []


def test_orphans_of_other_directories_stay(tmp_path: Path) -> None:
    """The mark names one run directory; what runs in another, even below it, is not ended."""
    ours, other = tmp_path / "run", tmp_path / "run" / "inner"
    other.mkdir(parents=True)
    children = [
        process.Child(str(place), ["sleep", "600"], tmp_path / "log", env=mark(place)) for place in (ours, other)
    ]
    try:
        wait_until(lambda: process.marked(MARK, str(ours)) and process.marked(MARK, str(other)), what="both to run")
        assert end_orphans(ours) == 1
        assert [child.running() for child in children] == [False, True]
    finally:
        for child in children:
            child.kill()


@pytest.mark.live
def test_a_failed_start_leaves_nothing(run_dir: Path, site_config: Path) -> None:
    """When an agent does not come up the error names it, and everything is stopped again."""
    text = site_config.read_text().replace("- idle", "- nonsense")
    site_config.write_text(text)
    # On a busy machine the HostManager looks only when the agent has ended already, and cannot say with which code.
    seen = "(exit code 2|Launch not detected)"
    with pytest.raises(Faulty, match=f"(?s)^fake ended 3 times.*{seen}.*agent_cli --instance-id fake "):
        Observatory(run_dir, site_config).start()
    assert process.marked(MARK, str(run_dir)) == []
    assert process.read_records(run_dir / "pids") == {}
    assert read_state(run_dir) is None
