"""The instance recorder: what every agent promises, and a whole recording commanded through the gateway."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ocs
import pytest
import pytest_twisted
import redis

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.instance_recorder.agent import InstanceRecorder, add_agent_args
from socs_bl.capture import guppi
from socs_bl.core.names import Instance
from socs_bl.hashpipe import wire
from socs_bl.services.process import free_port
from socs_bl.simulators.fengine import FEngineConfig, FEngines
from tests.harness.agent_case import (
    AgentCase,
    arguments,
    begun,
    end,
    ended,
    make_site_agent,
    pause,
    run_operation,
    stored,
)

pytestmark = [pytest.mark.live, pytest.mark.network]
INSTANCE = Instance("blpn64", 0)
PATIENCE = 30.0
BLOCK_BYTES = 1 << 20
# A port of this run's own: multicast on loopback is heard by every process of the machine.
PORT = free_port()


def make(site_agent: SiteAgent, directory: Path, redis_url: str) -> InstanceRecorder:
    """A recorder below `directory`."""
    argv = (
        "--instance",
        str(INSTANCE),
        "--redis-url",
        redis_url,
        "--root",
        str(directory),
        "--block-bytes",
        str(BLOCK_BYTES),
    )
    return InstanceRecorder(site_agent, arguments(add_agent_args(), *argv))


class TestInstanceRecorder(AgentCase):
    """What every agent promises."""

    @pytest.fixture(autouse=True)
    def _redis(self, fresh_redis: str) -> None:
        self.redis_url = fresh_redis

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> InstanceRecorder:
        return make(site_agent, tmp_path, self.redis_url)

    def parameters(self, name: str) -> dict[str, object] | None:
        return {"start_recording": {"destip": "239.192.78.0+3", "datadir": "/buf0/test"}}.get(name, {})

    def state(self, agent: Any) -> object:
        return stored(self.redis_url, f"socs_bl:recorder:{INSTANCE}")


def said(session: dict[str, Any]) -> str:
    """All messages of a session."""
    return "\n".join(text for _, text in session["messages"])


class World:
    """A recorder, a Redis client beside it, and F-engines."""

    def __init__(self, agent: InstanceRecorder, url: str) -> None:
        self.agent = agent
        self.client = redis.Redis.from_url(url)
        # The present is packet index 160, ten seconds after the synchronisation.
        config = FEngineConfig(
            sync_time=float(int(time.time()) - 10),
            first_group="239.192.78.0",
            port=PORT,
            n_channels=64,
            n_groups=4,
            seed=1,
        )
        self.config = config
        self.engines = FEngines(config)
        self.next = 160

    def tell(self, channel: str | None = None, **pairs: object) -> int:
        texts = {key: wire.parse_value(str(value)) for key, value in pairs.items()}
        return int(self.client.publish(channel or wire.set_channel(INSTANCE), wire.format_pairs(texts)))

    def allocate(self) -> None:
        """The keys of a subscription, DESTIP last."""
        config = self.config
        self.tell(
            SUBARRAY="array_1", BINDPORT=PORT, SYNCTIME=int(config.sync_time), FECENTER=1284.0, FENCHAN=64,
            CHAN_BW=config.width / 1e6, HNCHAN=16, HNTIME=256, HCLOCKS=config.heap_clocks, NANTS=4, DWELL=0, PKTSTART=0,
            SCHAN=0, DESTIP="239.192.78.0+3",
        )  # fmt: skip

    def status(self) -> dict[str, wire.Value]:
        return wire.parse_status(self.client.hgetall(wire.status_key(INSTANCE)))

    async def until(self, condition: Callable[[], bool], sending: bool = False) -> None:
        """Wait for `condition`, sending heaps meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.status()
            if sending:
                self.engines.send(self.next)
                self.next += 1
            await pause(0.02)


@pytest.fixture
def world(tmp_path: Path, fresh_redis: str) -> Iterator[World]:
    """A recorder that is not started yet."""
    agent = make(make_site_agent("InstanceRecorder"), tmp_path, fresh_redis)
    made = World(agent, fresh_redis)
    yield made
    pytest_twisted.blockon(agent.site_agent.end())
    agent.close()
    made.client.close()
    del made.engines  # its sockets with it


@pytest_twisted.ensureDeferred
async def test_a_recording_through_the_gateway(world: World, tmp_path: Path) -> None:
    """Allocated, told DATADIR, DWELL and PKTSTART, released: status, session data and files say the same."""
    await begun(world.agent, "record")
    await world.until(lambda: world.status().get("DAQSTATE") == "IDLE")
    world.allocate()
    await world.until(lambda: world.status().get("DAQSTATE") == "LISTEN")
    await world.until(lambda: int(world.status().get("PKTIDX", 0)) >= 170, sending=True)
    assert world.status()["NETSTAT"] in ("waiting", "receiving") and world.status()["DESTIP"] == "239.192.78.0+3"
    world.tell(DWELL=2, DATADIR="/buf0/20261121T000000Z-20261121-0001", OBSID="MeerKAT:array_1:x", SRC_NAME="Hyd_A")
    start = int(world.status()["PKTIDX"]) + 20
    world.tell(PKTSTART=start)
    await world.until(lambda: world.status().get("DAQSTATE") == "RECORD", sending=True)
    refused = await run_operation(world.agent, "start_recording", destip="239.192.78.0+3", datadir="/buf0/hand")
    assert not refused["success"] and "allocated to array_1" in said(refused)
    refused = await run_operation(world.agent, "stop_recording")
    assert not refused["success"] and "allocated" in said(refused)
    await world.until(lambda: world.status().get("DAQSTATE") == "LISTEN", sending=True)
    (files,) = guppi.find_recordings(tmp_path / "buf0/20261121T000000Z-20261121-0001/Unknown/GUPPI").values()
    headers = [block.header for block in guppi.iter_blocks(files)]
    piperblk = headers[0].integer("PIPERBLK")
    assert headers[0].integer("PKTIDX") == start - start % piperblk == headers[0].integer("PKTSTART")
    assert headers[-1].integer("PKTIDX") + piperblk == headers[0].integer("PKTSTOP") == world.status()["PKTSTOP"]
    assert headers[0].text("SRC_NAME") == "Hyd_A" and headers[0].text("TELESCOP") == "MeerKAT"
    data = world.agent.site_agent.sessions["record"].data
    await world.until(lambda: world.agent.site_agent.sessions["record"].data["blocks"] == len(headers))
    assert data["recorded_missing"] == 0 and data["heaps"]["received"] > 0
    assert (await run_operation(world.agent, "reset_counters"))["success"]
    world.tell(DESTIP="0.0.0.0")
    await world.until(lambda: world.status().get("DAQSTATE") == "IDLE")
    await world.until(lambda: world.status().get("NETSTAT") == "idle")
    end(world.agent, "record")
    assert (await ended(world.agent, "record"))["success"]
    assert not world.client.exists(wire.status_key(INSTANCE))


@pytest_twisted.ensureDeferred
async def test_a_restart_goes_on_recording(world: World, tmp_path: Path) -> None:
    """Stopped in the middle of a recording and started again: the keys, the group and the rest of the window are back."""
    await begun(world.agent, "record")
    await world.until(lambda: world.status().get("DAQSTATE") == "IDLE")
    world.allocate()
    await world.until(lambda: int(world.status().get("PKTIDX", 0)) >= 170, sending=True)
    start = int(world.status()["PKTIDX"]) + 20
    world.tell(DWELL=60, DATADIR="/buf0/run", PKTSTART=start)
    await world.until(lambda: world.status().get("DAQSTATE") == "RECORD", sending=True)
    end(world.agent, "record")
    await ended(world.agent, "record")
    await begun(world.agent, "record")
    await world.until(lambda: world.status().get("DAQSTATE") == "RECORD", sending=True)
    assert world.status()["PKTSTART"] == start and world.status()["SUBARRAY"] == "array_1"
    group = wire.group_set_channel("array_1-0")
    await world.until(lambda: world.tell(group, DWELL=0) == 1, sending=True)
    await world.until(lambda: world.status().get("DAQSTATE") == "LISTEN", sending=True)
    recordings = guppi.find_recordings(tmp_path / "buf0/run/Unknown/GUPPI")
    assert len(recordings) == 2
    assert all(list(guppi.iter_blocks(files)) for files in recordings.values())
    end(world.agent, "record")
    status, _, _ = await world.agent.site_agent.wait("record", timeout=PATIENCE)
    assert status == ocs.OK


@pytest_twisted.ensureDeferred
async def test_by_hand(world: World, tmp_path: Path) -> None:
    """An instance that nobody has allocated can be made to record by hand, once its band is known."""
    await begun(world.agent, "record")
    await world.until(lambda: world.status().get("DAQSTATE") == "IDLE")
    asked = {"destip": "239.192.78.0+3", "datadir": "/buf0/hand", "dwell": 1.0}
    refused = await run_operation(world.agent, "start_recording", **asked)
    assert not refused["success"] and "HNCHAN" in said(refused)
    world.allocate()
    world.tell(DESTIP="0.0.0.0")
    await world.until(lambda: world.status().get("DESTIP") == "0.0.0.0" and world.status()["DAQSTATE"] == "IDLE")
    session = await run_operation(world.agent, "start_recording", **asked)
    assert session["success"], session["messages"]
    world.next = session["data"]["window"]["start"] - 20
    await world.until(lambda: world.status().get("DAQSTATE") == "RECORD", sending=True)
    await world.until(lambda: world.status().get("DAQSTATE") == "IDLE", sending=True)
    assert len(guppi.find_recordings(tmp_path / "buf0/hand/Unknown/GUPPI")) == 1
    end(world.agent, "record")
    await ended(world.agent, "record")
