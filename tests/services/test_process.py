"""Children die with their parent, and nobody else is hit in their place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from socs_bl.core.errors import Faulty, Refused
from socs_bl.services import process
from socs_bl.services.process import Child, Identity
from tests.harness.live import REPOSITORY

FOREVER = [sys.executable, "-S", "-c", "import signal; print('up', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); [signal.pause() for _ in iter(int, 1)]",
]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """A child that waits for ever and has said that it is up."""
    child = Child("waiter", FOREVER, tmp_path / "log")
    child.wait_ready(lambda: "up" in child.log_tail(), 30.0)
    yield child
    child.kill()


def test_an_identity_is_one_process_only(child: Child) -> None:
    """The same pid with another start time or of another boot is somebody else and gets no signal."""
    identity = process.identify(child.pid)
    assert identity == child.identity
    for stranger in (
        msgspec.structs.replace(identity, start=identity.start + 1),
        msgspec.structs.replace(identity, boot="another boot"),
    ):
        assert process.open_exactly(stranger) is None
        assert not process.signal_exactly(stranger, signal.SIGKILL)
        assert process.end([stranger], 0.0) == []
    assert child.running()
    assert process.signal_exactly(identity, signal.SIGKILL)
    assert process.wait_gone([identity], 10.0) == []
    assert process.identify(child.pid) is None


def test_a_name_with_parentheses_does_not_confuse_stat(tmp_path: Path) -> None:
    """/proc/<pid>/stat holds the program's name unescaped; the fields after it are found all the same."""
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    child = Child("odd", [str(program), *FOREVER[1:]], tmp_path / "log")
    try:
        child.wait_ready(lambda: "up" in child.log_tail(), 30.0)
        assert process.identify(child.pid) == child.identity
        assert child.identity in process.children(os.getpid())
    finally:
        child.kill()


def test_stop_is_bounded_and_repeatable(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after the grace; stopping it again is harmless."""
    child = Child("stubborn", STUBBORN, tmp_path / "log")
    child.wait_ready(lambda: "up" in child.log_tail(), 30.0)
    assert child.stop(grace=0.1) == -signal.SIGKILL
    assert child.stop() == -signal.SIGKILL
    assert not child.running()


def test_killing_takes_the_whole_group(tmp_path: Path) -> None:
    """What a child has started goes with it."""
    script = f"sleep 600 & echo $! > {tmp_path}/pid; echo up; wait"
    child = Child("shell", ["sh", "-c", script], tmp_path / "log")
    child.wait_ready(lambda: "up" in child.log_tail(), 30.0)
    grandchild = process.identify(int((tmp_path / "pid").read_text()))
    assert grandchild is not None
    child.kill()
    assert process.wait_gone([grandchild], 10.0) == []


def test_an_early_end_and_a_late_start_show_the_log(tmp_path: Path) -> None:
    """The error says what the child said, not what an earlier one wrote into the same log."""
    log = tmp_path / "log"
    log.write_text("old news\n")
    child = Child("failing", ["sh", "-c", "echo no such luck; exit 3"], log)
    with pytest.raises(Faulty, match="no such luck") as caught:
        child.wait_ready(lambda: False, 30.0)
    assert "old news" not in str(caught.value)
    assert child.stop() == 3
    absent = Child("absent", [str(tmp_path / "nothing")], log)
    with pytest.raises(Faulty, match="cannot run .*nothing: No such file"):
        absent.wait_ready(lambda: False, 30.0)
    absent.stop()
    slow = Child("slow", FOREVER, log)
    with pytest.raises(Faulty, match="slow was not ready within 0 s"):
        slow.wait_ready(lambda: False, 0.0)
    slow.kill()


def test_children_are_not_started_in_threads(tmp_path: Path) -> None:
    """The kernel would kill such a child at the end of its thread, so it is refused."""
    refused: list[Refused] = []

    def start() -> None:
        try:
            Child("threaded", FOREVER, tmp_path / "log")
        except Refused as error:
            refused.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(refused) == 1


def test_records_survive_and_damaged_ones_are_left_out(tmp_path: Path, child: Child) -> None:
    """A record comes back as it was written; half a file is no record."""
    process.write_record(tmp_path / "pids", "waiter", child.identity)
    (tmp_path / "pids" / "half.json").write_text('{"pid": 1')
    assert process.read_records(tmp_path / "pids") == {"waiter": child.identity}
    assert process.read_records(tmp_path / "nowhere") == {}


def test_marked_processes_are_found_with_their_descendants(tmp_path: Path) -> None:
    """The mark in the environment is inherited, so that what an agent started is found too; other values are not ours."""
    script = "sleep 600 & echo up; wait"
    mark = str(tmp_path)
    ours = Child("ours", ["sh", "-c", script], tmp_path / "ours", env={"SOCS_BL_TEST_MARK": mark})
    other = Child("other", ["sh", "-c", script], tmp_path / "other", env={"SOCS_BL_TEST_MARK": mark + "/x"})
    try:
        for child in (ours, other):
            child.wait_ready(lambda child=child: "up" in child.log_tail(), 30.0)  # type: ignore[misc]
        found = process.marked("SOCS_BL_TEST_MARK", mark)
        assert {identity.pid for identity in found} == {ours.pid, *(c.pid for c in process.children(ours.pid))}
        assert len(found) == 2
        assert process.end(found, 5.0) == []
        assert other.running()
    finally:
        ours.kill()
        other.kill()


def _identity(text: str) -> Identity:
    identity = process.identify(int(text))
    assert identity is not None
    return identity


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the parent, who can do nothing any more, ends a child and a Python child that asked for it itself."""
    grandchild = """
import signal
from socs_bl.services.process import die_with_parent
die_with_parent()
print("up", flush=True)
signal.pause()
"""
    parent = f"""
import signal, subprocess, sys
from pathlib import Path
from socs_bl.services.process import Child
child = Child("child", {FOREVER!r}, Path({str(tmp_path / "log")!r}))
child.wait_ready(lambda: "up" in child.log_tail(), 30.0)
other = subprocess.Popen([sys.executable, "-c", {grandchild!r}], stdout=subprocess.PIPE)
other.stdout.readline()
print(child.pid, other.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as running:
        assert running.stdout is not None
        identities = [_identity(pid) for pid in running.stdout.readline().split()]
        assert len(identities) == 2
        running.kill()
    assert process.wait_gone(identities, 10.0) == []


@pytest.mark.live
def test_services_die_with_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the process that started Redis and crossbar leaves neither of them, nor crossbar's worker."""
    parent = f"""
import signal
from pathlib import Path
from socs_bl.services.process import children
from socs_bl.services.redis_server import RedisServer
from socs_bl.services.crossbar_node import CrossbarNode
redis, node = RedisServer(Path({str(tmp_path)!r}) / "redis"), CrossbarNode(Path({str(tmp_path)!r}) / "crossbar")
redis.start()
node.start()
print(redis.child.pid, node.child.pid, *(child.pid for child in children(node.child.pid)), flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as running:
        assert running.stdout is not None
        identities = [_identity(pid) for pid in running.stdout.readline().split()]
        assert len(identities) == 3
        running.kill()
    assert process.wait_gone(identities, 20.0) == []
