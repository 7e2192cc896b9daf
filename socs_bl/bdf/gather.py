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
_SYNC_FILE_RANGE = _LIBC.sync_file_range
_SYNC_FILE_RANGE.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE = 2
_PWRITE.restype = _PWRITEV.restype = ctypes.c_ssize_t

Vectors = npt.NDArray[np.int64]


def vectors_of(addresses: Vectors, lengths: Vectors) -> Vectors:
    """Address and bytes of each piece of memory, (pieces, 2); lengths repeat for each row of addresses."""
    return np.stack((addresses, np.broadcast_to(lengths, addresses.shape)), axis=-1).reshape(-1, 2)


def merged(vectors: Vectors) -> Vectors:
    """The same bytes in fewer pieces: those that follow each other in memory become one, empty ones go."""
    there = vectors[vectors[:, 1] > 0]
    if not len(there):
        return there
    firsts = np.flatnonzero(np.append(True, there[1:, 0] != there[:-1].sum(axis=1)))
    return np.stack((there[firsts, 0], np.add.reduceat(there[:, 1], firsts)), axis=1)


def write_gathered(descriptor: int, vectors: Vectors, offset: int) -> None:
    """Write pieces of memory one after the other.

    Parameters
    ----------
    descriptor : int
    vectors : int64 array
        (pieces, 2): address and bytes, as the system call takes them. The memory must stay as it is until this returns.
    offset : int
        Byte of the file.

    Raises
    ------
    OSError
        When the disk does not take all of it.
    """
    if len(vectors) == 1:
        address, length = vectors[0].tolist()
        _write_one(descriptor, address, length, offset)
        return
    start = address_of(vectors)
    first = 0
    while first < len(vectors):
        count = min(len(vectors) - first, _MOST)
        written = _checked(_PWRITEV(descriptor, start + _VECTOR_BYTES * first, count, offset))
        ends = np.cumsum(vectors[first : first + count, 1])
        done = int(np.searchsorted(ends, written, side="right"))
        if done < count:  # the rest of a piece it has taken in part
            address, length = vectors[first + done].tolist()
            rest = int(ends[done]) - written
            _write_one(descriptor, address + length - rest, rest, offset + written)
            done, written = done + 1, written + rest
        first, offset = first + done, offset + written


def _write_one(descriptor: int, address: int, length: int, offset: int) -> None:
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


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Let the system begin to write a stretch of a file to disk, without waiting; where it cannot, nothing happens."""
    _SYNC_FILE_RANGE(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


def address_of(array: npt.NDArray[np.generic]) -> int:
    """Where an array's numbers start in memory."""
    return int(array.__array_interface__["data"][0])
