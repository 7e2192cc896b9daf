"""Fine spectra of one coarse channel.

One FFT of `fine` samples per spectrum, rectangular window, no overlap; spectra follow each other without a pause, so
their length is ``fine / |CHAN_BW|`` seconds and a block boundary may fall anywhere in one. The FFT's own order is kept
(channel 0 is the centre of the coarse channel, DC) until power is summed; power is shifted, so that fine channel
``fine / 2`` is the centre and channel 0 the lower edge.

Gaps. A spectrum of which a fraction ``g`` is missing carries only ``1 - g`` of the noise power; its weight makes up for
it. Above `max_missing` its weight is zero. In a spectrum with a gap the mean of the samples that are there is taken
off first, since a gap would smear a DC offset over all channels; a tone is smeared too, by at most ``(g / (1 - g))**2``
of its power (`gap_leakage`), which the hit list takes into account.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from socs_bl.search.kernel import kernel
from socs_bl.search.voltages import AntennaSurvey, AntennaVoltages


def weigh(survey: AntennaSurvey, fine: int, max_missing: float) -> tuple[npt.NDArray[np.float32], float]:
    """Weights of one antenna's spectra, and the power that gaps smear.

    Each polarisation is scaled to unit mean power over the recording, so that a hot receiver does not drown the others:
    pure noise then has mean 1 in every channel of every spectrum.

    Parameters
    ----------
    survey : AntennaSurvey
        What is there.
    fine : int
        Samples per spectrum.
    max_missing : float
        Largest fraction missing.

    Returns
    -------
    numpy.ndarray
        float32 (polarisations, spectra): factor from ``|FFT|**2`` to power; 0 for spectra left out.
    float
        Sum over polarisations and used spectra of ``(g / (1 - g))**2``.
    """
    there = survey.counts
    used = (there > 0) & (there >= (1 - max_missing) * fine)
    weights = np.zeros((survey.mean_power.size, there.size), np.float32)
    live = np.flatnonzero(survey.mean_power > 0)
    weights[np.ix_(live, np.flatnonzero(used))] = 1.0 / (survey.mean_power[live, None] * there[used][None, :])
    gap = 1.0 - there[used] / fine
    return weights, float(live.size * np.sum((gap / (1.0 - gap)) ** 2))


def fine_spectra(
    voltages: AntennaVoltages, counts: npt.NDArray[np.int64], workers: int = 1
) -> npt.NDArray[np.complex64]:
    """FFT of every spectrum, in FFT order.

    Parameters
    ----------
    voltages : AntennaVoltages
        As read; destroyed.
    counts : numpy.ndarray
        int64 (spectra,): samples present in each.
    workers : int
        Threads.

    Returns
    -------
    numpy.ndarray
        complex64 (polarisations, spectra, fine).
    """
    fine = voltages.samples.shape[2]
    for spectrum in np.flatnonzero((counts > 0) & (counts < fine)):
        _subtract_mean(voltages.samples[:, spectrum], voltages.present[spectrum], int(counts[spectrum]))
    return np.asarray(scipy.fft.fft(voltages.samples, axis=-1, overwrite_x=True, workers=workers), np.complex64)


@kernel
def _subtract_mean(samples: npt.NDArray[np.complex64], present: npt.NDArray[np.uint8], count: int) -> None:
    """Take the mean of the samples that are there off them: (polarisations, fine), in place."""
    for polarisation in range(samples.shape[0]):
        mean = samples[polarisation].sum() / np.float32(count)
        for time in range(samples.shape[1]):
            if present[time]:
                samples[polarisation, time] -= mean


@kernel
def add_power(
    spectra: npt.NDArray[np.complex64], weights: npt.NDArray[np.float32], power: npt.NDArray[np.float32]
) -> None:
    """Add ``weight * |X|**2`` to `power`, moving DC to the middle.

    Parameters
    ----------
    spectra : numpy.ndarray
        complex64 (polarisations, spectra, fine), FFT order.
    weights : numpy.ndarray
        float32 (polarisations, spectra).
    power : numpy.ndarray
        float32 (spectra, fine), shifted; added to.
    """
    polarisations, rows, fine = spectra.shape
    middle = fine // 2
    for polarisation in range(polarisations):
        for row in range(rows):
            weight = weights[polarisation, row]
            if weight == 0:
                continue
            source = spectra[polarisation, row]
            target = power[row]
            for k in range(middle):
                x = source[k]
                target[k + middle] += weight * (x.real * x.real + x.imag * x.imag)
            for k in range(middle, fine):
                x = source[k]
                target[k - middle] += weight * (x.real * x.real + x.imag * x.imag)


def replace_dc(power: npt.NDArray[np.float32]) -> None:
    """Replace channel ``fine / 2`` of float32 (spectra, fine) by the mean of its neighbours, in place.

    An offset of the digitisers stands there in every coarse channel. A signal that stays within that one channel is
    therefore not found.
    """
    middle = power.shape[1] // 2
    power[:, middle] = 0.5 * (power[:, middle - 1] + power[:, middle + 1])
