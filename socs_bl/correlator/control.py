"""Control between the agent and its processes: tagged JSON objects over a Unix stream socket.

A message is a JSON object behind a 4-byte big-endian length: ``{"tag", "kind", "type", ...}``. The agent asks (``command``
or ``query``), the process answers with a ``response`` of the same tag, whose ``error`` says why it refuses. What nobody
asked for comes as a ``report``. This is the process's end; the agent's is `control_client`. Names of the types: WIDAR
correlator backend software design, control protocol.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from socs_bl.core.errors import Faulty, Refused

LENGTH = struct.Struct(">I")
LARGEST_MESSAGE = 64 << 20  # bytes: a configuration document of every lag product of a large array is a few MB
LARGEST_BACKLOG = 8 << 20  # bytes of reports that wait for an agent that does not read
CHUNK = 1 << 16


def encode(message: Mapping[str, Any]) -> bytes:
    """A message with its length in front.

    Raises
    ------
    Refused
        When it is larger than `LARGEST_MESSAGE`, or is not JSON (NaN is not).
    """
    try:
        data = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise Refused(f"control message {str(message)[:80]}: {error}") from error
    if len(data) > LARGEST_MESSAGE:
        raise Refused(f"a control message of {len(data)} bytes; at most {LARGEST_MESSAGE}")
    return LENGTH.pack(len(data)) + data


class Decoder:
    """Takes bytes as they come and gives messages as they are complete."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that are complete with these bytes.

        Raises
        ------
        Refused
            When a length is beyond `LARGEST_MESSAGE` or a message is not a JSON object: the connection is of no more use.
        """
        self._data += data
        messages = []
        while len(self._data) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._data)
            if size > LARGEST_MESSAGE:
                raise Refused(f"a control message of {size} bytes is announced; at most {LARGEST_MESSAGE}")
            end = LENGTH.size + size
            if len(self._data) < end:
                break
            messages.append(_parse(bytes(self._data[LENGTH.size : end])))
            del self._data[:end]
        return messages


def _parse(data: bytes) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(f"control message {data[:80]!r} is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise Refused(f"control message {data[:80]!r} is no JSON object")
    return message


class Request:
    """A command or query that waits for its answer.

    Attributes
    ----------
    type, kind : str
    fields : dict
        The message without tag, kind and type.
    """

    def __init__(self, server: ControlServer, connection: _Connection, message: dict[str, Any]) -> None:
        self._server, self._connection = server, connection
        self._tag = message.pop("tag", None)
        self.kind = str(message.pop("kind", ""))
        self.type = str(message.pop("type", ""))
        self.fields: dict[str, Any] = message

    def respond(self, **fields: Any) -> None:
        """Answer."""
        self._server.send(self._connection, {**fields, "tag": self._tag, "kind": "response", "type": self.type})

    def refuse(self, text: str) -> None:
        """Say why not."""
        self.respond(error=text)


class _Connection:
    """One client of a server: its socket, what came in incompletely, what waits to go out."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.decoder = Decoder()
        self.out: deque[memoryview] = deque()
        self.waiting = 0


class ControlServer:
    """The process's end of the socket; its loop calls `requests` when `fileno` is readable, or now and then.

    Nothing here waits. Reports to an agent that does not read are kept up to `LARGEST_BACKLOG` bytes, then the
    connection is closed: the agent connects again and asks for the status.

    Parameters
    ----------
    path : Path
        Of the socket; one that is left over from before is replaced.

    Raises
    ------
    Faulty
        When it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections: dict[int, _Connection] = {}
        self._poll = select.epoll()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            self._listening.bind(os.fspath(path))
            self._listening.listen()
        except OSError as error:
            self._listening.close()
            self._poll.close()
            raise Faulty(f"control socket {path}: {error}; give a directory that can be written", str(path)) from error
        self._poll.register(self._listening, select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when there is something to do; for poll and select."""
        return self._poll.fileno()

    def requests(self) -> list[Request]:
        """What has been asked since the last call; also sends what waits."""
        found: list[Request] = []
        for descriptor, events in self._poll.poll(0):
            if descriptor == self._listening.fileno():
                self._accept()
                continue
            connection = self._connections[descriptor]
            if events & select.EPOLLOUT:
                self._flush(connection)
            if events & ~select.EPOLLOUT and descriptor in self._connections:
                found += self._read(connection)
        return found

    def report(self, type: str, **fields: Any) -> None:
        """Tell every agent that is connected."""
        for connection in list(self._connections.values()):
            self.send(connection, {**fields, "kind": "report", "type": type})

    def send(self, connection: _Connection, message: Mapping[str, Any]) -> None:
        """Send to one client, or keep it until the client reads."""
        if connection.socket.fileno() < 0:
            return
        data = encode(message)
        connection.out.append(memoryview(data))
        connection.waiting += len(data)
        self._flush(connection)
        if connection.waiting > LARGEST_BACKLOG + len(data):
            self._close(connection)

    def close(self) -> None:
        """Close all connections and remove the socket."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self._poll.close()
        self._listening.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connected, _ = self._listening.accept()
            connected.setblocking(False)
            self._connections[connected.fileno()] = _Connection(connected)
            self._poll.register(connected, select.EPOLLIN)

    def _read(self, connection: _Connection) -> list[Request]:
        found: list[Request] = []
        try:
            while data := connection.socket.recv(CHUNK):
                found += [Request(self, connection, message) for message in connection.decoder.feed(data)]
        except BlockingIOError:
            return found
        except (OSError, Refused):
            pass  # nothing more can be understood on this connection
        self._close(connection)
        return found

    def _flush(self, connection: _Connection) -> None:
        try:
            while connection.out:
                sent = connection.socket.send(connection.out[0])
                connection.waiting -= sent
                connection.out[0] = connection.out[0][sent:]
                if not connection.out[0]:
                    connection.out.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        self._poll.modify(connection.socket, select.EPOLLIN | (select.EPOLLOUT if connection.out else 0))

    def _close(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            connection.socket.close()
