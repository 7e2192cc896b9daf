"""The part of a shell that needs no reactor: step, commit, and what may be carried out next.

The Twisted shell (`socs_bl.agentkit.runner`) and the simulation drive the same `Driver`, so that what is simulated is
what runs. One commit is in flight at a time; the caller makes the blocking journal call between `prepare` and
`committed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec, Entry, Part, join_key, split_key, stamp
from socs_bl.core.effect import ArmTimer, CancelTimer, Delivery, Effect, StoreWrites, Withdraw
from socs_bl.core.event import EffectAttempted, EffectDone, EffectFailed, Envelope, Event, Restarted
from socs_bl.core.journal import Commit, Journal, Stored
from socs_bl.core.lanes import Lanes
from socs_bl.core.machine import Machine

MachineT = TypeVar("MachineT", bound=Machine)


class Caused(NamedTuple):
    """An event and what it comes from: an effect id, a sequence, or nothing."""

    event: Event
    cause: str = ""


class Prepared(NamedTuple):
    """A commit that waits to be written, and the entries it is made of."""

    commit: Commit
    entries: tuple[Entry, ...]


class Work(NamedTuple):
    """What the shell has to do after a commit.

    Attributes
    ----------
    perform : list of Effect
        Effects to carry out now.
    local : list of Effect
        Timers to arm or cancel and effects to take back.
    events : list of Caused
        Events to step next: attempts that must be journaled before the effect is carried out.
    """

    perform: list[Effect]
    local: list[Effect]
    events: list[Caused]


class Driver(Generic[MachineT]):
    """A machine, its journal and its lanes.

    Parameters
    ----------
    factory : callable
        Makes an empty machine.
    codec : Codec
        Of that machine's class.
    journal : Journal
        Where commits go.
    """

    def __init__(self, factory: Callable[[], MachineT], codec: Codec, journal: Journal) -> None:
        self.factory = factory
        self.codec = codec
        self.journal = journal
        self.machine = factory()
        self.epoch = 0
        self.lanes = Lanes()
        self._attempted: set[str] = set()

    def claim(self, writer: str) -> None:
        """Become the writer and take over the stored state. Blocks; call it in a thread."""
        stored = self.journal.claim(writer)
        self.epoch = stored.epoch
        self.restore(stored)

    def reload(self) -> None:
        """Take over the stored state again, after a refusal or an unknown outcome. Blocks."""
        self.restore(self.journal.load())

    def restore(self, stored: Stored) -> None:
        """Replace the machine by the stored one."""
        self.machine = restored(self.factory, self.codec, stored)

    def restart_event(self, world: Mapping[str, Any]) -> Restarted:
        """The event to step first after `claim`."""
        return Restarted(epoch=self.epoch, outstanding=tuple(self.machine.outstanding), world=world)

    def prepare(self, events: Sequence[Caused], now: Instant) -> Prepared:
        """Step the machine with a batch and make the commit. The machine runs ahead of the journal until `committed`."""
        first = self.machine.sequence + 1
        entries: list[Entry] = []
        writes: list[tuple[str, ...]] = []
        for event, cause in events:
            stamped = stamp(event, now)
            effects = self.machine.step(stamped)
            envelope = Envelope(
                schema=self.codec.schema, sequence=self.machine.sequence, epoch=self.epoch, cause=cause, event=stamped
            )
            entries.append(Entry(envelope, tuple(effects)))
            writes.extend(
                command for effect in effects if isinstance(effect, StoreWrites) for command in effect.commands
            )
        writes.extend(self.machine.take_projection())
        changes = {
            join_key(table, key): None if part is None else self.codec.encode_part(part)
            for (table, key), part in self.machine.take_changes().items()
        }
        encoded = tuple(self.codec.encode(entry) for entry in entries)
        return Prepared(Commit(self.epoch, first, encoded, changes, tuple(writes)), tuple(entries))

    def committed(self, entries: Sequence[Entry]) -> Work:
        """The commit is written: settle what it acknowledges, queue its effects, say what to do."""
        local: list[Effect] = []
        for entry in entries:
            event = entry.envelope.event
            if isinstance(event, EffectDone | EffectFailed):
                self._settle(event.effect)
            elif isinstance(event, EffectAttempted):
                self._attempted.add(event.effect)
            for effect in entry.effects:
                if isinstance(effect, Withdraw):
                    self._settle(effect.effect)
                    local.append(effect)
                elif isinstance(effect, ArmTimer | CancelTimer):
                    local.append(effect)
                elif effect.delivery is not Delivery.RIDES:
                    self.lanes.add([effect])
        return self._start(entries, local)

    def _settle(self, identity: str) -> None:
        self.lanes.settle(identity)
        self._attempted.discard(identity)

    def _start(self, entries: Sequence[Entry], local: list[Effect]) -> Work:
        perform: list[Effect] = []
        attempts: list[Caused] = []
        for entry in entries:
            event = entry.envelope.event
            if isinstance(event, EffectAttempted) and event.effect in self.machine.outstanding:
                perform.append(self.machine.outstanding[event.effect].effect)
        for effect in self.lanes.start():
            if effect.delivery is Delivery.ONCE and effect.id not in self._attempted:
                attempts.append(Caused(EffectAttempted(effect=effect.id), effect.id))
            else:
                perform.append(effect)
        return Work(perform, local, attempts)


def restored(factory: Callable[[], MachineT], codec: Codec, stored: Stored) -> MachineT:
    """A machine with a stored state."""
    parts: dict[tuple[str, str], Part] = {}
    for field, data in stored.fields.items():
        table, key = split_key(field)
        parts[table, key] = codec.decode_part(table, data)
    machine = factory()
    machine.restore(stored.sequence, parts)
    return machine
