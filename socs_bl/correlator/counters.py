"""What became of every frame: counted by kind, for all, for each board and for each product.

Every frame, or piece of a datagram that should have been one, is of exactly one of the kinds from `GOOD` to `SHAPE`.
`SUSPECT` frames are good ones whose status bits say otherwise; `MISSING` ones never came. Of the products' counters
``good + missing`` is the number of frames expected in the dumps that were emitted.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator.wire import BOARDS


class Kind(IntEnum):
    """What became of a frame."""

    GOOD = 0  # in its place
    DUPLICATE = 1  # its place was taken
    LATE = 2  # its dump was emitted without it
    STALE = 3  # not newer than the activation of the configuration
    UNKNOWN = 4  # of no product of the configuration
    IMPLAUSIBLE = 5  # its time is far from that of most boards
    OVERRUN = 6  # no slot was free for its dump
    SHORT = 7  # bad from here: ends before its lags do
    LONG = 8  # bytes behind a frame that are none
    SYNC = 9  # does not begin with the sync word
    LAGS = 10  # has a number of lags that no frame has
    CHECKSUM = 11
    CLOCK = 12  # nanoseconds beyond a second
    SHAPE = 13  # of a product, but of a block, recirculation, bin or number of lags that it does not have
    SUSPECT = 14
    MISSING = 15


OUTCOMES = tuple(kind for kind in Kind if kind <= Kind.SHAPE)
BELIEVED = (Kind.GOOD, Kind.DUPLICATE, Kind.LATE, Kind.STALE, Kind.UNKNOWN, Kind.OVERRUN, Kind.SHAPE)
BAD = tuple(kind for kind in OUTCOMES if kind >= Kind.SHORT)

Counts = npt.NDArray[np.int64]


class Counters:
    """Counters of one stream of frames.

    Attributes
    ----------
    totals : numpy.ndarray
        int64 (kinds,).
    boards : numpy.ndarray
        int64 (kinds, boards), by serial number. Frames whose checksum is wrong count for the board they name if that one
        has sent good ones.
    known : numpy.ndarray
        uint8 (boards,): has sent a frame with a good checksum.
    """

    def __init__(self) -> None:
        self.totals: Counts = np.zeros(len(Kind), np.int64)
        self.boards: Counts = np.zeros((len(Kind), BOARDS), np.int64)
        self.known = np.zeros(BOARDS, np.uint8)

    @property
    def frames(self) -> int:
        """Frames and pieces taken in."""
        return int(self.totals[: Kind.SHAPE + 1].sum())

    @property
    def believed(self) -> int:
        """Frames whose time could be."""
        return int(self.totals[list(BELIEVED)].sum())

    def by_board(self, limit: int) -> dict[str, dict[str, int]]:
        """What each board's frames became, by serial number; the first `limit` boards."""
        return {str(board): named(self.boards[:, board]) for board in np.flatnonzero(self.known)[:limit]}


def named(counts: Counts) -> dict[str, int]:
    """Counts by the lower-case names of their kinds; zeros are left out."""
    return {kind.name.lower(): int(counts[kind]) for kind in Kind if counts[kind]}


def summary(counters: Counters) -> dict[str, Any]:
    """All totals, zeros included, with ``frames`` and ``bad``."""
    totals = {kind.name.lower(): int(counters.totals[kind]) for kind in Kind}
    return {"frames": counters.frames, "bad": int(counters.totals[list(BAD)].sum()), **totals}
