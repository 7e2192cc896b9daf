"""The incoherent beam: power of one coarse channel, summed over antennas and polarisations.

Phases between antennas do not matter, the beam is as wide as the antennas'. Memory: one antenna of one coarse channel
at a time, ``9 * polarisations * samples`` bytes of voltages and as much again for the FFT, and 4 bytes per fine channel
and spectrum of the sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.search.kernel import kernel
from socs_bl.search.upchannelise import fine_spectra, weigh
from socs_bl.search.voltages import AntennaVoltages, Recording


@dataclass
class Beam:
    """Dynamic spectrum of one coarse channel.

    Attributes
    ----------
    power : numpy.ndarray
        float32 (spectra, fine channels), shifted: channel ``fine / 2`` is the centre. Noise has mean 1 per contribution.
    contributions : numpy.ndarray
        int (spectra,): antenna-polarisations in each spectrum; 0 where nothing was recorded.
    gap_leakage : float
        Mean over the contributions of the fraction of a tone's power that gaps may put into any one other channel.
    missing : float
        Fraction of the samples of all antennas that was not recorded.
    """

    power: npt.NDArray[np.float32]
    contributions: npt.NDArray[np.int64]
    gap_leakage: float
    missing: float


def incoherent_beam(recording: Recording, channel: int, workspace: AntennaVoltages, max_missing: float) -> Beam:
    """Sum the power of coarse channel `channel` over all antennas and polarisations.

    The DC channel is replaced by the mean of its two neighbours in each spectrum: an offset of the digitisers stands
    there in every coarse channel. A signal that stays within that one channel is therefore not found.
    """
    _, spectra, fine = workspace.samples.shape
    power = np.zeros((spectra, fine), np.float32)
    contributions = np.zeros(spectra, np.int64)
    leakage, present = 0.0, 0
    for antenna in range(recording.antennas):
        recording.read(antenna, channel, workspace)
        present += int(np.count_nonzero(workspace.present))
        weights, leaked = weigh(workspace, max_missing)
        leakage += leaked
        contributions += np.count_nonzero(weights, axis=0)
        _add_power(fine_spectra(workspace), weights, power)
    middle = fine // 2
    power[:, middle] = 0.5 * (power[:, middle - 1] + power[:, middle + 1])
    missing = 1.0 - present / (recording.antennas * workspace.present.size)
    return Beam(power, contributions, leakage / max(1, int(contributions.sum())), missing)


@kernel
def _add_power(
    spectra: npt.NDArray[np.complex64], weights: npt.NDArray[np.float32], power: npt.NDArray[np.float32]
) -> None:
    """Add ``weight * |X|**2`` to `power`, moving DC to the middle."""
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
