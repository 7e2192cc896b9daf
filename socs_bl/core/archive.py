"""Trimming a journal into archive files, and replaying either.

An archive file is JSON lines: a head with the base state, then one entry a line. It replays by itself.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from socs_bl.core.codec import Codec
from socs_bl.core.driver import restored
from socs_bl.core.errors import Faulty
from socs_bl.core.journal import Journal, Stored
from socs_bl.core.machine import Machine
from socs_bl.core.whole_file import write_whole

MachineT = TypeVar("MachineT", bound=Machine)


class Trimmed(NamedTuple):
    """What a trim did: the archive file (None when there was nothing to archive) and how many entries it took."""

    path: Path | None
    entries: int


class _Line(msgspec.Struct, frozen=True):
    sequence: int
    entry: msgspec.Raw


class _Head(msgspec.Struct, frozen=True):
    journal: str
    epoch: int
    sequence: int
    fields: dict[str, str]


def trim(journal: Journal, name: str, directory: Path) -> Trimmed:
    """Archive all entries so far and make the current state the base.

    The archive is complete on disk before the base moves, and the base has moved before anything is forgotten. After a
    crash in between, the next trim writes the same entries again (before the move) or has nothing left to archive.

    Parameters
    ----------
    journal : Journal
    name : str
        Goes into the file name: ``<name>-<first>-<last>.jsonl``, with ``/`` and ``:`` as ``-``.
    directory : Path
        Where archives are kept; made when missing.

    Raises
    ------
    OutOfSequence
        When an entry was committed meanwhile; trim again between two commits.
    """
    base = journal.base()
    current = journal.load().sequence
    entries = list(journal.read(base.sequence + 1, current))
    path = None
    if entries:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{archive_stem(name)}-{entries[0][0]:012d}-{entries[-1][0]:012d}.jsonl"
        write_archive(path, name, base, entries)
        journal.rebase(current)
    journal.forget(current)
    return Trimmed(path, len(entries))


def archive_stem(name: str) -> str:
    """What the names of a journal's archives begin with."""
    return name.replace("/", "-").replace(":", "-")


def write_archive(path: Path, name: str, base: Stored, entries: Iterable[tuple[int, bytes]]) -> None:
    """Write an archive file, whole or not at all."""
    fields = {key: base64.b64encode(value).decode() for key, value in base.fields.items()}
    lines = [msgspec.json.encode(_Head(name, base.epoch, base.sequence, fields))]
    lines += [msgspec.json.encode(_Line(sequence, msgspec.Raw(entry))) for sequence, entry in entries]
    write_whole(path, b"\n".join(lines) + b"\n")


def read_archive(path: Path) -> tuple[Stored, Iterator[tuple[int, bytes]]]:
    """Read an archive file: its base and its entries."""
    with path.open("rb") as file:
        lines = file.read().splitlines()
    head = msgspec.json.decode(lines[0], type=_Head)
    base = Stored(head.epoch, head.sequence, {key: base64.b64decode(value) for key, value in head.fields.items()})
    parsed = (msgspec.json.decode(line, type=_Line) for line in lines[1:])
    return base, ((line.sequence, bytes(line.entry)) for line in parsed)


def replay(
    factory: Callable[[], MachineT],
    codec: Codec,
    base: Stored,
    entries: Iterable[tuple[int, bytes]],
    until: int | None = None,
) -> MachineT:
    """Step a machine through recorded events and compare its effects with the recorded ones.

    Raises
    ------
    Faulty
        When the machine answers differently from what is recorded; the text names the sequence.
    """
    machine = restored(factory, codec, base)
    for sequence, data in entries:
        if until is not None and sequence > until:
            break
        entry = codec.decode(data)
        effects = tuple(machine.step(entry.envelope.event))
        if effects != entry.effects or machine.sequence != sequence:
            raise Faulty(
                f"entry {sequence}: today's machine answers {effects!r}, recorded is {entry.effects!r}", "journal"
            )
    machine.take_changes()
    return machine
