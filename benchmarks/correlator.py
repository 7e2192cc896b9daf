"""The input stage of the correlator's back end against bare receivers of the same frames; then its lag pipelines.

Drained: 20,000 frames wait in a socket's buffer; ours receives, checks and assembles them into a ring that another process
empties, the reference receives them and does nothing else. Both are charged the CPU seconds of their thread, kernel time
included. Live: a process of its own sends at a rate; the rate reported is the highest tried at which nothing is lost.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

import correlator_lags
import numpy as np
import numpy.typing as npt
from report import Figure, arguments, publish

from socs_bl.correlator.assembly import Assembler, Assembly, Timing
from socs_bl.correlator.configuration import Assignment, Configuration, Mapping, Pipe, Product, Stream
from socs_bl.correlator.counters import Kind
from socs_bl.correlator.lookup import stream_word
from socs_bl.correlator.plan import make_plan
from socs_bl.correlator.receive import SO_RCVBUFFORCE, UdpReceiver
from socs_bl.correlator.ring import Dump, RingReader, RingWriter
from socs_bl.correlator.slots import PAGE
from socs_bl.correlator.source import Batch, UdpAddress
from socs_bl.correlator.wire import build_frames, frame_bytes, parse_header
from socs_bl.services.datagrams import SOL_UDP, UDP_GRO, Table
from socs_bl.simulators.frame_sender import FrameSender

Mode = Literal["gso", "mmsg"]
FRAME = frame_bytes(128)
FRAMES = 20_000
PRODUCTS = 10_000  # two dumps wait in the socket
DUMP_NS = 100_000_000
START_S = 1_795_233_600
SOCKET_BYTES = 256 << 20
GOAL = 2.0
RATES: dict[Mode, tuple[int, ...]] = {
    "mmsg": (50_000, 75_000, 100_000, 125_000, 150_000),
    "gso": (200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000),
}
AIM: dict[Mode, int] = {"mmsg": 100_000, "gso": 500_000}
PATIENCE = 60.0


def configuration(products: int, bins: int = 1) -> Configuration:
    """Products of one stream with many, all in one pipe."""
    streams = tuple(
        Stream(f"s{number}", number % 250 + 1, number // 250 % 8, number // 2000 % 18) for number in range(products + 1)
    )
    made = tuple(Product(f"p{n}", streams[0], streams[n + 1], bins=bins) for n in range(products))
    assignments = tuple(Assignment(product.name, "RR") for product in made)
    mapping = Mapping("w1", "P0", assignments)
    return Configuration("bench", DUMP_NS, streams, made, (), (Pipe("P0", "null"),), (mapping,))


def frames_of(config: Configuration, first: int, dumps: int) -> npt.NDArray[np.uint8]:
    """All frames of some dumps, in order."""
    headers = parse_header(np.array([[0, stream_word(product), *[0] * 7] for product in config.products], np.uint32))
    bins = config.products[0].bins
    dump, phase, product = (
        axis.ravel() for axis in np.meshgrid(range(first, first + dumps), range(bins), range(len(config.products)), indexing="ij")
    )  # fmt: skip
    names = ("sid_x", "bbid_x", "sbid_x", "sid_y", "bbid_y", "sbid_y")
    values: dict[str, Any] = {name: headers[name][product] for name in names}
    time_ns = dump.astype(np.int64) * DUMP_NS
    values |= {"nblocks": 1, "bin": phase, "board": product % 16, "seconds": START_S + time_ns // 10**9}
    lags = np.random.default_rng(1).integers(-9999, 9999, (len(dump), 128, 2), np.int32)
    return build_frames({**values, "nanoseconds": time_ns % 10**9, "dv_centre": 1000, "dv_edge": 900}, lags)


class Node:
    """Receiver, assembler and a ring that another process empties."""

    def __init__(self, config: Configuration, directory: str, slots: int = 8) -> None:
        self.config = config
        path, plan = Path(directory) / "ring", make_plan(config.pipe_products("P0"))
        self.receiver = UdpReceiver(UdpAddress("127.0.0.1", 0), SOCKET_BYTES)
        self.ring = RingWriter(path, plan, slots)
        self.assembler = Assembler(Timing())
        self.assembly = Assembly(config, {"P0": self.ring})
        self.assembler.activate(self.assembly, -1)
        self._reader = multiprocessing.get_context("spawn").Process(target=empty, args=(path, config), daemon=True)
        self._reader.start()
        self.next = 0
        self.drain(*self.send("gso", 2))  # what is compiled and what is touched first is not measured

    def send(self, mode: Mode, dumps: int) -> tuple[int, npt.NDArray[np.uint8]]:
        """Send the next dumps into the socket's buffer; how many frames, and they."""
        frames = frames_of(self.config, self.next, dumps)
        self.next += dumps
        with FrameSender(("127.0.0.1", self.receiver.port), mode) as sender:
            sender.send(frames)
        return len(frames), frames

    def drain(self, count: int, frames: object = None) -> float:
        """Take what is there; CPU seconds. Nothing may be lost."""
        before, good = time.thread_time(), self.good
        while (batch := self.receiver.read(0.0)) is not None:
            self.assembler.take(batch)
        spent = time.thread_time() - before
        if self.good - good != count or self.receiver.dropped:
            raise SystemExit(f"{count - self.good + good} of {count} frames lost: {self.assembler.counters.totals}")
        return spent

    @property
    def good(self) -> int:
        """Frames in their place."""
        return int(self.assembler.counters.totals[Kind.GOOD])

    def close(self) -> None:
        """End the reader, give everything up."""
        self._reader.terminate()
        self._reader.join()
        self.receiver.close()
        self.ring.close()


def empty(path: Path, config: Configuration) -> None:
    """Take and release dumps, without looking at them."""
    reader = RingReader(path, make_plan(config.pipe_products("P0")))
    while True:
        item = reader.take(1.0)
        if isinstance(item, Dump):
            reader.release(item)


def bare(frames: npt.NDArray[np.uint8], mode: Mode) -> float:
    """CPU seconds to receive frames that wait, with recvmmsg, and do nothing else; the best number of slots for each mode."""
    rows, size = (8, 65536) if mode == "gso" else (256, 2048)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BYTES)
        if mode == "gso":
            receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        receiver.bind(("127.0.0.1", 0))
        table = Table(np.ones((rows, size), np.uint8), received=True)
        for _ in range(2):  # the first time is not measured
            with FrameSender(receiver.getsockname(), mode) as sender:
                sender.send(frames)
            before, taken = time.thread_time(), 0
            while count := table.receive(receiver.fileno(), rows):
                taken += int(table.messages["length"][:count].sum())
            spent = time.thread_time() - before
            if taken != frames.size:
                raise SystemExit(f"the reference lost {frames.size - taken} bytes")
    return spent


def drained(node: Node, mode: Mode, times: int) -> Figure:
    """Ours against a bare loop, both from a socket's buffer that holds all frames."""
    ours, theirs = [], []
    for _ in range(times):
        count, frames = node.send(mode, FRAMES // PRODUCTS)
        ours.append(node.drain(count))
        theirs.append(bare(frames, mode))
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    name = "GSO/GRO" if mode == "gso" else "recvmmsg"
    return Figure(
        f"received, checked, assembled against a bare {name} loop ({FRAMES} frames drained, none lost)",
        median(ours) / FRAMES * 1e6, median(theirs) / FRAMES * 1e6, ratio, f"<= {GOAL:g}", "CPU s/M frames", ratio <= GOAL,
    )  # fmt: skip


def send_live(port: int, mode: Mode, config: Configuration, first: int, dumps: int, rate: float) -> None:
    """Send dumps at a rate; runs in a process of its own, which makes them before."""
    frames = frames_of(config, first, dumps)
    with FrameSender(("127.0.0.1", port), mode) as sender:
        sender.send(frames, rate)


def live(node: Node, mode: Mode, seconds: float) -> Figure:
    """The highest rate at which nothing is lost."""
    best = 0.0
    context = multiprocessing.get_context("spawn")
    for rate in RATES[mode]:
        dumps = max(2, round(rate * seconds / PRODUCTS))
        good, first = node.good, node.next
        node.next += dumps
        sender = context.Process(target=send_live, args=(node.receiver.port, mode, node.config, first, dumps, rate))
        sender.start()
        began, ended = 0.0, time.monotonic() + PATIENCE
        while time.monotonic() < ended and node.good - good < dumps * PRODUCTS:
            batch = node.receiver.read(0.05)
            if batch is not None:
                began = began or time.monotonic()
                node.assembler.take(batch)
            elif not sender.is_alive():
                break
        took = time.monotonic() - began
        sender.join()
        if node.good - good < dumps * PRODUCTS:
            break
        best = dumps * PRODUCTS / took
    name = "GSO/GRO" if mode == "gso" else "one frame a datagram"
    return Figure(f"live, without loss, {name}", best, AIM[mode], best / AIM[mode], "", "frames/s", None)


class InMemory:
    """Frames that are there already, checked and assembled into a ring that nobody empties.

    Parameters
    ----------
    products, bins : int
        A dump has a frame of each.
    """

    def __init__(self, products: int, bins: int, directory: str) -> None:
        self._config = configuration(products, bins)
        self._ring = RingWriter(Path(directory) / f"{products}.{bins}", make_plan(self._config.products), 4)
        self._assembler, self._next = Assembler(Timing()), 0
        self._assembler.activate(Assembly(self._config, {"P0": self._ring}), -1)
        self._dumps = 10_000 // (products * bins)
        self.spent: list[float] = []

    def measure(self) -> None:
        """Add the seconds per frame of 10,000 frames."""
        frames = frames_of(self._config, self._next, self._dumps)
        self._next += self._dumps
        pieces = [batch_of(frames[first : first + 400]) for first in range(0, len(frames), 400)]
        before = time.thread_time()
        for piece in pieces:
            self._assembler.take(piece)
        self.spent.append((time.thread_time() - before) / len(frames))

    def close(self) -> None:
        """Give the ring up."""
        self._ring.close()


def batch_of(frames: npt.NDArray[np.uint8]) -> Batch:
    """Frames as messages of 50 frames."""
    starts = np.arange(0, frames.size, 50 * FRAME)
    lengths = np.minimum(frames.size - starts, 50 * FRAME)
    return Batch(frames.reshape(-1), starts, lengths, np.full(len(starts), FRAME), len(starts))


def per_product(times: int) -> list[Figure]:
    """Cost of a frame by the number of products: in dumps of 10,000 frames, and with one frame of each product a dump."""
    sizes = (10, 100, 1000, 10_000)
    return [
        _compared(sizes, [10_000 // size for size in sizes], times, "a frame with 10,000 products against one with 10", -1, 0, 1.5),
        _compared(sizes, [1] * 4, times, "a frame with 10 products, one of each a dump, against one with 10,000", 0, -1, 3.0),
    ]  # fmt: skip


def _compared(
    sizes: tuple[int, ...], bins: list[int], times: int, name: str, one: int, other: int, goal: float
) -> Figure:
    """Best of several rounds in turn, the first two left out."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        benches = [InMemory(size, phases, directory) for size, phases in zip(sizes, bins, strict=True)]
        for _ in range(times):
            for bench in benches:
                bench.measure()
        costs = [min(bench.spent[2:]) * 1e6 for bench in benches]
        for bench in benches:
            bench.close()
    ratio = costs[one] / costs[other]
    shown = ", ".join(f"{size}: {cost:.3f}" for size, cost in zip(sizes, costs, strict=True))
    return Figure(
        f"{name} (us by products: {shown})",
        costs[one], costs[other], ratio, f"<= {goal:g}", "CPU s/M frames", ratio <= goal,
    )  # fmt: skip


def memory() -> Figure:
    """What the process grows by, shared memory included, against what it states; the socket's room is the kernel's."""
    config = configuration(PRODUCTS)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        plan = make_plan(config.products)
        before = resident()
        receiver = UdpReceiver(UdpAddress("127.0.0.1", 0), SOCKET_BYTES)
        ring = RingWriter(Path(directory) / "ring", plan, 8)
        assembler, assembly = Assembler(Timing()), Assembly(config, {"P0": ring})
        for array in (receiver._buffer, assembly.seen, assembly.counts, assembler.counters.boards, ring._bytes[PAGE:]):
            array.fill(0)  # every page
        grown = (resident() - before) / 1e6
        stated = (
            assembly.size_bytes + receiver.size_bytes - receiver.socket_bytes + assembler.counters.boards.nbytes
        ) / 1e6
        ring.close()
        receiver.close()
    return Figure(
        f"memory used against stated ({PRODUCTS} products, 8 dumps; besides {SOCKET_BYTES / 1e6:.0f} MB of the socket)",
        grown, stated, grown / stated, "<= 1.05", "MB", grown <= 1.05 * stated,
    )  # fmt: skip


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


@contextmanager
def started(config: Configuration) -> Iterator[Node]:
    """A node that is given up at the end."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        node = Node(config, directory)
        try:
            yield node
        finally:
            node.close()


def figures(quick: bool) -> list[Figure]:
    """All rows of the input stage."""
    times = 5 if quick else 25
    modes: tuple[Mode, ...] = ("mmsg", "gso")
    config = configuration(PRODUCTS)
    with started(config) as node:
        rows = [drained(node, mode, times) for mode in modes]
        rows += [live(node, mode, 1.0 if quick else 4.0) for mode in modes]
    return [*rows, *per_product(6 if quick else 20), memory()]


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    stages: list[Callable[[bool], list[Figure]]] = [figures, correlator_lags.rows]
    publish(list(itertools.chain.from_iterable(stage(options.quick) for stage in stages)), options.json)
