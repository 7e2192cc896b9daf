"""The doctor finds what is wrong with a machine and says what to do."""

from __future__ import annotations

import importlib.util
import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socs_bl.services import doctor
from socs_bl.services.doctor import Finding, examine, send_multicast
from socs_bl.services.site import default_site

Findings = Callable[[], dict[str, Finding]]


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Examine this machine; findings by name."""
    return lambda: {finding.name: finding for finding in examine(tmp_path / "not" / "made", default_site())}


def test_this_machine_can_run_the_tests(findings: Findings) -> None:
    """What the live tests need is found, and every line says something."""
    found = findings()
    for name in ("Python", "crossbar", "redis-server", "TCP on loopback", "running observatory"):
        assert found[name].good, found[name].text
    assert all(finding.text for finding in found.values())


@pytest.mark.network
def test_multicast_on_loopback_is_really_tried() -> None:
    """A packet comes back where multicast works; on an address that is not of this machine it is an error."""
    send_multicast(b"payload")
    with pytest.raises(OSError):
        send_multicast(b"payload", interface="192.0.2.1")


def test_missing_parts_are_named_with_the_cure(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing module, server, router, little disk and memory and lost multicast are bad findings that say what to do."""

    def no_module(name: str, package: str | None = None) -> None:
        return None

    def no_packet(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    usage: Any = namedtuple("usage", "total used free")(1, 1, 1e9)
    monkeypatch.setattr(importlib.util, "find_spec", no_module)
    monkeypatch.setattr(doctor, "send_multicast", no_packet)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(doctor, "MEMORY_WANTED", 1e18)
    found = findings()
    for name, advice in (
        ("spead2", "pip install 'socs_bl[observatory]'"),
        ("multicast on loopback", "ip link set lo up"),
        ("disk", "--run-dir"),
        ("memory", "are wanted"),
    ):
        assert not found[name].good
        assert found[name].fatal
        assert advice in found[name].text


def test_a_wrong_site_config_is_a_finding_not_a_crash(tmp_path: Path) -> None:
    """The doctor goes on after a site config that cannot be read."""
    found = {finding.name: finding for finding in examine(tmp_path, tmp_path / "absent.yaml")}
    assert not found["site config"].good
    assert "absent.yaml" in found["site config"].text
    assert "running observatory" in found


def test_ports_are_given_back() -> None:
    """The port that a check took is free again."""
    port = doctor.free_port()
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))
