"""kill -9 of the router with all agents attached: everything runs on and is reachable again."""

from __future__ import annotations

import os
import signal

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


@pytest.mark.may_leave("descriptors")
@pytest.mark.timeout(400)
def test_a_router_that_hangs_is_noticed(observatory: Observatory) -> None:
    """A router that takes everything and answers nothing is given up, and joined again when it answers; nobody ends."""
    assert observatory.router is not None and observatory.router.child is not None
    names = [entry.instance_id for entry in observatory.site_file.started()]
    before, running = agents(observatory), sessions(observatory)
    log = observatory.run_dir / "logs" / "observatory.coordinator.log"
    said = log.stat().st_size
    group = observatory.router.child.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        wait_until(
            lambda: "transport disconnected" in log.read_text(errors="replace")[said:],
            90,
            what="the coordinator giving the router up",
        )
    finally:
        os.killpg(group, signal.SIGCONT)
    wait_until(lambda: all(observatory.operator.answers(name) for name in names), 120, what="every agent's answer")
    assert agents(observatory) == before
    assert sessions(observatory) == running
