"""A recorder that is killed in the middle of a recording: what is on the disk, and what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from socs_bl.capture import guppi
from socs_bl.core.errors import Refused
from socs_bl.core.names import Instance
from socs_bl.hashpipe import wire
from socs_bl.services.process import free_port
from socs_bl.simulators.fengine import FEngineConfig, FEngines
from tests.harness.live import Agents, wait_until

pytestmark = [pytest.mark.live, pytest.mark.network]
INSTANCE = Instance("blpn64", 0)
PATIENCE = 120.0
DIRECTORY = "buf0/run/Unknown/GUPPI"


@pytest.fixture
def engines() -> Iterator[FEngineConfig]:
    """F-engines that send in real time while the test runs."""
    config = FEngineConfig(
        sync_time=float(int(time.time()) - 10), first_group="239.192.43.0", port=free_port(), n_channels=64, n_groups=4,
        seed=1,
    )  # fmt: skip
    stop, made = threading.Event(), FEngines(config)
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    yield config
    stop.set()
    thread.join()
    del made


def whole_blocks(directory: Path) -> list[list[guppi.Block]]:
    """The blocks of every recording up to where it was cut off."""
    found = []
    for files in guppi.find_recordings(directory).values():
        blocks: list[guppi.Block] = []
        try:
            for block in guppi.iter_blocks(files):
                blocks.append(block)
        except Refused as error:
            assert "interrupted here" in str(error)
        found.append(blocks)
    return found


@pytest.mark.timeout(600)
def test_a_killed_recorder_comes_back_and_goes_on(
    engines: FEngineConfig,
    site_dir: Callable[..., Path],
    run_agents: Callable[[Path], Agents],
    fresh_redis: str,
    tmp_path: Path,
) -> None:
    """SIGKILL in a recording: what was written is whole blocks with samples, the keys, the group and the rest of the
    window come back, and the recording ends when its window does."""
    argv = ["--instance", str(INSTANCE), "--redis-url", fresh_redis, "--root", str(tmp_path)]
    argv += ["--block-bytes", str(1 << 20)]
    entry = {"agent-class": "InstanceRecorder", "instance-id": "recorder", "arguments": argv}
    agents = run_agents(site_dir([entry]) / "default.yaml")
    agents.start("recorder")
    with redis.Redis.from_url(fresh_redis) as client:

        def status() -> dict[str, wire.Value]:
            return wire.parse_status(client.hgetall(wire.status_key(INSTANCE)))

        def tell(channel: str, **pairs: object) -> int:
            texts = {key: wire.parse_value(str(value)) for key, value in pairs.items()}
            return int(client.publish(channel, wire.format_pairs(texts)))

        def wait_for(state: str) -> None:
            wait_until(lambda: status().get("DAQSTATE") == state, PATIENCE, what=f"DAQSTATE {state}")

        own, group = wire.set_channel(INSTANCE), wire.group_set_channel("array_1-0")
        wait_for("IDLE")
        client.publish(wire.gateway_channel(INSTANCE), "join=array_1-0")
        tell(
            own, SUBARRAY="array_1", BINDPORT=engines.port, SYNCTIME=int(engines.sync_time), FECENTER=1284.0, FENCHAN=64,
            CHAN_BW=engines.width / 1e6, HNCHAN=16, HNTIME=256, HCLOCKS=engines.heap_clocks, NANTS=4, DWELL=0, PKTSTART=0,
            SCHAN=0, DESTIP="239.192.43.0+3",
        )  # fmt: skip
        wait_until(lambda: int(status().get("PKTIDX", 0)) > 0, PATIENCE, what="PKTIDX")
        start = int(status()["PKTIDX"]) + 30
        tell(own, DWELL=600, DATADIR="/buf0/run", OBSID="MeerKAT:array_1:x", PKTSTART=start)
        wait_for("RECORD")
        wait_until(lambda: sum(map(len, whole_blocks(tmp_path / DIRECTORY))) >= 3, PATIENCE, what="three blocks")
        agents.children["recorder"].kill()
        (left,) = whole_blocks(tmp_path / DIRECTORY)
        assert len(left) >= 3 and all(block.data.any(axis=(2, 3, 4)).all() for block in left)

        agents.start("recorder")
        wait_for("RECORD")
        assert status()["PKTSTART"] == start and status()["SUBARRAY"] == "array_1" and status()["DWELL"] == 600
        wait_until(lambda: len(whole_blocks(tmp_path / DIRECTORY)) == 2, PATIENCE, what="the second file")
        # Whoever commands the group is heard as before.
        wait_until(lambda: tell(group, DWELL=0) == 1, PATIENCE, what="the group")
        wait_for("LISTEN")
    first, second = whole_blocks(tmp_path / DIRECTORY)
    assert [len(block.data) for block in first[: len(left)]] == [4] * len(left), "nothing that was written has gone"
    assert first[-1].header.integer("PKTIDX") < second[0].header.integer("PKTIDX")
    assert first[0].header.integer("PKTSTART") == second[0].header.integer("PKTSTART")
    assert first[0].header.integer("PKTSTOP") == second[0].header.integer("PKTSTOP")
