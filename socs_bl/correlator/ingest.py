"""The ingest process of a node: takes frames from its source, assembles them to dumps, does what the agent asks.

One thread: between two batches it serves the control socket, so that what is asked takes effect between two frames. The
memory it uses is that of the tables and rings of the configurations, the receive buffer and the socket's; the status says
how much that is.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from socs_bl.core.errors import Faulty, Refused, SocsError
from socs_bl.correlator import decode, wire
from socs_bl.correlator.assembly import Assembler, Timing
from socs_bl.correlator.blf import CHUNK, shift_seconds, split_frames
from socs_bl.correlator.control import ControlServer, Request
from socs_bl.correlator.counters import named, summary
from socs_bl.correlator.document import parse_configuration
from socs_bl.correlator.framedump import MODES, FrameDump
from socs_bl.correlator.receive import SOCKET_BYTES, UdpReceiver, read_control
from socs_bl.correlator.replay import Replay
from socs_bl.correlator.source import Batch, FilePath, Source, UdpAddress, parse_source
from socs_bl.correlator.switch import ACTIVATE, DESTROY, Switch
from socs_bl.services.datagrams import Table

IDLE_S = 2.0  # without frames for so long, what is open is emitted
WAIT_S = 0.05
RATE_S = 1.0  # the measured rate is that of so much time
FILE_PATIENCE_S = 5.0  # how long a file waits for a pipeline before dumps are dropped
RING_BYTES = 512 << 20
BOARDS_SHOWN = 64
PRODUCTS_SHOWN = 1000
Json = dict[str, Any]


class Ingest:
    """The process.

    Parameters
    ----------
    options : argparse.Namespace
        As `parse_options` gives them.
    control : ControlServer
    """

    def __init__(self, options: argparse.Namespace, control: ControlServer) -> None:
        self._name, self._socket_bytes = str(options.name), int(options.socket_bytes)
        self._control = control
        timing = Timing(options.timeout_dumps, round(options.timeout * 1e9))
        self._assembler = Assembler(timing, self._first_frame)
        self._switch = Switch(self._assembler, control.report, options.ring_bytes)
        self._uri, self._flow = "", False
        self._source: Source | None = None
        self._rate, self._live = float(options.rate), bool(options.live_timestamps)
        self._dump = FrameDump("none")
        self._came = self._heard = time.monotonic()  # the last frame of all, and the last whose time was believed
        self._measured = (time.monotonic(), 0, 0.0)  # since, frames then, frames a second
        self._datagrams = 0
        self.ended = False
        self._answers: dict[str, Callable[[Request], Json]] = {
            "WCBE_NAME_MSG": lambda request: {"name": self._name},
            "WCBE_CONFIG_CREATE_MSG": self._create,
            "WCBE_CONFIG_ACTIVATE_MSG": lambda request: self._ask(ACTIVATE, request),
            "WCBE_CONFIG_DESTROY_MSG": lambda request: self._ask(DESTROY, request),
            "WCBE_CONFIG_LIST_MSG": lambda request: {"list": list(self._switch.held)},
            "WCBE_SRC_MSG": self._answer_source,
            "WCBE_FLOW_MSG": self._answer_flow,
            "WCBE_LIVE_TS_MSG": self._answer_live,
            "WCBE_RATE_MSG": self._answer_rate,
            "WCBE_FRAMEDUMP_MSG": self._answer_framedump,
            "WCBE_PRODUCT_COUNTERS_MSG": self._answer_products,
            "WCBE_STATUS_MSG": lambda request: self.status(),
            "WCBE_QUIT_MSG": self._quit,
        }
        if options.framedump != "none":
            self._dump = FrameDump(options.framedump, str(options.sockdir), instance=self._name)
        if options.src:
            self._set_source(options.src)
        if options.flow == "on":
            self._set_flow(True)

    def run(self, signals: Sequence[int]) -> None:
        """Work until told to end, or a signal has come."""
        while not (self.ended or signals):
            for request in self._control.requests():
                self._serve(request)
            self._switch.apply(self._assembler.newest_ns)
            batch = self._next_batch()
            if batch is None:
                self._rest()
            else:
                self._take(batch)
            now = time.monotonic()
            if now - self._heard > IDLE_S and self._assembler.flowing:
                self._assembler.idle(silent=now - self._came > IDLE_S)

    def close(self) -> None:
        """Give everything up, data first."""
        self._set_flow(False)
        self._switch.close()
        self._dump.close()

    def status(self) -> Json:
        """Everything there is to know but the counters of each product."""
        now, source, counters = self._assembler.current, self._source, self._assembler.counters
        dropped = sum(ring.dropped for assembly in self._switch.held.values() for ring in assembly.rings.values())
        return {
            "name": self._name,
            "source": {
                "uri": self._uri,
                "kind": _kind(self._uri),
                "live_timestamps": self._live,
                "rate": self._rate,
                **(_socket_status(source) if isinstance(source, UdpReceiver) else {}),
                **({"damaged_bytes": source.skipped} if isinstance(source, Replay) else {}),
            },
            "flow": "on" if self._flow else "off",
            "flowing": self._assembler.flowing and time.monotonic() - self._heard < RATE_S,
            "newest_ns": max(0, self._assembler.newest_ns),
            "actual_rate": self._actual_rate(),
            "max_frame_bytes": wire.LARGEST_FRAME,
            "active": self._switch.active,
            "pending": [list(item) for item in self._switch.pending],
            "configurations": self._switch.status(),
            "counters": {
                "datagrams": self._datagrams,
                **summary(counters),
                "dropped": dropped,
                "kernel_dropped": source.dropped if isinstance(source, UdpReceiver) else 0,
                "boards": int(counters.known.sum()),
                "jumps": self._assembler.jumps,
            },
            "boards": counters.by_board(BOARDS_SHOWN),
            "last_bad": self._assembler.last_bad,
            "assembly": {
                "dump-ns": now.dump_ns,
                "open": now.open_dumps,
                "emitted": now.emitted,
                "incomplete": now.incomplete,
                "forced": now.forced,
                "dropped": dropped,
            },
            "framedump": {"mode": self._dump.mode, "directory": self._dump.directory, "size": self._dump.size},
            "memory_bytes": self._memory(),
        }

    # -- frames ---------------------------------------------------------------------------------------------------

    def _next_batch(self) -> Batch | None:
        if self._source is None:
            return None
        try:
            return self._source.read(0.0)
        except EOFError:
            self._end_of_file()
        except OSError as error:
            self._tell("src", f"{self._uri}: {error.strerror}; flow is off")
            self._set_flow(False)
        return None

    def _rest(self) -> None:
        """Nothing has come: wait for something."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if isinstance(self._source, UdpReceiver):
            poll.register(self._source, select.POLLIN)
        wait = WAIT_S
        if isinstance(self._source, Replay):
            wait = min(wait, self._source.wait_s())
        poll.poll(wait * 1000)

    def _take(self, batch: Batch) -> None:
        """Frames have come. Those that nobody believes keep no dump open, and are no flow."""
        assert self._source is not None
        counters, self._came = self._assembler.counters, time.monotonic()
        self._datagrams += batch.datagrams
        self._write_dump(batch)
        before = counters.believed
        # The time of a file goes on by its frames alone, whoever is waited for.
        silence = self._came - self._heard if isinstance(self._source, UdpReceiver) else 0.0
        self._assembler.take(batch, self._source.origin, silence)
        if counters.believed > before:
            self._heard = self._came

    def _first_frame(self, time_ns: int) -> None:
        """Frames begin to flow. A file begins with whole dumps; a network is joined in the middle of one."""
        cut = time_ns - 1 if isinstance(self._source, Replay) else self._assembler.newest_ns
        self._switch.apply(cut)

    def _end_of_file(self) -> None:
        uri = self._uri
        self._set_flow(False, "end of file")
        self._uri = ""
        self._control.report("WCBE_END_OF_FILE", uri=uri)

    def _write_dump(self, batch: Batch) -> None:
        try:
            self._dump.write(batch)
        except Faulty as error:
            self._dump = FrameDump("none")
            self._tell("framedump", str(error))

    def _tell(self, element: str, text: str) -> None:
        self._control.report("WCBE_BUS_MSG", src=f"{self._name}/INPUT_STAGE/{element}", severity="error", text=text)

    # -- control --------------------------------------------------------------------------------------------------

    def _serve(self, request: Request) -> None:
        answer = self._answers.get(request.type)
        if answer is None:
            request.refuse(f"{request.type!r:.80}: no such request")
            return
        try:
            fields = answer(request)
        except SocsError as error:
            request.refuse(str(error))
        except (KeyError, TypeError, ValueError) as error:
            request.refuse(f"{request.type}: {type(error).__name__} {error}; a field is missing or of the wrong type")
        else:
            request.respond(**fields)

    def _create(self, request: Request) -> Json:
        fields = request.fields
        name, text = str(fields["name"]), fields["desc"]
        rings = {str(pipe): str(path) for pipe, path in dict(fields.get("rings") or {}).items()}
        self._switch.create(name, parse_configuration(text, name), rings, int(fields.get("slots") or 0))
        return {"name": name}

    def _ask(self, action: str, request: Request) -> Json:
        name = str(request.fields["name"])
        self._switch.ask(action, name)
        return {"name": name}

    def _answer_source(self, request: Request) -> Json:
        if "uri" in request.fields:
            self._set_source(str(request.fields["uri"]))
        return {"uri": self._uri}

    def _answer_flow(self, request: Request) -> Json:
        if "flow" in request.fields:
            flow = request.fields["flow"]
            if flow not in ("on", "off"):
                raise Refused(f"flow {flow!r:.40}; it is on or off")
            self._set_flow(flow == "on")
        return {"flow": "on" if self._flow else "off"}

    def _answer_live(self, request: Request) -> Json:
        if "live_timestamps" in request.fields:
            self._live = bool(request.fields["live_timestamps"])
            if isinstance(self._source, Replay):
                self._source.live_timestamps = self._live
        return {"live_timestamps": self._live}

    def _answer_rate(self, request: Request) -> Json:
        if "rate" in request.fields:
            rate = float(request.fields["rate"])
            if not 0 <= rate < 1e9:
                raise Refused(f"rate {rate}; it is frames a second, 0 for as fast as possible")
            self._rate = rate
            if isinstance(self._source, Replay):
                self._source.rate = rate
        return {"rate": self._rate}

    def _answer_framedump(self, request: Request) -> Json:
        fields = request.fields
        if "mode" in fields:
            directory, size = str(fields.get("directory") or ""), int(fields.get("size") or 0)
            dump = FrameDump(str(fields["mode"]), directory, size, self._name)
            self._dump.close()
            self._dump = dump
        return {"mode": self._dump.mode, "directory": self._dump.directory, "size": self._dump.size}

    def _answer_products(self, request: Request) -> Json:
        """Counters of the active configuration's products, `count` from the `first`."""
        first, count = int(request.fields.get("first") or 0), int(request.fields.get("count") or PRODUCTS_SHOWN)
        now = self._assembler.current
        names = now.lookup.names[max(0, first) :][: max(0, min(count, PRODUCTS_SHOWN))]
        rows = [{"name": name, **named(now.counts[:, max(0, first) + at])} for at, name in enumerate(names)]
        return {"configuration": self._switch.active, "total": len(now.lookup.names), "products": rows}

    def _quit(self, request: Request) -> Json:
        self.ended = True
        return {}

    def _set_source(self, uri: str) -> None:
        if uri:
            parse_source(uri)
        self._set_flow(False, "another source")
        self._switch.destroy_all()
        self._uri = uri

    def _set_flow(self, flow: bool, reason: str = "flow is off") -> None:
        if flow == self._flow:
            return
        if flow:
            if not self._uri:
                raise Refused("flow: there is no source; set one first")
            address = parse_source(self._uri)
            if isinstance(address, FilePath):
                self._source = Replay(address.path, self._rate, self._live)
            else:
                assert isinstance(address, UdpAddress)
                self._source = UdpReceiver(address, self._socket_bytes)
                if self._source.advice:
                    self._tell("src", self._source.advice)
            self._assembler.patience_s = FILE_PATIENCE_S if isinstance(address, FilePath) else 0.0
            self._assembler.begin()
            self._came = self._heard = time.monotonic()
        else:
            if self._source is not None:
                self._source.close()
            self._source = None
            self._assembler.flush(reason)
            self._assembler.idle()
        self._flow = flow

    # -- figures --------------------------------------------------------------------------------------------------

    def _actual_rate(self) -> float:
        since, frames, rate = self._measured
        now = time.monotonic()
        if now - since >= RATE_S:
            counted = self._assembler.counters.frames
            rate = (counted - frames) / (now - since)
            self._measured = now, counted, rate
        return round(rate, 1)

    def _memory(self) -> int:
        held = sum(assembly.size_bytes for assembly in self._switch.held.values())
        source = self._source.size_bytes if isinstance(self._source, UdpReceiver) else CHUNK
        return held + source + self._assembler.counters.boards.nbytes


def _kind(uri: str) -> str:
    return uri.partition(":")[0]


def _socket_status(socket: UdpReceiver) -> Json:
    return {
        "port": socket.port,
        "socket_bytes": socket.socket_bytes,
        "coalesced": socket.coalesced,
        "advice": socket.advice,
    }


def warm_up() -> None:
    """Compile the loops, or load them from disk; one process at a time, since compiling twice helps nobody."""
    with open(decode.__file__, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        numbers = np.zeros(1, np.int64)
        data = np.zeros(wire.LARGEST_FRAME, np.uint8)
        base = np.uint64(data.ctypes.data)
        assembler = Assembler(Timing())
        assembler.take(Batch(data, numbers, numbers, numbers, 0))
        assembler.idle()
        table = Table(np.zeros((2, 4), np.uint8), received=True)  # two rows: with one the loop would be another
        read_control(table.control, table.messages["controllen"], table.messages["length"], 0, numbers, numbers)
        split_frames(base, 0, False, 1, numbers, numbers)
        shift_seconds(base, numbers, numbers, 0, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ingest process; ends with 0 when it is told to, by WCBE_QUIT_MSG or SIGTERM."""
    options = parse_options(argv)
    ingest: Ingest | None = None
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    try:
        warm_up()
        with contextlib.closing(ControlServer(options.control or Path(options.sockdir) / options.name)) as control:
            ingest = Ingest(options, control)
            ingest.run(ended)
            ingest.close()
    except SocsError as error:
        print(f"ingest {options.name}: {error}", file=sys.stderr)
        return 1
    return 0


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the short options are those of the original."""
    parser = argparse.ArgumentParser(prog="ingest", description="Takes lag frames and assembles them to dumps.")
    add = parser.add_argument
    add("-n", "--name", required=True, help="of the instance; also names the control socket")
    add("-s", "--src", default="", metavar="URI", help="udp://HOST:PORT[?interface=ADDRESS] or file:///PATH")
    add("-l", "--live-timestamps", action="store_true", help="a file's frames get timestamps of now")
    add("-r", "--rate", type=float, default=0.0, help="a file is played at so many frames/s; 0: as fast as possible")
    add(
        "-k",
        "--sockdir",
        type=Path,
        default=Path(tempfile.gettempdir()),
        metavar="DIR",
        help="for socket and framedump",
    )
    add("-d", "--framedump", choices=MODES, default="none", help="write frames to files as they come")
    add("-f", "--flow", choices=("on", "off"), default="off", help="begin at once")
    add("--control", type=Path, metavar="SOCKET", help="control socket; default: the name below the sockdir")
    add("--timeout-dumps", type=int, default=3, help="a dump is complete after so many dumps")
    add("--timeout", type=float, default=0.5, help="but not before so many seconds")
    add("--socket-bytes", type=int, default=SOCKET_BYTES, help="room in the socket for frames that wait")
    add("--ring-bytes", type=int, default=RING_BYTES, help="of one ring at most, when its slots are not given")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
