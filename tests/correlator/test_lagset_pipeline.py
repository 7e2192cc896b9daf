"""The process of a lag pipeline, with a real ring, a real control socket and files that sdmpy reads."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import Scan, make_uid
from socs_bl.bdf.writer import part_path
from socs_bl.correlator.bls import read_lag_sets
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.control import ControlServer, Decoder, encode
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.lagset_pipeline import LagPipeline
from socs_bl.correlator.plan import GOOD, Plan, make_plan
from socs_bl.correlator.ring import RingReader, RingWriter
from socs_bl.services.process import Child, wait_gone
from tests.correlator.dumps import SECOND, START, noise_slot, observation
from tests.harness.disk import tiny_disk

DUMP = SECOND // 10
TEXT = "bls path=sets ! flag ! integrate n=4 ! dvnorm ! window hanning ! fft ! bdf"
PATIENCE = 120.0  # compiling included


class Node:
    """What the agent and the ingest process are to a lag pipeline."""

    def __init__(self, place: Path, configuration: Configuration) -> None:
        self.place, self.configuration = place, configuration
        self.plan: Plan = make_plan(configuration.pipe_products("P0"))
        self.ring = RingWriter(place / "P0.ring", self.plan, 16)
        (place / "c1.xml").write_text(write_configuration(configuration))
        self.reports: list[dict[str, Any]] = []
        self.child: Child
        self.start()

    def start(self, *recordings: dict[str, Any]) -> None:
        """A new process, told of recordings that are open."""
        (self.place / "open.json").write_bytes(msgspec.json.encode(recordings))
        argv = [sys.executable, "-m", "socs_bl.correlator.lagset_pipeline", "--input", str(self.ring.path)]
        argv += ["--configuration", str(self.place / "c1.xml"), "--pipe", "P0", "--name", "c1/P0"]
        argv += ["--control", str(self.place / "P0.sock"), "--recordings", str(self.place / "open.json")]
        argv += [self.configuration.pipes[0].text]
        (self.place / "P0.sock").unlink(missing_ok=True)
        self.child = Child("pipeline", argv, self.place / "P0.log")
        self.child.wait_ready((self.place / "P0.sock").exists, PATIENCE)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(self.place / "P0.sock"))
        self.decoder = Decoder()

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.socket.close()

    def close(self) -> None:
        """All of it."""
        self.kill()
        self.ring.close()

    def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        """Ask, and take the answer; reports are kept."""
        self.socket.sendall(encode({"tag": 7, "kind": "command", "type": type, **fields}))
        while True:
            for message in self._receive():
                if message["kind"] == "response":
                    return message

    def _receive(self) -> list[dict[str, Any]]:
        data = self.socket.recv(1 << 16)
        assert data, f"the process has ended: {self.child.log_tail()}"
        messages = self.decoder.feed(data)
        self.reports += [message for message in messages if message["kind"] == "report"]
        return messages

    def dumps(self, first: int, count: int) -> None:
        """Send dumps by their number after START."""
        for number in range(first, first + count):
            place = self.ring.open_slot()
            assert place is not None
            self.ring.slot(place)[:] = noise_slot(self.plan, number)
            self.ring.publish(place, START + number * DUMP)

    def status_when(self, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The status, as soon as it is what is waited for."""
        deadline = time.monotonic() + PATIENCE
        while not ready(status := self.ask("WCBE_STATUS_MSG")):
            assert time.monotonic() < deadline, status
        return status

    def record(self, scan: Scan, directory: Path) -> None:
        """Ask for a recording."""
        recording = {"scan": msgspec.to_builtins(scan), "directory": str(directory)}
        assert "error" not in self.ask("WCBE_RECORDING_MSG", recording=recording)

    def done(self, uid: str) -> dict[str, Any]:
        """The report of a recording's end."""
        while True:
            for report in self.reports:
                if report["type"] == "WCBE_RECORDING_DONE" and report["uid"] == uid:
                    return report
            self._receive()


@contextmanager
def node(place: Path, text: str = TEXT) -> Iterator[Node]:
    """A node with one pipeline."""
    with closing(Node(place, observation(text, stations=2, dump_ns=DUMP))) as made:
        yield made


def scan_of(number: int, start: int, stop: int = 0) -> Scan:
    """A scan from and to a dump."""
    times = {"start_ns": START + start * DUMP, "stop_ns": stop and START + stop * DUMP}
    return Scan(uid=make_uid(number), dataset_id="D", config_id="cfg", **times)


def test_from_the_ring_to_files(tmp_path: Path) -> None:
    """Fault 25: dumps become a file that sdmpy reads and lag sets; control between two dumps; SIGKILL costs one integration."""
    from sdmpy.bdf import BDF

    directory, scan = tmp_path / "bdf" / ".private", scan_of(1, 0, 40)
    with node(tmp_path) as made:
        made.record(scan, directory)
        made.dumps(0, 10)
        # What waits for the disk when the process is killed is lost as well.
        status = made.status_when(
            lambda status: status["counters"]["dumps"] == 10 and status["recordings"][scan.uid]["integrations"] == 2
        )
        assert status["dump_ns"] == DUMP
        assert [element["name"] for element in status["elements"]] == [part.split()[0] for part in TEXT.split(" ! ")]
        made.kill()
        made.dumps(10, 6)
        made.start({"scan": msgspec.to_builtins(scan), "directory": str(directory)})
        made.record(scan, directory)
        made.dumps(16, 4)
        made.status_when(lambda status: status["counters"]["dumps"] == 10)
        changed = made.ask("WCBE_PROPERTY_MSG", element="window", property="algorithm", value="none")
        assert changed["value"] == "none"
        assert made.ask("WCBE_PROPERTY_MSG", element="window", property="algorithm")["value"] == "none"
        assert (
            "cannot be changed" in made.ask("WCBE_PROPERTY_MSG", element="integrate", property="n", value="9")["error"]
        )
        assert "none of WCBE_RECORDING_MSG" in made.ask("WCBE_FLOW_MSG")["error"]
        assert "error" in made.ask("WCBE_RECORDING_MSG", recording={"scan": 5})
        made.dumps(20, 8)
        made.ask("WCBE_RECORDING_STOP_MSG", uid=scan.uid, stop_ns=START + 24 * DUMP, reason="next scan")
        done = made.done(scan.uid)
        assert (done["ending"], done["error"]) == ("stop", "")
        made.status_when(lambda status: status["counters"]["dumps"] == 18)
        assert "error" not in made.ask("WCBE_QUIT_MSG")
        assert wait_gone([made.child.identity], PATIENCE) == []
        assert made.child.stop() == 0
    integrations = list(BDF(str(part_path(directory, scan.uid))))
    assert len(integrations) == 6
    with BdfReader(part_path(directory, scan.uid), partial=True) as reader:
        flagged = [bool(item.cross_flags[0].any() or item.auto_flags[0].any()) for item in reader]  # type: ignore[index]
    assert flagged == [False, False, True, False, False, False]
    lag_sets = list(read_lag_sets(tmp_path / "sets" / "p1_2_RL.bls"))
    assert len(lag_sets) == 28
    product = [product.name for product in made.plan.products].index("p1_2_RL")
    group = made.plan.groups[0]
    assert (lag_sets[3].lags == group.lag_pairs(noise_slot(made.plan, 3))[product, 0]).all()
    assert lag_sets[3].headers[0]["cs_valid"] == GOOD


def test_a_flush_ends_the_recordings_and_a_term_the_process(tmp_path: Path) -> None:
    """Fault 23: a deactivation cuts there, in band: integrations before it are in the file, none across it. SIGTERM is clean."""
    directory = tmp_path / "bdf" / ".private"
    with node(tmp_path, "flag ! integrate n=4 ! dvnorm ! fft ! bdf") as made:
        made.record(scan_of(1, 0), directory)
        made.dumps(0, 6)
        made.ring.flush("deactivated")
        made.dumps(6, 4)
        done = made.done(make_uid(1))
        assert (done["integrations"], done["ending"]) == (1, "flush")
        status = made.status_when(lambda status: status["counters"]["dumps"] == 10)
        assert (status["counters"]["discarded"], status["recordings"]) == (1, {})
        made.record(scan_of(2, 8), directory)
        made.dumps(10, 4)
        made.status_when(lambda status: status["recordings"][make_uid(2)]["integrations"] == 1)
        assert made.child.stop(PATIENCE, signal.SIGTERM) == 0
        assert made.done(make_uid(2))["ending"] == "told"
    assert not (tmp_path / "P0.sock").exists()
    with BdfReader(part_path(directory, make_uid(2)), partial=True) as reader:
        assert len(reader) == 1


def test_a_scan_within_the_dumps_that_are_held(tmp_path: Path) -> None:
    """While the length of a dump is being learned no recording ends: what is held is written when the length is known."""
    configuration = observation("flag ! integrate n=2 ! dvnorm ! fft ! bdf", stations=2, dump_ns=0)
    plan, place = make_plan(configuration.pipe_products("P0")), tmp_path / "bdf" / ".private"
    wanted = [{"scan": msgspec.to_builtins(scan_of(1, 0, 2)), "directory": str(place)}]
    (tmp_path / "open.json").write_bytes(msgspec.json.encode(wanted))
    with (
        closing(RingWriter(tmp_path / "ring", plan, 8)) as writer,
        closing(RingReader(tmp_path / "ring", plan)) as ring,
        closing(ControlServer(tmp_path / "sock")) as control,
        closing(
            LagPipeline(configuration, "P0", configuration.pipes[0].text, ring, control, "c1/P0", tmp_path)
        ) as made,
    ):
        made.begin(tmp_path / "open.json")
        for number in range(6):
            slot = writer.open_slot()
            assert slot is not None
            writer.slot(slot)[:] = noise_slot(plan, number)
            writer.publish(slot, START + number * DUMP)
            made.step(PATIENCE)
    with BdfReader(part_path(place, make_uid(1)), partial=True) as reader:
        assert len(reader) == 1


def test_a_full_disk_ends_one_recording(tmp_path: Path) -> None:
    """Fault 28: on a real file system without room that recording ends with the reason, the process lives, the next works."""
    with tiny_disk(tmp_path / "small", 20 << 10) as small, node(tmp_path, "flag ! dvnorm ! fft ! bdf") as made:
        made.record(scan_of(1, 0), small / "full" / ".private")
        made.dumps(0, 12)
        done = made.done(make_uid(1))
        assert done["ending"] == "fault" and "No space left" in done["error"]
        made.record(scan_of(2, 12, 14), tmp_path / "bdf" / ".private")
        made.dumps(12, 2)
        assert made.done(make_uid(2))["integrations"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--pipe": "P9"}, "no product enters pipeline 'P9'"),
        ({"--configuration": "/nonexistent"}, "No such file"),
    ],
)
def test_what_cannot_work_says_why(tmp_path: Path, change: dict[str, str], words: str) -> None:
    """The process ends with a sentence and status 1."""
    (tmp_path / "c1.xml").write_text(write_configuration(observation(TEXT, stations=2)))
    options = {"--input": str(tmp_path / "ring"), "--configuration": str(tmp_path / "c1.xml"), "--pipe": "P0"}
    options |= {"--control": str(tmp_path / "sock"), "--name": "c1/P0", **change}
    argv = [
        sys.executable,
        "-m",
        "socs_bl.correlator.lagset_pipeline",
        *(word for pair in options.items() for word in pair),
    ]
    child = Child("pipeline", [*argv, TEXT], tmp_path / "log")
    assert wait_gone([child.identity], PATIENCE) == []
    assert child.stop() == 1 and words in child.log_tail()
