"""Calls over HTTP end in time and say who did not answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from socs_bl.core.errors import Faulty, Retry
from socs_bl.services.operators import Operator
from socs_bl.services.process import free_port


def _read_request(client: socket.socket) -> None:
    """Take the whole request: closing with unread bytes would reset the connection."""
    with client.makefile("rb") as stream:
        length = 0
        while (line := stream.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        stream.read(length)


Serve = Callable[[bytes | None], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A router that gives one prepared answer, or with None no answer at all; returns its URL."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []
    done = threading.Event()

    def start(body: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                _read_request(client)
                if body is None:
                    done.wait()
                else:
                    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/call"

    yield start
    done.set()
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


def test_an_answer_comes_back(serve: Serve) -> None:
    """What the agent answers is returned as OCS gives it."""
    url = serve(json.dumps({"args": [[0, "Started", {"status": "running"}]]}).encode())
    assert Operator(url, "observatory").request("x", "start", "op", n=1) == (0, "Started", {"status": "running"})


def test_silence_ends_in_time(serve: Serve) -> None:
    """An agent that takes the call and never answers is named, after the time-out."""
    with pytest.raises(Retry, match="observatory.x did not answer"):
        Operator(serve(None), "observatory", timeout=0.2).api("x")


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b'{"error": "wamp.error.no_such_procedure", "args": []}', Retry, "no agent has registered observatory.x"),
        (b'{"error": "wamp.error.runtime_error", "args": ["boom"]}', Faulty, "boom"),
        (b"<html>", Retry, "no router answers"),
    ],
)
def test_errors_say_who_and_what(serve: Serve, body: bytes, kind: type[Exception], said: str) -> None:
    """An absent agent, a failing one, and something that is no router are told apart."""
    with pytest.raises(kind, match=said):
        Operator(serve(body), "observatory").api("x")


def test_no_router_is_retry() -> None:
    """Nothing listening is not an agent's fault."""
    operator = Operator(f"http://127.0.0.1:{free_port()}/call", "observatory")
    assert not operator.answers("x")
    with pytest.raises(Retry, match="no router answers at http://127.0.0.1"):
        operator.api("x")
