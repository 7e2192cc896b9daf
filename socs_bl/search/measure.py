"""Where exactly a signal is: a matched filter around the line that the tree found.

The tree's lines are stairs of whole channels. The measurement correlates the power around the line with what a drifting
tone leaves in each spectrum (the power spectrum of a linear chirp as long as a spectrum) on a fine grid of frequency and
drift, and takes the best correlation normalised by the template's own norm. Nothing beyond the noise level is assumed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from socs_bl.search.kernel import kernel

OVERSAMPLING = 20
CHIRP_SAMPLES = 512
FREQUENCY_RANGE = 2.0
FREQUENCY_STEP = 0.1
DRIFT_RANGE_STEPS = 2.0
DRIFT_STEPS = 40
SKIRT = 3
ROUNDS = 4


def chirp_template(rate: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Power over channel offset that a tone drifting `rate` channels per spectrum leaves in one spectrum.

    Returns
    -------
    offsets, power : numpy.ndarray
        Offsets in channels from the tone's frequency in the middle of the spectrum, and
        ``|integral over u in (-1/2, 1/2) of exp(i pi rate u**2) exp(-2 i pi x u)|**2``.
    """
    time = (np.arange(CHIRP_SAMPLES) + 0.5) / CHIRP_SAMPLES - 0.5
    chirp = np.exp(1j * np.pi * rate * time**2)
    spectrum = np.fft.fftshift(np.fft.fft(chirp, CHIRP_SAMPLES * OVERSAMPLING)) / CHIRP_SAMPLES
    offsets = (np.arange(spectrum.size) - spectrum.size // 2) / OVERSAMPLING
    return offsets, np.abs(spectrum) ** 2


def measure(power: npt.NDArray[np.float32], middle: float, rate: float) -> tuple[float, float]:
    """Measure a line.

    Parameters
    ----------
    power : numpy.ndarray
        float32 (spectra, channels), level 0.
    middle : float
        Channel half-way between first and last spectrum, roughly.
    rate : float
        Drift in channels per spectrum, roughly.

    Returns
    -------
    middle, rate : float
        The same, measured. Standard error at S/N 10: some tenths of a channel, some tenths of a step.
    """
    for _ in range(ROUNDS):
        before = middle, rate
        middle, rate = _scan(power, middle, rate)
        drift_moved = abs(rate - before[1]) * (power.shape[0] - 1)
        if abs(middle - before[0]) < FREQUENCY_RANGE / 2 and drift_moved < DRIFT_RANGE_STEPS / 2:
            break
    return middle, rate


def _scan(power: npt.NDArray[np.float32], middle: float, rate: float) -> tuple[float, float]:
    """The best of the grid of frequencies and drifts around one line."""
    spectra = power.shape[0]
    offsets, profile = chirp_template(rate)
    side = math.ceil(abs(rate) / 2 + FREQUENCY_RANGE + DRIFT_RANGE_STEPS / 2) + SKIRT
    middles = middle + np.arange(-FREQUENCY_RANGE, FREQUENCY_RANGE + FREQUENCY_STEP / 2, FREQUENCY_STEP)
    trials = rate + np.linspace(-DRIFT_RANGE_STEPS, DRIFT_RANGE_STEPS, 2 * DRIFT_STEPS + 1) / (spectra - 1)
    scores = np.zeros((trials.size, middles.size))
    _correlate(power, middle, rate, side, middles, trials, float(offsets[0]), profile, scores)
    trial, place = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return float(middles[place]), float(trials[trial])


@kernel
def _correlate(
    power: npt.NDArray[np.float32],
    middle: float,
    rate: float,
    side: int,
    middles: npt.NDArray[np.float64],
    trials: npt.NDArray[np.float64],
    lowest: float,
    profile: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
) -> None:
    """Normalised correlation of the power within `side` of a line with the template along each trial line."""
    spectra, channels = power.shape
    for drift in range(trials.size):
        for place in range(middles.size):
            product, norm = 0.0, 0.0
            for row in range(spectra):
                time = row - (spectra - 1) / 2
                centre = int(np.rint(middle + rate * time))
                line = middles[place] + trials[drift] * time
                for column in range(centre - side, centre + side + 1):
                    position = (column - line - lowest) * OVERSAMPLING
                    index = int(np.floor(position))
                    if index < 0 or index + 1 >= profile.size:
                        continue
                    part = position - index
                    value = profile[index] * (1 - part) + profile[index + 1] * part
                    norm += value * value
                    if 0 <= column < channels:
                        product += value * power[row, column]
            scores[drift, place] = product / np.sqrt(norm)
