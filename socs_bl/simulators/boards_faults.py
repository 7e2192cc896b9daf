"""What baseline boards and their network do wrong, on request and from a seed, each frame on its own.

The faults of a dump are drawn from ``(seed, dump number)`` alone, so whoever knows the seed knows them without having
seen the frames (`BoardFaults.of`). A frame suffers at most one.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from socs_bl.core.config import Config

CUT_BYTES = 200  # what is missing from a frame that is cut short


class BoardFault(IntEnum):
    """What happens to a frame."""

    NONE = 0
    SILENT = 1  # its board is not there
    LOST = 2
    DUPLICATED = 3  # sent twice
    REORDERED = 4  # sent with the frames of the next dump
    CORRUPTED = 5  # one bit is wrong, and with it the checksum
    CUT = 6  # too short
    WRONG_CLOCK = 7  # a sound frame with the time of another hour


_DRAWN = tuple(BoardFault)[2:]


class BoardFaults(Config):
    """Which faults, and how often. The defaults are none.

    Attributes
    ----------
    seed : int
    lost, duplicated, reordered, corrupted, cut, wrong_clock : float
        Fractions of all frames; together at most 1.
    silent_boards : tuple of int
        Boards that send nothing.
    """

    seed: int = Field(default=0, ge=0)
    lost: float = Field(default=0.0, ge=0, le=1)
    duplicated: float = Field(default=0.0, ge=0, le=1)
    reordered: float = Field(default=0.0, ge=0, le=1)
    corrupted: float = Field(default=0.0, ge=0, le=1)
    cut: float = Field(default=0.0, ge=0, le=1)
    wrong_clock: float = Field(default=0.0, ge=0, le=1)
    silent_boards: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _fractions(self) -> BoardFaults:
        if (total := sum(self._shares)) > 1.0:
            raise ValueError(f"the fractions of faults add up to {total:g}; at most 1 is possible")
        return self

    @property
    def _shares(self) -> tuple[float, ...]:
        return self.lost, self.duplicated, self.reordered, self.corrupted, self.cut, self.wrong_clock

    @property
    def any(self) -> bool:
        """Whether there are faults at all."""
        return bool(self.silent_boards) or any(self._shares)

    def of(self, dump: int, boards: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
        """The `BoardFault` of every frame of a dump.

        Parameters
        ----------
        dump : int
            Its number, counted from the epoch.
        boards : numpy.ndarray
            (frames,): the board of each.

        Returns
        -------
        numpy.ndarray
            int8 (frames,).
        """
        found = np.zeros(len(boards), np.int8)
        if not self.any:
            return found
        draw = np.random.default_rng([self.seed, dump]).random(len(boards))
        edges = np.cumsum(self._shares)
        which = np.searchsorted(edges, draw, side="right")
        found[:] = np.array([*_DRAWN, BoardFault.NONE], np.int8)[which]
        found[np.isin(boards, self.silent_boards)] = BoardFault.SILENT
        return found
