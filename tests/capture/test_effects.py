"""What the recorder's machine wants, carried out on a real gateway and a real stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.effects import Performer
from socs_bl.capture.model import Restore
from socs_bl.capture.stream import CaptureStream
from socs_bl.core.errors import Retry
from socs_bl.core.names import Instance
from socs_bl.hashpipe import wire
from socs_bl.hashpipe.gateway import Gateway

pytestmark = pytest.mark.live
INSTANCE = Instance("blpn64", 0)
RESTORE = Restore(pairs={"DWELL": 20, "SUBARRAY": "array_1"}, group="array_1-0")


@pytest.fixture
def client(fresh_redis: str) -> Iterator[redis.Redis]:
    """Somebody beside the recorder."""
    with redis.Redis.from_url(fresh_redis) as client:
        yield client


@pytest.fixture
def gateway(fresh_redis: str) -> Iterator[Gateway]:
    """A gateway that has not been started."""
    gateway = Gateway(fresh_redis, INSTANCE, lambda changed: None)
    yield gateway
    assert gateway.stop()


@pytest.fixture
def performer(tmp_path: Path, gateway: Gateway, client: redis.Redis) -> Iterator[Performer]:
    """A performer with that gateway and a running stream."""
    stream = CaptureStream(CaptureConfig(root=tmp_path), lambda event: None)
    stream.start()
    yield Performer(stream, gateway)
    assert stream.stop()


def test_restored_means_that_the_group_is_heard(performer: Performer, gateway: Gateway, client: redis.Redis) -> None:
    """When the effect is done, whatever the group is told arrives, and what was set meanwhile is not overwritten."""
    gateway.start()
    gateway.update({"DWELL": 40})
    performer.perform(RESTORE)
    assert client.publish(wire.group_set_channel("array_1-0"), "PKTSTART=1616") == 1
    assert gateway.snapshot()["DWELL"] == 40 and gateway.snapshot()["SUBARRAY"] == "array_1"


def test_nobody_listening_is_no_success(
    performer: Performer, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the gateway's listener is not there the effect does not count as done; a later try does."""
    monkeypatch.setattr(Restore, "deadline", 1.1)
    with pytest.raises(Retry, match="array_1-0 were not subscribed"):
        performer.perform(RESTORE)
    monkeypatch.undo()
    gateway.start()
    performer.perform(RESTORE)
    assert gateway.groups == {"array_1-0"}
