"""One integration of a file, as arrays that lie in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.bdf.layout import Table, sizes_of, tables_of
from socs_bl.bdf.parse import Block, Opening
from socs_bl.core.errors import Refused

Array = npt.NDArray[Any]


class Integration:
    """One integration. The arrays are views of the file, read-only; nothing is read before it is looked at.

    Attributes
    ----------
    index : int
        Position in the file, from 0.
    number : int
        What the file calls it, from 1; gaps are integrations that are not there.
    time_ns, interval_ns : int
        Middle, ns since MJD 0, and length.
    aborted : tuple of (int, str) or None
        When (ns since MJD 0) and why the observation was aborted in it.
    parts : tuple of str
        The parts that are there, such as ``crossData``.
    """

    def __init__(self, buffer: npt.NDArray[np.uint8], index: int, block: Block, shapes: Shapes, name: str) -> None:
        self._buffer, self._block, self._shapes, self._name = buffer, block, shapes, name
        self.index = index
        self.number = block.number
        self.time_ns = block.time_ns
        self.interval_ns = block.interval_ns
        self.aborted = block.aborted
        self.parts = tuple(block.parts)

    @property
    def cross(self) -> tuple[Array, ...] | None:
        """Of each window: complex64 (baselines, bins, channels, products); None when the file has none."""
        return self._windows("crossData", "cross")

    @property
    def auto(self) -> tuple[Array, ...] | None:
        """Of each window: float32 (antennas, bins, channels, values); None when the file has none."""
        return self._windows("autoData", "auto")

    @property
    def cross_flags(self) -> tuple[Array, ...] | None:
        """Of each window: int32 (baselines, bins, products), 0 is good; None when the file has none."""
        return self._windows("flags", "cross")

    @property
    def auto_flags(self) -> tuple[Array, ...] | None:
        """Of each window: int32 (antennas, bins, products), 0 is good; None when the file has none."""
        return self._windows("flags", "auto")

    @property
    def cross_times(self) -> tuple[Array, ...] | None:
        """As `cross_flags`: int64, middle of what was integrated, ns since MJD 0."""
        return self._windows("actualTimes", "cross")

    @property
    def auto_times(self) -> tuple[Array, ...] | None:
        """As `auto_flags`: int64, middle of what was integrated, ns since MJD 0."""
        return self._windows("actualTimes", "auto")

    @property
    def cross_durations(self) -> tuple[Array, ...] | None:
        """As `cross_flags`: int64, what was integrated, ns."""
        return self._windows("actualDurations", "cross")

    @property
    def auto_durations(self) -> tuple[Array, ...] | None:
        """As `auto_flags`: int64, what was integrated, ns."""
        return self._windows("actualDurations", "auto")

    def raw(self, part: str) -> Array:
        """All numbers of a part, one after the other; complex ones are two.

        Raises
        ------
        Refused
            When the integration does not have it.
        """
        if part not in self._block.parts:
            raise Refused(f"{self._name}: integration {self.number} has no {part}; it has {', '.join(self.parts)}")
        offset, nbytes, kind = self._block.parts[part]
        dtype = np.dtype(kind)
        return np.ndarray((nbytes // dtype.itemsize,), dtype, self._buffer, offset)

    def _windows(self, part: str, kind: str) -> tuple[Array, ...] | None:
        if part not in self._block.parts:
            return None
        offset, _, numbers = self._block.parts[part]
        table = self._shapes.table(part, kind, numbers)
        if table is None:
            return None
        windows = range(len(table.shapes))
        if part != "crossData" or numbers[1] == "f":
            return tuple(table.cells(self._buffer, offset + table.offset, window) for window in windows)
        floats = self.raw(part).astype(np.float32).view(np.complex64)
        scales = [np.float32(window.scale) for window in self._shapes.header.windows]
        return tuple(table.cells(floats, 0, window) / scales[window] for window in windows)


class Shapes:
    """How the parts of a file divide into windows.

    Parameters
    ----------
    opening : Opening
    name : str
        For error texts.
    """

    def __init__(self, opening: Opening, name: str) -> None:
        self.header = opening.header
        self._announced = opening.announced
        self._name = name
        self._tables: dict[tuple[str, str, str], Table | None] = {}

    def table(self, part: str, kind: str, numbers: str) -> Table | None:
        """The table of a part, its offset from the part's start; None when there is none of that kind.

        Raises
        ------
        Refused
            When the part is divided in another way than EVLA does it.
        """
        key = part, kind, numbers
        if key not in self._tables:
            size, axes = sizes_of(self.header).get(part, (0, ""))
            announced = self._announced[part]
            if (announced.size, announced.axes) != (size, tuple(axes.split())):
                raise Refused(
                    f"{self._name}: {part} is {announced.size} numbers by {' '.join(announced.axes) or 'no axes'}, not"
                    f" {size} by {axes or 'none'}; only raw() reads it"
                )
            dtype = np.dtype(f"{numbers[0]}c8" if part == "crossData" and numbers[1] == "f" else numbers)
            if part == "crossData" and numbers[1] != "f":
                dtype = np.dtype(np.complex64)  # integers are converted first
            tables = tables_of(self.header, part, 0, dtype)
            self._tables[key] = next((table for table in tables if table.kind == kind), None)
        return self._tables[key]
