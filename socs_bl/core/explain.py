"""Why is it so? The last entries of a journal that changed something, each with its causes back to the outside.

A `Teller` puts entries and changes into words; the one here knows no room and shows names and fields. Rooms derive their
own (`socs_bl.commensal.story`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from socs_bl.core.clock import iso_utc
from socs_bl.core.codec import Codec, Entry, Part
from socs_bl.core.driver import restored
from socs_bl.core.effect import Effect
from socs_bl.core.event import EffectAttempted, EffectDone, EffectFailed, Event, Restarted, TimerFired
from socs_bl.core.journal import Journal
from socs_bl.core.machine import Machine, Outstanding, Timer
from socs_bl.core.walk import Change, Step, walk

MachineT = TypeVar("MachineT", bound=Machine)

CHAPTERS = 5  # changes told of, the newest ones
LONGEST_CHAIN = 20
MOST_CHANGES = 20  # told of one entry
LONGEST_TEXT = 300  # characters; with the limits above a story stays under 100 kB
CORE_EVENTS = (EffectAttempted, EffectDone, EffectFailed, TimerFired, Restarted)


class Link(msgspec.Struct, frozen=True):
    """One entry of a chain of causes.

    Attributes
    ----------
    sequence : int
    time : float
        Unix time at which it was taken in, seconds.
    text : str
        What happened, and for all but the first of a chain what followed from it.
    """

    sequence: int
    time: float
    text: str


class Chapter(msgspec.Struct, frozen=True):
    """One entry that changed the subject.

    Attributes
    ----------
    sequence, time
        Of the entry.
    changes : tuple of str
        What it changed.
    said : tuple of str
        What people were told with it.
    chain : tuple of Link
        The entry itself, then what it comes from, back to the outside.
    """

    sequence: int
    time: float
    changes: tuple[str, ...]
    said: tuple[str, ...]
    chain: tuple[Link, ...]


class Story(msgspec.Struct, frozen=True):
    """Why something is as it is.

    Attributes
    ----------
    subject : str
    standing : tuple of str
        How it stands now.
    chapters : tuple of Chapter
        The last entries that changed it, the newest first.
    sequence : int
        Where the journal ends.
    first : int
        The oldest entry that was looked at; older ones are in archives.
    unlike : int
        How many entries today's software would answer differently; what is told of their changes may be wrong.
    """

    subject: str
    standing: tuple[str, ...]
    chapters: tuple[Chapter, ...]
    sequence: int
    first: int
    unlike: int = 0

    def lines(self) -> list[str]:
        """As text, a line each."""
        lines = [f"{self.subject}: {text}" for text in self.standing]
        for chapter in self.chapters:
            lines.append(f"entry {chapter.sequence}, {iso_utc(chapter.time)}")
            lines += [f"  {text}" for text in chapter.changes]
            lines += [f"  said: {text}" for text in chapter.said]
            for number, link in enumerate(chapter.chain):
                word = "because" if number == 0 else "  which"
                lines.append(f"    {word} [{link.sequence}] {iso_utc(link.time)[11:]} {link.text}")
        if not self.chapters:
            lines.append(f"nothing in entries {self.first} to {self.sequence} has changed it; look into the archives")
        if self.unlike:
            lines.append(f"{self.unlike} entries were written by software that answered them differently")
        return lines


class Teller(Generic[MachineT]):
    """Puts what is in a journal into words. Rooms override what they can say better."""

    def concerns(self, machine: MachineT, subject: str) -> Callable[[Change], bool]:
        """Which changes a subject is about: by default the cell, timer or effect of that name.

        Raises
        ------
        Refused
            When a room knows that there is no such thing.
        """
        return lambda change: change.key == subject

    def standing(self, machine: MachineT, subject: str) -> list[str]:
        """How the subject stands now."""
        found = (machine.cells.get(subject), machine.timers.get(subject), machine.outstanding.get(subject))
        return [self.part(part) for part in found if part is not None] or ["is not in the present state"]

    def event(self, event: Event) -> str:
        """What happened."""
        match event:
            case TimerFired():
                return f"timer {event.name} ran out"
            case EffectDone():
                return f"effect {event.effect} was done"
            case EffectAttempted():
                return f"effect {event.effect} was about to be carried out"
            case EffectFailed():
                return f"effect {event.effect} {'may have' if event.unknown else 'has'} failed: {event.reason}"
            case Restarted():
                return f"the agent started (writer epoch {event.epoch})"
        return show(event)

    def effect(self, effect: Effect) -> str:
        """What was to be done."""
        return show(effect)

    def change(self, change: Change) -> str:
        """What became different."""
        if isinstance(change.before or change.after, Outstanding):
            return self._outstanding(change)
        if isinstance(change.before or change.after, Timer):
            return self._timer(change)
        return f"{change.key}: {self.difference(change.before, change.after)}"

    def said(self, effect: Effect) -> str:
        """What an effect tells people; empty when it does something else."""
        return ""

    def part(self, part: Part) -> str:
        """A part of the state."""
        return show(part)

    def difference(self, before: Part | None, after: Part | None) -> str:
        """How a part has changed, field by field."""
        if before is None or after is None or type(before) is not type(after):
            return f"is gone (was {self.part(before)})" if before and not after else f"is {self.part(after)}"  # type: ignore[arg-type]
        old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
        return ", ".join(f"{name} {old[name]!r} -> {new[name]!r}" for name in new if old[name] != new[name])

    def _outstanding(self, change: Change) -> str:
        if change.before is None and isinstance(change.after, Outstanding):
            return f"effect {change.key} asked for: {self.effect(change.after.effect)}"
        if change.after is None and isinstance(change.before, Outstanding):
            return f"effect {change.key} settled: {self.effect(change.before.effect)}"
        return f"effect {change.key} attempted"

    def _timer(self, change: Change) -> str:
        if isinstance(change.after, Timer):
            return f"timer {change.key} armed for {change.after.duration:g} s, until {iso_utc(change.after.deadline)}"
        return f"timer {change.key} no longer armed"


def explain(
    factory: Callable[[], MachineT],
    journal: Journal,
    subject: str,
    teller: Teller[MachineT] | None = None,
    chapters: int = CHAPTERS,
) -> Story:
    """Tell why something is as it is, from its journal alone. Blocks while it reads the journal.

    Parameters
    ----------
    factory : callable
        Makes an empty machine of the class that the journal is of.
    journal : Journal
        Only read; its writer goes on meanwhile.
    subject : str
        A name that the teller knows; effect ids (``118.2``) and keys of cells and timers always work.
    teller : Teller, optional
    chapters : int
        How many entries are told of at most.

    Returns
    -------
    Story
        Under 100 kB of text.

    Raises
    ------
    Refused
        When there is no such subject.
    Retry, Faulty
        When the journal cannot be read.
    """
    words: Teller[MachineT] = teller or Teller()
    codec = Codec(type(factory()))
    stored = journal.load()
    machine = restored(factory, codec, stored)
    concerns = words.concerns(machine, subject)
    base = journal.base()
    kept: deque[Step] = deque(maxlen=chapters)
    unlike = 0
    for step in walk(factory, codec, base, journal.read(base.sequence + 1, stored.sequence)):
        unlike += not step.faithful
        changes = tuple(change for change in step.changes if concerns(change))
        if changes:
            kept.append(step._replace(changes=changes))
    told = [_chapter(step, codec, journal, words) for step in reversed(kept)]
    standing = tuple(cut(text) for text in words.standing(machine, subject)[:MOST_CHANGES])
    return Story(subject, standing, tuple(told), stored.sequence, base.sequence + 1, unlike)


def _chapter(step: Step, codec: Codec, journal: Journal, words: Teller[Any]) -> Chapter:
    envelope = step.entry.envelope
    said = (words.said(effect) for effect in step.entry.effects)
    return Chapter(
        envelope.sequence,
        envelope.event.at.wall,
        tuple(cut(words.change(change)) for change in step.changes[:MOST_CHANGES]),
        tuple(cut(text) for text in itertools.islice(filter(None, said), MOST_CHANGES)),
        tuple(chain(step.entry, codec, journal, words)),
    )


def chain(entry: Entry, codec: Codec, journal: Journal, words: Teller[Any]) -> Sequence[Link]:
    """An entry and what it comes from, back to what came from outside or is in an archive."""
    links = [_link(entry, words.event(entry.envelope.event))]
    while entry.envelope.cause and len(links) < LONGEST_CHAIN:
        sequence, dot, _ = entry.envelope.cause.partition(".")
        found = next(iter(journal.read(int(sequence), int(sequence))), None)
        if found is None:
            links.append(Link(int(sequence), 0.0, "comes from an entry that is in an archive"))
            break
        cause, before = codec.decode(found[1]), entry
        happened = words.event(cause.envelope.event)
        if dot:
            asked = next((effect for effect in cause.effects if effect.id == before.envelope.cause), None)
            what = words.effect(asked) if asked is not None else "it"
            links.append(_link(cause, f"answers {before.envelope.cause}, {what}, asked for when {happened}"))
        else:
            links.append(_link(cause, f"was set when {happened}"))
        entry = cause
    return links


def _link(entry: Entry, text: str) -> Link:
    return Link(entry.envelope.sequence, entry.envelope.event.at.wall, cut(text))


def show(record: Any) -> str:
    """A record as its class and the fields that say something."""
    fields = msgspec.structs.asdict(record)
    shown = (
        f"{name}={value!r:.80}" for name, value in fields.items() if name not in ("at", "id", "lane", "after") and value
    )
    return f"{type(record).__name__}({', '.join(shown)})"


def cut(text: str) -> str:
    """A text of at most `LONGEST_TEXT` characters."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 4] + " ..."
