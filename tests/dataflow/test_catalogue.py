"""The catalogue: changes whole or not at all, one job a file, nothing lost to a kill, and no trust in what was put back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from socs_bl.core.clock import Instant
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.dataflow import catalogue_schema
from socs_bl.dataflow.catalogue import Catalogue, Opened, set_aside
from socs_bl.dataflow.catalogue_schema import MIGRATIONS, prepare
from socs_bl.dataflow.changes import NEXT, Change
from socs_bl.dataflow.entries import CopyEntry
from socs_bl.dataflow.model import ACTIVE, CopyState, Digest, FileName, JobState, Seen

ONE, OTHER = Digest("xxh3_128", "1" * 32), Digest("xxh3_128", "2" * 32)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0

    def now(self) -> Instant:
        """What it was set to."""
        return Instant(self.wall, self.wall)


@pytest.fixture
def clock() -> Hands:
    """The catalogue's."""
    return Hands()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the catalogue of a test is."""
    return tmp_path / "catalogue" / "site.sqlite"


@pytest.fixture
def open_catalogue(path: Path, clock: Hands) -> Iterator[Callable[[], Catalogue]]:
    """Opens the catalogue, and closes it at the end."""
    with contextlib.ExitStack() as stack:

        def make() -> Catalogue:
            return stack.enter_context(contextlib.closing(Catalogue(path, clock, timeout=0.1)))

        yield make


@pytest.fixture
def catalogue(open_catalogue: Callable[[], Catalogue]) -> Catalogue:
    """A new one."""
    return open_catalogue()


def add(change: Change, name: str = "a", size: int = 10) -> int:
    """Enter a file."""
    return change.add_file(FileName(name, {"radar": "sas"}), "data", size, begins_ns=5)


def place(change: Change, file: int, store: str = "radar", path: str = "day/a", mtime_ns: int = 1) -> CopyEntry:
    """Enter a copy."""
    return change.see(file, Seen(store, path, 10, mtime_ns, 7))


def filled(catalogue: Catalogue) -> int:
    """A file with a verified copy and a job."""

    def work(change: Change) -> int:
        file = add(change)
        change.set_digest(file, ONE)
        change.compare(place(change, file), ONE, 1)
        change.add_job("to_nas", file, "store:nas")
        return file

    return catalogue.write(work).result()


# -- changes


def test_what_was_entered_is_read_back(open_catalogue: Callable[[], Catalogue]) -> None:
    """A file with fields, digest, metadata, copies (names in any bytes), jobs and events comes back after a restart."""
    catalogue = open_catalogue()
    file = filled(catalogue)
    odd = Seen("nas", os.fsdecode(b"d/\xff\n'x\""), 10, 2, 8)
    catalogue.write(lambda change: (change.see(file, odd), change.learn(file, {"cp": -3800}))).result()
    catalogue.close()
    again = open_catalogue()
    assert again.opened is Opened.SOUND
    with again.read() as view:
        entry = view.file("a")
        assert entry is not None and entry == view.file_of(file)
        assert (entry.fields, entry.digests, entry.metadata) == ({"radar": "sas"}, {"xxh3_128": ONE}, {"cp": -3800})
        assert [(copy.seen, copy.state) for copy in view.copies(file)] == [
            (Seen("radar", "day/a", 10, 1, 7), CopyState.VERIFIED),
            (odd, CopyState.PRESENT),
        ]
        assert view.known("nas") == {odd.path: odd}
        assert [job.stage for job in view.jobs(file)] == ["to_nas"] and view.counts() == {"to_nas": {"ready": 1}}
        assert [event.what for event in view.events(file)] == [
            "entered",
            "hashed",
            "seen",
            "verified",
            "seen",
            "learnt",
        ]


def test_a_change_takes_place_as_a_whole(catalogue: Catalogue) -> None:
    """An error in the middle undoes what was done before it, and leaves the change beside it alone."""

    def broken(change: Change) -> None:
        add(change, "broken")
        raise Refused("no")

    results = [catalogue.write(lambda change: add(change, "before")), catalogue.write(broken)]
    after = catalogue.write(lambda change: add(change, "after"))
    with pytest.raises(Refused, match="no"):
        results[1].result()
    assert after.result() > 0
    with catalogue.read() as view:
        assert [entry.name for entry in view.files()] == ["before", "after"]


def test_one_name_is_one_file_and_one_place_one_copy(catalogue: Catalogue) -> None:
    """Entering again changes nothing; other bytes under a known name, or another file at a known place, are refused."""
    file = filled(catalogue)
    assert catalogue.write(add).result() == file
    for work, says in (
        (lambda change: add(change, size=11), "two files have one name"),
        (lambda change: change.set_digest(file, OTHER), "its bytes have changed"),
        (lambda change: place(change, add(change, "A")), "two files have one place"),
    ):
        with pytest.raises(Refused, match=says):
            catalogue.write(work).result()
    with catalogue.read() as view:
        assert [entry.name for entry in view.files()] == ["a"]


def test_only_its_bytes_verify_a_copy(catalogue: Catalogue, clock: Hands) -> None:
    """Verified is what hashes to the file's digest; corrupt what does not; suspect what was and has changed."""
    file = filled(catalogue)

    def states() -> list[CopyState]:
        with catalogue.read() as view:
            return [copy.state for copy in view.copies(file)]

    def copy_of(change: Change) -> CopyEntry:
        return change.copies(file)[0]

    for work in (
        lambda change: change.mark(copy_of(change), CopyState.VERIFIED, ""),
        lambda change: change.compare(copy_of(change), Digest("md5", "0" * 32), 1),
        lambda change: change.mark(place(change, file, "vt", "a"), CopyState.DELIVERED, ""),
    ):
        with pytest.raises(Refused):
            catalogue.write(work).result()
    catalogue.write(lambda change: place(change, file, mtime_ns=2)).result()
    assert states() == [CopyState.SUSPECT]
    assert catalogue.write(lambda change: change.compare(copy_of(change), OTHER, 3)).result() is CopyState.CORRUPT
    assert catalogue.write(lambda change: change.compare(copy_of(change), ONE, 4)).result() is CopyState.VERIFIED
    catalogue.write(lambda change: change.mark(copy_of(change), CopyState.DELETED, "keep: 2 copies elsewhere")).result()
    catalogue.write(lambda change: place(change, file)).result()
    assert states() == [CopyState.PRESENT]  # a file that comes back has proven nothing
    with catalogue.read() as view:
        assert view.copies(file)[0].verified_ns == 0


# -- jobs


def test_jobs_come_by_priority_then_age_and_one_a_file(catalogue: Catalogue) -> None:
    """The highest priority first, then the oldest; a file that a job has is passed over until that job ends."""

    def work(change: Change) -> list[int]:
        files = [add(change, name) for name in "abc"]
        for number, file in enumerate(files):
            change.add_job("move", file, "nas", priority=10 if number == 2 else 0, order_ns=9 - number)
            change.add_job("share", file, "nas", target="vt", priority=20 if number == 2 else 0, order_ns=20)
        return files

    a, b, c = catalogue.write(work).result()
    order = []
    for _ in range(4):
        job = catalogue.write(lambda change: change.claim("nas")).result()
        order.append(job and (job.stage, job.file))
    assert order == [("share", c), ("move", b), ("move", a), None]
    assert catalogue.write(lambda change: change.claim("campus")).result() is None
    with catalogue.read() as view:
        waiting, running = view.jobs(c)
    with pytest.raises(Refused, match="another job has its file"):
        catalogue.write(lambda change: change.put_job(waiting.id, JobState.RUNNING)).result()
    catalogue.write(lambda change: change.put_job(running.id, JobState.DONE)).result()
    following = catalogue.write(lambda change: change.claim("nas")).result()
    assert following is not None and (following.stage, following.file, following.attempts) == ("move", c, 1)


def test_a_retry_waits_for_its_time(catalogue: Catalogue, clock: Hands) -> None:
    """It is ready when it is due and not before; one that waits for space when there is room."""
    filled(catalogue)
    job = catalogue.write(lambda change: change.claim("store:nas")).result()
    assert job is not None
    due = round((clock.wall + 30) * 1e9)
    catalogue.write(lambda change: change.put_job(job.id, JobState.RETRY, "timeout", due)).result()
    with catalogue.read() as view:
        assert view.next_due_ns() == due
    assert catalogue.write(lambda change: change.wake()).result() == 0
    clock.wall += 30
    assert catalogue.write(lambda change: change.wake()).result() == 1
    again = catalogue.write(lambda change: change.claim("store:nas")).result()
    assert again is not None and again.attempts == 2
    catalogue.write(lambda change: change.put_job(job.id, JobState.PAUSED_SPACE, "disk full")).result()
    assert catalogue.write(lambda change: (change.room("other"), change.room("store:nas"))).result() == (0, 1)


class Jobs(RuleBasedStateMachine):
    """Jobs under any order of claims, ends and restarts."""

    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.catalogue: Catalogue | None = None
        self.ids: list[int] = []

    @initialize()
    def begin(self) -> None:
        """Three files, two jobs each."""
        for leftover in self.directory.iterdir():
            leftover.unlink()
        self.catalogue = Catalogue(self.directory / "c.sqlite", Hands())

        def work(change: Change) -> list[int]:
            files = [add(change, name) for name in "abc"]
            return [change.add_job(stage, file, "nas") for file in files for stage in ("move", "share")]

        self.ids = self.change(work).result()

    def change(self, work: Callable[[Change], object]) -> Future[list[int]]:
        """Make one."""
        assert self.catalogue is not None
        return self.catalogue.write(work)  # type: ignore[arg-type]

    @rule()
    def claim(self) -> None:
        """Begin the next one."""
        self.change(lambda change: change.claim("nas")).result()

    @rule(which=st.integers(0, 5), state=st.sampled_from(list(JobState)))
    def put(self, which: int, state: JobState) -> None:
        """Have one go anywhere: it does when the table says so and its file is free, and else stays."""
        assert self.catalogue is not None
        with self.catalogue.read() as view:
            before = view.job(self.ids[which])
            assert before is not None
            others = [job for job in view.jobs(before.file) if job.id != before.id and job.state in ACTIVE]
        allowed = (state is before.state or state in NEXT[before.state]) and not (state in ACTIVE and others)
        try:
            self.change(lambda change: change.put_job(self.ids[which], state)).result()
        except Refused:
            assert not allowed
        else:
            assert allowed

    @rule()
    def restart(self) -> None:
        """Close and open again: what was running is ready."""
        assert self.catalogue is not None
        self.catalogue.close()
        self.catalogue = Catalogue(self.directory / "c.sqlite", Hands())
        with self.catalogue.read() as view:
            assert not any(job.state in ACTIVE for number in self.ids if (job := view.job(number)))

    @precondition(lambda self: self.catalogue is not None)
    @invariant()
    def one_job_a_file(self) -> None:
        """Never two jobs on one file."""
        assert self.catalogue is not None
        with self.catalogue.read() as view:
            for entry in view.files():
                assert len([job for job in view.jobs(entry.id) if job.state in ACTIVE]) <= 1

    def teardown(self) -> None:
        """Close it."""
        if self.catalogue is not None:
            self.catalogue.close()


def test_never_two_jobs_on_one_file(tmp_path: Path) -> None:
    """Whatever is claimed, put and restarted in whatever order."""
    machine = type("HereJobs", (Jobs,), {"directory": tmp_path})
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=15, deadline=None))


# -- the file


def test_readers_and_threads_do_not_wait_for_each_other(catalogue: Catalogue) -> None:
    """Threads write through the one writer and read whole changes: a file is never seen without its copy."""
    torn: list[str] = []

    def write(name: str) -> None:
        for number in range(20):
            text = f"{name}{number}"
            catalogue.write(lambda change, text=text: place(change, add(change, text), path=text)).result()
            with catalogue.read() as view:
                torn.extend(entry.name for entry in view.files() if not view.copies(entry.id))

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    with catalogue.read() as view:
        assert len(list(view.files())) == 40


KILLED = """
import os, signal, sys
from pathlib import Path
from socs_bl.dataflow.catalogue import Catalogue
from socs_bl.dataflow.model import FileName
catalogue = Catalogue(Path(sys.argv[1]))
for number in range(30):
    catalogue.write(lambda change: change.add_job("move", change.add_file(FileName(f"f{number}", {}), "data", 1), "nas")).result()
    print(number, flush=True)
catalogue.write(lambda change: change.claim("nas")).result()
catalogue.write(lambda change: (change.add_file(FileName("half", {}), "data", 1), os.kill(os.getpid(), signal.SIGKILL)))
signal.pause()
"""


def test_a_kill_loses_nothing_that_was_confirmed(path: Path, open_catalogue: Callable[[], Catalogue]) -> None:
    """SIGKILL in the middle of a change: all before it is there, nothing of it; what was running is ready again."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, timeout=120, check=False
    )
    assert process.returncode == -signal.SIGKILL
    confirmed = [f"f{line}" for line in process.stdout.decode().split()]
    catalogue = open_catalogue()
    with catalogue.read() as view:
        assert [entry.name for entry in view.files()] == confirmed and len(confirmed) == 30
        assert view.counts() == {"move": {"ready": 30}}
        assert view.jobs(1)[0].reason == "interrupted"


def test_a_second_process_is_refused(catalogue: Catalogue, path: Path) -> None:
    """One process writes; another is told so at once."""
    with pytest.raises(Refused, match="open in another process"):
        Catalogue(path)
    with pytest.raises(Refused, match="open in another process"):
        set_aside(path)


def test_a_catalogue_that_is_locked_is_tried_again(catalogue: Catalogue, path: Path) -> None:
    """While another program holds the file a change is refused for now and has not taken place; reading goes on; then it
    passes."""
    filled(catalogue)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Retry, match="another process has been writing for too long"):
            catalogue.write(lambda change: add(change, "b")).result()
        with catalogue.read() as view:
            assert [entry.name for entry in view.files()] == ["a"]
        other.execute("ROLLBACK")
    assert catalogue.write(lambda change: add(change, "b")).result() == 2


def test_a_full_disk_changes_nothing(catalogue: Catalogue) -> None:
    """A change that finds no room is refused for now, with what to do; what it had done is undone; later it passes."""
    filled(catalogue)
    (pages,) = catalogue._writer.execute("PRAGMA page_count").fetchone()
    catalogue._writer.execute(f"PRAGMA max_page_count = {pages}")

    def many(change: Change) -> list[int]:
        return [add(change, f"f{number}") for number in range(500)]

    with pytest.raises(Retry, match="make room there"):
        catalogue.write(many).result()
    with catalogue.read() as view:
        assert [entry.name for entry in view.files()] == ["a"]
    catalogue._writer.execute("PRAGMA max_page_count = 1000000")
    assert len(catalogue.write(many).result()) == 500


@pytest.mark.parametrize("where", ["head", "page"])
def test_a_damaged_catalogue_is_found_and_put_aside(
    where: str, path: Path, open_catalogue: Callable[[], Catalogue]
) -> None:
    """Damage is found when it is opened after a kill; put aside, a new one begins and says that there was one."""
    catalogue = open_catalogue()
    filled(catalogue)
    catalogue.write(lambda change: [add(change, f"f{number}") for number in range(500)]).result()
    catalogue.close()
    Path(f"{path}.witness").write_text('{"sequence": 1, "closed": false}')
    data = bytearray(path.read_bytes())
    first = 0 if where == "head" else len(data) // 2
    data[first : first + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(Faulty, match="put it aside and rebuild"):
        open_catalogue()
    aside = set_aside(path)
    assert aside.read_bytes() == data and not path.exists()
    again = open_catalogue()
    assert again.opened is Opened.LOST
    with again.read() as view:
        assert view.rebuilding == "the catalogue was lost"


def test_a_catalogue_from_a_backup_is_not_trusted(path: Path, open_catalogue: Callable[[], Catalogue]) -> None:
    """After it was rolled back no copy counts as verified, and retention is told, until it was held against the disks."""
    catalogue = open_catalogue()
    file = filled(catalogue)
    backup = path.with_name("backup.sqlite")
    catalogue.backup(backup)
    catalogue.write(lambda change: add(change, "later")).result()
    catalogue.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copy(backup, path)
    again = open_catalogue()
    assert again.opened is Opened.ROLLED_BACK
    with again.read() as view:
        assert [(copy.state, copy.verified_ns) for copy in view.copies(file)] == [(CopyState.PRESENT, 0)]
        assert view.rebuilding == "the catalogue was rolled back"
        assert view.events()[-1].what == "distrusted"
    again.close()
    third = open_catalogue()  # the distrust is in the file, not in the witness
    assert third.opened is Opened.SOUND
    with third.read() as view:
        assert view.rebuilding
    third.write(lambda change: change.trust()).result()
    with third.read() as view:
        assert not view.rebuilding


def test_a_catalogue_that_is_gone_is_missed(path: Path, open_catalogue: Callable[[], Catalogue]) -> None:
    """A new one in the place of one that there was does not pass for the first."""
    catalogue = open_catalogue()
    assert catalogue.opened is Opened.NEW
    catalogue.close()
    path.unlink()
    assert open_catalogue().opened is Opened.LOST


def test_a_file_of_older_software_is_brought_up_to_date(tmp_path: Path) -> None:
    """Formats follow one another in one transaction; one that fails leaves the file as it was; a newer one is refused."""
    path = tmp_path / "c.sqlite"
    later = (*MIGRATIONS, "ALTER TABLE file ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert prepare(connection, path)
        add(Change(connection, 1))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection, pytest.raises(sqlite3.Error):
        prepare(connection, path, (*later, "CREATE TABLE file (x);"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert not prepare(connection, path, later)
        assert connection.execute("SELECT name, colour FROM file").fetchall() == [("a", "red")]
        with pytest.raises(Refused, match="update the software"):
            prepare(connection, path, catalogue_schema.MIGRATIONS)


def test_a_closed_catalogue_says_so(catalogue: Catalogue) -> None:
    """What was asked for before is done; what is asked for afterwards is refused."""
    futures = [catalogue.write(lambda change, name=name: add(change, name)) for name in "abc"]
    catalogue.close()
    assert [future.result() for future in futures] == [1, 2, 3]
    with pytest.raises(Refused, match="is closed"):
        catalogue.write(add)


def test_old_events_go(catalogue: Catalogue, clock: Hands) -> None:
    """So many at a time, the others stay."""
    file = filled(catalogue)
    clock.wall += 100
    catalogue.write(lambda change: change.note(file, "late")).result()
    before = round((clock.wall - 50) * 1e9)
    assert catalogue.write(lambda change: change.forget_events(before, at_most=3)).result() == 3
    assert catalogue.write(lambda change: change.forget_events(before)).result() == 1
    with catalogue.read() as view:
        assert [event.what for event in view.events()] == ["late"]
