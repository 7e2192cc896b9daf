"""Circus: a real circusd obeys, and hosts that are busy, mute, mad or gone cost only their own callers time."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import zmq
from twisted.internet import reactor

from socs_bl.commensal.circus import Circus
from socs_bl.commensal.config import CommensalConfig, SupervisorConfig
from socs_bl.commensal.model import LegacyReturn, StartProcessing
from socs_bl.commensal.supervisor import GATEWAY, RECORDER, CircusSupervisor
from socs_bl.core.errors import Faulty, Retry
from socs_bl.services.process import Child, free_port
from tests.commensal.bench import CONFIG, Bench

PATIENCE = 60.0
SHORT = 0.8
SETTINGS = CommensalConfig.model_validate(CONFIG)

_PROGRAM = """\
import signal, sys, time
path, name, slowness = sys.argv[1:]
def note(text):
    with open(path, "a") as log:
        log.write(text + "\\n")
def end(*_):
    if float(slowness):
        note("stopping")
        time.sleep(float(slowness))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note(name)
time.sleep(600)
"""


class Node:
    """A circusd of our own on loopback; its watchers write their names when they start."""

    def __init__(self, directory: Path) -> None:
        self.port, self.log = free_port(), directory / "started"
        program = directory / "program.py"
        program.write_text(_PROGRAM)
        lines = [
            "[circus]",
            f"endpoint = tcp://127.0.0.1:{self.port}",
            f"pubsub_endpoint = tcp://127.0.0.1:{free_port()}",
        ]
        for watcher, slowness in (
            ("bluse_analyzer_0", 0),
            ("bluse_hashpipe_1", 0),
            ("bluse_redisgw_1", 0),
            ("slow", 2),
        ):
            lines += [
                f"[watcher:{watcher}]",
                f"cmd = {sys.executable} {program} {self.log} {watcher} {slowness}",
                "singleton = True",
                "respawn = False",
                f"autostart = {watcher != 'bluse_analyzer_0'}",
                "graceful_timeout = 30",
            ]
        ini = directory / "circus.ini"
        ini.write_text("\n".join(lines))
        circusd = Path(sys.executable).with_name("circusd")
        self.child = Child("circusd", [sys.executable, str(circusd), str(ini)], directory / "circusd.log")
        self.child.wait_ready(lambda: len(self.started()) >= 3, PATIENCE)

    def started(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    found = Node(tmp_path_factory.mktemp("circus"))
    yield found
    found.child.stop()


@pytest.fixture
def circus() -> Iterator[Callable[..., Circus]]:
    """Makes clients, closed after the test."""
    made: list[Circus] = []

    def make(endpoint: str, deadline: float = PATIENCE) -> Circus:
        made.append(Circus(endpoint, deadline))
        return made[-1]

    yield make
    for client in made:
        client.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def listener() -> Iterator[tuple[int, zmq.Socket[bytes]]]:
    """A ROUTER on a port of its own, which the test answers for."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    yield port, router
    router.close(linger=0)
    context.term()


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_real_circusd_obeys(node: Node, circus: Callable[..., Circus]) -> None:
    """Analyzer, recorder and gateway of an instance are the watchers the configuration names; each is really started."""
    config = SupervisorConfig(kind="circus", endpoint=f"tcp://127.0.0.1:{node.port}", deadline=PATIENCE)
    supervisor = CircusSupervisor(config, reactor)
    try:
        request = StartProcessing(instance="blpn64/0", run="run", datadir="/buf0/x", duration=20.0)
        await supervisor.start_processing(request)
        until(lambda: "bluse_analyzer_0" in node.started())
        circus(f"tcp://127.0.0.1:{node.port}").send("any", "stop", "bluse_analyzer_0").result(PATIENCE)
        await supervisor.start_processing(request)  # not started again: its result would be lost behind a 0
        assert node.started().count("bluse_analyzer_0") == 1
        for run in ("later", "latest"):  # a start of one that runs is answered with ok
            await supervisor.start_processing(
                StartProcessing(instance="blpn64/0", run=run, datadir="/buf0/y", duration=20.0)
            )
        until(lambda: node.started().count("bluse_analyzer_0") == 2)
        for part, watcher in ((RECORDER, "bluse_hashpipe_1"), (GATEWAY, "bluse_redisgw_1")):
            before = len(node.started())
            await supervisor.restart("blpn64/1", part)
            until(lambda before=before: len(node.started()) > before)  # type: ignore[misc]
            assert node.started()[before:] == [watcher]
        assert node.started().count("bluse_analyzer_0") == 2
        with pytest.raises(Faulty, match=r"bluse_redisgw_7.*look at its watchers"):
            await supervisor.restart("blpn64/7", GATEWAY)
    finally:
        supervisor.close()


@pytest.mark.live
def test_a_busy_arbiter_is_asked_again(node: Node, circus: Callable[..., Circus]) -> None:
    """While another's exclusive command runs, ours waits and is done after it; with less time, Retry says busy."""
    patient, hasty = circus(f"tcp://127.0.0.1:{node.port}"), circus(f"tcp://127.0.0.1:{node.port}", SHORT)
    other = circus(f"tcp://127.0.0.1:{node.port}").send("any", "restart", "slow")
    until(lambda: "stopping" in node.started())
    refused = hasty.send("any", "restart", "bluse_redisgw_1")
    with pytest.raises(Retry, match="already running"):
        refused.result(PATIENCE)
    assert not other.done()
    assert patient.send("any", "restart", "bluse_redisgw_1").result(PATIENCE)["status"] == "ok"
    assert other.result(PATIENCE)["status"] == "ok"


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_program_that_hangs_is_restarted(node: Node) -> None:
    """circusd waits for a program that does not end; its restart is not given up after the time of other commands."""
    config = SupervisorConfig(kind="circus", endpoint=f"tcp://127.0.0.1:{node.port}", deadline=SHORT, recorder="slow")
    supervisor = CircusSupervisor(config, reactor)
    try:
        before = node.started().count("slow")
        await supervisor.restart("blpn64/0", RECORDER)
        until(lambda: node.started().count("slow") == before + 1)
    finally:
        supervisor.close()


@pytest.mark.live
def test_dead_hosts_do_not_hold_up_others(node: Node, circus: Callable[..., Circus]) -> None:
    """Twenty hosts without anybody and one that accepts and is mute wait for nothing; the living one obeys meanwhile."""
    mute = socket.create_server(("127.0.0.1", 0))
    client = circus("tcp://{host}")
    try:
        ports = [mute.getsockname()[1], *(free_port() for _ in range(20))]
        waiting = [client.send(f"127.0.0.1:{port}", "start", "x") for port in ports]
        alive = client.send(f"127.0.0.1:{node.port}", "start", "bluse_redisgw_1")
        assert alive.result(PATIENCE)["status"] == "ok"
        assert not any(answer.done() for answer in waiting)
    finally:
        mute.close()


@pytest.mark.live
def test_a_command_given_up_is_not_delivered_later(circus: Callable[..., Circus]) -> None:
    """When a dead host comes back, it does not get the commands whose callers were told that there was no answer."""
    port = free_port()
    client = circus(f"tcp://127.0.0.1:{port}", SHORT)
    with pytest.raises(Retry, match="does not answer within 0.8 s; look at the host"):
        client.send("any", "restart", "old").result(PATIENCE)
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    try:
        router.bind(f"tcp://127.0.0.1:{port}")
        client.send("any", "restart", "new")
        assert json.loads(router.recv_multipart()[-1])["properties"]["name"] == "new"
        assert not router.poll(200)
    finally:
        router.close(linger=0)
        context.term()


@pytest.mark.live
@pytest.mark.parametrize("garbage", [b"", b"\xff\x00", b"[]", b"3", b'{"id": 1}', b"[" * 5000, b'{"status": "ok"}'])
def test_garbage_is_told(listener: tuple[int, Any], circus: Callable[..., Circus], garbage: bytes) -> None:
    """A host that answers what is no answer is named as faulty; the next command to it works as if nothing had been."""
    port, router = listener
    client = circus(f"tcp://127.0.0.1:{port}")
    answer = client.send("any", "start", "a")
    router.send_multipart([router.recv_multipart()[0], garbage])
    with pytest.raises(Faulty, match="no answer of circusd"):
        answer.result(PATIENCE)
    answer = client.send("any", "start", "b")
    sender, body = router.recv_multipart()
    router.send_multipart([sender, json.dumps({"id": json.loads(body)["id"], "status": "ok"}).encode()])
    assert answer.result(PATIENCE)["status"] == "ok"


@pytest.mark.live
def test_one_command_at_a_time_in_order(listener: tuple[int, Any], circus: Callable[..., Circus]) -> None:
    """A host gets the next command only after its answer to the one before, and late answers are nobody else's."""
    port, router = listener
    client = circus(f"tcp://127.0.0.1:{port}")
    answers = [client.send("any", "start", name) for name in "abc"]
    for name, answer in zip("abc", answers, strict=True):
        sender, body = router.recv_multipart()
        assert json.loads(body) | {"id": ""} == {
            "id": "",
            "command": "start",
            "properties": {"name": name, "waiting": True, "match": "simple"},
        }
        assert not router.poll(50), "the second came before the first was answered"
        router.send_multipart([sender, json.dumps({"id": "an older one", "status": "ok"}).encode()])
        router.send_multipart([sender, json.dumps({"id": json.loads(body)["id"], "status": "ok"}).encode()])
        answer.result(PATIENCE)


@pytest.mark.live
def test_closing_ends_what_waits(circus: Callable[..., Circus]) -> None:
    """Nobody waits for a client that was closed."""
    client = circus(f"tcp://127.0.0.1:{free_port()}")
    answers = [client.send("any", "start", name) for name in "ab"]
    client.close()
    for answer in [*answers, client.send("any", "start", "c")]:
        with pytest.raises(Retry, match="closed"):
            answer.result(PATIENCE)


def test_a_return_without_a_run_keeps_its_code() -> None:
    """An analyzer of circus returns once, without a run: its code counts at once for the run its instance works for, and
    nobody asks it again; the subarray is ready again."""
    bench = Bench(supervisor={"kind": "circus"})
    bench.subscribe()
    bench.process()
    assert not bench.wanted(StartProcessing)
    for name, code in (("blpn64/0", 0), ("blpn64/1", 1)):
        bench.say(LegacyReturn(instance=name, code=code, code2=-1))
    assert bench.states() == ("SUBSCRIBED", "READY") and not bench.wanted(StartProcessing)
    assert "codes 0: 1, 1: 1" in bench.notices[-1].text and not bench.quarantined()
    assert not [name for name in bench.timers if name.startswith(("legacy/", "ask/"))]
