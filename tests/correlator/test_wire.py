"""Lag frames on the wire: golden bytes worked out by hand, every field alone, every bit that flips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.correlator import wire

# Written down by hand, word by word, from the table of fields. Y: baseband 5 (101), subband 17 (10001), station 200; X:
# baseband 2 (010), subband 3 (00011), station 7: 101 10001 11001000 010 00011 00000111.
WORD_1 = "b1c84307"
# Block 3 (0011), Y 1, of 4 (00100), 128 lags (10000000), chip 37 (100101), cell 9 (1001), spare 0, valid 0:
# 0011 1 00100 10000000 100101 1001 000 0 = 0011 1001 0010 0000 0010 0101 1001 0000.
WORD_2 = "39202590"
WORD_3 = "05fe8003"  # status 5, frame 254, recirculation Y 128, X 3
TIME = "6b02b1803b9ac9ff"  # second 1795338624, nanosecond 999999999
COUNTS = "000186a0ffffffff"
WORD_8 = "abcd0102"  # board 43981, bin 258
HEADER = {
    "bbid_y": 5, "sbid_y": 17, "sid_y": 200, "bbid_x": 2, "sbid_x": 3, "sid_x": 7, "start_block": 3, "y": 1, "nblocks": 4,
    "chip": 37, "cell": 9, "status": 5, "frame_count": 254, "recirculation_y": 128, "recirculation_x": 3,
    "seconds": 0x6B02B180, "nanoseconds": 999_999_999, "dv_centre": 100_000, "dv_edge": 0xFFFFFFFF, "board": 0xABCD,
    "bin": 258,
}  # fmt: skip


def golden(nlags: int, word_2: str, checksum: str) -> bytes:
    """A frame whose first lag is (1, -2), whose last is (-2**31, 2**31 - 1), and whose others are 0."""
    lags = "00000001fffffffe" + "00000000" * (2 * nlags - 4) + "800000007fffffff"
    return bytes.fromhex("f83e0f83" + WORD_1 + word_2 + WORD_3 + TIME + COUNTS + WORD_8 + lags + checksum)


# Sum of the words, by hand: f83e0f83 + b1c84307 + 39202590 + 05fe8003 + 6b02b180 + 3b9ac9ff + 000186a0 + ffffffff
# + abcd0102 = 43b90fb3d; the lags add 1 - 2 - 1 = -2; modulo 2**32.
GOLDEN_128 = golden(128, WORD_2, "3b90fb3b")
# 64 lags: 01000000 instead of 10000000 in bits 21 to 14, that is 2**20 less in word 2 and in the sum.
GOLDEN_64 = golden(64, "39102590", "3b80fb3b")


@pytest.mark.parametrize(("nlags", "data"), [(128, GOLDEN_128), (64, GOLDEN_64)])
def test_golden(nlags: int, data: bytes) -> None:
    """Frames of 1064 and 552 bytes are built and read exactly as the table of fields says."""
    assert len(data) == wire.frame_bytes(nlags) == {128: 1064, 64: 552}[nlags]
    lags = np.zeros((1, nlags, 2), np.int32)
    lags[0, 0], lags[0, -1] = (1, -2), (-(2**31), 2**31 - 1)
    assert wire.build_frames(HEADER, lags)[0].tobytes() == data
    frame = wire.parse_frame(data)
    assert frame.header == {**HEADER, "nlags": nlags, "spare": 0, "cs_valid": 0}
    assert np.array_equal(frame.lags, lags[0])
    assert frame.time_ns == 0x6B02B180 * 10**9 + 999_999_999


@pytest.mark.parametrize("field", wire.FIELDS, ids=lambda field: field.name)
def test_fields_do_not_touch(field: wire.Field) -> None:
    """Each field alone, at its largest, fills exactly its bits; no two fields share a bit."""
    if field.name == "nlags":
        return
    words = wire.build_header({field.name: field.maximum})[0]
    assert words[field.word] == field.maximum << field.low
    assert np.delete(words, [0, field.word]).sum() == 0
    with pytest.raises(Refused, match=f"{field.name}.*holds 0 to {field.maximum}"):
        wire.build_header({field.name: field.maximum + 1})


def test_fields_fill_the_words() -> None:
    """The fields use every bit of words 1 to 8 once."""
    used = [0] * wire.HEADER_WORDS
    for field in wire.FIELDS:
        bits = field.maximum << field.low
        assert used[field.word] & bits == 0
        used[field.word] |= bits
    assert used[1:] == [0xFFFFFFFF] * 8


@pytest.mark.parametrize("data", [GOLDEN_128, GOLDEN_64], ids=["128", "64"])
def test_every_bit_that_flips_is_found(data: bytes) -> None:
    """No single flipped bit goes unnoticed, and the error names a byte."""
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused, match="byte"):
            wire.parse_frame(bytes(damaged))


@settings(max_examples=50)
@given(st.binary(max_size=1200) | st.integers(0, 1064).map(lambda cut: GOLDEN_128[:cut]))
def test_anything_is_read_or_refused(data: bytes) -> None:
    """Bytes of any length are a frame or are refused in a sentence."""
    try:
        wire.parse_frame(data)
    except Refused as refused:
        assert 10 < len(str(refused)) < 200
    else:
        assert data == GOLDEN_128
    if len(data) < 36:
        with pytest.raises(Refused):
            wire.parse_header(np.frombuffer(data[: len(data) // 4 * 4], ">u4").astype(np.uint32))


def test_many_frames_at_once() -> None:
    """Headers broadcast; a structured array says the same as a mapping; wrong names and shapes are refused."""
    lags = np.zeros((3, 64, 2), np.int32)
    frames = wire.build_frames({"sid_x": np.arange(3), "seconds": 9}, lags)
    table = np.zeros(3, wire.HEADER)
    table["sid_x"], table["seconds"] = np.arange(3), 9
    assert np.array_equal(wire.build_frames(table, lags), frames)
    headers = wire.parse_header(frames.view(">u4").astype(np.uint32))
    assert headers["sid_x"].tolist() == [0, 1, 2] and headers["nlags"].tolist() == [64] * 3
    with pytest.raises(Refused, match="no field"):
        wire.build_frames({"station": 1}, lags)
    with pytest.raises(Refused, match="shape"):
        wire.build_frames({}, lags[:, :10])


def test_first_lag() -> None:
    """Recirculation and blocks of a chain cover the set without a gap, in order."""
    firsts = [wire.first_lag(index, 2, block, 128) for index in range(4) for block in range(2)]
    assert firsts == list(range(0, 1024, 128))
