"""The machine: what decides. One entrance, no clock, no randomness, no I/O.

A room derives its machine from `Machine`, keeps everything it must remember in cells (frozen records under a key),
and answers events in `handle`, `done`, `failed`, `fired` and `restarted` by changing cells, arming timers and issuing
effects. Outstanding effects and timers are part of the state. The same events give the same state and the same
effects, always.

A machine whose state is also kept under keys of somebody else (a projection) answers `take_projection`, which the shell
asks once a commit; the keys are no effects of single events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from socs_bl.core.clock import Instant
from socs_bl.core.effect import ArmTimer, CancelTimer, Delivery, Effect, Withdraw, effect_order
from socs_bl.core.event import EffectAttempted, EffectDone, EffectFailed, Event, Restarted, TimerFired


class Cell(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Base of the records a machine's state is made of."""


class Timer(msgspec.Struct, frozen=True, gc=False):
    """A running timer: wall deadline and full duration, so that a restart can arm what is left of it."""

    name: str
    generation: int
    deadline: float
    duration: float


class Outstanding(msgspec.Struct, frozen=True, gc=False):
    """An effect that is committed and not acknowledged."""

    effect: Effect
    attempted: bool = False


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
Command = tuple[str, ...]

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
        self._changed_cells: set[str] = set()
        self._changed_timers: set[str] = set()
        self._changed_effects: set[str] = set()
        self._lanes: dict[str, dict[str, Effect]] = {}

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
        entrance = _ENTRANCES.get(type(event))
        if entrance is None:
            self.handle(event)
        else:
            entrance(self, event)
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

    def rebuild(self) -> None:  # noqa: B027 - only machines with indexes need it
        """Make indexes anew from the cells; called after a restore."""

    def take_projection(self) -> list[Command]:
        """Redis commands that make the keys of a projection agree with the state.

        Returns
        -------
        list of tuple of str
            For what has been touched since the last call; of everything, once, after a `Restarted`. They ride in the
            commit behind the writes of its events, and are not part of the journal's entries.
        """
        return []

    # -- what a room uses -----------------------------------------------------------------------------------------

    def issue(self, effect: Effect, lane: str = "", after: Iterable[str] = ()) -> str:
        """Issue an effect of the current event and return its id."""
        identity = f"{self.sequence}.{len(self._issued)}"
        lane = lane or effect.lane
        issued = msgspec.structs.replace(effect, id=identity, lane=lane, after=tuple(after) or effect.after)
        self._issued.append(issued)
        if issued.delivery not in _NEVER_OUTSTANDING:
            self.outstanding[identity] = Outstanding(issued)
            self._changed_effects.add(identity)
            self._enter(issued)
        return identity

    def withdraw(self, identity: str) -> None:
        """Take back an effect that is still outstanding."""
        if self._settle(identity) is not None:
            self.issue(Withdraw(effect=identity))

    def outstanding_of(self, kind: type[EffectT], lane: str | None = None) -> list[EffectT]:
        """Outstanding effects of one class, oldest first; with `lane`, only those of that lane, which costs less."""
        if lane is not None:
            return [effect for effect in self._lanes.get(lane, {}).values() if isinstance(effect, kind)]
        found = [item.effect for item in self.outstanding.values() if isinstance(item.effect, kind)]
        return sorted(found, key=lambda effect: effect_order(effect.id))

    def arm(self, name: str, seconds: float) -> None:
        """Arm a timer, replacing one of the same name. Its wall deadline is stored with the state."""
        timer = Timer(name, self.sequence, self.now.wall + seconds, seconds)
        self.timers[name] = timer
        self._changed_timers.add(name)
        self.issue(ArmTimer(name=name, generation=timer.generation, seconds=seconds))

    def cancel(self, name: str) -> None:
        """Cancel a timer if it is armed."""
        if name in self.timers:
            self._drop_timer(name)
            self.issue(CancelTimer(name=name))

    def put(self, key: str, cell: Cell) -> None:
        """Write a cell. It is committed also when it says what it said before: to compare costs more than to write."""
        self.cells[key] = cell
        self._changed_cells.add(key)

    def drop(self, key: str) -> None:
        """Remove a cell if it is there."""
        if self.cells.pop(key, None) is not None:
            self._changed_cells.add(key)

    def get(self, key: str, kind: type[CellT]) -> CellT | None:
        """Read a cell that may be missing."""
        cell = self.cells.get(key)
        return cell if isinstance(cell, kind) else None

    # -- what the shell uses --------------------------------------------------------------------------------------

    def take_changes(self) -> dict[tuple[str, str], Cell | Timer | Outstanding | None]:
        """What has changed since the last call, by (``cell`` | ``timer`` | ``effect``, key); None for what is gone."""
        changes: dict[tuple[str, str], Cell | Timer | Outstanding | None] = {}
        for key in sorted(self._changed_cells):
            changes["cell", key] = self.cells.get(key)
        for key in sorted(self._changed_effects):
            changes["effect", key] = self.outstanding.get(key)
        for key in sorted(self._changed_timers):
            changes["timer", key] = self.timers.get(key)
        self._forget_changes()
        return changes

    def restore(self, sequence: int, parts: Mapping[tuple[str, str], Cell | Timer | Outstanding]) -> None:
        """Take over a stored state; the opposite of `take_changes` since the beginning."""
        self.sequence = sequence
        self.cells, self.timers, self.outstanding, self._lanes = {}, {}, {}, {}
        for (_, key), part in parts.items():
            if isinstance(part, Timer):
                self.timers[key] = part
            elif isinstance(part, Outstanding):
                self.outstanding[key] = part
            else:
                self.cells[key] = part
        for identity in sorted(self.outstanding, key=effect_order):
            self._enter(self.outstanding[identity].effect)
        self._forget_changes()
        self.rebuild()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _forget_changes(self) -> None:
        self._changed_cells.clear()
        self._changed_timers.clear()
        self._changed_effects.clear()

    def _drop_timer(self, name: str) -> None:
        del self.timers[name]
        self._changed_timers.add(name)

    def _enter(self, effect: Effect) -> None:
        """Note an outstanding effect under its lane."""
        lane = self._lanes.get(effect.lane)
        if lane is None:
            self._lanes[effect.lane] = {effect.id: effect}
        else:
            lane[effect.id] = effect

    def _settle(self, identity: str) -> Effect | None:
        item = self.outstanding.pop(identity, None)
        if item is None:
            return None
        self._changed_effects.add(identity)
        effect = item.effect
        lane = self._lanes[effect.lane]
        del lane[identity]
        if not lane:
            del self._lanes[effect.lane]
        return effect

    def _attempted(self, event: EffectAttempted) -> None:
        item = self.outstanding.get(event.effect)
        if item is not None:
            self.outstanding[event.effect] = Outstanding(item.effect, attempted=True)
            self._changed_effects.add(event.effect)

    def _done(self, event: EffectDone) -> None:
        settled = self._settle(event.effect)
        if settled is not None:
            self.done(settled)

    def _failed(self, event: EffectFailed) -> None:
        settled = self._settle(event.effect)
        if settled is not None:
            self.failed(settled, event.reason, event.unknown)

    def _fired(self, event: TimerFired) -> None:
        timer = self.timers.get(event.name)
        if timer is not None and timer.generation == event.generation:
            self._drop_timer(event.name)
            self.fired(event.name)

    def _restart(self, event: Restarted) -> None:
        """Deal with outstanding effects, re-arm timers for what is left of them, then let the room reconcile."""
        for identity in sorted(self.outstanding, key=effect_order):
            item = self.outstanding.get(identity)
            if item is None:  # taken back because of one before it
                continue
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


_NEVER_OUTSTANDING = (Delivery.RIDES, Delivery.LOCAL)
_ENTRANCES: dict[type[Event], Callable[[Machine, Any], None]] = {
    EffectAttempted: Machine._attempted,
    EffectDone: Machine._done,
    EffectFailed: Machine._failed,
    TimerFired: Machine._fired,
    Restarted: Machine._restart,
}
