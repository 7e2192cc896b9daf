"""Checks: the four verdicts, each for its own reason."""

from __future__ import annotations

import bz2
import datetime
import os
from pathlib import Path

import h5py
import numpy as np
import pydarnio
import pytest

from socs_bl.core.errors import Retry
from socs_bl.core.stage import Verdict
from socs_bl.superdarn import checks, dmap, hdf5, sample
from socs_bl.superdarn.checks import CheckDmap, CheckHdf5, CheckName, DmapParameters, Hdf5Parameters, NameParameters
from socs_bl.superdarn.convert import DmapOutput, ToDmap
from socs_bl.superdarn.route import Route, RouteParameters

V1 = "20240305.1400.00.sas.0.rawacf.h5"
DMAP = "20240305.1400.00.sas.a.rawacf.bz2"
ANY_END = DmapParameters(block=0)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A good DMAP file of six records."""
    source = sample.v1_file(tmp_path / V1, records=6)
    (output,) = ToDmap.work(source, tmp_path, DmapOutput()).outputs
    return output


def _records(path: Path) -> list[bytes]:
    """The bytes of each record."""
    records = pydarnio.read_rawacf(str(path), mode="strict")
    return [pydarnio.write_rawacf([record]) for record in records]


def test_good_dmap(packed: Path) -> None:
    """A whole file is ok, and says what it is."""
    result = CheckDmap.work(packed, packed.parent, DmapParameters(records=6, last_time=sample.START + 17.5, block=0))
    assert (result.verdict, result.reason) == (Verdict.OK, "")
    told = {name: result.metadata[name] for name in ("records", "cp", "stid", "channel", "slice", "radar", "folder")}
    assert told == {"records": 6, "cp": 151, "stid": 5, "channel": 0, "slice": 0, "radar": "sas", "folder": "2024/03"}
    assert result.metadata["period_s"] == pytest.approx(3.5)


def test_cut_where_a_record_ends(packed: Path) -> None:
    """Reads strictly without an error; the number of records, the time of the last one and the block's end give it away."""
    packed.write_bytes(bz2.compress(b"".join(_records(packed)[:4])))
    assert len(pydarnio.read_rawacf(str(packed), mode="strict")) == 4
    assert CheckDmap.work(packed, packed.parent, DmapParameters(records=6, block=0)).verdict is Verdict.BAD
    assert (
        CheckDmap.work(packed, packed.parent, DmapParameters(last_time=sample.START + 17.5, block=0)).verdict
        is Verdict.BAD
    )
    result = CheckDmap.work(packed, packed.parent, DmapParameters())
    assert result.verdict is Verdict.SUSPECT
    assert "before the block ends" in result.reason


def test_block_that_is_complete(tmp_path: Path) -> None:
    """The last record near the end of the block: nothing to say."""
    name = "20240305.1559.42.sas.0.rawacf.h5"
    start = datetime.datetime(2024, 3, 5, 15, 59, 42, 500000, tzinfo=datetime.UTC).timestamp()
    source = sample.v1_file(tmp_path / name, records=5, start=start)
    (output,) = ToDmap.work(source, tmp_path, DmapOutput()).outputs
    assert CheckDmap.work(output, tmp_path, DmapParameters()).verdict is Verdict.OK
    assert CheckHdf5.work(source, tmp_path, Hdf5Parameters()).verdict is Verdict.OK
    late = sample.v1_file(tmp_path / name, records=20, start=start)
    assert "beyond the end" in CheckHdf5.work(late, tmp_path, Hdf5Parameters()).reason


def test_broken_dmap_names_the_place(packed: Path) -> None:
    """A record cut in the middle: bad, with the good records and the byte."""
    records = _records(packed)
    packed.write_bytes(bz2.compress(b"".join(records)[:-100]))
    result = CheckDmap.work(packed, packed.parent, ANY_END)
    assert result.verdict is Verdict.BAD
    assert f"5 good records before byte {sum(map(len, records[:5]))}" in result.reason


@pytest.mark.parametrize("content", [b"", bz2.compress(b""), b"no DMAP at all", bz2.compress(b"x" * 5000)])
def test_empty_and_foreign_dmap(tmp_path: Path, content: bytes) -> None:
    """Nothing, an empty bzip2 stream of 14 bytes, something else: bad."""
    path = tmp_path / DMAP
    path.write_bytes(content)
    assert CheckDmap.work(path, tmp_path, ANY_END).verdict is Verdict.BAD


def test_second_stream_is_seen(packed: Path) -> None:
    """A file packed twice into the same name: pydarnio reads half of it without a word; here it is bad."""
    packed.write_bytes(packed.read_bytes() * 2)
    assert len(pydarnio.read_rawacf(str(packed), mode="strict")) == 6
    assert "appended" in CheckDmap.work(packed, packed.parent, ANY_END).reason


def test_dmap_of_another_radar(packed: Path) -> None:
    """Station and channel are held against the name."""
    other = packed.with_name("20240305.1400.00.rkn.c.rawacf.bz2")
    os.rename(packed, other)
    result = CheckDmap.work(other, other.parent, ANY_END)
    assert result.verdict is Verdict.SUSPECT
    assert "station 65" in result.reason
    assert "slice 2" in result.reason


def test_dmap_findings(packed: Path) -> None:
    """Times that go back, an experiment that changes, values that are no numbers: suspect, with the record."""
    records = pydarnio.read_rawacf(str(packed), mode="strict")
    records[2]["time.hr"] = 13
    records[4]["cp"] = 157
    records[5]["acfd"][0, 0, 0] = np.nan
    assert [finding.split(",")[0].split(":")[0] for finding in dmap.survey(records).findings] == [
        "1 times go back",
        "cp changes",
        "acfd is not finite in 1 records",
    ]


def test_missing_library_is_a_tool_error(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pydarnio nothing is known about a file; the reason says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "pydarnio", None)
    result = CheckDmap.work(packed, packed.parent, ANY_END)
    assert result.verdict is Verdict.TOOL_ERROR
    assert "pip install 'socs_bl[superdarn]'" in result.reason


def test_vanished_file(tmp_path: Path) -> None:
    """A file that is not there is neither good nor bad."""
    assert CheckDmap.work(tmp_path / DMAP, tmp_path, ANY_END).verdict is Verdict.TOOL_ERROR


def test_file_that_vanishes_meanwhile(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed while it is read: looked at again, not judged."""
    real = dmap.content
    monkeypatch.setattr(dmap, "content", lambda path: (real(path), path.unlink())[0])
    with pytest.raises(Retry, match="vanished"):
        CheckDmap.work(packed, packed.parent, ANY_END)


@pytest.mark.parametrize("form", ["site", "v1"])
def test_hdf5_with_a_stub(tmp_path: Path, form: str) -> None:
    """An unfinished last record passes h5stat; here it is named."""
    write = sample.site_file if form == "site" else sample.v1_file
    path = write(tmp_path / (V1 if form == "v1" else "20240305.1400.00.sas.0.rawacf.hdf5.site"), records=4)
    with h5py.File(path, "r+") as file:
        last = sorted(set(file) - {"metadata"})[-1]
        del file[last]["xcfs"], file[last]["beam_nums"]
    result = CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0))
    assert result.verdict is Verdict.SUSPECT
    assert f"record {last}: lacks beam_nums, xcfs" in result.reason
    assert (result.metadata["records"], result.metadata["incomplete_records"]) == (3, 1)
    assert CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0, records=4)).verdict is Verdict.BAD


def test_flipped_byte_in_a_chunk(tmp_path: Path) -> None:
    """One byte inside a packed chunk: the file opens, its records are all there, and reading every chunk finds it."""
    path = sample.v1_file(tmp_path / V1, records=3, ranges=60)
    with h5py.File(path, "r") as file:
        name = sorted(set(file) - {"metadata"})[1]
        place = file[name]["main_acfs"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 0x10
    path.write_bytes(data)
    with h5py.File(path, "r") as file:
        assert hdf5.survey(file).records == 3
    result = CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0))
    assert (result.verdict, V1 in result.reason) == (Verdict.BAD, True)


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", None])
def test_not_hdf5(tmp_path: Path, content: bytes | None) -> None:
    """Empty, something else, cut in the middle: bad."""
    path = sample.v1_file(tmp_path / V1)
    path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
    assert CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0)).verdict is Verdict.BAD


def test_hdf5_of_a_lost_clock(tmp_path: Path) -> None:
    """Records of another radar, slice and time than the name says, taken without GPS: all told."""
    path = sample.v1_file(tmp_path / V1, station="pgr", slice_id=3, start=1000.5)
    with h5py.File(path, "r+") as file:
        for name in set(file) - {"metadata"}:
            file[name]["gps_locked"][()] = False
    reason = CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0)).reason
    for part in ("the records pgr", "slice 0, the records 3", "without GPS", "from the time in the name"):
        assert part in reason


def test_raw_samples_are_not_blamed(tmp_path: Path) -> None:
    """Raw samples have no slice, beams or sequences of their own; what is not there is not missed."""
    path = sample.v1_file(tmp_path / "20240305.1400.00.sas.rawrf.h5")
    with h5py.File(path, "r+") as file:
        for name in file:
            for field in ("slice_id", "beam_nums", "num_sequences", "experiment_id", "station", "gps_locked"):
                file[name].pop(field, None)
    result = CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0))
    assert (result.verdict, result.reason) == (Verdict.OK, "")
    assert not {"slice", "cp"} & result.metadata.keys()


def test_missing_filter_is_a_tool_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compression that this host has not: the file may be perfect."""
    path = sample.v1_file(tmp_path / V1)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    assert CheckHdf5.work(path, tmp_path, Hdf5Parameters(block=0)).verdict is Verdict.TOOL_ERROR


def test_names_and_clocks(tmp_path: Path) -> None:
    """A wrong clock is suspect, a foreign radar too, a foreign name bad."""
    day = datetime.datetime(2024, 3, 5, 16, tzinfo=datetime.UTC).timestamp()
    for name, verdict in (
        (V1, Verdict.OK),
        ("20060101.0000.05.sas.0.rawacf.h5", Verdict.SUSPECT),
        ("20240305.1400.00.hal.0.rawacf.h5", Verdict.SUSPECT),
        ("core.12345", Verdict.BAD),
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (day, day))
        assert CheckName.work(tmp_path / name, tmp_path, NameParameters(radars=("sas",))).verdict is verdict, name
    result = CheckName.work(tmp_path / V1, tmp_path, NameParameters())
    assert result.metadata == {
        "radar": "sas",
        "type": "rawacf",
        "form": "h5",
        "name_time": day - 7200,
        "folder": "2024/03",
        "slice": 0,
        "clock_error_s": 7200.0,
    }


@pytest.mark.parametrize(
    ("cpid", "route"), [(151, "distribute"), (-151, "special"), (3503, "distribute"), (-3800, "wide")]
)
def test_routes(tmp_path: Path, cpid: int, route: str) -> None:
    """Experiments go by their exact number: a special mode's negative number is not the common one's."""
    source = sample.v1_file(tmp_path / V1, cpid=cpid)
    (output,) = ToDmap.work(source, tmp_path, DmapOutput()).outputs
    parameters = RouteParameters(routes={"distribute": (151, 3503, 157, 191), "wide": (-3800,)})
    result = Route.work(output, tmp_path, parameters)
    assert (result.verdict, result.metadata["cp"], result.metadata["route"]) == (Verdict.OK, cpid, route)


def test_routes_are_one_each() -> None:
    """An experiment on two routes is a mistake in the pipeline, told before the start."""
    with pytest.raises(ValueError, match="151"):
        RouteParameters(routes={"one": (151,), "two": (151,)})


def test_first_record_of_a_long_file(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routing reads the head only: a file that is broken further down is still routed (and found by check_dmap)."""
    monkeypatch.setattr(dmap, "_HEAD_BYTES", 20_000)
    records = _records(packed)
    plain = packed.with_suffix("")
    plain.write_bytes(b"".join(records) * 3 + b"broken")
    assert int(dmap.first_record(plain)["cp"]) == 151
    assert checks.CheckDmap.work(plain, plain.parent, ANY_END).verdict is Verdict.BAD
