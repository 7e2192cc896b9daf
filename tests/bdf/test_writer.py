"""Several writers of one file, killed ones, full disks, readers that look while it grows."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import Header, Layout
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import decode_scan, file_name
from socs_bl.bdf.writer import BdfWriter, Piece, part_path, scan_path
from socs_bl.core.errors import Lost, Refused
from tests.bdf import writer_process
from tests.bdf.bdf_files import (
    FIELDS,
    START,
    check_pyasdm,
    check_sdmpy,
    good_pieces,
    header,
    random_pieces,
    scan_of,
    window,
    write_file,
)
from tests.harness import disk

PAIR = ("RR", "LL")
ROOT = Path(__file__).parents[2]


def rows_of(piece: Piece, baselines: np.ndarray, antennas: np.ndarray) -> Piece:
    """Part of a piece's rows, in the order given."""
    arrays = {field: getattr(piece, field)[baselines if field.startswith("cross") else antennas] for field in FIELDS}
    return Piece(piece.window, baselines, antennas, **arrays)


@settings(max_examples=25)
@given(data=st.data())
def test_however_the_pieces_come_the_file_is_the_same(data: st.DataObject) -> None:
    """Any division of the integrations into windows and rows, any order, two writers: byte by byte the file of one writer."""
    made = header((window(1, 3), window(2, 2, 2, ("RR",), ("RR", "LL"))), 3)
    generator = np.random.default_rng(1)
    integrations = [random_pieces(made, generator) for _ in range(3)]
    jobs = []
    for index, pieces in enumerate(integrations):
        for piece in pieces:
            split = data.draw(st.integers(0, 3))
            order = np.array(data.draw(st.permutations(range(3))))
            jobs += [
                (index, rows_of(piece, order[:split], order[:split])),
                (index, rows_of(piece, order[split:], order[split:])),
            ]
    jobs = data.draw(st.permutations(jobs))
    with TemporaryDirectory() as name:
        expected = write_file(Path(name) / "one", made, integrations).read_bytes()
        place = Path(name) / "two"
        with BdfWriter.open(place, made, scan_of(made)) as first, BdfWriter.open(place, made, scan_of(made)) as second:
            for number, (index, piece) in enumerate(jobs):
                (first, second)[number % 2].write(index, [piece])
        assert part_path(place, made.uid).read_bytes() == expected


def test_who_comes_first_decides_the_start(tmp_path: Path) -> None:
    """A later writer takes the file's own header, and the scan stands beside it once."""
    made = header()
    late = replace(made, start_ns=START + 7)
    with BdfWriter.open(tmp_path / ".private", made, scan_of(made)) as first:
        with BdfWriter.open(tmp_path / ".private", late, scan_of(made, source="other")) as second:
            assert second.header == first.header == made
            second.write(0, good_pieces(made))
        assert sorted(path.name for path in (tmp_path / ".private").iterdir()) == [
            f"{file_name(made.uid)}.part",
            f"{file_name(made.uid)}.scan.json",
        ]
    assert decode_scan(scan_path(tmp_path / ".private", made.uid).read_bytes()) == scan_of(made)


@pytest.mark.parametrize("change", [{"antennas": 4}, {"interval_ns": 7}, {"windows": (window(channels=9),)}])
def test_a_writer_of_another_shape_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Nothing of one configuration comes into the file of another."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)])
    before = path.read_bytes()
    with pytest.raises(Refused, match=f"exists with {next(iter(change))}"):
        BdfWriter.open(tmp_path / ".private", replace(made, **change), scan_of(made))  # type: ignore[arg-type]
    assert path.read_bytes() == before


def test_a_finished_or_published_file_takes_nothing_more(tmp_path: Path) -> None:
    """A writer that has it open and one that comes later: refused, and the file is untouched."""
    made = header()
    with BdfWriter.open(tmp_path / ".private", made, scan_of(made)) as writer:
        writer.write(0, good_pieces(made))
        writer.write(1, good_pieces(made))
        finish(writer.path)
        before = writer.path.read_bytes()
        for index in (0, 2):
            with pytest.raises(Refused, match="has been finished with 2 integrations"):
                writer.write(index, good_pieces(made))
        assert writer.path.read_bytes() == before
    os.rename(writer.path, tmp_path / file_name(made.uid))
    with pytest.raises(Refused, match="has been published"):
        BdfWriter.open(tmp_path / ".private", made, scan_of(made))


def test_pieces_that_do_not_fit_are_refused_whole(tmp_path: Path) -> None:
    """A wrong shape, type, row, window or index, or data without flags: a sentence, and no byte of it in the file."""
    made = header((window(), window(2)))
    good, other = good_pieces(made)
    assert good.cross is not None and good.auto is not None
    with BdfWriter.open(tmp_path / ".private", made, scan_of(made)) as writer:
        writer.write(0, [other])
        before = writer.path.read_bytes()
        for wrong, said in (
            (replace(good, cross=good.cross[:2]), "the file takes"),
            (replace(good, cross=good.cross[..., :1]), "the file takes"),
            (replace(good, auto=good.auto + 1j), "the file takes"),
            (replace(good, cross_flags=None), "belong together"),
            (replace(good, window=2), "window 2; the file has 2"),
            (replace(good, baselines=np.array([0, 1, 3])), "counted from 0"),
            (replace(good, antennas=np.array([-1, 1, 2])), "counted from 0"),
        ):
            with pytest.raises(Refused, match=said):
                writer.write(0, [other, wrong])
        for index in (-1, 3601):
            with pytest.raises(Refused, match="too long|integration -1"):
                writer.write(index, [good])
        assert writer.path.read_bytes() == before


def blocks_of(path: Path, made: Header) -> Iterator[tuple[int, int, bool, bool]]:
    """Number, window, whether all of it is good, and whether none is; what is good has the right value."""
    with BdfReader(path, partial=True) as reader:
        for integration in reader:
            for number in range(len(made.windows)):
                good = []
                for kind in ("cross", "auto"):
                    flags = getattr(integration, f"{kind}_flags")[number]
                    data = getattr(integration, kind)[number]
                    assert np.isin(flags, (0, 1)).all()
                    assert np.all(np.where((flags == 0)[..., None, :], data == integration.number, True)), (
                        integration.number, number,
                    )  # fmt: skip
                    good.append(flags == 0)
                yield integration.number - 1, number, all(map(np.all, good)), not any(map(np.any, good))


def start(directory: Path, which: str, first: int, count: int, channels: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.bdf.writer_process", directory, which, first, count, channels]
    return subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def kill_after(child: subprocess.Popen[str], index: int) -> int:
    """SIGKILL when it has written `index`; the last number it printed."""
    last = -1
    assert child.stdout is not None
    for line in child.stdout:
        last = int(line)
        if last >= index and child.poll() is None:
            child.kill()
    assert child.wait() in (-signal.SIGKILL, 0)
    child.stdout.close()
    return last


def test_a_killed_process_costs_its_own_pieces(tmp_path: Path) -> None:
    """Three processes, a window each; one is killed: the others' windows are whole, its own flagged from there on."""
    directory, count, channels = tmp_path / ".private", 40, 512
    children = [start(directory, str(number), 0, count, channels) for number in range(3)]
    last = kill_after(children[1], 12)
    assert [kill_after(child, count + 1) for child in (children[0], children[2])] == [count - 1] * 2
    made = writer_process.shape(channels)
    path = part_path(directory, writer_process.UID)
    assert finish(path).integrations == count
    for index, number, good, nothing in blocks_of(path, made):
        if number != 1 or index <= last:
            assert good, (index, number)
        elif index > last + 1:  # of the next one anything may be there, but nothing wrong
            assert nothing, (index, number)


def test_a_writer_of_whole_integrations_is_killed_and_another_goes_on(tmp_path: Path) -> None:
    """Killed at any byte of an integration: what was reported is whole, what comes after is written anew."""
    directory, channels, first = tmp_path / ".private", 16384, 0
    for _ in range(3):
        first = 1 + kill_after(start(directory, "all", first, 400, channels), first + 3)
    path = part_path(directory, writer_process.UID)
    made = writer_process.shape(channels)
    with BdfWriter.open(directory, made, scan_of(made)) as writer:
        writer.write(first, [writer_process.piece(made, 0, first)])
    assert finish(path).integrations == first + 1
    states = list(blocks_of(path, made))
    assert all(good for index, _, good, _ in states if index < first)
    assert [(good, nothing) for index, _, good, nothing in states if index == first] == [(True, False)] + [
        (False, True)
    ] * 2


@pytest.mark.parametrize("whole", [True, False])
def test_a_block_that_was_begun_is_begun_again(tmp_path: Path, whole: bool) -> None:
    """Killed while it set up a block, at any place: the next writer's integration is whole, and no other number is good."""
    made = header((window(auto=PAIR), window(2, auto=PAIR)))
    layout = Layout(made)
    data = write_file(tmp_path / "a", made, [good_pieces(made, 1.0), good_pieces(made, 7.0)]).read_bytes()
    begun = data[layout.offset(1) :]
    for number, left in enumerate((b"", begun[:1], begun[:-1], bytes(20) + begun[20:], bytes(len(begun)))):
        directory = tmp_path / str(number)
        path = write_file(directory, made, [good_pieces(made, 1.0)])
        with open(path, "ab") as file:
            file.write(left)
        with BdfWriter.open(directory, made, scan_of(made)) as writer:
            pieces = good_pieces(made, 2.0)
            writer.write(1, pieces if whole else pieces[:1])
        states = [(good, nothing) for _, _, good, nothing in blocks_of(path, made)]
        with BdfReader(path, partial=True) as reader:
            assert whole or not np.any(reader[1].cross[1])  # type: ignore[index]  # nothing of the killed one is left
        assert states == [(True, False)] * 3 + ([(True, False)] if whole else [(False, True)])


def test_readers_see_whole_integrations_while_it_grows(tmp_path: Path) -> None:
    """Whoever opens the file at any moment reads integrations that are right or flagged, never half of one."""
    made = header((window(1, 4096, auto=PAIR), window(2, 4096, auto=PAIR)))
    done = threading.Event()

    def write() -> None:
        try:
            with BdfWriter.open(tmp_path, made, scan_of(made)) as writer:
                for index in range(60):
                    pieces = good_pieces(made, index + 1.0)
                    for part in (pieces,) if index % 2 else (pieces[:1], pieces[1:]):
                        writer.write(index, part)
        finally:
            done.set()

    path = write_file(tmp_path, made, [])
    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not done.is_set():
        states = list(blocks_of(path, made))
        seen.add(len(states))
        assert all(good or nothing for index, _, good, nothing in states if index % 2)
    thread.join()
    assert len(list(blocks_of(path, made))) == 120 and len(seen) > 1


def test_a_full_disk_costs_one_integration_and_the_next_file_works(tmp_path: Path) -> None:
    """The error names file and integration; the file closes with what it has; the next one is written."""
    made, other = (header((window(1, 4096), window(2))) for _ in range(2))
    count = 2
    with disk.tiny_disk(tmp_path / "tiny", int((count + 0.5) * Layout(made).block_bytes)) as place:
        with BdfWriter.open(place / ".private", made, scan_of(made)) as writer:
            for pieces in (good_pieces(made), good_pieces(made)[:1]):
                for index in range(count):
                    writer.write(index, pieces)
                with pytest.raises(Lost, match=f"{writer.path}: integration {count} is lost: No space"):
                    writer.write(count, pieces)
            whole = writer.path.stat().st_size
        assert finish(writer.path).integrations == count and writer.path.stat().st_size == whole + 20
        check_sdmpy(writer.path, made, [good_pieces(made)] * count)
        check_pyasdm(writer.path, made, [good_pieces(made)] * count)
        writer.path.unlink()
        finish(write_file(place / ".private", other, [good_pieces(other)]))


def test_a_disk_that_refuses_is_a_loss_that_names_the_file(tmp_path: Path) -> None:
    """A limit on the file's size stands for quota and broken disks: written again when there is room."""
    made = header()
    layout = Layout(made)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with BdfWriter.open(tmp_path / ".private", made, scan_of(made)) as writer:
        writer.write(0, good_pieces(made))
        resource.setrlimit(resource.RLIMIT_FSIZE, (layout.offset(1) + 1000, hard))
        try:
            for pieces in (good_pieces(made), []):
                with pytest.raises(Lost, match=f"{writer.path}: integration 1 is lost: File too large"):
                    writer.write(1, pieces)
                assert writer.path.stat().st_size == layout.offset(1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.write(1, good_pieces(made))
    assert finish(writer.path).integrations == 2
