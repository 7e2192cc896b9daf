"""What the bytes of a file hash to, read once, and only if the file held still."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from socs_bl.core.errors import Refused, Retry
from socs_bl.dataflow.model import DEFAULT_ALGORITHM, Digest, Seen
from socs_bl.dataflow.receiver import Disk, hash_file, identity


def digest(
    path: Path,
    algorithms: Sequence[str] = (DEFAULT_ALGORITHM,),
    expected: Seen | None = None,
    disk: Disk | None = None,
    buffer: bytearray | None = None,
) -> dict[str, Digest]:
    """Hash a file with all `algorithms` at once.

    Parameters
    ----------
    path : Path
        A regular file; symbolic links are not followed.
    algorithms : sequence of str
        Of `socs_bl.dataflow.model.ALGORITHMS`.
    expected : Seen, optional
        The file that is meant, as a scan saw it.
    disk : Disk, optional
        The system calls.
    buffer : bytearray, optional
        To read into, for who hashes many files.

    Returns
    -------
    dict
        Algorithm to its digest.

    Raises
    ------
    Retry
        When it changed while it was read, is gone, or is not the one that was expected: look at it again.
    Refused
        When it cannot be read.
    """
    disk = disk or Disk()
    try:
        status, found = hash_file(disk, os.fsencode(path), algorithms, buffer)
        if identity(disk.lstat(os.fsencode(path))) != identity(status):
            raise Retry(f"{path} was replaced while it was read; scan its store again")
    except FileNotFoundError as error:
        raise Retry(f"{path} is gone; scan its store again") from error
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise Retry(f"{path}: {error.strerror}; scan its store again") from error
        raise Refused(f"{path} cannot be read: {error.strerror}; check the file and its directory") from error
    if expected is not None and not same(expected, status):
        raise Retry(f"{path} is not the file that was seen there; scan its store again")
    return {algorithm: Digest(algorithm, text) for algorithm, text in found.items()}


def same(seen: Seen, status: os.stat_result) -> bool:
    """Whether this is still the file that a scan saw."""
    size, mtime_ns, inode = identity(status)
    return (size, mtime_ns) == (seen.size, seen.mtime_ns) and seen.inode in (0, inode)
