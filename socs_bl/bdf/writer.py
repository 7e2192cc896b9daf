"""Writing a file: several threads, processes and hosts put their pieces of the same integrations into it.

Whoever comes first creates ``NAME.part`` with the main header; all others take what it says. A block is set up once,
under the file's lock: texts, times, flags 1 (not written), durations and data 0; its first line comes last, so that a
block with that line is whole. Blocks are set up in order, so that the file is always main header, whole blocks, and at
most the beginning of one. A piece goes to its places under the shared lock, flags last. A writer that has everything of
an integration writes it in one go.

A writer that is killed leaves its pieces flagged 1 and everybody else's where they are. `finish` closes the file under
the lock; what comes later is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from socs_bl.bdf.cells import Cells
from socs_bl.bdf.gather import write_gathered
from socs_bl.bdf.growing import GrowingFile, own_layout
from socs_bl.bdf.header import Header
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.piece import Piece
from socs_bl.bdf.scan import Scan, encode_scan, file_name
from socs_bl.core.errors import Lost, Refused
from socs_bl.core.whole_file import write_whole

__all__ = ["BdfWriter", "Piece", "part_path", "scan_path"]

SYNC_SECONDS = 1.0
MAX_GAP = 3600


def part_path(directory: Path, uid: str) -> Path:
    """Where a file grows, in the creation directory."""
    return directory / f"{file_name(uid)}.part"


def scan_path(directory: Path, uid: str) -> Path:
    """Where its scan is kept, in the creation directory."""
    return directory / f"{file_name(uid)}.scan.json"


class BdfWriter:
    """One writer of a file. Its methods may be called by several threads; they take turns.

    Attributes
    ----------
    path : Path
    header : Header
        As it stands in the file: the start and phase of all integrations come from it.
    layout : Layout
    """

    def __init__(self, path: Path, descriptor: int, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        self.header = layout.header
        self._descriptor = descriptor
        self._file = GrowingFile(descriptor, layout)
        self._lock = threading.Lock()
        self._blocks = 0  # known to be set up
        self._synced = time.monotonic()
        self._cells = Cells(layout, str(path))

    @classmethod
    def open(cls, directory: Path, header: Header, scan: Scan) -> BdfWriter:
        """Create the file, or join those who write it.

        Parameters
        ----------
        directory : Path
            The creation directory; made when it is missing. Files are published into its parent.
        header : Header
            What the file would be. An existing one must have the same shape; its start is the one that counts.
        scan : Scan
            Stored beside the file by whoever creates it.

        Raises
        ------
        Refused
            When the header cannot be written, the file has another shape, or has been finished or published.
        Faulty
            When the header of an existing file is damaged.
        Lost
            When the disk does not take it.
        """
        header.check()
        if header.uid != scan.uid:
            raise Refused(f"the header is of {header.uid}, the scan of {scan.uid}; a file has one uid")
        layout = Layout(header)
        path = part_path(directory, scan.uid)
        if (directory.parent / file_name(scan.uid)).exists():
            raise Refused(f"{directory.parent / file_name(scan.uid)} has been published; it takes no more data")
        with _located(path, "creating it"):
            directory.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _create(path, layout.framing.head, encode_scan(scan))
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(path, descriptor, _joined(path, descriptor, header))
        except BaseException:
            os.close(descriptor)
            raise

    def __enter__(self) -> BdfWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, index: int, pieces: Sequence[Piece]) -> None:
        """Put pieces of one integration into the file.

        Parameters
        ----------
        index : int
            Integration, from 0 at the file's start time.
        pieces : sequence of Piece

        Raises
        ------
        Refused
            When a piece has another shape than the file, the index cannot be, or the file has been finished.
            Nothing was written.
        Lost
            When the disk does not take it; the integration stays flagged where it is missing.
        """
        with self._lock:
            self._cells.place(pieces)
            with _located(self.path, f"integration {index}"):
                try:
                    self._write_locked(index)
                finally:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                self._sync()

    def close(self) -> None:
        """Everything to disk, and let go of the file. It is not finished: others may still write.

        Raises
        ------
        Lost
            When the disk does not take it.
        """
        with self._lock:
            if self._descriptor < 0:
                return
            try:
                with _located(self.path, "its last second"):
                    os.fsync(self._descriptor)
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _write_locked(self, index: int) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self._check_open(index)
        if index >= self._blocks:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._check_open(index)  # the lock was free for a moment
            if self._set_up(index):
                return
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            self._check_open(index)
        start = self.layout.offset(index)
        for place, vectors in self._cells.runs():
            write_gathered(self._descriptor, vectors, start + place)

    def _check_open(self, index: int) -> None:
        blocks = self._file.blocks()
        if self._file.is_closed():
            raise Refused(
                f"{self.path}: has been finished with {blocks} integrations; integration {index} comes too late"
            )
        if not 0 <= index < blocks + MAX_GAP:
            raise Refused(f"{self.path}: integration {index} after {blocks}; a gap of {MAX_GAP} is too long to be one")

    def _set_up(self, index: int) -> bool:
        """Set up all blocks up to `index`, under the lock; with a complete integration the last is written at once."""
        whole = self._cells.complete()
        written = False
        for block in range(self._blocks, index + 1):
            if not self._file.is_set_up(block):
                written = self._file.set_up(block, self._cells.parts() if whole and block == index else None)
            self._blocks = block + 1
        return written

    def _sync(self) -> None:
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            os.fdatasync(self._descriptor)
            self._synced = time.monotonic()


@contextlib.contextmanager
def _located(path: Path, what: str) -> Iterator[None]:
    """A disk that refuses is a loss, and the text says where."""
    try:
        yield
    except OSError as error:
        raise Lost(
            f"{path}: {what} is lost: {error.strerror or error}; see to the disk, the next file may fit"
        ) from error


def _create(path: Path, head: bytes, scan: str) -> None:
    """Make the file appear with its whole header, unless somebody else was quicker."""
    private = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    scan_file = path.with_suffix(".scan.json")
    if not scan_file.exists():
        write_whole(scan_file, scan.encode() + b"\n")
    try:
        with open(private, "wb") as file:
            file.write(head)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(private, path)
    finally:
        private.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _joined(path: Path, descriptor: int, header: Header) -> Layout:
    """The layout that the file's own header gives; Refused when it has another shape than `header`."""
    layout = own_layout(descriptor, path)
    for what in ("uid", "exec_block", "project_path", "interval_ns", "antennas", "correlation_mode", "windows"):
        found, wanted = getattr(layout.header, what), getattr(header, what)
        if found != wanted:
            raise Refused(
                f"{path}: exists with {what} {found!r:.200}, not {wanted!r:.200}; all writers of a file need the same"
                " configuration"
            )
    return layout
