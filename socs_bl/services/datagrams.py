"""Many datagrams with one system call: the kernel's tables for recvmmsg(2) and sendmmsg(2) as numpy arrays.

A table has one row for each datagram; rows point into buffers that live as long as the table. The calls release the
interpreter lock.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Any

import numpy as np
import numpy.typing as npt

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104  # linux/udp.h
LARGEST_DATAGRAM = 65507  # bytes of payload
CONTROL_BYTES = 64
ADDRESS_BYTES = 16  # of a sockaddr_in
# struct mmsghdr and struct iovec of 64-bit Linux: recvmmsg(2), readv(2).
_MESSAGE = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_IOVEC = np.dtype([("base", "u8"), ("length", "u8")])
_LIBC = ctypes.CDLL(None, use_errno=True)


class Table:
    """Rows for datagrams in a buffer of equal slots.

    Parameters
    ----------
    buffer : numpy.ndarray
        uint8 (rows, bytes of a slot), C-contiguous. Slots need not be filled.
    received : bool
        With room for the senders' addresses and for control messages, for receiving.

    Attributes
    ----------
    messages : numpy.ndarray
        The kernel's rows; after `receive` ``length`` says how many bytes each has, ``controllen`` those of its control.
    control, addresses : numpy.ndarray
        uint8 (rows, `CONTROL_BYTES`) and (rows, `ADDRESS_BYTES`).
    """

    def __init__(self, buffer: npt.NDArray[np.uint8], received: bool = False) -> None:
        rows, size = buffer.shape
        self._buffer = buffer
        self._vectors = np.zeros(rows, _IOVEC)
        self._vectors["base"] = buffer.ctypes.data + np.arange(rows, dtype=np.uint64) * np.uint64(buffer.strides[0])
        self._vectors["length"] = size
        self.messages = np.zeros(rows, _MESSAGE)
        self.messages["iov"] = _addresses(self._vectors)
        self.messages["iovlen"] = 1
        self.control = np.zeros((rows, CONTROL_BYTES), np.uint8)
        self.addresses = np.zeros((rows, ADDRESS_BYTES), np.uint8)
        # Views made once: receiving is done thousands of times a second.
        self._address = self.messages.ctypes.data
        self._lengths = self.messages["namelen"], self.messages["controllen"]
        if received:
            self.messages["name"] = _addresses(self.addresses)
            self.messages["control"] = _addresses(self.control)

    def receive(self, descriptor: int, rows: int) -> int:
        """Take the datagrams that are there, `rows` at most, without waiting; 0 when there are none.

        Raises
        ------
        OSError
            What the socket reports.
        """
        # The kernel writes what it used over what there is room for.
        name, control = self._lengths
        name[:rows], control[:rows] = ADDRESS_BYTES, CONTROL_BYTES
        return self._call(_LIBC.recvmmsg, descriptor, rows, socket.MSG_DONTWAIT, None)

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Send rows on a connected socket; returns how many went.

        Raises
        ------
        OSError
            What the socket reports.
        """
        return self._call(_LIBC.sendmmsg, descriptor, count, 0, first=first)

    def _call(self, function: Any, descriptor: int, count: int, flags: int, *rest: Any, first: int = 0) -> int:
        address = self._address + first * _MESSAGE.itemsize
        done = int(function(descriptor, ctypes.c_void_p(address), count, flags, *rest))
        if done >= 0:
            return done
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(number, os.strerror(number))


def _addresses(array: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Where each row of an array begins in memory."""
    return array.ctypes.data + np.arange(len(array), dtype=np.uint64) * np.uint64(array.strides[0])
