"""Frames from a UDP socket: many datagrams with one system call, and datagrams that the kernel has put together.

recvmmsg(2) takes as many messages as are there into slots of a buffer. With UDP_GRO (udp(7)) the kernel hands over runs of
equal datagrams of one sender as one message of up to 64 KiB; the control message tells the length of one. Whether such
runs come depends on the sender and the network card, so slots always have room for one, and how many messages are asked
for follows from their mean size: a batch stays in the processor's cache.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any

import numpy as np

from socs_bl.core.errors import Faulty
from socs_bl.correlator.counters import Counts
from socs_bl.correlator.kernel import kernel
from socs_bl.correlator.source import Batch, UdpAddress
from socs_bl.services.datagrams import SOL_UDP, UDP_GRO, Table

SO_RCVBUFFORCE, SO_RXQ_OVFL = 33, 40  # asm-generic/socket.h
SOCKET_BYTES = 128 << 20
ROWS = 256
# 64 KiB and some lines of the cache, so that slots do not begin at addresses that share the same lines.
STRIDE = 65536 + 17 * 64
BATCH_BYTES = 768 << 10  # between the caches of the second and third level: measured, docs/adr/0039
FEWEST_ROWS = 8


@kernel
def read_control(
    control: Any, used: Any, received: Any, count: int, lengths: Counts, segments: Counts
) -> tuple[int, int]:
    """Length of each message, and of the datagrams in it, from its control messages (cmsg(3)).

    Returns
    -------
    int
        Datagrams that the socket has dropped since it was made, modulo 2**32; -1: not said.
    int
        Bytes of all messages.
    """
    dropped: Any = -1
    total: Any = 0
    for message in range(count):
        lengths[message] = received[message]
        total += lengths[message]
        segments[message] = lengths[message]
        words = control[message].view(np.uint32)
        at: Any = 0
        while 4 * at + 16 <= np.int64(used[message]) and words[at] >= 16:
            level, kind = words[at + 2], words[at + 3]
            if level == SOL_UDP and kind == UDP_GRO:
                segments[message] = max(1, words[at + 4])
            elif level == 1 and kind == SO_RXQ_OVFL:  # SOL_SOCKET
                dropped = np.int64(words[at + 4])
            at += (np.int64(words[at]) + 7) // 8 * 2
    return int(dropped), int(total)


class UdpReceiver:
    """A socket that frames are sent to.

    Parameters
    ----------
    address : UdpAddress
    socket_bytes : int
        Room in the socket for what comes while nobody reads. More than net.core.rmem_max needs CAP_NET_ADMIN.

    Attributes
    ----------
    dropped : int
        Datagrams that the kernel dropped because the socket was full.
    coalesced : bool
        The kernel can hand over many datagrams as one message.
    socket_bytes : int
        Room that the socket has.
    advice : str
        What to do when that is less than was asked for.

    Raises
    ------
    Faulty
        When the socket cannot be made.
    """

    def __init__(self, address: UdpAddress, socket_bytes: int = SOCKET_BYTES) -> None:
        self.address = address
        self.dropped = 0
        self._buffer = np.zeros((ROWS, STRIDE), np.uint8)
        self._table = Table(self._buffer, received=True)
        self._said = self._table.messages["controllen"], self._table.messages["length"]
        starts = np.arange(ROWS, dtype=np.int64) * STRIDE
        self._batch = Batch(self._buffer.reshape(-1), starts, np.zeros(ROWS, np.int64), np.zeros(ROWS, np.int64), 0)
        self._rows = ROWS
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._configure(socket_bytes)
        except OSError as error:
            self._socket.close()
            raise Faulty(
                f"frames at udp://{address.host}:{address.port}: {error.strerror}; check address, port and interface",
                address.host,
            ) from error
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def _configure(self, socket_bytes: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, socket_bytes)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, socket_bytes)
        # The kernel doubles what it is asked for, for its own records: socket(7).
        self.socket_bytes = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        self.advice = (
            ""
            if self.socket_bytes >= socket_bytes
            else f"the socket has room for {self.socket_bytes} of {socket_bytes} bytes: raise net.core.rmem_max to"
            f" {socket_bytes}, or give this process CAP_NET_ADMIN"
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        self.coalesced = False
        with contextlib.suppress(OSError):  # a kernel before 5.0
            self._socket.setsockopt(SOL_UDP, UDP_GRO, 1)
            self.coalesced = True
        if self.address.multicast:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self.address.host, self.address.port))
        if self.address.multicast:
            group, interface = socket.inet_aton(self.address.host), socket.inet_aton(self.address.interface)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + interface)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def size_bytes(self) -> int:
        """Memory: the buffer, and the socket's room."""
        return self._buffer.nbytes + self.socket_bytes

    def fileno(self) -> int:
        """Readable when frames have come."""
        return self._socket.fileno()

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch, see `Source`."""
        count = self._table.receive(self.fileno(), self._rows)
        if count == 0 and timeout_s > 0 and self._poll.poll(timeout_s * 1000):
            count = self._table.receive(self.fileno(), self._rows)
        if count == 0:
            return None
        batch = self._batch
        batch.count = count
        dropped, total = read_control(self._table.control, *self._said, count, batch.lengths, batch.segments)
        if dropped >= 0:
            self.dropped += (dropped - self.dropped) % (1 << 32)
        self._rows = min(ROWS, max(FEWEST_ROWS, BATCH_BYTES * count // max(total, 1)))
        return batch

    def origin(self, message: int) -> str:
        """Address of the sender of a message of the last batch."""
        row = self._table.addresses[message]
        return f"{socket.inet_ntoa(row[4:8].tobytes())}:{int(row[2]) << 8 | int(row[3])}"

    def close(self) -> None:
        """Close the socket; a group is left."""
        self._socket.close()
