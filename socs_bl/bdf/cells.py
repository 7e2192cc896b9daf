"""Pieces of an integration as places in memory and in the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.bdf.gather import Vectors, address_of, merged, vectors_of
from socs_bl.bdf.layout import META_PARTS, Layout, Table
from socs_bl.bdf.piece import Piece
from socs_bl.core.errors import Refused

Array = npt.NDArray[Any]


class Cells:
    """Where the cells of one integration are in memory, table by table.

    Data stay where they are, in the pieces' arrays. Flags, times and durations, a few bytes a cell, are put side by side.

    Parameters
    ----------
    layout : Layout
    name : str
        For error texts.
    """

    def __init__(self, layout: Layout, name: str) -> None:
        self._name = name
        self._header = layout.header
        self._tables = [table for part in layout.parts.values() for table in part.tables]
        self._numbers = {(table.part, table.kind): number for number, table in enumerate(self._tables)}
        self._widths = [table.widths for table in self._tables]
        # Room for flags, times and durations: for each window the cells in it, and where they are.
        self._beside: dict[int, list[tuple[Array, Vectors]]] = {}
        self._rooms: dict[int, int] = {}
        for number, table in enumerate(self._tables):
            if table.part in META_PARTS:
                room = np.empty(table.nbytes, np.uint8)
                self._rooms[number] = address_of(room)
                rows = address_of(room) + table.row_bytes * np.arange(table.rows)
                starts = table.dtype.itemsize * np.asarray(table.starts)
                self._beside[number] = [
                    (table.cells(room, 0, window), rows + starts[window]) for window in range(len(table.shapes))
                ]
        self._arrays: list[Array] = []
        self._addresses: list[Vectors] = []

    def place(self, pieces: Sequence[Piece]) -> None:
        """Take these pieces instead of those before; they stay in use until the next ones come.

        Raises
        ------
        Refused
            When one has another shape than the file.
        """
        self._arrays = []
        self._addresses = [np.zeros((table.rows, len(table.shapes)), np.int64) for table in self._tables]
        for piece in pieces:
            if not 0 <= piece.window < len(self._header.windows):
                raise Refused(f"{self._name}: window {piece.window}; the file has {len(self._header.windows)}, from 0")
            for kind, rows, arrays in piece.tables():
                if ("flags", kind) not in self._numbers:
                    raise Refused(f"{self._name}: {kind} data for a file of {self._header.correlation_mode}")
                for part, values in arrays.items():
                    self._place(self._numbers[part, kind], piece.window, rows, values)

    def _place(self, number: int, window: int, rows: Array | None, values: Array) -> None:
        table = self._tables[number]
        chosen = slice(None) if rows is None else self._rows(table, rows)
        shape = (table.rows if rows is None else len(rows), *table.shapes[window])
        if values.shape != shape or not np.can_cast(values.dtype, table.dtype, "same_kind"):
            raise Refused(
                f"{self._name}: {table.kind} {table.part} of window {window} is {values.dtype} {values.shape};"
                f" the file takes {table.dtype} {shape}"
            )
        if number in self._beside:
            cells, addresses = self._beside[number][window]
            cells[chosen] = values
            self._addresses[number][chosen, window] = addresses[chosen]
        else:
            values = np.ascontiguousarray(values, table.dtype)
            self._arrays.append(values)
            step = math.prod(table.shapes[window]) * table.dtype.itemsize
            self._addresses[number][chosen, window] = address_of(values) + step * np.arange(len(values))

    def _rows(self, table: Table, rows: Array) -> npt.NDArray[np.intp]:
        chosen = np.asarray(rows, np.intp)
        if chosen.ndim != 1 or (chosen.size and not 0 <= int(chosen.min()) <= int(chosen.max()) < table.rows):
            raise Refused(f"{self._name}: rows {chosen.tolist()!r:.60}; {table.kind} has {table.rows}, counted from 0")
        return chosen

    def complete(self) -> bool:
        """Whether the pieces are all of the integration."""
        return all(
            bool((addresses[:, widths > 0] != 0).all())
            for addresses, widths in zip(self._addresses, self._widths, strict=True)
        )

    def parts(self) -> dict[str, Vectors]:
        """All cells of each part in the order of the file; they must be complete."""
        found: dict[str, list[Vectors]] = {}
        for number, table in enumerate(self._tables):
            if number in self._beside:  # side by side already
                vectors = np.array([[self._rooms[number], table.nbytes]])
            else:
                vectors = merged(vectors_of(self._addresses[number], self._widths[number]))
            found.setdefault(table.part, []).append(vectors)
        return {part: np.concatenate(tables) for part, tables in found.items()}

    def runs(self) -> Iterator[tuple[int, Vectors]]:
        """Byte of the block, and the cells that lie there side by side: flags last, so that what is flagged good is there."""
        for number in reversed(range(len(self._tables))):
            table, addresses, widths = self._tables[number], self._addresses[number], self._widths[number]
            there = (addresses != 0) | (widths == 0)
            edges = np.flatnonzero(np.diff(there.ravel(), prepend=False, append=False))
            windows = len(table.shapes)
            places = (edges // windows) * table.row_bytes + np.append(0, np.cumsum(widths))[edges % windows]
            vectors = vectors_of(addresses, widths)
            for first, end, place in zip(edges[::2].tolist(), edges[1::2].tolist(), places[::2].tolist(), strict=True):
                run = vectors[first:end]
                yield table.offset + place, run if end - first == 1 else merged(run)
