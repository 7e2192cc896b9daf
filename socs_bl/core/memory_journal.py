"""The journal in memory, for tests and simulations.

The `Vault` is what would be on disk: it survives the `MemoryJournal` objects that writers open on it, so a simulated
crash drops the journal and keeps the vault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from socs_bl.core.journal import Commit, CommitUnknown, Fenced, OutOfSequence, Stored, check_writes


class Vault:
    """The stored side of a memory journal.

    Attributes
    ----------
    entries : dict of int to bytes
    fields : dict of str to bytes
    writes : list of tuple of str
        Every riding command ever committed, in order.
    on_write : callable or None
        Called with each riding command, so that a simulated Redis can carry it out.
    """

    def __init__(self, on_write: Callable[[tuple[str, ...]], None] | None = None) -> None:
        self.entries: dict[int, bytes] = {}
        self.fields: dict[str, bytes] = {}
        self.base = Stored(0, 0, {})
        self.epoch = 0
        self.writer = ""
        self.sequence = 0
        self.writes: list[tuple[str, ...]] = []
        self.on_write = on_write
        self.lose_answer = False


class MemoryJournal:
    """A journal on a `Vault`; see `socs_bl.core.journal.Journal`.

    Setting ``vault.lose_answer`` makes the next commit succeed and raise `CommitUnknown`, as a broken connection does.
    """

    def __init__(self, vault: Vault | None = None) -> None:
        self.vault = vault or Vault()

    def claim(self, writer: str) -> Stored:
        """Become the writer."""
        self.vault.epoch += 1
        self.vault.writer = writer
        return self.load()

    def load(self) -> Stored:
        """Read the current state."""
        return Stored(self.vault.epoch, self.vault.sequence, dict(self.vault.fields))

    def commit(self, commit: Commit) -> None:
        """Write a commit, all or nothing."""
        vault = self.vault
        check_writes(commit.writes)
        if commit.epoch != vault.epoch:
            raise Fenced(f"epoch {commit.epoch} is over: {vault.writer!r} writes in epoch {vault.epoch}")
        if commit.first != vault.sequence + 1:
            raise OutOfSequence(f"commit begins at {commit.first}, the journal ends at {vault.sequence}; reload")
        for number, entry in enumerate(commit.entries, commit.first):
            vault.entries[number] = entry
        vault.sequence = commit.last
        for field, value in commit.changes.items():
            if value is None:
                vault.fields.pop(field, None)
            else:
                vault.fields[field] = value
        for command in commit.writes:
            vault.writes.append(command)
            if vault.on_write is not None:
                vault.on_write(command)
        if vault.lose_answer:
            vault.lose_answer = False
            raise CommitUnknown("the answer of the commit was lost; reload from the journal")

    def read(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Read entries in order."""
        end = self.vault.sequence if last is None else min(last, self.vault.sequence)
        for number in range(first, end + 1):
            if number in self.vault.entries:
                yield number, self.vault.entries[number]

    def base(self) -> Stored:
        """Read the base."""
        return self.vault.base

    def rebase(self, sequence: int) -> Stored:
        """Make the current state the base, if it still is the one of `sequence`."""
        if sequence != self.vault.sequence:
            raise OutOfSequence(f"the journal is at {self.vault.sequence}, not {sequence}; trim again")
        self.vault.base = self.load()
        return self.vault.base

    def forget(self, last: int) -> int:
        """Remove entries up to `last`, at most up to the base."""
        gone = [number for number in self.vault.entries if number <= min(last, self.vault.base.sequence)]
        for number in gone:
            del self.vault.entries[number]
        return len(gone)

    def refill(self, base: Stored, state: Stored, entries: Iterable[tuple[int, bytes]]) -> int:
        """Replace all it holds; return the new epoch."""
        kept = dict(entries)
        vault = self.vault
        vault.entries, vault.fields, vault.base = kept, dict(state.fields), base
        vault.sequence, vault.epoch, vault.writer = state.sequence, max(vault.epoch, state.epoch) + 1, "restore"
        return vault.epoch

    def close(self) -> None:
        """Nothing to release."""
