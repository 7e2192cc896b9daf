"""The tree mounted, used by the programs that everybody uses. The instances live in the process that mounts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from socs_bl.core.errors import Refused
from socs_bl.correlator.pipelinefs.mount import check_place
from tests.correlator.pipelinefs import memory
from tests.harness.fuse import mounted, need_fuse
from tests.harness.live import wait_until

pytestmark = pytest.mark.live

DOCUMENT = '<config name="a"><inputConfig/><outputConfig/><pipelineConfig/></config>\n'


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted tree with instance 01, and 03 whose agent hangs."""
    place = tmp_path_factory.mktemp("fuse") / "pipelines"
    with mounted([sys.executable, "-m", memory.__name__], place):
        yield place


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as people type it."""
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("ls", "01\n03\nREADME\nbdfdir\nerrors\nrecordings\n"),
        ("head -2 README", "/\n=\n"),
        ("echo udp://239.1.2.3:5000 > 01/src && cat 01/src", "udp://239.1.2.3:5000\n"),
        ("printf on > 01/flow && cat 01/flow", "on\n"),
        ("echo off >> 01/flow && cat 01/flow", "off\n"),
        ("echo localhost:9000 > 02 && cat 02/name && rmdir 02 && ls -d 0*", "02\n01\n03\n"),
        (
            f"echo '{DOCUMENT.strip()}' > ../a.xml && cp ../a.xml 01/configurations/a && cat 01/configurations/a/document",
            DOCUMENT,
        ),
        (
            f"echo '{DOCUMENT.strip()}' > ../b.xml && cd 01 && "
            "(head -c 30 ../../b.xml; tail -c +31 ../../b.xml) > configurations/b && "
            "echo 1 > activations/now-b && cat pending && echo on > flow && readlink active && cat active/autodestroy && "
            "echo $(( $(cat active/pipelines/INPUT_STAGE/src/properties/num-frames) )) && rmdir active/../b && cat pending",
            "activate b\nconfigurations/b\n0\n0\ndestroy b\n",
        ),
        ("stat -c '%A %F' . 01/flow 01/name 01/activations", "drwxrwxr-x directory\n-rw-rw-r-- regular file\n"
         "-r--r--r-- regular file\ndr-xr-xr-x directory\n"),
        ('df | grep -c "$PWD"; grep -c " $PWD fuse.pipelinefs " /proc/mounts', "0\n1\n"),
        (
            f"echo '{json.dumps(memory.SCAN)}' > recordings/{memory.SCAN_FILE}; ls 01/recordings; "
            f"rm 01/recordings/{memory.SCAN_FILE} && grep -c done 01/recordings/{memory.SCAN_FILE}",
            f"README\n{memory.SCAN_FILE}\n1\n",
        ),
    ],
)  # fmt: skip
def test_programs_read_and_write(top: Path, command: str, output: str) -> None:
    """Shells, coreutils and a document in parts do what they do elsewhere, and print this."""
    done = shell(command, top)
    assert (done.stdout, done.stderr if "recordings" not in command else "") == (output, "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo maybe > 01/flow", "Invalid argument"),
        ("echo x > 01/name", "Permission denied|Operation not permitted"),
        ("cat 01/rate", "No such file"),
        ("mkdir 02", "Operation not permitted"),
        ("touch 01/x", "Operation not permitted"),
        ("rmdir 01/configurations", "Operation not permitted"),
        ("cp README 01/configurations/z", "Invalid argument"),
        ("cat 03/flow", "Connection timed out"),
    ],
)
def test_programs_are_told_what_cannot_be(top: Path, command: str, said: str) -> None:
    """The number that fits, the sentence in errors (unless there is nothing to say)."""
    done = shell(command, top)
    assert done.returncode != 0
    assert any(text in done.stderr for text in said.split("|")), done.stderr
    sentence = (top / "errors").read_text(encoding="utf-8")
    assert command.startswith("cat 01/rate") or " /0" in sentence


def test_an_instance_that_hangs_keeps_nobody_waiting(top: Path) -> None:
    """With twenty readers of an instance that hangs, another one answers."""
    with ThreadPoolExecutor(20) as pool:
        stuck = [pool.submit(shell, "cat 03/flow", top) for _ in range(20)]
        assert shell("cat 01/name", top).stdout == "01\n"
        assert all(future.result().returncode == 1 for future in stuck)


@pytest.mark.parametrize("how", ["fusermount", "SIGTERM", "SIGINT"])
def test_it_unmounts_and_ends_in_order(tmp_path: Path, how: str) -> None:
    """By fusermount -u or a signal: nothing is mounted any more, and the process has ended well."""
    place = tmp_path / "pipelines"
    with mounted([sys.executable, "-m", memory.__name__], place) as child:
        if how == "fusermount":
            subprocess.run([need_fuse(), "-u", str(place)], check=True, timeout=30)
        else:
            os.kill(child.identity.pid, signal.Signals[how])
        wait_until(lambda: not child.running(), 60, what="the end of the file system")
        assert child.stop() == 0
    assert not os.path.ismount(place)


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A sentence, before FUSE says something else."""
    with pytest.raises(Refused, match="is not an empty directory"):
        check_place(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is not an empty directory"):
        check_place(tmp_path)
