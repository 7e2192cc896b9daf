"""Packet index and time, against numbers worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.commensal.timing import PacketClock, after_second, choose_start, read_packet_indices
from socs_bl.core.clock import compact_utc

# MeerKAT L band, 4k mode: 856 MHz in 4096 channels, 256 spectra of 8192 samples a heap.
L_4K = PacketClock(1_700_000_000.0, 8192 * 256, 4096, 1712e6 / 2 / 4096 / 1e6)
DEMO = PacketClock(1_700_000_000.0, 65536, 128, 0.004)


@pytest.mark.parametrize(
    ("clock", "seconds"),
    [
        (L_4K, 8192 * 256 / 1712e6),
        (DEMO, 0.064),
        (PacketClock(0.0, 2048 * 256, 1024, -1088e6 / 2 / 1024 / 1e6), 2048 * 256 / 1088e6),
    ],
)
def test_heap_seconds(clock: PacketClock, seconds: float) -> None:
    """A heap lasts HCLOCKS samples; the sign of CHAN_BW does not matter."""
    assert clock.heap_seconds == pytest.approx(seconds, rel=1e-12)


def test_time_of_a_packet() -> None:
    """t = SYNCTIME + PKTIDX * HCLOCKS / (2e6 * FENCHAN * |CHAN_BW|)."""
    assert DEMO.time_of(1000) == pytest.approx(1_700_000_064.0)
    assert L_4K.time_of(2048) - L_4K.synctime == pytest.approx(2.5087, abs=1e-4)


def test_silent_instances() -> None:
    """Without hash, idle, without or with an unreadable index: silent, and the others count."""
    statuses = {
        "a/0": {"PKTIDX": "100", "NETSTAT": "receiving"},
        "a/1": {"PKTIDX": "130"},
        "b/0": None,
        "b/1": {"PKTIDX": "999", "NETSTAT": "idle"},
        "c/0": {"NETSTAT": "receiving"},
        "c/1": {"PKTIDX": "-5"},
        "d/0": {"PKTIDX": "9" * 5000},
        "d/1": {"PKTIDX": "٣"},
    }
    reading = read_packet_indices(statuses)
    assert reading.indices == {"a/0": 100, "a/1": 130}
    assert reading.silent == ("b/0", "b/1", "c/0", "c/1", "d/0", "d/1")
    assert reading.spread == 30
    assert read_packet_indices({}).spread == 0


def test_start() -> None:
    """The furthest instance counts; the lead is in heaps, or in seconds rounded up to heaps."""
    reading = read_packet_indices({"a/0": {"PKTIDX": "100"}, "a/1": {"PKTIDX": "130"}})
    assert choose_start(reading, DEMO, 2048, None) == 2178
    assert choose_start(reading, DEMO, 2048, 2.0) == 130 + 32  # 31.25 heaps


@given(st.integers(0, 10**7), st.floats(-200, 200))
def test_no_two_recordings_in_one_second(index: int, gap: float) -> None:
    """A start in the second of the last one, or a little before it, moves into the next second; others stay."""
    last = DEMO.time_of(index) + gap
    moved = after_second(index, DEMO, last)
    if last < DEMO.time_of(index) - 1 or last > DEMO.time_of(index) + 120:
        assert moved == index
    else:
        assert compact_utc(DEMO.time_of(moved)) != compact_utc(last) or DEMO.time_of(moved) > last + 1
        assert 0 <= (moved - index) * DEMO.heap_seconds <= 121.1
