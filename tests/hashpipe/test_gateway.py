"""The gateway on a real Redis: keys, groups, the status hash, loss of the server."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from socs_bl.core.errors import Refused
from socs_bl.core.names import Instance
from socs_bl.hashpipe import wire
from socs_bl.hashpipe.gateway import Gateway
from socs_bl.services.redis_server import RedisServer

pytestmark = pytest.mark.live
INSTANCE = Instance("blpn64", 0)
TIMEOUT = 20.0


class World:
    """A gateway, a client beside it, and the changes the gateway has reported."""

    def __init__(self, url: str) -> None:
        self.changes: queue.Queue[dict[str, wire.Value]] = queue.Queue()
        self.client = redis.Redis.from_url(url)
        self.gateway = Gateway(url, INSTANCE, self.changes.put)
        self.gateway.start()
        assert self.gateway.wait_ready(TIMEOUT)

    def publish(self, channel: str, payload: str | bytes) -> int:
        return int(self.client.publish(channel, payload))

    def status(self) -> dict[str, wire.Value]:
        return wire.parse_status(self.client.hgetall(wire.status_key(INSTANCE)))

    def next_change(self) -> dict[str, wire.Value]:
        return self.changes.get(timeout=TIMEOUT)


@pytest.fixture
def world(fresh_redis: str) -> Iterator[World]:
    """A running gateway; afterwards its threads are gone and so is its status hash."""
    made = World(fresh_redis)
    yield made
    assert made.gateway.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gateway-")]
    assert not made.client.exists(wire.status_key(INSTANCE))
    made.client.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; fails the test when it does not within the time-out."""
    deadline = time.monotonic() + TIMEOUT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "condition never held"
        pause.wait(0.01)


def test_keys_reach_the_buffer_the_callback_and_the_status_hash(world: World) -> None:
    """A pair set on the own or broadcast channel is typed, reported once, and readable in the status hash."""
    assert world.publish(wire.set_channel(INSTANCE), "DWELL=290\nDESTIP=239.9.0.0+3") == 1
    assert world.next_change() == {"DWELL": 290, "DESTIP": "239.9.0.0+3"}
    world.publish(wire.broadcast_set_channel(), "DWELL=290\nFECENTER=1284.5")
    assert world.next_change() == {"FECENTER": 1284.5}
    world.gateway.update({"PKTIDX": 7})
    eventually(lambda: world.status() == {"DWELL": 290, "DESTIP": "239.9.0.0+3", "FECENTER": 1284.5, "PKTIDX": 7})
    assert 0 < world.client.pttl(wire.status_key(INSTANCE)) <= 3000


def test_groups_are_joined_and_left(world: World) -> None:
    """Keys of a group arrive after join and no longer after leave, told on the own or on the group's channel."""
    channel = wire.group_set_channel("array_1-0")
    for key, leave_channel in (
        ("A", wire.gateway_channel(INSTANCE)),
        ("B", wire.group_gateway_channel("array_1-0")),
    ):
        assert world.publish(channel, "LOST=1") == 0
        world.publish(wire.gateway_channel(INSTANCE), "join=array_1-0")
        eventually(lambda key=key: world.publish(channel, f"{key}=1") == 1)
        assert world.next_change() == {key: 1}
        world.publish(leave_channel, "leave=array_1-0")
        eventually(lambda: world.publish(channel, "A=1") == 0)
        assert world.gateway.groups == frozenset()


def test_delay_sets_refresh_and_expiry(world: World) -> None:
    """delay= changes how long the status hash outlives its gateway: three times the delay."""
    world.gateway.update({"A": 1})
    world.publish(wire.gateway_channel(INSTANCE), "delay=60")
    eventually(lambda: world.client.pttl(wire.status_key(INSTANCE)) > 170_000)


def test_hostile_messages_are_counted_and_cost_nothing(world: World) -> None:
    """Junk on every channel is counted by the pair and the gateway goes on."""
    for payload in (b"\xff\x00\xff", b"=", b"A" * 100_000, b"TOOLONGKEY=1\nB="):
        world.publish(wire.set_channel(INSTANCE), payload)
        world.publish(wire.gateway_channel(INSTANCE), payload)
    for group in range(40):
        world.publish(wire.gateway_channel(INSTANCE), f"join=g{group}-0")
    world.publish(wire.set_channel(INSTANCE), "GOOD=1")
    assert world.next_change() == {"GOOD": 1}
    # 5 bad pairs, 4 bad commands, and the joins beyond the 16th.
    eventually(lambda: world.gateway.counters.rejected == 5 + 4 + 24)
    assert len(world.gateway.groups) == 16
    world.publish(wire.gateway_channel(INSTANCE), "quit")
    eventually(lambda: world.gateway.groups == frozenset())


def test_a_raising_callback_does_not_end_the_gateway(fresh_redis: str) -> None:
    """An exception in the owner's callback is counted and the next key is taken as ever."""

    def explode(changed: dict[str, wire.Value]) -> None:
        raise RuntimeError(f"cannot take {changed}")

    gateway = Gateway(fresh_redis, INSTANCE, explode)
    gateway.start()
    try:
        assert gateway.wait_ready(TIMEOUT)
        with redis.Redis.from_url(fresh_redis) as client:
            for number in (1, 2):
                client.publish(wire.set_channel(INSTANCE), f"A={number}")
        eventually(lambda: gateway.counters.callback_errors == 2)
        assert gateway.snapshot() == {"A": 2}
    finally:
        assert gateway.stop()


def test_loss_of_the_server_is_survived(tmp_path: Path) -> None:
    """After SIGKILL and return of Redis the gateway is subscribed again, groups included, and its hash is back."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        world = World(server.url)
        world.gateway.update({"A": 1})
        world.publish(wire.gateway_channel(INSTANCE), "join=array_1-0")
        eventually(lambda: world.gateway.groups == {"array_1-0"})
        server.kill()
        eventually(lambda: world.gateway.counters.connection_losses > 0 and not world.gateway.connected)
        server.start()
        eventually(lambda: world.gateway.connected)
        eventually(lambda: world.status() == {"A": 1})
        assert world.publish(wire.group_set_channel("array_1-0"), "B=2") == 1
        assert world.next_change() == {"B": 2}
        assert world.gateway.stop()
        world.client.close()
    finally:
        server.stop()


def test_a_group_is_joined_again_from_this_side(world: World) -> None:
    """When `rejoin` has said yes, the group's keys are heard, also the second time; but a group that was left since the
    start, before it could be joined again or after, stays left until it is joined by command."""
    channel = wire.group_set_channel("array_1-0")
    for number in range(2):
        assert world.gateway.rejoin("array_1-0", TIMEOUT)
        assert world.publish(channel, f"A={number}") == 1
        assert world.next_change() == {"A": number}
    for group in ("array_1-0", "array_2-0"):
        world.publish(wire.gateway_channel(INSTANCE), f"leave={group}")
    world.publish(wire.set_channel(INSTANCE), "B=2")
    assert world.next_change() == {"B": 2}  # and so the commands before it were obeyed
    for group in ("array_1-0", "array_2-0"):
        assert world.gateway.rejoin(group, TIMEOUT)
    assert world.gateway.groups == frozenset()
    for command in ("join=array_2-0", "quit"):
        world.publish(wire.gateway_channel(INSTANCE), command)
    world.publish(wire.set_channel(INSTANCE), "B=4")
    assert world.next_change() == {"B": 4}  # and so the commands before it were obeyed
    assert world.gateway.rejoin("array_2-0", TIMEOUT) and world.gateway.groups == {"array_2-0"}
    for number in range(15):
        assert world.gateway.rejoin(f"g{number}-0", TIMEOUT)
    with pytest.raises(Refused, match="leave one first"):
        world.gateway.rejoin("array_3-0", TIMEOUT)


def test_a_group_is_joined_again_when_the_server_is_back(tmp_path: Path) -> None:
    """`rejoin` without a server says no and not yes; the group is there as soon as the server is, and a stop ends the
    wait."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        world = World(server.url)
        server.kill()
        eventually(lambda: not world.gateway.connected)
        assert not world.gateway.rejoin("array_1-0", 0.05)
        answers: queue.Queue[bool] = queue.Queue()
        waiting = [
            threading.Thread(target=lambda name=name: answers.put(world.gateway.rejoin(name, TIMEOUT)))
            for name in ("array_1-0", "array_2-0")
        ]
        for thread in waiting:
            thread.start()
        server.start()
        assert [answers.get(timeout=TIMEOUT) for _ in waiting] == [True, True]
        for group in ("array_1-0", "array_2-0"):
            assert world.publish(wire.group_set_channel(group), "B=2") == 1
        server.kill()
        eventually(lambda: not world.gateway.connected)
        waiting.append(threading.Thread(target=lambda: answers.put(world.gateway.rejoin("array_1-0", 10 * TIMEOUT))))
        waiting[-1].start()
        assert world.gateway.stop()
        assert answers.get(timeout=TIMEOUT) is False
        for thread in waiting:
            thread.join()
        world.client.close()
    finally:
        server.stop()
