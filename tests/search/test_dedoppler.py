"""The tree against sums along its lines, one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.search import dedoppler
from socs_bl.search.dedoppler import BestLines, DriftGrid, best_lines, block_width
from socs_bl.search.theory import tree_line


def one_by_one(
    power: npt.NDArray[np.float32], grid: DriftGrid, noise: dict[int, tuple[float, float]], first: int, count: int
) -> BestLines:
    """What `best_lines` should give: every line of the tree added up by itself, in double precision."""
    spectra, channels = power.shape
    best = BestLines(np.full(count, -np.inf, np.float32), np.zeros(count, np.float32))
    times = np.arange(spectra)
    for block in grid.blocks:
        width = block_width(block)
        median, sigma = noise[width]
        for drift in range(grid.size):
            rate = block + drift / (grid.size - 1)
            if abs(rate) > grid.max_rate + 0.5 / grid.size:
                continue
            half_way = int(np.floor(rate * (spectra - 1) / 2 + (0.0 if width % 2 else -0.5) + 0.5))
            for place in range(count):
                columns = first + place - half_way + block * times + tree_line(grid.size, drift)[:spectra]
                total = 0.0
                for part in range(width):
                    at = columns + part - width // 2
                    inside = (at >= 0) & (at < channels)
                    total += float(power[times[inside], at[inside]].sum(dtype=np.float64))
                snr = (total - median) / sigma
                if snr > best.snr[place] + 1e-6:
                    best.snr[place], best.rate[place] = snr, rate
    return best


@settings(max_examples=25, deadline=None)
@given(spectra=st.integers(2, 40), max_rate=st.floats(0.05, 3.0), count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_every_line_is_tried_and_the_best_kept(spectra: int, max_rate: float, count: int, seed: int) -> None:
    """For any number of spectra and any drift, the best line through each channel is the one found line by line."""
    grid = DriftGrid(spectra, max_rate)
    power = np.random.default_rng(seed).standard_normal((spectra, count + 2 * grid.reach)).astype(np.float32)
    noise = {block_width(block): (0.1, (spectra * block_width(block)) ** 0.5) for block in grid.blocks}
    found, wanted = (way(power, grid, noise, grid.reach, count) for way in (best_lines, one_by_one))
    np.testing.assert_allclose(found.snr, wanted.snr, atol=1e-4)
    assert np.mean(found.rate == wanted.rate.astype(np.float32)) > 0.9


@pytest.mark.parametrize("tile", [1, 1 << 14, 1 << 30])
def test_pieces_of_the_band_fit_together(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    """How much of the band is worked on at a time changes nothing."""
    grid = DriftGrid(21, 1.7)
    power = np.random.default_rng(60).standard_normal((21, 3000 + 2 * grid.reach)).astype(np.float32)
    noise = {block_width(block): (0.0, 5.0) for block in grid.blocks}
    whole = best_lines(power, grid, noise, grid.reach, 3000)
    monkeypatch.setattr(dedoppler, "TILE_BYTES", tile)
    monkeypatch.setattr(dedoppler, "TILE_LEAST", 64)
    pieces = best_lines(power, grid, noise, grid.reach, 3000)
    assert np.array_equal(whole.snr, pieces.snr) and np.array_equal(whole.rate, pieces.rate)


def test_without_noise_nothing_is_found() -> None:
    """A coarse channel of zeros has no signal-to-noise ratios, and none is made up."""
    grid = DriftGrid(16, 1.0)
    best = best_lines(np.zeros((16, 200), np.float32), grid, {1: (0.0, 0.0)}, grid.reach, 100)
    assert np.all(best.snr == -np.inf)
