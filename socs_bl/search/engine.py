"""One search, from recorded files to a list of hits.

Times and frequencies: a hit's frequency is that of the signal at the first sample of the recording (the first sample of
its first block, ``STT_IMJD``/``STT_SMJD``), its drift is constant. Both are measured half-way through and carried back.

Memory: three dynamic spectra and the trees of one coarse channel,
``(3 + 2 * 2 * (1 + 6 * reach / fine)) * 4 * spectra * fine`` bytes at most, and one antenna of one coarse channel
(`socs_bl.search.incoherent`). It does not depend on the number of antennas or coarse channels. Recorded samples are
mapped, not read into memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from socs_bl.capture.guppi import Header, iter_blocks
from socs_bl.core.errors import Refused
from socs_bl.search.baseline import FlatBeam, flatten
from socs_bl.search.config import SearchConfig
from socs_bl.search.dedoppler import DriftGrid
from socs_bl.search.hits import ChannelFinder, Cutout, Line
from socs_bl.search.incoherent import incoherent_beam
from socs_bl.search.voltages import Band, Recording

MIN_SPECTRA = 4
SEARCHED = "searched"
TOO_SHORT = "too_short"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Hit:
    """One drifting narrow-band signal.

    Attributes
    ----------
    frequency_mhz : float
        At the first sample of the recording, MHz.
    drift_hz_s : float
        Drift, Hz/s; positive upwards in sky frequency.
    snr : float
        Signal-to-noise ratio (`socs_bl.search.baseline`).
    end_frequency_mhz : float
        At the end of the last spectrum, MHz.
    fine_channel : int
        Fine channel of the whole band at the first sample.
    coarse_channel : int
        Coarse channel half-way through the recording.
    """

    frequency_mhz: float
    drift_hz_s: float
    snr: float
    end_frequency_mhz: float
    fine_channel: int
    coarse_channel: int


@dataclass(frozen=True)
class SearchResult:
    """What one search found.

    Attributes
    ----------
    reason : str
        ``searched`` or ``too_short``.
    hits : tuple[Hit, ...]
        Strongest first.
    header : Header
        Header of the recording's first block.
    band : Band
        Frequency axis.
    spectra : int
        Spectra searched.
    spectrum_s : float
        Length of a spectrum, seconds.
    duration_s : float
        Length of the recording, seconds.
    missing : float
        Fraction of the samples that was not recorded.
    given_up : tuple[int, ...]
        Coarse channels with more signals than the limit.
    damage : str
        Why the recording could not be read to its end; empty when it could.
    cutouts : tuple[Cutout, ...]
        Power around the strongest hits.
    """

    reason: str
    hits: tuple[Hit, ...]
    header: Header
    band: Band
    spectra: int
    spectrum_s: float
    duration_s: float
    missing: float
    given_up: tuple[int, ...]
    damage: str
    cutouts: tuple[Cutout, ...]

    @property
    def drift_step_hz_s(self) -> float:
        """The drift that moves a signal by one fine channel from the first spectrum to the last, Hz/s."""
        return abs(self.band.fine_hz) / (max(1, self.spectra - 1) * self.spectrum_s)


def search_recording(paths: Sequence[Path], config: SearchConfig, progress: Progress) -> SearchResult:
    """Search one recording.

    Parameters
    ----------
    paths : Sequence[Path]
        Its GUPPI RAW files in sequence order; nothing else is read.
    config : SearchConfig
        What to look for.
    progress : Callable[[str, int, int], None]
        Called with step, coarse channels done and their total.

    Returns
    -------
    SearchResult
        Hits, and what was searched.

    Raises
    ------
    Refused
        When the files are not a recording that can be searched, or `config` asks for drifts that cross a fifth
        of a coarse channel within half the recording.
    """
    recording = Recording(iter_blocks(paths))
    fine = config.fft_length(recording.chan_bw_hz)
    band = recording.band(fine)
    spectra, spectrum_s = recording.samples // fine, fine * recording.sample_s
    if recording.duration_s < config.min_duration_s or spectra < MIN_SPECTRA:
        return SearchResult(
            TOO_SHORT, (), recording.header, band, spectra, spectrum_s, recording.duration_s, 0.0, (),
            recording.damage, (),
        )  # fmt: skip
    grid = DriftGrid(spectra, config.max_drift_hz_s * spectrum_s / abs(band.fine_hz))
    if 5 * grid.reach > fine:
        raise Refused(
            f"drifts of {config.max_drift_hz_s} Hz/s move a signal by {2 * grid.reach} of {fine} fine channels within"
            f" {recording.duration_s:.0f} s; lower max_drift_hz_s or search a shorter recording"
        )
    search = _BandSearch(recording, config, ChannelFinder(
        grid, fine, recording.channels, config.snr, config.max_hits_per_channel
    ))  # fmt: skip
    search.run(progress)
    return SearchResult(
        SEARCHED, tuple(_hit(line, band, spectra, spectrum_s) for line in sorted(search.lines, key=_strongest)),
        recording.header, band, spectra, spectrum_s, recording.duration_s, search.missing, tuple(search.given_up),
        recording.damage, tuple(sorted((item[2] for item in search.cutouts), key=lambda cut: _strongest(cut.line))),
    )  # fmt: skip


class _BandSearch:
    """Goes through the band with three coarse channels in hand: the one searched and its neighbours."""

    def __init__(self, recording: Recording, config: SearchConfig, finder: ChannelFinder) -> None:
        self.recording, self.config, self.finder = recording, config, finder
        self.workspace = recording.workspace(finder.fine)
        self.lines: list[Line] = []
        self.given_up: list[int] = []
        self.cutouts: list[tuple[float, int, Cutout]] = []
        self._missing = 0.0

    @property
    def missing(self) -> float:
        """Fraction of the samples that was not recorded, when all coarse channels have been searched."""
        return float(self._missing / self.recording.channels)

    def run(self, progress: Progress) -> None:
        """Search all coarse channels."""
        channels = self.recording.channels
        flats: dict[int, FlatBeam] = {}
        progress("search", 0, channels)
        for channel in range(channels):
            for wanted in (channel, channel + 1):
                if wanted < channels and wanted not in flats:
                    flats[wanted] = self._load(wanted)
            flats.pop(channel - 2, None)
            found, given_up = self.finder.find(channel, flats)
            self.given_up += [channel] if given_up else []
            for cutout in found:
                self._keep(cutout)
            progress("search", channel + 1, channels)

    def _load(self, channel: int) -> FlatBeam:
        beam = incoherent_beam(self.recording, channel, self.workspace, self.config.max_missing)
        self._missing += beam.missing
        return flatten(beam)

    def _keep(self, cutout: Cutout) -> None:
        """Keep the line, and its picture while it is among the strongest."""
        self.lines.append(cutout.line)
        if self.config.plots:
            heapq.heappush(self.cutouts, (cutout.line.snr, len(self.lines), cutout))
            if len(self.cutouts) > self.config.plots:
                heapq.heappop(self.cutouts)


def _strongest(line: Line) -> tuple[float, float]:
    return -line.snr, line.middle


def _hit(line: Line, band: Band, spectra: int, spectrum_s: float) -> Hit:
    start = line.start(spectra)
    total = band.channels * band.fine
    return Hit(
        frequency_mhz=band.frequency_mhz(start),
        drift_hz_s=line.rate * band.fine_hz / spectrum_s,
        snr=line.snr,
        end_frequency_mhz=band.frequency_mhz(line.end(spectra)),
        fine_channel=int(np.clip(round(start), 0, total - 1)),
        coarse_channel=int(np.clip(line.middle // band.fine, 0, band.channels - 1)),
    )
