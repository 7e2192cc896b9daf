"""The site config on its way to a running observatory."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser
from pathlib import Path

import pytest
import yaml

from socs_bl import plugin
from socs_bl.core.errors import Refused
from socs_bl.services.site import SiteFile, default_site

HUB = {"wamp_server": "$WAMP_SERVER", "wamp_http": "$WAMP_HTTP", "wamp_realm": "r", "address_root": "o"}
MANAGER = {"agent-class": "HostManager", "instance-id": "hm"}
VALUES = {"WAMP_SERVER": "ws://x", "WAMP_HTTP": "http://x", "REDIS_URL": "redis://x", "RUN_DIR": "/run: odd #place"}


def write(path: Path, *agents: dict[str, object], hub: dict[str, str] = HUB) -> Path:
    path.write_text(yaml.safe_dump({"hub": hub, "hosts": {"localhost": {"agent-instances": [MANAGER, *agents]}}}))
    return path


def test_places_are_filled_and_the_rest_stays(tmp_path: Path) -> None:
    """Every place is filled with text that stays text, and keys that only OCS knows survive."""
    agent = {
        "agent-class": "A",
        "instance-id": "a",
        "arguments": [["--data-dir", "$RUN_DIR"], "$SITE_DIR", 3, "$$HOME"],
        "odd": 1,
    }
    site_file = SiteFile(write(tmp_path / "site.yaml", agent))
    assert site_file.wants("WAMP_SERVER")
    assert not site_file.wants("REDIS_URL")
    site_file.write(tmp_path / "default.yaml", VALUES)
    written = yaml.safe_load((tmp_path / "default.yaml").read_text())
    expected = {**agent, "arguments": [["--data-dir", "/run: odd #place"], str(tmp_path), 3, "$HOME"]}
    assert written["hosts"]["localhost"]["agent-instances"] == [MANAGER, expected]
    assert written["hub"]["wamp_server"] == "ws://x"


def test_only_what_is_up_is_waited_for(tmp_path: Path) -> None:
    """OCS's spellings of 'the host manager starts it' are known; all others are not waited for, nor is the manager."""
    spellings = ["host/up", "up", "yes", "host", None, "host/down", "down", "no", "ignore", "docker", "docker/up"]
    agents: list[dict[str, object]] = [
        {"agent-class": "A", "instance-id": f"a{number}", "manage": word} for number, word in enumerate(spellings)
    ]
    site_file = SiteFile(write(tmp_path / "site.yaml", *agents))
    assert [entry.manage for entry in site_file.started()] == spellings[:5]


def test_systems_are_chosen_by_name(tmp_path: Path) -> None:
    """Agents of the named system are started, those of others not, those of none as the file says; a wrong name is told."""
    agents: list[dict[str, object]] = [
        {"agent-class": "A", "instance-id": "one", "manage": "host/up", "system": "first"},
        {"agent-class": "B", "instance-id": "two", "manage": "host/down", "system": "second"},
        {"agent-class": "C", "instance-id": "three", "manage": "host/up"},
    ]
    path = write(tmp_path / "site.yaml", *agents)
    assert [entry.instance_id for entry in SiteFile(path).started()] == ["one", "three"]
    chosen = SiteFile(path, ["second"])
    assert [entry.instance_id for entry in chosen.started()] == ["two", "three"]
    written = chosen.write(tmp_path / "out.yaml", VALUES)
    assert [entry.manage for entry in written.hosts["localhost"].agents] == [None, "host/down", "host/up", "host/up"]
    with pytest.raises(Refused, match="'third'; there are first, second"):
        SiteFile(path, ["third"])


def test_a_sites_own_redis_is_found(tmp_path: Path) -> None:
    """URLs that are written out are those to check; places are not."""
    agents: list[dict[str, object]] = [
        {
            "agent-class": "A",
            "instance-id": "a",
            "arguments": [["--redis-url", "redis://h:1/0"], ["--redis-url", "$REDIS_URL"]],
        },
        {"agent-class": "A", "instance-id": "b", "arguments": ["--x", "--redis-url", "redis://g:1/0"]},
    ]
    assert SiteFile(write(tmp_path / "site.yaml", *agents)).redis_urls() == ["redis://g:1/0", "redis://h:1/0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hub: [", "is not YAML"),
        ("[]", "found \\[\\]"),
        ("{hub: {}, hosts: {}}", "hub.wamp_server: Field required"),
        (yaml.safe_dump({"hub": HUB, "hosts": {"x": {"agent-instances": [{"agent-class": "A"}]}}}), "instance-id"),
        (yaml.safe_dump({"hub": {**HUB, "x": "$HOME"}, "hosts": {}}), "\\$HOME.*not one of"),
        (yaml.safe_dump({"hub": {**HUB, "x": "5 $"}, "hosts": {}}), "write \\$\\$ for a dollar"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The refusal names the file and the key or value."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(Refused, match=said) as caught:
        SiteFile(path)
    assert str(path) in str(caught.value)


def test_agents_that_nobody_offers_are_refused_before_anything_starts(tmp_path: Path) -> None:
    """An unknown class, an id that stands twice, a missing host manager and a missing host are named."""
    site_file = SiteFile(write(tmp_path / "a.yaml", {"agent-class": "NoSuchAgent", "instance-id": "a"}))
    with pytest.raises(Refused, match="NoSuchAgent"):
        site_file.check_classes()
    with pytest.raises(Refused, match="'hm' stands twice"):
        SiteFile(write(tmp_path / "b.yaml", MANAGER)).check_classes()
    with pytest.raises(Refused, match="2 agents of class HostManager"):
        SiteFile(write(tmp_path / "b.yaml", MANAGER)).host_manager()
    nowhere = tmp_path / "c.yaml"
    nowhere.write_text(yaml.safe_dump({"hub": HUB, "hosts": {"elsewhere.invalid": {"agent-instances": []}}}))
    with pytest.raises(Refused, match="nor 'localhost'"):
        SiteFile(nowhere).agents()


def test_our_own_site_config_fits_our_agents(tmp_path: Path) -> None:
    """Every agent of ours stands in the package's own site config, each with arguments that its parser takes."""
    site_file = SiteFile(default_site())
    site = site_file.write(tmp_path / "default.yaml", {**VALUES, "RUN_DIR": str(tmp_path)})
    entries = [entry for entry in site.hosts["localhost"].agents if entry.agent_class in plugin.agents]
    assert {entry.agent_class for entry in entries} == set(plugin.agents)
    for entry in entries:
        module = importlib.import_module(plugin.agents[entry.agent_class]["module"])
        parser: ArgumentParser = module.add_agent_args()
        parser.parse_args([str(word) for word in entry.arguments])
