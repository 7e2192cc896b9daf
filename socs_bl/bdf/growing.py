"""A file that grows: its blocks as they are set up, and its end. Whoever calls holds the file's lock."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from socs_bl.bdf.framing import BLOCK_START, CLOSING
from socs_bl.bdf.gather import Vectors, address_of, start_writing, write_gathered
from socs_bl.bdf.header import Header
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.parse import parse_opening
from socs_bl.core.errors import Refused

_MAX_HEAD = 8 << 20
NOT_WRITTEN = 1  # the flag of a number that nobody has written


def read_header(descriptor: int, path: Path) -> Header:
    """The main header of a file that may grow and shrink: read, since memory that is mapped to it would go with its end.

    Raises
    ------
    Refused
        When it is no binary data file.
    Faulty
        When the header is damaged.
    """
    return parse_opening(os.pread(descriptor, _MAX_HEAD, 0), str(path)).header


def own_layout(descriptor: int, path: Path) -> Layout:
    """The layout that a file's own header gives.

    Raises
    ------
    Refused
        When another program has written the header: its blocks have other places.
    Faulty
        When the header is damaged.
    """
    layout = Layout(read_header(descriptor, path))
    head = layout.framing.head
    if os.pread(descriptor, len(head), 0) != head:
        raise Refused(f"{path}: was begun by another program; its integrations cannot be placed")
    return layout


class GrowingFile:
    """An open file of our own layout.

    Parameters
    ----------
    descriptor : int
        Open for reading and writing.
    layout : Layout
    """

    def __init__(self, descriptor: int, layout: Layout) -> None:
        self._descriptor = descriptor
        self._layout = layout

    def blocks(self) -> int:
        """Blocks there is room for; the last may not be set up."""
        return self._layout.blocks(os.fstat(self._descriptor).st_size)

    def is_closed(self) -> bool:
        """Whether the closing boundary stands behind the blocks."""
        size = os.fstat(self._descriptor).st_size
        end = self._layout.offset(self._layout.blocks(size))
        return size == end + len(CLOSING) and self._at(end, CLOSING)

    def is_set_up(self, block: int) -> bool:
        """Whether a block is there with its texts."""
        return block < self.blocks() and self._at(self._layout.offset(block), BLOCK_START)

    def set_up(self, block: int, whole: Mapping[str, Vectors] | None = None) -> bool:
        """Make a block, all before it being there: with everything of it, or flagged as not written.

        Parameters
        ----------
        block : int
        whole : mapping of str to int64 array, or None
            All numbers of each part, as for `write_gathered`.

        Returns
        -------
        bool
            Whether `whole` has been written. It is not where later blocks exist (a power cut has left a hole).

        Raises
        ------
        OSError
            When the disk does not take it; the block is not there.
        """
        offset = self._layout.offset(block)
        size = os.fstat(self._descriptor).st_size
        if size > offset + self._layout.block_bytes:
            self._write_empty(block, offset)
            return False
        try:
            if size > offset:  # whoever began it was killed
                os.ftruncate(self._descriptor, offset)
            if whole is None:
                self._write_empty(block, offset)
            else:
                self._write_whole(block, offset, whole)
        except OSError:
            os.ftruncate(self._descriptor, offset)
            raise
        return whole is not None

    def _write_whole(self, block: int, offset: int, numbers: Mapping[str, Vectors]) -> None:
        texts = [np.frombuffer(text, np.uint8) for _, text in self._texts(block)]
        around = [np.array([[address_of(text), len(text)]]) for text in texts]
        inside = [numbers[name] for name in self._layout.parts]
        vectors = [one for pair in zip(around[:-1], inside, strict=True) for one in pair]
        write_gathered(self._descriptor, np.concatenate([*vectors, around[-1]]), offset)
        start_writing(self._descriptor, offset, self._layout.block_bytes)  # the next sync will find little to do

    def _texts(self, block: int) -> list[tuple[int, bytes]]:
        return self._layout.framing.pieces(block, self._layout.midpoint(block))

    def _write_empty(self, block: int, offset: int) -> None:
        middle = self._layout.midpoint(block)
        self._allocate(offset)
        for name, value in (("flags", NOT_WRITTEN), ("actualTimes", middle), ("actualDurations", 0)):
            part = self._layout.parts[name]
            dtype: np.dtype[Any] = part.tables[0].dtype
            self.put(np.full(part.nbytes // dtype.itemsize, value, dtype).data.cast("B"), offset + part.offset)
        for place, text in reversed(self._texts(block)):
            self.put(memoryview(text), offset + place)

    def _allocate(self, offset: int) -> None:
        """Room for a block, as zeros; where the file system cannot reserve, only its size."""
        size = self._layout.block_bytes
        try:
            os.posix_fallocate(self._descriptor, offset, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(self._descriptor, offset + size)

    def put(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        while data:
            written = os.pwrite(self._descriptor, data, offset)
            data, offset = data[written:], offset + written

    def _at(self, offset: int, text: bytes) -> bool:
        return os.pread(self._descriptor, len(text), offset) == text
