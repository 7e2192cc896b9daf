"""The ingest process: sources, configurations switched in band, BLF recorded and replayed, signals and clean ends."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.plan import make_plan
from socs_bl.correlator.ring import RingReader
from socs_bl.services.process import free_port
from socs_bl.simulators.frame_sender import FrameSender
from tests.correlator.frames import DUMP_NS, PATIENCE, START_NS, InThread, Process, configuration, contents, dump_of

A, B, C = configuration(2, "a"), configuration(3, "b", frames=2), configuration(2, "c", half=True)
GROUP = "239.192.50.2"


class Node:
    """An ingest process or thread, its rings, and boards that send to it."""

    def __init__(self, make: Callable[[Path], InThread | Process] = InThread) -> None:
        self._directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.path = Path(self._directory.name)
        self.process = make(self.path)
        self.readers: dict[str, RingReader] = {}
        self.port = free_port()

    def create(self, config: Configuration) -> None:
        ring = self.path / f"{config.name}.P0"
        self.do("WCBE_CONFIG_CREATE_MSG", name=config.name, desc=write_configuration(config), rings={"P0": str(ring)})
        if config.products:
            self.readers[config.name] = RingReader(ring, make_plan(config.pipe_products("P0")))

    def do(self, type: str, **fields: Any) -> dict[str, Any]:
        """Ask; a refusal is an error."""
        answer = self.process.ask(type, **fields)
        assert "error" not in answer, answer
        return answer

    def flow_from(self, uri: str = "") -> None:
        self.do("WCBE_SRC_MSG", uri=uri or f"udp://{GROUP}:{self.port}?interface=127.0.0.1")
        self.flow()

    def flow(self) -> None:
        self.do("WCBE_FLOW_MSG", flow="on")

    def send(self, config: Configuration, *dumps: int) -> None:
        """Send dumps and wait until they have been taken."""
        frames = self.process.status()["counters"]["frames"]
        with FrameSender((GROUP, self.port)) as sender:
            for dump in dumps:
                sender.send(np.array(dump_of(config, dump)))
        expected = frames + len(dumps) * len(dump_of(config, 0))
        self.process.wait(lambda status: status["counters"]["frames"] == expected)

    def read(self, name: str) -> list[int | str]:
        """Numbers of the dumps in a configuration's ring, and flushes."""
        found = contents(self.readers[name])
        return [item if isinstance(item, str) else (item[0] - START_NS) // DUMP_NS for item in found]

    def close(self) -> int:
        for reader in self.readers.values():
            reader.close()
        status = self.process.close()
        self._directory.cleanup()
        return status


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    assert made.close() == 0


def test_direct_switching(node: Node) -> None:
    """A to B to C without c0 between: each takes effect between two frames, in order, and gets its own frames only."""
    for config in (A, B, C):
        node.flow_from() if config is A else None
        node.create(config)
    assert node.do("WCBE_CONFIG_LIST_MSG")["list"] == ["a", "b", "c"]
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="a")
    assert node.process.status()["pending"] == [["activate", "a"]]  # until frames flow
    node.send(A, 0, 1, 2)
    report = node.process.wait_report("WCBE_CONFIG_ACTIVATED")
    assert (report["name"], report["previous"], report["cut_ns"]) == ("a", None, START_NS)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="b")
    assert node.process.wait_report("WCBE_CONFIG_ACTIVATED")["cut_ns"] == START_NS + 2 * DUMP_NS
    node.send(A, 2, 3)  # of before the cut, and of products that are no more
    node.send(B, 2, 3, 4)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="c")
    node.do("WCBE_CONFIG_DESTROY_MSG", name="a")
    assert node.process.wait_report("WCBE_CONFIG_ACTIVATED")["previous"] == "b"
    assert node.process.wait_report("WCBE_CONFIG_DESTROYED")["name"] == "a"
    node.send(C, 4, 5, 6)
    status = node.process.status()
    assert (status["active"], status["pending"]) == ("c", [])
    assert node.read("a") == [1, 2, "deactivated"]
    assert node.read("b") == [3, 4, "deactivated"]
    assert node.read("c") == [5, 6]
    counters = status["counters"]
    assert counters["good"] == 4 + 12 + 4 and counters["missing"] == counters["late"] == 0
    assert sum(counters[kind] for kind in ("good", "stale", "unknown", "shape")) == counters["frames"]


def test_a_wrong_clock_alone_is_no_flow(node: Node) -> None:
    """When only a board goes on whose time nobody believes, what is open is emitted, nothing flows, and all is as it was."""
    node.flow_from()
    node.create(A)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="a")
    node.send(A, 0, 1, 2)
    with FrameSender((GROUP, node.port)) as sender:
        sender.send(np.array(dump_of(A, 3)[:1]))

        def emitted(status: dict[str, Any]) -> bool:
            sender.send(np.array(dump_of(A, 0, seconds=5, board=99)))
            return status["configurations"]["a"]["emitted"] == 3 and not status["flowing"]

        node.process.wait(emitted)
    node.send(A, 20)
    node.do("WCBE_FLOW_MSG", flow="off")
    assert node.read("a") == [1, 2, 3, 20, "flow is off"]
    assert node.process.status()["counters"]["jumps"] == 0


def test_commands_wait_in_order(node: Node) -> None:
    """Without frames nothing is activated, and what is asked behind an activation waits with it."""
    node.create(A)
    node.create(B)
    for type, name in (("ACTIVATE", "a"), ("ACTIVATE", "b"), ("DESTROY", "a")):
        node.do(f"WCBE_CONFIG_{type}_MSG", name=name)
    pending = [["activate", "a"], ["activate", "b"], ["destroy", "a"]]
    assert node.process.status()["pending"] == pending
    assert "create it first" in node.process.ask("WCBE_CONFIG_ACTIVATE_MSG", name="a")["error"]
    assert (
        "exists already" in node.process.ask("WCBE_CONFIG_CREATE_MSG", name="b", desc=write_configuration(B))["error"]
    )
    node.do("WCBE_SRC_MSG", uri=f"udp://{GROUP}:{node.port}?interface=127.0.0.1")
    assert node.do("WCBE_CONFIG_LIST_MSG")["list"] == []  # another source: all are destroyed
    assert [node.process.wait_report("WCBE_CONFIG_DESTROYED")["name"] for _ in "ab"] == ["a", "b"]
    assert node.read("a") == [] and not (node.path / "a.P0").exists()


def test_recorded_and_replayed(node: Node, tmp_path: Path) -> None:
    """What is dumped as BLF while it is received gives the same ring when it is replayed; then the file has ended."""
    node.flow_from()
    node.do("WCBE_FRAMEDUMP_MSG", mode="binary", directory=str(tmp_path), size=4000)
    node.create(B)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="b")
    for dump in (0, 1, 3, 4, 5):
        node.send(B, dump)
    node.do("WCBE_FLOW_MSG", flow="off")
    live = contents(node.readers["b"])
    assert live[-1] == "flow is off" and len(live) == 5
    node.do("WCBE_FRAMEDUMP_MSG", mode="none")
    files = sorted(tmp_path.glob("cbe0-*.blf"))
    assert len(files) > 1
    whole = tmp_path / "whole.blf"
    whole.write_bytes(b"".join(path.read_bytes() for path in files))
    node.readers.pop("b").close()
    node.do("WCBE_SRC_MSG", uri=whole.as_uri())
    node.create(B)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="b")
    node.flow()
    assert node.process.wait_report("WCBE_END_OF_FILE")["uri"] == whole.as_uri()
    replayed = contents(node.readers["b"])
    assert replayed[-1] == "end of file" and replayed[1:-1] == live[:-1]  # with the dump that the live one joined
    status = node.process.status()
    assert (status["source"]["uri"], status["flow"], status["active"]) == ("", "off", "b")


def test_a_file_waits_for_its_pipeline(node: Node, tmp_path: Path) -> None:
    """As fast as possible is as fast as the pipeline: nothing is dropped, though it lasts longer than the ring."""
    path = tmp_path / "x.blf"
    path.write_bytes(b"".join(bytes(frame) for dump in range(60) for frame in dump_of(A, dump)))
    node.do("WCBE_SRC_MSG", uri=path.as_uri())
    node.create(A)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="a")
    node.flow()
    found: list[int] = []
    reader = node.readers["a"]
    while len(found) < 60:
        dump = reader.take(PATIENCE)
        assert dump is not None and not isinstance(dump, str)
        found.append((dump.time_ns - START_NS) // DUMP_NS)  # type: ignore[union-attr]
        reader.release(dump)  # type: ignore[arg-type]
    assert found == list(range(60))


def test_bad_datagrams_are_counted_and_located(node: Node) -> None:
    """Short, long and foreign datagrams are counted by kind; the sender of the last is named; nothing else happens."""
    node.flow_from()
    good = bytes(dump_of(A, 0)[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for data in (good, good * 3 + b"tail", good[:-1], b"", b"hello" * 100, good[:-1] + b"\0"):
            sender.sendto(data, (GROUP, node.port))
        status = node.process.wait(lambda status: status["counters"]["datagrams"] == 6)
        counters = status["counters"]
        assert status["last_bad"]["origin"] == f"127.0.0.1:{sender.getsockname()[1]}"
    kinds = ("unknown", "long", "short", "sync", "checksum", "bad")
    assert [counters[kind] for kind in kinds] == [4, 1, 2, 1, 1, 5]
    assert status["memory_bytes"] > status["source"]["socket_bytes"]


def test_what_is_wrong_is_refused(node: Node) -> None:
    """Every request that cannot be done is answered with a sentence, and the process goes on."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("WCBE_SRC_MSG", {"uri": "http://x"}),
        ("WCBE_FLOW_MSG", {"flow": "on"}),
        ("WCBE_FLOW_MSG", {"flow": "perhaps"}),
        ("WCBE_RATE_MSG", {"rate": -1}),
        ("WCBE_RATE_MSG", {"rate": "fast"}),
        ("WCBE_FRAMEDUMP_MSG", {"mode": "binary", "directory": "/no/such"}),
        ("WCBE_CONFIG_CREATE_MSG", {"name": "x"}),
        ("WCBE_CONFIG_CREATE_MSG", {"name": "x", "desc": "<config", "rings": {}}),
        ("WCBE_CONFIG_CREATE_MSG", {"name": "../x", "desc": write_configuration(A), "rings": {"P0": "/dev/shm/x"}}),
        ("WCBE_CONFIG_CREATE_MSG", {"name": "x", "desc": write_configuration(A), "rings": {}}),
        ("WCBE_CONFIG_CREATE_MSG", {"name": "x", "desc": write_configuration(A), "rings": {"P0": "/no/such/x"}}),
        ("WCBE_CONFIG_DESTROY_MSG", {"name": "x"}),
        ("WCBE_SURPRISE_MSG", {}),
    ]
    for type, fields in asked:
        assert len(node.process.ask(type, **fields)["error"]) > 20, type
    missing = node.path / "missing.blf"
    node.do("WCBE_SRC_MSG", uri=missing.as_uri())
    assert "give the path of a BLF file" in node.process.ask("WCBE_FLOW_MSG", flow="on")["error"]
    assert node.do("WCBE_CONFIG_LIST_MSG")["list"] == []


def test_started_again_it_goes_on_with_the_rings() -> None:
    """After a SIGKILL the next process takes the rings up where they are; the reader sees a flush and loses nothing it had."""
    node = Node(Process)
    node.flow_from()
    node.create(A)
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="a")
    node.send(A, 0, 1, 2)
    assert isinstance(node.process, Process)
    node.process.child.send_signal(signal.SIGKILL)
    assert node.process.close() == -signal.SIGKILL
    node.process = InThread(node.path)
    reader = node.readers["a"]
    node.flow_from()
    node.do(
        "WCBE_CONFIG_CREATE_MSG", name="a", desc=write_configuration(A), rings={"P0": str(reader.path)}
    )  # fmt: skip
    node.do("WCBE_CONFIG_ACTIVATE_MSG", name="a")
    node.send(A, 3, 4, 5)
    assert node.read("a") == [1, 2, "its writer was started again", 4, 5]
    node.close()


def test_started_with_everything_on_the_command_line(tmp_path: Path) -> None:
    """Source, flow and framedump as options; a played file is dumped whole, and SIGTERM is a clean end."""
    path = tmp_path / "x.blf"
    frames = b"".join(bytes(frame) for frame in dump_of(B, 0))
    path.write_bytes(frames)
    options = ("-s", path.as_uri(), "-f", "on", "-d", "binary", "-l", "-r", "1000")
    node = Node(lambda directory: Process(directory, *options))
    node.process.wait(lambda status: status["flow"] == "off")
    (dumped,) = node.path.glob("cbe0-*.blf")
    assert len(dumped.read_bytes()) == len(frames)
    status = node.process.status()
    assert status["counters"]["unknown"] == 6 and status["newest_ns"] > START_NS - 86400 * 10**9 * 366
    assert node.close() == 0
