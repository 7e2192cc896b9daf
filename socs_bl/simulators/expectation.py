"""The signal-to-noise ratio that a search must find for an injected tone.

A search cuts a coarse channel into fine channels, squares, and sums the power of `T` spectra and of the inputs along a
line of constant drift. Per input and spectrum the power of Gaussian noise has a standard deviation equal to its mean
(radiometer formula with bandwidth x time = 1), so the sum over ``M`` of them is known to ``1 / sqrt(M)`` of its mean. A
steady tone in the middle of a fine channel, of power ``p`` relative to the noise of its coarse channel, stands ``p N``
above the mean (`N` fine channels per coarse channel). With `A` antennas and `P` polarisations:

* incoherent sum: ``M = A P T``, ``snr = p N sqrt(A P T)``;
* beam on the tone: voltages add, powers of noise add: the tone stands ``A p N`` above the mean, ``M = P T``,
  ``snr = A p N sqrt(P T)``; a tone elsewhere has that times the response of the beam there.

Two things are lost. Scalloping: a tone off the middle of a fine channel leaves less in it, ``sinc(x)**2`` at an offset of
`x` channels. Drift smearing: within one spectrum a drifting tone sweeps over ``r`` channels, its power over the channels
is that of a linear chirp, ``|integral of exp(i pi r u**2 - 2 pi i x u) for u from -1/2 to 1/2|**2``. A search that sums
``w`` neighbouring channels gets ``g(w) / sqrt(w)`` of the ideal, ``g(w)`` being the mean over the spectra of the power
that falls into the ``w`` channels nearest to the tone; the best ``w`` is taken. What the search's trial lines lose by not
lying exactly on the tone is not in it.

Source: radiometer formula, e.g. Thompson, Moran & Swenson, Interferometry and Synthesis in Radio Astronomy, 6.2; loss of
a drifting tone, Sheikh et al. 2019, ApJ 884, 14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POLARISATIONS = 2
CHIRP_SAMPLES = 512


@dataclass(frozen=True)
class Resolution:
    """What a search has cut a recording into.

    Attributes
    ----------
    coarse_hz, fine_hz : float
        Widths of coarse and fine channels.
    spectra : int
        Spectra summed.
    antennas : int
    """

    coarse_hz: float
    fine_hz: float
    spectra: int
    antennas: int

    @property
    def spectrum_s(self) -> float:
        """Length of a spectrum, seconds; they follow each other without gaps."""
        return 1.0 / self.fine_hz


def expected_snr(
    power: float, offset_hz: float, drift_hz_s: float, resolution: Resolution, beam_response: float | None
) -> float:
    """Signal-to-noise ratio of a tone.

    Parameters
    ----------
    power : float
        Over the noise power of its coarse channel, per antenna and polarisation.
    offset_hz : float
        From the centre of its coarse channel, in the middle of the first spectrum.
    drift_hz_s : float
    resolution : Resolution
    beam_response : float or None
        Power with which a beam hears it, 1 for the beam on it; None for the incoherent sum.
    """
    inputs = POLARISATIONS * resolution.spectra
    gain = math.sqrt(resolution.antennas) if beam_response is None else resolution.antennas * beam_response
    steady = power * resolution.coarse_hz / resolution.fine_hz * gain * math.sqrt(inputs)
    return steady * best_share(offset_hz / resolution.fine_hz, drift_hz_s / resolution.fine_hz**2, resolution.spectra)


def best_share(offset: float, rate: float, spectra: int) -> float:
    """What scalloping and drift smearing leave of a tone's signal-to-noise ratio, 0 to 1.

    Parameters
    ----------
    offset : float
        Place of the tone in the middle of the first spectrum, in fine channels from the middle of one of them.
    rate : float
        Fine channels per spectrum.
    spectra : int
    """
    widths = range(1, math.ceil(abs(rate)) + 2)
    return max(captured(offset, rate, spectra, width) / math.sqrt(width) for width in widths)


def captured(offset: float, rate: float, spectra: int, width: int) -> float:
    """Fraction of a tone's power in the `width` fine channels nearest to it, mean over the spectra."""
    places = offset + rate * np.arange(spectra)
    first = np.ceil(places - width / 2)
    distances = first[:, None] + np.arange(width) - places[:, None]
    return float(chirp_power(rate, distances).sum(axis=1).mean())


def chirp_power(rate: float, distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Power that a tone drifting `rate` channels per spectrum leaves in channels at `distances` (in channels) from it."""
    u = (np.arange(CHIRP_SAMPLES) + 0.5) / CHIRP_SAMPLES - 0.5
    phase = np.pi * (rate * u**2 - 2 * distances[..., None] * u)
    return np.asarray(np.abs(np.exp(1j * phase).mean(axis=-1)) ** 2)
