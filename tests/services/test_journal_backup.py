"""Backups of real journals: of one moment while a writer commits and trims, and the same on either back end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from socs_bl.core.archive import trim
from socs_bl.core.backup import backup_entries, read_backup, restore, verify, verify_journal, write_backup
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.journal import Commit, Fenced, Journal
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.sqlite_journal import SqliteJournal
from tests.harness.toy import LampMachine, Ordered

pytestmark = pytest.mark.live

NAME = "socs_bl:test:lamps"
NOW = 1_800_000_000.0
PATIENCE = 60.0  # seconds
Open = Callable[[str], Journal]


@pytest.fixture
def open_journal(fresh_redis: str, tmp_path: Path) -> Iterator[Open]:
    """Opens a journal on a back end."""
    opened: list[Journal] = []

    def make(kind: str) -> Journal:
        sqlite = kind == "sqlite"
        opened.append(SqliteJournal(tmp_path / "x.db", NAME) if sqlite else RedisJournal(fresh_redis, NAME))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


class Writer:
    """Commits and trims until it is told to stop."""

    def __init__(self, journal: Journal, archive: Path) -> None:
        self.driver = Driver(LampMachine, Codec(LampMachine), journal)
        self.driver.claim("writer")
        self.archive = archive
        self.stop = threading.Event()
        self.trimmed = threading.Event()
        self.failed: list[Exception] = []
        self.thread = threading.Thread(target=self._run)

    def write(self, number: int) -> None:
        """One commit. Lamps as these order no Redis commands, so that any journal takes them."""
        event = Caused(Ordered(lamp=f"lamp{number % 50}"))
        prepared = self.driver.prepare([event], Instant(NOW + number, NOW + number))
        commit = prepared.commit
        self.driver.journal.commit(Commit(commit.epoch, commit.first, commit.entries, commit.changes))

    def _run(self) -> None:
        number = 0
        try:
            while not self.stop.is_set():
                self.write(number)
                number += 1
                if number % 20 == 0:
                    trim(self.driver.journal, NAME, self.archive)
                    self.trimmed.set()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failed.append(error)


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_backup_is_of_one_moment(open_journal: Open, tmp_path: Path, kind: str) -> None:
    """While a writer commits and trims, every backup verifies by itself, and the journal verifies in place."""
    writer = Writer(open_journal(kind), tmp_path / "archive")
    reading = open_journal(kind)
    writer.thread.start()
    ends = []
    try:
        for number in range(8):
            assert writer.trimmed.wait(PATIENCE), writer.failed
            writer.trimmed.clear()
            path = tmp_path / f"{number}.backup"
            ends.append(write_backup(reading, NAME, path, NOW).state[1])
            backup = read_backup(path)
            assert verify(LampMachine, backup.base, backup.state, backup_entries(path)).sequence == ends[-1]
            verify_journal(LampMachine, reading)
    finally:
        writer.stop.set()
        writer.thread.join()
    assert not writer.failed
    assert ends == sorted(ends) and ends[-1] > ends[0]
    assert not list(tmp_path.glob(".*.part")), "a backup that was begun again has left something behind"


@pytest.mark.parametrize("target", ["redis", "sqlite"])
@pytest.mark.parametrize("source", ["redis", "sqlite"])
def test_a_backup_moves_between_back_ends(open_journal: Open, tmp_path: Path, source: str, target: str) -> None:
    """Restored on either back end it replays to the same state; the writer of before is fenced, the next goes on."""
    writer = Writer(open_journal(source), tmp_path / "archive")
    for number in range(3):
        writer.write(number)
    trim(writer.driver.journal, NAME, tmp_path / "archive")
    for number in range(3, 6):
        writer.write(number)
    write_backup(open_journal(source), NAME, tmp_path / "x", NOW)
    before = open_journal(source).load()
    other = open_journal(target)
    restore(other, tmp_path / "x", replace=source == target)
    after = other.load()
    assert (after.sequence, dict(after.fields)) == (before.sequence, dict(before.fields))
    verify_journal(LampMachine, other)
    if source == target:
        with pytest.raises(Fenced):
            writer.write(6)
    again = Writer(open_journal(target), tmp_path / "archive")
    again.write(6)
    verify_journal(LampMachine, other)
