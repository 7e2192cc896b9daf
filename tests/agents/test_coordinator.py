"""The coordinator agent: what every agent promises, hearing, restarting, and one coordinator at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ocs
import pytest
import pytest_twisted
import redis
import yaml

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.coordinator.agent import CommensalCoordinator, add_agent_args
from socs_bl.commensal.metadata import keys_of
from socs_bl.services.process import free_port
from tests.commensal.bench import sensors
from tests.harness.agent_case import (
    AgentCase,
    arguments,
    begun,
    end,
    ended,
    make_site_agent,
    run_operation,
    stored,
    until,
)
from tests.harness.web import Service, first_port  # noqa: F401  # a fixture

CONFIG = {"arrays": ["array_1", "array_2"], "hashpipe_instances": ["blpn64/0", "blpn64/1"], "dwell": 20}


def make(site_agent: SiteAgent, directory: Path, redis_url: str, **more: object) -> CommensalCoordinator:
    """A coordinator of two instances."""
    config = directory / "commensal.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **more}), encoding="utf-8")
    return CommensalCoordinator(
        site_agent, arguments(add_agent_args(), "--redis-url", redis_url, "--config", str(config))
    )


@pytest.mark.live
class TestCoordinator(AgentCase):
    """What every agent promises."""

    @pytest.fixture(autouse=True)
    def _redis(self, fresh_redis: str) -> None:
        self.redis_url = fresh_redis

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> CommensalCoordinator:
        return make(site_agent, tmp_path, self.redis_url)

    def parameters(self, name: str) -> dict[str, object] | None:
        return {
            "send_event": {"array": "array_1", "event": "configure"},
            "reset_array": {"array": "array_1"},
            "release_instance": {"instance": "blpn64/0"},
            "quarantine_instance": {"instance": "blpn64/0"},
            "subscribe": {"array": "array_1"},
            "unsubscribe": {"array": "array_1"},
            "start_recording": {"array": "array_1"},
            "stop_recording": {"array": "array_1"},
            "start_processing": {"array": "array_1"},
            "plan_allocation": {"streams": "spead://239.192.40.0+7:7148"},
            "drain": {"instance": "blpn64/0"},
            "undrain": {"instance": "blpn64"},
            "supervise": {"instance": "blpn64/0", "part": "recorder"},
            "fetch_cal": {"array": "array_1"},
            "request_targets": {"array": "array_1"},
            "report_completion": {"obsid": "MeerKAT:array_1:20261121T040000Z", "band": "l", "t": 290.0, "nants": 4},
            "explain": {"subject": "array_1"},
        }.get(name, {})

    def state(self, agent: Any) -> object:
        return stored(self.redis_url, "socs_bl:commensal")


@pytest.fixture
def site(tmp_path: Path, fresh_redis: str) -> Iterator[Callable[..., CommensalCoordinator]]:
    """Makes coordinators on one Redis, ended after the test."""
    made: list[CommensalCoordinator] = []

    def build(**more: object) -> CommensalCoordinator:
        made.append(make(make_site_agent("CommensalCoordinator"), tmp_path, fresh_redis, **more))
        return made[-1]

    yield build
    for agent in made:
        pytest_twisted.blockon(agent.site_agent.end())
        agent.close()


def shown(agent: CommensalCoordinator, array: str = "array_1") -> str:
    """The allocation state as clients see it."""
    session = agent.session("coordinate")
    arrays = session.data.get("arrays", {}) if session else {}
    return arrays[array]["freesub_state"] if arrays else ""


async def coordinate(agent: CommensalCoordinator) -> None:
    """Start coordinating and wait until it listens."""
    await begun(agent, "coordinate")
    await until(lambda: bool(shown(agent)) and agent.listening, "the coordinator listens")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_it_hears_cam_and_survives_nonsense(site: Any, fresh_redis: str) -> None:
    """A published event changes the state; messages that cannot be read are counted and cost nothing else."""
    agent = site()
    await coordinate(agent)
    with redis.Redis.from_url(fresh_redis) as client:
        for payload in (b"", b"\xff\xfe", b"configure", b"RETURN:x", b"configure:../etc:x:y:z", b"a" * 100_000):
            client.publish("alerts", payload)
            client.publish("proc_result", payload)
        client.publish("alerts", "configure:array_1")
        await until(lambda: shown(agent) == "CONFIGURING", "configure is heard")
        assert client.get("array_1:freesub_state") == b"CONFIGURING"
    assert agent.session("coordinate").data["bad_messages"] == 12
    end(agent, "coordinate")
    assert (await ended(agent, "coordinate"))["success"]


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_state_survives_a_restart(site: Any) -> None:
    """What was decided before a stop is the state after the next start, in the same process or in another."""
    agent = site()
    await coordinate(agent)
    session = await run_operation(agent, "send_event", array="array_1", event="configure")
    assert session["success"] and session["data"]["effects"]
    await run_operation(agent, "quarantine_instance", instance="blpn64/1", reason="disk")
    end(agent, "coordinate")
    await ended(agent, "coordinate")
    for again in (agent, site()):
        await coordinate(again)
        assert shown(again) == "CONFIGURING"
        assert again.session("coordinate").data["quarantined"] == {"blpn64/1": "disk"}
        end(again, "coordinate")
        await ended(again, "coordinate")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_only_one_coordinates(site: Any) -> None:
    """When a second coordinator takes the journal over, the first fails and says what to do; the second works on."""
    first, second = site(), site()
    await coordinate(first)
    await coordinate(second)
    first.start_own("send_event", array="array_1", event="configure")
    assert not (await ended(first, "send_event"))["success"]
    session = await ended(first, "coordinate")
    assert not session["success"] and "stop one, then restart this one" in str(session["messages"])
    assert shown(second) == "FREE"
    session = await run_operation(second, "send_event", array="array_1", event="configure")
    assert session["success"]
    await until(lambda: shown(second) == "CONFIGURING", "the second goes on")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_operations_need_the_process(site: Any) -> None:
    """Without `coordinate` a request is refused with what to do."""
    agent = site()
    session = await run_operation(agent, "reset_array", array="array_1")
    assert not session["success"] and "start 'coordinate' first" in str(session["messages"])
    status, text, _ = agent.start_own("send_event", array="array_1", event="explode")
    assert status == ocs.ERROR and "explode" in text


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_sinks_are_told_and_a_dead_one_changes_nothing(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine tells people reaches Slack; nobody at Grafana's address is told once, and all goes on."""
    service = Service()
    monkeypatch.setenv("HOOK", service.url)
    grafana = {"url": f"http://127.0.0.1:{free_port()}", "tags": {"started": "START"}}
    agent = site(notifications={"slack": {"webhook_env": "HOOK"}, "grafana": grafana})
    try:
        await coordinate(agent)
        await run_operation(agent, "send_event", array="array_1", event="configure")
        agent.alert("error", "the journal is away")
        wanted = {
            ":large_green_circle: coordinator started",
            ":magic_wand: array_1 is being configured",
            ":x: the journal is away",
        }
        await until(lambda: wanted <= {body["text"] for _, body, _ in service.got}, "Slack is told")

        def said() -> list[str]:
            return [
                alert["text"] for alert in agent.health.alerts if alert["text"].startswith("notification sink grafana")
            ]

        await until(lambda: len(said()) == 2, "Grafana's failure is told")
        assert said()[0].endswith("GRAFANA_AUTH is not set in the environment") and " fails: " in said()[1]
        assert agent.health.counters()["notify.slack.sent"] >= 3.0
        assert shown(agent) == "CONFIGURING" and not agent.site_agent.sessions["coordinate"].degraded
    finally:
        await service.port.stopListening()


# -- operations -----------------------------------------------------------------------------------------------------

HEAP = 0.064  # seconds a packet index lasts with the sensors of the bench


def cam_configures(client: redis.Redis, array: str, streams: int) -> float:
    """CAM's keys of a subarray whose packet index began a while ago; the Unix time of index 0."""
    sync = float(int(time.time()) - 1000)
    client.mset({f"{array}:cbf_name": "cbf_1", f"{array}:cbf_prefix": "wide"})
    values = sensors(streams, sync_time=str(sync), last_target=str(time.time()), last_config=str(sync))
    keys = keys_of(array, "cbf_1", "wide")
    client.rpush(keys["antennas"], "m000", "m001", "m002", "m003")
    client.mset({keys[short]: text for short, text in values.items() if short != "antennas"})
    return sync


def daqs_say(client: redis.Redis, sync: float, **changes: str) -> None:
    """Status hashes of both instances."""
    for name in ("blpn64/0", "blpn64/1"):
        pulse = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime())
        status = {"PKTIDX": str(int((time.time() - sync) / HEAP)), "NETSTAT": "receiving", "DAQPULSE": pulse}
        client.hset(f"bluse://{name}/status", mapping={**status, "DAQSTATE": "LISTEN", **changes})
        client.expire(f"bluse://{name}/status", 60)


async def refused(agent: CommensalCoordinator, name: str, **parameters: object) -> str:
    """Why a task was refused."""
    session = await run_operation(agent, name, **parameters)
    assert not session["success"]
    return str(session["messages"])


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_subarray_by_hand(site: Any, fresh_redis: str) -> None:
    """Planned, subscribed, recorded, stopped, explained and given up by operations alone; each says what came of it."""
    agent = site()
    with redis.Redis.from_url(fresh_redis, decode_responses=True) as client:
        sync = cam_configures(client, "array_1", 8)
        await coordinate(agent)
        planned = (await run_operation(agent, "plan_allocation", array="array_1"))["data"]
        assert (planned["allocated"], planned["requested"], planned["reason"]) == (2, 2, "")
        short = (await run_operation(agent, "plan_allocation", streams="spead://239.192.40.0+11:7148"))["data"]
        assert short["uncovered"] == 4 and "of 2 there are" in short["reason"]
        assert "array_2:cbf_name" in await refused(agent, "subscribe", array="array_2")
        subscribed = (await run_operation(agent, "subscribe", array="array_1"))["data"]
        assert subscribed["allocated"] == 2 and subscribed["instances"]["blpn64/1"]["schan"] == 64
        assert client.get("array_1:freesub_state") == "SUBSCRIBED"
        daqs_say(client, sync)
        wish = {"array": "array_1", "dwell": 30.0, "lead_seconds": 3.0, "target": "Vega, radec, 18:36:56, 38:47:01"}
        recorded = (await run_operation(agent, "start_recording", **wish))["data"]
        assert recorded["target"] == "Vega" and recorded["instances"] == ["blpn64/0", "blpn64/1"]
        assert recorded["ends"] - recorded["pktstart_ts"] == 30.0
        assert client.hget("bluse:array_1-0///set", "PKTSTART") == str(recorded["pktstart"])
        assert "RECORD" in await refused(agent, "unsubscribe", array="array_1")
        stopped = (await run_operation(agent, "stop_recording", array="array_1", reason="wind"))["data"]
        assert stopped["obsid"] == recorded["obsid"] and stopped["too_short"]
        story = (await run_operation(agent, "explain", subject="blpn64/1"))["data"]
        assert "processing" in story["standing"][0] and "wind" in str(story["chapters"])
        given_up = (await run_operation(agent, "unsubscribe", array="array_1", force=True))["data"]
        assert given_up["busy"] == {"blpn64/0": "processing", "blpn64/1": "processing"}
        drained = (await run_operation(agent, "drain", instance="blpn64"))["data"]["duties"]
        assert drained == given_up["busy"]
        figures = (await run_operation(agent, "obs_stats"))["data"]
        assert figures["arrays"].keys() == {"array_1", "array_2"}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_what_is_seen_and_kept(site: Any, fresh_redis: str) -> None:
    """Instances, metadata, proposals, differences and the saved state: read from a real Redis, and shown."""
    agent = site()
    with redis.Redis.from_url(fresh_redis, decode_responses=True) as client:
        sync = cam_configures(client, "array_1", 8)
        await coordinate(agent)
        daqs_say(client, sync, DESTIP="239.192.40.0+3")
        seen = (await run_operation(agent, "monitor_instances", test_mode=True))["data"]
        assert seen["count"] == {"alive": 2, "receiving": 2, "recording": 0, "silent": 0, "stale": 0}
        assert 0 < seen["instances"]["blpn64/0"]["ttl"] <= 60 and abs(seen["instances"]["blpn64/0"]["pulse_age"]) < 30
        metadata = (await run_operation(agent, "update_metadata", test_mode=True))["data"]["arrays"]
        assert metadata["array_1"]["values"]["n_channels"] == "128" and not metadata["array_1"]["fault"]
        assert metadata["array_1"]["missing"] == [] and "cbf" in metadata["array_2"]["fault"]
        rules = (await run_operation(agent, "set_proposal_rules", skip_ids=["EXT-1"]))["data"]
        assert rules["arrays"]["array_1"] == {"proposal": "EXT-1", "mode": "skip"}
        found = (await run_operation(agent, "reconcile"))["data"]["differences"]
        assert [(item["instance"], item["remedy"]) for item in found] == [("blpn64/0", "rest"), ("blpn64/1", "rest")]
        kept = (await run_operation(agent, "save_state", slot="evening"))["data"]
        assert json.loads(client.get(kept["key"]) or "")["keys"]["free_instances"] == '["blpn64/0","blpn64/1"]'
        loaded = (await run_operation(agent, "load_state", slot="evening"))["data"]
        assert loaded["arrays"]["array_2"] == {"freesub": "FREE", "recproc": "READY"}
        assert "nothing is kept" in await refused(agent, "load_state", slot="morning")
        client.zadd("array_1:cal_solutions:index", {"array_1:cal_solutions:20200101T000000Z": 1577836800})
        expired = (await run_operation(agent, "expire_cals"))["data"]["removed"]
        assert expired == {"array_1": 1, "array_2": 0}
        assert "telescope state" in (await run_operation(agent, "fetch_cal", array="array_1"))["data"]["result"]
        failed = await refused(agent, "supervise", instance="blpn64/0", part="recorder")
        assert "HostManager" in failed
