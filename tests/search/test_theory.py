"""Theory against searches of voltages made for it: signal-to-noise ratios, and false hits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socs_bl.search.baseline import flatten
from socs_bl.search.beamform import BeamPower
from socs_bl.search.config import SearchConfig
from socs_bl.search.dedoppler import DriftGrid
from socs_bl.search.engine import search_recording
from socs_bl.search.hits import ChannelFinder
from socs_bl.search.theory import captured, expected_snr, tree_line
from socs_bl.search.trials import NoiseSum, trials

FINE, SPECTRA, CHAN_BW, NOISE_POWERS = 1024, 19, 1000.0, 4
SPECTRUM_S = FINE / CHAN_BW


@pytest.mark.parametrize(("slowest", "fastest"), [(0.0, 0.0), (0.0, 0.9), (0.9, 2.0), (2.0, 3.95)])
def test_measured_signal_to_noise_is_what_theory_expects(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], slowest: float, fastest: float
) -> None:
    """Over random places between two channels and drifts of both signs, the mean of measured over expected is within
    20 % of one, and no single one is far off."""
    generator = np.random.default_rng(50)
    ratios = []
    for _ in range(10):
        drift = generator.uniform(slowest, fastest) * generator.choice([-1, 1])
        middle = generator.choice([250.0, 750.0, 1250.0, 1750.0]) + generator.uniform(-100, 100)
        place = middle * FINE / CHAN_BW
        rate = drift * (FINE / CHAN_BW) ** 2
        wanted = 60.0
        power = wanted / expected_snr(1.0, FINE, SPECTRA, NOISE_POWERS, rate, place - round(place))
        start = middle - drift * SPECTRA * SPECTRUM_S / 2
        tones = [(start, drift, power**0.5)]
        path = write_raw(tmp_path / "a.0000.raw", voltages(tones, int(generator.integers(1 << 30))))
        config = SearchConfig(fine_channels=FINE, false_hits_per_run=1e-5)
        ratios += [hit.snr / wanted for hit in search_recording([path], config, lambda *_: None).hits]
    assert len(ratios) == 10
    assert 0.8 < np.mean(ratios) < 1.2, np.mean(ratios)
    assert min(ratios) > 0.6 and max(ratios) < 1.5


def test_losses_are_those_of_the_textbook() -> None:
    """A steady tone on a channel loses nothing, one between two channels leaves ``sinc(1/2)**2 = 0.405`` in either, and a
    drift of many channels averages over both, and loses some more to the stairs that stand for its line."""
    assert captured(32, 0.0, 0.0) == pytest.approx(1.0, abs=1e-3)
    assert captured(32, 0.0, 0.5) == pytest.approx(np.sinc(0.5) ** 2, abs=1e-3)
    places = np.linspace(-0.5, 0.5, 1001)
    average = float(np.mean(np.sinc(places) ** 2))
    assert 0.75 * average < captured(64, 0.3, 0.1) < average
    assert captured(32, 5.0, 0.0) < captured(32, 2.0, 0.0) < captured(32, 0.5, 0.0)


def test_a_line_of_the_tree_crosses_as_many_channels_as_it_is_named_for() -> None:
    """Stairs begin at nought, end at their drift, and never go back or jump."""
    for drift in range(16):
        line = tree_line(16, drift)
        assert (line[0], line[-1]) == (0, drift)
        assert set(np.diff(line)) <= {0, 1}


@pytest.mark.parametrize(
    ("spectra", "fine", "powers", "runs"), [(19, 1024, 4, 60), (19, 1024, 2, 60), (64, 2048, 8, 10)]
)
def test_noise_makes_no_more_hits_than_allowed(spectra: int, fine: int, powers: int, runs: int) -> None:
    """With several false hits allowed a run, so that there are some to count, there are no more, and not none."""
    generator = np.random.default_rng(51)
    grid = DriftGrid(spectra, 2.2)
    allowed, found = 3.0, 0
    noise = NoiseSum(spectra * powers, fine)
    lines = trials(1, 1, fine, grid)
    threshold = noise.threshold(allowed, lines)
    assert noise.false_hits(threshold, lines) == pytest.approx(allowed, rel=0.01)
    for _ in range(runs):
        power = generator.gamma(powers, 1.0, (spectra, fine)).astype(np.float32)
        flats = {0: flatten(BeamPower(power, np.full(spectra, powers), 0.0, 0.0))}
        found += len(ChannelFinder(grid, fine, 1, 500).find(0, flats, threshold)[0])
    # Four deviations of a Poisson number above the mean allowed.
    assert 0.05 * allowed * runs < found < allowed * runs + 4 * np.sqrt(allowed * runs)


def test_a_threshold_rises_with_trials_and_with_fewer_noise_powers() -> None:
    """More lines, a longer tail, or noise measured on fewer channels: each asks for a stronger signal."""
    base = NoiseSum(76, 4096).threshold(0.01, 10**6)
    assert base < NoiseSum(76, 4096).threshold(0.01, 10**8)
    assert base < NoiseSum(38, 4096).threshold(0.01, 10**6)
    assert base < NoiseSum(76, 256).threshold(0.01, 10**6)
    assert base > NoiseSum(76, 4096).threshold(1.0, 10**6)
