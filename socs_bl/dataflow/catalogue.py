"""The catalogue: every file, every copy and its state, every job and what happened, in one SQLite file.

The file is in write-ahead mode with ``synchronous`` at FULL: what was confirmed survives a power cut (SQLite documentation,
"PRAGMA synchronous"). It belongs on a local disk (SQLite documentation, "Write-Ahead Logging"). One process writes, which a
lock beside it ensures, and in it one thread; changes that wait together are committed together. Readers never wait.

Beside it lies ``NAME.witness``, which says how far the catalogue was. A catalogue that is older than its witness was put
back from a backup: then no copy is taken for verified until its bytes are compared again, and nothing is deleted until the
catalogue was held against the disks (`socs_bl.dataflow.rebuild`). The same where it is gone or damaged.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from socs_bl.core.clock import Clock, SystemClock
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.whole_file import write_whole
from socs_bl.dataflow.catalogue_schema import prepare
from socs_bl.dataflow.changes import Change
from socs_bl.dataflow.entries import View

BUSY_TIMEOUT = 5.0  # seconds to wait for another process that writes, such as a backup
TOGETHER = 500  # changes that are committed together at most
WITNESSED = 1000  # transactions after which the witness is written again
LARGEST_WAL = 64 << 20  # bytes the write-ahead file keeps after a checkpoint

ResultT = TypeVar("ResultT")
_Work = tuple[Callable[[Change], Any], "Future[Any]"]


class Opened(enum.StrEnum):
    """How the catalogue was found."""

    SOUND = "sound"
    NEW = "new"  # there was none, and no witness of one
    LOST = "lost"  # there was none, but there has been one
    ROLLED_BACK = "rolled back"  # it is older than its witness


class Witness(msgspec.Struct, frozen=True):
    """How far the catalogue was, and whether it was closed."""

    sequence: int
    closed: bool


class Catalogue:
    """The catalogue, opened for writing; `close` it.

    Parameters
    ----------
    path : Path
        Made, with its directory, when missing.
    clock : Clock
        What time changes have.
    timeout : float
        Seconds to wait for another process that writes into the file.

    Raises
    ------
    Refused
        When another process has it open, or newer software has made it.
    Retry
        When it is locked for long, or the disk is full.
    Faulty
        When it is damaged: `set_aside` it, open again, rebuild.
    """

    def __init__(self, path: Path, clock: Clock | None = None, timeout: float = BUSY_TIMEOUT) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._works: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(path))
            with _telling("opened", path):
                existed = path.exists()
                self._writer = stack.enter_context(contextlib.closing(_connect(path, timeout)))
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")
                empty = prepare(self._writer, path)
                self.opened = self._judge(_read_witness(path), existed and not empty)
                self._reader = stack.enter_context(contextlib.closing(_connect(path, timeout)))
                self._reader.execute("PRAGMA query_only = ON")
            self._reading = threading.Lock()
            self._unwitnessed = 0
            self._stack = stack.pop_all()
        self._thread = threading.Thread(target=self._write_all, name=f"catalogue {path.name}", daemon=True)
        self._thread.start()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _judge(self, witness: Witness | None, existed: bool) -> Opened:
        """Hold the catalogue against its witness, and look at its pages when it was not closed."""
        if not existed:
            return Opened.NEW if witness is None else Opened.LOST
        if witness is None or not witness.closed:
            (said,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise sqlite3.DatabaseError(said)
        behind = witness is not None and View(self._writer).sequence < witness.sequence
        return Opened.ROLLED_BACK if behind else Opened.SOUND

    def _begin(self) -> None:
        """Take back what a crash has left; trust nothing that was put back."""
        if self.opened in (Opened.LOST, Opened.ROLLED_BACK):
            self.write(lambda change: change.distrust(f"the catalogue was {self.opened}")).result()
        if self.opened is not Opened.NEW:
            self.write(lambda change: change.recover()).result()
        self.witness()

    # -- changing

    def write(self, work: Callable[[Change], ResultT]) -> Future[ResultT]:
        """Have the writer's thread make a change; the result comes when it is on the disk.

        An error of `work` undoes what it did, and nothing else. `work` reads and changes the catalogue and does nothing else.

        Raises
        ------
        Refused
            When the catalogue is closed.
        Retry, Faulty
            From the result: it cannot be written (locked, disk full), or is damaged. Nothing has changed.
        """
        future: Future[ResultT] = Future()
        with self._closing:
            if self._closed:
                raise Refused(f"catalogue {self.path} is closed")
            self._works.put((work, future))
        return future

    def _write_all(self) -> None:
        """The writer's thread."""
        while True:
            works = [self._works.get()]
            while len(works) < TOGETHER and works[-1] is not None:
                try:
                    works.append(self._works.get_nowait())
                except queue.Empty:
                    break
            asked = [work for work in works if work is not None and work[1].set_running_or_notify_cancel()]
            if asked:
                self._commit(asked)
            if works[-1] is None:
                return

    def _commit(self, works: list[_Work]) -> None:
        """Make changes in one transaction; each has its result when that is on the disk."""
        done: list[tuple[Future[Any], Any]] = []
        try:
            with _telling("written", self.path):
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    change = Change(self._writer, round(self._clock.now().wall * 1e9))
                    for work, future in works:
                        self._attempt(change, work, future, done)
                    self._writer.execute("UPDATE meta SET value = value + 1 WHERE key = 'sequence'")
                    self._writer.execute("COMMIT")
                finally:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
        except Exception as error:  # noqa: BLE001 - whoever asked is told, whatever it is
            for _, future in works:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)
        self._unwitnessed += 1
        if self._unwitnessed >= WITNESSED:
            with contextlib.suppress(Retry, Faulty):  # the next one will do
                self.witness()
            self._unwitnessed = 0

    def _attempt(
        self, change: Change, work: Callable[[Change], Any], future: Future[Any], done: list[tuple[Future[Any], Any]]
    ) -> None:
        """One change; its own error undoes it alone, an error of the file ends all."""
        self._writer.execute("SAVEPOINT one")
        try:
            result = work(change)
        except Exception as error:
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError):
                raise
            self._writer.execute("ROLLBACK TO one")
            future.set_exception(error)
        else:
            done.append((future, result))
        self._writer.execute("RELEASE one")

    # -- reading

    @contextlib.contextmanager
    def read(self) -> Iterator[View]:
        """The catalogue as it is at this moment; a writer is not held up.

        Raises
        ------
        Retry, Faulty
            When it cannot be read, or is damaged.
        """
        with self._reading, _telling("read", self.path):
            self._reader.execute("BEGIN")
            try:
                yield View(self._reader)
            finally:
                if self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")

    # -- the file

    def witness(self) -> None:
        """Write down how far the catalogue is. To be called before anything is deleted on its word.

        Raises
        ------
        Retry
            When it cannot be written.
        """
        with self.read() as view:
            _write_witness(self.path, Witness(view.sequence, closed=False))

    def backup(self, target: Path) -> None:
        """Write a copy of the catalogue as it is at this moment, whole or not at all; the writer goes on.

        Raises
        ------
        Retry, Faulty
            When it cannot be read or written.
        """
        private = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            with _telling("backed up", self.path), contextlib.closing(_connect(self.path, self._timeout)) as source:
                with contextlib.closing(sqlite3.connect(private)) as copy:
                    source.backup(copy)
                with open(private, "rb+") as written:
                    os.fsync(written.fileno())
                os.replace(private, target)
        finally:
            private.unlink(missing_ok=True)

    def close(self) -> None:
        """Make the changes that were asked for, end the thread, close the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._works.put(None)
        self._thread.join()
        with self._stack, contextlib.suppress(Retry, Faulty), self.read() as view:
            _write_witness(self.path, Witness(view.sequence, closed=True))


@contextlib.contextmanager
def look_into(path: Path) -> Iterator[View]:
    """Read a catalogue as it is at this moment, whoever writes it; nothing is changed, not even by a format.

    Raises
    ------
    Refused
        When there is none.
    Retry, Faulty
        When it cannot be read, or is damaged.
    """
    if not path.is_file():
        raise Refused(f"{path}: there is no catalogue; the agent makes it when it starts")
    with _telling("read", path), contextlib.closing(_connect(path, BUSY_TIMEOUT)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        yield View(connection)


def set_aside(path: Path) -> Path:
    """Put a damaged catalogue aside, with its write-ahead file, under a name of its own; a new one can be opened then.

    Raises
    ------
    Refused
        When another process has it open, or there is none.
    """
    with _locked(path):
        if not path.exists():
            raise Refused(f"{path}: there is no catalogue to put aside")
        number = 1
        while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
            number += 1
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")
        os.replace(path, aside)
        if _read_witness(path) is None:  # so that the next one knows that there was one
            _write_witness(path, Witness(0, closed=False))
    return aside


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock that one process holds while it has the catalogue open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(f"catalogue {path} is open in another process; end that one first") from error
        yield
    finally:
        os.close(descriptor)


def _read_witness(path: Path) -> Witness | None:
    """The witness of a catalogue; one that cannot be read says that there was a catalogue, and nothing more."""
    try:
        return msgspec.json.decode(Path(f"{path}.witness").read_bytes(), type=Witness)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return Witness(0, closed=False)


def _write_witness(path: Path, witness: Witness) -> None:
    try:
        write_whole(Path(f"{path}.witness"), msgspec.json.encode(witness))
    except OSError as error:
        raise Retry(f"{path}.witness cannot be written ({error}); make room there") from error


@contextlib.contextmanager
def _telling(what: str, path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the file and what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        todo = {
            sqlite3.SQLITE_BUSY: "another process has been writing for too long; end it",
            sqlite3.SQLITE_LOCKED: "another process has been writing for too long; end it",
            sqlite3.SQLITE_FULL: "make room there",
            sqlite3.SQLITE_READONLY: "see that this user may write there",
            sqlite3.SQLITE_CANTOPEN: "see that this user may write there",
        }.get(code, "look at the disk")
        raise Retry(f"catalogue {path} cannot be {what} ({error}): {todo}") from error
    except sqlite3.DatabaseError as error:
        raise Faulty(
            f"catalogue {path} cannot be {what}: it is damaged ({error}); put it aside and rebuild it from the disks",
            str(path),
        ) from error
    except OSError as error:
        raise Retry(f"catalogue {path} cannot be {what}: {error}; look at the disk") from error
