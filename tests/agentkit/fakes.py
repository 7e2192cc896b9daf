"""Stand-ins for OCS's session and for the router, on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ocs.base import OpCode
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from socs_bl.agentkit.session import Session
from socs_bl.agentkit.streaming import Message, Stream
from socs_bl.client.follower import Follower

_start_times = itertools.count(1_700_000_000)


class FakeRun:
    """What OCS keeps of one run of an operation."""

    def __init__(self, op_name: str, session_id: int) -> None:
        self.op_name = op_name
        self.session_id = session_id
        self.start_time = float(next(_start_times))
        self.end_time: float | None = None
        self.status = "running"
        self.success: bool | None = None
        self.degraded = False
        self.cred_level = 1
        self.data: dict[str, Any] = {}
        self.messages: list[str] = []

    @property
    def op_code(self) -> OpCode:
        if self.status == "done":
            return OpCode.SUCCEEDED if self.success else OpCode.FAILED
        return OpCode.DEGRADED if self.degraded else OpCode.RUNNING

    def add_message(self, message: str) -> None:
        self.messages.append(message)

    def set_status(self, status: str) -> None:
        self.status = status

    def encoded(self) -> dict[str, Any]:
        """As ``status`` answers."""
        return {
            "session_id": self.session_id, "op_name": self.op_name, "op_code": self.op_code.value, "status": self.status,
            "degraded": self.degraded, "success": self.success, "start_time": self.start_time, "end_time": self.end_time,
            "data": self.data, "messages": list(enumerate(self.messages)),
        }  # fmt: skip


class FakeRouter:
    """Delivers messages to subscribers that are connected, acknowledges what it has delivered, and can be gone."""

    def __init__(self) -> None:
        self.alive = True
        self.acknowledging = True
        self.sent: list[Message] = []
        self.subscribers: list[FakeSubscriber] = []

    def __call__(self, message: Message, acknowledge: bool) -> Deferred[Any] | None:
        if not self.alive:
            return None
        answer: Deferred[Any] = Deferred()
        if not self.acknowledging:  # it died with the message in its buffer
            return answer
        self.sent.append(message)
        for subscriber in self.subscribers:
            subscriber.hear(message)
        if acknowledge:
            answer.callback(None)
        return answer


class FakeSubscriber:
    """Follows an operation as `AsyncClient.watch` does, reading again after a gap when it is `online`."""

    def __init__(self, op: str, runs: Mapping[str, Any]) -> None:
        self.follower = Follower("agent-1", op)
        self.runs = runs
        self.online = True
        self.reads = 0
        self.states: list[dict[str, Any]] = []

    def hear(self, message: Message) -> None:
        if self.online:
            self.follower.hear(message)

    def turn(self) -> dict[str, Any] | None:
        """What one round of a watcher does; returns the newest state if there is a new one."""
        if self.online and self.follower.gap:
            self.reads += 1
            run = self.runs.get(self.follower.op)
            self.follower.read(run.encoded() if run else {})
        state = self.follower.take()
        if state is not None:
            self.states.append(state)
        return state


class FakeAgent:
    """Sessions, their stream and a router on a virtual clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.router = FakeRouter()
        self.stream = Stream(self.router, self.clock, wall=lambda: 1_700_000_000.0 + self.clock.seconds())
        self.runs: dict[str, FakeRun] = {}
        self._ids = itertools.count()

    def start(self, op: str = "work") -> Session:
        run = FakeRun(op, next(self._ids))
        session = Session(run, self.stream.changed, self.clock)
        self.runs[op] = run
        session.touch()
        return session

    def end(self, session: Session, success: bool = True) -> None:
        run: Any = session.raw
        run.status, run.success, run.end_time = "done", success, run.start_time + self.clock.seconds()
        session.ended()
        self.stream.ended(session)

    def subscriber(self, op: str = "work") -> FakeSubscriber:
        subscriber = FakeSubscriber(op, self.runs)
        self.router.subscribers.append(subscriber)
        return subscriber


__all__ = ["FakeAgent", "FakeRouter", "FakeRun", "FakeSubscriber"]
