"""Raw data are deleted when the rule is proven, and only then."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from socs_bl.core.errors import Retry
from socs_bl.search.catalogue import OBSFILEDB, RAW
from socs_bl.search.effects import CATALOGUE, Places, SearchEffects
from socs_bl.search.model import DeleteRaw, DeletionEnded, Proof, Recorded, RegisterProducts


class Disk:
    """One searched and catalogued recording of two files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        places = Places("blpn64/0", directory / "host", directory / "products")
        self.effects = SearchEffects(places, None, None, lambda run, line: None)  # type: ignore[arg-type]
        self.folder = directory / "host" / "buf0" / "run"
        self.raw = [self.folder / f"guppi_a.{number:04d}.raw" for number in range(2)]
        self.hits = directory / "products" / "run" / "guppi_a.dat"
        for path, size in zip((*self.raw, self.hits), (3000, 1000, 10), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size))
        self.recorded = Recorded(
            "guppi_a", "MeerKAT:array_1:x", "blpn64/0", "J0", 1.8e9, 20.0, 1e9, 2e9, 1,
            tuple(str(path) for path in self.raw), bytes=4000,
            changed=tuple(path.stat().st_mtime_ns for path in self.raw),
        )  # fmt: skip
        self.effects.register(
            RegisterProducts(run="r", recordings=(self.recorded,), products=(str(self.hits),), searched=True)
        )

    def delete(self, rule: str = "searched", proof: Proof = Proof.SEARCHED, **changes: Any) -> DeletionEnded:
        recorded = msgspec.structs.replace(self.recorded, **changes)
        return self.effects.delete(
            DeleteRaw(
                datadir="/buf0/run", run="r", rule=rule, proof=proof, recordings=(recorded,),
                products=(str(self.hits),),
            )
        )  # fmt: skip

    def refused(self, **changes: Any) -> str:
        """Why nothing is deleted."""
        ended = self.delete(**changes)
        assert ended.refusal and not ended.freed
        return ended.refusal

    def catalogued(self) -> int:
        """Raw files in the catalogue."""
        connection = sqlite3.connect(self.directory / "products" / CATALOGUE / OBSFILEDB)
        (count,) = connection.execute("select count(*) from files where detset = ?", (RAW,)).fetchone()
        connection.close()
        return int(count)

    def untouched(self) -> bool:
        return all(path.exists() for path in self.raw) and self.catalogued() == 2


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk of this test's own."""
    return Disk(tmp_path)


def test_a_proven_recording_is_deleted_and_twice_is_once(disk: Disk) -> None:
    """Files, their directory and their catalogue entries go; doing it again, or the rest of it, is no failure."""
    disk.raw[0].unlink()
    for freed in (1000, 0):
        assert disk.delete() == DeletionEnded(datadir="/buf0/run", run="r", rule="searched", freed=freed)
        assert not disk.folder.exists() and disk.catalogued() == 0
    assert disk.hits.exists()


@pytest.mark.parametrize("present", [2, 1])
def test_what_has_grown_since_is_not_deleted(disk: Disk, present: int) -> None:
    """A file that has another size than when it was searched proves that not all was searched."""
    for path in disk.raw[present:]:
        path.unlink()
    os.truncate(disk.raw[0], 9000)
    assert "4000 were searched" in disk.refused()
    assert disk.raw[0].exists() and disk.catalogued() == 2


def test_what_has_shrunk_is_not_deleted(disk: Disk) -> None:
    """Nor is one that somebody has cut, or whose size before the search is not known."""
    os.truncate(disk.raw[1], 999)
    assert "3999 bytes" in disk.refused()
    assert "0 were searched" in disk.refused(bytes=0)
    assert disk.untouched()


def test_what_was_not_searched_is_not_deleted(disk: Disk) -> None:
    """A damaged recording stays, and so does one that has got another file since."""
    assert "not read to its end" in disk.refused(damage="the recording was interrupted here")
    (disk.folder / "guppi_a.0002.raw").touch()
    assert "guppi_a.0002.raw was not searched" in disk.refused()
    assert disk.untouched()


def test_without_a_hit_list_nothing_is_deleted(disk: Disk) -> None:
    """The product must be there and hold something."""
    disk.hits.write_bytes(b"")
    assert "no hit list" in disk.refused()
    assert disk.untouched()
    disk.hits.unlink()
    assert "no hit list" in disk.refused()
    assert disk.untouched()
    assert disk.delete("too_short", Proof.MEASURED).freed == 4000


def test_what_was_written_anew_is_not_deleted(disk: Disk) -> None:
    """Other bytes of the same number: the time of the last writing tells."""
    disk.raw[1].write_bytes(b"x" * 1000)
    os.utime(disk.raw[1], ns=(0, disk.recorded.changed[1] + 1))
    assert "guppi_a.0001.raw was written anew" in disk.refused()
    assert disk.untouched()


def test_what_is_elsewhere_is_not_deleted(disk: Disk) -> None:
    """Nothing outside of the instance's root goes, whatever the rule."""
    stray = disk.directory / "other.0000.raw"
    stray.write_bytes(bytes(4000))
    assert "is not below" in disk.refused(files=(str(stray),))
    assert stray.exists() and disk.untouched()


def test_by_force_everything_raw_goes_and_nothing_else(disk: Disk) -> None:
    """A person who insists deletes whatever was recorded in a directory, searched or not, and the catalogue agrees."""
    (disk.folder / "guppi_a.0002.raw").write_bytes(b"not searched")
    (disk.folder / "notes.txt").touch()
    effect = DeleteRaw(datadir="/buf0/run", run="", rule="forced", proof=Proof.NOTHING)
    assert disk.effects.delete(effect).freed == 4012
    assert [path.name for path in disk.folder.iterdir()] == ["notes.txt"]
    outside = msgspec.structs.replace(effect, datadir="/../etc")
    assert "not an absolute path of plain names" in disk.effects.delete(outside).refusal


def test_while_the_catalogue_is_locked_nothing_is_deleted(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked catalogue is to be tried again, with all files still there; the next try deletes them."""
    monkeypatch.setattr("socs_bl.search.effects.Catalogue.__init__.__defaults__", (0.05,))
    holder = sqlite3.connect(disk.directory / "products" / CATALOGUE / OBSFILEDB, isolation_level=None)
    holder.execute("begin immediate")
    with pytest.raises(Retry, match="2 of 2 raw files of /buf0/run are still there"):
        disk.delete()
    holder.execute("rollback")
    holder.close()
    assert disk.untouched()
    disk.delete()
    assert not disk.folder.exists()


def test_a_file_that_does_not_go_is_named_by_number(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file system refuses half-way the text says what is left, and the next try ends it."""
    unlink = Path.unlink

    def stubborn(path: Path, missing_ok: bool = False) -> None:
        if path == disk.raw[1]:
            raise OSError(16, "Device or resource busy")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stubborn)
        with pytest.raises(Retry, match="1 of 2 raw files of /buf0/run are still there: .*busy"):
            disk.delete()
    assert disk.catalogued() == 0
    disk.delete()
    assert not disk.folder.exists()
