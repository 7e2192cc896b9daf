"""Manifests and acknowledgements: whole, the same twice, never taking back; and nothing outside of a store by their word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.dataflow.manifest import (
    Manifest,
    Sent,
    answer,
    encode,
    file_name,
    papers,
    proven,
    publish,
    publish_ack,
    read_ack,
    read_manifest,
)
from socs_bl.dataflow.model import Digest

NAMES = ("20240305.1400.00.sas.a.rawacf.bz2", "20240305.1400.00.sas.b.rawacf.bz2", "c")


def digest(number: int) -> Digest:
    """One of different digests."""
    return Digest("xxh3_128", f"{number:032x}")


def manifest(*files: tuple[str, int], closed: bool = False) -> Manifest:
    """One with these names and digests."""
    sent = tuple(
        Sent(name=name, bytes=10, digests=(digest(number),), places=(f"rawacf/{name}",)) for name, number in files
    )
    return Manifest(
        pipeline="site", stage="to_nas", host="bore206", block="20240305.1400.sas", files=sent, closed=closed
    )


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    """The file has the block's and the stage's name, and is JSON that others can read."""
    whole = publish(tmp_path, manifest((NAMES[1], 2), (NAMES[0], 1)))
    path = tmp_path / "20240305.1400.sas.to_nas.manifest.json"
    assert read_manifest(path) == whole
    assert [sent["name"] for sent in json.loads(path.read_text())["files"]] == sorted(NAMES[:2])
    assert papers(tmp_path) == ([path], [])


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    """The same manifest twice is one: the file is not even touched."""
    publish(tmp_path, manifest((NAMES[0], 1)))
    path = tmp_path / file_name(manifest())
    before = path.stat()
    publish(tmp_path, manifest((NAMES[0], 1)))
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_late_file_is_added(tmp_path: Path) -> None:
    """A manifest of one more file keeps those of before, and stays closed."""
    publish(tmp_path, manifest((NAMES[0], 1), closed=True))
    whole = publish(tmp_path, manifest((NAMES[1], 2)))
    assert [sent.name for sent in whole.files] == sorted(NAMES[:2]) and whole.closed


def test_other_bytes_under_the_same_name_are_refused(tmp_path: Path) -> None:
    """A promise is not taken back by a second one."""
    publish(tmp_path, manifest((NAMES[0], 1)))
    with pytest.raises(Refused, match="was sent with other bytes"):
        publish(tmp_path, manifest((NAMES[0], 2)))
    assert read_manifest(tmp_path / file_name(manifest())).files[0].digests == (digest(1),)


def test_only_what_the_receiver_hashed_is_proven(tmp_path: Path) -> None:
    """A file that is missing there, hashes to something else, or was not looked at is not proven; one of a later manifest
    is when its bytes are the same."""
    sent = manifest((NAMES[0], 1), (NAMES[1], 2), ("c", 3), ("d", 4))
    publish_ack(tmp_path, answer(sent, {NAMES[0]: digest(1), NAMES[1]: digest(9), "c": None}, "nas203", 5))
    (path,) = papers(tmp_path)[1]
    ack = read_ack(path)
    assert proven(sent, ack) == {NAMES[0]}
    assert proven(manifest((NAMES[0], 1), ("e", 5)), ack) == {NAMES[0]}
    assert proven(manifest((NAMES[0], 7)), ack) == frozenset()
    assert proven(msgspec.structs.replace(sent, block="another"), ack) == frozenset()


WRONG: dict[str, Any] = {
    "no JSON": lambda paper: b"{",
    "unknown key": lambda paper: {**paper, "more": 1},
    "another schema": lambda paper: {**paper, "schema": 2},
    "another block": lambda paper: {**paper, "block": "x"},
    "name with a path": lambda paper: _file(paper, name="../etc/passwd"),
    "place outside": lambda paper: _file(paper, places=["../../etc/passwd"]),
    "absolute place": lambda paper: _file(paper, places=["/etc/passwd"]),
    "digest of nothing": lambda paper: _file(paper, digests=[{"algorithm": "xxh3_128", "hex": "abc"}]),
    "unknown algorithm": lambda paper: _file(paper, digests=[{"algorithm": "crc", "hex": "abc"}]),
    "no digest": lambda paper: _file(paper, digests=[]),
    "negative size": lambda paper: _file(paper, bytes=-1),
    "file twice": lambda paper: {**paper, "files": paper["files"] * 2},
    "too large": lambda paper: b" " * ((16 << 20) + 1),
}


def _file(paper: Any, **values: Any) -> Any:
    return {**paper, "files": [{**paper["files"][0], **values}]}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_manifest_is_refused(what: str, tmp_path: Path) -> None:
    """Nothing in a manifest leads out of its store or passes for a digest; the refusal names the file."""
    path = tmp_path / file_name(manifest())
    made = WRONG[what](json.loads(encode(manifest((NAMES[0], 1)))))
    path.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
    with pytest.raises(Refused, match=path.name.replace(".", r"\.")):
        read_manifest(path)


def test_what_a_killed_writer_left_is_no_manifest(tmp_path: Path) -> None:
    """A manifest appears whole or not at all."""
    publish(tmp_path, manifest((NAMES[0], 1)))
    (tmp_path / f".{file_name(manifest())}.1-1.part").write_bytes(b'{"half')
    assert len(papers(tmp_path)[0]) == 1
    assert len(read_manifest(papers(tmp_path)[0][0]).files) == 1


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 1)), max_size=8))
def test_no_promise_is_ever_taken_back(tmp_path_factory: pytest.TempPathFactory, course: list[tuple[str, int]]) -> None:
    """Whatever is published in which order, the first digest of each name stays."""
    directory = tmp_path_factory.mktemp("manifests")
    first: dict[str, int] = {}
    for name, number in course:
        if first.setdefault(name, number) == number:
            publish(directory, manifest((name, number)))
        else:
            with pytest.raises(Refused):
                publish(directory, manifest((name, number)))
        (path,), _ = papers(directory)
        assert {sent.name: sent.digests for sent in read_manifest(path).files} == {
            n: (digest(d),) for n, d in first.items()
        }
