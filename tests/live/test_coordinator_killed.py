"""kill -9 of the coordinator in the middle of a recording: the cycle ends as if nothing had happened."""

from __future__ import annotations

import re
import signal
import threading
from typing import Any

import pytest
import redis

from socs_bl.services import process
from socs_bl.services.observatory import Observatory
from socs_bl.services.process import Identity
from socs_bl.services.run_dir import MARK
from tests.harness.live import wait_until

pytestmark = [pytest.mark.live, pytest.mark.network]

ARRAY = "array_1"


class GatewayLog:
    """Everything said on channels of the hashpipe domain, in order."""

    def __init__(self, url: str) -> None:
        self.messages: list[tuple[str, str]] = []
        self._client = redis.Redis.from_url(url)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="gateway log")

    def __enter__(self) -> GatewayLog:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub() as channel:
            channel.psubscribe("bluse:*")
            while not self._stop.is_set():
                message = channel.get_message(timeout=0.2)
                if message and message["type"] == "psubscribe":
                    self._ready.set()
                elif message and message["type"] == "pmessage":
                    self.messages.append((message["channel"].decode(), message["data"].decode()))

    def normalised(self) -> list[tuple[str, str]]:
        """The log with what depends on the time of day taken out."""
        return [(channel, _timeless(text)) for channel, text in self.messages]


def _timeless(text: str) -> str:
    text = re.sub(r"\d{8}T\d{6}Z", "<time>", text)
    return re.sub(r"^(PKTSTART|SYNCTIME)=[1-9]\d*$", r"\1=<index>", text)


def coordinate(observatory: Observatory) -> dict[str, Any]:
    """Session data of the coordinator; empty while it does not answer."""
    try:
        _, _, session = observatory.operator.request("coordinator", "status", "coordinate")
    except Exception:  # noqa: BLE001 - a killed agent answers with whatever the router makes of it
        return {}
    return session.get("data") or {}


def state(observatory: Observatory) -> str:
    """Recording state of the subarray."""
    return str(coordinate(observatory).get("arrays", {}).get("array_1", {}).get("recproc_state", ""))


def coordinator_process(observatory: Observatory) -> Identity | None:
    """The coordinator's process."""
    for identity in process.marked(MARK, str(observatory.run_dir)):
        if "coordinator" in " ".join(process.command_line(identity.pid)):
            return identity
    return None


def telescope(observatory: Observatory, task: str, **parameters: object) -> None:
    """Have the telescope do something, and wait until it has done it."""
    status, text, _ = observatory.operator.request("telescope", "start", task, **parameters)
    assert status == 0, text

    def session() -> dict[str, Any]:
        return observatory.operator.request("telescope", "status", task)[2]

    wait_until(lambda: session()["status"] == "done", 60, what=f"the end of {task}")
    assert session()["success"], session()["messages"]


def receiving(observatory: Observatory) -> bool:
    """Both instances have a packet index."""
    with redis.Redis.from_url(observatory.redis_url) as client:
        keys = [f"bluse://blpn64/{number}/status" for number in (0, 1)]
        return all(client.hget(key, "PKTIDX") and client.hget(key, "NETSTAT") != b"idle" for key in keys)


def kill_coordinator(observatory: Observatory) -> None:
    """SIGKILL, and wait until the HostManager has brought the coordinator back and it hears CAM again."""
    victim = wait_until(lambda: coordinator_process(observatory), 5, what="the coordinator's process")
    assert process.signal_exactly(victim, signal.SIGKILL)
    assert process.wait_gone([victim], 10) == []
    again = wait_until(lambda: coordinator_process(observatory), 60, what="the HostManager starting it again")
    assert again != victim
    wait_until(lambda: coordinate(observatory).get("listening"), 90, what="the coordinator listening again")


def cycle(observatory: Observatory, kill: bool) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """One cycle of the subarray; returns the gateway log and the coordinator's last word."""
    before = int(coordinate(observatory)["completed_runs"])
    with GatewayLog(observatory.redis_url) as log:
        telescope(observatory, "configure", array=ARRAY)
        wait_until(lambda: receiving(observatory), 60, what="packets at both instances")
        telescope(observatory, "track", array=ARRAY, target="3C 286")
        wait_until(lambda: state(observatory) == "RECORD", 60, what="a recording")
        if kill:
            kill_coordinator(observatory)
        wait_until(lambda: coordinate(observatory).get("completed_runs") == before + 1, 120, what="the end of the run")
        telescope(observatory, "deconfigure", array=ARRAY)
        wait_until(lambda: coordinate(observatory).get("pool", {}).get("free") == 2, 60, what="the instances' release")
    return log.normalised(), coordinate(observatory)


@pytest.mark.timeout(600)
def test_a_killed_coordinator_changes_nothing(observatory: Observatory) -> None:
    """The ordered log of all gateway messages equals that of a run without the kill, and the run completes."""
    status, text, _ = observatory.operator.request("telescope", "start", "fengines")
    assert status == 0, text
    try:
        undisturbed, _ = cycle(observatory, kill=False)
        disturbed, last = cycle(observatory, kill=True)
    finally:
        observatory.operator.request("telescope", "stop", "fengines")
    assert len(undisturbed) > 50
    assert disturbed == undisturbed
    assert last["quarantined"] == {}
    hits = sorted((observatory.run_dir / "products").rglob("*.search.json"))
    assert len(hits) == 4, "two instances searched two recordings"
    with redis.Redis.from_url(observatory.redis_url) as client:
        assert client.xlen("socs_bl:results") == 4
