"""The body of an agent's main: arguments, the router's time-out, errors a person can act on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from socs_bl.agentkit.run import _runner, parse_args


def site(directory: Path, **host: Any) -> list[str]:
    """A site file with one agent; returns the arguments that point to it."""
    entry = {"agent-class": "Example", "instance-id": "example-1", "arguments": host.pop("arguments", [])}
    hub = {"wamp_server": "ws://127.0.0.1:1/ws", "wamp_realm": "r", "address_root": "lab"}
    path = directory / "site.yaml"
    path.write_text(yaml.safe_dump({"hub": hub, "hosts": {"localhost": {"agent-instances": [entry], **host}}}))
    return ["--site-file", str(path), "--site-host", "localhost", "--instance-id", "example-1"]


@pytest.mark.parametrize(
    ("host", "argv", "expected"),
    [
        ({}, [], 0),
        ({"crossbar_timeout": 30}, [], 30),
        ({"crossbar-timeout": 40}, [], 40),
        ({"crossbar_timeout": 30}, ["--crossbar-timeout", "5"], 5),
        ({"arguments": ["--crossbar-timeout", 7]}, [], 7),
    ],
)
def test_an_agent_waits_for_its_router_unless_told(tmp_path: Path, host: Any, argv: list[str], expected: int) -> None:
    """Without a word it waits for ever; the argument counts most, then either key of the host."""
    parsed = parse_args("Example", argparse.ArgumentParser(), [*site(tmp_path, **host), *argv])
    assert parsed.crossbar_timeout == expected
    assert parsed.instance_id == "example-1" and parsed.site_hub == "ws://127.0.0.1:1/ws"


def test_the_reconnect_is_quick_and_endless(tmp_path: Path) -> None:
    """A router that was away for long is found again within seconds, and the first attempt may fail."""
    runner = _runner(parse_args("Example", argparse.ArgumentParser(), site(tmp_path)))
    assert runner.max_retries == -1 and runner.max_retry_delay <= 5.0 and runner._connect_successes > 0
