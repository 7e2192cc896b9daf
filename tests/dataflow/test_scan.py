"""Looking at all files of a store."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.dataflow.model import Seen
from socs_bl.dataflow.outcome import Cause, Failure
from socs_bl.dataflow.receiver import INCOMING
from socs_bl.dataflow.scan import Scan, compare, scan

ODD = ["a b", "two\nlines", "'quoted\"", os.fsdecode(b"\xff\xfe"), "é", "A", "a"]


def paths(found: Scan) -> list[str]:
    """What was found."""
    return sorted(seen.path for seen in found.files)


def test_every_file_is_seen_as_it_is(tmp_path: Path) -> None:
    """Size, time and inode of every file at any depth, whatever it is called; what arrives is not there yet."""
    for name in ODD:
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(os.fsencode(name))
    (tmp_path / INCOMING / "hop").mkdir(parents=True)
    (tmp_path / INCOMING / "hop" / "half").write_bytes(b"x")
    found = scan("store", tmp_path)
    assert paths(found) == sorted(f"{name}/{name}" for name in ODD)
    for seen in found.files:
        status = (tmp_path / seen.path).stat()
        assert seen == Seen("store", seen.path, status.st_size, status.st_mtime_ns, status.st_ino)
    assert paths(scan("store", tmp_path, below="A", deep=False)) == ["A/A"]
    assert paths(scan("store", tmp_path, deep=False)) == []


def test_links_and_loops_end(tmp_path: Path) -> None:
    """Links to files and directories are left out; where they are followed, each directory is looked at once."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "real" / "self").symlink_to("self")
    (tmp_path / "again").symlink_to("real")
    (tmp_path / "link").symlink_to("real/file")
    os.mkfifo(tmp_path / "pipe")
    assert paths(scan("store", tmp_path)) == ["real/file"]
    followed = scan("store", tmp_path, follow=True)
    assert len(followed.files) == 1 and followed.files[0].path in ("real/file", "again/file")


def test_a_root_that_is_missing_has_lost_nothing(tmp_path: Path) -> None:
    """A store that is not there, or was looked at in part, is a failure, not a store without files."""
    with pytest.raises(Failure) as missing:
        scan("store", tmp_path / "none")
    assert missing.value.outcome.cause is Cause.NO_ROOT
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Failure):
        scan("store", tmp_path / "file")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Failure) as stopped:
        scan("store", tmp_path, stop=stop)
    assert stopped.value.outcome.cause is Cause.INTERRUPTED


def test_what_changed_grew_or_was_replaced(tmp_path: Path) -> None:
    """A file that is another one by size, time or inode is changed, not new; the rest is new or gone."""
    for name in ("same", "grown", "replaced", "gone"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, ns=(5, 5))
    known = {seen.path: seen for seen in scan("store", tmp_path).files}
    (tmp_path / "grown").write_bytes(b"xx")
    (tmp_path / "other").write_bytes(b"y")
    os.utime(tmp_path / "other", ns=(5, 5))
    (tmp_path / "other").rename(tmp_path / "replaced")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_bytes(b"x")
    changes = compare(known, scan("store", tmp_path))
    assert [[seen.path for seen in group] for group in changes] == [
        ["new"],
        sorted(["grown", "replaced"], key=[seen.path for seen in changes.changed].index),
        ["gone"],
    ]


NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "a/b/x", "ab/x", "b/x/y"])


@given(known=st.sets(NAMES), there=st.sets(NAMES), below=st.sampled_from(["", "a"]), deep=st.booleans())
def test_only_what_was_looked_at_can_be_gone(known: set[str], there: set[str], below: str, deep: bool) -> None:
    """A file is gone when a look at the directory it was in has not found it, and for no other reason."""

    def looked_at(path: str) -> bool:
        inside = not below or path.startswith(f"{below}/")
        return inside and (deep or os.path.dirname(path) == below)

    seen = {path: Seen("store", path, 1, 1, 1) for path in known | there}
    found = Scan([seen[path] for path in there if looked_at(path)], {}, 0, 1)
    changes = compare({path: seen[path] for path in known}, found, below, deep)
    assert {one.path for one in changes.gone} == {path for path in known - there if looked_at(path)}
    unread = Scan(found.files, {"a": "permission denied"}, 0, 1)
    gone = {one.path for one in compare({path: seen[path] for path in known}, unread, below, deep).gone}
    assert gone == {path for path in known - there if looked_at(path) and not f"{path}/".startswith("a/")}
