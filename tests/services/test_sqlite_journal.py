"""The SQLite journal keeps the promises of every journal, and those about disks and files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.journal import Commit
from socs_bl.services.journals import open_journal as open_by_url
from socs_bl.services.journals import sqlite_path
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.sqlite_journal import SqliteJournal
from tests.core.journal_suite import SurvivorSuite

NAME = "socs_bl:journal:test"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journals of a test are."""
    return tmp_path / "journals" / "test.db"


@pytest.fixture
def open_journal(path: Path) -> Iterator[Callable[[], SqliteJournal]]:
    """Opens journals in one file."""
    opened: list[SqliteJournal] = []

    def make() -> SqliteJournal:
        opened.append(SqliteJournal(path, NAME))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


class TestSqliteJournal(SurvivorSuite):
    """The suite on a file."""

    @pytest.fixture
    def journal_url(self, path: Path) -> str:
        return f"sqlite://{path}"

    @pytest.fixture
    def journal_name(self) -> str:
        return NAME


def test_a_commit_waits_for_the_disk(open_journal: Callable[[], SqliteJournal]) -> None:
    """The file is in the one mode in which SQLite syncs the write-ahead file in every commit, before it returns."""
    journal = open_journal()
    journal.claim("a")
    assert journal._connection is not None
    for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2)):
        assert journal._connection.execute(f"PRAGMA {pragma}").fetchone() == (wanted,)


def test_redis_commands_are_refused_in_a_file(open_journal: Callable[[], SqliteJournal]) -> None:
    """A commit with riding commands is refused whole, saying what to do; the next one passes."""
    journal = open_journal()
    epoch = journal.claim("a").epoch
    with pytest.raises(Refused, match="wants a journal on Redis"):
        journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}, (("SET", "k", "1"),)))
    assert (journal.load().sequence, dict(journal.load().fields)) == (0, {})
    journal.commit(Commit(epoch, 1, (b"one",), {}))


def test_journals_in_one_file_do_not_meet(path: Path) -> None:
    """Two journals of one file have their own entries, state, base and writers."""
    journals = [SqliteJournal(path, name) for name in ("a", "b")]
    for number, journal in enumerate(journals, 1):
        epoch = journal.claim("w").epoch
        journal.commit(Commit(epoch, 1, (b"%d" % number,), {"x": b"%d" % number}))
    journals[0].rebase(1)
    assert journals[0].forget(1) == 1
    assert list(journals[1].read()) == [(1, b"2")]
    assert dict(journals[1].load().fields) == {"x": b"2"} and journals[1].base().sequence == 0
    for journal in journals:
        journal.close()


def test_threads_share_a_journal(open_journal: Callable[[], SqliteJournal]) -> None:
    """A reader in another thread sees whole commits while the writer goes on."""
    journal = open_journal()
    epoch = journal.claim("a").epoch
    torn: list[object] = []
    reading = threading.Event()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            stored = journal.load()
            if stored.sequence and stored.fields["x"] != b"%d" % stored.sequence:
                torn.append(stored)
            reading.set()

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 101):
        journal.commit(Commit(epoch, number, (b"e",), {"x": b"%d" % number}))
        reading.wait()
        reading.clear()
    done.set()
    thread.join()
    assert torn == []


LIMITED = """
import resource, sys
from pathlib import Path
from socs_bl.core.errors import Retry
from socs_bl.core.journal import Commit
from socs_bl.services.sqlite_journal import SqliteJournal

journal = SqliteJournal(Path(sys.argv[1]), sys.argv[2])
epoch = journal.claim("limited").epoch
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
number = 0
try:
    while True:
        journal.commit(Commit(epoch, number + 1, (b"e" * 20_000,), {"x": b"%d" % (number + 1)}))
        number += 1
except Retry as error:
    print(error, file=sys.stderr)
assert journal.load().sequence == number and journal.load().fields["x"] == b"%d" % number
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.commit(Commit(epoch, number + 1, (b"room again",), {"x": b"%d" % (number + 1)}))
print(number + 1)
"""


def test_a_limited_file_stops_whole_commits(open_journal: Callable[[], SqliteJournal], path: Path) -> None:
    """Where a file may not grow, a commit fails with a sentence, nothing of it is kept, and with room it goes on."""
    ran = subprocess.run([sys.executable, "-c", LIMITED, str(path), NAME], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert str(path) in ran.stderr and "Traceback" not in ran.stderr
    stored = open_journal().load()
    assert stored.sequence == int(ran.stdout) and stored.fields["x"] == ran.stdout.strip().encode()
    assert [number for number, _ in open_journal().read()] == list(range(1, stored.sequence + 1))


def test_a_full_disk_is_told_and_tears_nothing(tiny_disk: Path) -> None:
    """On a full disk a commit fails, saying how much is free; what was confirmed stays, and with room it goes on."""
    journal = SqliteJournal(tiny_disk / "x.db", NAME)
    epoch = journal.claim("a").epoch
    number = 0
    with pytest.raises(Retry, match=r"full \(\d+ bytes are free\); make room"):
        while True:
            journal.commit(Commit(epoch, number + 1, (os.urandom(30_000),), {"x": b"%d" % (number + 1)}))
            number += 1
    assert number > 3
    assert (journal.load().sequence, journal.load().fields["x"]) == (number, b"%d" % number)
    assert [at for at, _ in journal.read()] == list(range(1, number + 1))
    subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    journal.commit(Commit(epoch, number + 1, (b"room again",), {}))
    journal.close()


def test_what_is_no_journal_is_told(tmp_path: Path, open_journal: Callable[[], SqliteJournal], path: Path) -> None:
    """A file of something else or of newer software, a directory, and a torn file are sentences that say what to do."""
    (tmp_path / "text.db").write_text("not a database " * 100)
    with pytest.raises(Faulty, match="damaged .*restore it from its backup"):
        SqliteJournal(tmp_path / "text.db", NAME).load()
    with pytest.raises(Retry, match="see that this user may write there"):
        SqliteJournal(tmp_path, NAME).load()
    open_journal().claim("a")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Refused, match="format 99.*update the software"):
        SqliteJournal(path, NAME).load()


def test_an_entry_after_the_end_is_damage(open_journal: Callable[[], SqliteJournal], path: Path) -> None:
    """A journal whose entries and state disagree is not written any further."""
    journal = open_journal()
    epoch = journal.claim("a").epoch
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO entry VALUES (1, 1, x'00')")
    connection.close()
    with pytest.raises(Faulty, match="entries after its end"):
        journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}))
    assert dict(journal.load().fields) == {}


def test_the_url_says_which_journal(tmp_path: Path) -> None:
    """Redis and files by URL; a machine whose commands ride is not given a file; anything else is refused."""
    journal = open_by_url("rediss://h:1/0", NAME, riding=True)
    assert isinstance(journal, RedisJournal)
    journal.close()
    assert isinstance(open_by_url(f"sqlite://{tmp_path}/x.db", NAME), SqliteJournal)
    assert (
        sqlite_path("sqlite:////var/lib/a%20b.db")
        == sqlite_path("sqlite:///var/lib/a%20b.db")
        == Path("/var/lib/a b.db")
    )
    with pytest.raises(Refused, match="cannot be in a file"):
        open_by_url(f"sqlite://{tmp_path}/x.db", NAME, riding=True)
    for url in ("sqlite://host/x.db", "sqlite://", "http://h", "x.db"):
        with pytest.raises(Refused, match="sqlite:///var/lib"):
            open_by_url(url, NAME)
