"""The feed ``operations``: what changes in the sessions of an agent, for whoever subscribes.

Once a second, ten times while somebody holds a `watch` lease, and always the last state of every run. A message is a
dict with ``op``, ``session_id``, ``start_time``, ``end_time``, ``status``, ``op_code``, ``degraded``, ``success``,
``time`` and

* ``sequence``: the number of the state it leads to, the one in ``session.data["sequence"]``,
* ``since``: the number of the state it starts from (a subscriber that has another one has missed something),
* ``changes`` and ``removed``: keys of the data that changed or went,
* ``full``: the changes are the whole data, whatever the subscriber has,
* ``final``: the run has ended.

A final message is kept until the router has acknowledged it and is published again after a reconnect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from socs_bl.agentkit.session import Session
from socs_bl.agentkit.timing import Timer, Timing, disarm

PERIOD = 1.0
WATCHED_PERIOD = 0.1
# The answer to a request leaves before the change that it made is published, and changes of one moment go together.
SETTLE = 0.005
LEASE_LIMIT = 60.0
FINALS_LIMIT = 256

Message = dict[str, Any]


class Publish(Protocol):
    """How messages leave: returns a Deferred of the router's acknowledgement, or None when there is no router."""

    def __call__(self, message: Message, acknowledge: bool) -> Deferred[Any] | None:
        """Send one message."""


class Stream:
    """Collects changes of sessions and publishes them at a bounded rate.

    Parameters
    ----------
    publish : Publish
        Sends a message.
    clock : Timing
        Where the next publication is armed.
    wall : callable
        Unix time now, for the messages.
    """

    def __init__(self, publish: Publish, clock: Timing, wall: Callable[[], float] = time.time) -> None:
        self._publish = publish
        self._clock = clock
        self._wall = wall
        self._dirty: dict[str, Session] = {}
        self._last: dict[str, Session] = {}
        self._finals: dict[tuple[str, int], Message] = {}
        self._timer: Timer | None = None
        self._closed = False
        self._published = float("-inf")
        self._lease_until = float("-inf")
        self.counters = {"sent": 0, "unsent": 0, "finals_dropped": 0}

    @property
    def waiting(self) -> int:
        """Sessions with changes not yet published, and finals not yet acknowledged."""
        return len(self._dirty) + len(self._finals)

    def changed(self, session: Session) -> None:
        """Note a change; it goes out with the next publication."""
        self._dirty[session.name] = session
        self._last[session.name] = session
        self._arm()

    def ended(self, session: Session) -> None:
        """Publish the last state of a run at once, and keep it until it is acknowledged."""
        self._dirty.pop(session.name, None)
        self._last[session.name] = session
        message = self._message(session, full=True)
        self._finals[session.name, session.id] = message
        while len(self._finals) > FINALS_LIMIT:
            del self._finals[next(iter(self._finals))]
            self.counters["finals_dropped"] += 1
        self._send_final(message)

    def watch(self, seconds: float) -> float:
        """Lease ten publications a second for at most a minute; returns the seconds granted."""
        granted = min(max(0.0, seconds), LEASE_LIMIT)
        self._lease_until = max(self._lease_until, self._clock.seconds() + granted)
        if self._dirty:
            self._arm()
        return granted

    def rejoined(self) -> None:
        """The router is (again) there: repeat what it may have lost, and show everybody the present state."""
        finals = dict(self._finals)
        for message in finals.values():
            self._send_final(message)
        for session in self._last.values():
            if (session.name, session.id) not in finals:
                self._send(self._message(session, full=True))

    def close(self) -> None:
        """Disarm the timer for good."""
        self._closed = True
        disarm(self._timer)
        self._timer = None

    def _arm(self) -> None:
        if self._closed:
            return
        now = self._clock.seconds()
        period = WATCHED_PERIOD if now < self._lease_until else PERIOD
        due = max(now + SETTLE, self._published + period)
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(due - now, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._published = self._clock.seconds()
        dirty, self._dirty = self._dirty, {}
        for session in dirty.values():
            self._send(self._message(session, full=session.sent == 0))

    def _message(self, session: Session, full: bool) -> Message:
        raw = session.raw
        encoded: Any = raw
        message = {
            "op": session.name,
            "session_id": session.id,
            "start_time": raw.start_time,
            "end_time": raw.end_time,
            "status": raw.status,
            "op_code": encoded.op_code.value,
            "degraded": raw.degraded,
            "success": raw.success,
            "time": self._wall(),
            "sequence": session.sequence,
            "since": session.sent,
            "changes": dict(session.data) if full else session.pending,
            "removed": [] if full else sorted(session.removed),
            "full": full,
            "final": raw.status == "done",
        }
        session.pending, session.removed, session.sent = {}, set(), session.sequence
        return message

    def _send(self, message: Message) -> None:
        sent = self._publish(message, False)
        self.counters["unsent" if sent is None else "sent"] += 1

    def _send_final(self, message: Message) -> None:
        acknowledgement = self._publish(message, True)
        self.counters["unsent" if acknowledgement is None else "sent"] += 1
        if acknowledgement is not None:
            key = (message["op"], message["session_id"])
            acknowledgement.addCallbacks(lambda _: self._finals.pop(key, None), lambda _: None)
