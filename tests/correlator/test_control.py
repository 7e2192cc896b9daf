"""The control socket: any division into pieces, hostile bytes, an agent that does not read, and requests that fail."""

from __future__ import annotations

import json
import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.control import LARGEST_MESSAGE, LENGTH, ControlServer, Decoder, encode
from socs_bl.correlator.control_client import ControlClient

PATIENCE = 30.0
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), max_size=5), st.integers(1, 50))
def test_messages_survive_any_division(messages: list[dict[str, Any]], piece: int) -> None:
    """Messages come out whole and in order, however their bytes arrive."""
    data = b"".join(map(encode, messages))
    decoder = Decoder()
    found = [message for at in range(0, len(data), piece) for message in decoder.feed(data[at : at + piece])]
    assert found == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    """Hostile bytes give JSON objects or a refusal, and nothing beyond the limit is waited for."""
    try:
        assert all(isinstance(message, dict) for message in Decoder().feed(data))
    except Refused as refused:
        assert len(str(refused)) < 500


def test_sizes_are_limited() -> None:
    """What is too large, or is no JSON, is refused at either end."""
    with pytest.raises(Refused, match="is announced"):
        Decoder().feed(LENGTH.pack(LARGEST_MESSAGE + 1))
    with pytest.raises(Refused, match="at most"):
        encode({"x": "y" * LARGEST_MESSAGE})
    for value in (float("nan"), b"bytes", {1, 2}):
        with pytest.raises(Refused, match="control message"):
            encode({"x": value})
    deep = b'{"x":' + b"[" * 100_000
    with pytest.raises(Refused):
        Decoder().feed(LENGTH.pack(len(deep)) + deep)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "control"


class Answering:
    """A server in a thread that answers ``echo``, refuses ``no`` and never answers ``silent``."""

    def __init__(self, path: Path) -> None:
        self.server = ControlServer(path)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            select.select([self.server], [], [], 0.02)
            for request in self.server.requests():
                if request.type == "echo":
                    self.server.report("heard", kind_of=request.kind)
                    request.respond(**request.fields)
                elif request.type == "no":
                    request.refuse("not today")

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.server.close()


@pytest_twisted.ensureDeferred
async def test_agent_and_process(path: Path) -> None:
    """Answers go to who asked, large ones too; refusals and silence are errors; reports come in order; an end is told."""
    answering = Answering(path)
    reports: list[dict[str, Any]] = []
    client = ControlClient(reactor, path, reports.append)
    try:
        large = "x" * 3_000_000
        answers = [ensureDeferred(client.request("echo", number=number, text=large)) for number in range(3)]
        assert [(await answer)["number"] for answer in answers] == [0, 1, 2]
        assert (await client.request("echo", "query"))["type"] == "echo"
        assert [report["kind_of"] for report in reports] == ["command"] * 3 + ["query"]
        with pytest.raises(Refused, match="not today"):
            await client.request("no")
        with pytest.raises(Retry, match="silent: no answer"):
            await client.request("silent", timeout=0.1)
        waiting = ensureDeferred(client.request("silent", timeout=PATIENCE))
        await client.request("echo")
    finally:
        answering.close()
    with pytest.raises(Retry, match="its process has ended"):
        await waiting
    assert reports[-1]["type"] == "LOST" and not client.connected
    with pytest.raises(Retry, match="starting or has ended"):
        await client.request("echo")


def test_a_client_that_does_not_read(path: Path) -> None:
    """Reports to a client that does not read are bounded: it is cut off, and the next one is served."""
    server = ControlServer(path)
    sleepy = socket.socket(socket.AF_UNIX)
    sleepy.connect(str(path))
    server.requests()
    for _ in range(200):
        server.report("news", text="x" * 100_000)
    assert server._connections == {}
    with socket.socket(socket.AF_UNIX) as brisk:
        brisk.connect(str(path))
        brisk.sendall(encode({"tag": 1, "kind": "query", "type": "echo"}))
        server.requests()
        (request,) = server.requests()
        request.respond(ok=True)
        assert json.loads(brisk.recv(1000)[4:]) == {"ok": True, "tag": 1, "kind": "response", "type": "echo"}
    sleepy.close()
    server.close()
    assert not path.exists()


def test_garbage_costs_only_its_connection(path: Path) -> None:
    """A client that sends no messages is cut off; an answer to one that is gone does no harm."""
    server = ControlServer(path)
    with socket.socket(socket.AF_UNIX) as hostile, socket.socket(socket.AF_UNIX) as gone:
        hostile.connect(str(path))
        hostile.sendall(b"\xff" * 100)
        gone.connect(str(path))
        gone.sendall(encode({"tag": 7, "type": "echo"}))
        server.requests()
        server.requests()
        gone_requests = server.requests()
    server.requests()
    for request in gone_requests:
        request.respond(late=True)
    server.requests()
    assert server._connections == {}
    server.close()
    with pytest.raises(Faulty, match="give a directory"):
        ControlServer(path.parent / "no" / "such")
