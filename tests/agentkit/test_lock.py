"""The hardware lock: refusal, waiting, fairness, time-outs."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from socs_bl.agentkit.lock import HardwareLock, Holding
from socs_bl.core.errors import Refused


def make() -> tuple[HardwareLock, Clock]:
    clock = Clock()
    return HardwareLock("daq", clock, wall=lambda: 1_700_000_000.0), clock


def acquire(lock: HardwareLock, job: str, timeout: float = 0.0) -> Deferred[Holding]:
    return Deferred.fromCoroutine(lock.acquire(job, timeout))


def result(waiting: Deferred[Holding]) -> object:
    """What a Deferred holds now: a Holding, an exception, or None when it has not fired."""
    found: list[object] = []
    waiting.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found[0] if found else None


def test_zero_refuses_at_once_and_names_the_holder() -> None:
    """The answer says what holds the lock and since when, in UTC."""
    lock, _ = make()
    result(acquire(lock, "recording of array_1"))
    refused = result(acquire(lock, "second"))
    assert isinstance(refused, Refused)
    assert "daq is held by recording of array_1 since 2023-11-14T22:13:20.000Z" in str(refused)


def test_waiting_ends_with_the_time_or_the_release() -> None:
    """Whoever waits gets the lock when it is free in time, else is refused; no timer is left."""
    lock, clock = make()
    first = result(acquire(lock, "first"))
    late, patient = acquire(lock, "late", 2.0), acquire(lock, "patient", 10.0)
    clock.advance(1.9)
    assert lock.waiting == 2
    clock.advance(0.2)
    assert isinstance(result(late), Refused) and lock.waiting == 1
    assert isinstance(first, Holding)
    lock.release(first)
    assert isinstance(result(patient), Holding)
    assert not clock.getDelayedCalls()


def test_minus_one_waits_for_ever_in_order() -> None:
    """First come, first served."""
    lock, clock = make()
    holding = result(acquire(lock, "0"))
    order: list[str] = []
    for job in "123":
        acquire(lock, job, -1).addCallback(lambda got: order.append(got.job))
    for expected in "123":
        assert isinstance(holding, Holding)
        lock.release(holding)
        clock.advance(1e6)
        assert order[-1] == expected
        holding = lock.holding


def test_only_the_holder_releases() -> None:
    """A holding given back once cannot be given back again."""
    lock, _ = make()
    first = result(acquire(lock, "first"))
    assert isinstance(first, Holding)
    lock.release(first)
    result(acquire(lock, "second"))
    with pytest.raises(ValueError, match="first does not hold"):
        lock.release(first)


def test_context_releases_after_an_error() -> None:
    """``async with`` gives the lock back whatever happens in it."""
    lock, _ = make()

    async def work() -> None:
        async with lock.held("work"):
            raise RuntimeError("broken")

    assert isinstance(result(Deferred.fromCoroutine(work())), RuntimeError)
    assert lock.holding is None


class LockMachine(RuleBasedStateMachine):
    """Any mixture of acquire, release, cancel and time: one holder, in the order of asking, nobody forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.lock, self.clock = make()
        self.asked = 0
        self.queue: list[tuple[int, float, Deferred[Holding]]] = []
        self.holder: int | None = None
        self.outcomes: dict[int, object] = {}

    def watch(self, number: int, waiting: Deferred[Holding]) -> None:
        waiting.addCallbacks(
            lambda got: self.outcomes.__setitem__(number, got),
            lambda failure: self.outcomes.__setitem__(number, failure.value),
        )

    @rule(timeout=st.sampled_from([0.0, -1.0, 0.5, 3.0]))
    def acquire(self, timeout: float) -> None:
        self.asked += 1
        waiting = acquire(self.lock, str(self.asked), timeout)
        self.watch(self.asked, waiting)
        if self.holder is None:
            self.holder = self.asked
        elif timeout == 0:
            assert isinstance(self.outcomes[self.asked], Refused)
        else:
            end = self.clock.seconds() + timeout if timeout > 0 else float("inf")
            self.queue.append((self.asked, end, waiting))

    @precondition(lambda self: self.holder is not None)
    @rule()
    def release(self) -> None:
        holding = self.lock.holding
        assert holding is not None
        self.lock.release(holding)
        self.holder = self.queue.pop(0)[0] if self.queue else None

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.queue))
        self.queue.remove(item)
        item[2].cancel()
        assert isinstance(self.outcomes[item[0]], CancelledError)

    @rule(seconds=st.floats(0.0, 2.0))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        expired = [item for item in self.queue if item[1] <= self.clock.seconds()]
        self.queue = [item for item in self.queue if item not in expired]
        assert all(isinstance(self.outcomes[number], Refused) for number, _, _ in expired)

    @invariant()
    def agrees(self) -> None:
        holding = self.lock.holding
        assert (holding.job if holding else None) == (str(self.holder) if self.holder else None)
        assert self.lock.waiting == len(self.queue)
        assert not any(number in self.outcomes for number, _, _ in self.queue)
        finite = sum(end < float("inf") for _, end, _ in self.queue)
        assert len(self.clock.getDelayedCalls()) == finite


TestLockMachine = LockMachine.TestCase
