"""What every journal back end promises; subclasses give `open_journal`, which opens a new journal on the same store.

`JournalSuite` is for all, `RidingSuite` for those whose commits carry Redis commands, `SurvivorSuite` for those that
outlive a writer's process.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from socs_bl.core.errors import Refused
from socs_bl.core.journal import Commit, Fenced, Journal, OutOfSequence, Stored

Open = Callable[[], Journal]


def commit(epoch: int, first: int, *entries: bytes, **changes: bytes | None) -> Commit:
    return Commit(epoch, first, entries or (b"{}",), changes)


class JournalSuite:
    """Inherit and provide a fixture `open_journal` (a callable)."""

    def test_a_new_journal_is_empty(self, open_journal: Open) -> None:
        """A first claim gives epoch 1, sequence 0 and no state."""
        stored = open_journal().claim("a")
        assert (stored.epoch, stored.sequence, dict(stored.fields)) == (1, 0, {})

    def test_a_commit_survives_its_writer(self, open_journal: Open) -> None:
        """What is committed is there for the next writer: state, entries, sequence."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        journal.commit(commit(epoch, 1, b"one", b"two", x=b"1", y=b"\x00\xff"))
        journal.commit(commit(epoch, 3, b"three", x=None))
        journal.close()
        other = open_journal()
        stored = other.claim("b")
        assert (stored.epoch, stored.sequence, dict(stored.fields)) == (2, 3, {"y": b"\x00\xff"})
        assert list(other.read()) == [(1, b"one"), (2, b"two"), (3, b"three")]
        assert list(other.read(2, 2)) == [(2, b"two")]

    def test_an_old_epoch_is_fenced(self, open_journal: Open) -> None:
        """After a second writer's claim the first can change nothing."""
        first, second = open_journal(), open_journal()
        old = first.claim("a").epoch
        second.claim("b")
        with pytest.raises(Fenced):
            first.commit(commit(old, 1, b"late", x=b"1"))
        assert second.load().sequence == 0
        assert dict(second.load().fields) == {}

    @pytest.mark.parametrize("first", [0, 1, 3])
    def test_a_gap_or_a_repetition_is_refused_whole(self, open_journal: Open, first: int) -> None:
        """A commit that does not follow the last entry changes neither entries nor state."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        journal.commit(commit(epoch, 1, b"one", x=b"1"))
        with pytest.raises(OutOfSequence):
            journal.commit(Commit(epoch, first, (b"no",), {"x": b"2"}))
        assert dict(journal.load().fields) == {"x": b"1"}
        assert list(journal.read()) == [(1, b"one")]

    def test_trim_keeps_what_replays(self, open_journal: Open) -> None:
        """After rebase and forget the base is the state at its sequence and the entries after it are all there."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        journal.commit(commit(epoch, 1, b"one", b"two", x=b"1"))
        with pytest.raises(OutOfSequence):
            journal.rebase(1)
        base = journal.rebase(2)
        journal.commit(commit(epoch, 3, b"three", x=b"2"))
        assert journal.forget(3) == 2
        assert list(open_journal().read()) == [(3, b"three")]
        again = open_journal().base()
        assert (again.sequence, dict(again.fields)) == (2, {"x": b"1"}) == (base.sequence, dict(base.fields))
        assert dict(open_journal().load().fields) == {"x": b"2"}

    def test_a_large_batch_is_one_commit(self, open_journal: Open) -> None:
        """Thousands of entries and changes are still all or nothing."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        many = 3000
        changes = {f"cell:{n}": b"v%d" % n for n in range(many)}
        journal.commit(Commit(epoch, 1, tuple(b"e%d" % n for n in range(many)), changes))
        stored = journal.load()
        assert (stored.sequence, len(stored.fields)) == (many, many)
        assert sum(1 for _ in journal.read()) == many

    def test_two_writers_never_write_both(self, open_journal: Open) -> None:
        """Of two writers that claim in turn only the last one writes, and no entry is written twice."""
        first, second = open_journal(), open_journal()
        written = []
        for turn in range(4):
            claimed, other = (first, second) if turn % 2 else (second, first)
            stored = claimed.claim(f"turn {turn}")
            with pytest.raises((Fenced, OutOfSequence)):
                other.commit(commit(stored.epoch - 1, stored.sequence + 1, b"late"))
            claimed.commit(commit(stored.epoch, stored.sequence + 1, b"turn %d" % turn))
            written.append((stored.sequence + 1, b"turn %d" % turn))
        assert list(open_journal().read()) == written

    @pytest.mark.parametrize("kept", [0, 2])
    def test_a_refill_replaces_everything_and_fences(self, open_journal: Open, kept: int) -> None:
        """After a refill the journal holds the backup and nothing else; the old writer is out, the next goes on."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        journal.commit(commit(epoch, 1, *(b"old",) * 9, x=b"old", z=b"old"))
        journal.rebase(9)
        base, state = Stored(1, 5, {"x": b"1"}), Stored(7, 5 + kept, {"x": b"2", "y": b"\x00"})
        entries = [(number, b"new") for number in range(6, 6 + kept)]
        assert open_journal().refill(base, state, iter(entries)) == 8
        with pytest.raises(Fenced):
            journal.commit(commit(epoch, state.sequence + 1, b"late"))
        after = open_journal()
        stored = after.load()
        assert (stored.epoch, stored.sequence, dict(stored.fields)) == (8, state.sequence, dict(state.fields))
        assert (after.base().sequence, dict(after.base().fields)) == (5, {"x": b"1"})
        after.commit(commit(after.claim("b").epoch, state.sequence + 1, b"next"))
        assert list(after.read()) == [*entries, (state.sequence + 1, b"next")]

    def test_a_refill_that_fails_changes_nothing(self, open_journal: Open) -> None:
        """When the backup turns out to be damaged in the middle, everything is as it was."""

        def damaged() -> Iterator[tuple[int, bytes]]:
            yield 1, b"new"
            raise Refused("damaged")

        journal = open_journal()
        epoch = journal.claim("a").epoch
        journal.commit(commit(epoch, 1, b"one", x=b"1"))
        with pytest.raises(Refused, match="damaged"):
            open_journal().refill(Stored(0, 0, {}), Stored(1, 2, {"x": b"2"}), damaged())
        journal.commit(commit(epoch, 2, b"two"))
        assert dict(journal.load().fields) == {"x": b"1"}
        assert list(journal.read()) == [(1, b"one"), (2, b"two")]


class RidingSuite(JournalSuite):
    """For back ends whose commits carry Redis commands; `written` gives those carried out so far."""

    def test_writes_ride_in_order(self, open_journal: Open, written: Callable[[], list[tuple[str, ...]]]) -> None:
        """Riding commands take place with the commit, in their order."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        writes = (("SET", "k", "1"), ("PUBLISH", "c", "KEY=1"), ("SET", "k", "2"), ("LPUSH", "l", "é"))
        journal.commit(Commit(epoch, 1, (b"one",), {}, writes))
        assert [command for command in written() if command[0] != "PUBLISH"] == [w for w in writes if w[0] != "PUBLISH"]

    @pytest.mark.parametrize(
        "command", [("FLUSHALL",), ("EVAL", "x", "0"), ("GET", "k"), ("CONFIG", "SET", "dir", "/")]
    )
    def test_only_writes_may_ride(self, open_journal: Open, command: tuple[str, ...]) -> None:
        """A command that is no plain write is refused and nothing of its commit happens."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        with pytest.raises(Refused):
            journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}, (("SET", "k", "1"), command)))
        assert journal.load().sequence == 0

    def test_many_writes_ride_at_once(self, open_journal: Open) -> None:
        """Thousands of riding commands are still one commit."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        many = 3000
        journal.commit(Commit(epoch, 1, (b"one",), {}, tuple(("SET", f"k{n}", str(n)) for n in range(many))))
        assert journal.load().sequence == 1

    def test_nothing_rides_with_a_refused_commit(
        self, open_journal: Open, written: Callable[[], list[tuple[str, ...]]]
    ) -> None:
        """A commit that does not follow the last entry changes nothing in the world either."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        with pytest.raises(OutOfSequence):
            journal.commit(Commit(epoch, 2, (b"no",), {}, (("SET", "k", "2"),)))
        assert written() == []


WRITER = """
import sys
from socs_bl.core.journal import Commit
from socs_bl.services.journals import open_journal

journal = open_journal(sys.argv[1], sys.argv[2])
stored = journal.claim(sys.argv[3])
sequence = stored.sequence
while True:
    number = str(sequence + 2).encode()
    journal.commit(Commit(stored.epoch, sequence + 1, (b"a" * 3000, number), {"last": number, "pad": b"p" * 3000}))
    sequence += 2
    print(sequence, flush=True)
"""


class SurvivorSuite(JournalSuite):
    """For back ends that outlive a writer's process; provide `journal_url` and `journal_name`."""

    def test_a_killed_writer_leaves_whole_commits(
        self, open_journal: Open, journal_url: str, journal_name: str
    ) -> None:
        """SIGKILL at any moment of a commit: what was confirmed is there, the rest is there whole or not at all."""
        chance = random.Random(20261121)
        confirmed = 0
        for turn in range(4):
            argv = [sys.executable, "-c", WRITER, journal_url, journal_name, f"turn {turn}"]
            with subprocess.Popen(argv, stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                lines = [writer.stdout.readline() for _ in range(chance.randrange(1, 40))]
                writer.kill()
                lines += writer.stdout.readlines()
            confirmed = int([line for line in lines if line.endswith(b"\n")][-1])
            stored = open_journal().load()
            assert stored.epoch == turn + 1
            assert confirmed <= stored.sequence <= confirmed + 2 and stored.sequence % 2 == 0
            assert stored.fields["last"] == b"%d" % stored.sequence
        entries = list(open_journal().read())
        assert [number for number, _ in entries] == list(range(1, stored.sequence + 1))
        assert all(data == b"%d" % number for number, data in entries if number % 2 == 0)

    def test_of_two_processes_one_is_fenced(self, open_journal: Open, journal_url: str, journal_name: str) -> None:
        """A process that takes over from one that commits all the time ends it; their entries stand one after the other."""
        argv = [sys.executable, "-c", WRITER, journal_url, journal_name]
        with subprocess.Popen([*argv, "first"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
            assert first.stdout is not None and first.stdout.readline()
            with subprocess.Popen([*argv, "second"], stdout=subprocess.PIPE, text=True) as second:
                assert second.stdout is not None and second.stdout.readline()
                _, error = first.communicate(timeout=60)
                assert first.returncode == 1 and "Fenced" in error and "'second' writes in epoch 2" in error
                assert second.stdout.readline() and second.poll() is None
                second.kill()
        stored = open_journal().load()
        assert (stored.epoch, stored.fields["last"]) == (2, b"%d" % stored.sequence)
        assert [number for number, _ in open_journal().read()] == list(range(1, stored.sequence + 1))
