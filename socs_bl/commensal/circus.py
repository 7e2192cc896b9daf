"""Commands to circus, the process supervisor of a site's nodes, over ZeroMQ.

One thread serves all hosts: each has its own socket and its own queue, with one command under way at a time, since
circusd refuses a second exclusive command while one runs. A host that does not answer costs its own callers their
deadline and nobody else anything. Source of the format: circus, ZMQ messages of ``start`` and ``restart``::

    {"id": "...", "command": "start", "properties": {"name": "bluse_analyzer_0", "waiting": true, "match": "simple"}}
    {"id": "...", "status": "ok", "time": 1.7e9}
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from socs_bl.core.errors import Faulty, Refused, Retry

LARGEST_ANSWER = 1 << 16  # bytes; the answers are some hundred
BUSY_PAUSE = 0.3  # seconds before a host that runs another command is asked again
_BUSY = "already running"
_STOP_WAIT = 5.0
_log = logging.getLogger(__name__)


@dataclass
class Command:
    """A command on its way.

    Attributes
    ----------
    body : bytes
    identity : str
        Comes back with the answer.
    deadline : float
        Monotonic time at which the caller is told that there was no answer.
    again : float or None
        When to send it again, after the host was busy.
    """

    body: bytes
    identity: str
    deadline: float
    seconds: float
    answer: Future[dict[str, Any]] = field(default_factory=Future)
    again: float | None = None
    busy: str = ""


@dataclass
class _Host:
    """One circusd: its socket, the command under way, and those that wait."""

    endpoint: str
    socket: Any = None
    current: Command | None = None
    waiting: deque[Command] = field(default_factory=deque)


class Circus:
    """A client of any number of circusd.

    Parameters
    ----------
    endpoint : str
        Where a host's circusd listens; ``{host}`` is its name.
    deadline : float
        Time a command may take, waiting for its turn at the host included, seconds.

    Raises
    ------
    Refused
        When pyzmq is not installed.
    """

    def __init__(self, endpoint: str, deadline: float) -> None:
        try:
            import zmq
        except ImportError as error:
            raise Refused("no pyzmq: install the extra with pip install 'socs_bl[circus]'") from error
        self._zmq = zmq
        self._endpoint = endpoint
        self._deadline = deadline
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.RLock()  # an answer's callback may send the next command
        self._closed = False
        # The one message of this pair wakes the thread.
        self._bell, bell = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        bell.bind("inproc://bell")
        self._bell.connect("inproc://bell")
        self._poller.register(bell, zmq.POLLIN)
        self._thread = threading.Thread(target=self._serve, args=(bell,), daemon=True, name="circus")
        self._thread.start()

    def send(self, host: str, command: str, watcher: str, deadline: float | None = None) -> Future[dict[str, Any]]:
        """Have a host carry out a command on one watcher, from any thread.

        Parameters
        ----------
        host : str
        command : str
            ``start`` or ``restart``.
        watcher : str
        deadline : float, optional
            For a command that takes longer than others, seconds.

        Returns
        -------
        Future of dict
            The answer. It fails with `Retry` (no answer within the deadline, or busy as long), or `Faulty` (the host
            answers with an error, or with something that is no answer). A command whose deadline has passed is not
            delivered later.
        """
        identity = uuid.uuid4().hex
        # Without `waiting` the answer would come before circusd is ready for the next exclusive command.
        properties = {"name": watcher, "waiting": True, "match": "simple"}
        body = json.dumps({"id": identity, "command": command, "properties": properties}).encode()
        seconds = self._deadline if deadline is None else deadline
        order = Command(body, identity, time.monotonic() + seconds, seconds)
        with self._lock:
            if self._closed:
                order.answer.set_exception(Retry("the client of circus is closed; ask again when the agent is back"))
                return order.answer
            entry = self._hosts.setdefault(host, _Host(self._endpoint.replace("{host}", host)))
            entry.waiting.append(order)
            self._bell.send(b"")
        return order.answer

    def close(self) -> None:
        """End the thread; commands under way fail with `Retry`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._bell.send(b"")
        self._thread.join(_STOP_WAIT)

    # -- the thread -----------------------------------------------------------------------------------------------

    def _serve(self, bell: Any) -> None:
        try:
            while not self._closed:
                ready = dict(self._poller.poll(self._patience()))
                with self._lock:
                    while bell in ready and bell.poll(0):
                        bell.recv()
                    for entry in self._hosts.values():
                        if entry.socket in ready:
                            self._hear(entry)
                        self._advance(entry, time.monotonic())
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it was
            _log.exception("the client of circus crashed")
            self._abandon(f"the client of circus crashed: {error!r}; restart the agent")
        else:
            self._abandon("the client of circus was closed")
        finally:
            self._bell.close(linger=0)
            bell.close(linger=0)
            self._context.destroy(linger=0)

    def _patience(self) -> int | None:
        """Milliseconds until something is due, None for nothing."""
        due = []
        with self._lock:
            for entry in self._hosts.values():
                due += [order.deadline for order in entry.waiting]
                if entry.current is not None:
                    due.append(min(entry.current.deadline, entry.current.again or entry.current.deadline))
        return max(0, math.ceil((min(due) - time.monotonic()) * 1000.0)) if due else None

    def _advance(self, entry: _Host, now: float) -> None:
        """Give up what is overdue, and send what has its turn."""
        current = entry.current
        if current is not None and current.deadline <= now:
            self._hang_up(entry)
            why = f"is busy ({current.busy})" if current.busy else "does not answer"
            self._fail(
                current, Retry(f"circus at {entry.endpoint} {why} within {current.seconds:g} s; look at the host")
            )
        elif current is not None and current.again is not None and current.again <= now:
            self._transmit(entry, current)
        for order in [order for order in entry.waiting if order.deadline <= now]:
            entry.waiting.remove(order)
            text = f"circus at {entry.endpoint} still has other commands after {order.seconds:g} s; look at the host"
            self._fail(order, Retry(text))
        if entry.current is None and entry.waiting:
            self._transmit(entry, entry.waiting.popleft())

    def _transmit(self, entry: _Host, order: Command) -> None:
        entry.current = order
        order.again = None
        try:
            if entry.socket is None:
                entry.socket = self._dial(entry.endpoint)
            entry.socket.send(order.body, self._zmq.DONTWAIT)
        except self._zmq.ZMQError as error:
            self._hang_up(entry)
            self._fail(order, Retry(f"circus at {entry.endpoint} cannot be reached ({error}); check the endpoint"))

    def _dial(self, endpoint: str) -> Any:
        socket = self._context.socket(self._zmq.DEALER)
        socket.setsockopt(self._zmq.LINGER, 0)
        socket.setsockopt(self._zmq.MAXMSGSIZE, LARGEST_ANSWER)
        try:
            socket.connect(endpoint)
        except self._zmq.ZMQError:
            socket.close()
            raise
        self._poller.register(socket, self._zmq.POLLIN)
        return socket

    def _hang_up(self, entry: _Host) -> None:
        """Close the socket: a command that has not been delivered is not delivered later."""
        entry.current = None
        if entry.socket is not None:
            self._poller.unregister(entry.socket)
            entry.socket.close(linger=0)
            entry.socket = None

    def _hear(self, entry: _Host) -> None:
        order, frames = entry.current, entry.socket.recv_multipart()
        if order is None:
            return  # the answer to a command that was given up
        try:
            answer = json.loads(frames[-1])
            identity, status = answer["id"], answer["status"]
        except (ValueError, KeyError, TypeError, RecursionError):
            identity, status = order.identity, ""
        if identity != order.identity:
            return  # likewise
        reason = str(answer.get("reason", ""))[:300] if status == "error" else ""
        if _BUSY in reason:
            order.busy, order.again = reason, time.monotonic() + BUSY_PAUSE
        elif status == "ok":
            entry.current = None
            if order.answer.set_running_or_notify_cancel():
                order.answer.set_result(answer)
        else:
            self._hang_up(entry)
            said = reason or f"{bytes(frames[-1][:60])!r}, which is no answer of circusd"
            self._fail(order, Faulty(f"circus at {entry.endpoint} says: {said}; look at its watchers", entry.endpoint))

    @staticmethod
    def _fail(order: Command, error: Exception) -> None:
        if order.answer.set_running_or_notify_cancel():
            order.answer.set_exception(error)

    def _abandon(self, text: str) -> None:
        with self._lock:
            self._closed = True
            for entry in self._hosts.values():
                orders = [*([entry.current] if entry.current else []), *entry.waiting]
                entry.waiting.clear()
                self._hang_up(entry)
                for order in orders:
                    self._fail(order, Retry(text))
