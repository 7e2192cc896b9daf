"""Baseline boards: real lag frames by UDP in real time, for all products of a simulated correlator.

``python -m socs_bl.simulators.boards --config FILE`` sends until SIGTERM and then prints what it has sent as one line of
JSON. It dies with the process that started it. A dump starts at a multiple of its length since 1970 UTC and is sent when
it has ended. Without a field there is noise.

Commands come as datagrams to the Unix socket named in the configuration, one JSON `Command` each; once a second the
counters go to the socket beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import Field

from socs_bl.core.config import Config, check, load
from socs_bl.core.errors import Refused
from socs_bl.correlator import wire
from socs_bl.services.process import die_with_parent
from socs_bl.simulators.boards_config import Correlation
from socs_bl.simulators.boards_faults import CUT_BYTES, BoardFault, BoardFaults
from socs_bl.simulators.frame_sender import FrameSender
from socs_bl.simulators.lags import LagMaker, SkyField, make_products

MAX_BEHIND_S = 2.0  # after a longer pause of the machine, go on with the present instead of catching up
WRONG_CLOCK_S = 3600
PACED_FROM = 1000  # frames of a dump from which it is spread over half of its time, not sent in one burst
REPORT_S = 1.0
LONGEST_COMMAND = 1 << 18
Frames = npt.NDArray[np.uint8]


class TimedField(Config):
    """A field that is observed from `start` on, Unix seconds."""

    start: float
    field: SkyField


class Restart(Config):
    """A board that is away for `dumps` and then counts its frames from 0."""

    board: int = Field(ge=0)
    dumps: int = Field(default=5, ge=1)


class Command(Config):
    """What the boards are told while they run; what is None stays.

    Attributes
    ----------
    fields : tuple of TimedField or None
        What is observed from when on; replaces the earlier ones.
    faults : BoardFaults or None
    dumps : int
        The faults end after so many dumps; 0: with the next command.
    restart : Restart or None
    sending : bool or None
        Whether anything is sent.
    """

    fields: tuple[TimedField, ...] | None = None
    faults: BoardFaults | None = None
    dumps: int = Field(default=0, ge=0)
    restart: Restart | None = None
    sending: bool | None = None


class BoardsConfig(Config):
    """All boards of a correlator.

    Attributes
    ----------
    correlation : Correlation
    delays_ns : tuple of float
        Of each station, by id of the station.
    fields : tuple of TimedField
    socket : str
        Where commands are received; counters go to the same name with ``.reports`` behind it. Empty: neither.
    """

    correlation: Correlation
    delays_ns: tuple[float, ...]
    fields: tuple[TimedField, ...] = ()
    socket: str = ""


class _Subband:
    """The frames of one subband."""

    def __init__(self, config: BoardsConfig, number: int, maker: LagMaker, first_product: int) -> None:
        correlation, products = config.correlation, maker.products
        subband, stations = products.subband, correlation.ordered
        self.maker, self.field = maker, -1
        frames, self.per_frame = len(maker.counts), subband.lags_per_frame
        shape = (len(products.x), subband.bins, frames)
        product, phase_bin, frame = (axis.reshape(-1) for axis in np.indices(shape))
        index, block = np.divmod(frame, subband.blocks)
        ids = np.array([station.station for station in stations])
        sides = np.array([products.baseband.right, products.baseband.left])
        x, y = products.x[product], products.y[product]
        baseline = np.maximum(x, y) * (np.maximum(x, y) + 1) // 2 + np.minimum(x, y)
        cell = (first_product + product) * subband.blocks + block
        self.boards = (baseline + number) % correlation.boards
        self.headers = {
            "sid_x": ids[x], "sid_y": ids[y], "sbid_x": subband.subband, "sbid_y": subband.subband,
            "bbid_x": sides[products.polarisations[product, 0]], "bbid_y": sides[products.polarisations[product, 1]],
            "start_block": block, "nblocks": subband.blocks, "recirculation_x": index,
            "recirculation_y": subband.recirculation // 2, "chip": cell // wire.CELLS % 64, "cell": cell % wire.CELLS,
            "dv_centre": maker.counts[frame, 0], "dv_edge": maker.counts[frame, 1], "board": self.boards, "bin": phase_bin,
        }  # fmt: skip

    def frames(self, seconds: npt.NDArray[np.int64], nanoseconds: int, counts: npt.NDArray[np.int64]) -> Frames:
        """Frames of one dump, each with its own seconds and frame count."""
        lags = self.maker.lags()
        # (products, bins, lags, 2) is (products, bins, frames of the set, lags of a frame, 2).
        headers = {**self.headers, "seconds": seconds, "nanoseconds": nanoseconds, "frame_count": counts}
        return wire.build_frames(headers, lags.reshape(-1, self.per_frame, 2))


class Boards:
    """Makes the frames of all boards, dump after dump.

    Parameters
    ----------
    config : BoardsConfig
    """

    def __init__(self, config: BoardsConfig) -> None:
        self.config, self.correlation = config, config.correlation
        delays = np.array(config.delays_ns) * 1e-9
        if len(delays) != len(self.correlation.stations):
            raise Refused(f"boards: {len(delays)} delays for {len(self.correlation.stations)} stations")
        self.counters: Counter[str] = Counter()
        self.fields, self.faults = config.fields, self.correlation.faults
        self.sending = True
        self._faults_end: int | None = None
        self._next = 0
        self._restarts: dict[int, int] = {}
        self._first_count = np.zeros(self.correlation.boards, np.int64)
        self._held: list[Frames] = []
        self._subbands: list[_Subband] = []
        first = 0
        for baseband in self.correlation.basebands:
            for subband in baseband.subbands:
                products, number = make_products(self.correlation, baseband, subband), len(self._subbands)
                maker = LagMaker(self.correlation, products, delays, self.correlation.seed * 64 + number)
                maker.point(SkyField(), 0.0)
                self._subbands.append(_Subband(config, number, maker, first))
                first += len(products.x)

    @property
    def frames_per_dump(self) -> int:
        """Frames of one dump when nothing goes wrong."""
        return sum(len(subband.boards) for subband in self._subbands)

    def tell(self, command: Command) -> None:
        """Take a command."""
        if command.fields is not None:
            self.fields = command.fields
            for subband in self._subbands:
                subband.field = -1
        if command.faults is not None:
            self.faults = command.faults
            self._faults_end = self._next + command.dumps if command.dumps else None
        if command.restart is not None:
            self._restarts[command.restart.board % self.correlation.boards] = self._next + command.restart.dumps
        if command.sending is not None:
            self.sending = command.sending

    def dump(self, number: int) -> list[Frames]:
        """The frames of a dump as they are sent: arrays of frames of one length.

        Parameters
        ----------
        number : int
            Of the dump: its start over its length, counted from 1970.
        """
        self._next = number + 1
        if self._faults_end is not None and number >= self._faults_end:
            self.faults, self._faults_end = self.correlation.faults, None
        away = [board for board, until in self._restarts.items() if number < until]
        for board in [board for board in self._restarts if board not in away]:
            del self._restarts[board]
            self._first_count[board] = number
        faults = self.faults.model_copy(update={"silent_boards": (*self.faults.silent_boards, *away)})
        sent, self._held = self._held, []
        for salt, subband in enumerate(self._subbands):
            sent += self._of_subband(subband, number, faults.of((number << 8) + salt, subband.boards))
        return sent

    def _of_subband(self, subband: _Subband, number: int, faults: npt.NDArray[np.int8]) -> list[Frames]:
        self._point(subband, number)
        seconds, nanoseconds = divmod(number * self.correlation.dump_ns, 10**9)
        times = np.full(len(faults), seconds, np.int64)
        times[faults == BoardFault.WRONG_CLOCK] += WRONG_CLOCK_S
        frames = subband.frames(times, nanoseconds, (number - self._first_count[subband.boards]) & 0xFF)
        if not faults.any():
            self.counters["frames"] += len(frames)
            return [frames]
        for fault in BoardFault:
            if fault:
                self.counters[fault.name.lower()] += int((faults == fault).sum())
        spoilt = np.flatnonzero(faults == BoardFault.CORRUPTED)
        frames[spoilt, 4 * wire.HEADER_WORDS + spoilt % 64] ^= 1 << 4
        self._held.append(frames[faults == BoardFault.REORDERED])
        keep = ~np.isin(faults, (BoardFault.SILENT, BoardFault.LOST, BoardFault.REORDERED, BoardFault.CUT))
        parts = [frames[keep], frames[faults == BoardFault.DUPLICATED], frames[faults == BoardFault.CUT, :-CUT_BYTES]]
        self.counters["frames"] += sum(map(len, parts)) + len(self._held[-1])
        return parts

    def _point(self, subband: _Subband, number: int) -> None:
        """Compute the sky anew where the field has changed or the Earth has turned, for the middle of the time it is for."""
        start = number * self.correlation.dump_ns * 1e-9
        due = [timed for timed in self.fields if timed.start <= start]
        field = max(due, key=lambda timed: timed.start).field if due else SkyField()
        epoch = number // self.correlation.sky_dumps
        key = hash((epoch if field.sources else 0, field))
        if key != subband.field:
            subband.field = key
            middle = (epoch + 0.5) * self.correlation.sky_dumps * self.correlation.dump_ns * 1e-9
            subband.maker.point(field, middle)


class Sender:
    """Sends dumps in real time, and hears commands meanwhile.

    Parameters
    ----------
    boards : Boards
    """

    def __init__(self, boards: Boards) -> None:
        self.boards = boards
        network = boards.correlation.network
        self._frames = FrameSender((str(network.lag_group), network.lag_port), network.mode, str(network.interface))
        self._path = boards.config.socket
        self._commands = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._commands.setblocking(False)
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._commands.bind(self._path)
        self._reported = 0.0

    def close(self) -> None:
        """Close the sockets."""
        self._frames.close()
        self._commands.close()

    def run(self, stop: threading.Event, clock: Any = time.time) -> None:
        """Send until `stop` is set."""
        boards, dump_s = self.boards, self.boards.correlation.dump_ns * 1e-9
        number = math.ceil(clock() / dump_s)
        while not stop.is_set():
            late = clock() - (number + 1) * dump_s
            if late > MAX_BEHIND_S:
                skipped = int(late / dump_s)
                boards.counters["skipped_dumps"] += skipped
                number += skipped
            elif late < 0 and stop.wait(-late):
                return
            self._hear()
            self._send(number, dump_s)
            self._report(number, dump_s, clock())
            number += 1

    def _send(self, number: int, dump_s: float) -> None:
        boards = self.boards
        if not boards.sending:
            return
        rate = 2 * boards.frames_per_dump / dump_s if boards.frames_per_dump >= PACED_FROM else None
        for frames in boards.dump(number):
            if len(frames):
                self._frames.send(frames, rate)
        boards.counters["dumps"] += 1

    def _hear(self) -> None:
        """Take all commands that have come."""
        while self._path:
            try:
                data = self._commands.recv(LONGEST_COMMAND)
            except BlockingIOError:
                return
            try:
                self.boards.tell(check(msgspec.json.decode(data), Command, "command"))
            except (msgspec.DecodeError, Refused) as error:
                print(f"a command is not taken: {error}", flush=True)

    def _report(self, number: int, dump_s: float, now: float) -> None:
        if not self._path or now - self._reported < REPORT_S:
            return
        self._reported = now
        report = {"dump": number, "behind_s": round(now - (number + 1) * dump_s, 3), **self.boards.counters}
        # Nobody need listen, and who is slow to listen misses one.
        with contextlib.suppress(OSError):
            self._commands.sendto(msgspec.json.encode(report), f"{self._path}.reports")


def main(args: list[str] | None = None) -> int:
    """Run the baseline boards until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m socs_bl.simulators.boards", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON or YAML file, see BoardsConfig")
    config = load(parser.parse_args(args).config, BoardsConfig)
    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sender = Sender(Boards(config))
    try:
        sender.run(stop)
    finally:
        sender.close()
    print(json.dumps(sender.boards.counters), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
