"""A machine on a virtual clock, with faults and enumerated crashes; one seed is one run.

The simulation drives the same `Driver` as the real shell. A `Scenario` builds one with everything that will be said to
it, and knows what must hold at the end; it can be run with a seed, and with a crash at each point in turn::

    LAMPS = Scenario(build, until=60.0, holds=all_lit)
    LAMPS.run(seed=7)
    LAMPS.crash_everywhere(seed=7)

A failure names its repro: ``python -m tests.harness.simulation tests.commensal.test_simulated:CYCLE --seed 7 --crash-at 12``.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import pkgutil
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from socs_bl.core.archive import replay
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver, Prepared, restored
from socs_bl.core.effect import ArmTimer, CancelTimer, Effect, Withdraw
from socs_bl.core.event import EffectDone, EffectFailed, Event, TimerFired
from socs_bl.core.journal import Commit, CommitUnknown, OutOfSequence
from socs_bl.core.machine import Machine
from socs_bl.core.memory_journal import MemoryJournal, Vault

MachineT = TypeVar("MachineT", bound=Machine)

EPOCH = 1_800_000_000.0  # wall time at the beginning of every simulation
HOUR = 3600.0
LATENCY = (0.0005, 0.005)  # seconds of a commit, an effect or a message
MOST_TURNS = 200_000  # a simulation that does not come to an end is a defect


class Failed(Exception):
    """Raised by a world that refuses an effect; the text is the reason."""


class World(Protocol):
    """What is outside of the shell. It lives on when the shell crashes."""

    def perform(self, effect: Effect, now: float) -> Iterable[tuple[float, Event]] | None:
        """Carry out an effect at virtual time `now`.

        Returns the answers with their delays; None when no answer will ever come. Raises `Failed` to refuse.
        """

    def write(self, command: tuple[str, ...], now: float) -> Iterable[tuple[float, Event]]:
        """See a riding command take place; return what others say because of it, as messages with delays."""

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """What a shell sees that looks around: ``Restarted.world``."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong, as probabilities from 0 to 1.

    Attributes
    ----------
    lost, repeated : float
        A message from outside never comes; a message or an answer comes twice.
    jitter : float
        Seconds by which messages are late at most, each for itself, so that they overtake one another.
    slow, silent : float
        An effect takes up to twice its deadline; it is never answered, whether it took place or not.
    commit_lost : float
        The connection breaks in a commit, which may have taken place.
    wall_step : float
        The wall clock steps by an hour, forth or back, before a batch.
    crash : float
        The shell crashes at a crash point, beside the one asked for.
    """

    lost: float = 0.0
    repeated: float = 0.0
    jitter: float = 0.0
    slow: float = 0.0
    silent: float = 0.0
    commit_lost: float = 0.0
    wall_step: float = 0.0
    crash: float = 0.0


NO_FAULTS = Faults()
ALL_FAULTS = Faults(0.1, 0.1, 2.0, 0.05, 0.05, 0.05, 0.05, 0.01)


class Crash(Exception):
    """The shell is gone, here and now."""


class Shell(Generic[MachineT]):
    """One life of the shell: all that a crash takes away."""

    def __init__(self, simulation: Simulation[MachineT]) -> None:
        self.simulation = simulation
        self.driver = Driver(simulation.checked_machine, simulation.codec, MemoryJournal(simulation.vault))
        self.born = simulation.time
        self._inbox: list[Caused] = []
        self._committing = False
        self._timers: dict[str, int] = {}
        self._flying: set[str] = set()

    def start(self, kept: Sequence[Event]) -> None:
        """Claim, look around, step ``Restarted``, then what the senders have kept for us."""
        self.driver.claim(f"life {self.simulation.crashes}")
        restart = self.driver.restart_event(self.simulation.world.snapshot(self.born))
        self.take(Caused(restart), *(Caused(event) for event in kept))

    def take(self, *events: Caused) -> None:
        """Take in events that belong into one commit; one commit is in flight at a time."""
        self._inbox.extend(events)
        if self._inbox and not self._committing:
            self._committing = True
            events, self._inbox = tuple(self._inbox), []
            self._prepare(events)

    def _prepare(self, events: Sequence[Caused]) -> None:
        prepared = self.driver.prepare(events, self.simulation.read_clocks())
        self.simulation.crash_point(f"before the commit of {prepared.commit.first}")
        self._later(self.simulation.latency(), partial(self._commit, prepared, events))

    def _commit(self, prepared: Prepared, events: Sequence[Caused]) -> None:
        simulation = self.simulation
        if not self._stored(prepared.commit):
            self._prepare(events)
            return
        simulation.crash_point(f"after the commit of {prepared.commit.last}")
        simulation.confirm(events)
        work = self.driver.committed(prepared.entries)
        for effect in work.local:
            self._change(effect)
        simulation.random.shuffle(work.perform)
        for done, effect in enumerate(work.perform, 1):
            self._perform(effect)
            rest = f", {len(work.perform) - done} of its batch to go" if done < len(work.perform) else ""
            simulation.crash_point(f"effect {effect.id} carried out and not acknowledged{rest}")
        self._committing = False
        self.take(*work.events)

    def _stored(self, commit: Commit) -> bool:
        """Commit; after an unknown outcome reload, and look whether it is there."""
        journal = self.driver.journal
        try:
            if self.simulation.chance(self.simulation.faults.commit_lost):
                if self.simulation.chance(0.5):
                    raise CommitUnknown("the connection broke before the commit arrived")
                self.simulation.vault.lose_answer = True
            journal.commit(commit)
        except (CommitUnknown, OutOfSequence):
            self.driver.reload()
            return tuple(entry for _, entry in journal.read(commit.first, commit.last)) == commit.entries
        return True

    def _change(self, effect: Effect) -> None:
        if isinstance(effect, ArmTimer):
            self._timers[effect.name] = effect.generation
            fired = TimerFired(name=effect.name, generation=effect.generation)
            self._later(effect.seconds, partial(self._fire, fired))
        elif isinstance(effect, CancelTimer):
            self._timers.pop(effect.name, None)
        elif isinstance(effect, Withdraw):
            self._flying.discard(effect.effect)

    def _fire(self, fired: TimerFired) -> None:
        if self._timers.get(fired.name) == fired.generation:
            del self._timers[fired.name]
            self.take(Caused(fired, str(fired.generation)))

    def _perform(self, effect: Effect) -> None:
        simulation, faults = self.simulation, self.simulation.faults
        self._flying.add(effect.id)
        silent = simulation.chance(faults.silent)
        answers: Iterable[tuple[float, Event]] | None = None
        if not silent or simulation.chance(0.5):
            try:
                answers = simulation.world.perform(effect, simulation.time)
            except Failed as refusal:
                failed = EffectFailed(effect=effect.id, reason=str(refusal))
                self._later(simulation.latency(), partial(self._answer, effect.id, [failed]))
                return
        delay = simulation.latency()
        if simulation.chance(faults.slow):
            delay += simulation.random.uniform(0.0, 2.0 * effect.deadline)
        ordered = [] if silent or answers is None else sorted(answers, key=lambda answer: answer[0])
        if silent or answers is None or delay + (ordered[-1][0] if ordered else 0.0) > effect.deadline:
            reason = f"no answer within {effect.deadline:g} s"
            late = EffectFailed(effect=effect.id, reason=reason, unknown=True)
            self._later(effect.deadline, partial(self._answer, effect.id, [late]))
            return
        for after, event in ordered[:-1]:
            self._later(delay + after, partial(self._answer, effect.id, [event], last=False))
        events = [event for _, event in ordered[-1:]] + [EffectDone(effect=effect.id)]
        self._later(delay + (ordered[-1][0] if ordered else 0.0), partial(self._answer, effect.id, events))

    def _answer(self, identity: str, events: Sequence[Event], last: bool = True) -> None:
        if identity not in self._flying:
            return  # withdrawn, or its deadline has passed
        if last:
            self._flying.discard(identity)
        caused = [Caused(event, identity) for event in events]
        self.take(*caused)
        if self.simulation.chance(self.simulation.faults.repeated):
            self._later(self.simulation.latency(), partial(self.take, *caused))

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        """Do something unless the shell has crashed by then."""

        def guarded() -> None:
            if self.simulation.shell is self:
                action()

        self.simulation.later(delay, guarded)


class Simulation(Generic[MachineT]):
    """A shell, its journal and a world on a virtual clock.

    Parameters
    ----------
    factory : callable
        Makes an empty machine.
    codec : Codec
    world : World
    seed : int
        Of the one source of randomness.
    faults : Faults
    down : float
        Seconds from a crash to the next start.
    """

    def __init__(
        self,
        factory: Callable[[], MachineT],
        codec: Codec,
        world: World,
        seed: int = 0,
        faults: Faults = NO_FAULTS,
        down: float = 2.0,
    ) -> None:
        self.factory, self.codec, self.world, self.seed, self.faults, self.down = (
            factory,
            codec,
            world,
            seed,
            faults,
            down,
        )
        self.random = random.Random(seed)
        self.vault = Vault(on_write=self._written)
        self.time = 0.0
        self.shell: Shell[MachineT] | None = None
        self.points: list[str] = []
        self.crashes = 0
        self._crash_at: int | None = None
        self._wall_offset = EPOCH
        self._kept: list[Event] = []
        self._ties = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self.later(0.0, self._start)

    @property
    def machine(self) -> MachineT:
        """The machine as the journal has it."""
        return restored(self.factory, self.codec, MemoryJournal(self.vault).load())

    # -- what a scenario uses -------------------------------------------------------------------------------------

    def say(self, at: float, event: Event, droppable: bool = True) -> None:
        """Let someone outside say something at virtual time `at`.

        A droppable message (pub/sub) may be lost, late and overtaken, and is gone while the shell is down. Of another
        the sender keeps the order, and says it again until it is committed.
        """
        if droppable and self.chance(self.faults.lost):
            return
        for _ in range(2 if self.chance(self.faults.repeated) else 1):
            late = self.random.uniform(0.0, self.faults.jitter) if droppable else 0.0
            self.later(at + late - self.time, partial(self._arrive, event, droppable))

    def call(self, at: float, action: Callable[[], None]) -> None:
        """Let something happen to the world at virtual time `at`."""
        self.later(at - self.time, action)

    def run(self, until: float, crash_at: int | None = None) -> None:
        """Run to virtual time `until`, crashing at crash point number `crash_at` if one is given.

        Raises whatever the machine raises, AssertionError from `check`, Faulty when the journal does not replay.
        """
        self._crash_at = crash_at
        turns = 0
        while self._heap and self._heap[0][0] <= until:
            self.time, _, action = heapq.heappop(self._heap)
            turns += 1
            assert turns < MOST_TURNS, f"no end after {turns} turns, at {self.time:.3f} s"
            try:
                action()
            except Crash:
                self.shell = None
                self.crashes += 1
                self.later(self.down, self._start)
        self._verify()

    # -- what the shell uses --------------------------------------------------------------------------------------

    def checked_machine(self) -> MachineT:
        """An empty machine that checks its invariants after every step."""
        machine = self.factory()
        step = machine.step

        def checked(event: Event) -> list[Effect]:
            effects = step(event)
            machine.check()
            return effects

        machine.step = checked  # type: ignore[method-assign]
        return machine

    def crash_point(self, label: str) -> None:
        """Count a point at which a crash is possible, and crash if it is its turn."""
        self.points.append(label)
        if len(self.points) - 1 == self._crash_at or self.chance(self.faults.crash):
            raise Crash(label)

    def chance(self, probability: float) -> bool:
        """True with this probability; nothing is drawn where nothing can go wrong."""
        return probability > 0.0 and self.random.random() < probability

    def latency(self) -> float:
        """A short time."""
        return self.random.uniform(*LATENCY)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Do something after `delay` virtual seconds."""
        heapq.heappush(self._heap, (self.time + max(delay, 0.0), next(self._ties), action))

    def read_clocks(self) -> Instant:
        """The shell's clocks; the monotonic one begins with each life, the wall clock may step."""
        if self.chance(self.faults.wall_step):
            self._wall_offset += self.random.choice((-HOUR, HOUR))
        return Instant(self.time + self._wall_offset, self.time - (self.shell.born if self.shell else 0.0))

    def confirm(self, events: Iterable[Caused]) -> None:
        """Tell the senders that these are committed."""
        committed = {id(caused.event) for caused in events}
        self._kept = [event for event in self._kept if id(event) not in committed]

    # -- inside ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.shell = Shell(self)
        self.shell.start(self._kept)

    def _arrive(self, event: Event, droppable: bool) -> None:
        if not droppable:
            self._kept.append(event)
        if self.shell is not None:
            self.shell.take(Caused(event))

    def _written(self, command: tuple[str, ...]) -> None:
        for delay, event in self.world.write(command, self.time):
            self.say(self.time + delay, event)

    def _verify(self) -> None:
        """The journal replays to the stored state: nothing was decided by what is not in it."""
        journal, stored = MemoryJournal(self.vault), self.machine
        replayed = replay(self.factory, self.codec, journal.base(), journal.read())
        for part in ("cells", "timers", "outstanding"):
            assert getattr(replayed, part) == getattr(stored, part), f"{part} in the journal and replayed {part} differ"


@dataclass(frozen=True)
class Scenario:
    """A simulation to be run many times.

    Attributes
    ----------
    build : callable
        Seed to a new simulation, with everything said that will be said.
    until : float
        Virtual seconds to run.
    holds : callable
        Final assertion.
    name : str
        ``module:NAME`` where this scenario is found, for the repro.
    """

    build: Callable[[int], Simulation[Any]]
    until: float
    holds: Callable[[Simulation[Any]], None]
    name: str

    def run(self, seed: int, crash_at: int | None = None) -> Simulation[Any]:
        """Run once; AssertionError with a one-line repro when anything is wrong."""
        simulation = self.build(seed)
        try:
            simulation.run(self.until, crash_at)
            self.holds(simulation)
        except Exception as error:  # whatever the machine raises is what the seed has found
            crash = "" if crash_at is None else f" --crash-at {crash_at}"
            where = "" if crash_at is None else f" (crash {simulation.points[crash_at]})"
            repro = f"python -m tests.harness.simulation {self.name} --seed {seed}{crash}"
            raise AssertionError(f"{error!r} at {simulation.time:.3f} s{where}; repro: {repro}") from error
        return simulation

    def crash_points(self, seed: int) -> int:
        """How many crash points a run without the enumerated crash has."""
        return len(self.run(seed).points)

    def crash_everywhere(self, seed: int) -> int:
        """Run once for each crash point, crashing there; returns how many."""
        count = self.crash_points(seed)
        for number in range(count):
            self.run(seed, number)
        return count


def main() -> None:
    """Run one scenario once, from the line a failure has printed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("scenario", help="module:NAME")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--crash-at", type=int)
    arguments = parser.parse_args()
    simulation = pkgutil.resolve_name(arguments.scenario).run(arguments.seed, arguments.crash_at)
    print(
        f"{len(simulation.vault.entries)} entries, {simulation.crashes} crashes, {len(simulation.points)} crash points"
    )


if __name__ == "__main__":
    main()
