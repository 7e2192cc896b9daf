"""Where exactly a signal is: a matched filter around the line that the tree found.

The tree's lines are stairs of whole channels. The measurement correlates the power around the line with what a drifting
tone leaves in each spectrum (the power spectrum of a linear chirp as long as a spectrum) on a fine grid of frequency and
drift, and takes the best correlation normalised by the template's own norm. Nothing beyond the noise level is assumed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

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
    spectra, channels = power.shape
    offsets, profile = chirp_template(rate)
    times = np.arange(spectra) - (spectra - 1) / 2
    side = math.ceil(abs(rate) / 2 + FREQUENCY_RANGE + DRIFT_RANGE_STEPS / 2) + SKIRT
    columns = np.rint(middle + rate * times).astype(int)[:, None] + np.arange(-side, side + 1)
    inside = (columns >= 0) & (columns < channels)
    values = np.where(inside, np.take_along_axis(power, np.clip(columns, 0, channels - 1), axis=1), 0.0)
    middles = middle + np.arange(-FREQUENCY_RANGE, FREQUENCY_RANGE + FREQUENCY_STEP / 2, FREQUENCY_STEP)
    best = (-math.inf, middle, rate)
    for trial in rate + np.linspace(-DRIFT_RANGE_STEPS, DRIFT_RANGE_STEPS, 2 * DRIFT_STEPS + 1) / (spectra - 1):
        distance = columns[None] - (middles[:, None, None] + (trial * times)[None, :, None])
        template = np.interp(distance, offsets, profile)
        score = (template * values).sum(axis=(1, 2)) / np.sqrt((template**2).sum(axis=(1, 2)))
        top = int(np.argmax(score))
        best = max(best, (float(score[top]), float(middles[top]), float(trial)))
    return best[1], best[2]
