"""Being woken: whatever happens to events, what is new is found."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.task import Clock

from socs_bl.dataflow.bell import Bell, Debounce
from socs_bl.dataflow.receiver import INCOMING
from socs_bl.dataflow.watch import Wake, Watch
from tests.harness.disk import tiny_disk
from tests.harness.programs import missing


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """The watch of a store with two directories."""
    (tmp_path / "store" / "a" / "b").mkdir(parents=True)
    watch = Watch(tmp_path / "store")
    yield watch
    watch.close()


@pytest.fixture
def store(tmp_path: Path, watch: Watch) -> Path:
    """Its root."""
    return tmp_path / "store"


def test_a_file_rings_for_its_directory(watch: Watch, store: Path) -> None:
    """A file that was written, renamed or removed says where to look; what arrives says nothing."""
    assert not watch.read()
    (store / "a" / "f").write_bytes(b"x")
    assert watch.read() == Wake(frozenset({"a"}))
    (store / "a" / "f").rename(store / "a" / "b" / "f")
    assert watch.read() == Wake(frozenset({"a", "a/b"}))
    (store / "a" / "b" / "f").unlink()
    assert watch.read() == Wake(frozenset({"a/b"}))
    watch.close()
    (store / INCOMING / "hop").mkdir(parents=True)
    again = Watch(store)
    (store / INCOMING / "hop" / "f").write_bytes(b"x")
    assert not again.read()
    again.close()


def test_new_directories_are_watched_and_looked_at(watch: Watch, store: Path) -> None:
    """What was made in a new directory before anybody watched it is found by a look at it; afterwards it rings itself."""
    (store / "new" / "deep").mkdir(parents=True)
    (store / "new" / "deep" / "f").write_bytes(b"x")
    assert "new" in watch.read().trees
    (store / "new" / "deep" / "g").write_bytes(b"x")
    assert watch.read() == Wake(frozenset({"new/deep"}))


def test_a_renamed_directory_has_its_new_name(watch: Watch, store: Path) -> None:
    """A directory that was moved is looked at under its new name, and so is what happens in it later."""
    (store / "a").rename(store / "z")
    assert {"a", "z"} <= watch.read().trees
    (store / "z" / "b" / "f").write_bytes(b"x")
    assert watch.read() == Wake(frozenset({"z/b"}))


def test_deleted_directories_are_survived(watch: Watch, store: Path) -> None:
    """A day's directory that is deleted, and made again, does not make the watch deaf to it or to the others."""
    shutil.rmtree(store / "a")
    watch.read()
    (store / "f").write_bytes(b"x")
    assert "" in watch.read().folders
    (store / "a").mkdir()
    watch.read()
    (store / "a" / "f").write_bytes(b"x")
    assert watch.read() == Wake(frozenset({"a"}))


def test_a_root_that_goes_and_comes_is_survived(watch: Watch, store: Path) -> None:
    """A store that vanishes is to be looked at as a whole; when it is back, the look after that watches it again."""
    shutil.rmtree(store)
    assert watch.read().everything
    assert "" in watch.unwatched and watch.watched == 0
    store.mkdir()
    assert watch.refresh() == Wake(frozenset({""})) and not watch.unwatched
    (store / "f").write_bytes(b"x")
    assert watch.read() == Wake(frozenset({""}))


def test_an_overflow_is_visible(watch: Watch, store: Path) -> None:
    """When the kernel drops events, it is counted, and all of the store is to be looked at; later events ring as before."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        missing("a queue of events that a test can fill")
    for number in range(limit // 2 + 10):  # each rings twice: created, closed
        os.close(os.open(store / "a" / f"{number % 2}{number // 2}", os.O_CREAT | os.O_WRONLY))
    assert watch.read().everything and watch.overflows == 1
    (store / "a" / "b" / "f").write_bytes(b"x")
    assert watch.read() == Wake(frozenset({"a/b"}))


def test_a_mount_over_a_directory_is_found(watch: Watch, store: Path) -> None:
    """What is mounted over a watched directory rings after the next refresh, and what was below it after it has gone."""
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(store / "a")], capture_output=True).returncode:
        missing("the right to mount")
    try:
        (store / "a" / "f").write_bytes(b"x")
        assert not watch.read(), "the kernel does not tell of it"
        assert watch.refresh() == Wake(frozenset({"a"}))
        (store / "a" / "g").write_bytes(b"x")
        assert watch.read().folders == {"a"}
    finally:
        subprocess.run(["umount", str(store / "a")], check=True)
    assert "a" in watch.read().trees
    (store / "a" / "b" / "f").write_bytes(b"x")
    assert "a/b" in watch.read().folders


def test_a_store_that_is_unmounted_is_survived(tmp_path: Path) -> None:
    """A root that is unmounted says that all of it has to be looked at, and is watched again when it is back."""
    with tiny_disk(tmp_path / "disk", 1 << 20) as place:
        watch = Watch(place)
    assert watch.read().everything
    watch.refresh()
    (tmp_path / "disk" / "f").write_bytes(b"x")
    assert watch.read().folders == {""}
    watch.close()


_LIMITED = """
import os, sys
from pathlib import Path
from socs_bl.dataflow.watch import Watch
Path("/proc/sys/user/max_inotify_watches").write_text("2")
root = Path(sys.argv[1])
watch = Watch(root)
print(watch.watched, sorted(watch.unwatched.values()))
Path("/proc/sys/user/max_inotify_watches").write_text("100")
print(len(watch.refresh().folders), watch.unwatched)
"""


def test_a_limit_of_watches_is_visible(tmp_path: Path) -> None:
    """Directories that cannot be watched are named with the reason, and are watched once there is room."""
    for name in "abc":
        (tmp_path / name).mkdir()
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _LIMITED, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    if done.returncode and "unshare" in done.stderr:
        missing("the right to have a user namespace")
    assert done.stdout.splitlines() == [f"2 {['No space left on device'] * 2}", "2 {}"], done.stderr


def test_looks_are_soon_and_not_too_often() -> None:
    """A single event is answered at once, a storm now and then."""
    debounce = Debounce(0.02, 0.5)
    assert debounce.heard(10.0) == 10.02
    assert debounce.heard(10.01) == pytest.approx(10.03)
    assert debounce.heard(10.49) == 10.5
    debounce.looked()
    assert debounce.heard(11.0) == 11.02


class _Reading(Clock):
    """A clock that knows readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[object] = set()
        self.addReader: Callable[[object], None] = self.readers.add
        self.removeReader: Callable[[object], None] = self.readers.discard


def test_a_storm_is_one_look_in_half_a_second(watch: Watch, store: Path) -> None:
    """Events that never pause do not put off a look for ever, and do not cause one each."""
    clock, woken = _Reading(), []
    bell = Bell(clock, watch, woken.append, Debounce(0.02, 0.5))
    bell.start()
    for number in range(60):
        (store / "a" / f"{number}").write_bytes(b"x")
        bell.doRead()
        clock.advance(0.01)
    assert len(woken) == 1
    clock.advance(1.0)
    assert woken == [Wake(frozenset({"a"}))] * 2
    bell.stop()
    assert not clock.readers


@pytest_twisted.ensureDeferred
async def test_an_error_of_the_look_is_survived(watch: Watch, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the real reactor: a look that fails is logged, the next event is heard, and the look is taken for both."""
    looked: list[Wake] = []
    failed, heard = defer.Deferred[None](), defer.Deferred[None]()

    def look(wake: Wake) -> None:
        looked.append(wake)
        if len(looked) == 1:
            failed.callback(None)
            raise ValueError("a mistake in the look")
        heard.callback(None)

    bell = Bell(reactor, watch, look)
    bell.start()
    try:
        with caplog.at_level(logging.ERROR):
            (store / "a" / "f").write_bytes(b"x")
            await failed.addTimeout(30, reactor)
            (store / "f").write_bytes(b"x")
            await heard.addTimeout(30, reactor)
    finally:
        bell.stop()
    assert looked == [Wake(frozenset({"a"})), Wake(frozenset({"a", ""}))]
    assert "a mistake in the look" in caplog.text
