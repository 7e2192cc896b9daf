"""One search, from recorded files to a list of hits.

Times and frequencies: a hit's frequency is that of the signal at the first sample of the recording (the first sample of
its first block, ``STT_IMJD``/``STT_SMJD``), its drift is constant. Both are measured half-way through and carried back.

Memory: three dynamic spectra of every beam and another two of one, ``4 * spectra * fine`` bytes each, besides what
`socs_bl.search.beamform` takes and the power around each hit. It does not depend on the number of coarse channels.
Recorded samples are mapped, not read into memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from socs_bl.capture.guppi import Header, iter_blocks
from socs_bl.core.errors import Refused
from socs_bl.search.baseline import FlatBeam, flatten
from socs_bl.search.beamform import BeamPower, VoltageBeams
from socs_bl.search.bfr5 import INCOHERENT, Beam, Recipe, read_recipe, recipe_path
from socs_bl.search.config import SearchConfig
from socs_bl.search.dedoppler import DriftGrid
from socs_bl.search.fbh5 import FilterbankWriter, band_attributes
from socs_bl.search.filterbank import FilterbankBeams
from socs_bl.search.grouping import Detection, along, group
from socs_bl.search.hits import ChannelFinder, Cutout, Line
from socs_bl.search.trials import NoiseSum, trials
from socs_bl.search.voltages import Band, Recording, start_unix

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
    beam : int
        Number of the beam in which it is strongest; -1 is the incoherent one.
    beam_name : str
        Its target.
    others : tuple[tuple[int, float], ...]
        Number and signal-to-noise ratio of the other beams that the same signal was found in, strongest first.
    """

    frequency_mhz: float
    drift_hz_s: float
    snr: float
    end_frequency_mhz: float
    fine_channel: int
    coarse_channel: int
    beam: int = INCOHERENT.number
    beam_name: str = ""
    others: tuple[tuple[int, float], ...] = ()


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
    beams : tuple[Beam, ...]
        Those searched, the incoherent one last.
    recipe : str
        File of the beamformer recipe; empty when only the incoherent beam was searched.
    note : str
        What a reader of the result should know about the beams.
    threshold : float
        Highest signal-to-noise ratio that was asked of a hit, over beams and coarse channels.
    false_hits : float
        Hits that noise makes in such a search, on average, at most.
    detections : tuple[Detection, ...]
        Everything that was found in any beam, strongest first; `hits` are the strongest of each group.
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
    beams: tuple[Beam, ...] = (INCOHERENT,)
    recipe: str = ""
    note: str = ""
    threshold: float = 0.0
    false_hits: float = 0.0
    detections: tuple[Detection, ...] = ()

    @property
    def drift_step_hz_s(self) -> float:
        """The drift that moves a signal by one fine channel from the first spectrum to the last, Hz/s."""
        return abs(self.band.fine_hz) / (max(1, self.spectra - 1) * self.spectrum_s)


class Spectra(Protocol):
    """Where dynamic spectra come from: beams of a recording, or a filterbank file."""

    beams: tuple[Beam, ...]
    spectra: int

    def load(self, channel: int) -> list[BeamPower]:
        """The dynamic spectra of a coarse channel in all beams."""


def search_recording(
    paths: Sequence[Path], config: SearchConfig, progress: Progress, h5: Path | None = None
) -> SearchResult:
    """Search one recording.

    Parameters
    ----------
    paths : Sequence[Path]
        Its GUPPI RAW files in sequence order; besides them only the recipe is read.
    config : SearchConfig
        What to look for.
    progress : Callable[[str, int, int], None]
        Called with step, coarse channels done and their total.
    h5 : Path or None
        Where the dynamic spectra go when `config.save_h5` asks for them: ``<h5>.beamNN.h5`` and ``<h5>.incoherent.h5``.

    Returns
    -------
    SearchResult
        Hits, and what was searched.

    Raises
    ------
    Refused
        When the files are not a recording that can be searched, the recipe is not one for this recording, or `config`
        asks for drifts that cross a fifth of a coarse channel within half the recording.
    OSError
        When an FBH5 file cannot be written.
    """
    recording = Recording(iter_blocks(paths))
    fine = config.fft_length(recording.chan_bw_hz)
    band, header = recording.band(fine), recording.header
    spectra, spectrum_s = recording.samples // fine, fine * recording.sample_s
    if recording.duration_s < config.min_duration_s or spectra < MIN_SPECTRA:
        return SearchResult(
            TOO_SHORT, (), header, band, spectra, spectrum_s, recording.duration_s, 0.0, (), recording.damage, ()
        )
    grid = _grid(config, spectra, spectrum_s, band, recording.duration_s)
    recipe, note = _recipe(config, header.text("OBSID", ""))
    source = VoltageBeams(recording, fine, config.max_missing, recipe, start_unix(header))
    with contextlib.ExitStack() as stack:
        writer = None
        if h5 is not None and config.save_h5:
            attributes = band_attributes(header, band, spectrum_s, config.telescope_id)
            writer = stack.enter_context(FilterbankWriter(h5, source.beams, band, spectra, header, attributes))
        search = _BandSearch(source, band, grid, config, writer)
        search.run(progress)
    return search.result(header, spectrum_s, recording.duration_s, recording.damage, recipe, note)


def search_filterbank(path: Path, config: SearchConfig, progress: Progress) -> SearchResult:
    """Search one filterbank file, FBH5 (``.h5``) or SIGPROC (``.fil``), with 32-bit power of one beam.

    Parameters
    ----------
    path : Path
        The file.
    config, progress
        As for `search_recording`. `fine_channels` is that of a coarse channel, unless the file says (``nfpc``); with
        neither the whole band is one.

    Returns
    -------
    SearchResult

    Raises
    ------
    Refused
        When the file is not a filterbank that can be searched, or as `search_recording`.
    """
    with FilterbankBeams.open(path, config.fine_channels) as source:
        band, header = source.band, source.header
        duration_s = source.spectra * source.spectrum_s
        if duration_s < config.min_duration_s or source.spectra < MIN_SPECTRA:
            return SearchResult(
                TOO_SHORT, (), header, band, source.spectra, source.spectrum_s, duration_s, 0.0, (), "", ()
            )
        grid = _grid(config, source.spectra, source.spectrum_s, band, duration_s)
        search = _BandSearch(source, band, grid, config, None)
        search.run(progress)
        return search.result(header, source.spectrum_s, duration_s, "", None, "")


def _grid(config: SearchConfig, spectra: int, spectrum_s: float, band: Band, duration_s: float) -> DriftGrid:
    """The drifts to try."""
    grid = DriftGrid(spectra, config.max_drift_hz_s * spectrum_s / abs(band.fine_hz))
    if 5 * grid.reach > band.fine:
        raise Refused(
            f"drifts of {config.max_drift_hz_s} Hz/s move a signal by {2 * grid.reach} of {band.fine} fine channels"
            f" within {duration_s:.0f} s; lower max_drift_hz_s or search a shorter recording"
        )
    return grid


def _recipe(config: SearchConfig, obsid: str) -> tuple[Recipe | None, str]:
    """The recipe of an observation, and what is to be said when there is none."""
    if config.recipe_dir is None:
        return None, "no recipe_dir is set: only the incoherent beam was searched"
    path = recipe_path(config.recipe_dir, obsid)
    if not obsid or not path.is_file():
        return None, f"there is no recipe {path}: only the incoherent beam was searched"
    return read_recipe(path), ""


class _BandSearch:
    """Goes through the band with three coarse channels in hand: the one searched and its neighbours."""

    def __init__(
        self, source: Spectra, band: Band, grid: DriftGrid, config: SearchConfig, writer: FilterbankWriter | None
    ) -> None:
        self.source, self.band, self.grid, self.config, self.writer = source, band, grid, config, writer
        self.finder = ChannelFinder(grid, band.fine, band.channels, config.max_hits_per_channel)
        self.detections: list[Detection] = []
        self.given_up: set[int] = set()
        self.threshold, self.false_hits = 0.0, 0.0
        self._lines = trials(1, 1, band.fine, grid)
        self._flats: list[dict[int, FlatBeam]] = [{} for _ in source.beams]
        self._missing = 0.0
        self._threshold = cache(self._threshold_of)

    def run(self, progress: Progress) -> None:
        """Search all coarse channels."""
        channels = self.band.channels
        progress("search", 0, channels)
        for channel in range(channels):
            for wanted in (channel, channel + 1):
                if wanted < channels and wanted not in self._flats[-1]:
                    self._load(wanted)
            for flats in self._flats:
                flats.pop(channel - 2, None)
            # The incoherent beam last: what it holds along the lines of the others is wanted unmasked.
            for beam, flats in zip(self.source.beams, self._flats, strict=True):
                self._search(channel, beam, flats)
            progress("search", channel + 1, channels)

    def _load(self, channel: int) -> None:
        for number, beam in enumerate(self.source.load(channel)):
            if self.writer is not None:
                self.writer.write(number, channel, beam.power)
            self._flats[number][channel] = flatten(beam)
        self._missing += beam.missing

    def _search(self, channel: int, beam: Beam, flats: Mapping[int, FlatBeam]) -> None:
        """One coarse channel of one beam."""
        shape = flats[channel].shape
        if shape == 0:
            return
        threshold, false_hits = self._threshold(shape)
        self.threshold = max(self.threshold, threshold)
        self.false_hits += false_hits
        found, given_up = self.finder.find(channel, flats, threshold)
        self.given_up |= {channel} if given_up else set()
        for cutout in found:
            own = along(cutout)
            together = own
            if beam is not self.source.beams[-1]:
                together = along(self.finder.cut(cutout.line, channel, self._flats[-1]))
            self.detections.append(Detection(beam.number, cutout, own, together, shape**0.5))

    def _threshold_of(self, shape: float) -> tuple[float, float]:
        """Signal-to-noise ratio of a hit, and false hits in a coarse channel of a beam."""
        noise = NoiseSum(shape, self.band.fine)
        if self.config.snr is not None:
            return self.config.snr, noise.false_hits(self.config.snr, self._lines)
        allowed = self.config.false_hits_per_run / (self.band.channels * len(self.source.beams))
        return noise.threshold(allowed, self._lines), allowed

    def result(
        self, header: Header, spectrum_s: float, duration_s: float, damage: str, recipe: Recipe | None, note: str
    ) -> SearchResult:
        """What was found, when all coarse channels have been searched."""
        spectra = self.source.spectra
        groups = group(self.detections, spectra, self.band.fine, max(self.threshold, 1.0))
        names = {beam.number: beam.name for beam in self.source.beams}
        return SearchResult(
            SEARCHED, tuple(_hit(members, names, self.band, spectra, spectrum_s) for members in groups),
            header, self.band, spectra, spectrum_s, duration_s, float(self._missing / self.band.channels),
            tuple(sorted(self.given_up)), damage,
            tuple(members[0].cutout for members in groups[: self.config.plots]),
            self.source.beams, str(recipe.path) if recipe else "", note, self.threshold, self.false_hits,
            tuple(member for members in groups for member in members),
        )  # fmt: skip


def _hit(members: Sequence[Detection], names: Mapping[int, str], band: Band, spectra: int, spectrum_s: float) -> Hit:
    """The hit that a group of detections is."""
    line, beam = members[0].line, members[0].beam
    others: dict[int, float] = {}
    for member in members[1:]:
        if member.beam != beam:
            others.setdefault(member.beam, member.line.snr)
    start = line.start(spectra)
    total = band.channels * band.fine
    return Hit(
        frequency_mhz=band.frequency_mhz(start),
        drift_hz_s=line.rate * band.fine_hz / spectrum_s,
        snr=line.snr,
        end_frequency_mhz=band.frequency_mhz(line.end(spectra)),
        fine_channel=int(np.clip(round(start), 0, total - 1)),
        coarse_channel=coarse_channel(line, band),
        beam=beam,
        beam_name=names[beam],
        others=tuple(others.items()),
    )


def coarse_channel(line: Line, band: Band) -> int:
    """Coarse channel that a line is in half-way through the recording."""
    return int(np.clip(line.middle // band.fine, 0, band.channels - 1))
