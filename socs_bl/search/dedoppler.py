"""De-Doppler: sums of power along straight lines in time and frequency.

A Taylor tree adds `size` spectra (a power of two, missing ones are zeros) along all lines that cross 0 to ``size - 1``
channels in ``size * log2(size)`` additions a channel (Taylor 1974, A&AS 15, 367). Drifts of either sign and beyond one
channel per spectrum are covered by drift blocks: for block ``k`` spectrum ``t`` is first moved by ``k * t`` channels,
so that the same tree gives the rates from ``k`` to ``k + 1`` channels per spectrum; ``k`` runs from below zero to above.

Within one spectrum a signal of rate ``r`` is spread over ``|r|`` channels. Blocks beyond one channel per spectrum
therefore sum ``width`` neighbouring channels first, which costs a factor of about ``sqrt(width)`` in signal-to-noise
ratio against an undrifting signal, rather than the factor ``width`` that single channels would lose.

A line is named by the channel it crosses half-way through the recording, since error in rate and error in that channel
do not depend on each other. For every such channel only the best rate is kept, which bounds the memory: two signals that
cross half-way in the same channel come out one after the other, as the first is masked before the second is looked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.search.kernel import kernel


@dataclass(frozen=True)
class DriftGrid:
    """Which lines are tried.

    Attributes
    ----------
    spectra : int
        Spectra in the recording, at least 2.
    max_rate : float
        Largest drift, channels per spectrum.
    """

    spectra: int
    max_rate: float

    @property
    def size(self) -> int:
        """Rows of the tree: the power of two not below `spectra`."""
        return 1 << max(1, (self.spectra - 1).bit_length())

    @property
    def step(self) -> float:
        """One drift step, channels per spectrum: the drift that moves a line by one channel from the first spectrum to
        the last. The lines tried are ``1 / (size - 1)`` apart, which is finer."""
        return 1.0 / (self.spectra - 1)

    @property
    def blocks(self) -> range:
        """The drift blocks."""
        return range(-math.ceil(self.max_rate), math.ceil(self.max_rate))

    @property
    def reach(self) -> int:
        """Channels that a line may stray from where it is half-way, with room for smoothing and measuring."""
        widest = max(block_width(block) for block in self.blocks)
        return math.ceil(self.max_rate * self.spectra / 2) + widest + 6


def block_width(block: int) -> int:
    """Neighbouring channels summed in a drift block."""
    return max(1, math.ceil(abs(block + 0.5)))


@dataclass
class BestLines:
    """For every channel half-way through the recording, the best line through it.

    Attributes
    ----------
    snr : numpy.ndarray
        float32: its signal-to-noise ratio.
    rate : numpy.ndarray
        float32: its drift, channels per spectrum.
    """

    snr: npt.NDArray[np.float32]
    rate: npt.NDArray[np.float32]


def best_lines(
    power: npt.NDArray[np.float32],
    grid: DriftGrid,
    noise: dict[int, tuple[float, float]],
    first: int,
    count: int,
) -> BestLines:
    """Try all lines of `grid`.

    Parameters
    ----------
    power : numpy.ndarray
        float32 (spectra, channels), level 0. At least `grid.reach` channels on both sides of the wanted ones.
    grid : DriftGrid
        Lines to try.
    noise : dict[int, tuple[float, float]]
        Median and sigma of the sums, by block width.
    first, count : int
        The channels (columns of `power`) half-way for which lines are wanted.

    Returns
    -------
    BestLines
        Arrays of length `count`. Memory of the trees: ``2 * size * channels * 4`` bytes.
    """
    best = BestLines(np.full(count, -np.inf, np.float32), np.zeros(count, np.float32))
    trees = np.empty((2, grid.size, power.shape[1]), np.float32)
    for block in grid.blocks:
        width = block_width(block)
        median, sigma = noise[width]
        if sigma > 0:
            _shear(power, block, width, trees[0])
            summed = _taylor_tree(trees, grid.spectra)
            _keep_best(
                trees[summed], grid.spectra, block, width, grid.max_rate, median, sigma, first, best.snr, best.rate
            )
    return best


@kernel
def _shear(power: npt.NDArray[np.float32], block: int, width: int, tree: npt.NDArray[np.float32]) -> None:
    """Row t of `tree`: `power` moved down by ``block * t`` channels and summed over `width` channels."""
    spectra, channels = power.shape
    tree[:] = 0
    for row in range(spectra):
        for part in range(width):
            move = block * row + part - width // 2
            low, high = max(0, -move), min(channels, channels - move)
            for channel in range(low, high):
                tree[row, channel] += power[row, channel + move]


@kernel
def _taylor_tree(trees: npt.NDArray[np.float32], spectra: int) -> int:
    """Sum the rows of ``trees[0]``; returns which of the two buffers holds the result: row d, lines that cross d channels.

    Of two neighbouring groups of `half` rows, the line that crosses ``d`` channels in both follows the line of ``d // 2``
    in each, the second beginning ``d - d // 2`` channels further on.
    """
    _, size, channels = trees.shape
    source, half = 0, 1
    while half < size:
        target = 1 - source
        for group in range(0, min(size, spectra), 2 * half):
            for drift in range(2 * half):
                upper = trees[source, group + drift // 2]
                total = trees[target, group + drift]
                if group + half >= spectra:
                    total[:] = upper
                    continue
                lower = trees[source, group + half + drift // 2]
                shift = (drift + 1) // 2
                for channel in range(channels - shift):
                    total[channel] = upper[channel] + lower[channel + shift]
                for channel in range(channels - shift, channels):
                    total[channel] = upper[channel]
        source = target
        half *= 2
    return source


@kernel
def _keep_best(
    sums: npt.NDArray[np.float32],
    spectra: int,
    block: int,
    width: int,
    max_rate: float,
    median: float,
    sigma: float,
    first: int,
    best_snr: npt.NDArray[np.float32],
    best_rate: npt.NDArray[np.float32],
) -> None:
    """Compare the sums of one drift block with the best so far, channel half-way by channel half-way."""
    size, channels = sums.shape
    count = best_snr.shape[0]
    centring = 0.0 if width % 2 else -0.5
    for drift in range(size):
        rate = block + drift / (size - 1)
        if abs(rate) > max_rate + 0.5 / size:
            continue
        offset = int(np.floor(rate * (spectra - 1) / 2 + centring + 0.5)) - first
        for channel in range(max(0, -offset), min(channels, count - offset)):
            snr = np.float32((sums[drift, channel] - median) / sigma)
            if snr > best_snr[channel + offset]:
                best_snr[channel + offset] = snr
                best_rate[channel + offset] = rate
