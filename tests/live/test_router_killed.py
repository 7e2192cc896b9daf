"""kill -9 of the router with all agents attached: everything runs on and is reachable again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from socs_bl.services import process
from socs_bl.services.observatory import Observatory
from socs_bl.services.process import Identity
from socs_bl.services.run_dir import MARK
from tests.harness.live import wait_until

pytestmark = [pytest.mark.live, pytest.mark.network]


def agents(observatory: Observatory) -> set[Identity]:
    """Processes of agents: those that OCS started."""
    marked = process.marked(MARK, str(observatory.run_dir))
    return {one for one in marked if "ocs-agent" in " ".join(process.command_line(one.pid))}


def sessions(observatory: Observatory) -> dict[str, int]:
    """Number of the session of every process that runs, by agent and operation."""
    found = {}
    for entry in observatory.site_file.started():
        for name, session, *_ in observatory.operator.api(entry.instance_id)["processes"]:
            if session.get("status") == "running":
                found[f"{entry.instance_id}.{name}"] = int(session["session_id"])
    return found


# The new router belongs to the observatory, which outlives the test.
@pytest.mark.may_leave("processes", "descriptors")
@pytest.mark.timeout(400)
def test_a_killed_router_stops_nobody(observatory: Observatory) -> None:
    """No agent ends, no process is started again, and every agent answers at the new router."""
    names = [entry.instance_id for entry in observatory.site_file.started()]
    before, running = agents(observatory), sessions(observatory)
    assert len(before) >= len(names) and any("coordinator.coordinate" in name for name in running)
    assert observatory.router is not None and observatory.router.child is not None
    os.kill(observatory.router.child.pid, signal.SIGKILL)
    wait_until(lambda: "crossbar" in observatory.supervise(60.0), 120, what="the router started again")
    wait_until(lambda: all(observatory.operator.answers(name) for name in names), 120, what="every agent's answer")
    assert agents(observatory) == before
    assert sessions(observatory) == running


def test_ocs_finds_the_agents(observatory: Observatory) -> None:
    """OCS's own client, unmodified, lists every agent of ours."""
    environment = {**os.environ, "OCS_CONFIG_DIR": str(observatory.run_dir)}
    program = Path(sys.executable).with_name("ocs-client-cli")
    wanted = {entry.instance_id for entry in observatory.site_file.started()}

    def listed() -> bool:
        """One scan listens for two seconds, in which a busy machine may not get all heartbeats out."""
        scan = subprocess.run(
            [program, "--site-host", "localhost", "scan"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return wanted <= set(scan.stdout.split())

    wait_until(listed, 90, what=f"a scan that lists {', '.join(sorted(wanted))}")
