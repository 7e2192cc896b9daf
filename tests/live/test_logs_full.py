"""The disk that the logs are on is full: the agent that cannot log works on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from socs_bl.client import MatchedClient
from socs_bl.services.observatory import Observatory
from socs_bl.services.process import Child
from tests.harness.live import REPOSITORY, answers, write_site

pytestmark = pytest.mark.live

EXAMPLE = REPOSITORY / "tests" / "agentkit" / "example_agent.py"


def test_an_agent_lives_without_a_log(observatory: Observatory, tmp_path: Path) -> None:
    """An agent whose every line is refused with ENOSPC starts, does its tasks and answers."""
    assert observatory.router is not None
    site = write_site(tmp_path, observatory.router.hub, [{"agent-class": "Example", "instance-id": "example-1"}])
    argv = [sys.executable, str(EXAMPLE), "--instance-id", "example-1", "--site-file", str(site)]
    argv += ["--site-host", "localhost"]
    child = Child("example-1", argv, Path("/dev/full"), cwd=REPOSITORY, env={"PYTHONPATH": str(REPOSITORY)})
    try:
        child.wait_ready(lambda: answers(site, "example-1"), 120.0)
        agent = MatchedClient("example-1", args=["--site-file", str(site), "--site-host", "localhost"])
        for _ in range(20):
            assert agent.work(seconds=0.0, steps=1).session["success"]
        assert child.running()
    finally:
        child.kill()
