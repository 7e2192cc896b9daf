"""A crash at every boundary between system calls of copy, verify, rename and delete: a whole copy is there at every instant."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from socs_bl.dataflow.hand import LocalHand
from socs_bl.dataflow.hashing import digest
from socs_bl.dataflow.outcome import Cause
from socs_bl.dataflow.receiver import FEW, Disk
from socs_bl.dataflow.transfer import Item, LocalCarrier, Report, transfer
from tests.dataflow.moving import arriving, causes, describe, make, tree

NAMES = {"a.h5": b"one" * 1000, "deep/b.h5": b"two" * 2000, "empty": b""}


class Crash(BaseException):
    """The process is gone; nothing may catch this."""


class Mortal(Disk):
    """A disk whose user dies before a call; what it leaves is also what a death after the call before leaves.

    Parameters
    ----------
    dies_at : int
        Number of the call; 0: never.
    power : bool
        The power goes with it: what was not put on disk is lost, data and names, the worst way round.
    nfs : bool
        The file system cannot rename without replacing.
    """

    calls: int
    _METHODS = frozenset(name for name, value in vars(Disk).items() if callable(value))

    def __init__(self, dies_at: int = 0, power: bool = False, nfs: bool = False) -> None:
        self._dies_at = dies_at
        self._power = power
        self._nfs = nfs
        self.calls = 0
        self.dirty: set[bytes] = set()  # files with data that is not on disk
        self.names: set[bytes] = set()  # names that are not

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name not in Mortal._METHODS:
            return found

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self._dies_at:
                self._die()
            if name == "rename" and self._nfs:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            answer = found(*arguments)
            self._remember(name, arguments)
            return answer

        return call

    def _remember(self, name: str, arguments: tuple[Any, ...]) -> None:
        def path(descriptor: int) -> bytes:
            return os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))

        if name in ("write", "copy_range"):
            self.dirty.add(path(arguments[1] if name == "copy_range" else arguments[0]))
        elif name == "open" and len(arguments) > 1 and arguments[1] & os.O_CREAT or name == "mkdir":
            self.names.add(arguments[0])
        elif name in ("link", "rename", "replace"):
            self.names.add(arguments[1])
            if arguments[0] in self.dirty:
                self.dirty.add(arguments[1])
        elif name == "fsync":
            synced = path(arguments[0])
            self.dirty.discard(synced)
            self.names = {known for known in self.names if os.path.dirname(known) != synced}
        elif name == "sync_file_system":
            self.dirty, self.names = set(), set()

    def _die(self) -> None:
        if self._power:
            for path in self.dirty:
                if os.path.exists(path):
                    os.truncate(path, 0)
            for path in sorted(self.names, key=len, reverse=True):
                if os.path.isdir(path):
                    shutil.rmtree(path)
                elif os.path.lexists(path):
                    os.unlink(path)
        raise Crash


def move(source: Path, target: Path, disk: Disk) -> Report:
    """All of a move: carry, verify, name, and delete at the source what is verified at the target."""
    here = [name for name in NAMES if (source / name).exists()]
    items = [describe(source, name, digest=digest(source / name)["xxh3_128"]) for name in here]
    report = transfer(source, items, LocalCarrier(LocalHand(target, disk)), "hop", disk=disk)
    meant = [item.seen for item, outcome in zip(items, report.outcomes, strict=True) if outcome.good]
    described = [{"path": s.path, "size": s.size, "mtime_ns": s.mtime_ns, "inode": s.inode} for s in meant]
    LocalHand(source, disk).ask("delete", items=described)
    return report


def whole(root: Path, name: str) -> bool:
    """Whether a store has the file as it was."""
    path = root / name
    return path.is_file() and path.read_bytes() == NAMES[name]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory, where putting on disk takes no time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.mark.parametrize(
    ("power", "few", "nfs"),
    [(False, FEW, False), (True, FEW, False), (True, 0, False), (True, FEW, True)],
    ids=["process", "power", "power, the file system at once", "power, by hard links"],
)
def test_a_crash_at_every_call(place: Path, monkeypatch: pytest.MonkeyPatch, power: bool, few: int, nfs: bool) -> None:
    """Whenever the process, or the power, goes, every file is whole in one place at least, nothing else has its name, and
    the next attempt ends it without carrying what was there.
    """
    monkeypatch.setattr("socs_bl.dataflow.receiver.FEW", few)
    dies_at, crashed = 0, True
    while crashed:
        dies_at += 1
        source, target = place / f"{dies_at}" / "source", place / f"{dies_at}" / "target"
        target.mkdir(parents=True)
        for name, data in NAMES.items():
            make(source, name, data)
        try:
            move(source, target, Mortal(dies_at, power, nfs))
            crashed = False
        except Crash:
            pass
        for name in NAMES:
            assert whole(source, name) or whole(target, name), f"{name} is lost by a crash at call {dies_at}"
            assert whole(target, name) or not (target / name).exists(), f"{name} is visible and broken: {dies_at}"
        kept = [name for name in NAMES if whole(source, name) and whole(target, name)]
        report = move(source, target, Disk())
        assert causes(report).count(Cause.ALREADY_THERE) == len(kept)
        assert tree(target) == NAMES and tree(source) == {} and arriving(target) == []
        shutil.rmtree(place / f"{dies_at}")
    assert dies_at > 40, "the crashes cover the whole move"


def test_a_move_asks_the_disk_in_order(tmp_path: Path) -> None:
    """The source is deleted last, when the data and then the names of the copy were put on disk."""
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    make(source, "a.h5", NAMES["a.h5"])
    said: list[str] = []

    class Noting(Disk):
        def fsync(self, descriptor: int) -> None:
            super().fsync(descriptor)
            said.append("fsync directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync file")

        def rename(self, source: bytes, target: bytes) -> None:
            super().rename(source, target)
            said.append("name")

        def unlink(self, path: bytes) -> None:
            super().unlink(path)
            if path.startswith(os.fsencode(source)):
                said.append("delete")

    move(source, target, Noting())
    assert said == ["fsync file", "name", "fsync directory", "delete", "fsync directory"]


def test_a_replacement_is_whole_at_every_call(place: Path) -> None:
    """A broken copy is replaced in one step: under its name there is the old one or the whole new one."""
    source, target = place / "source", place / "target"
    target.mkdir()
    make(source, "a.h5", NAMES["a.h5"])
    for dies_at in range(1, 200):
        make(target, "a.h5", b"broken")
        item: Item = describe(source, "a.h5", replace=True)
        disk = Mortal(dies_at, power=True)
        try:
            transfer(source, [item], LocalCarrier(LocalHand(target, disk)), "hop", disk=disk)
        except Crash:
            # The power cut takes a name that was replaced and not yet on disk: the source still has it.
            assert not (target / "a.h5").exists() or (target / "a.h5").read_bytes() in (b"broken", NAMES["a.h5"])
            continue
        break
    assert whole(target, "a.h5") and disk.calls < dies_at


def test_a_power_cut_after_a_restart(place: Path) -> None:
    """A copy that was named by who was killed before it was on disk counts only when who finds it has put it there."""
    dies_at = 0
    for second in range(1, 200):
        first = None
        while first is None or not all(whole(place / "target", name) for name in NAMES):
            dies_at = dies_at + 1 if second == 1 else dies_at
            shutil.rmtree(place, ignore_errors=True)
            (place / "target").mkdir(parents=True)
            for name, data in NAMES.items():
                make(place / "source", name, data)
            first = Mortal(dies_at)
            with pytest.raises(Crash):
                move(place / "source", place / "target", first)
        again = Mortal(second, power=True)
        again.dirty, again.names = first.dirty, first.names  # the kernel has lived on
        try:
            move(place / "source", place / "target", again)
        except Crash:
            assert all(whole(place / "source", name) or whole(place / "target", name) for name in NAMES)
            continue
        break
    assert again.calls < second
