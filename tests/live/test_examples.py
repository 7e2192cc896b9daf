"""The scripts that the documentation shows, and OCS's own client, on a running observatory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from socs_bl.services.observatory import Observatory
from tests.harness.examples import EXAMPLES, NIGHT
from tests.harness.live import wait_until

pytestmark = [pytest.mark.live, pytest.mark.network]


@pytest.mark.timeout(600)
def test_a_night_with_the_scripts_of_the_documentation(observatory: Observatory) -> None:
    """Every script ends well and shows what its page says: a night, with an early stop and a node that fails."""
    environment = {**os.environ, "OCS_CONFIG_DIR": str(observatory.run_dir)}
    for command, expected in NIGHT:
        program, *words = command.split()
        if program == "socs-bl":
            argv = ["-m", "socs_bl.cli.main", *words, "--run-dir", str(observatory.run_dir)]
        else:
            argv = [str(EXAMPLES / program)]
        done = subprocess.run([sys.executable, *argv], env=environment, capture_output=True, text=True, timeout=150)
        print(f"$ {command}\n{done.stdout[-4000:]}{done.stderr[-2000:]}")  # shown when the test fails
        assert done.returncode == 0, command
        assert re.search(expected, done.stdout), command


def test_ocs_finds_the_agents(observatory: Observatory) -> None:
    """``ocs-client-cli scan``, unmodified, as README and tutorial show it, lists every agent of ours."""
    environment = {**os.environ, "OCS_CONFIG_DIR": str(observatory.run_dir), "COLUMNS": "200"}
    program = Path(sys.executable).with_name("ocs-client-cli")
    wanted = {entry.instance_id for entry in observatory.site_file.started()}

    def listed() -> bool:
        """One scan listens for two seconds, in which a busy machine may not get all heartbeats out."""
        scan = subprocess.run([program, "scan"], env=environment, capture_output=True, text=True, timeout=60)
        assert scan.returncode == 0, scan.stderr
        return wanted <= set(scan.stdout.split())

    wait_until(listed, 90, what=f"a scan that lists {', '.join(sorted(wanted))}")
