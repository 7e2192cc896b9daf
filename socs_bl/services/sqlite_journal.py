"""The journal in an SQLite file: state and entries change in one transaction that is on the disk when it returns.

The file is in write-ahead mode with ``synchronous`` at FULL, so a commit that was confirmed survives a power cut (SQLite
documentation, "PRAGMA synchronous"). One file can hold several journals. It belongs on a local disk: write-ahead mode
does not work over a network file system (SQLite documentation, "Write-Ahead Logging").

Redis commands cannot ride in such a commit, since nothing makes two stores change together. A commit that carries some
is refused whole; a machine that issues `socs_bl.core.effect.StoreWrites` wants a journal on Redis.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.journal import Commit, CommitUnknown, Fenced, Listed, OutOfSequence, Stored, check_writes

BUSY_TIMEOUT = 5.0  # seconds to wait for another process that writes into the same file
READ_CHUNK = 500  # entries fetched at a time
LARGEST_WAL = 64 << 20  # bytes the write-ahead file keeps after a checkpoint
FORMAT = 1  # PRAGMA user_version

_TABLES = """
CREATE TABLE IF NOT EXISTS journal (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL DEFAULT 0, claim TEXT NOT NULL DEFAULT '',
  writer TEXT NOT NULL DEFAULT '', sequence INTEGER NOT NULL DEFAULT 0,
  base_epoch INTEGER NOT NULL DEFAULT 0, base_sequence INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS entry (
  journal INTEGER NOT NULL, sequence INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (journal, sequence));
CREATE TABLE IF NOT EXISTS state (
  journal INTEGER NOT NULL, field TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (journal, field)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS base (
  journal INTEGER NOT NULL, field TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (journal, field)) WITHOUT ROWID;
"""


class SqliteJournal:
    """A journal in an SQLite file; see `socs_bl.core.journal.Journal`. Its calls block; any thread may make them.

    Parameters
    ----------
    path : Path
        The file; made, with its directory, when missing.
    name : str
        Which journal in it, such as ``socs_bl:recorder:blpn64/0``.
    timeout : float
        Seconds to wait for another process that writes into the file.
    """

    def __init__(self, path: Path, name: str, timeout: float = BUSY_TIMEOUT) -> None:
        self.path = path
        self.name = name
        self._timeout = timeout
        self._claim = ""
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._id = 0

    def claim(self, writer: str) -> Stored:
        """Become the writer: raise the epoch by one, remember `writer`, and return the current state."""
        claim = uuid.uuid4().hex
        with self._writing("claimed") as connection:
            connection.execute(
                "UPDATE journal SET epoch = epoch + 1, claim = ?, writer = ? WHERE id = ?", (claim, writer, self._id)
            )
            stored = self._stored(connection, "state", "epoch, sequence")
        self._claim = claim
        return stored

    def load(self) -> Stored:
        """Read the current state and epoch together."""
        with self._reading() as connection:
            return self._stored(connection, "state", "epoch, sequence")

    def base(self) -> Stored:
        """Read the state from which the kept entries replay."""
        with self._reading() as connection:
            return self._stored(connection, "base", "base_epoch, base_sequence")

    def commit(self, commit: Commit) -> None:
        """Write a commit, all or nothing, to the disk.

        Raises
        ------
        Refused
            When Redis commands ride in it. Nothing has changed.
        Fenced, OutOfSequence
            As the protocol says. Nothing has changed.
        Retry
            When the disk is full or the file cannot be written. Nothing has changed.
        CommitUnknown
            When the disk failed while the commit was being confirmed.
        Faulty
            When the stored journal contradicts itself or the file is damaged.
        """
        check_writes(commit.writes)
        if commit.writes:
            raise Refused(
                f"{commit.writes[0][:2]!r} cannot ride in a commit of journal {self.name}, which is in {self.path}; "
                "this machine wants a journal on Redis (redis:// or rediss://)"
            )
        with self._writing("written") as connection:
            self._check(connection, commit)
            entries = ((self._id, number, data) for number, data in enumerate(commit.entries, commit.first))
            try:
                connection.executemany("INSERT INTO entry VALUES (?, ?, ?)", entries)
            except sqlite3.IntegrityError as error:
                raise Faulty(
                    f"journal {self.name} in {self.path} is damaged: it holds entries after its end; "
                    "restore it from its backup",
                    self.name,
                ) from error
            _change(connection, self._id, commit.changes)
            connection.execute("UPDATE journal SET sequence = ? WHERE id = ?", (commit.last, self._id))

    def read(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Read entries in order, `first` and `last` included."""
        query = (
            "SELECT sequence, data FROM entry WHERE journal = ? AND sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?"
        )
        end = (1 << 62) if last is None else last
        while True:
            with self._reading() as connection:
                chunk = connection.execute(query, (self._id, first, end, READ_CHUNK)).fetchall()
            yield from chunk
            if len(chunk) < READ_CHUNK:
                return
            first = chunk[-1][0] + 1

    def rebase(self, sequence: int) -> Stored:
        """Make the current state the base, if it still is the one of `sequence`."""
        with self._writing("rebased") as connection:
            stored = self._stored(connection, "state", "epoch, sequence")
            if stored.sequence != sequence:
                raise OutOfSequence(f"journal {self.name} is at {stored.sequence}, not {sequence}; trim again")
            connection.execute("DELETE FROM base WHERE journal = ?", (self._id,))
            connection.execute("INSERT INTO base SELECT journal, field, data FROM state WHERE journal = ?", (self._id,))
            connection.execute(
                "UPDATE journal SET base_epoch = epoch, base_sequence = sequence WHERE id = ?", (self._id,)
            )
        return stored

    def forget(self, last: int) -> int:
        """Remove entries up to `last`, at most up to the base; return how many."""
        query = "DELETE FROM entry WHERE journal = ?1 AND sequence <= min(?2, (SELECT base_sequence FROM journal WHERE id = ?1))"
        with self._writing("trimmed") as connection:
            return connection.execute(query, (self._id, last)).rowcount

    def refill(self, base: Stored, state: Stored, entries: Iterable[tuple[int, bytes]]) -> int:
        """Replace all it holds, in one transaction; return the new epoch. A writer of before is fenced."""
        with self._writing("restored") as connection:
            for table in ("entry", "state", "base"):
                connection.execute(f"DELETE FROM {table} WHERE journal = ?", (self._id,))
            connection.executemany(
                "INSERT INTO entry VALUES (?, ?, ?)", ((self._id, number, data) for number, data in entries)
            )
            for table, stored in (("state", state), ("base", base)):
                rows = ((self._id, field, data) for field, data in stored.fields.items())
                connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
            (epoch,) = connection.execute("SELECT epoch FROM journal WHERE id = ?", (self._id,)).fetchone()
            epoch = max(epoch, state.epoch) + 1
            connection.execute(
                "UPDATE journal SET epoch = ?, claim = ?, writer = 'restore', sequence = ?, base_epoch = ?, "
                "base_sequence = ? WHERE id = ?",
                (epoch, uuid.uuid4().hex, state.sequence, base.epoch, base.sequence, self._id),
            )
        return int(epoch)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- inside ---------------------------------------------------------------------------------------------------

    def _check(self, connection: sqlite3.Connection, commit: Commit) -> None:
        """Raise when a commit is not this writer's or does not follow the last entry."""
        epoch, claim, writer, sequence = connection.execute(
            "SELECT epoch, claim, writer, sequence FROM journal WHERE id = ?", (self._id,)
        ).fetchone()
        if (epoch, claim) != (commit.epoch, self._claim):
            raise Fenced(
                f"epoch {commit.epoch} of journal {self.name} is over: {writer!r} writes in epoch {epoch}; stop writing"
            )
        if commit.first != sequence + 1:
            raise OutOfSequence(f"commit begins at {commit.first}, journal {self.name} ends at {sequence}; reload")

    def _stored(self, connection: sqlite3.Connection, table: str, columns: str) -> Stored:
        epoch, sequence = connection.execute(f"SELECT {columns} FROM journal WHERE id = ?", (self._id,)).fetchone()
        fields = dict(connection.execute(f"SELECT field, data FROM {table} WHERE journal = ?", (self._id,)))
        return Stored(epoch, sequence, fields)

    def _open(self) -> sqlite3.Connection:
        """The connection, opened at the first use. The lock is held."""
        if self._connection is None:
            connection = open_file(self.path, self._timeout)
            try:
                connection.execute("INSERT OR IGNORE INTO journal (name) VALUES (?)", (self.name,))
                (self._id,) = connection.execute("SELECT id FROM journal WHERE name = ?", (self.name,)).fetchone()
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything in it is of one moment."""
        with self._lock, self._telling("read"):
            connection = self._open()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[sqlite3.Connection]:
        """A write transaction, committed to the disk at its end, rolled back by any error."""
        with self._lock, self._telling(what):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                self._confirm(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _confirm(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_IOERR:
                raise
            raise CommitUnknown(
                f"{self.path} could not be written to the end ({error}); look at the disk, then reload from the journal"
            ) from error

    def _telling(self, what: str) -> contextlib.AbstractContextManager[None]:
        return telling(f"journal {self.name}", what, self.path)


@contextlib.contextmanager
def telling(name: str, what: str, path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Retry(f"{name} cannot be {what}: {path}: {_cause(error, path)}") from error
    except sqlite3.DatabaseError as error:
        raise Faulty(
            f"{name} cannot be {what}: {path} is damaged ({error}); restore it from its backup", str(path)
        ) from error
    except OSError as error:
        raise Retry(f"{name} cannot be {what}: {path}: {error}") from error


def list_journals(path: Path) -> list[Listed]:
    """The journals in a file, by name.

    Raises
    ------
    Refused
        When there is no such file.
    Retry, Faulty
        When it cannot be read.
    """
    if not path.is_file():
        raise Refused(f"{path} is no file; give the path of one that holds journals")
    query = "SELECT name, epoch, writer, sequence, base_sequence FROM journal ORDER BY name"
    with telling("journals", "listed", path), contextlib.closing(open_file(path)) as connection:
        return [Listed(*row) for row in connection.execute(query)]


def open_file(path: Path, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """A connection to a file of journals, made when missing, with transactions left to the caller.

    Raises
    ------
    Refused
        When newer software has made the file.
    sqlite3.Error, OSError
        When it cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise Refused(f"{path} has format {version}, this software knows {FORMAT}; update the software")
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _change(connection: sqlite3.Connection, journal: int, changes: Mapping[str, bytes | None]) -> None:
    """Write and remove fields of the state."""
    written = ((journal, field, data) for field, data in changes.items() if data is not None)
    removed = ((journal, field) for field, data in changes.items() if data is None)
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", written)
    connection.executemany("DELETE FROM state WHERE journal = ? AND field = ?", removed)


def _cause(error: sqlite3.OperationalError, path: Path) -> str:
    """What SQLite says, and what to do about it where that is known."""
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_FULL:
        with contextlib.suppress(OSError):
            free = os.statvfs(path.parent)
            return f"{error} ({free.f_bavail * free.f_frsize} bytes are free); make room there"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{error}: another process has been writing for too long; end it"
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return f"{error}; see that this user may write there"
    return f"{error}; look at the disk"
