"""The observatory that the live tests of whole systems share: one subarray, two instances, under OCS's HostManager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from socs_bl.services.observatory import Observatory
from socs_bl.services.process import free_port
from tests.harness.live import REPOSITORY

SITE = REPOSITORY / "site-configs" / "observatory.yaml"
COMMENSAL = REPOSITORY / "site-configs" / "commensal.yaml"
KEPT = ("hm", "registry", "coordinator", "telescope", "blpn64")
# Groups and a port of its own: on loopback every process hears every group, those of other observatories included.
SCHEDULE = {
    "subarrays": [{"name": "array_1", "first_group": "239.192.40.0", "port": free_port()}],
    "timing": {"metadata_s": 0.5, "subscribe_s": 3.0, "slew_s": 0.5, "track_s": 9.0, "gap_s": 0.5},
    "tones": {"per_track": 1, "search_duration_s": 6.0},
}
# Recordings of 6 s: short enough for a test, long enough to be searched.
COMMENSAL_CHANGES = {
    "arrays": ["array_1"],
    "hashpipe_instances": ["blpn64/0", "blpn64/1"],
    "dwell": 6,
    "dwell_margin": 1.5,
    "heartbeat_for": 600,
    "shortest_recording": 3,
    "confirm_pause": 10,  # a busy machine shows late what it was told, and being told again would be in the log
    "primary_proposals": ["EXT-20220504-DM-01"],
}
ANALYZER = {"search": {"min_duration_s": 3.0, "plots": 1}}


@pytest.fixture(scope="package")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    """The one-machine observatory, cut down; it runs until the last live test has ended."""
    directory = tmp_path_factory.mktemp("live")
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
