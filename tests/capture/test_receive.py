"""Reception of packets made by hand, byte by byte: where their samples land, and what is counted about bad ones."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from socs_bl.capture.block import arrange
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Geometry, Target
from socs_bl.capture.receive import Received, Receiver
from socs_bl.services.process import free_port

pytestmark = [pytest.mark.live, pytest.mark.network]
GROUPS = ("239.192.79.0", "239.192.79.1")
# A port of this run's own: multicast on loopback is heard by every process of the machine.
PORT = free_port()
PIPERBLK = 4
GEOMETRY = Geometry(
    nants=2, nstrm=2, hnchan=2, hntime=8, hclocks=256, fenchan=16, schan=4, chan_bw=0.004, fecenter=1284.0, synctime=0.0
)
HEAP_BYTES = 2 * 8 * 2 * 2
CONFIRM = 3  # heaps of each stream before its place in time is believed
TIMEOUT = 20.0


def packet(timestamp: int, antenna: int, frequency: int, payload: bytes, heap: int, **changes: int) -> bytes:
    """A SPEAD-64-48 packet that holds a whole heap, or the part of it that `offset` and `length` say.

    Source: SPEAD protocol, SSA4700-0000-001: 0x53, version 4, 2 bytes of item id and mode, 6 bytes of value.
    """
    offset, length = changes.get("offset", 0), changes.get("length", len(payload))

    def item(identity: int, value: int, immediate: bool = True) -> bytes:
        return struct.pack(">Q", (int(immediate) << 63) | (identity << 48) | value)

    items = [
        item(0x0001, heap),
        item(0x0002, changes.get("heap_length", len(payload))),
        item(0x0003, offset),
        item(0x0004, length),
        item(0x1600, timestamp),
        item(0x4101, antenna),
        item(0x4103, frequency),
        item(0x4300, 0, immediate=False),
    ]
    return struct.pack(">BBBBHH", 0x53, 4, 2, 6, 0, len(items)) + b"".join(items) + payload[offset : offset + length]


def payload(pktidx: int, antenna: int, stream: int) -> bytes:
    """Samples that tell where they belong, in the order [channel][time][polarisation][re, im]."""
    channel, t, pol, part = np.indices((2, 8, 2, 2))
    values = 1 + pktidx % 7 + 7 * antenna + 14 * stream + 28 * channel + t + 9 * pol + part
    return values.astype(np.int8).tobytes()


class World:
    """A receiver and a socket to send to it."""

    def __init__(self) -> None:
        target = Target(groups=GROUPS, port=PORT, geometry=GEOMETRY, piperblk=PIPERBLK)
        self.receiver = Receiver(target, CaptureConfig(socket_bytes=1 << 20))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        self.heaps = 0

    def close(self) -> None:
        self.receiver.stop()
        self.socket.close()

    def raw(self, stream: int, data: bytes) -> None:
        self.socket.sendto(data, (GROUPS[stream], PORT))

    def heap(self, pktidx: int, antenna: int, stream: int, **changes: int) -> None:
        self.heaps += 1
        timestamp = changes.pop("timestamp", pktidx * 256)
        frequency = changes.pop("frequency", 4 + 2 * stream)
        data = payload(pktidx, antenna, stream)[: changes.pop("size", HEAP_BYTES)]
        self.raw(stream, packet(timestamp, antenna, frequency, data, self.heaps, **changes))

    def times(self, *pktidx: int) -> None:
        """All heaps of some packet indices."""
        for index in pktidx:
            for antenna in range(2):
                for stream in range(2):
                    self.heap(index, antenna, stream)

    def believed(self) -> None:
        """Make both streams believe that the present is block 1: three heaps each are not taken, the fourth is."""
        self.times(4, 5)
        self.eventually(lambda: self.rejected("unconfirmed") == 2 * CONFIRM and self.receiver.newest_packet == 5)

    def rejected(self, kind: str) -> int:
        return self.receiver.heaps().rejected[kind]

    def eventually(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, self.receiver.heaps()
            time.sleep(0.005)

    def block(self) -> Received:
        """The next block with anything in it; its memory is not given back."""
        while True:
            block = self.receiver.get(TIMEOUT)
            assert block is not None
            if block.present.any():
                return block
            self.receiver.release(block)


@pytest.fixture
def world() -> Iterator[World]:
    """A receiver that hears its groups."""
    made = World()
    yield made
    made.close()


def test_hand_made_packets_land_where_they_belong(world: World) -> None:
    """Samples of each heap are at [antenna][stream, channel][time] of the GUPPI block of their timestamp."""
    world.believed()
    world.times(6, 7, 8, 9, 10, 11, *range(12, 17))
    first, second = world.block(), world.block()
    assert first.pktidx == 4 and first.present[2:].all()
    assert second.pktidx == 8 and second.present.all()
    out = np.empty((2, 2, 2, PIPERBLK, 32), np.int8)
    assert arrange(second.data, second.present, out) == 0
    rows = out.reshape(2, 4, PIPERBLK * 8, 2, 2)  # [antenna][channel][time][polarisation][re, im]
    for antenna in range(2):
        for stream in range(2):
            for step in range(PIPERBLK):
                heap = np.frombuffer(payload(8 + step, antenna, stream), np.int8).reshape(2, 8, 2, 2)
                np.testing.assert_array_equal(rows[antenna, 2 * stream : 2 * stream + 2, 8 * step : 8 * step + 8], heap)


def test_missing_heaps_are_zeros_whatever_the_memory_held() -> None:
    """What is not present is zeroed in the block, and counted."""
    received = np.full((PIPERBLK, 2, 2, 2, 32), 7, np.int8)
    present = np.ones((PIPERBLK, 2, 2), np.bool_)
    present[1, 0, 1] = present[3, 1, 0] = False
    out = np.full((2, 2, 2, PIPERBLK, 32), 9, np.int8)
    assert arrange(received, present, out) == 2
    expected = np.full_like(out, 7)
    expected[0, 1, :, 1] = expected[1, 0, :, 3] = 0
    np.testing.assert_array_equal(out, expected)


def test_bad_heaps_are_counted_by_kind_and_cost_the_others_nothing(world: World) -> None:
    """Wrong size, timestamp, antenna, channel, duplicates, late ones, junk: each is counted, the block is whole."""
    world.believed()
    world.times(6, 7, 8, 9)
    world.heap(9, 0, 0, size=HEAP_BYTES - 8)
    world.heap(9, 0, 0, timestamp=9 * 256 + 1)
    world.heap(9, 2, 0)
    world.heap(9, 0, 1, frequency=4)
    world.heap(9, 1, 1)
    for junk in (b"", b"\0" * 40, b"S" * 1400, packet(9 * 256, 0, 4, payload(9, 0, 0), 999)[:50]):
        world.raw(0, junk)
    world.times(*range(10, 21))
    world.heap(5, 0, 0)  # one that was not believed at first: its block is gone
    block = world.block()
    while block.pktidx < 8:
        block = world.block()
    assert block.pktidx == 8 and block.present.all()
    out = np.empty((2, 2, 2, PIPERBLK, 32), np.int8)
    arrange(block.data, block.present, out)
    heap = np.frombuffer(payload(9, 1, 1), np.int8).reshape(2, 32)
    np.testing.assert_array_equal(out[1, 1, :, 1], heap)
    kinds = ("metadata", "bad_timestamp", "bad_antenna", "bad_frequency", "duplicate")
    world.eventually(lambda: [world.rejected(kind) for kind in kinds] == [1, 1, 1, 1, 1])
    world.eventually(lambda: world.receiver.heaps().late == 1)


def test_late_heaps_are_counted(world: World) -> None:
    """A heap that comes after its block was handed over is late, not lost silently."""
    world.believed()
    world.times(6, 7, 8, 9, 10)
    for antenna, stream in ((0, 0), (0, 1), (1, 0)):
        world.heap(11, antenna, stream)
    world.times(*range(12, 21))
    block = world.block()
    while block.pktidx < 8:
        block = world.block()
    assert np.argwhere(~block.present).tolist() == [[3, 1, 1]]
    world.heap(11, 1, 1)
    world.eventually(lambda: world.receiver.heaps().late == 1)


def test_one_corrupt_timestamp_does_not_end_reception(world: World) -> None:
    """A heap from the far future is not believed, so that the heaps of the present still find their blocks."""
    world.believed()
    for future in (10_000, 5_000_000, 2**39):
        world.heap(future, 0, 0)
    world.times(*range(6, 21))
    block = world.block()
    while block.pktidx < 8:
        block = world.block()
    assert block.pktidx == 8 and block.present.all()
    assert world.rejected("unconfirmed") == 2 * CONFIRM + 3
    assert world.receiver.heaps().late == 0


def test_a_real_jump_in_time_is_believed_soon(world: World) -> None:
    """After a long silence the streams go on elsewhere; a few heaps later blocks of that time come out."""
    world.believed()
    world.times(*range(100_000, 100_020))
    block = world.block()
    while block.pktidx < 100_004:
        block = world.block()
    assert block.pktidx == 100_004 and block.present.all()


def test_heaps_in_several_packets(world: World) -> None:
    """A heap of several packets is taken when all have come, in whatever order; with one lost it is missing."""
    world.believed()
    half = HEAP_BYTES // 2
    for antenna in range(2):
        for stream in range(2):
            world.heap(8, antenna, stream)
            for offset in (half, 0):
                if (antenna, stream, offset) == (1, 0, 0):
                    continue
                world.raw(
                    stream,
                    packet(9 * 256, antenna, 4 + 2 * stream, payload(9, antenna, stream), 5000 + antenna, offset=offset,
                           length=half, heap_length=HEAP_BYTES),
                )  # fmt: skip
    world.times(*range(10, 21))
    block = world.block()
    while block.pktidx < 8:
        block = world.block()
    assert np.argwhere(~block.present).tolist() == [[1, 1, 0]]
