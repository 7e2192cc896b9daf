"""Fine spectra of one coarse channel.

One FFT of `fine` samples per spectrum, rectangular window, no overlap; spectra follow each other without a pause, so
their length is ``fine / |CHAN_BW|`` seconds and a block boundary may fall anywhere in one. The output is shifted:
fine channel ``fine / 2`` is the centre of the coarse channel (DC), channel 0 its lower edge.

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
from socs_bl.search.voltages import AntennaVoltages


def weigh(voltages: AntennaVoltages, max_missing: float) -> tuple[npt.NDArray[np.float32], float]:
    """Weights of one antenna's spectra, and the power that gaps smear.

    Each polarisation is scaled to unit mean power over the recording, so that a hot receiver does not drown the others:
    pure noise then has mean 1 in every channel of every spectrum.

    Parameters
    ----------
    voltages : AntennaVoltages
        As read; a spectrum with a gap loses its mean in place.
    max_missing : float
        Largest fraction missing.

    Returns
    -------
    numpy.ndarray
        float32 (polarisations, spectra): factor from ``|FFT|**2`` to power; 0 for spectra left out.
    float
        Sum over the used spectra of ``(g / (1 - g))**2``.
    """
    polarisations, spectra, fine = voltages.samples.shape
    there = np.count_nonzero(voltages.present, axis=1)
    used = (there > 0) & (there >= (1 - max_missing) * fine)
    for spectrum in np.flatnonzero(used & (there < fine)):
        _subtract_mean(voltages.samples[:, spectrum], voltages.present[spectrum], int(there[spectrum]))
    energy = np.array([_energy(voltages.samples[p].reshape(-1)) for p in range(polarisations)])
    total = int(there.sum())
    mean_power = energy / max(total, 1)
    weights = np.zeros((polarisations, spectra), np.float32)
    live = np.flatnonzero(mean_power > 0)
    weights[np.ix_(live, np.flatnonzero(used))] = 1.0 / (mean_power[live, None] * there[used][None, :])
    gap = 1.0 - there[used] / fine
    return weights, float(live.size * np.sum((gap / (1.0 - gap)) ** 2))


def fine_spectra(voltages: AntennaVoltages) -> npt.NDArray[np.complex64]:
    """FFT of every spectrum: complex64 (polarisations, spectra, fine), in FFT order. Destroys `voltages.samples`."""
    return np.asarray(scipy.fft.fft(voltages.samples, axis=-1, overwrite_x=True, workers=1), np.complex64)


@kernel
def _subtract_mean(samples: npt.NDArray[np.complex64], present: npt.NDArray[np.uint8], count: int) -> None:
    """Take the mean of the samples that are there off them: (polarisations, fine), in place."""
    for polarisation in range(samples.shape[0]):
        mean = samples[polarisation].sum() / np.float32(count)
        for time in range(samples.shape[1]):
            if present[time]:
                samples[polarisation, time] -= mean


@kernel
def _energy(samples: npt.NDArray[np.complex64]) -> float:
    """Sum of ``|x|**2``, in double precision: chunks of float32 first, so that it is vectorised."""
    total = 0.0
    for start in range(0, samples.shape[0], 1024):
        part = np.float32(0.0)
        for index in range(start, min(start + 1024, samples.shape[0])):
            part += samples[index].real * samples[index].real + samples[index].imag * samples[index].imag
        total += float(part)
    return total
