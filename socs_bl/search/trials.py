"""How strong a signal must be so that noise makes hardly ever a hit.

A search tries ``N`` lines: beams x fine channels x drifts. Power along a line of pure noise is the sum of ``k``
independent exponential variables of mean 1 (spectra x polarisations, in the incoherent beam x antennas), a gamma
variable of shape ``k``; summed over ``w`` channels, of shape ``w k``. In terms of the signal-to-noise ratio of
`socs_bl.search.baseline`, with the gamma distribution's own median ``m`` and median absolute deviation ``s``, noise
exceeds a threshold ``t`` with probability ``Q(k, m + t s)``, ``Q`` the regularised upper incomplete gamma function. The
threshold is the one at which ``N`` times that is the number of false hits allowed. Since lines overlap, trials are not
independent, and the true number of false hits is smaller.

``s`` is not known but measured over ``F`` fine channels of a coarse channel, `NOISE_SAMPLES` at most, with a relative
standard error of ``1.166 / sqrt(F)`` (that of a median absolute deviation of Gaussian noise). The probability is averaged
over that error; with few fine channels this raises the threshold considerably.

Source: the sum of exponential variables is textbook; the error of the median absolute deviation is
``1 / (4 phi(q) q sqrt(F))``, ``q = 0.6745`` (Serfling 1980, section 2.3.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import brentq
from scipy.special import gammaincc, gammaincinv

from socs_bl.search.baseline import MAD_TO_SIGMA, NOISE_SAMPLES
from socs_bl.search.dedoppler import DriftGrid

_MAD_ERROR = 1.166
_NODES, _WEIGHTS = hermegauss(40)
_HIGHEST = 1e4


def trials(beams: int, channels: int, fine: int, grid: DriftGrid) -> int:
    """Lines tried in a search of `beams` beams of `channels` coarse channels with `fine` fine channels each."""
    steps = 2 * math.ceil(grid.max_rate * (grid.size - 1)) + 1
    return beams * channels * fine * steps


@dataclass(frozen=True)
class NoiseSum:
    """Sums of noise along lines.

    Attributes
    ----------
    shape : float
        ``k``: independent exponential variables in a sum.
    fine : int
        Fine channels that the noise is measured on.
    """

    shape: float
    fine: int

    def false_hits(self, threshold: float, lines: int) -> float:
        """Expected number of `lines` lines of noise above a signal-to-noise ratio, at most."""
        return float(lines * np.exp(self._log_tail(threshold)))

    def threshold(self, false_hits: float, lines: int) -> float:
        """Signal-to-noise ratio that noise exceeds `false_hits` times in `lines` lines."""
        wanted = math.log(false_hits / lines)
        return float(brentq(lambda snr: self._log_tail(snr) - wanted, 0.0, _HIGHEST, xtol=1e-4))

    def _log_tail(self, snr: float) -> float:
        """Logarithm of the probability that a line of noise exceeds `snr`, averaged over the error of the noise."""
        median, sigma = _median_and_sigma(self.shape)
        error = _MAD_ERROR / math.sqrt(min(self.fine, NOISE_SAMPLES))
        # A measured noise of nothing is not believed: errors beyond what the nodes allow are cut off.
        sigmas = sigma * np.maximum(1 + error * _NODES, 0.05)
        tail = float(_WEIGHTS @ gammaincc(self.shape, median + snr * sigmas)) / math.sqrt(2 * math.pi)
        return math.log(max(tail, 1e-300))


def _median_and_sigma(shape: float) -> tuple[float, float]:
    """Median of a gamma variable, and what 1.4826 x its median absolute deviation is."""
    median = float(gammaincinv(shape, 0.5))
    if shape > 1e6:
        return median, math.sqrt(shape)
    upper = brentq(
        lambda d: gammaincc(shape, max(median - d, 0.0)) - gammaincc(shape, median + d) - 0.5,
        0.0,
        median + 10 * math.sqrt(shape) + 10,
    )
    return median, MAD_TO_SIGMA * float(upper)
