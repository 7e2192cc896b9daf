"""Where every number of a file lies: a function of its header alone, so that writers need not talk to each other.

A file is the main header, blocks of one constant length (one an integration), and a closing boundary. A block has up to
five binary parts in this order; a part is one or two tables, the last axis fastest.

================  =======================================================  ==========  =======================
part              tables                                                   a number    axes
================  =======================================================  ==========  =======================
flags             baselines x (windows: bins, cross products), then        int32       BAL ANT BAB SPW BIN STO
                  antennas x (windows: bins, auto products)
actualTimes       the same                                                 int64, ns   the same
actualDurations   the same                                                 int64, ns   the same
crossData         baselines x (windows: bins, channels, cross products)    2 float32   BAL BAB SPW BIN SPP STO
autoData          antennas x (windows: bins, channels, auto values)        float32     ANT BAB SPW BIN SPP STO
================  =======================================================  ==========  =======================

A row holds all windows of a baseline or antenna side by side; a *cell* is what one window has in one row. Baseline
``(a1, a2)``, a1 < a2, has number ``a2 (a2 - 1) / 2 + a1``. Three auto products (RR RL LL) are four values: the mixed one
is complex.

Source: EVLA/ALMA Binary Data Format, sizes and axes of the binary attachments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.bdf.framing import Framing
from socs_bl.bdf.header import AUTO_ONLY, CROSS_AND_AUTO, CROSS_ONLY, Header, SpectralWindow
from socs_bl.core.errors import Refused

__all__ = [
    "AUTO_ONLY",
    "CROSS_AND_AUTO",
    "CROSS_ONLY",
    "Header",
    "Layout",
    "Part",
    "SpectralWindow",
    "Table",
    "baseline",
    "shapes_of",
    "sizes_of",
    "tables_of",
]

META_PARTS = ("flags", "actualTimes", "actualDurations")
DTYPES: dict[str, np.dtype[Any]] = {
    "flags": np.dtype("<i4"),
    "actualTimes": np.dtype("<i8"),
    "actualDurations": np.dtype("<i8"),
    "crossData": np.dtype("<c8"),
    "autoData": np.dtype("<f4"),
}


def baseline(a1: int, a2: int) -> int:
    """Number of the baseline of two antennas, counted from 0.

    Raises
    ------
    Refused
        When they are not two.
    """
    low, high = sorted((a1, a2))
    if low < 0 or low == high:
        raise Refused(f"antennas {a1} and {a2} make no baseline; two different ones are needed, counted from 0")
    return high * (high - 1) // 2 + low


def antenna_pair(number: int) -> tuple[int, int]:
    """The antennas ``(a1, a2)`` of a baseline, a1 < a2."""
    high = (1 + math.isqrt(1 + 8 * number)) // 2
    return number - high * (high - 1) // 2, high


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one part.

    Attributes
    ----------
    part : str
        Name of the part it belongs to.
    kind : str
        ``cross``: a row for each baseline; ``auto``: for each antenna.
    rows : int
    shapes : tuple of tuple of int
        Shape of each window's cell.
    starts : tuple of int
        Numbers of a row before each window, and after the last.
    offset : int
        Bytes from the start of the block.
    dtype : numpy.dtype
    """

    part: str
    kind: str
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    offset: int
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.starts[-1] * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.row_bytes

    @property
    def widths(self) -> npt.NDArray[np.int64]:
        """Bytes of each window's cell."""
        return np.array([math.prod(shape) * self.dtype.itemsize for shape in self.shapes], np.int64)

    def cells(self, buffer: Any, start: int, window: int) -> npt.NDArray[Any]:
        """A window's cells in all rows, as a view.

        Parameters
        ----------
        buffer : buffer
            Where the block is.
        start : int
            Byte of the buffer at which the table begins.
        window : int
            Position in the header.

        Returns
        -------
        numpy.ndarray
            Shape (rows, bins, channels, products) or (rows, bins, products).
        """
        shape, item = self.shapes[window], self.dtype.itemsize
        inner = [item * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        offset = start + self.starts[window] * item
        return np.ndarray((self.rows, *shape), self.dtype, buffer, offset, (self.row_bytes, *inner))


@dataclass(frozen=True, slots=True)
class Part:
    """A binary part of a block.

    Attributes
    ----------
    name : str
        As in the header.
    offset, nbytes : int
        Within the block.
    tables : tuple of Table
    """

    name: str
    offset: int
    nbytes: int
    tables: tuple[Table, ...]


class Layout:
    """Places in a file.

    Parameters
    ----------
    header : Header
        Has been checked.

    Attributes
    ----------
    header : Header
    parts : dict of str to Part
        In the order of the file.
    framing : Framing
        The bytes around the parts.
    header_bytes, block_bytes : int
        The first block starts at `header_bytes`; all have `block_bytes`.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        sizes = sizes_of(header)
        nbytes = {
            name: size * (4 if name == "crossData" else DTYPES[name].itemsize) for name, (size, _) in sizes.items()
        }
        self.framing = Framing(header, sizes, nbytes)
        self.header_bytes = len(self.framing.head)
        self.block_bytes = self.framing.block_bytes
        self.parts = {
            name: Part(name, offset, nbytes[name], tables_of(header, name, offset, DTYPES[name]))
            for name, offset in self.framing.offsets.items()
        }

    def offset(self, index: int) -> int:
        """Byte of the file at which block `index` starts, counted from 0."""
        return self.header_bytes + index * self.block_bytes

    def blocks(self, size: int) -> int:
        """Whole blocks in a file of this size."""
        return max(size - self.header_bytes, 0) // self.block_bytes

    def midpoint(self, index: int) -> int:
        """Middle of integration `index`, ns since MJD 0."""
        return self.header.start_ns + index * self.header.interval_ns + self.header.interval_ns // 2

    def baseline(self, a1: int, a2: int) -> int:
        """Number of a baseline, as `baseline`; Refused when the file does not have it."""
        number = baseline(a1, a2)
        if number >= self.header.baselines:
            raise Refused(f"antennas {a1} and {a2}; the file has {self.header.antennas}, counted from 0")
        return number


def shapes_of(header: Header, part: str, kind: str) -> tuple[tuple[int, ...], ...]:
    """Shape of each window's cell in a part's table, ``cross`` or ``auto``."""
    shapes: list[tuple[int, ...]] = []
    for window in header.windows:
        if part in META_PARTS:
            shapes.append((window.bins, len(window.cross if kind == "cross" else window.auto)))
        else:
            products = len(window.cross) if kind == "cross" else window.auto_values
            shapes.append((window.bins, window.channels, products))
    return tuple(shapes)


def sizes_of(header: Header) -> dict[str, tuple[int, str]]:
    """``size`` (numbers; two for a complex one) and ``axes`` of each part that a file of this header has."""
    cross, auto = header.has_cross, header.has_auto
    meta_axes = " ".join((*("BAL",) * cross, *("ANT",) * auto, "BAB SPW BIN STO"))
    sizes = {name: (_count(header, name), meta_axes) for name in META_PARTS}
    if cross:
        sizes["crossData"] = (2 * _count(header, "crossData"), "BAL BAB SPW BIN SPP STO")
    if auto:
        sizes["autoData"] = (_count(header, "autoData"), "ANT BAB SPW BIN SPP STO")
    return sizes


def _kinds(header: Header, part: str) -> Iterator[tuple[str, int]]:
    """The tables of a part: kind and rows."""
    if header.has_cross and part != "autoData":
        yield "cross", header.baselines
    if header.has_auto and part != "crossData":
        yield "auto", header.antennas


def _count(header: Header, part: str) -> int:
    return sum(
        rows * sum(math.prod(shape) for shape in shapes_of(header, part, kind)) for kind, rows in _kinds(header, part)
    )


def tables_of(header: Header, part: str, offset: int, dtype: np.dtype[Any]) -> tuple[Table, ...]:
    """The tables of a part that starts at `offset`."""
    tables = []
    for kind, rows in _kinds(header, part):
        shapes = shapes_of(header, part, kind)
        starts = (0, *accumulate(math.prod(shape) for shape in shapes))
        tables.append(Table(part, kind, rows, shapes, starts, offset, dtype))
        offset += tables[-1].nbytes
    return tuple(tables)
