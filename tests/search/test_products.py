"""Products as other people's readers see them: blimpy for FBH5, Cap'n Proto's own schema and bytes for hits and stamps."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import capnp
import h5py
import numpy as np
import pytest
from blimpy import Waterfall
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.search.config import SearchConfig
from socs_bl.search.engine import SearchResult, search_filterbank, search_recording
from socs_bl.search.plot import waterfall
from socs_bl.search.products import write_products
from socs_bl.search.seticore_files import SCHEMA, read_hits, read_stamps_file, schema, write_hits

TONES = [(321.5, 1.23, 0.3), (1700.25, -0.5, 0.15)]
CONFIG = SearchConfig(fine_channels=1024, false_hits_per_run=1e-5, save_h5=True, plots=0, stamps=1)
LOW_MHZ = 1400.0 - 0.001
# Both keep their files open once they are loaded.
OTHER = capnp.load(str(Path(__file__).with_name("seticore_numbers.capnp")))
for _name in ("hit", "stamp"):
    schema(_name)


class Made:
    """A search and its products."""

    def __init__(self, directory: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]) -> None:
        self.data = voltages(TONES, 70)
        self.raw = write_raw(directory / "a.0000.raw", self.data)
        self.out = directory / "out"
        quiet = lambda *_: None  # noqa: E731
        self.result: SearchResult = search_recording([self.raw], CONFIG, quiet, self.out / "a")
        self.products = write_products(self.out, "a", [self.raw], self.result, CONFIG, quiet)


@pytest.fixture(name="made")
def made_fixture(tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]) -> Made:
    """One recording with two tones, searched."""
    return Made(tmp_path, voltages, write_raw)


def test_everything_is_written_and_named(made: Made) -> None:
    """The list of products is what is there, the hit list first and the summary last."""
    names = [path.name for path in made.products.paths]
    assert names == ["a.dat", "a.hits", "a.stamps", "a.incoherent.h5", "a.search.json"]
    assert sorted(names) == sorted(path.name for path in made.out.iterdir())
    assert (made.products.summary["hit_count"], made.products.summary["stamp_count"]) == (2, 1)


def test_blimpy_opens_the_dynamic_spectrum_and_sees_the_tones(made: Made) -> None:
    """Axes, times and direction are right: where blimpy finds most power at the first spectrum are the tones."""
    waterfall = Waterfall(str(made.out / "a.incoherent.h5"))
    frequencies, power = waterfall.grab_data()
    assert power.shape == (19, 2048)
    assert waterfall.header["tsamp"] == pytest.approx(1.024) and waterfall.header["nfpc"] == 1024
    assert waterfall.header["tstart"] == pytest.approx(60000 + 100.25 / 86400, abs=1e-9)
    assert waterfall.header["src_raj"].value == pytest.approx(1.0)
    assert waterfall.header["src_dej"].value == pytest.approx(-30.0)
    for half, (frequency, drift, _) in enumerate(TONES):
        mine = slice(0, 1024) if frequencies[0] < frequencies[-1] and half == 0 else slice(1024, 2048)
        strongest = frequencies[mine][np.argmax(power[0, mine])]
        assert strongest == pytest.approx(LOW_MHZ + (frequency + drift * 0.512) * 1e-6, abs=1.5e-6)


def test_the_search_of_its_own_filterbank_finds_the_same(made: Made, tmp_path: Path) -> None:
    """An FBH5 file, and the SIGPROC file that blimpy makes of it, hold the same signals at the same places."""
    path = made.out / "a.incoherent.h5"
    Waterfall(str(path)).write_to_fil(str(tmp_path / "a.fil"))
    config = CONFIG.model_copy(update={"save_h5": False})
    for source in (path, tmp_path / "a.fil"):
        found = search_filterbank(source, config, lambda *_: None)
        assert [hit.coarse_channel for hit in found.hits] == [hit.coarse_channel for hit in made.result.hits]
        for ours, theirs in zip(found.hits, made.result.hits, strict=True):
            assert ours.frequency_mhz == pytest.approx(theirs.frequency_mhz, abs=0.2e-6)
            assert ours.drift_hz_s == pytest.approx(theirs.drift_hz_s, abs=0.01)
            assert ours.snr == pytest.approx(theirs.snr, rel=0.01)
        assert found.header.text("SRC_NAME", "") == "J0000-0000"


def test_hits_and_stamps_hold_what_an_independent_schema_reads(made: Made) -> None:
    """A schema that knows seticore's numbers only: frequencies, S/N, beam, and the power and voltages around the hit."""
    hits = list(OTHER.Hit.read_multiple_bytes((made.out / "a.hits").read_bytes()))
    assert len(hits) == 2
    for hit, known in zip(hits, made.result.hits, strict=True):
        assert (hit.signal.a, hit.signal.d) == (known.frequency_mhz, known.drift_hz_s)
        assert hit.signal.e == pytest.approx(known.snr, rel=1e-6)
        assert (hit.signal.f, hit.signal.g, hit.signal.h) == (known.coarse_channel, -1, 19)
        assert hit.signal.b == known.fine_channel % 1024
        assert hit.signal.c == round(known.drift_hz_s * 1.024 / 0.9765625 * 31)
        assert hit.signal.i == hit.signal.j > 0
        bank = hit.filterbank
        assert (bank.a, bank.e, bank.i, bank.l, bank.n) == ("J0000-0000", 1.024, 19, known.coarse_channel, -1)
        assert (bank.f, bank.g) == pytest.approx((1.0, -30.0))
        power = np.array(bank.k).reshape(bank.i, bank.j)
        brightest = bank.b + bank.c * np.argmax(power[0])
        assert brightest == pytest.approx(known.frequency_mhz + known.drift_hz_s * 0.512e-6, abs=1.5e-6)
        assert bank.m == round((bank.b - LOW_MHZ) / bank.c) % 1024
    (stamp,) = OTHER.Stamp.read_multiple_bytes((made.out / "a.stamps").read_bytes())
    assert stamp.n.startswith("socs_bl ") and stamp.t == "MeerKAT:array_1:test"
    assert (stamp.i, stamp.k, stamp.l, stamp.p) == (19, 2, 2, 1024)
    assert stamp.r.a == made.result.hits[0].frequency_mhz
    values = np.array(stamp.m, np.float32).view(np.complex64).reshape(stamp.i, stamp.j, stamp.k, stamp.l)
    # The same by hand: antenna 1, polarisation 0, spectrum 7.
    raw = made.data[1, stamp.o, 7 * 1024 : 8 * 1024, 0].astype(np.float64)
    fine = np.fft.fftshift(np.fft.fft(raw[:, 0] + 1j * raw[:, 1]))
    np.testing.assert_allclose(values[7, :, 0, 1], fine[stamp.q : stamp.q + stamp.j], rtol=1e-3, atol=0.5)


def test_the_bytes_of_a_hit_are_those_of_the_format(made: Made, tmp_path: Path) -> None:
    """Taken apart by hand: one segment; the root is a structure of two pointers; the first points to a signal of 48 bytes
    whose fields lie in the order of Cap'n Proto's layout."""
    detection = made.result.detections[0]
    small = replace(detection.cutout, power=detection.cutout.power[:, :4])
    write_hits(tmp_path / "one.hits", replace(made.result, detections=(replace(detection, cutout=small),)), 64)
    raw = (tmp_path / "one.hits").read_bytes()
    segments, words = struct.unpack_from("<II", raw)
    assert segments == 0 and len(raw) == 8 + 8 * words
    offset, data, pointers = struct.unpack_from("<IHH", raw, 8)
    assert (offset, data, pointers) == (0, 0, 2)
    offset, data, pointers = struct.unpack_from("<IHH", raw, 16)
    assert (offset & 3, data, pointers) == (0, 6, 0)
    start = 24 + 8 * (offset >> 2)
    frequency, index, steps, rate, snr, coarse, beam, spectra, *powers = struct.unpack_from("<diidfiiiff", raw, start)
    hit = made.result.hits[0]
    assert (frequency, rate, coarse, beam, spectra) == (hit.frequency_mhz, hit.drift_hz_s, hit.coarse_channel, -1, 19)
    assert (index, steps) == (hit.fine_channel % 1024, round(hit.drift_hz_s * 1.024 / 0.9765625 * 31))
    assert snr == pytest.approx(hit.snr, rel=1e-6)


def test_the_schemas_carry_the_numbers_of_seticore() -> None:
    """The ids by which other readers know the files."""
    ids = {name: (SCHEMA / f"{name}.capnp").read_text().split("@0x")[1][:16] for name in ("hit", "stamp")}
    assert ids == {"hit": "b0d6956dc23c3717", "stamp": "b811e7262df2bb01"}


def test_a_picture_shows_the_line_and_says_what_it_is(made: Made) -> None:
    """Target, beam, drift and S/N in the title; a dashed line on both sides that drifts as the hit does; all axes named."""
    cutout, hit = made.result.detections[0].cutout, replace(made.result.hits[0], beam=3, beam_name="M31")
    figure = waterfall(made.result, cutout, hit)
    axes = figure.axes[0]
    assert axes.get_title() == f"J0000-0000  blpn64/0  beam 3 (M31)\ndrift +1.23 Hz/s, S/N {hit.snr:.0f}".replace(
        "+1.23", f"{hit.drift_hz_s:+.3f}"
    )
    assert "Hz" in axes.get_xlabel() and "(s)" in axes.get_ylabel() and len(axes.lines) == 2
    for line in axes.lines:
        across, along = np.diff(np.asarray(line.get_xydata()), axis=0)[0]
        assert across / along == pytest.approx(hit.drift_hz_s, rel=1e-3)
    low, high = axes.get_xlim()
    assert all(low < x < high for line in axes.lines for x in np.asarray(line.get_xdata()))
    assert "incoherent beam" in waterfall(made.result, cutout, made.result.hits[0]).axes[0].get_title()


def test_no_hits_are_an_empty_file(made: Made, tmp_path: Path) -> None:
    """As with seticore: nothing found is a file of no messages, which is readable."""
    write_hits(tmp_path / "none.hits", replace(made.result, detections=()), 64)
    assert (tmp_path / "none.hits").read_bytes() == b"" and read_hits(tmp_path / "none.hits") == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(min_size=1, max_size=200))
def test_garbage_is_refused(tmp_path: Path, raw: bytes) -> None:
    """Whatever a file of hits, of stamps, or a filterbank holds, reading it gives messages or a refusal that names it."""
    path = tmp_path / "garbage"
    path.write_bytes(raw)
    for read in (read_hits, read_stamps_file, lambda file: search_filterbank(file, CONFIG, lambda *_: None)):
        try:
            read(path)
        except Refused as refused:
            assert "garbage" in str(refused)


def test_a_cut_off_file_of_hits_is_refused(made: Made, tmp_path: Path) -> None:
    """A file that ends in the middle of a hit is not taken for a shorter one."""
    (tmp_path / "cut.hits").write_bytes((made.out / "a.hits").read_bytes()[:-40])
    with pytest.raises(Refused, match=r"cut\.hits"):
        read_hits(tmp_path / "cut.hits")


@pytest.mark.parametrize("change", ["nan", "double", "odd", "no axis"])
def test_a_filterbank_that_makes_no_sense_is_refused(made: Made, tmp_path: Path, change: str) -> None:
    """Values that are not numbers, another type, coarse channels that do not fit, a missing axis."""
    path = tmp_path / "bad.h5"
    path.write_bytes((made.out / "a.incoherent.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        if change == "nan":
            file["data"][3, 0, 5] = np.nan
        elif change == "double":
            values = file["data"][()].astype(np.float64)
            del file["data"]
            file["data"] = values
        elif change == "odd":
            file["data"].attrs["nfpc"] = 1000
        else:
            del file["data"].attrs["foff"]
    with pytest.raises(Refused, match=r"bad\.h5"):
        search_filterbank(path, CONFIG, lambda *_: None)


def test_a_full_disk_leaves_no_half_spectra(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an FBH5 file cannot be finished, the search fails and nothing of it stays."""
    path = write_raw(tmp_path / "a.0000.raw", voltages(TONES, 71))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        search_recording([path], CONFIG, lambda *_: None, tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []
