"""Backups are of one moment, restore to the same, and show the place of every damage; retention removes nothing needed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from socs_bl.core.archive import trim
from socs_bl.core.backup import (
    MAGIC,
    read_backup,
    read_head,
    restore,
    verify,
    verify_journal,
    write_backup,
)
from socs_bl.core.errors import Faulty, Refused
from socs_bl.core.journal import Stored
from socs_bl.core.memory_journal import MemoryJournal
from socs_bl.core.retention import Archived, Retention, archives, expired, prune
from tests.core.test_explain import Shell
from tests.harness.toy import LampMachine, Ordered, Seen

NOW = 1_800_000_000.0


def filled(lamps: int = 6) -> Shell:
    """A journal with a snapshot in the middle and something left to do."""
    shell = Shell()
    for number in range(lamps):
        shell.say(Ordered(lamp=f"lamp{number}"))
        if number == 2:
            sequence = shell.driver.machine.sequence
            shell.journal.rebase(sequence)
            shell.journal.forget(sequence)
        if number % 2:
            shell.say(Seen(lamp=f"lamp{number}"))
    return shell


def contents(journal: MemoryJournal) -> tuple[object, ...]:
    """All a journal holds but its epoch."""
    base, state = journal.base(), journal.load()
    return base.sequence, dict(base.fields), state.sequence, dict(state.fields), list(journal.read())


def test_a_restored_journal_is_the_same_and_goes_on(tmp_path: Path) -> None:
    """Backup, restore into an empty journal, verify: base, state and entries are the same; the next writer goes on."""
    shell = filled()
    head = write_backup(shell.journal, "lamps", tmp_path / "x.backup", NOW)
    assert (head.journal, head.written) == ("lamps", NOW) and read_head(tmp_path / "x.backup") == head
    other = MemoryJournal()
    assert restore(other, tmp_path / "x.backup") == (head, shell.journal.load().epoch + 1)
    assert contents(other) == contents(shell.journal)
    base, state = verify_journal(LampMachine, other)
    assert (base.sequence, state.sequence) == (head.base[1], head.state[1])
    shell.journal = shell.driver.journal = other
    shell.driver.claim("next")
    shell.say(Seen(lamp="lamp0"))
    assert other.load().sequence == head.state[1] + 1


def test_a_full_journal_is_not_overwritten_by_mistake(tmp_path: Path) -> None:
    """Restoring over something is refused unless it is asked for."""
    write_backup(filled(2).journal, "lamps", tmp_path / "x", NOW)
    shell = filled(4)
    before = contents(shell.journal)
    with pytest.raises(Refused, match="holds .* entries already.*--replace"):
        restore(shell.journal, tmp_path / "x")
    assert contents(shell.journal) == before
    restore(shell.journal, tmp_path / "x", replace=True)
    assert contents(shell.journal) == contents(filled(2).journal)


def test_any_damaged_byte_is_found_and_placed(tmp_path: Path) -> None:
    """Whatever byte is changed, cut off or added, the backup is refused, and the text says where; nothing is restored."""
    path = tmp_path / "x"
    write_backup(filled().journal, "lamps", path, NOW)
    whole = path.read_bytes()
    chance = random.Random(1)
    places = {len(MAGIC), len(whole) - 1, *chance.sample(range(len(MAGIC), len(whole)), 150)}
    for place in sorted(places):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
        with pytest.raises(Faulty, match=r"is damaged: the frame at byte \d+") as caught:
            read_backup(path)
        offset = int(str(caught.value).split("at byte ")[1].split()[0])
        assert offset <= place
    for data in (*(whole[:place] for place in sorted(places)), whole + b"\0"):
        path.write_bytes(data)
        with pytest.raises(Faulty, match="at byte"):
            restore(MemoryJournal(), path)
    path.write_bytes(b"SOCSBLJ2" + whole[8:])
    with pytest.raises(Refused, match="newer format"):
        read_backup(path)
    path.write_bytes(b"something else")
    with pytest.raises(Refused, match="no backup of a journal"):
        read_backup(path)


def test_a_swapped_frame_is_found(tmp_path: Path) -> None:
    """Frames that are whole but stand elsewhere do not pass: the sum at the end is of all."""
    path = tmp_path / "x"
    one, two = tmp_path / "one", tmp_path / "two"
    write_backup(filled().journal, "lamps", one, NOW)
    write_backup(filled().journal, "other", two, NOW)
    size = len(two.read_bytes()) - len(one.read_bytes())
    assert size == 0
    path.write_bytes(two.read_bytes()[:200] + one.read_bytes()[200:])
    with pytest.raises(Faulty, match="does not fit what stands before"):
        read_backup(path)


class TrimmedMeanwhile(MemoryJournal):
    """Somebody trims it just when its state has been read for the first time."""

    trims = 1

    def load(self) -> Stored:
        """Read the current state; then the entries go."""
        stored = super().load()
        if self.trims:
            self.trims -= 1
            self.rebase(stored.sequence)
            self.forget(stored.sequence)
        return stored


def test_a_trim_in_between_begins_the_backup_again(tmp_path: Path) -> None:
    """When entries go between the reading of the state and theirs, the next try is whole; a real hole is an error."""
    shell = filled()
    head = write_backup(TrimmedMeanwhile(shell.vault), "lamps", tmp_path / "x", NOW)
    assert head.base == head.state == (1, shell.driver.machine.sequence)
    assert read_backup(tmp_path / "x").head == head
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    shell.say(Ordered(lamp="one"))
    shell.say(Ordered(lamp="two"))
    del shell.vault.entries[head.state[1] + 1]
    with pytest.raises(Faulty, match=f"no entry {head.state[1] + 1}"):
        write_backup(shell.journal, "lamps", tmp_path / "y", NOW)
    verify_later = TrimmedMeanwhile(filled().vault)
    assert verify_journal(LampMachine, verify_later)[0].sequence == verify_later.load().sequence


def test_a_state_that_is_not_what_the_entries_give_is_found(tmp_path: Path) -> None:
    """Verify names the part that differs, and the entry that today's machine answers differently."""
    shell = filled()
    base, state = shell.journal.base(), shell.journal.load()
    entries = dict(shell.journal.read())
    wrong = Stored(state.epoch, state.sequence, {**state.fields, "cell:lamp/lamp0": state.fields["cell:lamp/lamp1"]})
    with pytest.raises(Faulty, match="cell lamp/lamp0 differs: replayed .*'ordered'"):
        verify(LampMachine, base, wrong, iter(entries.items()))
    last = max(entries)
    del entries[last]
    with pytest.raises(Faulty, match=f"end at {last - 1}, the state is of {last}"):
        verify(LampMachine, base, state, iter(entries.items()))


def archive(first: int, days: float, size: int = 1_000_000) -> Archived:
    """An archive of 10 entries, so many days old."""
    return Archived(Path(f"{first}.jsonl"), first, first + 9, size, NOW - 86400 * days)


def test_archives_go_by_age_and_size_oldest_first() -> None:
    """What is older or too much goes, with the rule that allows it; without a limit nothing goes."""
    found = [archive(1, 30), archive(11, 20), archive(21, 10), archive(31, 1)]
    by_age = expired(found, 40, Retention(days=15), NOW)
    assert [item.archive.first for item in by_age] == [1, 11]
    assert by_age[0].rule == "older than 15 days, and the snapshot is at entry 40"
    by_size = expired(found, 40, Retention(megabytes=1.5), NOW)
    assert [item.archive.first for item in by_size] == [1, 11, 21]
    assert "1.5 MB" in by_size[0].rule
    assert expired(found, 40, Retention(), NOW) == []


def test_what_a_replay_needs_stays() -> None:
    """An archive with entries after the snapshot stays, and so does everything after one that stays."""
    found = [archive(1, 30), archive(11, 30), archive(21, 30)]
    assert [item.archive.first for item in expired(found, 15, Retention(days=1, megabytes=0.1), NOW)] == [1]
    found = [archive(1, 30), archive(11, 0), archive(21, 30)]
    assert [item.archive.first for item in expired(found, 30, Retention(days=1), NOW)] == [1]


def test_only_this_journals_archives_are_pruned(tmp_path: Path) -> None:
    """Files of other journals and of people stay; a trim's own files are found under the journal's name."""
    shell = filled()
    for number in range(3):
        shell.say(Ordered(lamp=f"more{number}"))
        trim(shell.journal, "lamps:1/x", tmp_path)
    for name in ("notes.jsonl", "lamps-1-x-y-000000000001-000000000002.jsonl", "lamps-1-x-1-2.jsonl"):
        (tmp_path / name).touch()
    found = archives(tmp_path, "lamps:1/x")
    assert len(found) == 3 and found[-1].last == shell.journal.base().sequence
    gone = prune(tmp_path, "lamps:1/x", found[-1].last, Retention(megabytes=1e-9), NOW)
    assert [item.archive for item in gone] == found
    assert len(list(tmp_path.iterdir())) == 3
