"""Listening to Redis from a thread: channels that lose what is said while nobody listens, and streams that do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis

from socs_bl.services.link import Link

POLL_SECONDS = 0.5  # how long a stop may take


class _Listener:
    """What both have in common: a link that listens."""

    _link: Link

    def start(self) -> None:
        """Begin to listen."""
        self._link.start()

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._link.stop()


class Subscriber(_Listener):
    """Hears pub/sub channels. After a lost connection it subscribes again and says so.

    Parameters
    ----------
    url : str
    channels : sequence of str
    heard : callable
        Called in the thread with channel and payload (text; undecodable bytes replaced).
    interrupted : callable
        Called in the thread with a sentence whenever messages may have been missed.

    Attributes
    ----------
    subscribed : threading.Event
        Set while all channels are subscribed.
    """

    def __init__(
        self, url: str, channels: Sequence[str], heard: Callable[[str, str], None], interrupted: Callable[[str], None]
    ) -> None:
        self._link = Link(url, "redis subscriber", self._listen, self._broken)
        self._channels = tuple(channels)
        self._heard = heard
        self._interrupted = interrupted
        self.subscribed = threading.Event()

    def _listen(self, client: redis.Redis) -> None:
        with client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(*self._channels)
            while not self._link.stopping.is_set():
                message = channel.get_message(timeout=POLL_SECONDS)
                if message is not None and message["type"] == "subscribe":
                    self._link.healthy()
                    if message["data"] == len(self._channels):
                        self.subscribed.set()
                elif message is not None and message["type"] == "message":
                    self._heard(_text(message["channel"]), _text(message["data"]))

    def _broken(self, error: Exception) -> None:
        self.subscribed.clear()
        self._interrupted(f"the connection to Redis broke ({error}); messages may have been missed")


class StreamReader(_Listener):
    """Reads a stream from a cursor on; nothing is missed, whatever breaks in between.

    Parameters
    ----------
    url : str
    stream : str
    cursor : str
        Id of the last entry already read; ``0-0`` for none.
    read : callable
        Called in the thread with the entry's id and its fields. When it raises `Retry` the entry is read again.
    """

    def __init__(self, url: str, stream: str, cursor: str, read: Callable[[str, dict[str, str]], None]) -> None:
        self._link = Link(url, f"stream {stream}", self._listen)
        self._stream = stream
        self._cursor = cursor
        self._read = read

    def _listen(self, client: redis.Redis) -> None:
        while not self._link.stopping.is_set():
            answer: Any = client.xread({self._stream: self._cursor}, count=100, block=int(1000 * POLL_SECONDS))
            self._link.healthy()
            for _, entries in answer or ():
                for identity, fields in entries:
                    self._read(_text(identity), {_text(key): _text(value) for key, value in fields.items()})
                    self._cursor = _text(identity)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
