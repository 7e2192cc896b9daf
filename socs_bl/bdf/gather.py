"""Writing from many places of memory to one stretch of a file, without copying them together first.

An integration of 27 antennas and 16 windows is 24,000 cells of several arrays: to put them side by side before they are
written costs half as much again as writing them.
"""

from __future__ import annotations

import ctypes
import errno
import os

import numpy as np
import numpy.typing as npt

_MOST = os.sysconf("SC_IOV_MAX")
_VECTOR_BYTES = 16
_LIBC = ctypes.CDLL(None, use_errno=True)
_PWRITE, _PWRITEV = _LIBC.pwrite, _LIBC.pwritev
_PWRITE.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_PWRITEV.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_PWRITE.restype = _PWRITEV.restype = ctypes.c_ssize_t

Vectors = npt.NDArray[np.int64]


def write_gathered(descriptor: int, vectors: Vectors, offset: int) -> None:
    """Write pieces of memory one after the other.

    Parameters
    ----------
    descriptor : int
    vectors : int64 array
        (pieces, 2): address and bytes, as the system call takes them. Changed where it takes only part of a piece. The
        memory must stay as it is until this returns.
    offset : int
        Byte of the file.

    Raises
    ------
    OSError
        When the disk does not take all of it.
    """
    start = address_of(vectors)
    first = 0
    while first < len(vectors):
        count = min(len(vectors) - first, _MOST)
        written = _checked(_PWRITEV(descriptor, start + _VECTOR_BYTES * first, count, offset))
        offset += written
        ends = np.cumsum(vectors[first : first + count, 1])
        done = int(np.searchsorted(ends, written, side="right"))
        if done < count:  # part of a piece
            taken = written - (int(ends[done - 1]) if done else 0)
            vectors[first + done] += (taken, -taken)
        first += done


def write_memory(descriptor: int, address: int, length: int, offset: int) -> None:
    """Write one piece of memory; as `write_gathered`, quicker for one."""
    while length > 0:
        written = _checked(_PWRITE(descriptor, address, length, offset))
        address, length, offset = address + written, length - written, offset + written


def _checked(written: int) -> int:
    """What a call says to have written; 0 when a signal came first."""
    if written >= 0:
        return written
    number = ctypes.get_errno()
    if number != errno.EINTR:
        raise OSError(number, os.strerror(number))
    return 0


def address_of(array: npt.NDArray[np.generic]) -> int:
    """Where an array's numbers start in memory."""
    return int(array.__array_interface__["data"][0])
