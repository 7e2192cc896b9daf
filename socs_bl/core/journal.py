"""The journal: where events and what they changed rest before anything is carried out.

Every back end keeps, under one name: the entries (sequence to bytes, without gaps), the current state (field to
bytes), the base (the state at the sequence after which the kept entries begin) and the writer epoch. A commit is all
or nothing. Back ends: `socs_bl.core.memory_journal` for tests and simulations, `socs_bl.services.redis_journal` where
another host may take over, `socs_bl.services.sqlite_journal` where the machine is at home on one host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from socs_bl.core.effect import WRITE_VERBS
from socs_bl.core.errors import Refused, Retry


class Fenced(Refused):
    """Another writer has claimed the journal since; this one must stop writing."""


class OutOfSequence(Refused):
    """The commit does not follow the last entry; reload from the journal."""


class CommitUnknown(Retry):
    """The connection was lost during the commit; reload from the journal to learn what happened."""


class Commit(msgspec.Struct, frozen=True):
    """One event, or a batch, and what it changed.

    Attributes
    ----------
    epoch : int
        Epoch of the writer.
    first : int
        Sequence of the first entry; it must be the last stored one plus 1.
    entries : tuple of bytes
        At least one.
    changes : mapping of str to bytes or None
        Fields of the state to write; None removes one.
    writes : tuple of tuple of str
        Redis commands that ride in the commit, in order. Only a journal on Redis carries them; one in a file refuses a
        commit that has any.
    """

    epoch: int
    first: int
    entries: tuple[bytes, ...]
    changes: Mapping[str, bytes | None]
    writes: tuple[tuple[str, ...], ...] = ()

    @property
    def last(self) -> int:
        """Sequence of the last entry."""
        return self.first + len(self.entries) - 1


class Stored(msgspec.Struct, frozen=True):
    """A state at rest: the epoch and sequence it belongs to, and its fields."""

    epoch: int
    sequence: int
    fields: Mapping[str, bytes]


class Listed(NamedTuple):
    """One of the journals that a server or file holds: its name, writer and epoch, its end, and where its base is."""

    name: str
    epoch: int
    writer: str
    sequence: int
    base: int


class Journal(Protocol):
    """What every back end does. All calls block; shells make them in a thread.

    Errors: `Fenced`, `OutOfSequence` and `CommitUnknown` as described; `Retry` when the server does not answer and
    nothing was asked of it that could have happened.
    """

    def claim(self, writer: str) -> Stored:
        """Become the writer: raise the epoch by one, remember `writer`, and return the current state."""

    def load(self) -> Stored:
        """Read the current state and epoch together."""

    def commit(self, commit: Commit) -> None:
        """Write a commit, all or nothing."""

    def read(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Read entries in order, `first` and `last` included."""

    def base(self) -> Stored:
        """Read the state from which the kept entries replay (sequence 0 and no fields at the beginning)."""

    def rebase(self, sequence: int) -> Stored:
        """Make the current state the base, atomically, and return it; entries stay.

        Raises `OutOfSequence`, changing nothing, when the current sequence is not `sequence`.
        """

    def forget(self, last: int) -> int:
        """Remove entries up to and including `last`, at most up to the base; return how many."""

    def refill(self, base: Stored, state: Stored, entries: Iterable[tuple[int, bytes]]) -> int:
        """Replace all it holds by a backup, all or nothing; return the new epoch.

        The epoch rises above those of the backup and of what was there, so that a writer of before is fenced.
        """

    def close(self) -> None:
        """Release connections."""


def check_writes(writes: Sequence[Sequence[str]]) -> None:
    """Raise Refused when a riding command is not one of the allowed verbs."""
    for command in writes:
        if len(command) < 2 or command[0].upper() not in WRITE_VERBS:
            raise Refused(f"{command[:2]!r} may not ride in a commit; allowed are {', '.join(sorted(WRITE_VERBS))}")
