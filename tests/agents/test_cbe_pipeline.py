"""The node of the correlator's back end: what every agent promises, and frames by multicast that become files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_twisted

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.cbe_pipeline.agent import CBEPipeline, add_agent_args
from socs_bl.bdf.finish import finish
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import Scan, encode_scan, file_name, make_uid
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.wire import build_frames
from socs_bl.services.process import children, free_port, wait_gone
from socs_bl.services.sqlite_journal import SqliteJournal
from socs_bl.simulators.frame_sender import FrameSender
from tests.correlator.dumps import observation
from tests.harness.agent_case import AgentCase, arguments, begun, end, ended, make_site_agent, pause, run_operation

pytestmark = [pytest.mark.live, pytest.mark.network]
GROUP, PORT = "239.192.51.1", free_port()
SOURCE = f"udp://{GROUP}:{PORT}?interface=127.0.0.1"
DUMP_NS = 50_000_000
PARTS = ("flags", "actualTimes", "actualDurations", "crossData", "autoData")
INTEGRATION_NS = 4 * DUMP_NS
TEXT = "flag ! integrate n=4 ! dvnorm ! fft ! bdf"
# The rings hold the dumps of the time that a pipeline needs to start on a busy machine.
CONFIG = "slots: 512\nframe_patience: 2\nrestart: {first_pause: 0.1}\n"
PATIENCE = 90.0
EMPTY = write_configuration(Configuration("c0"))


def make(site_agent: SiteAgent, directory: Path, *more: str) -> CBEPipeline:
    """A node with its journal and files below `directory`."""
    argv = ("--journal", f"sqlite://{directory}/journal.db", "--bdfdir", str(directory / "data/.private"), *more)
    (directory / "data/.private").mkdir(parents=True, exist_ok=True)
    return CBEPipeline(site_agent, arguments(add_agent_args(), *argv))


class TestCBEPipeline(AgentCase):
    """What every agent promises."""

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> CBEPipeline:
        self.journal = tmp_path / "journal.db"
        return make(site_agent, tmp_path, "--default-configuration")

    def parameters(self, name: str) -> dict[str, object] | None:
        scan = encode_scan(Scan(uid=make_uid(1), dataset_id="x", start_ns=1, stop_ns=2))
        known: dict[str, dict[str, object] | None] = {
            "create_configuration": {"name": "c1", "document": EMPTY},
            "activate_configuration": {"name": "c0"},
            "destroy_configuration": {"name": "c1"},
            "set_autodestroy": {"name": "c0", "autodestroy": True},
            "read_document": {"name": "c0"},
            "set_property": {"configuration": "c0", "pipeline": "P0", "element": "a", "property": "b", "value": "c"},
            "set_source": {"uri": SOURCE},
            "set_flow": {"flow": "off"},
            "set_framedump": {"mode": "none"},
            "set_bdfdir": {"directory": "/tmp"},
            "record": {"scan": scan},
            "stop_recording": {"uid": make_uid(1), "stop_ns": 1},
            "explain": {"subject": "c0"},
            "shutdown": None,  # it would end the test
        }
        return known.get(name, {})

    def state(self, agent: Any) -> object:
        journal = SqliteJournal(self.journal, "socs_bl:node:agent-1")
        try:
            return journal.load()
        finally:
            journal.close()


class Boards:
    """Sends every dump of a configuration's products as its time comes; the cross products have a flat spectrum."""

    def __init__(self, configuration: Configuration) -> None:
        self.products = configuration.products
        self.sender = FrameSender((GROUP, PORT), "mmsg", "127.0.0.1")
        self.next = time.time_ns() // DUMP_NS + 1

    def send_due(self) -> None:
        """Send the dumps whose time is over."""
        while (self.next + 1) * DUMP_NS <= time.time_ns():
            self.sender.send(self.frames(self.next * DUMP_NS))
            self.next += 1

    def frames(self, at: int) -> Any:
        """All frames of one dump: zero lag 1000 of 1000 counts, so that every channel is 1/128."""
        ends = [(product.x, product.y) for product in self.products]
        lags = np.zeros((len(ends), 128, 2), np.int32)
        lags[:, 64, 0] = 1000
        header = {
            "sid_x": [x.station for x, _ in ends], "bbid_x": [x.baseband for x, _ in ends],
            "sbid_x": [x.subband for x, _ in ends], "sid_y": [y.station for _, y in ends],
            "bbid_y": [y.baseband for _, y in ends], "sbid_y": [y.subband for _, y in ends], "nblocks": 1,
            "seconds": at // 10**9, "nanoseconds": at % 10**9, "dv_centre": 1000, "dv_edge": 1000, "board": 7,
        }  # fmt: skip
        return build_frames({key: np.asarray(value) for key, value in header.items()}, lags)


class Bench:
    """A node at work, and boards that send to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.configuration = observation(TEXT, stations=2, dump_ns=DUMP_NS)
        self.boards = Boards(self.configuration)
        (directory / "node.yaml").write_text(CONFIG)
        self.agent = make(make_site_agent("CBEPipeline"), directory, "--config", str(directory / "node.yaml"))

    async def do(self, operation: str, /, **parameters: object) -> dict[str, Any]:
        session = await run_operation(self.agent, operation, **parameters)
        assert session["success"], session["messages"]
        return session

    def data(self) -> dict[str, Any]:
        session = self.agent.session("run")
        assert session is not None and session.raw.status == "running", session and session.raw.messages
        return dict(session.data)

    async def until(self, wish: Callable[[], object], what: str) -> None:
        """Wait, and send what is due meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while not wish():
            assert time.monotonic() < deadline, f"{what}: {self.data()}"
            self.boards.send_due()
            await pause(0.01)

    async def begin(self, *names: str) -> None:
        """Run, with these configurations made, the first of them active."""
        await begun(self.agent, "run")
        await self.until(lambda: self.data().get("ingest", {}).get("state") == "running", "the ingest process runs")
        await self.do("set_source", uri=SOURCE)
        await self.do("set_flow", flow="on")
        for name in names:
            await self.do("create_configuration", name=name, document=write_configuration(self.configuration))
        await self.activate(names[0])

    async def activate(self, name: str) -> None:
        await self.do("activate_configuration", name=name)
        await self.until(lambda: self.data()["active"] == name, f"{name} is active")

    async def record(self, number: int) -> str:
        """A scan that begins now."""
        uid = make_uid(number)
        scan = Scan(uid=uid, dataset_id="x", config_id="cfg", start_ns=time.time_ns(), nodes=("agent-1",))
        await self.do("record", scan=encode_scan(scan))
        assert uid in self.data()["recordings"]
        return uid

    async def seconds(self, count: float) -> None:
        """So much of the frames' time passes."""
        last = time.time_ns() + count * 1e9
        await self.until(lambda: self.boards.next * DUMP_NS > last, "frames")

    async def stop(self, uid: str) -> BdfReader:
        """End a scan now, wait for the marker, and open what was written."""
        await self.do("stop_recording", uid=uid, stop_ns=time.time_ns())
        directory, name = self.directory / "data/.private", file_name(uid)
        await self.until((directory / f"{name}.agent-1.done").exists, "the marker is there")
        await self.until(lambda: self.data()["recordings"][uid]["state"] == "done", "the recording is over")
        finish(directory / f"{name}.part", None, "")
        return BdfReader(directory / f"{name}.part")

    def pid(self, name: str) -> int:
        assert self.agent.performer is not None
        return self.agent.performer.pids()[name]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A node that is not started yet."""
    made = Bench(tmp_path)
    yield made
    pytest_twisted.blockon(made.agent.site_agent.end())
    made.agent.close()
    made.boards.sender.close()


def whole(reader: BdfReader) -> list[bool]:
    """Of each integration, whether all of it is there, unflagged and with the right values."""
    found = []
    with contextlib.closing(reader):
        for number in range(len(reader)):
            integration = reader[number]
            good = not np.any(integration.cross_flags[0])
            assert not good or np.allclose(integration.cross[0], 1 / 128, atol=1e-6)
            found.append(good)
            del integration
    return found


@pytest_twisted.ensureDeferred
async def test_from_frames_to_a_file_over_direct_switches(bench: Bench) -> None:
    """Frames become integrations with the right numbers; A -> B -> C directly, with a scan over the switches."""
    await bench.begin("a", "b", "c")
    assert bench.data()["flow"] == "on" and bench.data()["pending"] == []
    first = await bench.record(1)
    await bench.seconds(2.0)
    written = whole(await bench.stop(first))
    assert len(written) >= 6 and all(written[:-1])
    second = await bench.record(2)
    await bench.seconds(1.0)
    for name in ("b", "c"):
        await bench.do("activate_configuration", name=name)
    await bench.until(lambda: bench.data()["active"] == "c", "c is active")
    await bench.seconds(1.5)
    reader = await bench.stop(second)
    written = whole(reader)
    assert sum(written) >= 6, written
    data = bench.data()
    assert data["counters"]["frames"] > 1000 and data["counters"]["bad"] == data["counters"]["missing"] == 0
    assert sum(board["good"] for board in data["boards"].values()) == data["counters"]["good"] and not data["last_bad"]
    assert set(data["recordings"][second]["writers"]) == {"a/P0", "b/P0", "c/P0"}
    document = (await bench.do("read_document", name="a"))["data"]
    assert document["text"] == write_configuration(bench.configuration) and document["total"] == len(document["text"])
    counted = (await bench.do("product_counters", count=3))["data"]
    assert counted["total"] == len(bench.configuration.products) and len(counted["products"]) == 3
    await bench.do("destroy_configuration", name="a")
    await bench.until(lambda: "a" not in bench.data()["configurations"], "a is destroyed")
    told = (await bench.do("explain", subject="c"))["data"]
    assert told["standing"] and told["chapters"]
    workdirs = list(Path(tempfile.gettempdir()).glob(f"cbe{os.getpid()}*"))
    await replayed(bench)
    end(bench.agent, "run")
    await ended(bench.agent, "run")
    assert workdirs and not any(path.exists() for path in workdirs), "a clean end removes the working directory"


def content(reader: BdfReader) -> list[tuple[int, list[bytes]]]:
    """Times and all numbers of each integration."""
    with contextlib.closing(reader):
        return [(each.time_ns, [each.raw(part).tobytes() for part in PARTS]) for each in reader]


async def replayed(bench: Bench) -> None:
    """Frames are dumped and played again as a file, into the same BDF; another source destroys all, its end removes it."""
    frames = bench.directory / "frames"
    frames.mkdir()
    await bench.do("set_framedump", mode="binary", directory=str(frames))
    live = await bench.record(8)
    await bench.seconds(1.5)
    recorded = content(await bench.stop(live))
    window = bench.data()["recordings"][live]
    await bench.do("set_framedump", mode="none")
    (file,) = frames.glob("*.blf")
    assert file.stat().st_size > 10 * 10 * 1064
    await bench.do("set_source", uri=f"file://{file}")
    await bench.until(lambda: not bench.data()["configurations"], "all configurations are destroyed")
    assert bench.data()["flow"] == "off" and bench.data()["source"]["kind"] == "file"
    await bench.do("set_playback", rate=2000)
    await bench.do("create_configuration", name="again", document=write_configuration(bench.configuration))
    await bench.do("activate_configuration", name="again")
    uid = make_uid(9)
    times = {name: window[name] for name in ("start_ns", "stop_ns")}
    scan = Scan(uid=uid, dataset_id="x", config_id="cfg", nodes=("agent-1",), **times)
    await bench.do("record", scan=encode_scan(scan))
    await bench.do("set_flow", flow="on")
    await bench.until(lambda: bench.data()["source"]["uri"] == "", "the file is at its end")
    assert bench.data()["flow"] == "off"
    await bench.until(lambda: bench.data()["recordings"][uid]["state"] == "done", "the recording is over")
    part = bench.directory / "data/.private" / f"{file_name(uid)}.part"
    finish(part, None, "")
    assert len(recorded) >= 2 and content(BdfReader(part)) == recorded


async def killed(bench: Bench, name: str, back: Callable[[], bool]) -> list[bool]:
    """Record, kill a process in the middle, record on; what was written."""
    uid = await bench.record(3 + len(name))
    await bench.seconds(1.0)
    os.kill(bench.pid(name), signal.SIGKILL)
    await bench.until(back, f"{name} is back")
    await bench.seconds(1.0)
    return whole(await bench.stop(uid))[:-1]  # the last one may not be complete


@pytest_twisted.ensureDeferred
async def test_killed_processes(bench: Bench) -> None:
    """Fault 25: a lag pipeline and the ingest process are killed in the middle of scans; both come back by themselves.

    A lag pipeline costs one flagged integration at most: its ring keeps the dumps that come meanwhile. With the ingest process
    the frames that come meanwhile are lost; what was written before stays, and what comes after goes into the same file.
    """
    await bench.begin("a")

    def pipeline_back() -> bool:
        line = bench.data()["configurations"]["a"]["pipelines"]["P0"]
        return line["restarts"] == 1 and line["state"] == "running"

    written = await killed(bench, "pipeline a/P0", pipeline_back)
    assert written[0] and written.count(False) <= 1, written

    def ingest_back() -> bool:
        data = bench.data()
        return data["ingest"] == {"state": "running", "restarts": 1} and data["active"] == "a"

    written = await killed(bench, "ingest", ingest_back)
    assert written[0] and written[-1] and not all(written), written


@pytest_twisted.ensureDeferred
async def test_a_killed_agent(bench: Bench) -> None:
    """kill -9 of the agent in the middle of a scan: its processes die with it; the next start goes on with all of it."""
    await bench.begin("a")
    uid = await bench.record(5)
    await bench.seconds(0.5)
    end(bench.agent, "run")
    await ended(bench.agent, "run")
    part = bench.directory / "data/.private" / f"{file_name(uid)}.part"
    before = part.stat().st_size
    command = [sys.executable, "-m", "tests.agents.test_cbe_pipeline", str(bench.directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as other:
        deadline = time.monotonic() + PATIENCE
        while part.stat().st_size <= before + 100_000:  # it records what the first life was told
            assert time.monotonic() < deadline and other.poll() is None
            bench.boards.send_due()
            await pause(0.01)
        left = [path for path in Path(tempfile.gettempdir()).glob(f"cbe{other.pid}*") if path.is_dir()]
        workers = children(other.pid)
        assert len(workers) == 2 and len(left) == 1
        other.kill()
    assert wait_gone(workers, 10.0) == []
    await begun(bench.agent, "run")
    await bench.until(lambda: bench.data().get("active") == "a", "a is active again")
    assert not left[0].exists() and not (Path("/dev/shm") / left[0].name).exists(), "what it left behind is removed"
    await bench.seconds(1.0)
    written = whole(await bench.stop(uid))
    assert written[0] and written[-2] and sum(written) < len(written), written


def main() -> None:
    """A node of its own, without a router."""
    from twisted.internet import reactor

    running: Any = reactor
    agent = make(make_site_agent("CBEPipeline"), Path(sys.argv[1]))
    running.callWhenRunning(agent.start_own, "run")
    running.run()


if __name__ == "__main__":
    main()
