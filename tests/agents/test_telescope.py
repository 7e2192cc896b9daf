"""The telescope agent: operations, and one observation as Redis hears it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ocs
import pytest
import pytest_twisted
import redis
import yaml

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.telescope.agent import Telescope, add_agent_args
from socs_bl.core.config import load
from socs_bl.core.errors import Refused, Retry
from socs_bl.services.process import identify, wait_gone
from socs_bl.simulators import cam, telescope_fengines
from socs_bl.simulators.fengine import FEngineConfig
from socs_bl.simulators.truth import Truth
from socs_bl.simulators.truth_file import read_truth
from tests.harness.agent_case import AgentCase, arguments, begun, end, ended, make_site_agent, pause, run_operation
from tests.harness.live import Agents, wait_until

QUICK: dict[str, dict[str, float]] = {
    "timing": {"stagger_s": 0.0, "metadata_s": 0.05, "subscribe_s": 0.05, "slew_s": 0.05, "track_s": 0.2, "gap_s": 0.05}
}
SLEEPER = (sys.executable, "-c", "import signal; signal.pause()")


@pytest.fixture(autouse=True)
def sleeping_fengines(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-engines that send nothing: what they send is tested where they live."""
    monkeypatch.setattr(telescope_fengines, "PROGRAM", SLEEPER)
    monkeypatch.setattr("socs_bl.agents.telescope.agent.START_LEAD", 0.1)


def make(site_agent: SiteAgent, directory: Path, redis_url: str) -> Telescope:
    """A telescope with a quick schedule."""
    config = directory / "schedule.yaml"
    config.write_text(yaml.safe_dump(QUICK), encoding="utf-8")
    argv = ("--redis-url", redis_url, "--config", str(config), "--run-dir", str(directory / "telescope"))
    return Telescope(site_agent, arguments(add_agent_args(), *argv))


@pytest.mark.live
class TestTelescope(AgentCase):
    """What every agent promises."""

    @pytest.fixture(autouse=True)
    def _redis(self, fresh_redis: str) -> None:
        self.redis_url = fresh_redis

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> Telescope:
        return make(site_agent, tmp_path, self.redis_url)

    def parameters(self, name: str) -> dict[str, object] | None:
        array = {"array": "array_1"}
        return {
            "configure": array,
            "deconfigure": array,
            "stop_track": array,
            "storm": array,
            "track": {**array, "target": "3C 286"},
        }.get(name, {})

    def state(self, agent: Any) -> object:
        keys = {key: agent.redis.dump(key) for key in agent.redis.scan_iter()}
        return dict(agent.control.states), agent.engines.started, keys


@pytest.fixture
def agent(tmp_path: Path, fresh_redis: str) -> Iterator[Telescope]:
    """A telescope on an empty Redis."""
    agent = make(make_site_agent("Telescope"), tmp_path, fresh_redis)
    yield agent
    pytest_twisted.blockon(agent.site_agent.end())
    agent.close()


@pytest.fixture
def alerts(fresh_redis: str) -> Iterator[redis.client.PubSub]:
    """Somebody who listens to the alerts."""
    with redis.Redis.from_url(fresh_redis) as client, client.pubsub() as listener:
        listener.subscribe("alerts")
        assert listener.get_message(timeout=5.0)
        yield listener


def said(session: dict[str, Any]) -> str:
    """The messages of a session."""
    return "\n".join(text for _, text in session["messages"])


def heard(alerts: redis.client.PubSub) -> list[str]:
    """What he has heard."""
    found = []
    while message := alerts.get_message(timeout=0.2):
        found.append(message["data"].decode())
    return found


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_observation_is_heard_as_planned(agent: Telescope, alerts: redis.client.PubSub) -> None:
    """Promise: `observe` plays the schedule on real Redis, reports its end, and writes the tones before it begins."""
    session = await run_operation(agent, "observe", cycles=2)
    assert session["success"], session["messages"]
    cycle = ["tracking", "not-tracking"]
    wanted = ["configure", "conf_complete", "capture-init", "capture-start", *cycle, *cycle]
    wanted += ["capture-stop", "capture-done", "deconfigure"]
    messages = heard(alerts)
    for array in ("array_1", "array_2"):
        assert [text.split(":")[0] for text in messages if text.endswith(array)] == wanted
    data = session["data"]
    assert data["progress"]["done"] == data["progress"]["total"] > 0
    assert data["progress"]["step"] == "cycle 2 of 2"
    assert {state["phase"] for state in data["subarrays"].values()} == {"idle"}
    assert data["fengines"] == {}
    truth = read_truth(Path(data["truth"]), Truth)
    assert truth.started == data["started"] > data["sync_time"]
    assert data["scale_factor"] == {"array_1": 208.984375, "array_2": 208.984375}
    assert len(truth.tones) == 2 * 2 * agent.schedule.tones.per_track


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_abort_takes_the_subarrays_apart(agent: Telescope, alerts: redis.client.PubSub) -> None:
    """Promise: an aborted observation leaves no subarray built and no F-engine running."""
    await begun(agent, "observe", cycles=1000)
    while agent.control.states["array_1"].phase != "tracking":
        await pause(0.01)
    children = [report["pid"] for report in agent.engines.report().values()]
    assert len(children) == 2
    end(agent, "observe")
    session = await ended(agent, "observe")
    assert not session["success"]
    messages = heard(alerts)
    last = [text.split(":")[0] for text in messages if text.endswith("array_1")][-4:]
    assert last == ["not-tracking", "capture-stop", "capture-done", "deconfigure"]
    assert messages.count("deconfigure:array_2") == 1
    assert not agent.engines.started
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_dead_fengine_fails_the_observation(agent: Telescope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: F-engines that end by themselves are told with the end of their log, and nothing stays built."""
    program = (sys.executable, "-c", "raise SystemExit('no such interface')")
    monkeypatch.setattr(telescope_fengines, "PROGRAM", program)
    session = await run_operation(agent, "observe", cycles=1000)
    assert not session["success"]
    assert "no such interface" in said(session)
    assert {state.phase for state in agent.control.states.values()} == {"idle"}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_manual_observation(agent: Telescope, alerts: redis.client.PubSub) -> None:
    """Promise: an operator observes by hand with four tasks, each ending when its part is done."""
    assert not (await run_operation(agent, "configure", array="array_1"))["success"]  # F-engines do not run
    await begun(agent, "fengines")
    for name, parameters in (
        ("configure", {}),
        ("track", {"target": "3C 286"}),
        ("track", {"target": "Hyd A"}),
        ("stop_track", {}),
        ("deconfigure", {}),
    ):
        session = await run_operation(agent, name, array="array_1", **parameters)
        assert session["success"], session["messages"]
    end(agent, "fengines")
    assert (await ended(agent, "fengines"))["success"]
    assert [text.split(":")[0] for text in heard(alerts)] == [
        "configure",
        "conf_complete",
        "capture-init",
        "capture-start",
        "tracking",
        "not-tracking",
        "tracking",
        "not-tracking",
        "capture-stop",
        "capture-done",
        "deconfigure",
    ]
    assert agent.redis.get("array_1:target").decode() == agent.schedule.target("Hyd A").description


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_storm_of_tracks(agent: Telescope, alerts: redis.client.PubSub) -> None:
    """Promise: so many targets are tracked and left in so little time, each announced, and the subarray is usable after."""
    await begun(agent, "fengines")
    assert (await run_operation(agent, "configure", array="array_1"))["success"]
    session = await run_operation(agent, "storm", array="array_1", tracks=20, per_minute=6000.0)
    assert session["success"], session["messages"]
    words = [text.split(":")[0] for text in heard(alerts)]
    assert words[4:] == ["tracking", "not-tracking"] * 20
    assert not (await run_operation(agent, "storm", array="array_1", tracks=0))["success"]
    assert not (await run_operation(agent, "storm", array="array_1", per_minute=-1.0))["success"]
    assert agent.control.states["array_1"].phase == "capturing"
    end(agent, "fengines")
    await ended(agent, "fengines")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_faults_reach_the_fengines(agent: Telescope, tmp_path: Path) -> None:
    """Promise: what a request asks to go wrong is what the F-engines are told, for this observation only."""
    session = await run_operation(agent, "observe", cycles=1, dropped=0.1, wrong_timestamps=0.2, stalled=3)
    assert session["success"], session["messages"]
    told = load(tmp_path / "telescope/fengines/array_1.json", FEngineConfig).faults
    assert (told.dropped, told.wrong_timestamps, told.reordered) == (0.1, 0.2, 0.0)
    assert [stall.antenna for stall in told.stalls] == [3] and not agent.schedule.faults.any
    refused = await run_operation(agent, "observe", cycles=1, dropped=0.9, duplicated=0.9)
    assert not refused["success"] and "at most 1" in said(refused)


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_pointings_are_answered(agent: Telescope, fresh_redis: str) -> None:
    """Promise: with the agent runs the selector: a recipe for the field, and its state in the session."""
    await begun(agent, "select_targets")
    session = agent.site_agent.sessions["select_targets"]
    while not session.data.get("listening"):
        await pause(0.05)
    target = agent.schedule.catalogue[0]
    fields = {
        "telescope": "MeerKAT", "array": "array_1", "pktstart_str": "20261121T040000Z", "target": target.name,
        "ra_deg": target.ra_degrees, "dec_deg": target.dec_degrees,
    }  # fmt: skip
    agent.redis.publish("target-selector:pointings", "POINTING:" + json.dumps(fields))
    while not session.data.get("answered"):
        await pause(0.05)
    assert (Path(session.data["recipes"]) / "MeerKAT-array_1-20261121T040000Z.bfr5").is_file()
    assert len(json.loads(agent.redis.get("targets:MeerKAT:array_1:20261121T040000Z"))) == 4
    end(agent, "select_targets")
    await ended(agent, "select_targets")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_wrong_requests_change_nothing(agent: Telescope, alerts: redis.client.PubSub) -> None:
    """Promise: unknown subarrays and targets, and requests out of order, are refused in words and nothing is said."""
    for name, parameters, reason in (
        ("deconfigure", {"array": "array_9"}, "array_1, array_2"),
        ("track", {"array": "array_1", "target": "3C 286"}, "configure it first"),
        ("track", {"array": "array_1", "target": "nothing"}, "not in the catalogue"),
        ("stop_track", {"array": "array_1"}, "tracks nothing"),
        ("observe", {"cycles": 0}, "greater than or equal to 1"),
        ("observe", {"gap": -1.0}, "timing.gap_s"),
    ):
        session = await run_operation(agent, name, **parameters)
        assert not session["success"]
        assert reason in said(session)
    assert heard(alerts) == []
    assert agent.redis.keys() == []


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_manual_tasks_wait_for_no_observation(agent: Telescope) -> None:
    """Promise: while the schedule is played, nobody else moves a subarray or the F-engines."""
    await begun(agent, "observe", cycles=1000)
    for name, parameters in (("deconfigure", {"array": "array_1"}), ("fengines", {})):
        status, text, _ = agent.start_own(name, **parameters)
        if status == ocs.OK:
            text = said(await ended(agent, name))
        assert "observe" in text and "since" in text
    end(agent, "observe")
    await ended(agent, "observe")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_redis_that_comes_back_is_told_the_rest(agent: Telescope, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: keys that Redis could not take are written when it can, and the session says so meanwhile."""
    await begun(agent, "fengines")
    refusals = [Retry("away", after=0.01)] * 3
    real = cam.carry_out

    def carry_out(*args: Any) -> None:
        if refusals:
            raise refusals.pop()
        real(*args)

    monkeypatch.setattr(cam, "carry_out", carry_out)
    session = await run_operation(agent, "configure", array="array_1")
    assert session["success"] and not refusals
    assert "degraded" in said(session) and "recovered" in said(session)
    assert agent.redis.get("array_1:cbf_name") == b"cbf_1"


def test_a_schedule_file_that_is_wrong_is_refused(tmp_path: Path) -> None:
    """Promise: the agent does not start with a wrong schedule, and says which key."""
    config = tmp_path / "schedule.yaml"
    config.write_text("cycles: many\n", encoding="utf-8")
    with pytest.raises(Refused, match="schedule.yaml: cycles"):
        Telescope(make_site_agent("Telescope"), arguments(add_agent_args(), "--config", str(config)))


@pytest.mark.live
@pytest.mark.network
def test_observation_through_the_router(
    site_dir: Callable[..., Path], run_agents: Callable[[Path], Agents], fresh_redis: str, tmp_path: Path
) -> None:
    """Promise: as a process under OCS, with real F-engines, it observes; F-engines end with an agent that is killed."""
    config = tmp_path / "schedule.yaml"
    config.write_text(yaml.safe_dump(QUICK | {"timing": {**QUICK["timing"], "subscribe_s": 8.0}}), encoding="utf-8")
    argv = ["--redis-url", fresh_redis, "--config", str(config), "--run-dir", str(tmp_path / "telescope")]
    site = site_dir([{"agent-class": "Telescope", "instance-id": "telescope", "arguments": argv}]) / "default.yaml"
    agents = run_agents(site)
    telescope = agents.start("telescope")
    reply = telescope.observe(cycles=1)
    assert reply.status == ocs.OK, reply.msg
    assert reply.session["success"], reply.session["messages"]
    sent = reply.session["data"]["sent"]
    assert all(counters["sent"] > 0 for counters in sent.values()) and set(sent) == {"array_1", "array_2"}

    telescope.fengines.start()
    running = wait_until(lambda: telescope.fengines.status().session["data"].get("fengines"), what="F-engines")
    found = [identify(report["pid"]) for report in running.values()]
    agents.children["telescope"].kill()
    assert len(found) == 2
    assert wait_gone([identity for identity in found if identity], timeout=20.0) == []
