"""Listeners keep what they promise when Redis goes away: streams lose nothing, channels say that they may have."""

from __future__ import annotations

import queue
from pathlib import Path

import pytest
import redis

from socs_bl.services.redis_server import RedisServer
from socs_bl.services.subscriber import StreamReader, Subscriber

PATIENCE = 20.0


@pytest.mark.live
def test_a_stream_is_read_on_after_a_restart(tmp_path: Path) -> None:
    """Entries appended while the connection was broken are read, each once, in order."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    read: queue.Queue[str] = queue.Queue()
    reader = StreamReader(server.url, "results", "0-0", lambda cursor, fields: read.put(fields["n"]))
    reader.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            client.xadd("results", {"n": "0"})
            assert read.get(timeout=PATIENCE) == "0"
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            for number in (1, 2):
                client.xadd("results", {"n": str(number)})
        assert [read.get(timeout=PATIENCE) for _ in range(2)] == ["1", "2"]
        assert read.empty()
    finally:
        reader.stop()
        server.stop()


@pytest.mark.live
def test_channels_are_subscribed_again(tmp_path: Path) -> None:
    """After a broken connection it hears again, and has said that messages may be missing."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    heard: queue.Queue[tuple[str, str]] = queue.Queue()
    said: queue.Queue[str] = queue.Queue()
    subscriber = Subscriber(server.url, ["a", "b"], lambda *message: heard.put(message), said.put)
    subscriber.start()
    try:
        assert subscriber.subscribed.wait(PATIENCE)
        server.kill()
        assert "may have been missed" in said.get(timeout=PATIENCE)
        server.start()
        assert subscriber.subscribed.wait(PATIENCE)
        with redis.Redis.from_url(server.url) as client:
            client.publish("b", b"\xffx")
        assert heard.get(timeout=PATIENCE) == ("b", "\ufffdx")
    finally:
        subscriber.stop()
        server.stop()
