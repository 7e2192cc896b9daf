"""Capture to memory (tmpfs) against a bare spead2 ChunkRingStream on the same stream of heaps.

Both receive the same heaps over loopback multicast from a process of its own, at the same rate, and are charged the CPU
seconds of all their threads, kernel time included. The reference fills chunks and throws them away; ours also checks every
heap, counts, turns the block into the order of GUPPI RAW and writes it to a file in ``/dev/shm``. Heaps are those of
MeerKAT's 4k mode, 64 channels x 256 spectra, 64 KiB. The lossless rate is the highest tried at which nothing is missing.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import queue
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

import numba
import numpy as np
import scipy
import spead2
import spead2.recv
import spead2.send
from numba import types
from report import Figure, arguments, publish
from spead2 import numba as spead2_numba
from spead2.recv.numba import chunk_place_data

from socs_bl.capture.cards import cards_of
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Geometry, Plan, RecordingEnded, Target, Window
from socs_bl.capture.stream import CaptureStream
from socs_bl.capture.wire import FENG_ID, FENG_RAW_ID, FREQUENCY_ID, HEAP_ADDRESS_BITS, TIMESTAMP_ID
from socs_bl.core.event import Event
from socs_bl.services.process import free_port

GEOMETRY = Geometry(
    nants=8, nstrm=4, hnchan=64, hntime=256, hclocks=2 * 4096 * 256, fenchan=4096, schan=0, chan_bw=856 / 4096,
    fecenter=1284.0, synctime=0.0,
)  # fmt: skip
PIPERBLK = 8  # 16 MiB a block
FIRST = 800
LEAD = 4 * PIPERBLK  # packet indices before and after those that count
PACKET_BYTES = 8192
INTERFACE = "127.0.0.1"
PATIENCE = 60.0
SETTLE = 0.5  # seconds for what was sent last to arrive
RATE = 150e6  # bytes/s at which CPU time is compared
RATES = (100e6, 150e6, 200e6, 300e6, 400e6, 600e6, 800e6, 1200e6)
GOAL = 1.5


# What numba and spead2 give without types.
_array: Any = numba.carray  # type: ignore[attr-defined]
_pointer: Any = spead2_numba.intp_to_voidptr


@dataclass(frozen=True)
class Taken:
    """What one reception cost: heaps missing of those that count, CPU seconds, bytes."""

    missing: int
    cpu_s: float
    taken: int

    @property
    def per_gigabyte(self) -> float:
        """CPU seconds per 1e9 bytes of samples."""
        return self.cpu_s / self.taken * 1e9


def send_heaps(port: int, blocks: int, rate: float) -> None:
    """Send the window and a lead on both sides; runs in a process of its own."""
    endpoints = [(group, port) for group in groups()]
    config = spead2.send.StreamConfig(
        max_packet_size=PACKET_BYTES, max_heaps=2 * GEOMETRY.heaps_per_time, rate=rate, burst_size=1 << 18
    )
    stream = spead2.send.UdpStream(spead2.ThreadPool(), endpoints, config, ttl=0, interface_address=INTERFACE)
    flavour, immediate = spead2.Flavour(4, 64, HEAP_ADDRESS_BITS), [("u", HEAP_ADDRESS_BITS)]
    raw = np.random.default_rng(1).integers(-100, 100, GEOMETRY.heap_bytes, np.int8)
    for pktidx in range(FIRST - LEAD, FIRST + blocks * PIPERBLK + LEAD):
        references = []
        for place in range(GEOMETRY.heaps_per_time):
            antenna, group = divmod(place, GEOMETRY.nstrm)
            heap = spead2.send.Heap(flavour)
            heap.repeat_pointers = True
            for number, value in (
                (TIMESTAMP_ID, pktidx * GEOMETRY.hclocks),
                (FENG_ID, antenna),
                (FREQUENCY_ID, group * GEOMETRY.hnchan),
            ):
                heap.add_item(spead2.Item(number, "", "", (), format=immediate, value=value))
            heap.add_item(spead2.Item(FENG_RAW_ID, "", "", raw.shape, raw.dtype, value=raw))
            count = pktidx * GEOMETRY.heaps_per_time + place + 1
            references.append(spead2.send.HeapReference(heap, cnt=count, substream_index=group))
        stream.send_heaps(references, spead2.send.GroupMode.ROUND_ROBIN)


def groups() -> tuple[str, ...]:
    """The multicast groups, one a stream."""
    return tuple(f"239.192.42.{number}" for number in range(GEOMETRY.nstrm))


def ours(port: int, blocks: int, rate: float) -> Taken:
    """Record the window with `CaptureStream` into tmpfs."""
    events: queue.Queue[Event] = queue.Queue()
    directory = Path(tempfile.mkdtemp(prefix="socs_bl-capture-", dir="/dev/shm"))
    target = Target(groups=groups(), port=port, geometry=GEOMETRY, piperblk=PIPERBLK)
    stream = CaptureStream(CaptureConfig(root=directory), events.put)
    stream.start()
    try:
        stream.join(target).result(PATIENCE)
        window = Window(FIRST, FIRST + blocks * PIPERBLK)
        plan = Plan(window=window, directory="/x", source="x", scan=1, cards=cards_of({}, target, "bench/0"))
        stream.arm(plan).result(PATIENCE)
        before = _cpu()
        sender = _sender(port, blocks, rate)
        sender.join(PATIENCE + _bytes(blocks) / rate)
        time.sleep(SETTLE)
        stream.disarm().result(PATIENCE)
        spent = _cpu() - before
        missing = blocks * PIPERBLK * GEOMETRY.heaps_per_time
        while not events.empty():
            event = events.get()
            if isinstance(event, RecordingEnded):
                missing += event.missing - event.blocks * PIPERBLK * GEOMETRY.heaps_per_time
    finally:
        stream.stop()
        shutil.rmtree(directory)
    return Taken(missing, spent, _bytes(blocks))


@numba.cfunc(
    types.void(types.CPointer(chunk_place_data), types.uintp, types.CPointer(types.int64)),  # type: ignore[no-untyped-call]
    cache=True,
)
def _place(data_pointer: Any, data_size: Any, shape_pointer: Any) -> None:  # pragma: no cover - compiled
    """Where a heap goes, unchecked: shape is (clocks, heaps a time, streams, channels, packet indices, heap bytes)."""
    data = _array(data_pointer, 1)
    items = _array(_pointer(data[0].items), 3, dtype=np.int64)
    shape = _array(shape_pointer, 6)
    packet = items[0] // shape[0]
    data[0].chunk_id = packet // shape[4]
    index = (packet % shape[4]) * shape[1] + items[1] * shape[2] + items[2] // shape[3]
    data[0].heap_index = index
    data[0].heap_offset = index * shape[5]


def written(port: int, blocks: int, rate: float) -> Taken:
    """Fill chunks with a bare ChunkRingStream and write them as they are: what any capture to tmpfs must do."""
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        return reference(port, blocks, rate, file)


def reference(port: int, blocks: int, rate: float, file: IO[bytes] | None = None) -> Taken:
    """Fill chunks with a bare ChunkRingStream and throw them away, or write them to a file."""
    heaps, config = PIPERBLK * GEOMETRY.heaps_per_time, CaptureConfig()
    numbers = (
        GEOMETRY.hclocks, GEOMETRY.heaps_per_time, GEOMETRY.nstrm, GEOMETRY.hnchan, PIPERBLK, GEOMETRY.heap_bytes
    )  # fmt: skip
    shape = np.array(numbers, np.int64)
    compiled: Any = _place
    place = scipy.LowLevelCallable(
        compiled.ctypes, user_data=shape.ctypes.data_as(ctypes.c_void_p), signature="void (void *, size_t, void *)"
    )
    total = config.ring_blocks + config.window_blocks
    ring, free = spead2.recv.ChunkRingbuffer(total), spead2.recv.ChunkRingbuffer(total)
    stream = spead2.recv.ChunkRingStream(
        spead2.ThreadPool(1),
        spead2.recv.StreamConfig(max_heaps=4 * GEOMETRY.heaps_per_time, allow_out_of_order=True),
        spead2.recv.ChunkStreamConfig(
            items=[TIMESTAMP_ID, FENG_ID, FREQUENCY_ID], max_chunks=config.window_blocks, place=place
        ),
        ring,
        free,
    )
    for _ in range(total):
        data = np.zeros(heaps * GEOMETRY.heap_bytes, np.int8)
        stream.add_free_chunk(spead2.recv.Chunk(data=data, present=np.zeros(heaps, np.uint8)))
    for group in groups():
        stream.add_udp_reader(group, port, max_size=65536, buffer_size=config.socket_bytes, interface_address=INTERFACE)
    before, missing = _cpu(), blocks * heaps
    sender = _sender(port, blocks, rate)
    last = FIRST // PIPERBLK + blocks
    quiet = time.monotonic() + SETTLE
    while sender.is_alive() or time.monotonic() < quiet:
        try:
            chunk = ring.get_nowait()
        except spead2.Empty:
            time.sleep(0.01)
            continue
        quiet = time.monotonic() + SETTLE
        if FIRST // PIPERBLK <= chunk.chunk_id < last:
            missing -= int(np.asarray(chunk.present).sum())
            if file is not None:
                file.write(np.asarray(chunk.data).data)
        stream.add_free_chunk(chunk)
    spent = _cpu() - before
    stream.stop()
    return Taken(missing, spent, _bytes(blocks))


def _sender(port: int, blocks: int, rate: float) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=send_heaps, args=(port, blocks, rate))
    process.start()
    return process


def _cpu() -> float:
    """CPU seconds of this process, all threads, user and kernel."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _bytes(blocks: int) -> int:
    """Bytes of samples in the window."""
    return blocks * PIPERBLK * GEOMETRY.heaps_per_time * GEOMETRY.heap_bytes


def lossless(receive: Callable[[int, int, float], Taken], seconds: float) -> float:
    """The highest of `RATES` at which nothing is missing, bytes/s; 0 when there is none."""
    best = 0.0
    for rate in RATES:
        taken = receive(free_port(), max(4, int(rate * seconds / _bytes(1))), rate)
        if taken.missing:
            break
        best = rate
    return best


def figures(quick: bool) -> list[Figure]:
    """CPU seconds per gigabyte, and the lossless rate."""
    blocks, times = (24, 3) if quick else (96, 5)
    for receive in (ours, reference, written):  # what is compiled and cached is not measured
        receive(free_port(), 2, RATE)
    runs = [[receive(free_port(), blocks, RATE) for receive in (ours, reference, written)] for _ in range(times)]
    mine, theirs, bare_written = (median(run[side].per_gigabyte for run in runs) for side in range(3))
    ratio, ratio_written = (median(run[0].per_gigabyte / run[side].per_gigabyte for run in runs) for side in (1, 2))
    lost = sum(taken.missing for run in runs for taken in run)
    rates = [lossless(receive, 1.0 if quick else 3.0) / 1e6 for receive in (ours, reference)]
    return [
        Figure(
            f"capture to tmpfs against a bare ChunkRingStream ({RATE / 1e6:.0f} MB/s, {lost} heaps missing)",
            mine, theirs, ratio, f"<= {GOAL}", "CPU s/GB", ratio <= GOAL,
        ),
        Figure(
            "the same against one that writes its chunks to tmpfs as they are",
            mine, bare_written, ratio_written, "", "CPU s/GB", None,
        ),
        Figure("lossless rate", rates[0], rates[1], rates[0] / rates[1] if rates[1] else 0.0, "", "MB/s", None),
    ]  # fmt: skip


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    publish(figures(options.quick), options.json)
