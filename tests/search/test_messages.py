"""Files of Cap'n Proto messages are told from anything else."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.search.messages import count_messages
from tests.harness.seticore import message

ONE = message(1, 8)


def test_messages_are_counted(tmp_path: Path) -> None:
    """Whole messages one after the other, also of several segments; an empty file holds none."""
    path = tmp_path / "a.hits"
    two_segments = struct.pack("<IIII", 1, 1, 2, 0) + struct.pack("<iHH", 2, 0, 0) + bytes(16)
    for data, count in ((b"", 0), (ONE, 1), (ONE * 3, 3), (two_segments + ONE, 2)):
        path.write_bytes(data)
        assert count_messages(path) == count


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (ONE + ONE[:-8], "byte 40: the message ends at 80, the file at 72; it is cut off"),
        (ONE + b"\x00\x00", "byte 40: 2 of 4 bytes"),
        (b"SIMPLE = T / not this one" * 4, "segments"),
        (struct.pack("<II", 0, 0), "without a root pointer"),
        (struct.pack("<II", 0, 1) + struct.pack("<iHH", 1, 0, 0), "kind 1"),
        (struct.pack("<II", 0, 2) + struct.pack("<iHH", 0, 1, 1) + bytes(8), "a root of 2 words"),
    ],
)
def test_anything_else_is_refused_where_it_begins(tmp_path: Path, data: bytes, why: str) -> None:
    """The text says which byte, and why."""
    path = tmp_path / "a.hits"
    path.write_bytes(data)
    with pytest.raises(Refused, match="byte ") as refused:
        count_messages(path)
    assert why in str(refused.value)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: ONE + rest))
def test_no_bytes_are_too_strange(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any file is counted or refused, and nothing else happens."""
    path = tmp_path_factory.getbasetemp() / "any.hits"
    path.write_bytes(data)
    try:
        assert count_messages(path) * 16 <= len(data)
    except Refused as refused:
        assert "byte " in str(refused)
