"""Blocking calls in a bounded number of threads, with a bounded queue before them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from socs_bl.core.errors import Retry

P = ParamSpec("P")
T = TypeVar("T")
STOP_WAIT = 2.0


class _Daemon(threading.Thread):
    """A thread that does not keep the process alive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "daemon": True})


class Outcome(Generic[T]):
    """What a call gave, for one who waits through any number of cancellations."""

    def __init__(self) -> None:
        self._result: T | Failure | None = None
        self._ended = False
        self._turn: Deferred[None] | None = None

    def set(self, result: T | Failure) -> None:
        """The call has ended."""
        self._result, self._ended = result, True
        turn, self._turn = self._turn, None
        if turn is not None and not turn.called:
            turn.callback(None)

    async def wait(self) -> bool:
        """Wait for the end; True when somebody cancelled meanwhile."""
        cancelled = False
        while not self._ended:
            self._turn = Deferred()
            try:
                await self._turn
            except CancelledError:
                cancelled = True
        return cancelled

    def get(self) -> T:
        """The result, or the exception raised."""
        if isinstance(self._result, Failure):
            self._result.raiseException()
        return cast(T, self._result)


class WorkerThreads:
    """A thread pool that refuses instead of queueing without end.

    Threads are daemons: one that hangs in a call does not keep the process alive.

    Parameters
    ----------
    reactor : object
        The Twisted reactor that results come back to.
    size : int
        Threads at most.
    backlog : int
        Calls waiting for a thread at most.
    """

    def __init__(self, reactor: Any, size: int = 8, backlog: int = 64) -> None:
        self._reactor = reactor
        self._size = size
        self._backlog = backlog
        self._pool: ThreadPool | None = None
        self._closed = False
        self.running = 0
        self.refused = 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread and wait for it.

        A cancelled caller still waits until the call has returned (a thread cannot be interrupted, and the lock the
        caller holds protects what the thread works on), then gets CancelledError.

        Raises
        ------
        Retry
            When all threads are busy and the backlog is full, or the agent is ending.
        """
        if self._closed or self.running >= self._size + self._backlog:
            self.refused += 1
            raise Retry(f"{self.running} blocking calls are waiting or running in this agent; try again in a second")
        self.running += 1
        outcome: Outcome[T] = Outcome()
        deferToThreadPool(self._reactor, self._started(), function, *args, **kwargs).addBoth(self._finish, outcome)
        cancelled = await outcome.wait()
        if cancelled:
            raise CancelledError()
        return outcome.get()

    def close(self) -> None:
        """End the threads; waits at most two seconds for calls that still run."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            stopper = threading.Thread(target=pool.stop, daemon=True, name="worker-threads-stop")
            stopper.start()
            stopper.join(STOP_WAIT)

    def _started(self) -> ThreadPool:
        if self._pool is None:
            pool = ThreadPool(0, self._size, "worker")
            pool.threadFactory = _Daemon
            pool.start()
            self._pool = pool
        return self._pool

    def _finish(self, result: Any, outcome: Outcome[Any]) -> None:
        self.running -= 1
        outcome.set(result)
