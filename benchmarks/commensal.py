"""The coordinator's shell with 128 instances on a real Redis: how fast it commands them, and how fast it is back.

The machine runs in the shell of the agents, with its journal in the same Redis, and reads CAM's keys there. Messages are
received by a plain socket that has subscribed to all gateway channels, for ours and for the reference alike.
"""

from __future__ import annotations

import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

import redis
from report import Figure, arguments, publish
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from workload import STREAMS, metadata, world

from socs_bl.agentkit.runner import MachineRunner
from socs_bl.commensal.effects import Reader
from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.metadata import keys_of
from socs_bl.commensal.model import Duty, ReadMetadata, ReadStatus, TelescopeEvent
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Driver
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.redis_server import RedisServer

INSTANCES = 128
ARRAY = "array_0"
JOURNAL = "bench:commensal"
PATTERN = "bluse:*"
CODEC = Codec(CommensalMachine)
PATIENCE = 30.0  # seconds
LINES = 9  # of a message in the Redis protocol: the third is its kind, the seventh its channel, the last its payload
CONFIGURE = INSTANCES * 4 + 13 * 2  # messages: a join and three keys an instance, 13 keys a group
DECONFIGURE = INSTANCES * 3 + 2  # two keys and a word to leave an instance, a word a group


class Ear:
    """A subscriber that only counts: parsing what it hears would take longer than sending it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), PATIENCE)
        self._socket.sendall(f"*2\r\n$10\r\nPSUBSCRIBE\r\n${len(PATTERN)}\r\n{PATTERN}\r\n".encode())
        self._socket.recv(1024)

    def hear(self, count: int) -> bytes:
        """Wait for so many messages; what was received."""
        received = bytearray()
        while received.count(b"\r\n") < LINES * count:
            received += self._socket.recv(1 << 20)
        return bytes(received)

    def close(self) -> None:
        """Give the connection back."""
        self._socket.close()


class Coordinator:
    """The commensal machine in its shell; no pause between joining groups and speaking to them."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.reader = Reader(self.client, "bluse")
        self.runner = MachineRunner(
            Driver(CommensalMachine, CODEC, RedisJournal(url, JOURNAL)), self._perform, self._look, "bench"
        )

    async def _perform(self, effect: Effect) -> Sequence[Event]:
        if isinstance(effect, ReadMetadata):
            return await deferToThread(self.reader.metadata, effect)
        if isinstance(effect, ReadStatus):
            return await deferToThread(self.reader.status, effect)
        return []

    async def _look(self) -> Mapping[str, Any]:
        seen = world(INSTANCES, 1)
        return {"config": {**seen["config"], "join_pause": 0.0}}

    async def stop(self) -> None:
        """Stop, leaving the state in Redis."""
        await self.runner.stop()
        self.client.close()


def tell_cam(url: str) -> None:
    """CAM's keys of a subarray that needs all instances."""
    values = metadata(STREAMS * INSTANCES, time.time())
    antennas = int(values.pop("antennas"))
    keys = keys_of(ARRAY, "wide_name", "wide")
    with redis.Redis.from_url(url) as client:
        client.mset({f"{ARRAY}:cbf_name": "wide_name", f"{ARRAY}:cbf_prefix": "wide"})
        client.mset({keys[short]: value for short, value in values.items()})
        client.delete(keys["antennas"])
        client.rpush(keys["antennas"], *(f"m{number:03d}" for number in range(antennas)))


async def configure(coordinator: Coordinator, ear: Ear) -> tuple[float, bytes]:
    """From the events until the last gateway message has been received; seconds, and what was received."""
    runner = coordinator.runner
    began = time.perf_counter()
    received: Deferred[bytes] = deferToThread(ear.hear, CONFIGURE)
    runner.feed(TelescopeEvent(word="configure", array=ARRAY))
    runner.feed(TelescopeEvent(word="conf_complete", array=ARRAY))
    data = await received
    took = time.perf_counter() - began
    assert data.count(b"DESTIP=") == INSTANCES, "not everybody was told what to receive"
    return took, data


async def deconfigure(coordinator: Coordinator, ear: Ear) -> None:
    """Give all instances back, and hear that."""
    received: Deferred[bytes] = deferToThread(ear.hear, DECONFIGURE)
    await coordinator.runner.submit(TelescopeEvent(word="deconfigure", array=ARRAY))
    await received


def parsed(data: bytes) -> list[tuple[str, str]]:
    """Channels and payloads of what was received."""
    lines = data.decode().split("\r\n")
    return list(zip(lines[6::LINES], lines[8::LINES], strict=True))


def bare_pipeline(client: redis.Redis, ear: Ear, messages: Sequence[tuple[str, str]]) -> float:
    """The same messages in one pipeline, until the last has been received; seconds."""
    began = time.perf_counter()
    with client.pipeline(transaction=False) as pipeline:
        for channel, payload in messages:
            pipeline.publish(channel, payload)
        pipeline.execute()
    ear.hear(len(messages))
    return time.perf_counter() - began


async def configures(url: str, times: int) -> Figure:
    """Configure again and again, in turn with the reference."""
    ear = Ear(url)
    coordinator = Coordinator(url)
    await coordinator.runner.start()
    ours: list[float] = []
    reference: list[float] = []
    try:
        for _ in range(times):
            took, data = await configure(coordinator, ear)
            ours.append(took)
            reference.append(bare_pipeline(coordinator.client, ear, parsed(data)))
            await deconfigure(coordinator, ear)
    finally:
        await coordinator.stop()
        ear.close()
    middle, bare = statistics.median(ours), statistics.median(reference)
    return Figure(
        f"configure of {INSTANCES} instances, events to {len(parsed(data))} messages received / one bare pipeline of them",
        1e3 * middle,
        1e3 * bare,
        middle / bare,
        "<= 3",
        "ms",
        middle <= 3 * bare,
    )


async def restarts(url: str, times: int) -> Figure:
    """Stop while all instances are subscribed, and be back: claimed, restored, restarted, timers armed."""
    ear = Ear(url)
    coordinator = Coordinator(url)
    await coordinator.runner.start()
    await configure(coordinator, ear)
    await coordinator.runner.submit(TelescopeEvent(word="tracking", array=ARRAY))
    ear.close()
    durations = []
    for _ in range(times):
        await coordinator.stop()
        coordinator = Coordinator(url)
        began = time.perf_counter()
        await coordinator.runner.start()
        durations.append(time.perf_counter() - began)
        machine = coordinator.runner.machine
        assert sum(cell.duty is Duty.READY for cell in machine.instances()) == INSTANCES, "instances were lost"
        assert machine.timers, "no timer was armed"
    await coordinator.stop()
    middle = statistics.median(durations)
    return Figure(
        f"restart with {INSTANCES} instances, claim to timers armed / 1 s",
        1e3 * middle,
        1e3,
        middle,
        "< 1",
        "ms",
        middle < 1.0,
    )


async def main(quick: bool, path: Path | None) -> None:
    """Both figures on a server of their own."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            tell_cam(server.url)
            times = 5 if quick else 25
            publish([await configures(server.url, times), await restarts(server.url, times)], path)
        finally:
            server.stop()


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    react(lambda reactor: ensureDeferred(main(options.quick, options.json)))
