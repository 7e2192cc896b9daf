"""Conversions: what pydarnio reads out is what the radar wrote, and what is not whole is not converted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydarnio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydarnio.borealis.borealis_site import BorealisSiteWrite

from socs_bl.core.stage import Verdict
from socs_bl.superdarn import convert, sample
from socs_bl.superdarn.checks import CheckHdf5, Hdf5Parameters
from socs_bl.superdarn.convert import ArrayParameters, DmapOutput, SiteToArray, ToDmap
from socs_bl.superdarn.repair import Repair, RepairParameters

SITE = "20240305.1400.00.sas.1.rawacf.hdf5.site"
V1 = "20240305.1400.00.sas.1.rawacf.h5"


def unequal(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The fields in which two array structures differ, padding included."""
    return (one.keys() ^ other.keys()) | {
        name
        for name in one.keys() & other.keys()
        if not np.array_equal(one[name], other[name], equal_nan=np.asarray(one[name]).dtype.kind in "fc")
    }


@pytest.mark.parametrize("kind", ["rawacf", "antennas_iq", "bfiq"])
def test_site_to_array(tmp_path: Path, kind: str) -> None:
    """pydarnio's reader finds in the array file what its reader of the site file would restructure, records of two lengths."""
    site = sample.site_file(tmp_path / SITE.replace("rawacf", kind), kind, records=5, slice_id=1)
    (tmp_path / "out").mkdir()
    result = SiteToArray.work(site, tmp_path / "out", ArrayParameters())
    assert (result.verdict, result.reason) == (Verdict.OK, "")
    assert os.listdir(tmp_path / "out") == [site.name.removesuffix(".site")]
    read = pydarnio.BorealisRead(str(result.outputs[0]), kind, "array").arrays
    # pydarnio's way through memory pads these two of samples to other lengths than its way record by record.
    padded = set() if kind == "rawacf" else {"pulse_phase_offset", "tx_antenna_phases"}
    assert unequal(read, pydarnio.BorealisRead(str(site), kind, "site").arrays) <= padded
    assert (result.metadata["records"], result.metadata["sequences"], result.metadata["cp"]) == (5, 13, 151)


@pytest.mark.parametrize("form", ["site", "array", "v1"])
def test_to_dmap(tmp_path: Path, form: str) -> None:
    """All three structures give DMAP that pydarnio reads strictly, with the lag values, times and experiment of the file."""
    if form == "v1":
        source = sample.v1_file(tmp_path / V1, records=3, slice_id=1, cpid=-3800)
    else:
        source = sample.site_file(tmp_path / SITE, records=3, slice_id=1, cpid=-3800)
    with h5py.File(source, "r") as file:
        acfs = [file[name]["main_acfs"][0] for name in sorted(file) if name != "metadata"]
    if form == "array":
        (source,) = SiteToArray.work(source, tmp_path, ArrayParameters()).outputs
    result = ToDmap.work(source, tmp_path, DmapOutput())
    assert (result.verdict, result.reason) == (Verdict.OK, "")
    assert result.outputs[0].name == "20240305.1400.00.sas.b.rawacf.bz2"
    records = pydarnio.read_rawacf(str(result.outputs[0]), mode="strict")
    assert [(r["cp"], r["stid"], r["channel"], r["bmnum"]) for r in records] == [
        (-3800, 5, 1, beam) for beam in range(3)
    ]
    # RST's scale: 16-bit samples squared. The alternate lag zero, the last, is not part of the record.
    for acf, record in zip(acfs, records, strict=True):
        expected = acf[:, :-1] * (32767**2 / 9144500.0**2)
        np.testing.assert_allclose(record["acfd"][..., 0] + 1j * record["acfd"][..., 1], expected, rtol=1e-5)
    assert result.metadata["first_time"] == pytest.approx(sample.START, abs=1e-5)
    assert result.metadata["last_time"] == pytest.approx(sample.START + 7.0, abs=1e-5)


def test_dmap_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    """Two hosts that convert one file get one hash: no path gets into the records; a second run changes nothing."""
    made = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        source = sample.v1_file(tmp_path / folder / V1, slice_id=1)
        for _ in range(2):
            (output,) = ToDmap.work(source, tmp_path / folder, DmapOutput()).outputs
            made.append(output.read_bytes())
    assert len(set(made)) == 1
    assert str(tmp_path) not in pydarnio.read_rawacf(made[0], mode="strict")[0]["combf"]
    assert Path.cwd() != tmp_path / "there"


@pytest.mark.parametrize("form", ["site", "array"])
def test_files_of_old_versions(tmp_path: Path, form: str) -> None:
    """Before v0.5 a file does not say its slice, before v0.6 nothing of GPS; the slice of its DMAP is that of its name."""
    records = pydarnio.BorealisRead(str(sample.site_file(tmp_path / "new", records=3)), "rawacf", "site").records
    younger = {
        "agc_status_word", "averaging_method", "data_descriptors", "data_dimensions", "gps_locked", "gps_to_system_time_diff",
        "lp_status_word", "scheduling_mode", "slice_id", "slice_interfacing", "tx_antenna_phases",
    }  # fmt: skip
    for record in records.values():
        record["correlation_dimensions"] = record["data_dimensions"]
        record["correlation_descriptors"] = np.array(["num_beams", "num_ranges", "num_lags"])
        record["borealis_git_hash"] = "v0.4-0-g0000000"
        record["experiment_id"] = np.int64(record["experiment_id"])
        record["scan_start_marker"] = np.uint8(record["scan_start_marker"])
        for field in younger:
            del record[field]
    source = tmp_path / SITE
    BorealisSiteWrite(str(source), records, "rawacf")
    if form == "array":
        result = SiteToArray.work(source, tmp_path, ArrayParameters())
        assert result.verdict is Verdict.OK, result.reason
        (source,) = result.outputs
    checked = CheckHdf5.work(source, tmp_path, Hdf5Parameters(block=0))
    assert (checked.verdict, checked.metadata["slice"]) == (Verdict.OK, 1), checked.reason
    result = ToDmap.work(source, tmp_path, DmapOutput())
    assert result.verdict is Verdict.OK, result.reason
    made = pydarnio.read_rawacf(str(result.outputs[0]), mode="strict")
    assert [(record["channel"], record["cp"]) for record in made] == [(1, 151)] * 3


def _stub(file: h5py.File, name: str) -> None:
    del file[name]["xcfs"]


def _lost_times(file: h5py.File, name: str) -> None:
    stamps = file[name]["sqn_timestamps"][:-1]
    del file[name]["sqn_timestamps"]
    file[name]["sqn_timestamps"] = stamps


@pytest.mark.parametrize("damage", [_stub, _lost_times])
@pytest.mark.parametrize("name", [SITE, V1])
def test_records_that_are_not_whole(tmp_path: Path, name: str, damage: Callable[[h5py.File, str], None]) -> None:
    """Not converted as they are; converted after the repair, which drops exactly the bad record and says which."""
    source = (sample.site_file if name == SITE else sample.v1_file)(tmp_path / name, records=6, slice_id=1)
    with h5py.File(source, "r+") as file:
        broken = sorted(set(file) - {"metadata"})[3]
        damage(file, broken)
    before = source.read_bytes()
    (tmp_path / "out").mkdir()
    refused = ToDmap.work(source, tmp_path / "out", DmapOutput())
    assert refused.verdict is Verdict.BAD
    assert broken in refused.reason
    assert os.listdir(tmp_path / "out") == []
    repaired = Repair.work(source, tmp_path / "out", RepairParameters())
    assert (repaired.verdict, repaired.metadata["removed_records"]) == (Verdict.OK, 1)
    assert broken in repaired.reason
    assert source.read_bytes() == before
    (dmap,) = ToDmap.work(repaired.outputs[0], tmp_path / "out", DmapOutput()).outputs
    beams = [record["bmnum"] for record in pydarnio.read_rawacf(str(dmap), mode="strict")]
    assert beams == [0, 1, 2, 4, 5]


def test_repair_of_a_good_file_is_a_copy(tmp_path: Path) -> None:
    """Nothing to drop: the same bytes, so that a pipeline goes on with the output."""
    source = sample.site_file(tmp_path / SITE)
    (tmp_path / "out").mkdir()
    result = Repair.work(source, tmp_path / "out", RepairParameters())
    assert (result.reason, result.metadata["removed_records"]) == ("", 0)
    assert result.outputs[0].read_bytes() == source.read_bytes()


def test_repair_gives_up(tmp_path: Path) -> None:
    """Where most of a file is broken, what is left is not passed off as the block; the file is never repaired onto itself."""
    source = sample.site_file(tmp_path / SITE, records=4)
    with h5py.File(source, "r+") as file:
        for name in sorted(file)[:3]:
            _lost_times(file, name)
    (tmp_path / "out").mkdir()
    assert Repair.work(source, tmp_path / "out", RepairParameters()).verdict is Verdict.BAD
    assert Repair.work(source, tmp_path, RepairParameters()).verdict is Verdict.BAD
    assert os.listdir(tmp_path / "out") == []


def test_array_files_do_not_lie(tmp_path: Path) -> None:
    """A frequency that changes in mid file would silently become the first record's; pydarnio's streaming does not look."""
    source = sample.site_file(tmp_path / SITE, records=4)
    with h5py.File(source, "r+") as file:
        file[sorted(file)[2]].attrs["freq"] = np.uint32(12345)
    (tmp_path / "out").mkdir()
    result = SiteToArray.work(source, tmp_path / "out", ArrayParameters())
    assert result.verdict is Verdict.BAD
    assert "freq" in result.reason
    assert os.listdir(tmp_path / "out") == []


def test_unknown_version_is_the_tools_limit(tmp_path: Path) -> None:
    """A radar updated before its site: the data wait for a newer pydarnio instead of being condemned."""
    source = sample.site_file(tmp_path / SITE)
    with h5py.File(source, "r+") as file:
        for name in file:
            file[name].attrs["borealis_git_hash"] = np.bytes_("v0.9-0-g0000000")
    (tmp_path / "out").mkdir()
    for stage, parameters in ((SiteToArray, ArrayParameters()), (ToDmap, DmapOutput())):
        result = stage.work(source, tmp_path / "out", parameters)  # type: ignore[arg-type]
        assert (result.verdict, "version" in result.reason) == (Verdict.TOOL_ERROR, True)


def test_broken_installation_condemns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that fails on everything, as pydarnio did with numpy 2, gives tool_error for a good file."""
    source = sample.site_file(tmp_path / SITE, slice_id=1)

    def gone(*arguments: object, **named: object) -> None:
        raise AttributeError("`np.unicode_` was removed")

    monkeypatch.setattr(pydarnio, "BorealisConvert", gone)
    sample.pydarnio_works.cache_clear()
    try:
        result = ToDmap.work(source, tmp_path, DmapOutput())
    finally:
        sample.pydarnio_works.cache_clear()
    assert result.verdict is Verdict.TOOL_ERROR
    assert "np.unicode_" in result.reason


def test_too_little_memory_condemns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pydarnio wraps whatever it meets; a MemoryError inside is still not the file's fault."""

    def starved(*arguments: object, **named: object) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise pydarnio.borealis_exceptions.BorealisConvert2RawacfError(error) from error

    monkeypatch.setattr(pydarnio, "BorealisConvert", starved)
    source = sample.site_file(tmp_path / SITE, slice_id=1)
    assert ToDmap.work(source, tmp_path, DmapOutput()).verdict is Verdict.TOOL_ERROR


def test_lost_record_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made is counted against what was there."""
    real = convert.dmap.read_strict
    monkeypatch.setattr(convert.dmap, "read_strict", lambda data, path: real(data, path)[:-1])
    source = sample.v1_file(tmp_path / V1, slice_id=1)
    (tmp_path / "out").mkdir()
    assert ToDmap.work(source, tmp_path / "out", DmapOutput()).verdict is Verdict.TOOL_ERROR
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["20240305.1400.00.sas.26.rawacf.h5", "20240305.1400.00.sas.0.antennas_iq.h5", "x.h5"])
def test_what_has_no_dmap_name(tmp_path: Path, name: str) -> None:
    """Slices beyond z and types that are not distributed are told, not given a wrong name."""
    (tmp_path / name).write_bytes(b"")
    assert ToDmap.work(tmp_path / name, tmp_path, DmapOutput()).verdict is Verdict.BAD


@given(sequences=st.lists(st.integers(1, 6), min_size=1, max_size=4), records=st.integers(1, 6))
@settings(max_examples=8)
def test_any_lengths(tmp_path_factory: pytest.TempPathFactory, sequences: list[int], records: int) -> None:
    """Whatever the numbers of sequences, site -> array -> DMAP and site -> DMAP are the same records."""
    folder = tmp_path_factory.mktemp("any")
    site = sample.site_file(folder / SITE, records=records, sequences=sequences, slice_id=1)
    (straight,) = ToDmap.work(site, folder, DmapOutput(packed=False)).outputs
    one = pydarnio.read_rawacf(str(straight), mode="strict")
    (array,) = SiteToArray.work(site, folder, ArrayParameters()).outputs
    (output,) = ToDmap.work(array, folder, DmapOutput()).outputs
    other = pydarnio.read_rawacf(str(output), mode="strict")
    assert [record["nave"] for record in one] == [sequences[number % len(sequences)] for number in range(records)]
    for left, right in zip(one, other, strict=True):
        left.pop("combf"), right.pop("combf")
        assert left.keys() == right.keys()
        assert all(np.array_equal(left[key], right[key]) for key in left)
