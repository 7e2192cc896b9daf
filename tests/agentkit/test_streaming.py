"""The feed ``operations``: rates, gaps, last states, and subscribers that are slow, late or away."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from socs_bl.agentkit.session import Session
from tests.agentkit.fakes import FakeAgent, FakeSubscriber


def test_once_a_second_and_ten_times_while_watched() -> None:
    """A session that changes a hundred times a second costs one message a second; ten while a lease runs."""
    agent = FakeAgent()
    session = agent.start()

    def messages(seconds: int) -> int:
        before = len(agent.router.sent)
        for number in range(seconds * 100):
            session.update(number=number)
            agent.clock.advance(0.01)
        return len(agent.router.sent) - before

    messages(1)
    assert 9 <= messages(10) <= 11
    assert agent.stream.watch(5.0) == 5.0
    assert 44 <= messages(5) <= 52
    assert 9 <= messages(10) <= 11, "the lease has ended"
    assert agent.stream.watch(1e9) == 60.0, "a lease is bounded"


def test_silence_costs_nothing() -> None:
    """No change, no message, no timer."""
    agent = FakeAgent()
    session = agent.start()
    session.update(state="idle")
    agent.clock.advance(5.0)
    sent = len(agent.router.sent)
    session.update(state="idle")
    session.data = {"state": "idle"}
    session.degraded = False
    agent.clock.advance(60.0)
    assert len(agent.router.sent) == sent and not agent.clock.getDelayedCalls()


def test_messages_carry_only_what_changed() -> None:
    """A large value that stays the same is sent once."""
    agent = FakeAgent()
    session = agent.start()
    session.update(big=list(range(5000)), small=0)
    agent.clock.advance(2.0)
    session.update(small=1, gone=1)
    agent.clock.advance(2.0)
    session.remove("gone")
    agent.clock.advance(2.0)
    changed, removed = agent.router.sent[-2:]
    assert changed["changes"] == {"small": 1, "gone": 1} and not changed["full"]
    assert removed["changes"] == {} and removed["removed"] == ["gone"]
    assert changed["sequence"] == removed["since"]


def test_the_last_state_comes_at_once_and_whole() -> None:
    """The end is not held back by the rate, and needs nothing before it to be understood."""
    agent = FakeAgent()
    session = agent.start()
    session.update(a=1)
    agent.clock.advance(1.5)
    session.update(b=float("nan"))
    agent.end(session, success=False)
    final = agent.router.sent[-1]
    assert final["final"] and final["full"] and final["changes"] == {"a": 1, "b": None}
    assert final["success"] is False and final["sequence"] == session.raw.data["sequence"]
    json.dumps(final, allow_nan=False)


def test_late_subscriber_reads_once_and_follows() -> None:
    """Who comes in the middle reads once and needs no further reading."""
    agent = FakeAgent()
    session = agent.start()
    for number in range(50):
        session.update(number=number)
        agent.clock.advance(0.3)
    late = agent.subscriber()
    late.turn()
    for number in range(50, 100):
        session.update(number=number)
        agent.clock.advance(0.3)
        late.turn()
    agent.end(session)
    late.turn()
    assert late.reads <= 2 and late.follower.finished
    assert late.states[-1]["data"] == session.raw.data
    numbers = [state["data"]["sequence"] for state in late.states]
    assert numbers == sorted(set(numbers))


def test_slow_subscriber_gets_the_newest_state_in_bounded_memory() -> None:
    """Who looks rarely sees few states, the last one always, and nothing piles up for it."""
    agent = FakeAgent()
    slow = agent.subscriber()
    session = agent.start()
    agent.stream.watch(60.0)
    for number in range(300):
        session.update(number=number)
        agent.clock.advance(0.1)
        if number % 100 == 0:
            slow.turn()
    agent.end(session)
    slow.turn()
    assert len(slow.states) <= 5 and slow.reads <= 1
    assert slow.states[-1]["status"] == "done" and slow.states[-1]["data"]["number"] == 299


def test_reconnecting_subscriber_reads_after_the_gap() -> None:
    """Who was away notices the gap by the sequence number and reads again."""
    agent = FakeAgent()
    watcher = agent.subscriber()
    session = agent.start()
    session.update(a=1, b=1)
    agent.clock.advance(2.0)
    watcher.turn()
    watcher.online = False
    session.update(a=2)
    agent.clock.advance(2.0)
    watcher.online = True
    session.update(b=2)
    agent.clock.advance(2.0)
    assert watcher.follower.gap
    state = watcher.turn()
    assert state is not None and (state["data"]["a"], state["data"]["b"]) == (2, 2)
    session.update(b=3)
    agent.clock.advance(2.0)
    watcher.turn()
    assert watcher.reads == 1 and watcher.states[-1]["data"]["b"] == 3


def test_final_states_survive_the_loss_of_the_router() -> None:
    """What ended while the router was gone, or died in its buffer, is published after the reconnect, in order."""
    agent = FakeAgent()
    watcher = agent.subscriber("a")
    first, second = agent.start("a"), agent.start("b")
    agent.clock.advance(2.0)
    agent.router.acknowledging = False
    agent.end(first)
    agent.router.alive = False
    agent.end(second, success=False)
    again = agent.start("b")
    agent.end(again)
    agent.clock.advance(30.0)
    agent.router.alive = agent.router.acknowledging = True
    before = len(agent.router.sent)
    agent.stream.rejoined()
    finals = [(m["op"], m["session_id"], m["success"]) for m in agent.router.sent[before:] if m["final"]]
    assert finals == [("a", first.id, True), ("b", second.id, False), ("b", again.id, True)]
    watcher.turn()
    assert watcher.follower.finished
    assert agent.stream.waiting == 0
    before = len(agent.router.sent)
    agent.stream.rejoined()
    assert len(agent.router.sent) - before == 2, "acknowledged finals are only shown as the present state"


def test_unacknowledged_finals_are_bounded() -> None:
    """A router that never comes back costs bounded memory; what is dropped is counted."""
    agent = FakeAgent()
    agent.router.alive = False
    for _ in range(300):
        agent.end(agent.start())
    assert agent.stream.waiting == 256 and agent.stream.counters["finals_dropped"] == 300 - 256


class StreamMachine(RuleBasedStateMachine):
    """Any mixture of changes, ends, losses and reconnects: a watcher's states are true, in order, and end right."""

    def __init__(self) -> None:
        super().__init__()
        self.agent = FakeAgent()
        self.watchers: list[FakeSubscriber] = [self.agent.subscriber()]
        self.session: Session = self.agent.start()
        self.truth: dict[int, dict[str, Any]] = {}
        self.note()

    def note(self) -> None:
        self.truth[self.session.sequence] = dict(self.session.raw.data)

    @precondition(lambda self: self.session.raw.status != "done")
    @rule(key=st.sampled_from("abc"), value=st.integers(0, 3) | st.just(float("nan")))
    def change(self, key: str, value: float) -> None:
        self.session.update(**{key: value})
        self.note()

    @precondition(lambda self: self.session.raw.status != "done")
    @rule(keys=st.sets(st.sampled_from("abc")))
    def replace(self, keys: set[str]) -> None:
        self.session.data = dict.fromkeys(sorted(keys), "new")
        self.note()

    @precondition(lambda self: self.session.raw.status != "done")
    @rule()
    def end(self) -> None:
        self.agent.end(self.session)
        self.note()

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0]))
    def time(self, seconds: float) -> None:
        self.agent.clock.advance(seconds)

    @rule()
    def lease(self) -> None:
        self.agent.stream.watch(1.0)

    @precondition(lambda self: len(self.watchers) < 4)
    @rule()
    def join(self) -> None:
        self.watchers.append(self.agent.subscriber())

    @rule(which=st.integers(0, 3))
    def look(self, which: int) -> None:
        if which < len(self.watchers):
            self.watchers[which].turn()

    @rule(which=st.integers(0, 3), online=st.booleans())
    def connection(self, which: int, online: bool) -> None:
        if which < len(self.watchers):
            watcher = self.watchers[which]
            if online and not watcher.online:
                watcher.follower.gap = True  # as the rejoin of a client makes it read
            watcher.online = online

    @rule(alive=st.booleans(), acknowledging=st.booleans())
    def router(self, alive: bool, acknowledging: bool) -> None:
        back = alive and acknowledging and not (self.agent.router.alive and self.agent.router.acknowledging)
        self.agent.router.alive, self.agent.router.acknowledging = alive, acknowledging
        if back:
            self.agent.stream.rejoined()

    @invariant()
    def states_are_true_and_in_order(self) -> None:
        for watcher in self.watchers:
            numbers = [state["data"]["sequence"] for state in watcher.states]
            assert numbers == sorted(set(numbers))
            for state in watcher.states:
                assert state["data"] == self.truth[state["data"]["sequence"]]

    def teardown(self) -> None:
        if self.session.raw.status != "done":
            self.end()
        self.agent.router.alive = self.agent.router.acknowledging = True
        self.agent.stream.rejoined()
        self.agent.clock.advance(2.0)
        for watcher in self.watchers:
            watcher.online = True
            self.agent.stream.rejoined()
            watcher.turn()
            assert watcher.states[-1]["status"] == "done"
            assert watcher.states[-1]["data"] == self.session.raw.data
        self.agent.stream.close()
        assert not self.agent.clock.getDelayedCalls()


TestStreamMachine = StreamMachine.TestCase
