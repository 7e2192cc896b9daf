"""The signal-to-noise ratio that a tone should have, from its power and the way it is searched.

A tone of power ``p`` (over the noise power of its coarse channel, in each polarisation of each antenna) has ``p * fine``
times the noise of a fine channel when it stays in one. Summed over ``n`` independent noise powers, of mean and deviation
1, the radiometer equation (Dicke 1946) gives it the signal-to-noise ratio

    gain * p * fine * captured * sqrt(n)

with ``n = spectra * polarisations * antennas`` and gain 1 in the incoherent beam, and ``n = spectra * polarisations`` and
gain ``antennas`` in a coherent beam that points at it. ``captured`` is what the best of the lines tried gets of the tone's
power, from three effects, all in one sum:

* scalloping: between two channels the rectangular window leaves ``sinc(x)**2`` in each (Harris 1978, Proc. IEEE 66, 51);
* drift smearing: within one spectrum a drifting tone is a linear chirp, whose power spectrum is that of
  `socs_bl.search.measure.chirp_template` (a Fresnel integral);
* the lines themselves are stairs, those of Taylor's tree, of one channel in each spectrum, or of ``w`` neighbouring ones
  for the price of ``sqrt(w)`` in noise (`socs_bl.search.dedoppler`).

The search takes the highest of many lines, whose noise differs: what it reports is higher than this by some tenths of the
noise, which matters near the threshold only.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from socs_bl.search.dedoppler import DriftGrid, block_width
from socs_bl.search.measure import chirp_template

_NEAR_CHANNELS = 2
_NEAR_DRIFTS = 3


def tree_line(size: int, drift: int) -> npt.NDArray[np.int64]:
    """Channels, from the first on, of the tree's line that crosses `drift` channels in `size` spectra: int64 (size,)."""
    if size == 1:
        return np.zeros(1, np.int64)
    half = tree_line(size // 2, drift // 2)
    return np.concatenate([half, half + (drift + 1) // 2])


def captured(spectra: int, rate: float, offset: float) -> float:
    """Fraction of a tone's power in the best line, over the square root of the line's width.

    Parameters
    ----------
    spectra : int
        Spectra in the recording.
    rate : float
        Drift, channels per spectrum.
    offset : float
        Half-way between first and last spectrum, distance of the tone from the centre of a channel, in channels.
    """
    offsets, profile = chirp_template(rate)
    grid = DriftGrid(spectra, abs(rate) + 1)
    times = np.arange(spectra)
    places = offset + rate * (times - (spectra - 1) / 2)
    best = 0.0
    for block in {math.floor(rate), math.ceil(rate) - 1}:
        width = block_width(block)
        nearest = round((rate - block) * (grid.size - 1))
        for drift in range(max(0, nearest - _NEAR_DRIFTS), min(grid.size - 1, nearest + _NEAR_DRIFTS) + 1):
            line = block * times + tree_line(grid.size, drift)[:spectra]
            first = round(float(np.mean(places - line)))
            for start in range(first - width // 2 - _NEAR_CHANNELS, first - width // 2 + _NEAR_CHANNELS + 1):
                columns = (start + line)[:, None] + np.arange(width)
                power = np.interp(columns - places[:, None], offsets, profile, 0.0, 0.0)
                best = max(best, float(power.sum()) / spectra / math.sqrt(width))
    return best


def expected_snr(
    power: float, fine: int, spectra: int, noise_powers: int, rate: float, offset: float, gain: float = 1.0
) -> float:
    """Signal-to-noise ratio (`socs_bl.search.baseline`) that a search should find for a tone.

    Parameters
    ----------
    power : float
        Of the tone in each polarisation of each antenna, over the noise power of the coarse channel there.
    fine : int
        Fine channels per coarse channel.
    spectra : int
        Spectra in the recording.
    noise_powers : int
        Independent noise powers in each: polarisations x antennas, or polarisations in a coherent beam.
    rate : float
        Drift, channels per spectrum: ``drift_hz_s * (fine / chan_bw_hz)**2``.
    offset : float
        Half-way, distance of the tone from the centre of a fine channel, in channels.
    gain : float
        Of a coherent beam in the tone's direction: the number of antennas when it points there.
    """
    return gain * power * fine * captured(spectra, rate, offset) * math.sqrt(spectra * noise_powers)
