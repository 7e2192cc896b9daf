"""Binary lag frames (BLF): frames one behind the other, as they were sent, without a file header or padding.

The length of a frame follows from its header. Files of either byte order are read, told apart by the sync word. Where
bytes are damaged the reader goes on with the next sync word; what it left out is counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from socs_bl.correlator import wire
from socs_bl.correlator.counters import Counts
from socs_bl.correlator.kernel import inner, kept_word, kernel, put_sent_word, sent_word
from socs_bl.correlator.source import Batch

CHUNK = 1 << 20
MOST_FRAMES = CHUNK // wire.frame_bytes(wire.LAG_COUNTS[-1]) + 1
MASK = 0xFFFFFFFF
_HEADER_BYTES = wire.frame_bytes(0)
_NLAGS = wire.FIELD["nlags"]
_NLAGS_WORD, _NLAGS_LOW, _NLAGS_MASK = _NLAGS.word, _NLAGS.low, _NLAGS.maximum
_SYNC, _SWAPPED = wire.SYNC, wire.SWAPPED_SYNC
_LONG_FRAME, _SHORT_FRAME = wire.LAG_COUNTS
_SECONDS_WORD = wire.FIELD["seconds"].word


@inner
def _word(frame: Any, number: Any, swapped: bool) -> Any:
    return np.int64(kept_word(frame, number) if swapped else sent_word(frame, number))


@inner
def _is_whole(frame: Any, words: Any, swapped: bool) -> bool:
    """The checksum is right."""
    total = np.int64(0)
    for number in range(words - 1):
        total += _word(frame, number, swapped)
    return bool((total & MASK) == _word(frame, words - 1, swapped))


@kernel
def split_frames(base: np.uint64, size: int, last: bool, most: int, starts: Counts, lengths: Counts) -> Any:
    """Where frames lie; those of the other byte order are turned.

    Parameters
    ----------
    base : int
        Address of the bytes.
    size : int
        How many there are.
    last : bool
        The file ends with them.
    most : int
        Frames to find at most.
    starts, lengths : numpy.ndarray
        int64: filled.

    Returns
    -------
    tuple of int
        Frames found, bytes that are done with, bytes left out.
    """
    found: Any = 0
    at: Any = 0
    skipped: Any = 0
    while found < most and at + 4 <= size:
        frame = base + np.uint64(at)
        sync = np.int64(sent_word(frame, 0))
        if sync != _SYNC and sync != _SWAPPED:
            at += 1
            skipped += 1
            continue
        if at + _HEADER_BYTES > size:
            break
        swapped = sync == _SWAPPED
        nlags = np.int64(_word(frame, _NLAGS_WORD, swapped) >> _NLAGS_LOW) & _NLAGS_MASK
        length = _HEADER_BYTES + 8 * nlags
        good = nlags in (_LONG_FRAME, _SHORT_FRAME)
        if good and at + length > size - (0 if last else 4):
            break  # not all of it is here, or what follows is not
        if good and at + length + 4 <= size:
            following = np.int64(sent_word(base + np.uint64(at + length), 0))
            good = following == sync or _is_whole(frame, length // 4, swapped)
        if not good:
            at += 4  # behind this sync word
            skipped += 4
            continue
        if swapped:
            for number in range(length // 4):
                put_sent_word(frame, number, kept_word(frame, number))
        starts[found], lengths[found] = at, length
        found += 1
        at += length
    if last and found < most:
        skipped += size - at
        at = size
    return found, at, skipped


@kernel
def shift_seconds(base: np.uint64, starts: Counts, lengths: Counts, count: int, seconds: int) -> None:
    """Add whole seconds to the timestamps of frames, and to their checksums, which stay right or wrong as they were."""
    for number in range(count):
        frame = base + np.uint64(starts[number])
        for word in (_SECONDS_WORD, lengths[number] // 4 - 1):
            put_sent_word(frame, word, (np.int64(sent_word(frame, word)) + seconds) & MASK)


class BlfReader:
    """Reads a file in batches.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    frames : int
        Read so far.
    skipped : int
        Damaged bytes left out.

    Raises
    ------
    OSError
        When it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = self.skipped = 0
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._data = np.zeros(CHUNK, np.uint8)
        self._filled = self._done = 0
        self._ended = False
        lengths = np.zeros(MOST_FRAMES, np.int64)
        self._batch = Batch(self._data, np.zeros(MOST_FRAMES, np.int64), lengths, lengths, 0)

    @property
    def batch(self) -> Batch:
        """The last batch."""
        return self._batch

    def read(self, most: int = MOST_FRAMES) -> Batch:
        """The next frames, each a message; at most `most`. Good until the next call.

        Raises
        ------
        EOFError
            When there are no more.
        OSError
            When the file cannot be read.
        """
        batch = self._batch
        while True:
            kept = self._filled - self._done
            self._data[:kept] = self._data[self._done : self._filled]
            self._filled, self._done = kept, 0
            while not self._ended and self._filled < CHUNK:
                got = self._file.readinto(self._data[self._filled :].data)
                self._ended = not got
                self._filled += got or 0
            count, self._done, skipped = split_frames(
                batch.address, self._filled, self._ended, min(most, MOST_FRAMES), batch.starts, batch.lengths
            )
            self.skipped += int(skipped)
            batch.count = int(count)
            self.frames += batch.count
            if batch.count:
                return batch
            if self._ended:
                raise EOFError(f"{self.path} has ended after {self.frames} frames")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
