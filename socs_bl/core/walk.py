"""Walking through a journal: each entry with what it changed in the state.

An entry holds the event and the effects; what it changed comes from stepping a machine through the events again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from socs_bl.core.codec import Codec, Entry, Part, split_key
from socs_bl.core.driver import restored
from socs_bl.core.errors import Faulty
from socs_bl.core.journal import Stored
from socs_bl.core.machine import Machine

MachineT = TypeVar("MachineT", bound=Machine)


class Change(NamedTuple):
    """One part of the state before and after an entry; None where there was or is nothing.

    Attributes
    ----------
    table : str
        ``cell``, ``timer`` or ``effect``.
    key : str
    before, after : Cell or Timer or Outstanding or None
    """

    table: str
    key: str
    before: Part | None
    after: Part | None


class Step(NamedTuple):
    """An entry, what it changed, and whether today's machine still answers it as recorded."""

    entry: Entry
    changes: tuple[Change, ...]
    faithful: bool


def walk(
    factory: Callable[[], MachineT], codec: Codec, base: Stored, entries: Iterable[tuple[int, bytes]]
) -> Iterator[Step]:
    """Step a machine from `base` through `entries`.

    Unlike `socs_bl.core.archive.replay` it goes on when the software answers differently today, and says so, since who
    asks what happened wants to be told all the same.

    Raises
    ------
    Faulty
        When an entry is missing or out of place.
    """
    machine = restored(factory, codec, base)
    parts = {split_key(field): codec.decode_part(split_key(field)[0], data) for field, data in base.fields.items()}
    for sequence, data in entries:
        if sequence != machine.sequence + 1:
            raise Faulty(
                f"the journal goes from entry {machine.sequence} to {sequence}; restore it from its backup", "journal"
            )
        entry = codec.decode(data)
        effects = tuple(machine.step(entry.envelope.event))
        changes = []
        for (table, key), after in machine.take_changes().items():
            before = parts.get((table, key))
            if before != after:
                changes.append(Change(table, key, before, after))
            if after is None:
                parts.pop((table, key), None)
            else:
                parts[table, key] = after
        yield Step(entry, tuple(changes), effects == entry.effects)
