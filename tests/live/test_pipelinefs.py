"""The page of pipelinefs, command by command: a real router, a real instance, a real mount, frames on multicast."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ocs import site_config

from socs_bl.cli.nodes import INLINE_LIMIT, WampNodes
from socs_bl.core.errors import Refused, Retry
from socs_bl.correlator.pipelinefs import Instances, Tree
from socs_bl.correlator.wire import build_frames
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.process import Identity, end, identify
from socs_bl.simulators.frame_sender import FrameSender
from tests.harness.examples import DOCS, EXAMPLES
from tests.harness.fuse import need_fuse, unmount
from tests.harness.live import Agents, wait_until, write_site

pytestmark = [pytest.mark.live, pytest.mark.network]

SECTIONS = ("Typical usage", "Shutting down")
BOARD = ("239.192.61.1", 15961)
DUMP_NS = 100_000_000
PATIENCE = 120.0  # seconds until a command that only looks prints what it should; loops may have to be compiled
LOOKS = ("ls", "cat", "readlink")
PROGRAMS = {"pipelinefs": "socs_bl.cli.pipelinefs", "wcbe-setup": "socs_bl.cli.setup"}


def commands() -> Iterator[tuple[str, str]]:
    """The commands of the page with what they print, in order."""
    page = (DOCS / "pipelinefs.rst").read_text(encoding="utf-8")
    parts = re.split(r"^(.+)\n=+\n", page, flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    for section in SECTIONS:
        for block in re.findall(r"\.\. code-block:: console\n\n((?:    .*\n|\n)+)", sections[section]):
            for text in re.split(r"^    \$ ", block, flags=re.M)[1:]:
                command, _, printed = text.replace("\\\n", "").partition("\n")
                yield command, "".join(line.removeprefix("    ") + "\n" for line in printed.splitlines() if line)


@contextlib.contextmanager
def board() -> Iterator[None]:
    """A baseline board that sends the frames of two stations, ten dumps a second."""
    over = threading.Event()
    x, y = np.array([1, 1, 2]), np.array([1, 2, 2])
    lags = np.zeros((3, 128, 2), np.int32)
    lags[:, 64, 0] = 1000

    def send() -> None:
        with FrameSender(BOARD, "plain") as sender:
            while not over.wait(0.1):
                seconds, rest = divmod(time.time_ns() // DUMP_NS * DUMP_NS, 10**9)
                header = {"sid_x": x, "sid_y": y, "seconds": seconds, "nanoseconds": rest, "nblocks": 1}
                sender.send(build_frames({**header, "dv_centre": 2000, "dv_edge": 2000, "cs_valid": 1}, lags))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def environment(tmp_path: Path, router: CrossbarNode) -> Iterator[dict[str, str]]:
    """Where the commands run: programs on the path, a site, the example; what is left is unmounted and ended."""
    fusermount = need_fuse()
    write_site(tmp_path, router.hub, [])
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in PROGRAMS.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    (programs / "fusermount").symlink_to(fusermount)
    (tmp_path / "pair.xml").write_bytes((EXAMPLES / "pair.xml").read_bytes())
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "OCS_CONFIG_DIR": ".", "TMPDIR": str(tmp_path)}
    state["SPT_NOENV"] = "1"  # titles of processes would be written over the environment by which they are found
    path = f"{programs}:{os.environ['PATH']}"
    yield {**os.environ, **state, "PATH": path, "PYTHONPATH": str(DOCS.parent)}
    unmount(fusermount, tmp_path / "pipelines")
    assert end(started(tmp_path), 5.0) == []


def started(directory: Path) -> list[Identity]:
    """Processes of this test that are not our children: they were started to outlive those who started them."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                entry.name.isdigit()
                and f"XDG_STATE_HOME={directory}/state".encode() in (entry / "environ").read_bytes()
            ):
                found.append(identify(int(entry.name)))
    return [identity for identity in found if identity is not None]


def matches(printed: str, expected: str) -> bool:
    """``...`` stands for anything."""
    return re.fullmatch(re.escape(expected).replace(re.escape("..."), ".+"), printed) is not None


@pytest.mark.timeout(280)
def test_the_page_command_by_command(tmp_path: Path, environment: dict[str, str]) -> None:
    """Typical usage and shutting down: every command ends well and prints what the page shows; nothing is left."""
    listed = list(commands())
    assert len(listed) > 15
    with board():
        for command, expected in listed:

            def done(command: str = command, expected: str = expected) -> bool:
                ran = subprocess.run(
                    ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
                )
                print(f"$ {command}\n{ran.stdout}{ran.stderr}")  # shown when the test fails
                return ran.returncode == 0 and matches(ran.stdout, expected)

            if command.split()[0] in LOOKS:
                wait_until(done, PATIENCE, 0.1, what=command)
            else:
                assert done(), command
    assert not os.path.ismount(tmp_path / "pipelines")
    wait_until(lambda: not started(tmp_path), 60, what="the end of the instance's processes")


def test_an_agent_through_the_tree(
    tmp_path: Path, site_dir: Callable[..., Path], run_agents: Callable[[Path], Agents]
) -> None:
    """The agent's own words, long documents, an agent that is stopped, and its end, as the tree shows them."""
    entry = {"agent-class": "CBEPipeline", "instance-id": "cbe-02", "arguments": ["--state-dir", str(tmp_path)]}
    site = site_dir([entry]) / "default.yaml"
    agents = run_agents(site)
    agents.start("cbe-02")
    options = site_config.add_arguments().parse_args(["--site-file", str(site)])
    tree = Tree(Instances(WampNodes(options, tmp_path), patience=2.0))
    write(
        tree, "/02", b"localhost:9000\n"
    )  # connected: a template for another host would be refused, a start would fail
    assert tree.read("/02/name") == b"02\n"
    with pytest.raises(Refused, match="'http://x"):
        tree.write("/02/src", b"http://x\n")
    with pytest.raises(Refused, match="line 2"):
        write(tree, "/02/configurations/bad", b"<config>\n <wrong/>\n</config>\n")
    pair = (EXAMPLES / "pair.xml").read_bytes()
    comment = b"<!-- " + 20_000 * b"sixty characters that make a document long, as real ones are " + b"-->"
    long = pair.replace(b"</config>", comment + b"\n</config>")
    assert len(long) > INLINE_LIMIT
    write(tree, "/02/configurations/long", long)
    assert tree.read("/02/configurations/long/document").strip() == long.strip()
    assert list(tmp_path.glob("*.xml")) == []
    assert tree.list("/02/configurations/long/pipelines") == ["INPUT_STAGE", "P0", "README"]
    os.kill(agents.children["cbe-02"].pid, signal.SIGSTOP)
    try:
        wait_until(lambda: failed(tree, "/02/flow"), what="a reader that is told that the instance does not answer")
        assert "configurations" in tree.list("/02")
    finally:
        os.kill(agents.children["cbe-02"].pid, signal.SIGCONT)
    wait_until(lambda: not failed(tree, "/02/flow"), what="an answer")
    tree.rmdir("/02")
    assert "02" not in tree.list("/")
    wait_until(lambda: not agents.children["cbe-02"].running(), 60, what="the agent's end")


def write(tree: Tree, path: str, content: bytes) -> None:
    """A new file, written in one go."""
    draft = tree.create(path)
    try:
        draft.write(content)
    finally:
        draft.close()


def failed(tree: Tree, path: str) -> bool:
    """Whether a file cannot be read for want of an answer."""
    try:
        tree.read(path)
    except Retry:
        return True
    return False
