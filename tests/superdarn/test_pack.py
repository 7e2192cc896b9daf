"""Packing: one stream, whole or not at all."""

from __future__ import annotations

import bz2
import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Retry
from socs_bl.core.stage import Verdict
from socs_bl.superdarn import pack, work
from socs_bl.superdarn.pack import Pack, unpack
from socs_bl.superdarn.work import Broken, NoParameters
from tests.harness.programs import need_program


def test_bzip2_reads_it(tmp_path: Path) -> None:
    """The packed file unpacks with bzip2 to the same bytes, keeps time and mode, and the input stays."""
    program = need_program("bzip2")
    source = tmp_path / "20240305.1400.00.sas.a.rawacf"
    source.write_bytes(os.urandom(3 << 20) + bytes(1 << 20))
    os.utime(source, ns=(10**18, 10**18))
    source.chmod(0o775)
    (tmp_path / "out").mkdir()
    result = Pack.work(source, tmp_path / "out", NoParameters())
    assert result.verdict is Verdict.OK
    (output,) = result.outputs
    unpacked = subprocess.run([program, "-dc", output], check=True, capture_output=True, timeout=60).stdout
    assert unpacked == source.read_bytes()
    assert output.stat().st_mtime_ns == 10**18
    assert output.stat().st_mode & 0o777 == 0o775
    assert os.listdir(tmp_path / "out") == [output.name]


def test_twice_is_once(tmp_path: Path) -> None:
    """A second run replaces the first one's file; appended streams would hide data from DMAP readers."""
    source = tmp_path / "x.rawacf"
    source.write_bytes(b"first")
    Pack.work(source, tmp_path, NoParameters())
    source.write_bytes(b"second")
    (output,) = Pack.work(source, tmp_path, NoParameters()).outputs
    assert bz2.decompress(output.read_bytes()) == b"second"
    with open(output, "rb") as file:
        assert b"".join(unpack(file, output.name)) == b"second"


def test_nothing_to_pack_is_bad(tmp_path: Path) -> None:
    """Empty and packed files are bad, and leave nothing behind."""
    (tmp_path / "out").mkdir()
    for name, content in (("x.rawacf", b""), ("x.rawacf.bz2", b"BZh9")):
        (tmp_path / name).write_bytes(content)
        assert Pack.work(tmp_path / name, tmp_path / "out", NoParameters()).verdict is Verdict.BAD
    assert os.listdir(tmp_path / "out") == []
    assert len(bz2.compress(b"")) == pack.EMPTY_BYTES


def test_growing_file_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written to while it is packed gives no output: its end is missing."""
    source = tmp_path / "x.rawacf"
    source.write_bytes(b"one record")
    write = pack.compress

    def grow(*arguments: object) -> int:
        with open(source, "ab") as file:
            file.write(b"another record")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "compress", grow)
    (tmp_path / "out").mkdir()
    with pytest.raises(Retry, match="changed"):
        Pack.work(source, tmp_path / "out", NoParameters())
    assert os.listdir(tmp_path / "out") == []


def test_full_disk_is_the_tools_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space says nothing about the file: tool_error, and no partial output."""
    source = tmp_path / "x.rawacf"
    source.write_bytes(b"a record")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(work, "sync", full)
    (tmp_path / "out").mkdir()
    result = Pack.work(source, tmp_path / "out", NoParameters())
    assert result.verdict is Verdict.TOOL_ERROR
    assert "No space left" in result.reason
    assert os.listdir(tmp_path / "out") == []


def test_wrong_packing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that forgets a bit on the way into the compressor: the packed file may take its input's place, so it is unpacked."""
    source = tmp_path / "x.rawacf"
    source.write_bytes(bytes(1000))

    class Forgetful:
        def __init__(self) -> None:
            self.real = bz2.BZ2Compressor()

        def compress(self, data: bytes) -> bytes:
            return self.real.compress(b"\x01" + data[1:])

        def flush(self) -> bytes:
            return self.real.flush()

    monkeypatch.setattr(pack, "bz2", SimpleNamespace(BZ2Compressor=Forgetful, BZ2Decompressor=bz2.BZ2Decompressor))
    (tmp_path / "out").mkdir()
    result = Pack.work(source, tmp_path / "out", NoParameters())
    assert (result.verdict, "memory" in result.reason) == (Verdict.TOOL_ERROR, True)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("damage", ["cut", "flip", "append", "plain"])
def test_damaged_streams_are_told(tmp_path: Path, damage: str) -> None:
    """Cut, flipped, appended to or not packed at all: `Broken`, with the place."""
    good = bz2.compress(os.urandom(100_000))
    data = {
        "cut": good[:-20],
        "flip": good[:5000] + bytes([good[5000] ^ 16]) + good[5001:],
        "append": good + bz2.compress(b"the second hour"),
        "plain": b"no bzip2 data",
    }[damage]
    path = tmp_path / "x.bz2"
    path.write_bytes(data)
    with pytest.raises(Broken, match=r"byte|bytes"), open(path, "rb") as file:
        list(unpack(file, path.name))


@given(st.lists(st.binary(max_size=200), max_size=8))
@settings(max_examples=50)
def test_any_pieces(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    """Whatever the pieces, the stream is one and unpacks to their sum."""
    path = tmp_path_factory.mktemp("pack") / "x.bz2"
    assert pack.compress(pieces, path) == path.stat().st_size
    with open(path, "rb") as file:
        assert b"".join(unpack(file, path.name)) == b"".join(pieces)
