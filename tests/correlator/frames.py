"""Configurations, frames of them, and an ingest process to send them to."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator.configuration import (
    Antenna,
    Assignment,
    Configuration,
    Mapping,
    Pipe,
    Product,
    Stream,
    Subarray,
    Window,
)
from socs_bl.correlator.control import ControlServer, Decoder, encode
from socs_bl.correlator.ingest import Ingest, parse_options, warm_up
from socs_bl.correlator.ring import Dump, Flush, RingReader
from socs_bl.correlator.source import Batch
from socs_bl.correlator.wire import build_frames

DUMP_NS = 100_000_000
START_NS = 1_795_233_600_000_000_000
PATIENCE = 60.0

Frames = npt.NDArray[np.uint8]


def configuration(products: int = 3, name: str = "c1", dump_ns: int = DUMP_NS, **shape: int) -> Configuration:
    """Products of one station with the next ones, `shape` as of `Product`, all in one pipe and window."""
    streams = tuple(Stream(f"s{number}", number + 1, 2, 5) for number in range(products + 1))
    lags = 64 if shape.get("half") else 128
    sets = shape.get("frames", 1) * shape.get("recirculation", 1)
    made = tuple(Product(f"p{n}", streams[0], streams[n + 1], lags=lags * sets, **shape) for n in range(products))  # type: ignore[arg-type]
    window = Window("w1", "AC_8BIT", 1, lags * sets // 2, 64e6, "U", ("RR",), (), shape.get("bins", 1))
    antennas = tuple(Antenna(stream.station, f"ea{stream.station:02d}") for stream in streams)
    assignments = tuple(Assignment(product.name, "RR") for product in made)
    return Configuration(
        name, dump_ns, streams, made, (Subarray("sa0", "id0", antennas, (window,)),), (Pipe("P0", "null"),),
        (Mapping("w1", "P0", assignments),),
    )  # fmt: skip


def cells(product: Product) -> list[tuple[int, int, int]]:
    """Bin, recirculation index and block of each frame of one dump, in the order of its lags."""
    return [
        (phase, index, block)
        for phase in range(product.bins)
        for index in range(product.recirculation)
        for block in range(product.frames)
    ]


def frame(product: Product, where: tuple[int, int, int], dump: int, board: int = 7, **changes: int) -> Frames:
    """One frame; its lags and counts follow from what it is."""
    phase, index, block = where
    time_ns = START_NS + dump * DUMP_NS
    header = {
        "sid_x": product.x.station, "bbid_x": product.x.baseband, "sbid_x": product.x.subband,
        "sid_y": product.y.station, "bbid_y": product.y.baseband, "sbid_y": product.y.subband,
        "start_block": block, "nblocks": product.frames, "chip": max(product.chip, 0),
        "cell": (max(product.cell, 0) + block) % 16, "recirculation_x": index, "recirculation_y": product.recirculation // 2,
        "bin": phase, "seconds": time_ns // 10**9 % 2**32, "nanoseconds": time_ns % 10**9, "board": board,
        "dv_centre": (1000 + dump) % 2**32, "dv_edge": (900 + dump) % 2**32,
    }  # fmt: skip
    return build_frames({**header, **changes}, lags_of(product, where, dump)[None])[0]


def lags_of(product: Product, cell: tuple[int, int, int], dump: int) -> npt.NDArray[np.int32]:
    """The lags that `frame` gives a frame."""
    nlags = product.lags_per_frame
    first = product.y.station * 1_000_003 + cells(product).index(cell) * 4099 + dump * 7
    values = np.arange(first, first + 2 * nlags, dtype=np.int64) * 2654435761
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32).reshape(nlags, 2)


def dump_of(config: Configuration, dump: int, **changes: int) -> list[Frames]:
    """All frames of one dump, in order."""
    return [frame(product, cell, dump, **changes) for product in config.products for cell in cells(product)]


def batch_of(frames: Iterable[bytes | Frames]) -> Batch:
    """Datagrams of one frame each, or of whatever bytes are given."""
    pieces = [bytes(piece) for piece in frames]
    starts = np.cumsum([0] + [-(-len(piece) // 8) * 8 for piece in pieces])
    data = np.zeros(int(starts[-1]) + 8, np.uint8)
    for start, piece in zip(starts, pieces, strict=False):
        data[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    return Batch(data, starts[:-1].astype(np.int64), lengths, lengths.copy(), len(pieces))


def contents(reader: RingReader) -> list[tuple[int, bytes] | str]:
    """What waits in a ring: time and bytes of state, counts and lags of each dump; reasons of flushes."""
    found: list[tuple[int, bytes] | str] = []
    while (item := reader.take()) is not None:
        if isinstance(item, Flush):
            found.append(item.reason)
        else:
            found.append((item.time_ns, parts(reader, item)))
            reader.release(item)
    return found


def parts(reader: RingReader, item: Dump) -> bytes:
    """A dump's state, counts and lags."""
    return b"".join(
        array.tobytes()
        for group in reader.plan.groups
        for array in (group.state(item.slot), group.counts(item.slot), group.lag_pairs(item.slot))
    )


class Asked:
    """A connection to an ingest process."""

    def __init__(self, path: Path, alive: Callable[[], bool]) -> None:
        self.reports: list[dict[str, Any]] = []
        self._decoder, self._responses, self._tag = Decoder(), list[dict[str, Any]](), 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert alive() and time.monotonic() < deadline
                time.sleep(0.05)

    def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        """Ask and wait for the answer."""
        self._tag += 1
        self._socket.sendall(encode({"tag": self._tag, "kind": "command", "type": type, **fields}))
        while not self._responses:
            self._receive()
        return self._responses.pop()

    def status(self) -> dict[str, Any]:
        """Its status."""
        return self.ask("WCBE_STATUS_MSG")

    def wait(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the status until it is as wanted."""
        deadline = time.monotonic() + PATIENCE
        while not holds(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.02)
        return status

    def wait_report(self, type: str) -> dict[str, Any]:
        """The next report of this type; those before it are forgotten."""
        while True:
            while self.reports:
                report = self.reports.pop(0)
                if report["type"] == type:
                    return report
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "the process has closed the connection"
        for message in self._decoder.feed(data):
            (self.reports if message["kind"] == "report" else self._responses).append(message)

    def hang_up(self) -> None:
        """Close the connection."""
        self._socket.close()


class Process(Asked):
    """An ingest process."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        path = directory / "control"
        command = [sys.executable, "-m", "socs_bl.correlator.ingest", "-n", "cbe0", "-k", str(directory)]
        self.child = subprocess.Popen([*command, "--control", str(path), *arguments])
        super().__init__(path, lambda: self.child.poll() is None)

    def close(self) -> int:
        """Tell it to end; its exit status."""
        self.hang_up()
        self.child.terminate()
        return self.child.wait(PATIENCE)


class InThread(Asked):
    """The same in a thread of this process, which starts at once."""

    def __init__(self, directory: Path) -> None:
        warm_up()  # what compiles while frames come takes that for a silence
        path = directory / "control"
        options = parse_options(["-n", "cbe0", "-k", str(directory)])
        control = ControlServer(path)
        self._signals: list[int] = []
        self._control, self._ingest = control, Ingest(options, control)
        self._thread = threading.Thread(target=self._ingest.run, args=(self._signals,))
        self._thread.start()
        super().__init__(path, self._thread.is_alive)

    def close(self) -> int:
        """End it; 0."""
        self.hang_up()
        self._signals.append(15)
        self._thread.join(PATIENCE)
        self._ingest.close()
        self._control.close()
        return 0
