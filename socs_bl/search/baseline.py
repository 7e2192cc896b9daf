"""Level and noise of one coarse channel, and what "signal-to-noise ratio" means here.

The power is divided by the passband (medians over all times and channels of a sub-band, interpolated), which brings
noise to 1 per contribution whatever signals are in the coarse channel; then each spectrum's own median over frequency is
taken off. So neither a filter's roll-off nor a gain step nor a spectrum with fewer antennas is taken for a signal, and a
strong signal, which crosses many channels but is in few of them at a time, does not shift the level.

Signal-to-noise ratio of a trial line: ``(s - m) / sigma``, where ``s`` is the sum of the flattened power along the
line, and ``m`` and ``sigma`` are median and 1.4826 x median absolute deviation of the sums at zero drift over the fine
channels of the same coarse channel. Every line takes one value from each spectrum, so for noise that is white across
fine channels all drift rates have the noise of zero drift. The median and MAD ignore the channels that signals occupy.
For lines that cross ``w`` channels per spectrum the flattened power is summed over ``w`` channels first, and ``m`` and
``sigma`` are those of the summed values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.search.beamform import BeamPower

SUB_BANDS = 16
MIN_SUB_BAND = 64
MAD_TO_SIGMA = 1.4826
# Values that a median is taken of. Its error is 1.3 / sqrt(n) of the noise: far below the noise of any sum.
LEVEL_SAMPLES = 8192
NOISE_SAMPLES = 1 << 15


@dataclass
class FlatBeam:
    """A coarse channel with level zero and flat noise.

    Attributes
    ----------
    power : numpy.ndarray
        float32 (spectra, fine channels), noise level 0.
    gap_leakage : float
        As in `BeamPower`.
    shape : float
        Independent exponential variables in a sum along a line (`socs_bl.search.trials`); 0 when there is no data.
    masked : numpy.ndarray
        bool (fine channels,): channels in which a found signal has been masked.
    """

    power: npt.NDArray[np.float32]
    gap_leakage: float
    shape: float
    masked: npt.NDArray[np.bool_]


def flatten(beam: BeamPower) -> FlatBeam:
    """Divide by the passband and take off each spectrum's level; spectra without any contribution become zero.

    Works in place: the beam's power becomes the flat one.
    """
    spectra, fine = beam.power.shape
    seen = beam.contributions > 0
    if not seen.any():
        return FlatBeam(np.zeros((spectra, fine), np.float32), beam.gap_leakage, 0.0, np.zeros(fine, bool))
    width = max(MIN_SUB_BAND, -(-fine // SUB_BANDS))
    starts = np.arange(0, fine - width + 1, width)
    thin = max(1, int(seen.sum()) * width // LEVEL_SAMPLES)
    levels = np.array([np.median(beam.power[seen, start : start + width].reshape(-1)[::thin]) for start in starts])
    # A sub-band without any power holds no signal either; any positive level keeps it at zero.
    levels[levels <= 0] = max(levels.max(), 1.0)
    levels /= np.median(beam.contributions[seen])
    gain = np.interp(np.arange(fine), starts + (width - 1) / 2, 1 / levels).astype(np.float32)
    # A stride that shares no factor with the powers of two that the band is made of sees all of it.
    spacing = max(1, fine // LEVEL_SAMPLES) | 1
    flat = beam.power
    flat *= gain
    level = np.median(flat[:, ::spacing], axis=1)
    flat -= level[:, None]
    flat[~seen] = 0
    return FlatBeam(flat, beam.gap_leakage, float(beam.contributions.sum()), np.zeros(fine, bool))


def noise(flat: FlatBeam, widths: Iterable[int]) -> dict[int, tuple[float, float]]:
    """Median and sigma of the zero-drift sums over so many neighbouring channels; sigma 0 when there is no noise.

    At most `NOISE_SAMPLES` places, evenly over the coarse channel, are looked at. Masked channels are left out as long as
    half of the others are left.
    """
    line = flat.power.sum(axis=0, dtype=np.float64)
    upto = np.concatenate([[0.0], np.cumsum(line)])
    masks = np.concatenate([[0], np.cumsum(flat.masked)])
    found = {}
    for width in widths:
        sums = upto[width:] - upto[:-width]
        clean = masks[width:] == masks[:-width]
        sums = sums if 2 * np.count_nonzero(clean) < clean.size else sums[clean]
        sums = sums[:: -(-sums.size // NOISE_SAMPLES)]
        median = float(np.median(sums))
        found[width] = median, MAD_TO_SIGMA * float(np.median(np.abs(sums - median)))
    return found
