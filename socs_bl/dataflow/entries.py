"""What the catalogue holds, as records, and how it is asked."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from socs_bl.dataflow.model import CopyState, Digest, JobState, Seen


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file, wherever its copies are.

    Attributes
    ----------
    id : int
    name : str
    block : str
        Which kind of file.
    fields : dict
        Of its name.
    begins_ns : int or None
        By its name, Unix ns.
    size : int
        Bytes.
    metadata : dict
        What inspections have found.
    added_ns : int
        When it was complete and entered, Unix ns.
    parent : int or None
        The file it was made of,
    made_by : str
        and the stage that did.
    digests : dict
        Of its bytes, by algorithm.
    """

    id: int
    name: str
    block: str
    fields: dict[str, str]
    begins_ns: int | None
    size: int
    metadata: dict[str, str | int | float]
    added_ns: int
    parent: int | None
    made_by: str
    digests: dict[str, Digest]


class CopyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a file.

    Attributes
    ----------
    id, file : int
    store, path : str
    state : CopyState
    size, mtime_ns, inode : int
        As it was last seen.
    seen_ns, verified_ns : int
        Unix ns; 0: never verified.
    reason : str
        Why it is in this state; of a deleted copy its rule.
    """

    id: int
    file: int
    store: str
    path: str
    state: CopyState
    size: int
    mtime_ns: int
    inode: int
    seen_ns: int
    verified_ns: int
    reason: str

    @property
    def seen(self) -> Seen:
        """As it was last seen."""
        return Seen(self.store, self.path, self.size, self.mtime_ns, self.inode)


class JobEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage does with one file for one target.

    Attributes
    ----------
    id : int
    stage : str
    file : int
    target : str
        Empty for stages without targets.
    resource : str
        What it takes a share of.
    state : JobState
    priority : int
        The highest first,
    order_ns : int
        then the lowest of these.
    attempts : int
    due_ns : int
        When a retry is due, Unix ns.
    reason : str
    changed_ns : int
    """

    id: int
    stage: str
    file: int
    target: str
    resource: str
    state: JobState
    priority: int
    order_ns: int
    attempts: int
    due_ns: int
    reason: str
    changed_ns: int


class EventEntry(msgspec.Struct, frozen=True):
    """Something that happened to a file (or to the catalogue: file is None)."""

    id: int
    at_ns: int
    file: int | None
    what: str
    text: str


_JOB = ", ".join(JobEntry.__struct_fields__)
_COPY = ", ".join(CopyEntry.__struct_fields__)


class View:
    """The catalogue as it is at one moment.

    Parameters
    ----------
    connection : sqlite3.Connection
        In a transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def file(self, name: str) -> FileEntry | None:
        """The file of a name."""
        return self._file("name = ?", name)

    def file_of(self, number: int) -> FileEntry | None:
        """The file of an id."""
        return self._file("id = ?", number)

    def made_of(self, number: int) -> list[FileEntry]:
        """The files that were made of one."""
        rows = self._connection.execute("SELECT id FROM file WHERE parent = ? ORDER BY id", (number,)).fetchall()
        return [found for (made,) in rows if (found := self.file_of(made)) is not None]

    def copies(self, number: int) -> list[CopyEntry]:
        """All copies of a file."""
        rows = self._connection.execute(f"SELECT {_COPY} FROM copy WHERE file = ? ORDER BY id", (number,))
        return [_copy(row) for row in rows]

    def copy_at(self, store: str, path: str) -> CopyEntry | None:
        """What lies at a place, or did."""
        query = f"SELECT {_COPY} FROM copy WHERE store = ? AND path = ?"
        row = self._connection.execute(query, (store, os.fsencode(path))).fetchone()
        return _copy(row) if row else None

    def copies_in(self, store: str, unverified_since_ns: int, limit: int) -> list[CopyEntry]:
        """The copies in a store that were not verified since a time, the longest ago first."""
        query = (
            f"SELECT {_COPY} FROM copy WHERE store = ? AND verified_ns < ? AND state IN ('present', 'verified', 'suspect') "
            "ORDER BY verified_ns LIMIT ?"
        )
        return [_copy(row) for row in self._connection.execute(query, (store, unverified_since_ns, limit))]

    def known(self, store: str) -> dict[str, Seen]:
        """All that should be in a store, as it was last seen, by path: what a scan is compared with."""
        query = "SELECT path, size, mtime_ns, inode FROM copy WHERE store = ? AND state NOT IN ('deleted', 'delivered', 'missing')"
        rows = self._connection.execute(query, (store,))
        return {path: Seen(store, path, *rest) for raw, *rest in rows for path in (os.fsdecode(raw),)}

    def jobs(self, number: int) -> list[JobEntry]:
        """The jobs of a file."""
        rows = self._connection.execute(f"SELECT {_JOB} FROM job WHERE file = ? ORDER BY id", (number,))
        return [job_of(row) for row in rows]

    def job(self, number: int) -> JobEntry | None:
        """The job of an id."""
        row = self._connection.execute(f"SELECT {_JOB} FROM job WHERE id = ?", (number,)).fetchone()
        return job_of(row) if row else None

    def counts(self) -> dict[str, dict[str, int]]:
        """Jobs by stage and state."""
        found: dict[str, dict[str, int]] = {}
        for stage, state, count in self._connection.execute(
            "SELECT stage, state, count(*) FROM job GROUP BY stage, state"
        ):
            found.setdefault(stage, {})[state] = count
        return found

    def next_due_ns(self) -> int | None:
        """When the first retry is due."""
        (due,) = self._connection.execute("SELECT min(due_ns) FROM job WHERE state = 'retry'").fetchone()
        return None if due is None else int(due)

    def events(self, number: int | None = None, last: int = 1000) -> list[EventEntry]:
        """The last events, of a file or of all, the oldest first."""
        where, values = ("WHERE file = ?", (number, last)) if number is not None else ("", (last,))
        rows = self._connection.execute(
            f"SELECT id, at_ns, file, what, text FROM event {where} ORDER BY id DESC LIMIT ?", values
        ).fetchall()
        return [EventEntry(*row) for row in reversed(rows)]

    def files(self) -> Iterator[FileEntry]:
        """All files, by id."""
        for (number,) in self._connection.execute("SELECT id FROM file ORDER BY id").fetchall():
            found = self.file_of(number)
            if found is not None:
                yield found

    @property
    def sequence(self) -> int:
        """Number of the last transaction that changed something."""
        return int(self._meta("sequence"))

    @property
    def rebuilding(self) -> str:
        """Why the catalogue is not to be trusted yet; empty when it is."""
        return str(self._meta("rebuilding"))

    def _meta(self, key: str) -> Any:
        return self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]

    def _file(self, where: str, value: str | int) -> FileEntry | None:
        columns = "id, name, block, fields, begins_ns, size, metadata, added_ns, parent, made_by"
        row = self._connection.execute(f"SELECT {columns} FROM file WHERE {where}", (value,)).fetchone()
        if row is None:
            return None
        rows = self._connection.execute("SELECT algorithm, hex FROM digest WHERE file = ?", (row[0],))
        values = dict(zip(columns.split(", "), row, strict=True))
        values.update(fields=msgspec.json.decode(row[3]), metadata=msgspec.json.decode(row[6]))
        return FileEntry(**values, digests={algorithm: Digest(algorithm, text) for algorithm, text in rows})


def _copy(row: tuple[Any, ...]) -> CopyEntry:
    values = dict(zip(CopyEntry.__struct_fields__, row, strict=True))
    return CopyEntry(**{**values, "path": os.fsdecode(values["path"]), "state": CopyState(values["state"])})


def job_of(row: tuple[Any, ...]) -> JobEntry:
    """The record of a row with the columns of `JobEntry`, in their order."""
    values = dict(zip(JobEntry.__struct_fields__, row, strict=True))
    return JobEntry(**{**values, "state": JobState(values["state"])})
