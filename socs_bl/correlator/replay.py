"""A BLF file as a source: played at a rate or as fast as it is taken, with the timestamps it has or those of now."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from socs_bl.core.errors import Faulty
from socs_bl.correlator.blf import MOST_FRAMES, BlfReader, shift_seconds
from socs_bl.correlator.source import Batch
from socs_bl.correlator.wire import parse_header

SECOND = 1_000_000_000
LONGEST_BURST_S = 0.05  # at a given rate, what belongs to so much time goes out together at most


class Replay:
    """Plays a file.

    Parameters
    ----------
    path : Path
    rate : float
        Frames a second; 0: as fast as they are taken.
    live_timestamps : bool
        Move all timestamps by the same whole number of seconds, so that the first frame is of now. Dumps keep their
        distance and their place within the second.
    clock : callable
        Wall time, seconds.

    Raises
    ------
    Faulty
        When the file cannot be opened.
    """

    def __init__(
        self, path: Path, rate: float = 0.0, live_timestamps: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        try:
            self._reader = BlfReader(path)
        except OSError as error:
            raise Faulty(f"frames of {path}: {error.strerror}; give the path of a BLF file", str(path)) from error
        self.live_timestamps = live_timestamps
        self._clock = clock
        self._shift: int | None = None
        self.rate = rate

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = rate
        self._due = time.monotonic()  # when the next frame is due

    @property
    def skipped(self) -> int:
        """Damaged bytes left out."""
        return self._reader.skipped

    def wait_s(self) -> float:
        """Seconds until a frame is due."""
        return max(0.0, self._due - time.monotonic()) if self._rate > 0 else 0.0

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch, see `Source`."""
        most = MOST_FRAMES
        if self._rate > 0:
            wait = self.wait_s()
            time.sleep(min(wait, timeout_s))
            if wait > timeout_s:
                return None
            # Who comes late catches up, but not with more than a burst.
            self._due = max(self._due, time.monotonic() - LONGEST_BURST_S)
            most = max(1, min(MOST_FRAMES, int((time.monotonic() - self._due) * self._rate) + 1))
        batch = self._reader.read(most)
        if self._rate > 0:
            self._due += batch.count / self._rate
        if self.live_timestamps:
            self._make_live(batch)
        return batch

    def origin(self, message: int) -> str:
        """Where a message of the last batch lies."""
        return f"{self._reader.path}, frame {self._reader.frames - self._reader.batch.count + message}"

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _make_live(self, batch: Batch) -> None:
        if self._shift is None:
            start = int(batch.starts[0])
            words = batch.data[start : start + int(batch.lengths[0])].view(">u4").astype(np.uint32)
            self._shift = round(self._clock()) - int(parse_header(words)["seconds"])
        shift_seconds(batch.address, batch.starts, batch.lengths, batch.count, self._shift)
