"""The machine: what decides. One entrance, no clock, no randomness, no I/O.

A room derives its machine from `Machine`, keeps everything it must remember in cells (frozen records under a key),
and answers events in `handle`, `done`, `failed`, `fired` and `restarted` by changing cells, arming timers and issuing
effects. Outstanding effects and timers are part of the state. The same events give the same state and the same
effects, always.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from socs_bl.core.clock import Instant
from socs_bl.core.effect import ArmTimer, CancelTimer, Delivery, Effect, Withdraw, effect_order
from socs_bl.core.event import EffectAttempted, EffectDone, EffectFailed, Event, Restarted, TimerFired


class Cell(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of the records a machine's state is made of."""


class Timer(msgspec.Struct, frozen=True):
    """A running timer: wall deadline and full duration, so that a restart can arm what is left of it."""

    name: str
    generation: int
    deadline: float
    duration: float


class Outstanding(msgspec.Struct, frozen=True):
    """An effect that is committed and not acknowledged."""

    effect: Effect
    attempted: bool = False


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

CellT = TypeVar("CellT", bound=Cell)
EffectT = TypeVar("EffectT", bound=Effect)


class Machine(ABC):
    """Base of all machines.

    Class attributes say what the codec must know: `schema` (version), `event_types`, `effect_types`, `cell_types`, and
    for journals of older schemas `entry_upcasters` and `part_upcasters` (from version n, the key, to n + 1; for entries
    and for parts of the state).

    Attributes
    ----------
    sequence : int
        Number of events stepped since the journal began.
    cells : dict of str to Cell
        The state proper. Write it with `put` and `drop` only, so that the change is committed.
    timers : dict of str to Timer
        Running timers by name.
    outstanding : dict of str to Outstanding
        Committed, unacknowledged effects by id.
    """

    schema: ClassVar[int] = 1
    event_types: ClassVar[tuple[type[Event], ...]] = ()
    effect_types: ClassVar[tuple[type[Effect], ...]] = ()
    cell_types: ClassVar[tuple[type[Cell], ...]] = ()
    entry_upcasters: ClassVar[Mapping[int, Upcaster]] = {}
    part_upcasters: ClassVar[Mapping[int, Upcaster]] = {}

    def __init__(self) -> None:
        self.sequence = 0
        self.cells: dict[str, Cell] = {}
        self.timers: dict[str, Timer] = {}
        self.outstanding: dict[str, Outstanding] = {}
        self.now = Instant()
        self._issued: list[Effect] = []
        self._changed: set[tuple[str, str]] = set()

    # -- the entrance ---------------------------------------------------------------------------------------------

    def step(self, event: Event) -> list[Effect]:
        """Take in one event and say what is to be done.

        Parameters
        ----------
        event : Event
            What happened, with the time in ``event.at``.

        Returns
        -------
        list of Effect
            In order, with their ids.
        """
        self.sequence += 1
        self.now = event.at
        self._issued = []
        match event:
            case EffectAttempted():
                self._attempted(event.effect)
            case EffectDone():
                settled = self._settle(event.effect)
                if settled is not None:
                    self.done(settled)
            case EffectFailed():
                settled = self._settle(event.effect)
                if settled is not None:
                    self.failed(settled, event.reason, event.unknown)
            case TimerFired():
                timer = self.timers.get(event.name)
                if timer is not None and timer.generation == event.generation:
                    self._drop_timer(event.name)
                    self.fired(event.name)
            case Restarted():
                self._restart(event)
            case _:
                self.handle(event)
        self.conclude()
        issued, self._issued = self._issued, []
        return issued

    # -- what a room implements -----------------------------------------------------------------------------------

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Answer an event of the room."""

    @abstractmethod
    def check(self) -> None:
        """Raise AssertionError, saying what is wrong, when an invariant does not hold."""

    def done(self, effect: Effect) -> None:  # noqa: B027 - most machines decide on the answers, not on the receipt
        """An effect has been carried out."""

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:  # noqa: B027 - likewise
        """An effect has failed, or nobody knows whether it happened."""

    def fired(self, name: str) -> None:  # noqa: B027 - a machine without timers has nothing to say
        """A timer has run out."""

    def restarted(self, event: Restarted) -> None:  # noqa: B027 - a machine may have nothing to reconcile
        """The shell is back; outstanding effects have been dealt with by `keep` before this is called."""

    def keep(self, outstanding: Outstanding, event: Restarted) -> Effect | None:
        """After a restart: what to do about an outstanding effect.

        Returns
        -------
        Effect or None
            The effect itself to repeat it under its old id, another one (without id) to replace it, None to drop it.
        """
        return outstanding.effect

    def conclude(self) -> None:  # noqa: B027 - only machines with projections need it
        """Last in every step: issue what follows from the state as a whole, such as projections of it."""

    def rebuild(self) -> None:  # noqa: B027 - only machines with indexes need it
        """Make indexes anew from the cells; called after a restore."""

    # -- what a room uses -----------------------------------------------------------------------------------------

    def issue(self, effect: Effect, lane: str = "", after: Iterable[str] = ()) -> str:
        """Issue an effect of the current event and return its id."""
        identity = f"{self.sequence}.{len(self._issued)}"
        issued = msgspec.structs.replace(
            effect, id=identity, lane=lane or effect.lane, after=tuple(after) or effect.after
        )
        self._issued.append(issued)
        if issued.delivery not in (Delivery.RIDES, Delivery.LOCAL):
            self.outstanding[identity] = Outstanding(issued)
            self._changed.add(("effect", identity))
        return identity

    def withdraw(self, identity: str) -> None:
        """Take back an effect that is still outstanding."""
        if self.outstanding.pop(identity, None) is not None:
            self._changed.add(("effect", identity))
            self.issue(Withdraw(effect=identity))

    def outstanding_of(self, kind: type[EffectT]) -> list[EffectT]:
        """Outstanding effects of one class, oldest first."""
        found = [item.effect for item in self.outstanding.values() if isinstance(item.effect, kind)]
        return sorted(found, key=lambda effect: effect_order(effect.id))

    def arm(self, name: str, seconds: float) -> None:
        """Arm a timer, replacing one of the same name. Its wall deadline is stored with the state."""
        timer = Timer(name, self.sequence, self.now.wall + seconds, seconds)
        self.timers[name] = timer
        self._changed.add(("timer", name))
        self.issue(ArmTimer(name=name, generation=timer.generation, seconds=seconds))

    def cancel(self, name: str) -> None:
        """Cancel a timer if it is armed."""
        if name in self.timers:
            self._drop_timer(name)
            self.issue(CancelTimer(name=name))

    def put(self, key: str, cell: Cell) -> None:
        """Write a cell."""
        if self.cells.get(key) != cell:
            self.cells[key] = cell
            self._changed.add(("cell", key))

    def drop(self, key: str) -> None:
        """Remove a cell if it is there."""
        if self.cells.pop(key, None) is not None:
            self._changed.add(("cell", key))

    def get(self, key: str, kind: type[CellT]) -> CellT | None:
        """Read a cell that may be missing."""
        cell = self.cells.get(key)
        return cell if isinstance(cell, kind) else None

    # -- what the shell uses --------------------------------------------------------------------------------------

    def take_changes(self) -> dict[tuple[str, str], Cell | Timer | Outstanding | None]:
        """What has changed since the last call, by (``cell`` | ``timer`` | ``effect``, key); None for what is gone."""
        tables: dict[str, Mapping[str, Cell | Timer | Outstanding]] = {
            "cell": self.cells,
            "timer": self.timers,
            "effect": self.outstanding,
        }
        changes = {(table, key): tables[table].get(key) for table, key in sorted(self._changed)}
        self._changed.clear()
        return changes

    def restore(self, sequence: int, parts: Mapping[tuple[str, str], Cell | Timer | Outstanding]) -> None:
        """Take over a stored state; the opposite of `take_changes` since the beginning."""
        self.sequence = sequence
        self.cells, self.timers, self.outstanding = {}, {}, {}
        for (_, key), part in parts.items():
            if isinstance(part, Timer):
                self.timers[key] = part
            elif isinstance(part, Outstanding):
                self.outstanding[key] = part
            else:
                self.cells[key] = part
        self._changed.clear()
        self.rebuild()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _drop_timer(self, name: str) -> None:
        del self.timers[name]
        self._changed.add(("timer", name))

    def _attempted(self, identity: str) -> None:
        item = self.outstanding.get(identity)
        if item is not None:
            self.outstanding[identity] = Outstanding(item.effect, attempted=True)
            self._changed.add(("effect", identity))

    def _settle(self, identity: str) -> Effect | None:
        item = self.outstanding.pop(identity, None)
        if item is None:
            return None
        self._changed.add(("effect", identity))
        return item.effect

    def _restart(self, event: Restarted) -> None:
        """Deal with outstanding effects, re-arm timers for what is left of them, then let the room reconcile."""
        for identity in sorted(self.outstanding, key=effect_order):
            item = self.outstanding[identity]
            if item.effect.delivery is Delivery.ONCE and item.attempted:
                self._settle(identity)
                self.failed(item.effect, "the shell stopped after the attempt; nobody knows whether it happened", True)
                continue
            kept = self.keep(item, event)
            if kept is item.effect:
                self._issued.append(kept)  # its id and its place among the outstanding stay as they are
            else:
                self._settle(identity)
                if kept is not None:
                    self.issue(kept)
        for timer in sorted(self.timers.values(), key=lambda timer: (timer.deadline, timer.name)):
            left = min(max(timer.deadline - event.at.wall, 0.0), timer.duration)
            self.issue(ArmTimer(name=timer.name, generation=timer.generation, seconds=left))
        self.restarted(event)
