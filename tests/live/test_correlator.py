"""The correlator's back end as a user meets it: the tutorial command by command, and the demonstration's part of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.examples import CORRELATOR, EXAMPLES, console, printed_as_shown
from tests.harness.live import REPOSITORY, wait_until

pytestmark = [pytest.mark.live, pytest.mark.network]

PATIENCE = 240.0
# Repeated until they print what the page shows.
LOOKS = ("ls", "grep", "python -c", "OCS_CONFIG_DIR=$PWD/run ocs-client-cli")
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where the tutorial's commands run; what they started is ended."""
    for name in CORRELATOR:
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "COLUMNS": "200"}
    yield environment
    argv = [str(PROGRAMS / "socs-bl"), "down"]
    subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, timeout=120)


@pytest.mark.timeout(PATIENCE + 60)
def test_the_tutorial_command_by_command(tmp_path: Path, environment: dict[str, str]) -> None:
    """From lag frames to a BDF: every command of the page ends well and prints what the page shows."""
    for command, shown in console("correlator-tutorial.rst"):

        def done(command: str = command, shown: str = shown) -> bool:
            ran = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
            )
            print(f"$ {command}\n{ran.stdout}{ran.stderr}")  # shown when the test fails
            return ran.returncode == 0 and printed_as_shown(ran.stdout, shown)

        if command.startswith(LOOKS):
            wait_until(done, 60, 0.2, what=command)
        else:
            assert done(), command


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], str]:
    """Exit status, summary and output of ``socs-bl demo --only correlator``."""
    directory = tmp_path_factory.mktemp("demo")
    argv = [sys.executable, "-m", "socs_bl.cli.main", "demo", "--only", "correlator"]
    argv += ["--run-dir", str(directory / "run"), "--summary", str(directory / "summary.json")]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE)
    summary = json.loads((directory / "summary.json").read_text()) if (directory / "summary.json").exists() else {}
    return done.returncode, summary, done.stdout + done.stderr


@pytest.mark.timeout(PATIENCE + 60)
def test_what_is_put_into_lag_frames_is_in_published_files(demo: tuple[int, dict[str, Any], str]) -> None:
    """Status 0 only when amplitude, delays and place of every source agree with what was injected, within the noise."""
    status, summary, output = demo
    assert status == 0, output
    section = summary["correlator"]
    assert summary["ok"] is True and section["ok"] is True
    assert [scan["source"] for scan in section["scans"]] == ["J1331+3030", "J1347+1217", "J1407+2827"]
    assert all(scan["integrations"] >= 7 and scan["flagged"] < 0.2 for scan in section["scans"])
    errors = {row["what"].split()[0]: row["error"] for row in section["rows"]}
    assert errors["delay"] < 10 and errors["east"] < 0.02 and errors["amplitude"] < 0.1, "the limits mean something"
    assert len(section["rows"]) == 11


def test_others_read_the_published_files(demo: tuple[int, dict[str, Any], str]) -> None:
    """pyasdm opens the execution block and every file it names."""
    from pyasdm import ASDM
    from pyasdm.bdf.BDFReader import BDFReader

    block = ASDM()
    block.setFromFile(demo[1]["correlator"]["sdm"])
    rows = block.getMain().get()
    assert len(rows) == 3
    for path in sorted((Path(demo[1]["correlator"]["sdm"]) / "ASDMBinary").iterdir()):
        reader = BDFReader()
        reader.open(str(path))
        assert reader.hasSubset()
        reader.close()
