"""What the simulated radar writes, through the stages in their order: the targets that were put in come out at the other end."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pydarnio
import pytest

from socs_bl.core.config import check
from socs_bl.core.stage import StageResult, Verdict
from socs_bl.simulators.radar import RadarWriter, play
from socs_bl.simulators.radar_config import Radar
from socs_bl.superdarn.checks import (
    CheckDmap,
    CheckHdf5,
    CheckName,
    DmapParameters,
    Hdf5Parameters,
    NameParameters,
)
from socs_bl.superdarn.convert import ArrayParameters, DmapOutput, SiteToArray, ToDmap
from socs_bl.superdarn.pack import Pack
from socs_bl.superdarn.plots import PlotAntennas, PlotParameters
from socs_bl.superdarn.repair import Repair, RepairParameters
from socs_bl.superdarn.route import Route, RouteParameters
from socs_bl.superdarn.work import NoParameters

LIGHT = 299792458.0
ROUTES = RouteParameters(routes={"distribute": (151, 3503)})


def _radar(directory: Path, **changes: Any) -> dict[str, Path]:
    """What a small radar has written, by name."""
    values = {
        "directory": directory, "start": "2024-03-05T13:52:00Z", "factor": 0, "period_s": 240, "records": 5, "main_antennas": 4,
        "intf_antennas": 2, "sequences": 5, "slices": [{"number": 1, "ranges": 20}], "kinds": ["rawacf"],
        "targets": [{"range_km": 450, "velocity_m_s": 350, "power_db": 25, "width_m_s": 10}],
    }  # fmt: skip
    writer = RadarWriter(check(values | changes, Radar, "test"))
    play(writer, threading.Event())
    return {path.name: path for path in sorted(directory.glob("*/*"))}


def _ok(result: StageResult) -> StageResult:
    assert result.verdict is Verdict.OK, result.reason
    return result


def _velocity(records: list[dict[str, Any]], gate: int) -> float:
    """Towards the radar: the one at which the lags of all records add up best, m/s."""
    one = records[0]
    seconds = np.diff(one["ltab"], axis=1)[: one["mplgs"], 0] * 1e-6 * one["mpinc"]
    acf = np.mean([record["acfd"][gate, :, 0] + 1j * record["acfd"][gate, :, 1] for record in records], axis=0)
    tried = np.arange(-1000, 1000, 2.0)
    turns = np.exp(-4j * np.pi * one["tfreq"] * 1e3 / LIGHT * np.outer(tried, seconds[1:]))
    return float(tried[np.abs(turns @ acf[1:]).argmax()])


@pytest.mark.parametrize("generation", ["v0.7", "v1.0", "dmap"])
def test_target_is_found_on_campus(tmp_path: Path, generation: str) -> None:
    """Both generations and the radar's own DMAP: checked, converted, packed, routed; then pydarnio finds range and velocity."""
    more = {"generation": "v1.0", "dmap": True} if generation == "dmap" else {"generation": generation}
    files = _radar(tmp_path / "radar", **more)
    out = tmp_path / "campus"
    out.mkdir()
    found = []
    for path in files.values():
        os.utime(path, (1709647200 + 7200, 1709647200 + 7200))
        _ok(CheckName.work(path, out, NameParameters(radars=("sas",))))
        if generation == "dmap":
            (dmap,) = _ok(Pack.work(path, out, NoParameters())).outputs
        else:
            assert CheckHdf5.work(path, out, Hdf5Parameters(block=0)).verdict is Verdict.OK
            (whole,) = _ok(Repair.work(path, out, RepairParameters())).outputs
            if generation == "v0.7":
                (whole,) = _ok(SiteToArray.work(whole, out, ArrayParameters())).outputs
            (dmap,) = _ok(ToDmap.work(whole, out, DmapOutput())).outputs
        checked = _ok(CheckDmap.work(dmap, out, DmapParameters(block=0)))
        assert (checked.metadata["slice"], checked.metadata["channel"], checked.metadata["stid"]) == (1, 1, 5)
        assert _ok(Route.work(dmap, out, ROUTES)).metadata["route"] == "distribute"
        found += pydarnio.read_rawacf(str(dmap), mode="strict")
    assert len(found) == 5
    gate = round((450 - found[0]["frang"]) / found[0]["rsep"])
    assert [int(np.argmax(record["pwr0"])) for record in found] == [gate] * 5
    assert _velocity(found, gate) == pytest.approx(350, abs=30)


def test_faults_of_the_radar_are_told(tmp_path: Path) -> None:
    """A lost clock, a record that was never finished, a time too few and a strange name: each has its own verdict."""
    faults = {"mismatched_records": [2], "incomplete_records": [4], "strange_names": ["core.4711", "a b.rawacf.h5"]}
    files = _radar(tmp_path / "radar", faults=faults)
    out = tmp_path / "campus"
    out.mkdir()
    verdicts = {name: CheckName.work(path, out, NameParameters()).verdict for name, path in files.items()}
    strange = {name for name, verdict in verdicts.items() if verdict is Verdict.BAD}
    assert strange == {name for name in files if "core" in name or " " in name}
    broken = [path for name, path in files.items() if name not in strange and path.name.startswith("20240305.14")]
    (path,) = broken
    seen = CheckHdf5.work(path, out, Hdf5Parameters(block=0))
    assert seen.verdict is Verdict.SUSPECT
    assert (seen.metadata["incomplete_records"], seen.metadata["mismatched_records"]) == (1, 1)
    assert ToDmap.work(path, out, DmapOutput()).verdict is Verdict.BAD
    repaired = _ok(Repair.work(path, out, RepairParameters(most=0.9)))
    assert repaired.metadata["removed_records"] == 2
    assert _ok(ToDmap.work(repaired.outputs[0], out, DmapOutput())).metadata["records"] == 1


def test_clock_of_1970(tmp_path: Path) -> None:
    """The computer's clock is right and says when the file was written: the name is not believed."""
    faults = {"wrong_clock": [{"record": 0, "records": 5, "shows": "1970"}]}
    files = _radar(tmp_path / "radar", faults=faults)
    assert all(name.startswith("1970") for name in files)
    for path in files.values():
        assert CheckName.work(path, tmp_path, NameParameters()).verdict is Verdict.SUSPECT


@pytest.mark.may_leave("descriptors")  # matplotlib keeps its fonts open
@pytest.mark.parametrize("generation", ["v0.7", "v1.0"])
def test_dead_antenna_is_seen_in_the_pictures(tmp_path: Path, generation: str) -> None:
    """Of the antennas of a file as the radar writes it, the one without signal is named."""
    files = _radar(tmp_path / "radar", kinds=["antennas_iq"], generation=generation, faults={"zeroed_antennas": [2]})
    result = PlotAntennas.work(list(files.values())[0], tmp_path, PlotParameters(antennas=()))
    assert (result.verdict, result.reason) == (Verdict.OK, "")
    result = PlotAntennas.work(list(files.values())[0], tmp_path, PlotParameters(antennas=(2,)))
    assert (result.verdict, result.reason) == (Verdict.SUSPECT, "antenna 2 has no signal: every sample is 0")
