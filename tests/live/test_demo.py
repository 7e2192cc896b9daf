"""The commensal part of the demonstration, one cycle, as a user runs it: exit status, summary, products in others' readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.harness.live import REPOSITORY

pytestmark = [pytest.mark.live, pytest.mark.network]

PATIENCE = 500.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Exit status, summary and output of ``socs-bl demo --only commensal --cycles 1``."""
    directory = tmp_path_factory.mktemp("demo")
    argv = [sys.executable, "-m", "socs_bl.cli.main", "demo", "--only", "commensal", "--cycles", "1"]
    argv += ["--run-dir", str(directory / "run"), "--summary", str(directory / "summary.json")]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE)
    summary = json.loads((directory / "summary.json").read_text()) if (directory / "summary.json").exists() else {}
    yield done.returncode, summary, done.stdout + done.stderr


@pytest.mark.timeout(PATIENCE + 60)
def test_every_injected_signal_is_found(demo: tuple[int, dict[str, Any], str]) -> None:
    """Status 0 only when each signal, and nothing else, is found within one fine channel and one drift step."""
    status, summary, output = demo
    assert status == 0, output
    assert summary["ok"] is True and summary["recordings"] == 4 and summary["completed_runs"] == 2
    wanted = summary["rows"]
    assert summary["false_hits"] == 0 and {row["verdict"] for row in wanted} == {"found"}
    assert len(wanted) == len(summary["injected"]) == 8
    assert all(abs(row["off_by_channels"]) <= 1 and abs(row["off_by_steps"]) <= 1 for row in wanted)
    assert len({row["instance"] for row in wanted}) == 4
    assert summary["largest_missing_fraction"] < 0.02, "a busy machine may lose heaps; they are counted, not found"
    assert Path(summary["waterfall"]).read_bytes().startswith(b"\x89PNG")


def test_signals_are_in_their_beams_and_as_strong_as_theory_says(demo: tuple[int, dict[str, Any], str]) -> None:
    """Each signal is strongest in the beam at its position, with the signal-to-noise ratio that theory gives for it."""
    rows = demo[1]["rows"]
    assert demo[1]["beamformed"] is True
    assert [row["beam"] for row in rows] == [row["true_beam"] for row in rows]
    assert len({row["beam"] for row in rows}) == 8, "four targets in each of two fields"
    # Noise alone scatters a signal of S/N 80 by a tenth; the mean of eight by a thirtieth.
    assert 0.85 <= demo[1]["snr_ratio"]["mean"] <= 1.15, demo[1]["snr_ratio"]
    assert all(0.7 <= row["snr_ratio"] <= 1.3 for row in rows), demo[1]["snr_ratio"]


def test_the_timeline_tells_the_observation(demo: tuple[int, dict[str, Any], str]) -> None:
    """The summary has, for each subarray, what the journal says: from configure to the results, in order of time."""
    timeline = demo[1]["timeline"]
    assert [row["time"] for row in timeline] == sorted(row["time"] for row in timeline)
    for array in ("array_1", "array_2"):
        happened = [row["what"] for row in timeline if row["array"] == array]
        told = ["configure", "subscribed", "tracking", "PKTSTART", "process", "result", "ready"]
        assert [what for what in told if what in happened] == told
        assert [happened.index(what) for what in told] == sorted(happened.index(what) for what in told)
        # The telescope gives the subarray up when it likes; a slow machine still searches then.
        assert happened.index("unsubscribed") > happened.index("process")


def test_others_read_the_recordings(demo: tuple[int, dict[str, Any], str]) -> None:
    """blimpy and baseband open every GUPPI RAW file and agree on samples that are no constant."""
    from baseband import guppi
    from blimpy.guppi import GuppiRaw

    files = sorted(Path(demo[1]["run_dir"]).rglob("*.0000.raw"))
    assert len(files) == 4
    for path in files:
        header, theirs = GuppiRaw(str(path)).read_next_data_block_int8()[0:2]
        assert header["NANTS"] == 4 and header["OBSNCHAN"] == 4 * 64
        with guppi.open(str(path), "rb") as file:
            frame = file.read_frame()
            assert frame.header["OBSNCHAN"] == 256
            first = frame[:64]
        assert np.iscomplexobj(first) and first.std() > 1.0
        assert np.asarray(theirs).std() > 1.0


def test_sotodlib_finds_recordings_and_hits(demo: tuple[int, dict[str, Any], str]) -> None:
    """A sotodlib Context on the catalogue lists every recording with its files."""
    from sotodlib.core import Context

    context = Context(str(Path(demo[1]["products"]) / "catalogue" / "context.yaml"))
    found = context.obsdb.query()
    assert len(found) == 4
    for row in found:
        for entries in context.obsfiledb.get_files(row["obs_id"]).values():
            for name, *_ in entries:
                assert Path(name).is_file(), name


def test_housekeeping_is_kept(demo: tuple[int, dict[str, Any], str]) -> None:
    """OCS's aggregator ran beside the agents and wrote their feeds: G3 files with data frames of ours."""
    import so3g  # noqa: F401 - brings the classes of housekeeping frames
    from spt3g import core as g3

    files = sorted((Path(demo[1]["run_dir"]) / "housekeeping").rglob("*.g3"))
    assert files and all(path.stat().st_size for path in files)
    feeds = {frame["address"] for path in files for frame in g3.G3File(str(path)) if frame.get("hkagg_type") == 2}
    assert any(str(feed).endswith(".coordinator.feeds.commensal") for feed in feeds), feeds
