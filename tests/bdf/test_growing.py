"""The order in which bytes go into a growing file, and how they are gathered."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from socs_bl.bdf import gather
from socs_bl.bdf.cells import Cells
from socs_bl.bdf.gather import address_of, merged, write_gathered
from socs_bl.bdf.growing import GrowingFile
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.writer import BdfWriter
from tests.bdf.bdf_files import good_pieces, header, scan_of, window


class Killed(BaseException):
    """Stands for SIGKILL: nothing cleans up behind it."""


class Dying(GrowingFile):
    """Is killed at its n-th write."""

    def __init__(self, descriptor: int, layout: Layout, writes: int) -> None:
        super().__init__(descriptor, layout)
        self.left = writes

    def put(self, data: memoryview, offset: int) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().put(data, offset)


def test_a_block_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    """Killed at any write while it is set up: the block is not there, and the next one sets it up."""
    layout = Layout(header())
    path = tmp_path / "file"
    for writes in range(50):
        path.write_bytes(layout.framing.head)
        with open(path, "r+b", buffering=0) as file:
            whole = GrowingFile(file.fileno(), layout)
            try:
                Dying(file.fileno(), layout, writes).set_up(0)
            except Killed:
                assert not whole.is_set_up(0), writes
                whole.set_up(0)
                assert whole.is_set_up(0)
            else:
                assert whole.is_set_up(0) and writes > 5
                return
    raise AssertionError("a block needs more than 50 writes")


def test_flags_go_last() -> None:
    """A number that is flagged good is in the file: of each piece data, durations and times go before the flags."""
    made = header((window(), window(2)))
    layout = Layout(made)
    cells = Cells(layout, "test")
    cells.place(good_pieces(made)[:1])
    places = [place for place, _ in cells.runs()]
    after = layout.parts["actualTimes"].offset
    flags = [place < after for place in places]
    assert flags == sorted(flags) and set(flags) == {False, True}


def waits_for(path: Path, kind: str) -> bool:
    """Whether somebody waits for the lock on a file."""
    inode = f":{path.stat().st_ino} "
    return any("->" in line and kind in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_setting_up_waits_for_those_who_write(tmp_path: Path) -> None:
    """A new block needs the lock alone; pieces of one that is there only need it shared."""
    made = header((window(), window(2)))
    with BdfWriter.open(tmp_path, made, scan_of(made)) as writer:
        writer.write(0, good_pieces(made))
        with open(writer.path, "rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            writer.write(0, good_pieces(made)[:1])
            thread = threading.Thread(target=writer.write, args=(1, good_pieces(made)[:1]))
            thread.start()
            deadline = time.monotonic() + 60
            while not waits_for(writer.path, "FLOCK  ADVISORY  WRITE"):
                assert thread.is_alive() and time.monotonic() < deadline
            fcntl.flock(other, fcntl.LOCK_UN)
            thread.join()


def vectors(generator: random.Random, count: int) -> tuple[np.ndarray, bytes, list[np.ndarray]]:
    """Pieces of random memory, all their bytes, and what keeps them."""
    memory = [np.frombuffer(generator.randbytes(4096), np.uint8) for _ in range(8)]
    made, expected = [], b""
    for _ in range(count):
        first, length = generator.randrange(2048), generator.choice((0, 1, 7, 700))
        piece = generator.choice(memory)
        made.append((address_of(piece) + first, length))
        expected += piece[first : first + length].tobytes()
    return np.array(made, np.int64), expected, memory


@pytest.mark.parametrize("short", [False, True])
def test_gathered_bytes_arrive_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    """More pieces than a call takes; also where the system takes only part of what it is given, as it may."""
    generator = random.Random(3)
    if short:

        def some(descriptor: int, start: int, count: int, offset: int) -> int:
            given = np.frombuffer(ctypes.string_at(start, 16 * count), np.int64).reshape(-1, 2).tolist()
            whole = b"".join(ctypes.string_at(address, length) for address, length in given)
            return os.pwrite(descriptor, whole[: generator.randint(min(1, len(whole)), len(whole))], offset)

        monkeypatch.setattr(gather, "_PWRITEV", some)
    for count in (1, 2, 1024, 3000):
        made, expected, kept = vectors(generator, count)
        path = tmp_path / str(count)
        with open(path, "w+b") as file:
            write_gathered(file.fileno(), made, 5)
        assert path.read_bytes() == bytes(5) * bool(expected) + expected
        del kept


def test_neighbours_in_memory_are_one_piece() -> None:
    """Rows of one array become one; empty ones go; nothing stays nothing."""
    rows = np.zeros((6, 10), np.uint8)
    made = np.array([(address_of(rows[row]), 10) for row in (0, 1, 2, 4, 5)] + [(7, 0)])
    assert merged(made).tolist() == [[address_of(rows[0]), 30], [address_of(rows[4]), 20]]
    assert merged(made[5:]).tolist() == []
