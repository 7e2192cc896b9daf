"""Beams: a signal is in the beam that points at it, as strong as theory says, and nowhere else a hit of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from socs_bl.core.errors import Refused
from socs_bl.search.bfr5 import read_recipe, recipe_path
from socs_bl.search.config import SearchConfig
from socs_bl.search.engine import SearchResult, search_recording

OBSID = "MeerKAT:array_1:test"
ANTENNAS, CHANNELS, COUNT, CHAN_BW = 6, 2, 79 * 256, 1000.0
START = (60000 - 40587) * 86400 + 100.25
SIGMA = 12.0
# Delays of three targets in nanoseconds, which at 1400 MHz are some turns of phase apart, and how fast they change.
GENERATOR = np.random.default_rng(40)
DELAYS = GENERATOR.uniform(-2.0, 2.0, (3, ANTENNAS))
RATES = GENERATOR.uniform(-0.02, 0.02, (3, ANTENNAS))
GAINS = np.exp(2j * np.pi * GENERATOR.random((CHANNELS, 2, ANTENNAS))) * GENERATOR.uniform(0.5, 2, (1, 1, ANTENNAS))


def write_recipe(path: Path, **other: Any) -> Path:
    """A recipe for `DELAYS`, `RATES` and `GAINS`, one entry a second; `other` takes the place of data sets."""
    times = START - 2.0 + np.arange(30)
    delays = DELAYS[None] + RATES[None] * (times - START)[:, None, None]
    values: dict[str, Any] = {
        "diminfo/nants": ANTENNAS, "diminfo/nbeams": 3, "diminfo/nchan": CHANNELS, "diminfo/npol": 2,
        "diminfo/ntimes": times.size, "obsinfo/obsid": np.bytes_(OBSID), "calinfo/cal_all": (1 / GAINS).astype("c8"),
        "beaminfo/ras": [0.1, 0.2, 0.3], "beaminfo/decs": [-0.5, -0.51, -0.52],
        "beaminfo/src_names": np.array(["left", "middle", "right"], dtype=h5py.string_dtype()),
        "delayinfo/delays": delays, "delayinfo/time_array": times,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for name, value in {**values, **other}.items():
            if value is not None:
                file[name] = value
    return path


def sky(tones: list[tuple[int, float, float, float]], seed: int) -> npt.NDArray[np.int8]:
    """Voltages with tones (beam, Hz above the band's lower edge, drift, amplitude in units of the noise)."""
    generator = np.random.default_rng(seed)
    time = np.arange(COUNT) / CHAN_BW
    data = np.empty((ANTENNAS, CHANNELS, COUNT, 2, 2), np.int8)
    for channel in range(CHANNELS):
        centre_ghz = (1400e6 + (channel - 0.5) * CHAN_BW) * 1e-9
        for antenna in range(ANTENNAS):
            noise = generator.standard_normal((2, COUNT, 2)) / np.sqrt(2)
            series = noise[0] + 1j * noise[1]
            for beam, frequency, drift, amplitude in tones:
                if not channel * CHAN_BW <= frequency < (channel + 1) * CHAN_BW:
                    continue
                delay = DELAYS[beam, antenna] + RATES[beam, antenna] * time
                cycles = (frequency - (channel + 0.5) * CHAN_BW) * time + 0.5 * drift * time**2 - centre_ghz * delay
                series += amplitude * np.exp(2j * np.pi * cycles)[:, None]
            series *= SIGMA * GAINS[channel, :, antenna]
            data[antenna, channel, ..., 0] = np.clip(np.rint(series.real), -127, 127)
            data[antenna, channel, ..., 1] = np.clip(np.rint(series.imag), -127, 127)
    return data


def search(path: Path, **settings: Any) -> SearchResult:
    config = SearchConfig(fine_channels=1024, false_hits_per_run=1e-5, **settings)
    return search_recording([path], config, lambda step, done, total: None)


@pytest.fixture
def recording(tmp_path: Path, write_raw: Callable[..., Path]) -> Path:
    """One tone in the beam "middle", one in "right", each in a coarse channel of its own."""
    return write_raw(tmp_path / "a.0000.raw", sky([(1, 321.5, 1.2, 0.12), (2, 1700.25, -0.7, 0.12)], 41))


def test_a_signal_is_one_hit_in_the_beam_that_points_at_it(tmp_path: Path, recording: Path) -> None:
    """Gains, phases and moving delays are applied: each signal is one hit, strongest in its own beam by about the
    square root of the number of antennas, and the incoherent beam has it too."""
    write_recipe(recipe_path(tmp_path, OBSID))
    result = search(recording, recipe_dir=tmp_path)
    assert [beam.name for beam in result.beams] == ["left", "middle", "right", ""]
    assert sorted((hit.beam, hit.beam_name) for hit in result.hits) == [(1, "middle"), (2, "right")]
    for hit in result.hits:
        incoherent = dict(hit.others)[-1]
        assert 0.7 * ANTENNAS**0.5 < hit.snr / incoherent < 1.3 * ANTENNAS**0.5
    assert result.note == "" and result.recipe.endswith("MeerKAT-array_1-test.bfr5")
    low = {hit.beam: hit.frequency_mhz * 1e6 - (1400e6 - CHAN_BW) for hit in result.hits}
    assert low == pytest.approx({1: 321.5, 2: 1700.25}, abs=1.0)
    middle = result.beams[1]
    assert (middle.ra_hours, middle.dec_degrees) == pytest.approx((np.degrees(0.2) / 15, np.degrees(-0.51)))


def test_noise_makes_no_hits_in_beams(tmp_path: Path, write_raw: Callable[..., Path]) -> None:
    """A coherent beam has fewer noise powers in a sum, so a heavier tail: its threshold is higher, and it holds."""
    write_recipe(recipe_path(tmp_path, OBSID))
    path = write_raw(tmp_path / "a.0000.raw", sky([], 42))
    result, alone = search(path, recipe_dir=tmp_path), search(path)
    assert result.hits == () and alone.hits == ()
    assert result.threshold > alone.threshold + 0.5


def test_without_a_recipe_the_incoherent_beam_is_searched_and_the_result_says_so(
    tmp_path: Path, recording: Path
) -> None:
    """No recipe is no failure: both signals are found in the incoherent beam."""
    for settings in ({}, {"recipe_dir": tmp_path}):
        result = search(recording, **settings)
        assert [hit.beam for hit in result.hits] == [-1, -1]
        assert result.recipe == "" and "only the incoherent beam" in result.note


@pytest.mark.parametrize("chunk", [1, 1 << 30])
def test_spectra_are_combined_some_at_a_time(
    tmp_path: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """How many spectra are in memory together changes nothing."""
    write_recipe(recipe_path(tmp_path, OBSID))
    whole = search(recording, recipe_dir=tmp_path)
    monkeypatch.setattr("socs_bl.search.beamform.BATCH_BYTES", chunk)
    monkeypatch.setattr("socs_bl.search.beamform.CACHE_BYTES", chunk)
    assert search(recording, recipe_dir=tmp_path).hits == whole.hits


def test_missing_antennas_and_heaps_cost_their_share_only(tmp_path: Path, write_raw: Callable[..., Path]) -> None:
    """With one antenna dead and heaps lost of others, signals are found in their beams and nothing else is."""
    write_recipe(recipe_path(tmp_path, OBSID))
    data = sky([(1, 321.5, 1.2, 0.15), (2, 1700.25, -0.7, 0.15)], 43)
    data[3] = 0
    for heap in (5, 6, 40):
        data[1, :, heap * 256 : (heap + 1) * 256] = 0
    path = write_raw(tmp_path / "a.0000.raw", data)
    result = search(path, recipe_dir=tmp_path)
    assert sorted(hit.beam for hit in result.hits) == [1, 2]
    assert result.missing == pytest.approx((76 + 3) / (6 * 76), abs=0.01)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"diminfo/nants": ANTENNAS + 1}, "has shape"),
    ({"diminfo/nants": 0}, "make no sense"),
    ({"delayinfo/delays": None}, "delays"),
    ({"delayinfo/delays": np.full((30, 3, ANTENNAS), np.nan)}, "not finite"),
    ({"delayinfo/time_array": np.zeros(30)}, "do not ascend"),
    ({"beaminfo/src_names": np.array(["one"], dtype=h5py.string_dtype())}, "has shape"),
    ({"calinfo/cal_all": np.ones((CHANNELS, 2, ANTENNAS - 1))}, "has shape"),
]


@pytest.mark.parametrize(("other", "text"), BAD)
def test_a_damaged_recipe_is_refused(tmp_path: Path, other: dict[str, Any], text: str) -> None:
    """What contradicts itself is not used to point beams anywhere; the text names the file."""
    path = write_recipe(tmp_path / "a.bfr5", **other)
    with pytest.raises(Refused, match=text) as raised:
        read_recipe(path)
    assert "a.bfr5" in str(raised.value)


@pytest.mark.parametrize("raw", [b"", b"x" * 5000])
def test_another_file_is_no_recipe(tmp_path: Path, raw: bytes) -> None:
    """Empty and foreign files are refused."""
    (tmp_path / "a.bfr5").write_bytes(raw)
    with pytest.raises(Refused, match=r"a\.bfr5"):
        read_recipe(tmp_path / "a.bfr5")


def test_a_recipe_for_other_antennas_or_channels_is_refused(tmp_path: Path, recording: Path) -> None:
    """A recipe of the right name for another array is an error, as in seticore, and not a reason to search without."""
    path = recipe_path(tmp_path, OBSID)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"diminfo/nants": 5, "calinfo/cal_all": np.ones((2, 2, 5), "c8"), "delayinfo/delays": np.zeros((30, 3, 5))},
         "is for 5 antennas"),
        ({"diminfo/nchan": 1, "calinfo/cal_all": np.ones((1, 2, ANTENNAS), "c8")}, "has gains for channels 0 to 0"),
    ]  # fmt: skip
    for change, text in changes:
        write_recipe(path, **change)
        with pytest.raises(Refused, match=text):
            search(recording, recipe_dir=tmp_path)


def test_the_nearest_time_is_taken(tmp_path: Path) -> None:
    """Before the first and after the last entry of the recipe, the first and the last; between, the nearer."""
    recipe = read_recipe(write_recipe(tmp_path / "a.bfr5"))
    first = START - 2.0
    assert [recipe.time_index(first + offset) for offset in (-9.0, 0.4, 0.6, 7.0, 99.0)] == [0, 0, 1, 7, 29]
