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

# Trees are worked through in pieces of the band that stay in a processor's second-level cache.
TILE_BYTES = 1 << 19
TILE_LEAST = 512
# Rows of the first two levels of a tree, and drifts of the last level, that are taken together.
ROWS = 4


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
        """Rows of the tree: the power of two not below `spectra`, at least 8."""
        return 1 << max(3, (self.spectra - 1).bit_length())

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
        Arrays of length `count`. Memory of the trees: some `TILE_BYTES`.
    """
    best = BestLines(np.full(count, -np.inf, np.float32), np.zeros(count, np.float32))
    # Blocks of the same width one after the other, and widths ascending: each adds one channel to the one before.
    blocks = np.array(sorted(grid.blocks, key=lambda block: (block_width(block), block)), np.int64)
    widths = np.array([block_width(int(block)) for block in blocks], np.int64)
    medians = np.array([noise[int(width)][0] for width in widths], np.float32)
    sigmas = np.array([noise[int(width)][1] for width in widths])
    scales = np.divide(1.0, sigmas, out=np.zeros_like(sigmas), where=sigmas > 0).astype(np.float32)
    if not scales.any() or count < 1:
        return best
    tile = max(grid.size, TILE_LEAST, TILE_BYTES // (12 * grid.size) - 2 * grid.size)
    tile = min(tile, count)
    margin = math.ceil((grid.max_rate + 3) * (grid.spectra / 2 + ROWS)) + 2 * grid.size + int(widths[-1])
    smooth = np.empty((-(-grid.spectra // ROWS) * ROWS, tile + 2 * margin), np.float32)
    trees = np.empty((2, grid.size, tile + 2 * grid.size), np.float32)
    for start in range(0, count, tile):
        stop = min(start + tile, count)
        _search_tile(
            power, blocks, widths, medians, scales, grid.max_rate, first + start, margin,
            smooth[:, : stop - start + 2 * margin], trees, best.snr[start:stop], best.rate[start:stop],
        )  # fmt: skip
    return best


@kernel
def _search_tile(
    power: npt.NDArray[np.float32],
    blocks: npt.NDArray[np.int64],
    widths: npt.NDArray[np.int64],
    medians: npt.NDArray[np.float32],
    scales: npt.NDArray[np.float32],
    max_rate: float,
    first: int,
    margin: int,
    smooth: npt.NDArray[np.float32],
    trees: npt.NDArray[np.float32],
    best_snr: npt.NDArray[np.float32],
    best_rate: npt.NDArray[np.float32],
) -> None:
    """All drift blocks for the lines that are in the channels from `first` on half-way."""
    spectra = power.shape[0]
    size = trees.shape[1]
    count = best_snr.shape[0]
    left = first - margin
    smooth[:] = 0
    _add_moved(power, left, smooth)
    summed = 1
    drifts, begins = np.zeros(ROWS, np.int64), np.zeros(ROWS, np.int64)
    rates = np.zeros(ROWS)
    for index in range(blocks.shape[0]):
        block, width = blocks[index], widths[index]
        while summed < width:
            summed += 1
            _add_moved(power, left - summed // 2 if summed % 2 == 0 else left + summed // 2, smooth)
        if scales[index] == 0:
            continue
        centring = 0.0 if width % 2 else -0.5
        # Where lines begin whose places half-way are wanted, from the fastest drift's first to the slowest's last.
        lowest = int(np.floor(block * (spectra - 1) / 2 + centring + 0.5))
        highest = int(np.floor((block + 1) * (spectra - 1) / 2 + centring + 0.5))
        source = _taylor_tree(smooth, spectra, block, margin - highest, count + highest - lowest, trees)
        least = block if -max_rate - 0.5 / size < block else -max_rate - 0.5 / size
        from_drift = int(np.ceil((least - block) * (size - 1)))
        to_drift = min(size - 1, int(np.floor((max_rate + 0.5 / size - block) * (size - 1))))
        for four in range(from_drift, to_drift + 1, ROWS):
            for part in range(ROWS):
                drift = min(four + part, to_drift)
                rates[part] = block + drift / (size - 1)
                begins[part] = highest - int(np.floor(rates[part] * (spectra - 1) / 2 + centring + 0.5))
                drifts[part] = drift
            _last_level(
                trees[source], drifts, begins, rates.astype(np.float32), medians[index], scales[index], best_snr, best_rate
            )  # fmt: skip


@kernel
def _add_moved(power: npt.NDArray[np.float32], left: int, smooth: npt.NDArray[np.float32]) -> None:
    """Add to column c of `smooth` column ``left + c`` of `power`, as far as there is one; rows that it lacks stay zero."""
    channels, columns = power.shape[1], smooth.shape[1]
    low, high = max(0, -left), min(columns, channels - left)
    for row in range(power.shape[0]):
        if low < high:
            source = power[row, left + low : left + high]
            target = smooth[row, low:high]
            for column in range(high - low):
                target[column] += source[column]


@kernel
def _taylor_tree(
    smooth: npt.NDArray[np.float32], spectra: int, block: int, left: int, count: int, trees: npt.NDArray[np.float32]
) -> int:
    """Sum the rows of `smooth`, row t moved by ``block * t`` channels, up to the two halves of the last addition.

    Of two neighbouring groups of `half` rows, the line that crosses ``d`` channels in both follows the line of ``d // 2``
    in each, the second beginning ``d - d // 2`` channels further on. Returns which of the two buffers holds the halves:
    row ``d`` the lines of the first half that cross ``d`` channels, row ``size / 2 + d`` those of the second. Column c
    is the line that begins in column ``left + c`` of `smooth`; `count` of them are wanted of the whole sum.
    """
    size = trees.shape[1]
    extent = count + size - ROWS
    for group in range(0, smooth.shape[0], ROWS):
        begin = left + block * group
        first = smooth[group, begin : begin + extent]
        for drift in range(ROWS):
            # Two levels at once: lines that cross 0 to 3 channels in four rows.
            start = begin + block + drift // 2
            second = smooth[group + 1, start : start + extent]
            start = begin + 2 * block + (drift + 1) // 2
            third = smooth[group + 2, start : start + extent]
            start = begin + 3 * block + drift
            fourth = smooth[group + 3, start : start + extent]
            total = trees[0, group + drift]
            for channel in range(extent):
                total[channel] = (first[channel] + second[channel]) + (third[channel] + fourth[channel])
    source, half = 0, ROWS
    while 2 * half < size:
        target = 1 - source
        extent = count + size - 2 * half
        for group in range(0, spectra, 2 * half):
            for drift in range(2 * half):
                upper = trees[source, group + drift // 2]
                total = trees[target, group + drift]
                if group + half >= spectra:
                    total[:extent] = upper[:extent]
                    continue
                shift = (drift + 1) // 2
                lower = trees[source, group + half + drift // 2][shift:]
                for channel in range(extent):
                    total[channel] = upper[channel] + lower[channel]
        source = target
        half *= 2
    if half >= spectra:
        trees[source, half:] = 0
    return source


@kernel
def _last_level(
    halves: npt.NDArray[np.float32],
    drifts: npt.NDArray[np.int64],
    begins: npt.NDArray[np.int64],
    rates: npt.NDArray[np.float32],
    median: float,
    scale: float,
    best_snr: npt.NDArray[np.float32],
    best_rate: npt.NDArray[np.float32],
) -> None:
    """The last level of the tree for four drifts, and the best of the four against the best so far."""
    half, count = halves.shape[0] // 2, best_snr.shape[0]
    steps = (drifts + 1) // 2 + begins
    rows = drifts // 2
    upper0, lower0 = halves[rows[0], begins[0] :], halves[half + rows[0], steps[0] :]
    upper1, lower1 = halves[rows[1], begins[1] :], halves[half + rows[1], steps[1] :]
    upper2, lower2 = halves[rows[2], begins[2] :], halves[half + rows[2], steps[2] :]
    upper3, lower3 = halves[rows[3], begins[3] :], halves[half + rows[3], steps[3] :]
    rate0, rate1, rate2, rate3 = rates[0], rates[1], rates[2], rates[3]
    for channel in range(count):
        total = upper0[channel] + lower0[channel]
        other = upper1[channel] + lower1[channel]
        third = upper2[channel] + lower2[channel]
        fourth = upper3[channel] + lower3[channel]
        rate = rate1 if other > total else rate0
        total = other if other > total else total
        later = rate3 if fourth > third else rate2
        third = fourth if fourth > third else third
        rate = later if third > total else rate
        total = third if third > total else total
        snr = (total - median) * scale
        better = snr > best_snr[channel]
        best_snr[channel] = snr if better else best_snr[channel]
        best_rate[channel] = rate if better else best_rate[channel]
