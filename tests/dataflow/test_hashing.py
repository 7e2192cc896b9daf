"""What the bytes of a file hash to."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused, Retry
from socs_bl.dataflow import receiver
from socs_bl.dataflow.hashing import digest
from socs_bl.dataflow.model import ALGORITHMS, Seen
from socs_bl.dataflow.receiver import BLOCK, Disk
from tests.dataflow.moving import make

OTHER_PYTHONS = ("3.9", "3.10", "3.12")


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 7])
def test_all_algorithms_in_one_reading(tmp_path: Path, size: int) -> None:
    """Every digest is what the libraries say of all the bytes at once, and the file is read once."""
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    opened: list[bytes] = []

    class Counting(Disk):
        def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
            opened.append(path)
            return super().open(path, flags, mode)

    found = digest(tmp_path / "file", ALGORITHMS, disk=Counting())
    assert {name: one.hex for name, one in found.items()} == {
        "xxh3_128": xxhash.xxh3_128_hexdigest(data),
        "sha1": hashlib.sha1(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
    }
    assert len(opened) == 1


@pytest.mark.parametrize("how", ["grown", "replaced", "gone"])
def test_a_file_that_does_not_hold_still_has_no_digest(tmp_path: Path, how: str) -> None:
    """A file that grows, is replaced or vanishes while it is read is to be looked at again."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)

    class Meanwhile(Disk):
        def read(self, descriptor: int, buffer: memoryview) -> int:
            count = super().read(descriptor, buffer)
            if not count:
                if how == "grown":
                    with path.open("ab") as file:
                        file.write(b"more")
                else:
                    path.unlink()
                if how == "replaced":
                    path.write_bytes(b"x" * 1000)
            return count

    with pytest.raises(Retry):
        digest(path, disk=Meanwhile())


def test_the_file_that_was_seen(tmp_path: Path) -> None:
    """Another file under the name that was seen is not hashed for it; what is no file is not hashed at all."""
    seen = make(tmp_path, "file", b"x").seen
    digest(tmp_path / "file", expected=seen)
    with pytest.raises(Retry):
        digest(tmp_path / "file", expected=Seen("source", "file", seen.size, seen.mtime_ns, seen.inode + 1))
    with pytest.raises(Retry):
        digest(tmp_path / "none")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused):
        digest(tmp_path / "link")
    with pytest.raises(Retry):
        digest(tmp_path / "pipe")


@given(st.binary(max_size=30).filter(lambda name: b"\0" not in name))
def test_paths_survive_a_request(path: bytes) -> None:
    """Any bytes of a path come back from JSON as they were, in whatever locale the other side is."""
    assert receiver.raw(json.loads(json.dumps(receiver.text(path)))) == path


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_the_receiver_runs_on_other_pythons(tmp_path: Path, version: str) -> None:
    """What is sent to other hosts needs nothing that an older or a newer Python, or one without our libraries, lacks."""
    found = [f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    python = next((name for name in found if _runs(name, version)), None)
    if python is None:
        pytest.skip(f"no Python {version} is installed")
    item = make(tmp_path, os.fsdecode(b"\xff x"), b"x")
    known = digest(tmp_path / item.seen.path, ["sha1"])["sha1"]
    request = {
        "do": "verify",
        "root": str(tmp_path),
        "items": [{"path": item.seen.path, "size": 1, "algorithm": "sha1", "hex": known.hex}],
    }
    argv = [python, "-I", "-c", f"n={{'__name__':'receiver'}};exec(open({receiver.__file__!r}).read(),n);n['main']()"]
    done = subprocess.run(
        argv, input=json.dumps(request).encode(), capture_output=True, env={"LC_ALL": "C"}, check=True
    )
    assert [one["state"] for one in json.loads(done.stdout)["answer"]] == ["ok"]


def _runs(python: str, version: str) -> bool:
    try:
        done = subprocess.run([python, "--version"], capture_output=True, text=True)
    except OSError:
        return False
    return done.stdout.startswith(f"Python {version}.")


def test_xxhsum_stands_for_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the program xxhsum, which prints the digest and a name, is asked; without both, nobody claims it."""
    monkeypatch.setattr(receiver, "xxhash", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "xxh3_128" not in receiver.hashers()
    program = tmp_path / "xxhsum"
    program.write_text(
        f"#!{sys.executable}\nimport sys, xxhash\nassert sys.argv[1:] == ['-H2', '-']\n"
        "print(xxhash.xxh3_128_hexdigest(sys.stdin.buffer.read()) + '  stdin')\n"
    )
    program.chmod(0o755)
    path = make(tmp_path, "file", b"x" * 100_000).seen.path
    assert digest(tmp_path / path)["xxh3_128"].hex == xxhash.xxh3_128_hexdigest(b"x" * 100_000)
