"""Damage of any kind gives a verdict, never an exception; what was good before the damage is saved."""

from __future__ import annotations

import bz2
import fcntl
import random
from pathlib import Path
from typing import Any

import pydarnio
import pytest

from socs_bl.core.errors import Retry
from socs_bl.core.stage import Verdict
from socs_bl.superdarn import sample
from socs_bl.superdarn.checks import CheckDmap, CheckHdf5, DmapParameters, Hdf5Parameters
from socs_bl.superdarn.convert import ArrayParameters, DmapOutput, SiteToArray, ToDmap
from socs_bl.superdarn.plots import PlotAntennas, PlotParameters
from socs_bl.superdarn.repair import Repair, RepairParameters
from socs_bl.superdarn.route import Route, RouteParameters

SITE = "20240305.1400.00.sas.0.rawacf.hdf5.site"
V1 = "20240305.1400.00.sas.0.rawacf.h5"
IQ = "20240305.1400.00.sas.0.antennas_iq.h5"
DMAP = "20240305.1400.00.sas.a.rawacf"
ROUTES = RouteParameters(routes={"distribute": (151,)})


def _records(folder: Path, count: int = 6) -> list[bytes]:
    (plain,) = ToDmap.work(sample.v1_file(folder / V1, records=count), folder, DmapOutput(packed=False)).outputs
    records = pydarnio.read_rawacf(str(plain), mode="strict")
    plain.unlink()
    return [pydarnio.write_rawacf([record]) for record in records]


def _damaged(data: bytes, seed: int) -> bytes:
    """Cut, flipped or overwritten at random places."""
    chance = random.Random(seed)
    kind = seed % 4
    place = chance.randrange(len(data))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + chance.randbytes(64) + data[place + 64 :]
    changed = bytearray(data)
    for _ in range(1 if kind == 2 else 40):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_dmap(tmp_path: Path, packed: bool) -> None:
    """Of 60 damaged files none is passed as whole where a reader fails, and none ends a stage otherwise than by a verdict."""
    good = b"".join(_records(tmp_path))
    path = tmp_path / (f"{DMAP}.bz2" if packed else DMAP)
    (tmp_path / "out").mkdir()
    for seed in range(60):
        data = _damaged(bz2.compress(good) if packed else good, seed)
        path.write_bytes(data)
        verdict = CheckDmap.work(path, tmp_path, DmapParameters(block=0, records=6)).verdict
        assert verdict in (Verdict.OK, Verdict.SUSPECT, Verdict.BAD), seed
        if packed:
            assert (verdict is Verdict.OK) == (data == bz2.compress(good)), seed
        assert Route.work(path, tmp_path, ROUTES).verdict in (Verdict.OK, Verdict.BAD), seed
        repaired = Repair.work(path, tmp_path / "out", RepairParameters(most=0.9))
        if repaired.verdict is Verdict.OK:
            assert CheckDmap.work(repaired.outputs[0], tmp_path, DmapParameters(block=0)).verdict is not Verdict.BAD, (
                seed
            )


@pytest.mark.parametrize("name", [SITE, V1, IQ])
def test_damaged_hdf5(tmp_path: Path, name: str) -> None:
    """The same for HDF5: opened, surveyed, converted, drawn, repaired, with a verdict each time."""
    kind = "antennas_iq" if name == IQ else "rawacf"
    good = (sample.site_file if name == SITE else sample.v1_file)(tmp_path / name, kind, records=3).read_bytes()
    stages: list[tuple[Any, Any]] = [
        (CheckHdf5, Hdf5Parameters(block=0)),
        (Repair, RepairParameters()),
        (ToDmap, DmapOutput()) if kind == "rawacf" else (PlotAntennas, PlotParameters(antennas=())),
    ]
    if name == SITE:
        stages.append((SiteToArray, ArrayParameters()))
    (tmp_path / "out").mkdir()
    for seed in range(24):
        (tmp_path / name).write_bytes(_damaged(good, seed))
        for stage, parameters in stages:
            result = stage.work(tmp_path / name, tmp_path / "out", parameters)
            assert result.verdict is not Verdict.TOOL_ERROR, (seed, stage, result.reason)


@pytest.mark.parametrize("packed", [False, True])
def test_good_records_before_a_cut_are_saved(tmp_path: Path, packed: bool) -> None:
    """A DMAP file cut in its fifth record keeps four; packed or not, and pydarnio reads them strictly."""
    records = _records(tmp_path)
    data = b"".join(records)[: sum(map(len, records[:4])) + 100]
    path = tmp_path / (f"{DMAP}.bz2" if packed else DMAP)
    path.write_bytes(bz2.compress(data) if packed else data)
    (tmp_path / "out").mkdir()
    result = Repair.work(path, tmp_path / "out", RepairParameters())
    assert (result.verdict, result.reason) == (Verdict.OK, "dropped 100 bytes behind record 4")
    assert (result.metadata["records"], result.metadata["removed_bytes"]) == (4, 100)
    saved = pydarnio.read_rawacf(str(result.outputs[0]), mode="strict")
    assert [record["bmnum"] for record in saved] == [0, 1, 2, 3]


def test_cut_packed_file_is_saved(tmp_path: Path) -> None:
    """A packed file whose end is missing: what unpacks is kept up to its last whole record."""
    records = _records(tmp_path, 90) * 2
    packed = bz2.compress(b"".join(records), 1)
    path = tmp_path / f"{DMAP}.bz2"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    (tmp_path / "out").mkdir()
    result = Repair.work(path, tmp_path / "out", RepairParameters())
    assert result.verdict is Verdict.OK
    assert "is cut" in result.reason
    saved = pydarnio.read_rawacf(str(result.outputs[0]), mode="strict")
    assert len(records) // 3 < len(saved) < len(records)


def test_file_that_is_written_waits(tmp_path: Path) -> None:
    """The radar has it open: neither good nor bad, tried again."""
    path = sample.v1_file(tmp_path / V1)
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for stage, parameters in ((CheckHdf5, Hdf5Parameters()), (ToDmap, DmapOutput()), (Repair, RepairParameters())):
            (tmp_path / stage.__name__).mkdir()
            with pytest.raises(Retry, match="locked"):
                stage.work(path, tmp_path / stage.__name__, parameters)  # type: ignore[arg-type]
