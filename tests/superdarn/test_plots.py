"""Pictures: the numbers drawn are those that pydarnio reads, and what cannot be drawn is told."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pydarnio
import pytest
from PIL import Image
from pydarnio.borealis.borealis_site import BorealisSiteWrite

from socs_bl.core.stage import Verdict
from socs_bl.superdarn import sample, samples
from socs_bl.superdarn.convert import ArrayParameters, SiteToArray
from socs_bl.superdarn.plots import (
    DatedFolder,
    PlotAntennas,
    PlotParameters,
    Thumbnail,
    ThumbnailParameters,
)
from socs_bl.superdarn.work import NoParameters

SITE = "20240305.1400.00.sas.0.antennas_iq.hdf5.site"
V1 = "20240305.1400.00.sas.0.antennas_iq.h5"
PLOT = "20240305.1400.00.sas.0.antennas_iq.antenna_3_0_70.jpg"


def _file(folder: Path, form: str, **shape: int) -> Path:
    if form == "v1":
        return sample.v1_file(folder / V1, "antennas_iq", records=4, **shape)
    site = sample.site_file(folder / SITE, "antennas_iq", records=4, **shape)
    return site if form == "site" else SiteToArray.work(site, folder, ArrayParameters()).outputs[0]


def _voltages(path: Path, form: str) -> np.ndarray:
    """Antennas x sequences x samples, as pydarnio reads them."""
    if form == "v1":
        from pydarnio.borealis.v1_onwards import BorealisV1Read

        data: np.ndarray = BorealisV1Read.read_arrays(str(path))["antennas_iq_data"]
        return data
    arrays = pydarnio.BorealisRead(str(path), "antennas_iq", form).arrays
    return np.concatenate(
        [data[:, :count] for data, count in zip(arrays["data"], arrays["num_sequences"], strict=True)], axis=1
    )


@pytest.mark.parametrize("columns", [4096, 3])
@pytest.mark.parametrize("form", ["site", "array", "v1"])
def test_power_is_what_pydarnio_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, columns: int) -> None:
    """Power and signal-to-noise of every structure, also where several sequences share a column of the picture."""
    monkeypatch.setattr(samples, "COLUMNS", columns)
    path = _file(tmp_path, form)
    with h5py.File(path, "r") as file:
        seen = samples.read_antennas(file, 5, 75)
    voltage = np.abs(_voltages(path, form))[:, :, 5:75]
    power = 20 * np.log10(voltage)
    total = power.shape[1]
    shared = np.arange(total) * min(columns, total) // total
    expected = np.stack([power[:, shared == column].mean(axis=1) for column in np.unique(shared)], axis=1)
    np.testing.assert_allclose(seen.power, expected, rtol=1e-5)
    snr = power[:, :, 2:].max(axis=2) - 20 * np.log10(np.sort(voltage)[:, :, :10].mean(axis=2))
    np.testing.assert_allclose(seen.snr, snr, rtol=1e-4)
    assert seen.numbers == (0, 1, 2, 3, 4, 5)
    assert seen.counts.tolist() == [3, 2, 3, 2]
    assert (seen.station, seen.experiment, seen.zero) == ("sas", "NormalScan", ())
    assert (seen.first, seen.last) == pytest.approx((sample.START, sample.START + 10.6))


@pytest.mark.may_leave("descriptors")  # matplotlib keeps its fonts open
@pytest.mark.parametrize(("style", "size"), [("sequences", (1200, 1000)), ("snr", (3200, 1600))])
def test_pictures(tmp_path: Path, style: str, size: tuple[int, int]) -> None:
    """One JPEG for each antenna asked for, of the size of its style, in which an echo is brighter than what is around it."""
    path = _file(tmp_path, "v1", samples=80)
    with h5py.File(path, "r+") as file:
        for name in set(file) - {"metadata"}:
            data = file[name]["antennas_iq_data"][()] * 1e-3
            data[3, :, 30:40] *= 1e3
            file[name]["antennas_iq_data"][...] = data
    (tmp_path / "out").mkdir()
    result = PlotAntennas.work(path, tmp_path / "out", PlotParameters.model_validate({"style": style, "antennas": [3]}))
    assert (result.verdict, result.reason) == (Verdict.OK, "")
    assert os.listdir(tmp_path / "out") == [PLOT]
    with Image.open(result.outputs[0]) as picture:
        assert picture.size == size
        pixels = np.asarray(picture.convert("L"), float)
    # The lower panel is the lower two thirds of the picture; the echo is a little below its middle.
    column = pixels[:, int(size[0] * 0.4) : int(size[0] * 0.6)].mean(axis=1)
    assert (
        column[int(size[1] * 0.56) : int(size[1] * 0.64)].max()
        > column[int(size[1] * 0.75) : int(size[1] * 0.88)].mean() + 50
    )


@pytest.mark.may_leave("descriptors")  # as above
def test_antennas_without_signal(tmp_path: Path) -> None:
    """An antenna that is dead or not in the file is told; the others are drawn."""
    path = _file(tmp_path, "v1")
    with h5py.File(path, "r+") as file:
        for name in set(file) - {"metadata"}:
            file[name]["antennas_iq_data"][1] = 0
    result = PlotAntennas.work(path, tmp_path, PlotParameters(antennas=(1, 19)))
    assert (result.verdict, len(result.outputs)) == (Verdict.SUSPECT, 1)
    assert result.reason == "antenna 19 is not in the file; antenna 1 has no signal: every sample is 0"


@pytest.mark.parametrize("form", ["site", "array"])
def test_antennas_of_old_versions(tmp_path: Path, form: str) -> None:
    """Files of v0.4 keep names as characters in numbers, and lack what came later; they are drawn all the same."""
    reader = pydarnio.BorealisRead(str(sample.site_file(tmp_path / "new", "antennas_iq")), "antennas_iq", "site")
    old = pydarnio.borealis_formats.borealis_version_dict["v0.4"]["antennas_iq"]
    for record in reader.records.values():
        for field in set(record) - set(old.site_fields()):
            del record[field]
        record |= {
            "borealis_git_hash": "v0.4-0-g0000000",
            "experiment_id": np.int64(151),
            "scan_start_marker": np.uint8(0),
        }
        for field in ("antenna_arrays_order", "data_descriptors"):
            record[field] = np.array([name.decode() for name in record[field]])
    path = tmp_path / SITE
    BorealisSiteWrite(str(path), reader.records, "antennas_iq")
    if form == "array":
        (path,) = SiteToArray.work(path, tmp_path, ArrayParameters()).outputs
    with h5py.File(path, "r") as file:
        assert samples.read_antennas(file, 0, 70).numbers == (0, 1, 2, 3, 4, 5)


def test_stub_record_is_left_out(tmp_path: Path) -> None:
    """What the radar had written before it stopped is drawn."""
    path = _file(tmp_path, "v1")
    with h5py.File(path, "r+") as file:
        last = sorted(set(file) - {"metadata"})[-1]
        del file[last]["antennas_iq_data"]
    with h5py.File(path, "r") as file:
        assert samples.read_antennas(file, 0, 70).counts.tolist() == [3, 2, 3]


def test_what_is_not_drawn(tmp_path: Path) -> None:
    """Other types, sample ranges that are not there and broken files are bad; a missing library is not."""
    path = sample.v1_file(tmp_path / "20240305.1400.00.sas.0.rawacf.h5")
    assert PlotAntennas.work(path, tmp_path, PlotParameters()).verdict is Verdict.BAD
    path = _file(tmp_path, "v1")
    assert PlotAntennas.work(path, tmp_path, PlotParameters(first_sample=500, last_sample=570)).verdict is Verdict.BAD
    with pytest.raises(ValueError, match="last_sample"):
        PlotParameters(first_sample=70)


def test_no_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the drawing library says so; the data are not blamed."""
    path = _file(tmp_path, "v1")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert PlotAntennas.work(path, tmp_path, PlotParameters()).verdict is Verdict.TOOL_ERROR


@pytest.mark.parametrize(
    ("width", "height", "prefix", "dated"), [(1000, 835, "", False), (160, 134, "thumbnail-", True)]
)
def test_thumbnails(tmp_path: Path, width: int, height: int, prefix: str, dated: bool) -> None:
    """The sizes that leave the site and that the archive keeps; the time of the picture stays."""
    Image.effect_noise((1211, 1011), 60).convert("RGB").save(tmp_path / PLOT, quality=90)
    os.utime(tmp_path / PLOT, ns=(10**18, 10**18))
    (tmp_path / "out").mkdir()
    parameters = ThumbnailParameters.model_validate({"width": width, "prefix": prefix, "dated": dated})
    result = Thumbnail.work(tmp_path / PLOT, tmp_path / "out", parameters)
    expected = tmp_path / "out" / ("2024/03" if dated else "") / f"{prefix}{PLOT}"
    assert (result.verdict, result.outputs) == (Verdict.OK, (expected,))
    with Image.open(expected) as picture:
        assert picture.size == (width, height)
    assert expected.stat().st_size < (tmp_path / PLOT).stat().st_size
    assert expected.stat().st_mtime_ns == 10**18


def test_thumbnails_that_are_not_made(tmp_path: Path) -> None:
    """Onto itself or of something else: bad, and the picture stays; small pictures are not enlarged."""
    Image.new("RGB", (300, 200)).save(tmp_path / PLOT)
    before = (tmp_path / PLOT).read_bytes()
    assert Thumbnail.work(tmp_path / PLOT, tmp_path, ThumbnailParameters()).verdict is Verdict.BAD
    assert (tmp_path / PLOT).read_bytes() == before
    (tmp_path / "out").mkdir()
    assert Thumbnail.work(tmp_path / PLOT, tmp_path / "out", ThumbnailParameters()).metadata["width"] == 300
    (tmp_path / PLOT).write_bytes(before[:100])
    assert Thumbnail.work(tmp_path / PLOT, tmp_path / "out", ThumbnailParameters()).verdict is Verdict.BAD
    (tmp_path / PLOT).write_bytes(b"no picture")
    assert Thumbnail.work(tmp_path / PLOT, tmp_path / "out", ThumbnailParameters()).verdict is Verdict.BAD


def test_dated_folders(tmp_path: Path) -> None:
    """A late block of an old month goes to that month; a missing archive is never replaced by something of its name."""
    source = tmp_path / "20051231.2359.59.sas.a.rawacf.bz2"
    source.write_bytes(b"block")
    (tmp_path / "archive").mkdir()
    (output,) = DatedFolder.work(source, tmp_path / "archive", NoParameters()).outputs
    assert output == tmp_path / "archive/2005/12/20051231.2359.59.sas.a.rawacf.bz2"
    assert output.read_bytes() == b"block"
    result = DatedFolder.work(source, tmp_path / "missing", NoParameters())
    assert result.verdict is Verdict.TOOL_ERROR
    assert not (tmp_path / "missing").exists()
