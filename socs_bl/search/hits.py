"""From trial lines to hits: find the strongest, measure it, mask it, look again.

Masking takes a found signal out of the power (sets it to the noise level) before the next look, so lines that merely
cross it, and its neighbours in frequency and drift, never become hits of their own: one signal, one hit. The mask is
wide enough for the side lobes of the rectangular window to sink to half the threshold outside it. Where it reaches over
the edge of a coarse channel it is repeated at the other edge, where side lobes and the signal itself come back aliased.

A line may leave its coarse channel: the search of one coarse channel sees its neighbours' edges. A hit belongs to the
coarse channel it is in half-way through the recording.

A strong signal that drifts through much of a coarse channel is in the noise measured there. Once it is masked the noise is
measured again without it, and what was found so far is restated against that.

A line that crosses a signal runs at most twice the reach of the drifts away from it half-way. The strongest line within
that distance on both sides is therefore the signal itself: from the strongest line inside the coarse channel the search
climbs to it, if need be beyond the upper edge, before it believes anything (the lower neighbour has had its turn).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from socs_bl.search.baseline import FlatBeam, noise
from socs_bl.search.dedoppler import DriftGrid, best_lines, block_width
from socs_bl.search.measure import measure

LEAKAGE_MARGIN = 2.0
CUTOUT_MARGIN = 48
# A change of the noise, or a part of the coarse channel, that is worth measuring the noise again for, and how often.
NOTICEABLE = 0.02
SETTLING = 4


@dataclass(frozen=True)
class Line:
    """A found signal in units of the grid.

    Attributes
    ----------
    middle : float
        Place on the band's fine axis half-way between the middles of the first and the last spectrum.
    rate : float
        Channels per spectrum.
    snr : float
        Signal-to-noise ratio of the best trial line (`socs_bl.search.baseline`).
    """

    middle: float
    rate: float
    snr: float

    def start(self, spectra: int) -> float:
        """Place at the first sample of the recording."""
        return self.middle - self.rate * spectra / 2

    def end(self, spectra: int) -> float:
        """Place after the last sample of the last spectrum."""
        return self.middle + self.rate * spectra / 2


@dataclass(frozen=True)
class Cutout:
    """Power around a found line, before it was masked.

    Attributes
    ----------
    line : Line
        The line.
    power : numpy.ndarray
        float32 (spectra, channels).
    first : int
        Place of the first column on the band's fine axis.
    """

    line: Line
    power: npt.NDArray[np.float32]
    first: int


@dataclass
class ChannelFinder:
    """Looks for lines, coarse channel by coarse channel, upwards.

    Parameters
    ----------
    grid : DriftGrid
        Lines to try.
    fine : int
        Fine channels per coarse channel.
    channels : int
        Coarse channels in the band.
    limit : int
        Hits after which a coarse channel is given up.
    """

    grid: DriftGrid
    fine: int
    channels: int
    limit: int

    def find(self, channel: int, flats: Mapping[int, FlatBeam], lowest: float) -> tuple[list[Cutout], bool]:
        """Find the lines of one coarse channel, strongest first.

        Parameters
        ----------
        channel : int
            The coarse channel.
        flats : Mapping[int, FlatBeam]
            It and its neighbours as far as they exist. Found lines are masked in place, so what is found beyond the
            upper edge is not found again when its own turn comes.
        lowest : float
            Signal-to-noise ratio of a hit.

        Returns
        -------
        list[Cutout]
            The lines found, each in the place where it is, in this coarse channel or just above it.
        bool
            True when the channel was given up with lines left in it.
        """
        reach, own = self.grid.reach, flats[channel]
        widths = {block_width(block) for block in self.grid.blocks}
        levels = noise(own, widths)
        found: list[Cutout] = []
        threshold, base, count = lowest, channel * self.fine - reach, self.fine + 4 * reach
        power = self._window(channel, flats)
        best = best_lines(power, self.grid, levels, reach, count)
        while True:
            top = int(np.argmax(best.snr[: self.fine]))
            if best.snr[top] < threshold:
                return found, False
            if len(found) == self.limit:
                return found, True
            top = climb(best.snr, top, 2 * reach)
            middle, rate = measure(power, float(top + reach), float(best.rate[top]))
            found.append(self._cut(Line(base + middle, rate, float(best.snr[top])), power, base))
            inside = self._mask(found[-1].line, flats, channel, lowest, power)
            settled = False
            for _ in range(SETTLING):
                fresh = self._quieter(found[-1].line, own, levels, widths, lowest)
                if fresh is None:
                    break
                # All that was found so far stood against noise that this signal was part of.
                found = [_stronger(cutout, levels[1][1] / fresh[1][1]) for cutout in found]
                levels, settled = fresh, True
                inside = self._mask(found[-1].line, flats, channel, lowest, power)
            line = found[-1].line
            threshold = max(threshold, LEAKAGE_MARGIN * own.gap_leakage * line.snr)
            if not inside:
                power = self._window(channel, flats)
            # Lines that cross the mask run at most this far from it half-way.
            far = 2 * reach + guard_channels(line, self.fine, lowest) + 1
            near = inside and not settled
            low, high = (max(0, top - far), min(count, top + far + 1)) if near else (0, count)
            again = best_lines(power, self.grid, levels, reach + low, high - low)
            best.snr[low:high], best.rate[low:high] = again.snr, again.rate

    def _quieter(
        self, line: Line, own: FlatBeam, levels: dict[int, tuple[float, float]], widths: set[int], lowest: float
    ) -> dict[int, tuple[float, float]] | None:
        """The noise without a signal that is masked now, when the signal was a noticeable part of it."""
        crossed = abs(line.rate) * self.grid.spectra + 2 * guard_channels(line, self.fine, lowest)
        if crossed < NOTICEABLE * self.fine / 2:
            return None
        fresh = noise(own, widths)
        return fresh if 0 < fresh[1][1] < (1 - NOTICEABLE) * levels[1][1] else None

    def _window(self, channel: int, flats: Mapping[int, FlatBeam]) -> npt.NDArray[np.float32]:
        """The coarse channel with `reach` channels below it and five times as many above; zeros beyond the band."""
        reach, own = self.grid.reach, flats[channel].power
        window = np.zeros((own.shape[0], self.fine + 6 * reach), np.float32)
        window[:, reach : reach + self.fine] = own
        if channel - 1 in flats:
            window[:, :reach] = flats[channel - 1].power[:, self.fine - reach :]
        if channel + 1 in flats:
            window[:, reach + self.fine :] = flats[channel + 1].power[:, : 5 * reach]
        return window

    def cut(self, line: Line, channel: int, flats: Mapping[int, FlatBeam]) -> Cutout:
        """The power around a line that was found in coarse channel `channel` of another beam."""
        return self._cut(line, self._window(channel, flats), channel * self.fine - self.grid.reach)

    def _cut(self, line: Line, power: npt.NDArray[np.float32], base: int) -> Cutout:
        """A copy of the power around the line."""
        spectra = self.grid.spectra
        ends = sorted((line.start(spectra), line.end(spectra)))
        low = max(0, math.floor(ends[0]) - CUTOUT_MARGIN - base)
        high = min(power.shape[1], math.ceil(ends[1]) + CUTOUT_MARGIN - base)
        return Cutout(line, power[:, low:high].copy(), base + low)

    def _mask(
        self, line: Line, flats: Mapping[int, FlatBeam], own: int, lowest: float, window: npt.NDArray[np.float32]
    ) -> bool:
        """Set the power along the line to the noise level.

        True when all that is within coarse channel `own`, and the search's window, which is masked as well, is up to date.
        """
        spectra, guard = self.grid.spectra, guard_channels(line, self.fine, lowest)
        centres = np.rint(line.middle + line.rate * (np.arange(spectra) - (spectra - 1) / 2)).astype(int)
        places = centres[:, None] + np.arange(-guard, guard + 1)
        rows = np.broadcast_to(np.arange(spectra)[:, None], places.shape)
        touched = np.unique(places // self.fine)
        for channel in touched:
            if channel in flats:
                flats[channel].power[rows, places % self.fine] = 0
                flats[channel].masked[places % self.fine] = True
        inside = bool(touched.size == 1 and touched[0] == own)
        if inside:
            window[rows, places - (own * self.fine - self.grid.reach)] = 0
        return inside


def _stronger(cutout: Cutout, factor: float) -> Cutout:
    """The same with `factor` times the signal-to-noise ratio."""
    return replace(cutout, line=replace(cutout.line, snr=cutout.line.snr * factor))


def guard_channels(line: Line, fine: int, threshold: float) -> int:
    """Channels on either side of a line in which it may have left half the power of a hit of S/N `threshold`."""
    # Side lobes fall as rate / (pi k)**2 at distance k for a chirp, as 1 / (pi k)**2 for a steady tone.
    lobes = math.sqrt(2 * line.snr * (1 + abs(line.rate)) / threshold) / math.pi
    return min(math.ceil(abs(line.rate) / 2 + 2 + lobes), fine // 4)


def climb(snr: npt.NDArray[np.float32], place: int, distance: int) -> int:
    """From `place` to the strongest within `distance` on both sides, again and again until it is the strongest itself."""
    while True:
        low = max(0, place - distance)
        top = low + int(np.argmax(snr[low : place + distance + 1]))
        if snr[top] <= snr[place]:
            return place
        place = top
