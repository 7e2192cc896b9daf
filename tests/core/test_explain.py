"""Explanations follow causes back to the outside, whatever the room, and stay small."""

from __future__ import annotations

import msgspec
import pytest

from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.errors import Faulty
from socs_bl.core.event import EffectDone, EffectFailed, Event
from socs_bl.core.explain import LONGEST_CHAIN, explain
from socs_bl.core.memory_journal import MemoryJournal, Vault
from socs_bl.core.walk import walk
from tests.harness.toy import LampMachine, Light, Ordered, Seen

CODEC = Codec(LampMachine)


class Shell:
    """Feeds a machine; a second goes by with every event."""

    def __init__(self) -> None:
        self.vault = Vault()
        self.journal = MemoryJournal(self.vault)
        self.driver = Driver(LampMachine, CODEC, self.journal)
        self.driver.claim("test")
        self.say(self.driver.restart_event({}))

    def say(self, *events: Event, cause: str = "") -> None:
        """Commit a batch."""
        now = 1_800_000_000.0 + self.driver.machine.sequence
        prepared = self.driver.prepare([Caused(event, cause) for event in events], Instant(now, now))
        self.journal.commit(prepared.commit)

    def outstanding(self, kind: type) -> str:
        """The oldest effect of a kind that is not acknowledged."""
        return next(key for key, item in self.driver.machine.outstanding.items() if isinstance(item.effect, kind))


@pytest.fixture
def shell() -> Shell:
    """A lamp that was ordered, lit and seen, and one that failed."""
    shell = Shell()
    shell.say(Ordered(lamp="red"))
    light = shell.outstanding(Light)
    shell.say(Seen(lamp="red"), EffectDone(effect=light), cause=light)
    shell.say(Ordered(lamp="green"))
    light = shell.outstanding(Light)
    shell.say(EffectFailed(effect=light, reason="no current"), cause=light)
    return shell


def test_a_change_is_followed_back_to_the_outside(shell: Shell) -> None:
    """The newest change comes first, with its chain: the answer, the effect it answers, the order from outside."""
    story = explain(LampMachine, shell.journal, "lamp/red")
    assert [chapter.sequence for chapter in story.chapters] == [3, 2]
    seen, asked = story.chapters[0].chain
    assert seen.text == "Seen(lamp='red')"
    assert (asked.sequence, asked.text) == (
        2, "answers 2.1, Light(lamp='red'), asked for when Ordered(lamp='red')"
    )  # fmt: skip
    assert story.chapters[0].changes == ("lamp/red: state 'ordered' -> 'lit'",)
    assert story.standing == ("Lamp(name='red', state='lit', tries=1)",)
    assert "because [3]" in "\n".join(story.lines())


def test_effects_and_timers_are_subjects(shell: Shell) -> None:
    """An effect's id tells when it was asked for and what became of it; a timer's name likewise."""
    effect = explain(LampMachine, shell.journal, "5.1")
    assert [chapter.changes[0] for chapter in effect.chapters] == [
        "effect 5.1 settled: Light(lamp='green')",
        "effect 5.1 asked for: Light(lamp='green')",
    ]
    assert effect.chapters[0].chain[0].text == "effect 5.1 has failed: no current"
    timer = explain(LampMachine, shell.journal, "retry/red")
    assert [chapter.changes[0].split(",")[0] for chapter in timer.chapters] == [
        "timer retry/red no longer armed",
        "timer retry/red armed for 5 s",
    ]


def test_what_is_in_an_archive_is_said(shell: Shell) -> None:
    """A cause that was trimmed away is named; a subject without changes since says where to look."""
    shell.journal.rebase(6)
    shell.journal.forget(6)
    shell.say(Seen(lamp="green"), cause="5.1")
    story = explain(LampMachine, shell.journal, "lamp/green")
    assert [link.text for link in story.chapters[0].chain][1:] == ["comes from an entry that is in an archive"]
    assert "look into the archives" in explain(LampMachine, shell.journal, "lamp/red").lines()[-1]


def test_a_story_is_small(shell: Shell) -> None:
    """Endless causes and endless texts still fit a session's data."""
    for number in range(3 * LONGEST_CHAIN):
        sequence = shell.driver.machine.sequence
        shell.say(Ordered(lamp="x" * 5000 + str(number)), cause=str(sequence))
    shell.say(Seen(lamp="green"), cause=str(shell.driver.machine.sequence))
    story = explain(LampMachine, shell.journal, "lamp/green")
    assert len(story.chapters[0].chain) == LONGEST_CHAIN
    assert len(msgspec.json.encode(story)) < 100_000


def test_todays_software_may_differ(shell: Shell) -> None:
    """Entries that would be answered differently today are counted and told of; a hole in the journal is an error."""
    entries = dict(shell.journal.read())
    entries[2] = entries[2].replace(b"Fire", b"Light")
    steps = list(walk(LampMachine, CODEC, shell.journal.base(), entries.items()))
    assert [step.entry.envelope.sequence for step in steps if not step.faithful] == [2]
    shell.vault.entries = entries
    assert "1 entries were written by software" in explain(LampMachine, shell.journal, "lamp/red").lines()[-1]
    del entries[3]
    with pytest.raises(Faulty, match="from entry 2 to 4"):
        explain(LampMachine, shell.journal, "lamp/red")
