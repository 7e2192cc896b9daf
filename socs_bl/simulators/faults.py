"""What F-engines and networks do wrong, on request and from a seed, each heap on its own.

For every packet index the faults are drawn from ``(seed, packet index)`` alone, so whoever knows the seed knows them
without having seen the packets (`Faults.of`). A heap suffers at most one fault, in the order of `Fault`.

A wrong timestamp is one of three: half a heap off (no multiple of the heap time), far in the future, or far in the past.
A heap that claims the place of another one nearby cannot be told from the other, by anybody; that is not simulated.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from socs_bl.core.config import Config


class Fault(IntEnum):
    """What happens to a heap."""

    NONE = 0
    STALLED = 1  # its antenna sends nothing
    DROPPED = 2
    DUPLICATED = 3  # sent twice
    REORDERED = 4  # sent with the heaps of a later packet index
    MISALIGNED = 5  # timestamp half a heap off
    FUTURE = 6  # timestamp far in the future
    PAST = 7  # timestamp far in the past


WRONG_TIMESTAMPS = (Fault.MISALIGNED, Fault.FUTURE, Fault.PAST)


class Stall(Config):
    """An antenna that is silent from packet index `first` to `last`, both included; None: for ever."""

    antenna: int = Field(ge=0)
    first: int = Field(default=0, ge=0)
    last: int | None = Field(default=None, ge=0)

    def covers(self, pktidx: int) -> bool:
        """Whether the antenna is silent."""
        return self.first <= pktidx and (self.last is None or pktidx <= self.last)


class Faults(Config):
    """Which faults, and how often. The defaults are none.

    Attributes
    ----------
    seed : int
    dropped, duplicated, reordered, wrong_timestamps : float
        Fractions of all heaps; together at most 1.
    reorder_depth : int
        A reordered heap comes with those of so many packet indices later.
    timestamp_error : int
        Packet indices by which wrong timestamps in the future and the past are off.
    stalls : tuple of Stall
    first, last : int or None
        Packet indices, both included, between which faults happen; None: no limit.
    """

    seed: int = Field(default=0, ge=0)
    dropped: float = Field(default=0.0, ge=0, le=1)
    duplicated: float = Field(default=0.0, ge=0, le=1)
    reordered: float = Field(default=0.0, ge=0, le=1)
    wrong_timestamps: float = Field(default=0.0, ge=0, le=1)
    reorder_depth: int = Field(default=1, ge=1, le=64)
    timestamp_error: int = Field(default=1 << 20, ge=1024)
    stalls: tuple[Stall, ...] = ()
    first: int | None = Field(default=None, ge=0)
    last: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _fractions(self) -> Faults:
        total = self.dropped + self.duplicated + self.reordered + self.wrong_timestamps
        if total > 1.0:
            raise ValueError(f"the fractions of faults add up to {total:g}; at most 1 is possible")
        return self

    @property
    def any(self) -> bool:
        """Whether there are faults at all."""
        return bool(self.stalls or self.dropped or self.duplicated or self.reordered or self.wrong_timestamps)

    def of(self, pktidx: int, antennas: int, streams: int) -> npt.NDArray[np.int8]:
        """The `Fault` of every heap of a packet index: int8 (antennas, streams)."""
        found = np.zeros((antennas, streams), np.int8)
        if not self.any or pktidx < (self.first or 0) or (self.last is not None and pktidx > self.last):
            return found
        random = np.random.default_rng([self.seed, pktidx])
        draw, kind = random.random(found.shape), random.integers(0, len(WRONG_TIMESTAMPS), found.shape)
        edge = 0.0
        for fault, share in (
            (Fault.DROPPED, self.dropped),
            (Fault.DUPLICATED, self.duplicated),
            (Fault.REORDERED, self.reordered),
        ):
            found[(draw >= edge) & (draw < edge + share)] = fault
            edge += share
        wrong = (draw >= edge) & (draw < edge + self.wrong_timestamps)
        found[wrong] = np.array(WRONG_TIMESTAMPS, np.int8)[kind[wrong]]
        for stall in self.stalls:
            if stall.antenna < antennas and stall.covers(pktidx):
                found[stall.antenna] = Fault.STALLED
        return found

    def timestamp(self, fault: int, pktidx: int, heap_clocks: int) -> int:
        """The timestamp a heap carries, in digitiser samples."""
        match fault:
            case Fault.MISALIGNED:
                return pktidx * heap_clocks + heap_clocks // 2
            case Fault.FUTURE:
                return (pktidx + self.timestamp_error) * heap_clocks
            case Fault.PAST:
                return max(0, pktidx - self.timestamp_error) * heap_clocks
        return pktidx * heap_clocks
