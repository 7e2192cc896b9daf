"""Lag frames sent by UDP as baseline boards do: one frame a datagram, or many frames in one call that the kernel cuts."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from typing import Literal

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused
from socs_bl.services.datagrams import LARGEST_DATAGRAM, SOL_UDP, UDP_SEGMENT, Table

BURST_S = 0.005  # at a given rate, what belongs to so many seconds goes out together
MOST_SEGMENTS = 64  # of one call with UDP_SEGMENT: linux/udp.h, UDP_MAX_SEGMENTS of older kernels
MESSAGES = 64  # of one sendmmsg
SEND_BUFFER = 8 << 20


class FrameSender:
    """Sends frames to one address, in order.

    Parameters
    ----------
    address : tuple of str and int
        A host or a multicast group, and its port.
    mode : str
        ``gso``: many frames a call, cut by the kernel into datagrams of one frame each. ``mmsg``: many datagrams a call.
        ``plain``: a call for each.
    interface : str
        Address of the interface that multicast leaves by. It does not leave the machine's networks (TTL 1).

    Raises
    ------
    OSError
        When the socket cannot be made.
    """

    def __init__(
        self, address: tuple[str, int], mode: Literal["gso", "mmsg", "plain"] = "gso", interface: str = "127.0.0.1"
    ) -> None:
        if mode not in ("gso", "mmsg", "plain"):
            raise Refused(f"mode {mode!r} of a sender; it is gso, mmsg or plain")
        self.mode = mode
        self._segment = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            if ipaddress.ip_address(socket.gethostbyname(address[0])).is_multicast:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> FrameSender:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, frames: npt.NDArray[np.uint8], rate: float | None = None) -> None:
        """Send frames.

        Parameters
        ----------
        frames : numpy.ndarray
            uint8 (frames, bytes), as `build_frames` gives them.
        rate : float, optional
            Frames a second; without it as fast as the socket takes them.

        Raises
        ------
        OSError
            What the socket reports; that nobody listens at the address is no error.
        """
        frames = np.ascontiguousarray(frames)
        if rate is None:
            self._send(frames)
            return
        burst, start = max(1, round(rate * BURST_S)), time.monotonic()
        for first in range(0, len(frames), burst):
            time.sleep(max(0.0, start + first / rate - time.monotonic()))
            self._send(frames[first : first + burst])

    def _send(self, frames: npt.NDArray[np.uint8]) -> None:
        if self.mode == "gso":
            self._send_segments(frames)
        elif self.mode == "mmsg":
            self._send_messages(frames)
        else:
            for frame in frames:
                self._send_one(frame)

    def _send_segments(self, frames: npt.NDArray[np.uint8]) -> None:
        size = frames.shape[1]
        if size != self._segment:
            self._socket.setsockopt(SOL_UDP, UDP_SEGMENT, size)
            self._segment = size
        step = min(LARGEST_DATAGRAM // size, MOST_SEGMENTS)
        for first in range(0, len(frames), step):
            self._send_one(frames[first : first + step])

    def _send_messages(self, frames: npt.NDArray[np.uint8]) -> None:
        for start in range(0, len(frames), MESSAGES):
            table = Table(frames[start : start + MESSAGES])
            rows = len(table.messages)
            sent = 0
            while sent < rows:
                with contextlib.suppress(ConnectionRefusedError):
                    sent += table.send(self._socket.fileno(), sent, rows - sent)

    def _send_one(self, frames: npt.NDArray[np.uint8]) -> None:
        for _ in range(2):  # the first call may only report that an earlier datagram found nobody
            with contextlib.suppress(ConnectionRefusedError):
                self._socket.send(frames.data)
                return
