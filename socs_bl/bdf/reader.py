"""Reading a file: mapped into memory, of any writer.

Opening looks at the main header, at the first integration and at the boundary of every further one; an integration's
own texts are read when it is asked for, and its numbers when they are used.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from socs_bl.bdf.integration import Integration, Shapes
from socs_bl.bdf.parse import Block, Buffer, faulty, parse_block, parse_opening
from socs_bl.core.errors import Faulty, Refused

GROWING = ".part"  # the end of a name in the creation directory, see `writer`


class BdfReader:
    """A file of integrations.

    Parameters
    ----------
    path : Path
    partial : bool
        Also read what is not closed: a file that grows, or one that is cut off. Only whole integrations are given out;
        `damage` says what comes after them.

    Attributes
    ----------
    path : Path
    header : Header
        Its interval is the first integration's where the main header does not say it.
    damage : str
        Empty for a whole file.

    Raises
    ------
    Refused
        When there is no such file, or it is no binary data file.
    Faulty
        When it is cut off or damaged; the text names the byte. With `partial` only for the main header.
    """

    def __init__(self, path: Path, partial: bool = False) -> None:
        self.path = path
        self._buffer = mapped(path)
        self._bytes = np.frombuffer(self._buffer, np.uint8)  # holds the mapping; what is made of a bare buffer does not
        try:
            self._opening = parse_opening(self._buffer, str(path))
            self._shapes = Shapes(self._opening, str(path))
            self._offsets, self.damage = self._index(partial)
            self.header = self._opening.header
            if not self.header.interval_ns and self._offsets:
                self.header = replace(self.header, interval_ns=self._block(0).interval_ns)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BdfReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Integration:
        """Integration `index`, from 0; negative ones count from the end.

        Raises
        ------
        IndexError
            When there is no such integration.
        Faulty
            When its texts are damaged; the text names the byte.
        """
        position = range(len(self._offsets))[index]
        return Integration(self._bytes, position, self._block(position), self._shapes, str(self.path))

    def __iter__(self) -> Iterator[Integration]:
        return (self[index] for index in range(len(self)))

    def close(self) -> None:
        """Let go of the file; arrays that are still in use keep it mapped until they are gone."""
        self._bytes = np.empty(0, np.uint8)
        if isinstance(self._buffer, mmap.mmap):
            with contextlib.suppress(BufferError):
                self._buffer.close()
        self._buffer = b""

    def _block(self, index: int) -> Block:
        return parse_block(self._buffer, self._offsets[index], self._opening, str(self.path))

    def _index(self, partial: bool) -> tuple[list[int], str]:
        """Where the integrations start, and what comes after the last whole one."""
        boundary, buffer, name = self._opening.boundary, self._buffer, str(self.path)
        offsets: list[int] = []
        offset, step, line = self._opening.first, 0, boundary + b"\n"
        closing = boundary + b"--"
        try:
            while buffer[offset : offset + len(closing)] != closing:
                # Most writers' blocks have one length: the next boundary is where it should be, or the block is read.
                after = offset + step
                if not step or buffer[after : after + len(line)] != line or buffer[offset : offset + len(line)] != line:
                    after = parse_block(buffer, offset, self._opening, name).end
                    step = after - offset
                offsets.append(offset)
                offset = after
            if len(buffer) - offset - len(closing) > 2:
                raise faulty(name, offset + len(closing), "bytes after the closing boundary")
        except Faulty as error:
            if not partial:
                raise
            return offsets, str(error)
        return offsets, ""


def mapped(path: Path) -> Buffer:
    """A file as memory. One that is still written is read whole: it may shrink, and memory of what is gone kills.

    Raises
    ------
    Refused
        When it is missing or empty, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise Refused(f"{path}: is empty; this is not a binary data file")
            if path.suffix == GROWING:
                return file.read()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: cannot be read: {error}") from error
