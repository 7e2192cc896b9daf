"""Live services for tests: the session's router and Redis, site configs, agents."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ocs.client_http import ControlClientError
from ocs.ocs_client import OCSClient

from socs_bl.services.process import Child

REPOSITORY = Path(__file__).parents[2]


def write_site(directory: Path, hub: Mapping[str, str], agents: Sequence[Mapping[str, Any]]) -> Path:
    """Write a site config of one host for `agents` and return its path.

    Parameters
    ----------
    directory : Path
    hub : mapping
        As `CrossbarNode.hub`.
    agents : sequence of mapping
        Entries of agent-instances: agent-class, instance-id, arguments, and manage where a HostManager runs.
    """
    host = {"crossbar_timeout": 0, "agent-instances": [{"arguments": [], **agent} for agent in agents]}
    path = directory / "default.yaml"
    path.write_text(yaml.safe_dump({"hub": dict(hub), "hosts": {"localhost": host}}), encoding="utf-8")
    return path


def client(site_file: Path, instance_id: str) -> OCSClient:
    """A client; ControlClientError when the agent does not answer."""
    return OCSClient(instance_id, args=["--site-file", str(site_file), "--site-host", "localhost"])


def answers(site_file: Path, instance_id: str) -> bool:
    """True when the agent has registered its address."""
    try:
        client(site_file, instance_id)
    except ControlClientError:
        return False
    return True


class Agents:
    """Starts agents of one site config as processes of their own."""

    def __init__(self, site_file: Path) -> None:
        self.site_file = site_file
        self.children: dict[str, Child] = {}

    def start(self, instance_id: str, *arguments: str, timeout: float = 60.0) -> OCSClient:
        """Start an agent, wait until it answers, and return a client for it."""
        log = self.site_file.parent / f"{instance_id}.log"
        argv = [sys.executable, "-m", "ocs.agent_cli", "--instance-id", instance_id, "--site-file", str(self.site_file)]
        argv += ["--site-host", "localhost", "--working-dir", str(self.site_file.parent), *arguments]
        child = Child(instance_id, argv, log, cwd=REPOSITORY)
        self.children[instance_id] = child
        child.wait_ready(lambda: answers(self.site_file, instance_id), timeout)
        return client(self.site_file, instance_id)

    def stop(self) -> None:
        """Kill them all: OCS takes six seconds to leave in order."""
        for child in self.children.values():
            child.kill()


def wait_until(condition: Any, timeout: float = 30.0, interval: float = 0.02, what: str = "condition") -> Any:
    """Ask `condition` until it is true and return its value; AssertionError naming `what` when the time is up."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout:.0f} s"
        time.sleep(interval)
    return value
