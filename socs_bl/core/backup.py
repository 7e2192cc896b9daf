"""A journal in one file: snapshot, entries and present state, with checksums that find the place of a damage.

The file, version 1: the magic bytes ``SOCSBLJ1``, then frames. A frame is its length and the CRC-32 of its content, each
a 32-bit big-endian number, and the content: a MessagePack array, the first element of which is its kind::

    ["head", {"journal", "written", "base": [epoch, sequence], "state": [epoch, sequence]}]
    ["base", field, value]       one a field of the state from which the entries replay
    ["entry", sequence, data]    in order, without gaps
    ["state", field, value]      one a field of the present state
    ["end", frames, sha256]      how many frames came before, and the SHA-256 of all bytes before this frame
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import msgspec

from socs_bl.core.archive import replay
from socs_bl.core.codec import Codec
from socs_bl.core.driver import restored
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.journal import Journal, Stored
from socs_bl.core.machine import Machine
from socs_bl.core.whole_file import open_whole

MachineT = TypeVar("MachineT", bound=Machine)

MAGIC = b"SOCSBLJ1"
LARGEST_FRAME = 1 << 30  # bytes; a length above this is a damaged one
TRIES = 5  # a journal that is trimmed while it is read is read again
_PREFIX = struct.Struct(">II")


class Head(msgspec.Struct, frozen=True):
    """What a backup is of.

    Attributes
    ----------
    journal : str
        Its name.
    written : float
        Unix time, seconds.
    base, state : tuple of (int, int)
        Epoch and sequence of the snapshot and of the present state.
    """

    journal: str
    written: float
    base: tuple[int, int]
    state: tuple[int, int]

    @property
    def entries(self) -> int:
        """How many entries it holds."""
        return self.state[1] - self.base[1]


class Backup(NamedTuple):
    """A backup that was read: its head, the snapshot and the present state. The entries are in the file."""

    head: Head
    base: Stored
    state: Stored


# -- writing ----------------------------------------------------------------------------------------------------------


class _Writer:
    """Frames into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self._frames = 0
        self._write(MAGIC)

    def _write(self, data: bytes) -> None:
        self._sum.update(data)
        self._file.write(data)

    def frame(self, *content: Any) -> None:
        """Append one."""
        data = msgspec.msgpack.encode(content)
        self._write(_PREFIX.pack(len(data), zlib.crc32(data)) + data)
        self._frames += 1

    def end(self) -> None:
        """Append the last one."""
        self.frame("end", self._frames, self._sum.digest())


def write_backup(journal: Journal, name: str, path: Path, now: float) -> Head:
    """Write a journal into a file, whole or not at all. Its writer may go on meanwhile.

    The state is read at one moment; the entries up to it do not change any more. When the journal is trimmed in between
    it is begun again.

    Parameters
    ----------
    journal : Journal
    name : str
        Of the journal, for who reads the backup.
    path : Path
    now : float
        Unix time, seconds.

    Raises
    ------
    Retry
        When the journal cannot be read, or is being trimmed all the time.
    OSError
        When the file cannot be written.
    """
    for _ in range(TRIES):
        base, state = journal.base(), journal.load()
        head = Head(name, now, (base.epoch, base.sequence), (state.epoch, state.sequence))
        try:
            with open_whole(path) as file:
                writer = _Writer(file)
                writer.frame("head", head)
                for field, value in base.fields.items():
                    writer.frame("base", field, value)
                for sequence, data in _entries(journal, base.sequence, state.sequence):
                    writer.frame("entry", sequence, data)
                for field, value in state.fields.items():
                    writer.frame("state", field, value)
                writer.end()
        except _Trimmed:
            continue
        return head
    raise Retry(f"journal {name} is trimmed while it is read; try again")


class _Trimmed(Exception):
    """Entries that were to be read are gone."""


def _entries(journal: Journal, base: int, last: int) -> Iterator[tuple[int, bytes]]:
    """The entries after the base, without a gap."""
    read = base
    for sequence, data in journal.read(base + 1, last):
        if sequence != read + 1:
            break
        yield sequence, data
        read = sequence
    if read == last:
        return
    if journal.base().sequence != base:
        raise _Trimmed
    raise Faulty(f"the journal has no entry {read + 1}; restore it from an older backup", "journal")


# -- reading ----------------------------------------------------------------------------------------------------------


def _frames(path: Path) -> Iterator[tuple[int, list[Any]]]:
    """Offset and content of each frame, checked, the last one left out.

    Raises
    ------
    Faulty
        When the file is damaged; the text names the byte.
    Refused
        When it is no backup, or one of newer software.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            newer = magic[:-1] == MAGIC[:-1]
            raise Refused(
                f"{path} is {'a backup of a newer format; update the software' if newer else 'no backup of a journal'}"
            )
        total, offset, count = hashlib.sha256(magic), len(MAGIC), 0
        while True:
            prefix = file.read(_PREFIX.size)
            length, checksum = _PREFIX.unpack(prefix) if len(prefix) == _PREFIX.size else (0, 0)
            data = file.read(length) if length <= LARGEST_FRAME else b""
            if not length or len(data) < length or zlib.crc32(data) != checksum:
                raise _damaged(
                    path, offset, "is cut off" if len(data) < length or not length else "has a wrong checksum"
                )
            content = msgspec.msgpack.decode(data)
            if content[0] == "end":
                if (content[1], content[2]) != (count, total.digest()) or file.read(1):
                    raise _damaged(path, offset, "does not fit what stands before or after it")
                return
            total.update(prefix + data)
            yield offset, content
            offset, count = offset + len(prefix) + len(data), count + 1


def _damaged(path: Path, offset: int, what: str) -> Faulty:
    return Faulty(f"{path} is damaged: the frame at byte {offset} {what}; use another backup", str(path))


def read_head(path: Path) -> Head:
    """What a backup is of; only its beginning is read."""
    for offset, content in _frames(path):
        if content[0] == "head":
            return msgspec.convert(content[1], Head)
        raise _damaged(path, offset, "is no head")
    raise _damaged(path, len(MAGIC), "is no head")


def read_backup(path: Path) -> Backup:
    """Read and check a whole backup.

    Raises
    ------
    Faulty
        When it is damaged or incomplete; the text names the byte.
    Refused
        When it is no backup.
    OSError
        When it cannot be read.
    """
    head = read_head(path)
    fields: dict[str, dict[str, bytes]] = {"base": {}, "state": {}}
    sequence = head.base[1]
    for offset, (kind, *content) in _frames(path):
        if kind == "entry":
            sequence += 1
            if content[0] != sequence:
                raise _damaged(path, offset, f"is entry {content[0]}, not {sequence}")
        elif kind in fields:
            fields[kind][content[0]] = content[1]
        elif kind != "head":
            raise _damaged(path, offset, f"is of an unknown kind {kind!r}")
    if sequence != head.state[1]:
        raise Faulty(
            f"{path} is damaged: its entries end at {sequence}, not {head.state[1]}; use another backup", str(path)
        )
    return Backup(head, Stored(*head.base, fields["base"]), Stored(*head.state, fields["state"]))


def backup_entries(path: Path) -> Iterator[tuple[int, bytes]]:
    """The entries of a backup, read as they are asked for."""
    for _, content in _frames(path):
        if content[0] == "entry":
            yield content[1], content[2]


def restore(journal: Journal, path: Path, replace: bool = False) -> tuple[Head, int]:
    """Fill a journal from a backup, all or nothing; a writer of before is fenced.

    Returns
    -------
    head : Head
    epoch : int
        The journal's new epoch.

    Raises
    ------
    Refused
        When the journal holds something and `replace` is not given. Nothing has changed.
    Faulty
        When the backup is damaged. Nothing has changed.
    """
    backup = read_backup(path)
    stored = journal.load()
    if (stored.sequence or stored.fields) and not replace:
        raise Refused(f"the journal holds {stored.sequence} entries already; back it up, then use --replace")
    return backup.head, journal.refill(backup.base, backup.state, backup_entries(path))


# -- checking ---------------------------------------------------------------------------------------------------------


def verify(
    factory: Callable[[], MachineT], base: Stored, state: Stored, entries: Iterator[tuple[int, bytes]]
) -> MachineT:
    """Replay entries and compare the outcome with the stored state.

    Returns
    -------
    Machine
        The replayed one.

    Raises
    ------
    Faulty
        When the machine answers an entry differently, an entry is missing, or the state differs; the text names the
        entry or the part.
    """
    codec = Codec(type(factory()))
    replayed = replay(factory, codec, base, entries)
    if replayed.sequence != state.sequence:
        raise Faulty(f"the entries end at {replayed.sequence}, the state is of {state.sequence}", "journal")
    stored = restored(factory, codec, state)
    for table, ours, theirs in (
        ("cell", replayed.cells, stored.cells),
        ("timer", replayed.timers, stored.timers),
        ("effect", replayed.outstanding, stored.outstanding),
    ):
        unlike = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if unlike:
            raise Faulty(
                f"{table} {unlike[0]} differs: replayed {ours.get(unlike[0])!r:.200}, stored "
                f"{theirs.get(unlike[0])!r:.200} ({len(unlike)} differ)",
                "journal",
            )
    return replayed


def verify_journal(factory: Callable[[], MachineT], journal: Journal) -> tuple[Stored, Stored]:
    """Verify a journal in use; its base and the state that was verified.

    Raises
    ------
    Faulty
        As `verify`.
    Retry
        When the journal cannot be read, or is being trimmed all the time.
    """
    for _ in range(TRIES):
        base, state = journal.base(), journal.load()
        try:
            verify(factory, base, state, _entries(journal, base.sequence, state.sequence))
        except _Trimmed:
            continue
        return base, state
    raise Retry("the journal is trimmed while it is read; try again")
