"""BLF: written, read in either byte order, damaged, played; framedump."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Faulty, Refused
from socs_bl.correlator.blf import BlfReader
from socs_bl.correlator.framedump import FrameDump
from socs_bl.correlator.replay import Replay
from socs_bl.correlator.source import Batch
from socs_bl.correlator.wire import parse_frame
from tests.correlator.frames import START_NS, batch_of, configuration, dump_of

WHOLE, HALF = configuration(5), configuration(4, half=True)
FRAMES = [bytes(one) for dump in range(3) for config in (WHOLE, HALF) for one in dump_of(config, dump)]


def read(path: Path) -> tuple[list[bytes], int]:
    """Frames of a file, and bytes left out."""
    reader = BlfReader(path)
    found: list[bytes] = []
    try:
        while True:
            found += messages(reader.read())
    except EOFError:
        return found, reader.skipped
    finally:
        reader.close()


def messages(batch: Batch) -> list[bytes]:
    return [
        batch.data[int(start) : int(start + length)].tobytes()
        for start, length in zip(batch.starts[: batch.count], batch.lengths[: batch.count], strict=True)
    ]


@pytest.mark.parametrize("swapped", [False, True])
def test_frames_come_back(tmp_path: Path, swapped: bool) -> None:
    """Frames of both lengths, of either byte order, over many chunks of the file, are those that were written."""
    path = tmp_path / "x.blf"
    frames = FRAMES * 60
    data = b"".join(frames)
    path.write_bytes(np.frombuffer(data, np.uint32).byteswap().tobytes() if swapped else data)
    assert read(path) == (frames, 0)


@settings(max_examples=60)
@given(
    st.integers(0, len(FRAMES) - 1),
    st.integers(0, 551),
    st.integers(0, 3),
    st.binary(max_size=2000),
    st.integers(0, 600),
)
def test_damage_costs_what_it_hits(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, kind: int, junk: bytes, cut: int
) -> None:
    """Bytes put in, taken out, or changed: every frame that was not touched is read, and what was left out is counted."""
    path = tmp_path_factory.getbasetemp() / "damaged.blf"
    hit = FRAMES[at]
    junk = junk.replace(b"\xf8", b"\0").replace(b"\x83", b"\0")  # no sync word
    damaged = {
        0: junk + hit,
        1: hit[:byte] + hit[byte + 1 :],
        2: hit[:byte] + bytes([hit[byte] ^ 0x55]) + hit[byte + 1 :],
        3: hit[: byte - cut] if byte > cut else b"",
    }[kind]
    path.write_bytes(b"".join([*FRAMES[:at], damaged, *FRAMES[at + 1 :]]))
    found, skipped = read(path)
    others = FRAMES[:at] + FRAMES[at + 1 :]
    kept = [one for one in found if one in set(others)]
    assert kept == others
    assert sum(map(len, found)) + skipped == path.stat().st_size
    if kind == 0:
        assert (found, skipped) == (FRAMES, len(junk))


def test_the_end_may_be_cut(tmp_path: Path) -> None:
    """A file that ends within a frame gives all whole ones."""
    path = tmp_path / "x.blf"
    path.write_bytes(b"".join(FRAMES)[:-5])
    assert read(path) == (FRAMES[:-1], len(FRAMES[-1]) - 5)
    path.write_bytes(b"")
    assert read(path) == ([], 0)


def test_live_timestamps(tmp_path: Path) -> None:
    """Timestamps and checksums are rewritten: the first frame is of now, dumps keep their distance, wrong sums stay wrong."""
    path = tmp_path / "x.blf"
    wrong = FRAMES[1][:-1] + bytes([FRAMES[1][-1] ^ 1])
    path.write_bytes(b"".join([FRAMES[0], wrong, *FRAMES[2:]]))
    now = 4_000_000_000.4
    replay = Replay(path, live_timestamps=True, clock=lambda: now)
    batch = replay.read(0.0)
    assert batch is not None
    played = messages(batch)
    replay.close()
    for at, (old, new) in enumerate(zip(FRAMES, played, strict=True)):
        if at == 1:
            with pytest.raises(Refused, match="checksum"):
                parse_frame(new)
        else:
            before, after = parse_frame(old), parse_frame(new)
            assert after.time_ns - before.time_ns == 4_000_000_000 * 10**9 - START_NS // 10**9 * 10**9
            assert np.array_equal(before.lags, after.lags)


def test_a_rate_is_kept(tmp_path: Path) -> None:
    """At a rate no more frames come than are due, and it can be changed while the file plays."""
    path = tmp_path / "x.blf"
    path.write_bytes(b"".join(FRAMES))
    replay = Replay(path, rate=1e-3)
    first = replay.read(0.0)
    assert first is not None and first.count == 1
    assert replay.read(0.0) is None and replay.wait_s() > 100
    replay.rate = 0.0
    rest = replay.read(0.0)
    assert rest is not None and rest.count == len(FRAMES) - 1
    assert replay.origin(0) == f"{path}, frame 1"
    with pytest.raises(EOFError):
        replay.read(0.0)
    replay.close()
    with pytest.raises(Faulty, match="give the path of a BLF file"):
        Replay(tmp_path / "none")


def test_framedump_binary(tmp_path: Path) -> None:
    """What is dumped is what came, in files of the size asked for, that read back as the frames."""
    dump = FrameDump("binary", str(tmp_path), 20_000, "cbe0")
    for _ in range(4):
        dump.write(batch_of([*FRAMES, b"no frame"]))
    dump.close()
    assert [path.name.split("-")[-1] for path in dump.files] == ["00.blf", "01.blf", "02.blf", "03.blf"]
    assert sorted(tmp_path.iterdir()) == dump.files and dump.files[0].name.startswith("cbe0-20")
    assert [frame for path in dump.files for frame in read(path)[0]] == FRAMES * 4


def test_framedump_ascii(tmp_path: Path) -> None:
    """A line for each frame: fields by name, then the lags; what is no frame is said to be none."""
    dump = FrameDump("ascii", str(tmp_path), instance="cbe0")
    coalesced = batch_of([FRAMES[0] + FRAMES[1], b"abc"])
    dump.write(coalesced)
    dump.close()
    lines = dump.files[0].read_text().splitlines()
    assert len(lines) == 3 and lines[2].startswith("bad=")
    values = dict(item.split("=") for item in lines[1].split(" "))
    frame = parse_frame(FRAMES[1])
    assert {name: int(values[name]) for name in frame.header} == frame.header
    assert [int(value) for value in values["lags"].split(",")] == frame.lags.ravel().tolist()


def test_framedump_that_cannot_be_written(tmp_path: Path) -> None:
    """Wrong settings are refused; a directory that vanishes ends the dump in a sentence."""
    for mode, directory, size, name in (
        ("text", str(tmp_path), 0, "x"), ("binary", "relative", 0, "x"), ("binary", str(tmp_path / "no"), 0, "x"),
        ("binary", str(tmp_path), -1, "x"), ("binary", str(tmp_path), 0, "../x"),
    ):  # fmt: skip
        with pytest.raises(Refused):
            FrameDump(mode, directory, size, name)
    gone = tmp_path / "gone"
    gone.mkdir()
    dump = FrameDump("binary", str(gone), 1, "x")
    dump.write(batch_of(FRAMES))
    dump.files[0].unlink()
    gone.rmdir()
    with pytest.raises(Faulty, match="framedump to"):
        dump.write(batch_of(FRAMES))
    dump.write(batch_of(FRAMES))  # nothing is written any more
