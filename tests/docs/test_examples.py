"""The scripts that the documentation shows run as they are, on a real observatory; its site configs are right."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from socs_bl import plugin
from socs_bl.services.observatory import Observatory
from tests.harness.live import REPOSITORY

DOCS = REPOSITORY / "docs"
EXAMPLES = DOCS / "examples"
SITE = REPOSITORY / "site-configs" / "observatory.yaml"
COMMENSAL = REPOSITORY / "site-configs" / "commensal.yaml"
KEPT = ("hm", "coordinator", "telescope", "blpn64-0")
# One subarray that one instance can take, and recordings of 6 s: short enough for a test, long enough to be searched.
SCHEDULE = {
    "subarrays": [{"name": "array_1", "n_channels": 64, "n_groups": 4, "adc_sample_rate_hz": 512000.0}],
    "timing": {"subscribe_s": 4.0, "slew_s": 1.0, "track_s": 10.0, "gap_s": 1.0},
    "tones": {"per_track": 1, "search_duration_s": 6.0},
}
COMMENSAL_CHANGES = {"arrays": ["array_1"], "hashpipe_instances": ["blpn64/0"], "dwell": 6, "shortest_recording": 3}
ANALYZER = {"search": {"min_duration_s": 3.0, "plots": 1}}
# In the order in which a night needs them; what each must have said by its end.
NIGHT = [
    ("first_night.py", "recorded and searched"),
    ("look.py", r"array_1 FREE READY no instances\n1 free"),
    ("recorder.py", r"blpn64/0 idle for nobody\nheaps \{'received': [1-9].*\nwriting nothing"),
    ("search_again.py", r"\.dat"),
    ("observe.py", r"cycle 1 of 1: .*\ninjected signals: /"),
]


def config_blocks() -> list[Any]:
    """The site config entries that the agents' pages show."""
    found = []
    for page in sorted((DOCS / "agents").glob("*.rst")):
        for block in re.findall(r"\.\. code-block:: yaml\n\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8")):
            loaded = yaml.safe_load(block)
            if isinstance(loaded, list):
                found += [pytest.param(entry, id=f"{page.stem}-{entry['instance-id']}") for entry in loaded]
    return found


@pytest.fixture(scope="module")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    """The one-machine observatory with one instance."""
    directory = tmp_path_factory.mktemp("night")
    site = yaml.safe_load(SITE.read_text(encoding="utf-8"))
    host = site["hosts"]["localhost"]
    host["agent-instances"] = [
        entry for entry in host["agent-instances"] if any(part in entry["instance-id"] for part in KEPT)
    ]
    for entry in host["agent-instances"]:
        if entry["agent-class"] in ("Telescope", "InstanceAnalyzer"):
            entry["arguments"] += ["--config", str(directory / f"{entry['agent-class']}.yaml")]
    files = {
        "site": site,
        "commensal": yaml.safe_load(COMMENSAL.read_text(encoding="utf-8")) | COMMENSAL_CHANGES,
        "Telescope": SCHEDULE,
        "InstanceAnalyzer": ANALYZER,
    }
    for name, content in files.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with Observatory(directory / "run", directory / "site.yaml") as running:
        yield running


def test_every_example_is_shown_and_run() -> None:
    """An example that no page shows, or that no test runs, rots."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.rst"))
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {name for name, _ in NIGHT}
    assert {name for name in names if f"examples/{name}\n    :language: python" not in pages} == set()


@pytest.mark.parametrize("entry", config_blocks())
def test_site_configs_on_pages_are_taken(entry: dict[str, Any]) -> None:
    """The arguments that a page shows are those of the agent's parser."""
    module = importlib.import_module(plugin.agents[entry["agent-class"]]["module"])
    module.add_agent_args().parse_args([str(word) for word in entry["arguments"]])


@pytest.mark.live
@pytest.mark.network
@pytest.mark.timeout(280)
def test_a_night_with_the_scripts_of_the_documentation(observatory: Observatory) -> None:
    """Every script ends well and shows what its page says."""
    environment = {**os.environ, "OCS_CONFIG_DIR": str(observatory.run_dir)}
    for name, expected in NIGHT:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name)], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        assert re.search(expected, done.stdout), f"{name}: {done.stdout}"


@pytest.mark.live
def test_an_unmodified_ocs_client_lists_the_agents(observatory: Observatory) -> None:
    """``ocs-client-cli scan``, as README and tutorial show it."""
    program = Path(sys.executable).parent / "ocs-client-cli"
    environment = {**os.environ, "OCS_CONFIG_DIR": str(observatory.run_dir), "COLUMNS": "200"}
    done = subprocess.run([str(program), "scan"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for instance_id in ("coordinator", "telescope", "recorder-blpn64-0", "analyzer-blpn64-0"):
        assert instance_id in done.stdout
