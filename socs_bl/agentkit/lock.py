"""One lock per piece of hardware: OCS ``TimeoutLock``'s meaning, awaitable in the reactor, and fair."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from socs_bl.agentkit.timing import Timing, disarm
from socs_bl.core.clock import iso_utc
from socs_bl.core.errors import Refused


@dataclass(frozen=True, eq=False)
class Holding:
    """Proof of holding a lock; `HardwareLock.release` takes it back.

    Attributes
    ----------
    job : str
        What the lock is held for.
    since : float
        Unix time it was taken.
    """

    job: str
    since: float


class HardwareLock:
    """A first come, first served lock for use in the reactor thread.

    Parameters
    ----------
    name : str
        The hardware it protects, for the answers.
    clock : Timing
        Where time-outs are armed.
    wall : callable
        Unix time now.
    """

    def __init__(self, name: str, clock: Timing, wall: Callable[[], float] = time.time) -> None:
        self.name = name
        self._clock = clock
        self._wall = wall
        self._holding: Holding | None = None
        self._waiting: deque[tuple[str, Deferred[Holding]]] = deque()

    @property
    def holding(self) -> Holding | None:
        """Who holds it now."""
        return self._holding

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._waiting)

    def refusal(self) -> Refused | None:
        """Why it cannot be taken at once, naming the holder and since when; None when it can."""
        if self._holding is None:
            return None
        holding = self._holding
        return Refused(
            f"{self.name} is held by {holding.job} since {iso_utc(holding.since)}; "
            f"wait until it has ended or abort it, then try again"
        )

    async def acquire(self, job: str, timeout: float = 0.0) -> Holding:
        """Take the lock for `job`.

        Parameters
        ----------
        job : str
            Name told to others while it is held.
        timeout : float
            0 refuses at once when it is held, a positive number waits that many seconds, -1 for ever.

        Raises
        ------
        Refused
            When it could not be had in time; the text names the holder and since when.
        """
        refusal = self.refusal()
        if refusal is None:
            return self._grant(job)
        if timeout == 0:
            raise refusal
        turn: Deferred[Holding] = Deferred(self._leave_queue)
        self._waiting.append((job, turn))
        timer = self._clock.callLater(timeout, self._expire, turn) if timeout > 0 else None
        try:
            return await turn
        finally:
            disarm(timer)

    def release(self, holding: Holding) -> None:
        """Give the lock back; whoever waits longest has it next.

        Raises
        ------
        ValueError
            When `holding` is not the current one: a bug in the caller.
        """
        if holding is not self._holding:
            raise ValueError(f"{self.name}: {holding.job} does not hold this lock")
        self._holding = None
        if self._waiting:
            job, turn = self._waiting.popleft()
            turn.callback(self._grant(job))

    @asynccontextmanager
    async def held(self, job: str, timeout: float = 0.0) -> AsyncIterator[Holding]:
        """Hold the lock for the body of an ``async with``; see `acquire`."""
        holding = await self.acquire(job, timeout)
        try:
            yield holding
        finally:
            self.release(holding)

    def _grant(self, job: str) -> Holding:
        self._holding = Holding(job, self._wall())
        return self._holding

    def _leave_queue(self, turn: Deferred[Holding]) -> None:
        self._waiting = deque(item for item in self._waiting if item[1] is not turn)

    def _expire(self, turn: Deferred[Holding]) -> None:
        self._leave_queue(turn)
        refusal = self.refusal()
        assert refusal is not None  # a free lock has no queue
        turn.errback(refusal)
