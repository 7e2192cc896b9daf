"""A machine in a driver on one vault, as a test of its rules wants it: effects wait until the test has them carried out."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from socs_bl.core.archive import replay
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.effect import ArmTimer, CancelTimer, Effect, Withdraw
from socs_bl.core.event import EffectDone, Event, TimerFired
from socs_bl.core.machine import Machine
from socs_bl.core.memory_journal import MemoryJournal, Vault

MachineT = TypeVar("MachineT", bound=Machine)


class MachineBench(Generic[MachineT]):
    """One shell after the other.

    Parameters
    ----------
    kind : type of Machine
    notice : type
        The effect that tells people: it is delivered at once.
    now : float
        Wall clock and monotonic clock at the beginning.

    Attributes
    ----------
    to_do : dict
        What nobody has carried out, by id.
    timers : dict
        Those that are armed, and what they will say.
    notices : list
        What people were told.
    """

    def __init__(self, kind: type[MachineT], notice: type[Effect], now: float) -> None:
        self.kind, self.codec, self.notice, self.now = kind, Codec(kind), notice, now
        self.vault = Vault()
        self.notices: list[Any] = []

    def start(self, world: dict[str, Any]) -> None:
        """Begin, or begin again after a crash."""
        self.to_do: dict[str, Effect] = {}
        self.timers: dict[str, TimerFired] = {}
        self.driver = Driver(self.kind, self.codec, MemoryJournal(self.vault))
        self.driver.claim("test")
        self.say(self.driver.restart_event(world))

    @property
    def machine(self) -> MachineT:
        """The machine."""
        return self.driver.machine

    def say(self, *events: Event) -> tuple[Effect, ...]:
        """Step and commit a batch, check the invariants, note what is to be done; returns the effects."""
        prepared = self.driver.prepare([Caused(event) for event in events], Instant(self.now, self.now))
        self.driver.journal.commit(prepared.commit)
        self.machine.check()
        work = self.driver.committed(prepared.entries)
        for effect in work.local:
            if isinstance(effect, ArmTimer):
                self.timers[effect.name] = TimerFired(name=effect.name, generation=effect.generation)
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.name, None)
            elif isinstance(effect, Withdraw):
                self.to_do.pop(effect.effect, None)
        told = [effect for effect in work.perform if isinstance(effect, self.notice)]
        self.notices += told
        self.to_do |= {effect.id: effect for effect in work.perform if effect not in told}
        if told:
            self.say(*(EffectDone(effect=effect.id) for effect in told))
        return tuple(effect for entry in prepared.entries for effect in entry.effects)

    def fire(self, name: str) -> None:
        """A timer runs out, at its deadline."""
        self.now = max(self.now, self.machine.timers[name].deadline)
        self.say(self.timers.pop(name))

    def replayed(self) -> MachineT:
        """The machine that the journal gives."""
        journal = MemoryJournal(self.vault)
        return replay(self.kind, self.codec, journal.base(), journal.read())
