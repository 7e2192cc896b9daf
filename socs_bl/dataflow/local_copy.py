"""Copying files within this host: by the kernel, which shares blocks where the file system can."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from socs_bl.dataflow.classify import of_errno
from socs_bl.dataflow.outcome import Cause, Outcome
from socs_bl.dataflow.receiver import BLOCK, Disk, make_directories, raw
from socs_bl.dataflow.rsync import Progress

_CHUNK = 1 << 26  # bytes the kernel is asked to copy at once
_NOT_BY_THE_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_files(
    disk: Disk,
    source: Path,
    paths: Sequence[str],
    target: bytes,
    mode: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Copy files; each arrives at its own path below `target`, which is there, with the time of its source.

    Parameters
    ----------
    disk : Disk
        The system calls.
    source : Path
        Directory that `paths` are below.
    mode : int, optional
        Permissions that the files get; None: those of the source.
    on_progress : callable, optional
        Called in this thread.
    stop : threading.Event, optional
        Ends it when set.

    Returns
    -------
    Outcome
        Of the whole: of the last file that could not be copied, or done. A disk that is full ends it.
    """
    outcome = Outcome(Cause.DONE)
    through = 0
    for number, path in enumerate(paths):
        if stop is not None and stop.is_set():
            return Outcome(Cause.INTERRUPTED, f"copying to {os.fsdecode(target)} was stopped")
        try:
            if folder := os.path.dirname(raw(path)):
                make_directories(disk, target, folder, 0o700)
            through += _copy(disk, os.path.join(os.fsencode(source), raw(path)), os.path.join(target, raw(path)), mode)
        except OSError as error:
            outcome = of_errno(error.errno or errno.EIO, f"{path}: {error.strerror}")
            if outcome.cause in (Cause.DISK_FULL, Cause.QUOTA):
                return outcome
        if on_progress is not None:
            on_progress(Progress(through, number + 1))
    return outcome


def _copy(disk: Disk, source: bytes, target: bytes, mode: int | None) -> int:
    """Copy one file; returns its bytes."""
    reading = disk.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        writing = disk.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
        try:
            copied = _bytes(disk, reading, writing)
            status = os.fstat(reading)
            disk.set_times(writing, status.st_mode & 0o7777 if mode is None else mode, status.st_mtime_ns)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return copied


def _bytes(disk: Disk, reading: int, writing: int) -> int:
    copied = 0
    try:
        while count := disk.copy_range(reading, writing, _CHUNK):
            copied += count
    except OSError as error:
        if error.errno not in _NOT_BY_THE_KERNEL:
            raise
    # What is left, if anything: two file systems that the kernel does not copy between, or one that says 0 for "cannot".
    buffer = memoryview(bytearray(BLOCK))
    while count := disk.read(reading, buffer):
        left = buffer[:count]
        while left:
            left = left[disk.write(writing, left) :]
        copied += count
    return copied
