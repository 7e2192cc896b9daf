"""The shell's engine: runs a machine in the Twisted reactor.

Events go in by `feed` or `submit`, are stepped in batches, committed in a thread (one commit in flight), and only then
are their effects carried out, each with its deadline. Answers come back as events in one batch with the receipt of the
effect. After a refusal or an unknown outcome the state is reloaded from the journal.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from socs_bl.core.archive import trim
from socs_bl.core.clock import Clock, Instant, SystemClock
from socs_bl.core.codec import Entry
from socs_bl.core.driver import Caused, Driver, Prepared, Work
from socs_bl.core.effect import ArmTimer, CancelTimer, Effect, Withdraw
from socs_bl.core.errors import Refused, Retry, SocsError
from socs_bl.core.event import EffectDone, EffectFailed, Event, TimerFired
from socs_bl.core.journal import Fenced, OutOfSequence
from socs_bl.core.machine import Machine
from socs_bl.core.retention import Retention, prune

MachineT = TypeVar("MachineT", bound=Machine)
ResultT = TypeVar("ResultT")

Perform = Callable[[Effect], Awaitable[Sequence[Event]]]
Look = Callable[[], Awaitable[Mapping[str, Any]]]

BATCH = 64
BACKLOG = 100_000
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class _Group(NamedTuple):
    """Events that must stand in one commit, and who waits for it."""

    events: list[Caused]
    waiter: Deferred[tuple[Entry, ...]] | None


class MachineRunner(Generic[MachineT]):
    """Runs one machine.

    Parameters
    ----------
    driver : Driver
        The machine, its codec and its journal.
    perform : callable
        Carries out one effect and returns its answers; raises `SocsError` when it cannot.
    look : callable
        Looks at the world after a claim; what it returns is ``Restarted.world``.
    writer : str
        Who we are, for the journal.
    reactor : object, optional
        Anything with ``callLater`` and ``callFromThread``; Twisted's by default.
    clock : Clock, optional
    on_commit : callable, optional
        Called with the entries of each commit, after it.
    on_fault : callable, optional
        Called with a sentence when the runner can go on only degraded (journal unreachable, fenced off, a crash).
    on_recovery : callable, optional
        Called when the journal answers again.
    archive : Path, optional
        Directory into which entries are moved as `retention` says; without one the journal grows for ever.
    retention : Retention, optional
    """

    def __init__(
        self,
        driver: Driver[MachineT],
        perform: Perform,
        look: Look,
        writer: str,
        *,
        reactor: Any = None,
        clock: Clock | None = None,
        on_commit: Callable[[Sequence[Entry]], None] | None = None,
        on_fault: Callable[[str], None] | None = None,
        on_recovery: Callable[[], None] | None = None,
        archive: Path | None = None,
        retention: Retention | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor as default_reactor  # installs the reactor, so not at import

            reactor = default_reactor
        self.driver = driver
        self.fenced = False
        self._perform = perform
        self._look = look
        self._writer = writer
        self._reactor = reactor
        self._clock = clock or SystemClock()
        self._on_commit = on_commit or (lambda entries: None)
        self._on_fault = on_fault or (lambda text: None)
        self._on_recovery = on_recovery or (lambda: None)
        self._archive = archive
        self._retention = retention or Retention()
        self._trimmed = 0
        self._log = Logger()
        self._pool = ThreadPool(0, 1, name=f"journal {writer}")
        self._pool.threadFactory = partial(threading.Thread, daemon=True)  # type: ignore[assignment]  # a server that hangs must not hold the exit
        self._inbox: deque[_Group] = deque()
        self._taken: list[_Group] = []
        self._crash = ""
        self._wake: Deferred[None] | None = None
        self._waiting: Deferred[None] | None = None
        self._timers: dict[str, Any] = {}
        self._running: dict[str, Deferred[Any]] = {}
        self._stopping = False
        self._looping: Deferred[None] | None = None

    @property
    def machine(self) -> MachineT:
        """The machine. Read it between commits only: in callbacks of this runner and in operations."""
        return self.driver.machine

    @property
    def backlog(self) -> int:
        """How many groups of events wait to be stepped."""
        return len(self._inbox)

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Claim the journal, look at the world, step ``Restarted`` and begin.

        Returns when the restart is committed. Waits, degraded, while the journal does not answer.
        """
        self._pool.start()
        await self._persist(lambda: self.driver.claim(self._writer))
        self._trimmed = (await self._persist(self.driver.journal.base)).sequence
        world = await self._patiently(self._look)
        restart: Deferred[tuple[Entry, ...]] = Deferred()
        self._inbox.appendleft(_Group([Caused(self.driver.restart_event(world))], restart))
        self._looping = Deferred.fromCoroutine(self._loop())
        self._looping.addErrback(self._crashed)
        await restart

    async def stop(self) -> None:
        """Stop stepping and close the journal. Effects under way are given up; they stay outstanding."""
        self._stopping = True
        for call in self._timers.values():
            call.cancel()
        self._timers.clear()
        for running in list(self._running.values()):
            running.cancel()
        self._notice()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._looping is not None:
            await self._looping
            self._looping = None
        if self._pool.started:
            finished: Deferred[None] = Deferred()
            threading.Thread(target=self._stop_pool, args=(finished,), name="journal stop").start()
            await finished
        self._refuse_inbox(Retry("the agent is stopping; ask again when it is back"))

    def _stop_pool(self, finished: Deferred[None]) -> None:
        self._pool.stop()
        self.driver.journal.close()
        self._reactor.callFromThread(finished.callback, None)

    # -- events ---------------------------------------------------------------------------------------------------

    def feed(self, *events: Event, cause: str = "") -> None:
        """Take in events that belong into one commit."""
        self._put(_Group([Caused(event, cause) for event in events], None))

    async def submit(self, *events: Event, cause: str = "") -> tuple[Entry, ...]:
        """Take in events and wait until they are committed.

        Returns
        -------
        tuple of Entry
            With the effects the machine answered with.

        Raises
        ------
        Retry
            When the runner stops first, or too much is waiting.
        """
        waiter: Deferred[tuple[Entry, ...]] = Deferred()
        self._put(_Group([Caused(event, cause) for event in events], waiter))
        return await waiter

    def _put(self, group: _Group) -> None:
        if self._crash:
            raise Refused(self._crash)
        if self.fenced:
            raise Refused("another writer has taken over this journal; ask that agent, or restart this one")
        if self._stopping:
            raise Retry("the agent is stopping; ask again when it is back")
        if len(self._inbox) >= BACKLOG:
            raise Retry(f"{BACKLOG} events wait for the journal; look at its server, then ask again")
        self._inbox.append(group)
        self._notice()

    def _notice(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    # -- the loop -------------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while not self._stopping and not self.fenced:
            if not self._inbox:
                self._wake = Deferred()
                await self._wake
                continue
            groups = [self._inbox.popleft()]
            while self._inbox and sum(len(group.events) for group in groups) < BATCH:
                groups.append(self._inbox.popleft())
            self._taken = groups
            await self._write(groups)
            if self._archive is not None and self.machine.sequence - self._trimmed > self._retention.entries:
                await self._trim(self._archive)

    async def _trim(self, directory: Path) -> None:
        """Move entries into an archive file; the loop waits, so that no commit comes in between."""
        try:
            await self._in_journal(partial(self._tidy, directory))
        except (OSError, SocsError) as error:
            self._fault(f"the journal could not be trimmed into {directory}: {error}; it goes on growing")
        # After a failure it is tried again when the journal has grown by as much once more.
        self._trimmed = self.machine.sequence

    def _tidy(self, directory: Path) -> None:
        """Trim, and remove archives that are not wanted any more. Blocks."""
        journal = self.driver.journal
        trim(journal, self._writer, directory)
        now = self._clock.now().wall
        for gone in prune(directory, self._writer, journal.base().sequence, self._retention, now):
            self._log.info("archive {path} removed: {rule}", path=gone.archive.path, rule=gone.rule)

    async def _write(self, groups: Sequence[_Group]) -> None:
        """Step and commit groups; a group that the machine cannot digest costs only itself."""
        now = self._clock.now()
        try:
            prepared = await self._commit([caused for group in groups for caused in group.events], now)
        except Fenced as fenced:
            self.fenced = True
            self._fault(f"fenced off: {fenced}")
            self._fail(groups, fenced)
            self._refuse_inbox(fenced)
        except Retry as stopping:
            self._fail(groups, stopping)
        except Exception as error:  # noqa: BLE001 - a defect of the machine or a poisonous event must not end the others
            await self._leave_out(groups, error)
        else:
            self._carry_on(prepared, groups)

    async def _leave_out(self, groups: Sequence[_Group], error: Exception) -> None:
        """Find the group that cannot be stepped and do without it; an effect whose answer it was has failed."""
        try:
            await self._persist(self.driver.reload)
        except Retry as stopping:
            self._fail(groups, stopping)
            return
        if len(groups) > 1:
            for group in groups:
                await self._write([group])
            return
        events = groups[0].events
        self._log.error("event left out: {events}", events=[caused.event for caused in events])
        self._fault(f"{events[0].event!r:.200} could not be stepped: {error!r}; it is left out")
        self._fail(groups, error)
        receipt = events[-1].event
        if isinstance(receipt, EffectDone):
            failed = EffectFailed(
                effect=receipt.effect, reason=f"its answer could not be stepped: {error!r}", unknown=True
            )
            self._inbox.appendleft(_Group([Caused(failed, receipt.effect)], None))

    async def _commit(self, events: Sequence[Caused], now: Instant) -> Prepared:
        """Step and commit until it is known to be in the journal."""
        pause = FIRST_PAUSE
        while True:
            prepared = self.driver.prepare(events, now)
            try:
                await self._in_journal(partial(self.driver.journal.commit, prepared.commit))
            except Fenced:
                raise
            except (OutOfSequence, Retry) as error:
                if not await self._persist(partial(self._landed, prepared)):
                    # It reads but does not write: a full disk, a read-only replica, no memory.
                    self._fault(f"the journal takes no commit: {error}")
                    await self._pause(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
            if pause > FIRST_PAUSE:
                self._on_recovery()
            return prepared

    def _landed(self, prepared: Prepared) -> bool:
        """Reload, and say whether a commit of unknown outcome is in the journal. Blocks."""
        commit = prepared.commit
        stored = self.driver.journal.load()
        if stored.epoch != commit.epoch:
            raise Fenced(f"epoch {commit.epoch} is over, the journal is in epoch {stored.epoch}")
        self.driver.restore(stored)
        if stored.sequence < commit.last:
            return False
        return tuple(entry for _, entry in self.driver.journal.read(commit.first, commit.last)) == commit.entries

    def _carry_on(self, prepared: Prepared, groups: Sequence[_Group]) -> None:
        """After the commit: tell who waits, arm timers, carry out effects."""
        work = self.driver.committed(prepared.entries)
        self._do(work)
        self._on_commit(prepared.entries)
        done = 0
        for group in groups:
            entries = prepared.entries[done : done + len(group.events)]
            done += len(group.events)
            if group.waiter is not None:
                group.waiter.callback(entries)

    def _do(self, work: Work) -> None:
        for effect in work.local:
            if isinstance(effect, ArmTimer):
                self._arm(effect)
            elif isinstance(effect, CancelTimer):
                self._disarm(effect.name)
            elif isinstance(effect, Withdraw) and effect.effect in self._running:
                self._running.pop(effect.effect).cancel()
        if work.events:
            self._inbox.append(_Group(work.events, None))
        if not self._stopping:
            for effect in work.perform:
                self._begin(effect)

    def _arm(self, timer: ArmTimer) -> None:
        self._disarm(timer.name)
        fired = TimerFired(name=timer.name, generation=timer.generation)
        self._timers[timer.name] = self._reactor.callLater(timer.seconds, self._fire, fired)

    def _fire(self, fired: TimerFired) -> None:
        del self._timers[fired.name]
        self._append([Caused(fired, str(fired.generation))])

    def _disarm(self, name: str) -> None:
        call = self._timers.pop(name, None)
        if call is not None:
            call.cancel()

    # -- effects --------------------------------------------------------------------------------------------------

    def _begin(self, effect: Effect) -> None:
        """Carry an effect out. Its deadline runs beside it: what waits for a thread cannot be interrupted."""
        running = Deferred.fromCoroutine(self._carry_out(effect))
        self._running[effect.id] = running
        deadline = self._reactor.callLater(effect.deadline, self._overdue, effect)

        def ended(result: ResultT) -> ResultT:
            if deadline.active():
                deadline.cancel()
            return result

        running.addBoth(ended)
        running.addCallbacks(self._answered, self._unanswered, callbackArgs=(effect,), errbackArgs=(effect,))
        if self._stopping:  # stopped from within the effect
            running.cancel()

    def _overdue(self, effect: Effect) -> None:
        running = self._running.get(effect.id)
        reason = f"no answer within {effect.deadline:g} s"
        self._settle(effect, [EffectFailed(effect=effect.id, reason=reason, unknown=True)])
        if running is not None:
            running.cancel()

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        return await self._perform(effect)

    def _answered(self, answers: Sequence[Event], effect: Effect) -> None:
        self._settle(effect, [*answers, EffectDone(effect=effect.id)])

    def _unanswered(self, failure: Failure, effect: Effect) -> None:
        error = failure.value
        if isinstance(error, CancelledError):
            return  # withdrawn, or the shell stops: it stays as the journal has it
        if isinstance(error, SocsError):
            reason, unknown = str(error), False
        else:
            self._log.failure("effect {id} crashed", failure=failure, id=effect.id)
            reason, unknown = f"crash: {error!r}", True
            self._fault(f"{type(effect).__name__} {effect.id} crashed: {error!r}")
        self._settle(effect, [EffectFailed(effect=effect.id, reason=reason, unknown=unknown)])

    def _settle(self, effect: Effect, events: list[Event]) -> None:
        if self._running.pop(effect.id, None) is not None:
            self._append([Caused(event, effect.id) for event in events])

    def _append(self, events: list[Caused]) -> None:
        """Take in what the machine itself has asked for: bounded by its effects and timers, so never refused."""
        if not (self.fenced or self._stopping):
            self._inbox.append(_Group(events, None))
            self._notice()

    # -- the journal's thread -------------------------------------------------------------------------------------

    def _in_journal(self, call: Callable[[], ResultT]) -> Deferred[ResultT]:
        deferred: Deferred[ResultT] = deferToThreadPool(self._reactor, self._pool, call)
        return deferred

    async def _persist(self, call: Callable[[], ResultT]) -> ResultT:
        """Make a journal call until it succeeds."""
        return await self._patiently(lambda: self._in_journal(call))

    async def _patiently(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Try until it succeeds; degraded meanwhile. Raises Retry when the shell stops."""
        pause = FIRST_PAUSE
        while not self._stopping:
            try:
                result = await call()
            except Fenced:
                raise
            except Retry as error:
                self._fault(str(error))
                await self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if pause > FIRST_PAUSE:
                    self._on_recovery()
                return result
        raise Retry("the agent is stopping; ask again when it is back")

    async def _pause(self, seconds: float) -> None:
        """Wait; a stop ends the wait. Raises Retry when the shell stops."""
        self._waiting = deferLater(self._reactor, seconds)
        try:
            await self._waiting
        except CancelledError:
            if not self._stopping:
                raise
        if self._stopping:
            raise Retry("the agent is stopping; ask again when it is back")

    # -- faults ---------------------------------------------------------------------------------------------------

    def _fault(self, text: str) -> None:
        self._log.error("{text}", text=text)
        self._on_fault(text)

    @staticmethod
    def _fail(groups: Sequence[_Group], error: Exception) -> None:
        for group in groups:
            if group.waiter is not None and not group.waiter.called:
                group.waiter.errback(error)

    def _refuse_inbox(self, error: Exception) -> None:
        groups, self._inbox = list(self._inbox), deque()
        self._fail(groups, error)

    def _crashed(self, failure: Failure) -> None:
        if self._stopping:
            return
        self._log.failure("the machine's shell crashed", failure=failure)
        self.fenced = True
        self._crash = f"the machine's shell crashed: {failure.value!r:.200}; restart the agent"
        self._fault(self._crash)
        # In a turn of its own: who waits may stop us, and that waits for the loop, whose end this is.
        self._reactor.callLater(0, self._give_up, Retry(self._crash))

    def _give_up(self, error: Exception) -> None:
        self._fail(self._taken, error)
        self._refuse_inbox(error)
