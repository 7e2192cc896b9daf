"""A person with nothing but a browser can look at an agent, and cannot touch it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socs_bl.services.crossbar_node import CrossbarNode
from tests.harness.live import Agents
from tests.harness.page import report

VIEWER = Path(__file__).with_name("viewer.html")


@pytest.mark.page
@pytest.mark.live
def test_a_browser_sees_an_agent_and_cannot_start_it(
    router: CrossbarNode, site_dir: Callable[..., Path], run_agents: Callable[[Path], Agents], tmp_path: Path
) -> None:
    """On the viewer's path ``.view`` answers with the agent's operations; ``.ops`` is refused by the router."""
    argv = ["--run-dir", str(tmp_path / "telescope")]
    site = site_dir([{"agent-class": "Telescope", "instance-id": "telescope", "arguments": argv}]) / "default.yaml"
    run_agents(site).start("telescope")
    calls = [
        ["observatory.telescope.view", "get_api"],
        ["observatory.telescope.ops", "start", "configure", {"array": "array_1"}],
    ]
    wish = {"url": router.view_url, "realm": router.realm, "calls": json.dumps(calls)}
    said: dict[str, Any] = json.loads(report(VIEWER, wish, tmp_path / "profile"))
    tasks = {name for name, *_ in said["observatory.telescope.view"]["tasks"]}
    assert {"configure", "observe"} <= tasks
    assert said["observatory.telescope.ops"] == "wamp.error.not_authorized"
