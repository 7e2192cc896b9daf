"""Beams of one coarse channel: dynamic spectra in the directions of a recipe, and of everything the antennas see.

A coherent beam adds the fine spectra of all antennas with the recipe's weights, and then takes their power; the
incoherent beam adds their powers. A source in the middle of a coherent beam gains the square root of the number of
antennas in signal-to-noise ratio over the incoherent beam; beside it, it loses all of that and more.

Weights change with the recipe's times; every spectrum takes those nearest to its middle. Within a coarse channel the
phase is that of its centre: at the edge of a channel of width ``w`` a residual delay ``d`` is wrong by ``pi * w * d``.

Normalisation: noise has mean 1 in every polarisation of a coherent beam and in every antenna and polarisation of the
incoherent one (`BeamPower.contributions`), as far as antennas' noise is independent.

Memory: spectra of all antennas are taken some at a time, `BATCH_BYTES` or one spectrum of all antennas, whichever is
more; without a recipe one antenna at a time. Besides, 4 bytes per beam, spectrum and fine channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.search.bfr5 import INCOHERENT, Beam, Recipe
from socs_bl.search.kernel import kernel
from socs_bl.search.upchannelise import add_power, fine_spectra, replace_dc, weigh
from socs_bl.search.voltages import AntennaSurvey, AntennaVoltages, Recording

BATCH_BYTES = 64 << 20
# One antenna's batch fits into a processor's second-level cache, which the FFT and the sum of power share.
CACHE_BYTES = 1 << 20
# An FFT library works on as many transforms at once as a vector register holds.
VECTOR = 16
_TILE = 4096


@dataclass
class BeamPower:
    """Dynamic spectrum of one coarse channel in one beam.

    Attributes
    ----------
    power : numpy.ndarray
        float32 (spectra, fine channels), shifted: channel ``fine / 2`` is the centre. Noise has mean 1 per contribution.
    contributions : numpy.ndarray
        int (spectra,): independent noise powers in each spectrum; 0 where nothing was recorded.
    gap_leakage : float
        Mean over the contributions of the fraction of a tone's power that gaps may put into any one other channel.
    missing : float
        Fraction of the samples of all antennas that was not recorded.
    """

    power: npt.NDArray[np.float32]
    contributions: npt.NDArray[np.int64]
    gap_leakage: float
    missing: float


class VoltageBeams:
    """Makes the beams of a recording, coarse channel by coarse channel.

    Parameters
    ----------
    recording : Recording
        What was recorded.
    fine : int
        Fine channels per coarse channel.
    max_missing : float
        A spectrum of one antenna of which a larger fraction is missing is left out.
    recipe : Recipe or None
        None: there is only the incoherent beam.
    start_unix : float
        Unix time of the first sample, for the recipe's times.

    Attributes
    ----------
    beams : tuple[Beam, ...]
        The recipe's, then the incoherent one.

    Raises
    ------
    Refused
        When the recipe is not for this recording.
    """

    def __init__(
        self, recording: Recording, fine: int, max_missing: float, recipe: Recipe | None, start_unix: float = 0.0
    ) -> None:
        self.recording, self.fine, self.max_missing, self.recipe = recording, fine, max_missing, recipe
        self.beams: tuple[Beam, ...] = (*(recipe.beams if recipe else ()), INCOHERENT)
        self.spectra = recording.samples // fine
        self._band = recording.band(fine)
        self._first_channel = recording.header.integer("SCHAN", 0)
        row_bytes = recording.polarisations * fine * 8
        if recipe is not None:
            recipe.check(recording.antennas, recording.polarisations, self._first_channel, recording.channels)
            rows = max(1, min(self.spectra, BATCH_BYTES // (row_bytes * recording.antennas)))
            shape = (recording.polarisations, rows, recording.antennas, fine)
            self._all = np.empty(shape, np.complex64)
            middles = start_unix + (np.arange(self.spectra) + 0.5) * fine * recording.sample_s
            self._times = np.array([recipe.time_index(float(unix)) for unix in middles])
        else:
            fill = max(CACHE_BYTES // row_bytes, -(-VECTOR // recording.polarisations))
            rows = max(1, min(self.spectra, fill, BATCH_BYTES // row_bytes))
        self._rows = rows

    def load(self, channel: int) -> list[BeamPower]:
        """The dynamic spectra of coarse channel `channel` in all `beams`, in their order."""
        recording, spectra, fine = self.recording, self.spectra, self.fine
        surveys = [recording.survey(antenna, channel, fine) for antenna in range(recording.antennas)]
        weighed = [weigh(survey, fine, self.max_missing) for survey in surveys]
        weights = np.array([weight for weight, _ in weighed])
        power = np.zeros((len(self.beams), spectra, fine), np.float32)
        together = np.count_nonzero(weights, axis=(0, 1))
        coherent = np.zeros(spectra, np.int64)
        workspace = recording.workspace(fine, self._rows)
        for first in range(0, spectra, self._rows):
            rows = min(self._rows, spectra - first)
            if rows != workspace.samples.shape[1]:
                workspace = recording.workspace(fine, rows)
            for antenna, survey in enumerate(surveys):
                self._read(antenna, channel, survey, first, workspace, weights, power[-1])
            if self.recipe is not None:
                coherent[first : first + rows] = self._combine(channel, first, rows, surveys, weights, power)
        present = sum(int(survey.counts.sum()) for survey in surveys)
        missing = 1.0 - present / (recording.antennas * spectra * fine)
        leakage = sum(leaked for _, leaked in weighed) / max(1, int(together.sum()))
        for beam in power:
            replace_dc(beam)
        return [BeamPower(beam, coherent, leakage, missing) for beam in power[:-1]] + [
            BeamPower(power[-1], together, leakage, missing)
        ]

    def _read(
        self,
        antenna: int,
        channel: int,
        survey: AntennaSurvey,
        first: int,
        workspace: AntennaVoltages,
        weights: npt.NDArray[np.float32],
        incoherent: npt.NDArray[np.float32],
    ) -> None:
        """Some fine spectra of one antenna, added to the incoherent beam and kept for the others."""
        rows = slice(first, first + workspace.samples.shape[1])
        self.recording.read(antenna, channel, survey, first, workspace)
        spectra = fine_spectra(workspace, survey.counts[rows])
        add_power(spectra, weights[antenna, :, rows], incoherent[rows])
        if self.recipe is not None:
            self._all[:, : spectra.shape[1], antenna] = spectra

    def _combine(
        self,
        channel: int,
        first: int,
        rows: int,
        surveys: list[AntennaSurvey],
        weights: npt.NDArray[np.float32],
        power: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.int64]:
        """Add some spectra of all antennas to the coherent beams; returns the contributions to each spectrum."""
        assert self.recipe is not None
        contributions = np.zeros(rows, np.int64)
        centre_hz = self._band.frequency_mhz(channel * self.fine + self.fine / 2) * 1e6
        energy = np.array([survey.mean_power for survey in surveys])
        pointing, pointed_at = None, -1
        for row in range(rows):
            spectrum = first + row
            if pointing is None or self._times[spectrum] != pointed_at:
                pointed_at = int(self._times[spectrum])
                pointing = self.recipe.weights(self._first_channel + channel, centre_hz, pointed_at)
            used = weights[:, :, spectrum] > 0
            counts = np.array([survey.counts[spectrum] for survey in surveys])
            for polarisation, towards in enumerate(pointing):
                applied = np.where(used[:, polarisation], towards, 0).astype(np.complex64)
                noise = (np.abs(applied) ** 2) @ (energy[:, polarisation] * counts)
                if not noise.any():
                    continue
                contributions[row] += 1
                scale = np.divide(1.0, noise, out=np.zeros_like(noise), where=noise > 0).astype(np.float32)
                self._add(applied, self._all[polarisation, row], scale, power[:-1, spectrum])
        return contributions

    def _add(
        self,
        applied: npt.NDArray[np.complex64],
        spectra: npt.NDArray[np.complex64],
        scale: npt.NDArray[np.float32],
        power: npt.NDArray[np.float32],
    ) -> None:
        """Add ``scale * |applied @ spectra|**2`` to `power` (beams, fine), shifted, in tiles that stay in the cache."""
        middle = self.fine // 2
        for start, stop, move in ((0, self.fine - middle, middle), (self.fine - middle, self.fine, middle - self.fine)):
            for low in range(start, stop, _TILE):
                high = min(low + _TILE, stop)
                _add_scaled(applied @ spectra[:, low:high], scale, power[:, low + move : high + move])


@kernel
def _add_scaled(
    voltages: npt.NDArray[np.complex64], scale: npt.NDArray[np.float32], power: npt.NDArray[np.float32]
) -> None:
    """Add ``scale * |voltages|**2`` (beams, channels) to `power`."""
    beams, channels = voltages.shape
    for beam in range(beams):
        factor = scale[beam]
        source = voltages[beam]
        target = power[beam]
        for channel in range(channels):
            x = source[channel]
            target[channel] += factor * (x.real * x.real + x.imag * x.imag)
