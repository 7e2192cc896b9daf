"""Stamps: the fine spectra of all antennas around a hit, from which any beam can be made again.

Gaps are zeros before the FFT; nothing is weighed or scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from socs_bl.capture.guppi import iter_blocks
from socs_bl.search.beamform import CACHE_BYTES
from socs_bl.search.engine import SearchResult, coarse_channel
from socs_bl.search.grouping import Detection
from socs_bl.search.hits import Cutout
from socs_bl.search.upchannelise import fine_spectra
from socs_bl.search.voltages import Recording


@dataclass(frozen=True)
class Stamp:
    """Voltages around a hit.

    Attributes
    ----------
    detection : Detection
        The hit.
    coarse, first : int
        Coarse channel, and fine channel of it that column 0 is.
    voltages : numpy.ndarray
        complex64 (spectra, channels, polarisations, antennas).
    """

    detection: Detection
    coarse: int
    first: int
    voltages: npt.NDArray[np.complex64]


def inside(cutout: Cutout, result: SearchResult) -> tuple[int, int, int]:
    """Coarse channel of a cutout, and its first fine channel and the one after its last that are within that.

    A hit, a stamp and the power around it are all told by their place in one coarse channel.
    """
    fine = result.band.fine
    coarse = coarse_channel(cutout.line, result.band)
    low = cutout.first - coarse * fine
    return coarse, max(0, low), min(fine, low + cutout.power.shape[1])


def read_stamps(paths: Sequence[Path], result: SearchResult, count: int) -> list[Stamp]:
    """The stamps of the strongest `count` hits of a search.

    Parameters
    ----------
    paths : Sequence[Path]
        The GUPPI RAW files that were searched.
    result : SearchResult
        What was found.
    count : int
        How many at most.

    Raises
    ------
    Refused
        When the files are no recording any more.
    """
    leaders = [detection for detection in result.detections if detection.leads][:count]
    if not leaders:
        return []
    recording = Recording(iter_blocks(paths))
    return [_read_stamp(recording, result, detection) for detection in leaders]


def _read_stamp(recording: Recording, result: SearchResult, detection: Detection) -> Stamp:
    """One stamp; reads the coarse channel of every antenna again."""
    fine, spectra = result.band.fine, result.spectra
    coarse, low, high = inside(detection.cutout, result)
    columns = (np.arange(low, high) + fine // 2) % fine
    shape = (spectra, high - low, recording.polarisations, recording.antennas)
    voltages = np.empty(shape, np.complex64)
    batch = max(1, min(spectra, CACHE_BYTES // (8 * recording.polarisations * fine)))
    for antenna in range(recording.antennas):
        survey = recording.survey(antenna, coarse, fine)
        for first in range(0, spectra, batch):
            rows = slice(first, min(first + batch, spectra))
            workspace = recording.workspace(fine, rows.stop - first)
            recording.read(antenna, coarse, survey, first, workspace)
            transformed = fine_spectra(workspace, survey.counts[rows])
            voltages[rows, :, :, antenna] = transformed[:, :, columns].transpose(1, 2, 0)
    return Stamp(detection, coarse, low, voltages)
