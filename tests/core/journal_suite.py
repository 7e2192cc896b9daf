"""What every journal back end promises; subclasses give `open_journal`, which opens a new journal on the same store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from socs_bl.core.errors import Refused
from socs_bl.core.journal import Commit, Fenced, Journal, OutOfSequence

Open = Callable[[], Journal]


def commit(epoch: int, first: int, *entries: bytes, **changes: bytes | None) -> Commit:
    return Commit(epoch, first, entries or (b"{}",), changes)


class JournalSuite:
    """Inherit and provide a fixture `open_journal` (a callable) and `written` (riding commands carried out so far)."""

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
        """A commit that does not follow the last entry changes neither entries nor state nor the world."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        journal.commit(commit(epoch, 1, b"one", x=b"1"))
        with pytest.raises(OutOfSequence):
            journal.commit(Commit(epoch, first, (b"no",), {"x": b"2"}, (("SET", "k", "2"),)))
        assert dict(journal.load().fields) == {"x": b"1"}
        assert list(journal.read()) == [(1, b"one")]

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
        """Thousands of entries, changes and writes are still all or nothing."""
        journal = open_journal()
        epoch = journal.claim("a").epoch
        many = 3000
        changes = {f"cell:{n}": b"v%d" % n for n in range(many)}
        writes = tuple(("SET", f"k{n}", str(n)) for n in range(many))
        journal.commit(Commit(epoch, 1, tuple(b"e%d" % n for n in range(many)), changes, writes))
        stored = journal.load()
        assert (stored.sequence, len(stored.fields)) == (many, many)
        assert sum(1 for _ in journal.read()) == many
