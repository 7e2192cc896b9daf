"""Closing a file that has grown: whole integrations inside the window, the reason if it was aborted, the closing boundary.

It may be done again at any time, also after it was interrupted, and gives the same file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from socs_bl.bdf.framing import CLOSING
from socs_bl.bdf.growing import NOT_WRITTEN, GrowingFile, own_layout
from socs_bl.bdf.header import Header
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.scan import EDGE_NS, mjd_ns
from socs_bl.core.errors import Lost, Refused


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that has been closed.

    Attributes
    ----------
    header : Header
    integrations : int
        With none the file holds no data, and not all readers open it.
    size : int
        Bytes of the file.
    cut : int
        Integrations that were taken off the end: outside the window, or without anything written.
    repaired : int
        Integrations that a power cut had left without texts; they are there now, flagged as not written.
    """

    header: Header
    integrations: int
    size: int
    cut: int
    repaired: int

    @property
    def start_ns(self) -> int:
        """Start of the first integration, ns since MJD 0."""
        return self.header.start_ns

    @property
    def stop_ns(self) -> int:
        """End of the last integration, ns since MJD 0."""
        return self.header.start_ns + self.integrations * self.header.interval_ns


def finish(part: Path, stop_ns: int | None = None, reason: str = "") -> Finished:
    """Close a file.

    Parameters
    ----------
    part : Path
        ``NAME.part``. Its writers may still have it open; what they write from now on is refused.
    stop_ns : int or None
        End of the scan, ns since 1970 UTC: integrations that end later, by more than `EDGE_NS`, are cut off.
    reason : str
        Why the observation was aborted; empty: it was not. It goes into the last integration.

    Returns
    -------
    Finished

    Raises
    ------
    Refused
        When it is no binary data file, or not one of this package's.
    Faulty
        When the main header is damaged.
    Lost
        When the disk does not take it.
    """
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{part}: cannot be finished: {error.strerror}") from error
    with contextlib.closing(os.fdopen(descriptor, "r+b", buffering=0)), _lost(part):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        layout = own_layout(descriptor, part)
        return _finish(descriptor, layout, stop_ns, reason)


def _finish(descriptor: int, layout: Layout, stop_ns: int | None, reason: str) -> Finished:
    file = GrowingFile(descriptor, layout)
    there = file.blocks()
    while there and not file.is_set_up(there - 1):
        there -= 1
    keep = there
    if stop_ns is not None:
        keep = min(keep, max(mjd_ns(stop_ns) + EDGE_NS - layout.header.start_ns, 0) // layout.header.interval_ns)
    while keep and not _anything(descriptor, layout, keep - 1):
        keep -= 1
    repaired = 0
    for block in range(keep):
        if not file.is_set_up(block):
            file.set_up(block)
            repaired += 1
    os.ftruncate(descriptor, layout.offset(keep))
    if keep and reason:
        end = layout.header.start_ns + keep * layout.header.interval_ns
        stop = end if stop_ns is None else mjd_ns(stop_ns)
        place, text = layout.framing.pieces(keep - 1, layout.midpoint(keep - 1), reason, stop)[0]
        file.put(memoryview(text), layout.offset(keep - 1) + place)
    file.put(memoryview(CLOSING), layout.offset(keep))
    os.fsync(descriptor)
    return Finished(layout.header, keep, layout.offset(keep) + len(CLOSING), there - keep, repaired)


def _anything(descriptor: int, layout: Layout, block: int) -> bool:
    """Whether anybody has written anything of an integration."""
    part = layout.parts["flags"]
    flags = os.pread(descriptor, part.nbytes, layout.offset(block) + part.offset)
    return bool(np.any(np.frombuffer(flags, part.tables[0].dtype) != NOT_WRITTEN))


@contextlib.contextmanager
def _lost(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Lost(f"{path}: cannot be finished: {error.strerror}; see to the disk and finish it again") from error
