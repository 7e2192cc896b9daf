"""What is recovered of files that are cut off or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.salvage import salvage
from socs_bl.bdf.writer import Piece
from socs_bl.core.errors import Faulty, Lost, Refused
from tests.bdf.bdf_files import check_pyasdm, check_sdmpy, header, random_pieces, window, write_file

MADE = header((window(1, 4), window(2, 3, 2, ("RR", "LL"), ("RR", "LL"))))
LAYOUT = Layout(MADE)
COUNT = 5


@pytest.fixture(scope="module")
def integrations() -> list[list[Piece]]:
    generator = np.random.default_rng(7)
    return [random_pieces(MADE, generator) for _ in range(COUNT)]


@pytest.fixture
def whole(tmp_path: Path, integrations: list[list[Piece]]) -> Path:
    path = write_file(tmp_path / ".private", MADE, integrations)
    finish(path)
    return path


def test_a_cut_file_gives_every_whole_integration(tmp_path: Path, whole: Path, integrations: list[list[Piece]]) -> None:
    """Cut anywhere: as many integrations as are whole, read by both readers, and the place of the cut."""
    data = whole.read_bytes()
    sizes = [
        LAYOUT.offset(count) + extra
        for count in (1, 3, 4)
        for extra in (0, 1, LAYOUT.block_bytes // 2, LAYOUT.block_bytes - 1)
    ]
    for number, size in enumerate(sizes):
        source, target = tmp_path / f"cut{number}", tmp_path / f"saved{number}"
        source.write_bytes(data[:size])
        saved = salvage(source, target)
        count = LAYOUT.blocks(size)
        rest = size - LAYOUT.offset(count)
        assert (saved.integrations, saved.first, saved.last, saved.closed) == (count, 1, count, False)
        assert [(gap.offset, gap.nbytes) for gap in saved.skipped] == [(LAYOUT.offset(count), rest)] * bool(rest)
        assert saved.bytes_kept == count * LAYOUT.block_bytes and saved.bytes_lost == rest
        check_sdmpy(target, MADE, integrations[:count])
        check_pyasdm(target, MADE, integrations[:count])


@pytest.mark.parametrize("damage", ["flip", "zeros", "lost", "inserted"])
def test_a_damaged_integration_is_skipped_and_named(tmp_path: Path, whole: Path, damage: str) -> None:
    """The others are copied byte by byte and keep their numbers; bytes may be missing or too many."""
    data = whole.read_bytes()
    start, length = LAYOUT.offset(2), LAYOUT.block_bytes
    middle = data.index(b"crossData.bin\nX-pad", start)
    broken = {
        "flip": data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :],
        "zeros": data[:start] + bytes(length) + data[start + length :],
        "lost": data[:middle] + data[middle + 100 :],
        "inserted": data[:middle] + b"x" * 100 + data[middle:],
    }[damage]
    source, target = tmp_path / "broken", tmp_path / "saved"
    source.write_bytes(broken)
    saved = salvage(source, target)
    assert saved.integrations == COUNT - 1 and saved.closed and [gap.offset for gap in saved.skipped] == [start]
    assert saved.bytes_lost == len(broken) - len(data) + length and "at byte" in saved.skipped[0].reason
    assert target.read_bytes() == data[:start] + data[start + length :]
    with BdfReader(target) as reader:
        assert [integration.number for integration in reader] == [1, 2, 4, 5]


def test_a_whole_file_is_copied_as_it_is(tmp_path: Path, whole: Path) -> None:
    """Nothing is skipped where nothing is wrong."""
    saved = salvage(whole, tmp_path / "saved")
    assert (saved.integrations, saved.skipped, saved.closed) == (COUNT, (), True)
    assert (tmp_path / "saved").read_bytes() == whole.read_bytes()


def test_a_part_that_is_still_written(tmp_path: Path, integrations: list[list[Piece]]) -> None:
    """``NAME.part`` as a killed writer leaves it, with the beginning of a block behind the last one."""
    path = write_file(tmp_path / ".private", MADE, integrations[:3])
    with open(path, "ab") as file:
        file.write(bytes(1000))
    saved = salvage(path, tmp_path / "saved")
    assert (saved.integrations, saved.bytes_lost) == (3, 1000)
    check_pyasdm(tmp_path / "saved", MADE, integrations[:3])


def test_salvage_overwrites_nothing_and_makes_nothing_up(tmp_path: Path, whole: Path) -> None:
    """An existing target, a file without header or without one whole integration: refused, and no file appears."""
    with pytest.raises(Refused, match="exists"):
        salvage(whole, whole)
    target, source = tmp_path / "saved", tmp_path / "source"
    data = whole.read_bytes()
    for content, error in (
        (data[: LAYOUT.offset(1) - 1], Lost),
        (data[:200], Faulty),
        (b"MIMO" + data, Refused),
        (data.replace(b"<numAntenna>3", b"<numAntenna>?"), Faulty),
    ):
        source.write_bytes(content)
        with pytest.raises(error, match="source"):
            salvage(source, target)
        assert not target.exists()
