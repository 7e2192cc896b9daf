"""Packet index and time, and the choice of PKTSTART.

Source: commensal-automator, PKTIDX to time: t = SYNCTIME + PKTIDX * HCLOCKS / (2e6 * FENCHAN * abs(CHAN_BW)), CHAN_BW in
MHz; hpguppi_daq, PKTIDX = heap timestamp / HCLOCKS.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

_INDEX = re.compile(r"[0-9]{1,18}")
_FARTHEST = 120.0


class PacketClock(msgspec.Struct, frozen=True):
    """How the packet index of a subarray runs.

    Attributes
    ----------
    synctime : float
        Unix time of packet index 0, seconds.
    hclocks : int
        ADC samples a heap.
    fenchan : int
        Channels of the whole band.
    chan_bw : float
        Channel width, MHz.
    """

    synctime: float
    hclocks: int
    fenchan: int
    chan_bw: float

    @property
    def heap_seconds(self) -> float:
        """Seconds one packet index lasts."""
        return self.hclocks / (2e6 * self.fenchan * abs(self.chan_bw))

    def time_of(self, packet_index: int) -> float:
        """Unix time of a packet index, seconds."""
        return self.synctime + packet_index * self.heap_seconds


class PacketReading(NamedTuple):
    """Packet indices of a subarray's instances, and who did not report one."""

    indices: dict[str, int]
    silent: tuple[str, ...]

    @property
    def spread(self) -> int:
        """Largest minus smallest index, heaps."""
        return max(self.indices.values()) - min(self.indices.values()) if self.indices else 0


def read_packet_indices(statuses: Mapping[str, Mapping[str, str] | None]) -> PacketReading:
    """Take PKTIDX from status hashes; an instance without hash, idle, or without PKTIDX is silent.

    Parameters
    ----------
    statuses : mapping of str to (mapping or None)
        Status fields by instance; None for a missing hash.
    """
    indices: dict[str, int] = {}
    silent: list[str] = []
    for name, status in statuses.items():
        text = (status or {}).get("PKTIDX", "")
        if status is None or status.get("NETSTAT", "") == "idle" or not _INDEX.fullmatch(text):
            silent.append(name)
        else:
            indices[name] = int(text)
    return PacketReading(indices, tuple(silent))


def outliers(reading: PacketReading, clock: PacketClock, limit: float) -> dict[str, float]:
    """Instances whose packet index is more than `limit` seconds from the median, with that distance, seconds."""
    middle = statistics.median_high(reading.indices.values())  # of two the one behind, which may have stalled
    apart = {name: (index - middle) * clock.heap_seconds for name, index in reading.indices.items()}
    return {name: seconds for name, seconds in apart.items() if abs(seconds) > limit}


def choose_start(reading: PacketReading, clock: PacketClock, margin_heaps: int, lead_seconds: float | None) -> int:
    """PKTSTART: the largest packet index plus the lead time."""
    lead = margin_heaps if lead_seconds is None else math.ceil(lead_seconds / clock.heap_seconds)
    return max(reading.indices.values()) + lead


def after_second(packet_index: int, clock: PacketClock, last_started: float) -> int:
    """The packet index, or the first in the second after `last_started` when it lies in that second or shortly before.

    Observation ids and data directories are named by the second of PKTSTART; two recordings must not share one.
    """
    earliest = math.floor(last_started) + 1
    late = earliest - clock.time_of(packet_index)
    if not 0 < late < _FARTHEST:
        return packet_index
    return packet_index + math.ceil(late / clock.heap_seconds)
