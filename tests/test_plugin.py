"""Every agent of the plugin table: importable, documented, configured, with help that tells the truth."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ocs import agent_cli, site_config

from socs_bl import plugin
from socs_bl.agentkit import Agent, FeedSchema, Specification
from socs_bl.agentkit.operation import specifications

ROOT = Path(__file__).parents[1]
AGENTS = sorted(plugin.agents)
SITE_FILES = ("observatory.yaml", "default.yaml")
STATIC = ROOT / "site-configs" / "default.yaml"


def agent_class(name: str) -> type[Agent]:
    """The class of an agent of the table."""
    found = getattr(importlib.import_module(plugin.agents[name]["module"]), name)
    assert issubclass(found, Agent)
    return found


def folder(name: str) -> str:
    """Its folder under agents/, which is its name everywhere else."""
    return plugin.agents[name]["module"].split(".")[-2]


def site_entries(path: Path) -> list[dict[str, Any]]:
    """All entries of a site config."""
    hosts = yaml.safe_load(path.read_text(encoding="utf-8"))["hosts"].values()
    return [entry for host in hosts for entry in host["agent-instances"]]


def operations() -> list[Any]:
    """Every operation of every agent that can be imported, for parametrize."""
    found = []
    for name in AGENTS:
        try:
            specs = specifications(agent_class(name))
        except ImportError:  # test_agent_imports tells about it
            continue
        found += [pytest.param(name, spec, id=f"{name}-{spec.name}") for spec in specs.values()]
    return found


def signature(doc: str) -> tuple[str, dict[str, object]]:
    """Name, parameters and defaults that the first line of a docstring shows."""
    line = doc.strip().splitlines()[0]
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args, line
    return call.func.id, {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}


def test_the_table_imports_nothing() -> None:
    """A broken agent cannot hide the others from OCS."""
    tree = ast.parse(Path(str(plugin.__file__)).read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert plugin.package_name == "socs_bl"


@pytest.mark.parametrize("name", AGENTS)
def test_agent_imports_and_starts_as_ocs_expects(name: str) -> None:
    """The module has the class, ``add_agent_args`` and the entry point, which takes the arguments."""
    module = importlib.import_module(plugin.agents[name]["module"])
    assert issubclass(getattr(module, name), Agent)
    assert list(inspect.signature(getattr(module, plugin.agents[name]["entry_point"])).parameters) == ["args"]
    assert "Agent Options" in module.add_agent_args().format_help()


@pytest.mark.parametrize("name", AGENTS)
def test_agent_has_page_compose_file_and_tests(name: str) -> None:
    """Documentation, docker and tests carry the same name as the folder."""
    page = ROOT / "docs" / "agents" / f"{folder(name)}.rst"
    text = page.read_text(encoding="utf-8")
    assert f".. _{folder(name)}:" in text and plugin.agents[name]["module"] in text
    compose = yaml.safe_load((ROOT / "docker" / folder(name) / "docker-compose.yml").read_text(encoding="utf-8"))
    assert compose["services"]
    assert (ROOT / "tests" / "agents" / f"test_{folder(name)}.py").is_file()


@pytest.mark.parametrize("file", SITE_FILES)
def test_every_agent_is_in_the_site_config_with_arguments_it_takes(file: str) -> None:
    """The agent's own parser takes them; beside our agents run OCS's HostManager, registry and aggregator."""
    entries = site_entries(ROOT / "site-configs" / file)
    assert {entry["agent-class"] for entry in entries} == {*AGENTS, "HostManager", "RegistryAgent", "AggregatorAgent"}
    assert len({entry["instance-id"] for entry in entries}) == len(entries)
    for entry in entries:
        if entry["agent-class"] in AGENTS:
            parser = importlib.import_module(plugin.agents[entry["agent-class"]]["module"]).add_agent_args()
            parser.parse_args([str(word) for word in entry["arguments"]])


def test_the_static_site_config_needs_nothing_filled_in() -> None:
    """OCS reads default.yaml as it is: no placeholder, addresses of this machine only."""
    text = STATIC.read_text(encoding="utf-8")
    assert "$" not in text
    assert set(re.findall(r"\w+://([^:/]+)", text)) == {"127.0.0.1"}


@pytest.mark.parametrize("entry", site_entries(STATIC), ids=lambda entry: entry["instance-id"])
def test_ocs_agent_cli_finds_the_agent(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """``OCS_CONFIG_DIR=site-configs ocs-agent-cli --instance-id ...`` comes to the agent's start with its arguments."""
    monkeypatch.setenv("OCS_CONFIG_DIR", str(STATIC.parent))
    # Whose site config is meant and who it is, is for the test to say, not for the environment of whoever runs it.
    for name in ("INSTANCE_ID", "SITE_HOST", "SITE_HUB", "SITE_HTTP", "CROSSBAR_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("setproctitle.setproctitle", lambda title: None)
    known = agent_cli.build_agent_list()[entry["agent-class"]]
    module = importlib.import_module(known["module"])
    started: list[Namespace] = []

    def start(args: list[str]) -> None:
        parser = getattr(module, "add_agent_args", getattr(module, "make_parser", argparse.ArgumentParser))()
        started.append(site_config.parse_args(agent_class=entry["agent-class"], parser=parser, args=args))

    monkeypatch.setattr(module, known["entry_point"], start)
    agent_cli.main(["--instance-id", entry["instance-id"]])
    (seen,) = started
    assert seen.instance_id == entry["instance-id"]
    assert seen.site_hub is None or seen.site_hub.startswith("ws://127.0.0.1:")
    for option, value in zip(entry["arguments"][::2], entry["arguments"][1::2], strict=True):
        assert str(getattr(seen, option.removeprefix("--").replace("-", "_"))) == str(value)


@pytest.mark.parametrize("name", AGENTS)
def test_feeds_are_declared_with_schemas(name: str) -> None:
    """Each numeric feed has a unique name and at least one field (names and types are checked when it is written)."""
    schemas = agent_class(name).FEEDS
    assert all(isinstance(schema, FeedSchema) and all(schema.blocks.values()) for schema in schemas)
    names = [schema.name for schema in schemas]
    assert len(set(names)) == len(names) and not {"operations", "alerts", "health", "heartbeat"} & set(names)


@pytest.mark.parametrize(("name", "spec"), operations())
def test_help_shows_the_real_signature(name: str, spec: Specification) -> None:
    """The first line of the docstring is the call with all parameters and their defaults (None where required)."""
    shown = {item.name: None if item.required else item.default for item in spec.parameters}
    assert signature(spec.doc) == (spec.name, shown)


@pytest.mark.parametrize(("name", "spec"), operations())
def test_help_has_the_parts_ocs_pages_have(name: str, spec: Specification) -> None:
    """Kind, every parameter, and what the session data look like when there are any."""
    lines = inspect.cleandoc(spec.doc).splitlines()
    assert lines[1] == "" and lines[2].startswith(f"**{spec.kind.title()}**")
    documented = re.findall(r"^    (\w+) \([^)]+\): ", inspect.cleandoc(spec.doc), re.MULTILINE)
    assert documented == [item.name for item in spec.parameters]


@pytest.mark.parametrize(("name", "spec"), operations())
def test_help_shows_the_session_data(name: str, spec: Specification) -> None:
    """Every help has an example of the session data, or names an operation of the agent that has it, or says none."""
    doc = " ".join(spec.doc.split())
    others = re.findall(r"The session data are those of ``(\w+)``", doc)
    with_example = {
        other.name
        for other in specifications(agent_class(name)).values()
        if ">>> response.session['data']" in other.doc
    }
    ways = [spec.name in with_example, bool(others), "There are no session data" in doc]
    assert ways.count(True) == 1, "one of: an example, 'those of', 'There are no session data'"
    assert set(others) <= with_example


@pytest.mark.parametrize(("name", "spec"), operations())
def test_processes_can_be_run_once(name: str, spec: Specification) -> None:
    """A process has ``test_mode``, as OCS agents have."""
    if spec.kind == "process":
        assert any(item.name == "test_mode" and item.default is False for item in spec.parameters)
