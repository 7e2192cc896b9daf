"""The agent's end of the control socket of one of its processes, in the reactor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol

from socs_bl.core.errors import Refused, Retry
from socs_bl.correlator.control import Decoder, encode


class _Client(Protocol):
    """The agent's end of one connection."""

    def __init__(self, owner: ControlClient) -> None:
        self._owner = owner
        self._decoder = Decoder()

    def dataReceived(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except Refused:
            transport: Any = self.transport
            transport.abortConnection()
            return
        for message in messages:
            self._owner.take(message)

    def connectionLost(self, reason: Any = None) -> None:
        self._owner.lost(self, str(reason.value) if reason else "")


class ControlClient:
    """The agent's end of the socket.

    Parameters
    ----------
    reactor : Any
    path : Path
        Of the socket.
    on_report : callable
        Given each report, in order. Called also with ``{"kind": "report", "type": "LOST"}`` when the connection is lost.
    """

    def __init__(self, reactor: Any, path: Path, on_report: Callable[[dict[str, Any]], None]) -> None:
        self._reactor, self._path, self._on_report = reactor, path, on_report
        self._protocol: _Client | None = None
        self._connecting = DeferredLock()
        self._waiting: dict[int, tuple[Deferred[dict[str, Any]], Any]] = {}  # with the call that ends the wait
        self._tag = 0

    @property
    def connected(self) -> bool:
        """A connection is up."""
        return self._protocol is not None

    async def connect(self, timeout: float = 5.0) -> None:
        """Connect; harmless when it is.

        Raises
        ------
        Retry
            When nobody listens there yet.
        """
        await self._connecting.acquire()
        try:
            if self._protocol is None:
                await self._connect(timeout)
        finally:
            self._connecting.release()

    async def _connect(self, timeout: float) -> None:
        make_endpoint: Any = UNIXClientEndpoint
        protocol = _Client(self)
        factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False  # each try, twenty a second while a process starts, would be two lines of the log
        try:
            await make_endpoint(self._reactor, os.fspath(self._path), timeout).connect(factory)
        except (CancelledError, ConnectingCancelledError) as error:
            raise CancelledError from error
        except Exception as error:
            raise Retry(f"control socket {self._path}: {error}; its process is starting or has ended") from error
        self._protocol = protocol

    async def request(self, type: str, kind: str = "command", timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Ask and wait for the answer; connects when that has not been done.

        Raises
        ------
        Refused
            When the process refuses; its text.
        Retry
            When the connection is lost, or no answer came within `timeout` seconds.
        """
        await self.connect()
        if self._protocol is None:
            raise Retry(f"control socket {self._path}: its process ended as soon as it was connected")
        self._tag += 1
        tag, answer = self._tag, Deferred[dict[str, Any]]()
        data = encode({**fields, "tag": tag, "kind": kind, "type": type})
        text = f"{type}: no answer of {self._path.name} within {timeout:g} s"
        self._waiting[tag] = answer, self._reactor.callLater(timeout, self._fail, tag, text)
        transport: Any = self._protocol.transport
        transport.write(data)
        response = await answer
        if "error" in response:
            raise Refused(str(response["error"]))
        return response

    def close(self) -> None:
        """Give the connection up; requests that wait fail."""
        if self._protocol is not None:
            transport: Any = self._protocol.transport
            transport.abortConnection()

    def take(self, message: dict[str, Any]) -> None:
        """A message has come."""
        if message.get("kind") == "report":
            self._on_report(message)
            return
        waiting = self._waiting.pop(message.get("tag", -1), None)
        if waiting is not None:  # otherwise it comes after its time-out
            waiting[1].cancel()
            waiting[0].callback(message)

    def lost(self, protocol: _Client, reason: str) -> None:
        """The connection is gone."""
        if protocol is not self._protocol:
            return
        self._protocol = None
        self._on_report({"kind": "report", "type": "LOST", "reason": reason})
        for tag in list(self._waiting):
            self._waiting[tag][1].cancel()
            self._fail(tag, f"control socket {self._path}: {reason}; its process has ended")

    def _fail(self, tag: int, text: str) -> None:
        answer, _ = self._waiting.pop(tag)
        answer.errback(Retry(text))
