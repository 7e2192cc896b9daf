"""The instance's side of the gateway protocol, on a real Redis, in two threads.

The listener takes keys and commands; the publisher refreshes the status hash every `delay` seconds and soon after a
change. Each has its own connection, loses it and gets it back on its own, and subscribes again to everything.

Groups are joined and left by changing the set of groups; before it waits for the next message the listener brings its
subscriptions in line with that set, whoever has changed it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import redis

from socs_bl.core.errors import Refused
from socs_bl.core.names import Instance
from socs_bl.hashpipe import wire
from socs_bl.hashpipe.wire import Value
from socs_bl.services.link import Link
from socs_bl.services.redis_server import SOCKET_TIMEOUT

COALESCE_SECONDS = 0.02
POLL_SECONDS = 0.2
MAX_GROUPS = 16
MAX_KEYS = 512


@dataclass(frozen=True)
class Counters:
    """What the gateway has seen since it was made.

    Attributes
    ----------
    messages : int
        Payloads received on any channel.
    pairs : int
        Good ``KEY=value`` pairs.
    rejected : int
        Bad pairs and bad commands.
    commands : int
        Good commands.
    refreshes : int
        Status hashes written.
    connection_losses : int
        Times either connection failed.
    callback_errors : int
        Changes whose callback raised.
    last_rejected : str
        Why the last bad pair or command was bad.
    """

    messages: int = 0
    pairs: int = 0
    rejected: int = 0
    commands: int = 0
    refreshes: int = 0
    connection_losses: int = 0
    callback_errors: int = 0
    last_rejected: str = ""


class Gateway:
    """Status buffer of one instance, mirrored in Redis.

    Parameters
    ----------
    url : str
        Redis URL.
    instance : Instance
        Whose gateway this is.
    on_change : Callable[[dict[str, Value]], None]
        Called in the listener thread with the keys a set channel has changed, in order. It must be quick.
    domain : str
        First part of every channel and key.
    delay : float
        Seconds between refreshes of the status hash, which expires after three times that.
    """

    def __init__(
        self,
        url: str,
        instance: Instance,
        on_change: Callable[[dict[str, Value]], None],
        *,
        domain: str = wire.DOMAIN,
        delay: float = wire.DEFAULT_DELAY,
    ) -> None:
        self._url = url
        self._instance = instance
        self._on_change = on_change
        self._domain = domain
        self._delay = delay
        self._lock = threading.Lock()
        self._status: dict[str, Value] = {}
        self._groups: set[str] = set()
        # Groups that it was told to leave since it was made, as far as they were not joined again.
        self._left: deque[str] = deque(maxlen=MAX_GROUPS)
        # Channels whose subscription Redis has confirmed on the present connection.
        self._heard: set[str] = set()
        self._confirmed = threading.Condition(self._lock)
        self._counters = Counters()
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._subscribed = threading.Event()
        self._published = threading.Event()
        self._listening = self._link("listen", self._listen)
        self._publishing = self._link("publish", self._publish)

    def start(self) -> None:
        """Start both threads; returns at once (`wait_ready`)."""
        self._listening.start()
        self._publishing.start()

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the channels are subscribed and the status hash is written."""
        deadline = time.monotonic() + timeout
        return self._subscribed.wait(timeout) and self._published.wait(max(deadline - time.monotonic(), 0))

    def stop(self, timeout: float = 2 * SOCKET_TIMEOUT) -> bool:
        """End both threads and remove the status hash. True when they ended within `timeout` seconds."""
        self._stopping.set()
        self._changed.set()
        with self._confirmed:
            self._confirmed.notify_all()
        deadline = time.monotonic() + timeout
        listening = self._listening.stop(timeout)
        return self._publishing.stop(max(deadline - time.monotonic(), 0)) and listening

    def update(self, pairs: Mapping[str, Value]) -> None:
        """Put values of our own into the status buffer; they are published soon, several together."""
        with self._lock:
            if self._merge(pairs):
                self._changed.set()

    def fill(self, pairs: Mapping[str, Value]) -> None:
        """Put in those values whose keys are not there yet."""
        with self._lock:
            if self._merge({key: value for key, value in pairs.items() if key not in self._status}):
                self._changed.set()

    def discard(self, key: str) -> None:
        """Take a key out of the status buffer."""
        with self._lock:
            if self._status.pop(key, None) is not None:
                self._changed.set()

    def rejoin(self, group: str, timeout: float) -> bool:
        """Join a group again after a restart, and wait until its channels are subscribed.

        What was said since the start is newer: a group left since then stays left.

        Parameters
        ----------
        group : str
            For example ``array_1-0``.
        timeout : float
            How long to wait, seconds.

        Returns
        -------
        bool
            Whether that is settled. If not, the group is joined all the same as soon as Redis answers.

        Raises
        ------
        Refused
            When the gateway is in as many groups as it may be.
        """
        channels = set(self._group_channels(group))
        with self._confirmed:
            if group in self._left:
                return True
            if not self._admit(group):
                raise Refused(f"cannot join {group}: already in {MAX_GROUPS} groups, leave one first")
            self._confirmed.wait_for(lambda: channels <= self._heard or self._stopping.is_set(), timeout)
            return channels <= self._heard

    def snapshot(self) -> dict[str, Value]:
        """A copy of the status buffer."""
        with self._lock:
            return dict(self._status)

    @property
    def groups(self) -> frozenset[str]:
        """The groups joined now."""
        with self._lock:
            return frozenset(self._groups)

    @property
    def connected(self) -> bool:
        """Whether the channels are subscribed now."""
        return self._subscribed.is_set()

    @property
    def counters(self) -> Counters:
        """What has been counted so far."""
        with self._lock:
            return self._counters

    def _link(self, what: str, run: Callable[[redis.Redis], None]) -> Link:
        return Link(self._url, f"gateway-{what}-{self._instance}", run, self._broken, self._stopping)

    def _broken(self, error: Exception) -> None:
        self._count(connection_losses=1)

    def _listen(self, client: redis.Redis) -> None:
        """Subscribe to everything and handle messages until the connection breaks or we stop."""
        pubsub = client.pubsub()  # type: ignore[no-untyped-call]
        try:
            asked: set[str] = set()
            while not self._stopping.is_set():
                asked = self._ask(pubsub, asked)
                message = pubsub.get_message(timeout=POLL_SECONDS)
                if message is None:
                    continue
                self._listening.healthy()
                if message["type"] in ("subscribe", "unsubscribe"):
                    self._note(message["channel"].decode(), message["type"] == "subscribe")
                    if asked <= self._heard:
                        self._subscribed.set()
                elif message["type"] == "message":
                    self._handle(message["channel"].decode(), message["data"])
        finally:
            self._subscribed.clear()
            with self._confirmed:
                self._heard.clear()
            pubsub.close()

    def _ask(self, pubsub: redis.client.PubSub, asked: set[str]) -> set[str]:
        """Subscribe and unsubscribe what differs from `asked`; returns what is asked for now."""
        wanted = self._channels()
        if wanted - asked:
            pubsub.subscribe(*sorted(wanted - asked))
        if asked - wanted:
            with self._confirmed:
                self._heard -= asked - wanted
            pubsub.unsubscribe(*sorted(asked - wanted))  # type: ignore[no-untyped-call]
        return wanted

    def _note(self, channel: str, subscribed: bool) -> None:
        """Redis has confirmed a change of the subscriptions."""
        with self._confirmed:
            (self._heard.add if subscribed else self._heard.discard)(channel)
            self._confirmed.notify_all()

    def _channels(self) -> set[str]:
        """Everything to subscribe to. ``leave=`` for a group is published on the group's own gateway channel."""
        channels = {
            wire.set_channel(self._instance, self._domain),
            wire.broadcast_set_channel(self._domain),
            wire.gateway_channel(self._instance, self._domain),
        }
        return channels.union(*map(self._group_channels, self.groups))

    def _group_channels(self, group: str) -> list[str]:
        return [wire.group_set_channel(group, self._domain), wire.group_gateway_channel(group, self._domain)]

    def _handle(self, channel: str, payload: bytes) -> None:
        """One message: keys from a set channel, a command from a gateway channel."""
        self._count(messages=1)
        if channel.endswith("/set"):
            self._take_pairs(payload)
            return
        try:
            command = wire.parse_command(payload)
        except Refused as error:
            self._count(rejected=1, last_rejected=str(error))
            return
        own = channel == wire.gateway_channel(self._instance, self._domain)
        if own or isinstance(command, wire.Leave):
            self._count(commands=1)
            self._obey(command)
        else:
            self._count(
                rejected=1, last_rejected=f"{wire.format_command(command)} on {channel}: only leave is for groups"
            )

    def _take_pairs(self, payload: bytes) -> None:
        """Keep the good pairs, count the bad ones, tell the callback what changed."""
        pairs, rejected = wire.parse_pairs(payload)
        with self._lock:
            changed = self._merge(pairs)
        self._count(pairs=len(pairs), rejected=len(rejected), last_rejected=rejected[-1] if rejected else "")
        if changed:
            self._changed.set()
            try:
                self._on_change(changed)
            except Exception as error:  # noqa: BLE001 - whatever a callback raises must not end the gateway
                self._count(callback_errors=1, last_rejected=f"callback: {error!r:.200}")

    def _obey(self, command: wire.Command) -> None:
        """Carry out a command from a gateway channel."""
        match command:
            case wire.Join(group):
                with self._lock:
                    admitted = self._admit(group)
                    if admitted and group in self._left:
                        self._left.remove(group)
                if not admitted:
                    self._count(
                        rejected=1, last_rejected=f"join={group}: already in {MAX_GROUPS} groups, leave one first"
                    )
            case wire.Leave(group):
                with self._lock:
                    self._groups.discard(group)
                    if group not in self._left:
                        self._left.append(group)
            case wire.Quit():
                # A supervised gateway ends here and comes back in no group; the recording goes on meanwhile.
                with self._lock:
                    self._groups.clear()
            case wire.Delay(seconds):
                with self._lock:
                    self._delay = seconds
                self._changed.set()

    def _admit(self, group: str) -> bool:
        """Take a group in, if there is room for it. The lock is held."""
        if group not in self._groups and len(self._groups) >= MAX_GROUPS:
            return False
        self._groups.add(group)
        return True

    def _publish(self, client: redis.Redis) -> None:
        """Write the status hash whenever it is due, until the connection breaks or we stop."""
        key = wire.status_key(self._instance, self._domain)
        while not self._stopping.is_set():
            self._changed.clear()
            with self._lock:
                delay = self._delay
                fields: Mapping[Any, Any] = wire.format_status(self._status)
            pipeline = client.pipeline(transaction=True)
            pipeline.delete(key)
            if fields:
                pipeline.hset(key, mapping=fields)
                pipeline.pexpire(key, round(1000 * wire.EXPIRY_FACTOR * delay))
            pipeline.execute()
            self._publishing.healthy()
            self._count(refreshes=1)
            self._published.set()
            if self._changed.wait(delay):
                # Changes come in bursts; one refresh carries all of a burst.
                self._stopping.wait(COALESCE_SECONDS)
        client.delete(key)

    def _merge(self, pairs: Mapping[str, Value]) -> dict[str, Value]:
        """Put `pairs` into the buffer, as far as there is room; return those that changed. The lock is held."""
        changed: dict[str, Value] = {}
        for key, value in pairs.items():
            known = key in self._status
            if known and self._status[key] == value and type(self._status[key]) is type(value):
                continue
            if known or len(self._status) < MAX_KEYS:
                self._status[key] = value
                changed[key] = value
        return changed

    def _count(self, *, last_rejected: str = "", **amounts: int) -> None:
        """Add to the counters."""
        with self._lock:
            grown = {name: getattr(self._counters, name) + amount for name, amount in amounts.items()}
            self._counters = replace(self._counters, **grown)
            if last_rejected:
                self._counters = replace(self._counters, last_rejected=last_rejected)
