"""The observatory that the live tests of whole systems disturb: one subarray, two instances, under OCS's HostManager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from socs_bl.services.observatory import Observatory
from tests.harness.live import REPOSITORY

SITE = REPOSITORY / "site-configs" / "observatory.yaml"
COMMENSAL = REPOSITORY / "site-configs" / "commensal.yaml"
KEPT = ("hm", "registry", "coordinator", "telescope", "blpn64")
# Groups of its own: on loopback every process hears every group, the demonstration's included.
SCHEDULE = {
    "subarrays": [{"name": "array_1", "first_group": "239.192.31.0", "port": 17148}],
    "timing": {"subscribe_s": 0.5, "slew_s": 0.5},
}


@pytest.fixture(scope="package")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    """One subarray, two instances, recordings of 12 s; supervised by OCS's HostManager."""
    directory = tmp_path_factory.mktemp("killed")
    site = yaml.safe_load(SITE.read_text())
    host = site["hosts"]["localhost"]
    host["agent-instances"] = [
        entry for entry in host["agent-instances"] if any(part in entry["instance-id"] for part in KEPT)
    ]
    for entry in host["agent-instances"]:
        if entry["instance-id"] == "telescope":
            entry["arguments"] += ["--config", str(directory / "schedule.yaml")]
    settings = yaml.safe_load(COMMENSAL.read_text())
    settings |= {
        "arrays": ["array_1"],
        "hashpipe_instances": ["blpn64/0", "blpn64/1"],
        "dwell": 8,
        "shortest_recording": 4,
    }
    (directory / "site.yaml").write_text(yaml.safe_dump(site))
    (directory / "commensal.yaml").write_text(yaml.safe_dump(settings))
    (directory / "schedule.yaml").write_text(yaml.safe_dump(SCHEDULE))
    running = Observatory(directory / "run", directory / "site.yaml")
    with running:
        yield running
