"""Frames written to files as they come, before anything looks at them: BLF, or text with a line for each frame."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from socs_bl.core.clock import compact_utc
from socs_bl.core.errors import Faulty, Refused
from socs_bl.correlator import wire
from socs_bl.correlator.source import Batch

MODES = ("none", "ascii", "binary")
SUFFIXES = {"ascii": ".txt", "binary": ".blf"}
_FRAMES_A_WRITE = 512
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


class FrameDump:
    """Files ``<instance>-<UTC>-<nn>.blf`` of one stream; `nn` counts on when a file has reached its size.

    Parameters
    ----------
    mode : str
        ``none``, ``ascii`` or ``binary``.
    directory : str
        Absolute; must exist.
    size : int
        Bytes of a file after which the next begins; 0: never. The last frame is not cut.
    instance : str

    Raises
    ------
    Refused
        When a value is none of these.
    Faulty
        When the first file cannot be made.
    """

    def __init__(self, mode: str, directory: str = "", size: int = 0, instance: str = "cbe") -> None:
        if mode not in MODES:
            raise Refused(f"framedump {mode!r:.40}; it is none, ascii or binary")
        if size < 0:
            raise Refused(f"framedump size {size}; it is a number of bytes, 0 for no limit")
        if not _NAME.fullmatch(instance):
            raise Refused(f"framedump of {instance!r:.80}: such a name cannot be part of a file's")
        if mode != "none" and not (Path(directory).is_absolute() and Path(directory).is_dir()):
            raise Refused(f"framedump directory {directory!r:.200} is no existing directory; give its absolute path")
        self.mode, self.directory, self.size = mode, directory, size
        self.files: list[Path] = []
        self._instance, self._stamp = instance, compact_utc(time.time())[:-1]
        self._file: IO[bytes] | None = None
        self._written = 0
        if mode != "none":
            self._next_file()

    def write(self, batch: Batch) -> None:
        """Write what came.

        Raises
        ------
        Faulty
            When it cannot be written; the dump has ended.
        """
        if self._file is None:
            return
        # Sizes are kept by handing over a few messages at a time.
        for first in range(0, batch.count, _FRAMES_A_WRITE):
            messages = range(first, min(first + _FRAMES_A_WRITE, batch.count))
            try:
                if self.size and self._written >= self.size:
                    self._next_file()
                if self.mode == "binary":
                    self._written += _write_all(self._file, [_bytes(batch, number) for number in messages])
                else:
                    for number in messages:
                        self._written += self._file.write(_as_text(batch, number).encode())
            except OSError as error:
                self.close()
                raise Faulty(
                    f"framedump to {self.files[-1]}: {error.strerror}; it is off until it is set again", self.directory
                ) from error

    def close(self) -> None:
        """End the file; nothing is written any more."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _next_file(self) -> None:
        self.close()
        path = Path(self.directory) / f"{self._instance}-{self._stamp}-{len(self.files):02d}{SUFFIXES[self.mode]}"
        try:
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise Faulty(
                f"framedump to {path}: {error.strerror}; give a directory that can be written", str(path)
            ) from error
        self.files.append(path)
        self._written = 0


def _bytes(batch: Batch, message: int) -> memoryview:
    start = int(batch.starts[message])
    return batch.data[start : start + int(batch.lengths[message])].data


def _write_all(file: IO[bytes], pieces: list[memoryview]) -> int:
    """Write every byte; a disk that takes only some of them is asked again, and then says why."""
    total = sum(len(piece) for piece in pieces)
    done = os.writev(file.fileno(), pieces)
    if done < total:
        rest = b"".join(pieces)[done:]
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
    return total


def _as_text(batch: Batch, message: int) -> str:
    """A line for each frame: ``key=value`` for each field, then the lags; what is no frame is said to be none."""
    return "".join(f"{line}\n" for line in _lines(bytes(_bytes(batch, message)), int(batch.segments[message])))


def _lines(data: bytes, segment: int) -> Iterator[str]:
    for first in range(0, len(data), max(segment, 1)):
        datagram = data[first : first + segment]
        at = 0
        while at < len(datagram):
            size = _frame_size(datagram[at:])
            try:
                frame = wire.parse_frame(datagram[at : at + size])
            except Refused as error:
                yield f"bad={error}"
            else:
                fields = " ".join(f"{name}={value}" for name, value in frame.header.items())
                yield f"{fields} lags={','.join(map(str, np.ravel(frame.lags)))}"
            at += size


def _frame_size(data: bytes) -> int:
    """The length the header claims; all there is when there is no header."""
    if len(data) < wire.frame_bytes(0):
        return len(data)
    words = np.frombuffer(data[: 4 * wire.HEADER_WORDS], ">u4").astype(np.uint32)
    nlags = int(wire.parse_header(words)["nlags"])
    return wire.frame_bytes(nlags) if nlags in wire.LAG_COUNTS else len(data)
