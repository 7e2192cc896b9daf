"""The search against tones and faults put in by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.search.config import SearchConfig
from socs_bl.search.engine import SEARCHED, TOO_SHORT, SearchResult, search_recording

LOW_HZ = 1400e6 - 1000.0
CONFIG = SearchConfig(fine_channels=1024, max_drift_hz_s=4.0, false_hits_per_run=1e-5)
SPECTRUM_S = 1.024
SPECTRA = 19


def search(path: Path, config: SearchConfig = CONFIG) -> SearchResult:
    return search_recording([path], config, lambda step, done, total: None)


def amplitude(snr: float, drift: float, antennas: int = 2) -> float:
    """Amplitude that gives at least about `snr` in the worst case (between two channels, spread by drift)."""
    spread = 1 + abs(drift) * SPECTRUM_S**2
    return math.sqrt(snr * spread / (0.4 * 1024 * math.sqrt(antennas * 2 * SPECTRA)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    middle=st.floats(60, 1940),
    drift=st.floats(-3.95, 3.95),
    snr=st.floats(1.1, 3.3).map(lambda power: 10**power),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_tone_is_found_where_it_is(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path],
    middle: float, drift: float, snr: float, seed: int,
) -> None:  # fmt: skip
    """One tone, any drift, any strength, also across two coarse channels, is one hit: frequency at the first sample
    within one fine channel, drift within one step."""
    in_dc = abs(middle % 1000 - 500) < 3 and abs(drift) < 0.5
    start = middle - drift * SPECTRA * SPECTRUM_S / 2
    if in_dc:
        return
    path = write_raw(tmp_path / "a.0000.raw", voltages([(start, drift, amplitude(snr, drift))], seed))
    result = search(path)
    assert len(result.hits) == 1, result.hits
    hit = result.hits[0]
    assert abs(hit.frequency_mhz * 1e6 - LOW_HZ - start) <= abs(result.band.fine_hz)
    assert abs(hit.drift_hz_s - drift) <= result.drift_step_hz_s
    assert hit.snr >= result.threshold


def found(result: SearchResult) -> list[tuple[float, float]]:
    """(Hz above the lower edge at the start, Hz/s) of all hits."""
    return [(hit.frequency_mhz * 1e6 - LOW_HZ, hit.drift_hz_s) for hit in result.hits]


@pytest.mark.parametrize("seed", range(6))
def test_noise_makes_no_hits(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], seed: int
) -> None:
    """Pure noise has no hits, with one antenna as with four, at the threshold that trials ask for."""
    data = voltages([], seed, antennas=1 + 3 * (seed % 2))
    result = search(write_raw(tmp_path / "a.0000.raw", data))
    assert (result.reason, result.hits, result.missing) == (SEARCHED, (), 0.0)


def test_a_dc_offset_is_no_hit(tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]) -> None:
    """An offset of the digitisers as strong as the noise, with heaps missing in it, is not reported."""
    data = voltages([], 11, offset=12.0 + 6.0j)
    for heap in (3, 20, 21, 50, 51, 52):
        data[:, :, heap * 256 : (heap + 1) * 256] = 0
    result = search(write_raw(tmp_path / "a.0000.raw", data))
    assert result.hits == ()
    assert result.missing == pytest.approx(6 / 76)


def test_missing_heaps_make_no_hits(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """With a third of the heaps gone from each antenna at random, one dead antenna and a block never written, the
    tone is found and nothing else."""
    tone = (321.5, 1.23, 0.3)
    data = voltages([tone], 12, antennas=4)
    generator = np.random.default_rng(13)
    for antenna in range(4):
        for heap in np.flatnonzero(generator.random(79) < 1 / 3):
            data[antenna, :, heap * 256 : (heap + 1) * 256] = 0
    data[2] = 0
    result = search(write_raw(tmp_path / "a.0000.raw", data, dropped_blocks=[3]))
    assert len(result.hits) == 1
    assert found(result)[0] == pytest.approx(tone[:2], abs=1.0)
    assert 0.25 < result.missing < 1


def test_a_recording_of_zeros_has_no_hits(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """No data at all is searched without a hit and reported as missing."""
    data = np.zeros_like(voltages([], 0))
    result = search(write_raw(tmp_path / "a.0000.raw", data))
    assert (result.hits, result.missing) == ((), 1.0)


def test_all_tones_are_found_strongest_first(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """Five tones, two of them crossing and two 15 Hz apart, are five hits in order of strength."""
    tones = [(700.3, 0.5, 0.9), (715.4, 0.5, 0.4), (1300.0, 2.0, 0.3), (1320.0, 0.0, 0.2), (150.0, -3.0, 0.25)]
    result = search(write_raw(tmp_path / "a.0000.raw", voltages(tones, 14)))
    assert [hit.snr for hit in result.hits] == sorted((hit.snr for hit in result.hits), reverse=True)
    assert len(result.hits) == 5
    for (frequency, drift), tone in zip(sorted(found(result)), sorted(tones), strict=True):
        assert abs(frequency - tone[0]) <= abs(result.band.fine_hz)
        assert abs(drift - tone[1]) <= result.drift_step_hz_s
    assert result.hits[0].end_frequency_mhz == pytest.approx((LOW_HZ + 700.3 + 0.5 * 19.456) / 1e6, abs=1e-6)


def test_the_axis_may_run_downwards(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """With a negative CHAN_BW the same samples are the mirrored sky: frequency and drift change sign."""
    data = voltages([(321.5, 1.23, 0.3)], 15)
    result = search(write_raw(tmp_path / "a.0000.raw", data, chan_bw=-1000.0))
    frequency, drift = found(result)[0]
    assert frequency == pytest.approx(2000 - 321.5, abs=1.0)
    assert drift == pytest.approx(-1.23, abs=result.drift_step_hz_s)


def test_one_file_or_several_blocks_of_any_size_are_the_same(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """An FFT runs over block boundaries: the block size does not change a single hit."""
    data = voltages([(321.5, 1.23, 0.3)], 16)
    results = [search(write_raw(tmp_path / f"{heaps}.0000.raw", data, block_heaps=heaps)).hits for heaps in (1, 7, 79)]
    assert results[0] == results[1] == results[2] != ()


def test_a_cut_off_file_is_searched_as_far_as_it_goes(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """A recording that ended in the middle of a block loses that block, says so, and keeps the rest."""
    path = write_raw(tmp_path / "a.0000.raw", voltages([(321.5, 1.23, 0.3)], 17))
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1000)
    result = search(path)
    assert len(result.hits) == 1
    assert "interrupted" in result.damage and result.duration_s == pytest.approx(70 * 0.256)


def test_short_recordings_and_impossible_drifts_are_told_apart(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """Too short is a result; drifts out of the coarse channel, an empty and a foreign file are refusals."""
    path = write_raw(tmp_path / "a.0000.raw", voltages([], 18))
    assert search(path, CONFIG.model_copy(update={"min_duration_s": 60.0})).reason == TOO_SHORT
    with pytest.raises(Refused, match="lower max_drift_hz_s"):
        search(path, CONFIG.model_copy(update={"max_drift_hz_s": 40.0}))
    (tmp_path / "b.0000.raw").touch()
    with pytest.raises(Refused, match="no block"):
        search(tmp_path / "b.0000.raw")
    (tmp_path / "c.0000.raw").write_bytes(b"x" * 4000)
    with pytest.raises(Refused, match="not a GUPPI RAW"):
        search(tmp_path / "c.0000.raw")


def test_an_impossible_packet_index_is_refused(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """A packet index that goes back, or that claims a recording of days, is damage and not a long gap."""
    path = write_raw(tmp_path / "a.0000.raw", voltages([], 19))
    raw = path.read_bytes()
    card = b"PKTIDX  =                 5070"
    assert raw.count(card) == 1
    for index, text in ((5000, "goes back"), (9_999_999, "damaged")):
        path.write_bytes(raw.replace(card, b"PKTIDX  = %20d" % index))
        with pytest.raises(Refused, match=text):
            search(path)


def test_a_channel_full_of_interference_is_given_up(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """More signals than the limit: the strongest are kept, the channel is named, the others are searched."""
    tones = [(60.0 + 100 * number, 0.2, 0.3 + 0.05 * number) for number in range(8)] + [(1321.0, -1.0, 0.3)]
    path = write_raw(tmp_path / "a.0000.raw", voltages(tones, 20))
    result = search(path, CONFIG.model_copy(update={"max_hits_per_channel": 5, "plots": 2}))
    assert result.given_up == (0,)
    assert [hit.coarse_channel for hit in result.hits].count(0) == 5
    assert any(abs(frequency - 1321.0) < 1 for frequency, _ in found(result))
    assert [cut.line.snr for cut in result.cutouts] == [hit.snr for hit in result.hits[:2]]


@pytest.mark.parametrize("middle", [1012.0, 1040.0, 1085.0])
def test_a_signal_above_the_edge_is_not_mistaken_for_lines_that_cross_it(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], middle: float
) -> None:
    """A strong signal just above a coarse channel is one hit of its own channel, whatever crosses it from below."""
    drift = -0.9
    start = middle - drift * SPECTRA * SPECTRUM_S / 2
    result = search(write_raw(tmp_path / "a.0000.raw", voltages([(start, drift, 0.8)], 21)))
    assert [hit.coarse_channel for hit in result.hits] == [1]
    assert found(result)[0] == pytest.approx((start, drift), abs=0.9)


def test_what_gaps_smear_of_a_strong_signal_is_no_hit(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """The same heap missing in every spectrum puts parts of a strong tone into many channels: one hit all the same."""
    data = voltages([(321.5, 0.0, 3.0)], 22)
    for heap in range(1, 79, 4):
        data[:, :, heap * 256 : (heap + 1) * 256] = 0
    result = search(write_raw(tmp_path / "a.0000.raw", data))
    assert len(result.hits) == 1 and result.hits[0].snr > 1000


def test_a_strong_signal_does_not_make_noise_of_the_next_channel_look_strong(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """Beside a very strong tone in its channel, a weak one near the edge to an empty channel is found where it is."""
    tones = [(300.5, 0.2, 2.5), (960.0, 0.3, 0.055)]
    result = search(write_raw(tmp_path / "a.0000.raw", voltages(tones, 23)))
    assert [tuple(hit) for hit in found(result)] == [pytest.approx(tone[:2], abs=1.0) for tone in tones]
