"""What carries a node's effects out: working directories, documents brought, processes that fail, markers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted

from socs_bl.core.config import load
from socs_bl.core.errors import Faulty, Refused, Retry, SocsError
from socs_bl.core.event import Event
from socs_bl.correlator.bring import bring, read_file
from socs_bl.correlator.children import NodeProcess
from socs_bl.correlator.config import NodeConfig
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.effects import Performer
from socs_bl.correlator.model import SendStop, SetFlow, StartIngest, WriteMarker
from socs_bl.correlator.ring import MINIMUM_SLOTS
from socs_bl.correlator.workdir import WorkDirectory, remove_left_over
from socs_bl.services.process import Identity, identify, write_record
from tests.correlator.dumps import observation
from tests.correlator.test_vci import document, subband
from tests.harness.agent_case import pause, until

TEXT = "flag ! integrate n=5 ! dvnorm ! fft ! bdf"


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkDirectory:
    """A working directory below the test's."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "shm").mkdir()
    return WorkDirectory("cbe-01", tmp_path / "shm")


def test_left_over_directories_are_removed(workdir: WorkDirectory, tmp_path: Path) -> None:
    """Those of killed lives of this instance, by pid and start time; not those of others, not those in use."""
    mine = identify(os.getpid())
    assert mine is not None
    dead = Identity(mine.pid, mine.start + 1, mine.boot)  # somebody else has this pid now
    for name, instance, owner in (("cbe1", "cbe-01", dead), ("cbe2", "cbe-02", dead), ("cbe3", "cbe-01", mine)):
        for path in (tmp_path / name, tmp_path / "shm" / name):
            path.mkdir()
            write_record(path, instance, owner)
    (tmp_path / "cbeX").mkdir()
    assert remove_left_over("cbe-01", tmp_path, tmp_path / "shm") == 2
    assert sorted(path.name for path in tmp_path.glob("cbe?")) == ["cbe2", "cbe3", "cbeX"]
    assert not (tmp_path / "shm/cbe1").exists() and (tmp_path / "shm/cbe3").exists()
    workdir.remove()
    assert not workdir.path.exists() and not workdir.rings.exists()


def test_names_too_long_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in which no socket can be made is told at the start, and leaves nothing."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(Faulty, match="TMPDIR"):
        WorkDirectory("cbe-01", tmp_path)
    assert not list(deep.iterdir())


def test_documents_are_brought(tmp_path: Path) -> None:
    """Configurations and VCI documents; rings as large as dumps that are open and a reserve need; limits."""
    text = write_configuration(observation(TEXT, stations=2))
    brought = bring(text, "c1", NodeConfig())
    assert brought.document == text and [pipe.name for pipe in brought.pipes] == ["P0"]
    assert brought.slots == 50 + 5, "half a second of dumps of 0.1 s is open; a restart takes five seconds"
    assert brought.pipes[0].ring_bytes > brought.slots * 10 * 1024
    assert bring(text, "c1", NodeConfig(slots=100)).pipes[0].ring_bytes > 100 * 10 * 1024
    assert [pipe.text for pipe in bring(document(subband(0)), "c1", NodeConfig()).pipes] == [
        "flag ! integrate n=5 ! dvnorm ! fft ! bdf"
    ]
    with pytest.raises(Refused, match="does not fit"):
        bring(
            write_configuration(observation(TEXT, 27, lags=4096, frames=16, recirculation=2)),
            "c1",
            NodeConfig(ring_bytes=1 << 20),
        )
    with pytest.raises(Refused, match="at most"):
        bring(text, "c1", NodeConfig(document_bytes=1024))
    (tmp_path / "made.xml").write_text(text)
    assert read_file(str(tmp_path / "made.xml"), 1 << 20) == text
    for path, words in (("made.xml", "not absolute"), (str(tmp_path), "no file"), (str(tmp_path / "none"), "no file")):
        with pytest.raises(Refused, match=words):
            read_file(path, 1 << 20)
    with pytest.raises(Refused, match="more than 10 bytes"):
        read_file(str(tmp_path / "made.xml"), 10)


def test_the_file_of_a_node(tmp_path: Path) -> None:
    """Limits and policies are read from YAML; what a ring cannot be is refused with the key."""
    path = tmp_path / "node.yaml"
    path.write_text("slots: 64\nring_bytes: 2097152\nrestart: {quarantine_after: 2}\n")
    assert load(path, NodeConfig).restart.quarantine_after == 2
    for text, words in (("slots: 3", "slots"), ("ring_bytes: 1", "ring_bytes"), ("colour: red", "colour")):
        path.write_text(text)
        with pytest.raises(Refused, match=words):
            load(path, NodeConfig)
    assert MINIMUM_SLOTS == 4


class Harness:
    """A performer with nothing behind it."""

    def __init__(self, workdir: WorkDirectory) -> None:
        from twisted.internet import reactor

        self.fed: list[Event] = []
        self.told: list[tuple[str, str]] = []

        async def in_thread(function: Any, *args: Any) -> Any:
            return function(*args)

        def alert(level: str, text: str) -> None:
            self.told.append((level, text))

        self.reactor: Any = reactor
        self.performer = Performer(
            "cbe-01", NodeConfig(), workdir, reactor, self.fed.append, alert, lambda name: None, lambda name: None,
            lambda name, pipe: [], in_thread,
        )  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_markers(workdir: WorkDirectory, tmp_path: Path) -> None:
    """The marker is JSON beside the file under the node's name; what cannot be written is to be tried again."""
    harness = Harness(workdir)
    marker = WriteMarker(
        uid="uid:///evla/bdf/7", directory=str(tmp_path), integrations=3, dropped=1, stop_ns=5, aborted=True, reason="x"
    )
    await harness.performer.perform(marker)
    written = json.loads((tmp_path / "uid____evla_bdf_7.cbe-01.done").read_bytes())
    assert written == {
        "node": "cbe-01", "integrations": 3, "dropped": 1, "stop_ns": 5, "aborted": True, "reason": "x",
    }  # fmt: skip
    with pytest.raises(Retry, match="No such file"):
        await harness.performer.perform(msgspec.structs.replace(marker, directory=str(tmp_path / "none")))
    workdir.remove()


@pytest_twisted.ensureDeferred
async def test_processes_that_are_not_there(workdir: WorkDirectory) -> None:
    """What is told to nobody fails and says so; nothing hangs."""
    harness = Harness(workdir)
    told = SendStop(configuration="a", pipe="P0", run=1, uid="uid:///evla/bdf/7", stop_ns=0, reason="")
    for effect in (SetFlow(run=1, on=True), told):
        with pytest.raises(Retry, match="does not run"):
            await harness.performer.perform(effect)
    await harness.performer.stop()
    workdir.remove()


async def failing(harness: Harness, workdir: WorkDirectory, arguments: Sequence[str], **more: Any) -> NodeProcess:
    """A process that does not answer."""
    ended: list[str] = []
    process = NodeProcess(
        harness.reactor, "sleeper", "timeit", arguments, workdir.socket(1), workdir.log("x"), lambda report: None,
        ended.append,
    )  # fmt: skip
    with pytest.raises(SocsError, match=more["words"]):
        await process.ready("WCBE_NAME_MSG")
    await until(lambda: len(ended) == 1, "its end is told")
    assert more["words"] in ended[0]
    return process


@pytest_twisted.ensureDeferred
async def test_a_process_that_ends_before_it_answers(workdir: WorkDirectory) -> None:
    """Its last words are in the error; its end is told once, and ending it again is harmless."""
    process = await failing(Harness(workdir), workdir, ["--no-such-option"], words="use -h/--help")
    process.kill()
    await process.quit(1.0)
    workdir.remove()


ANSWERING = """
import sys, time
from pathlib import Path
from socs_bl.correlator.control import ControlServer
server = ControlServer(Path(sys.argv[1]))
while True:
    for request in server.requests():
        request.respond(name="x")
    time.sleep(0.01)
"""


@pytest_twisted.ensureDeferred
async def test_a_process_that_hangs_is_ended(workdir: WorkDirectory) -> None:
    """It is stopped in its tracks: questions stay unanswered, and after its patience it is ended and told as such."""
    harness, ended = Harness(workdir), list[str]()
    (workdir.path / "answering.py").write_text(ANSWERING)
    process = NodeProcess(
        harness.reactor, "hanging", "answering", [str(workdir.socket(1))], workdir.socket(1), workdir.log("x"),
        lambda report: None, ended.append,
    )  # fmt: skip
    await process.ready("WCBE_NAME_MSG")
    process.patience = 0.05
    assert (await process.ask("WCBE_NAME_MSG"))["name"] == "x"
    os.kill(process.pid, signal.SIGSTOP)
    for _ in range(3):
        with pytest.raises(Retry):
            await process.ask("WCBE_NAME_MSG", timeout=0.1)
    await until(lambda: len(ended) == 1, "its end is told")
    assert "signal 9" in ended[0]
    await pause()  # the connection is given up in a turn of its own
    workdir.remove()


@pytest_twisted.ensureDeferred
async def test_an_ingest_process_that_cannot_be_started(
    workdir: WorkDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python without the package: the machine is told that it has failed, and nothing is left running."""
    broken = workdir.path / "python"
    broken.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    broken.chmod(0o755)
    assert subprocess.call([str(broken)], stderr=subprocess.DEVNULL) == 1
    monkeypatch.setattr(sys, "executable", str(broken))
    harness = Harness(workdir)
    with pytest.raises(SocsError, match="no such module"):
        await harness.performer.perform(StartIngest(run=1))
    workdir.remove()
