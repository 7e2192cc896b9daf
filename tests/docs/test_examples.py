"""The scripts and site configs that the documentation shows; `tests.live.test_examples` runs the scripts."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import yaml

from socs_bl import plugin
from tests.harness.examples import CORRELATOR, DOCS, EXAMPLES, NIGHT


def config_blocks() -> list[Any]:
    """The site config entries that the agents' pages show."""
    found = []
    for page in sorted((DOCS / "agents").glob("*.rst")):
        for block in re.findall(r"\.\. code-block:: yaml\n\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8")):
            loaded = yaml.safe_load(block)
            if isinstance(loaded, list):
                found += [pytest.param(entry, id=f"{page.stem}-{entry['instance-id']}") for entry in loaded]
    return found


def test_every_example_is_shown_and_run() -> None:
    """An example or command that no page shows, or that no test runs, rots."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.rst"))
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {command for command, _ in NIGHT if command.endswith(".py")} | set(CORRELATOR)
    assert {
        command for command, _ in NIGHT if command.startswith("socs-bl") and f"    {command}\n" not in pages
    } == set()
    assert {name for name in names if f"examples/{name}\n    :language: python" not in pages} == set()


@pytest.mark.parametrize("entry", config_blocks())
def test_site_configs_on_pages_are_taken(entry: dict[str, Any]) -> None:
    """The arguments that a page shows are those of the agent's parser."""
    module = importlib.import_module(plugin.agents[entry["agent-class"]]["module"])
    module.add_agent_args().parse_args([str(word) for word in entry["arguments"]])
