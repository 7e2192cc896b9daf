"""Recorded voltages, one antenna of one coarse channel at a time.

The time of a sample is its packet index, not its place in the file: block ``b`` begins at spectrum
``(PKTIDX_b - PKTIDX_0) * HNTIME`` of the recording, so a block that was never written leaves a gap of the right length.
Heaps that never arrived are recorded as zeros; a heap (``HNTIME`` spectra of one antenna) without a single non-zero
sample in a coarse channel counts as missing there, and so does everything between blocks.

An antenna's coarse channel is read twice: `Recording.survey` finds what is there and how strong it is, and
`Recording.read` then turns some spectra at a time into complex numbers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.capture.guppi import Block, Header
from socs_bl.core.errors import Refused
from socs_bl.search.kernel import kernel

# Longer stretches of never recorded packets than this many recordings are a damaged index, not a gap.
MAX_STRETCH = 4
# Samples of each heap that an antenna's power is measured on.
PROBE = 32
MJD_OF_UNIX_EPOCH = 40587


@dataclass(frozen=True)
class Band:
    """Frequency axis of an instance's recording.

    Attributes
    ----------
    centre_mhz : float
        ``OBSFREQ``: centre of the band, MHz.
    chan_bw_hz : float
        ``CHAN_BW`` as Hz, negative when the axis runs downwards.
    channels : int
        Coarse channels.
    fine : int
        Fine channels per coarse channel.
    """

    centre_mhz: float
    chan_bw_hz: float
    channels: int
    fine: int

    @property
    def fine_hz(self) -> float:
        """Width of a fine channel, Hz, with the sign of the axis."""
        return self.chan_bw_hz / self.fine

    def frequency_mhz(self, position: float) -> float:
        """Sky frequency at a place on the fine axis of the whole band.

        Parameters
        ----------
        position : float
            ``c * fine + k`` is the centre of fine channel ``k`` of coarse channel ``c``; ``k = fine / 2`` is the
            centre of the coarse channel (the FFT's DC).

        Returns
        -------
        float
            MHz: ``centre + (c + 1/2 - channels/2) * chan_bw + (k - fine/2) * chan_bw / fine``.
        """
        return self.centre_mhz + (position - self.channels * self.fine / 2) * self.fine_hz * 1e-6


@dataclass
class AntennaVoltages:
    """Work space for some spectra of one antenna of one coarse channel, used again and again.

    Attributes
    ----------
    samples : numpy.ndarray
        complex64, shape (polarisations, spectra, fine channels): the time series cut at FFT length.
    present : numpy.ndarray
        uint8, shape (spectra, fine channels): 1 where a sample was recorded.
    """

    samples: npt.NDArray[np.complex64]
    present: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AntennaSurvey:
    """What is there of one antenna of one coarse channel.

    Attributes
    ----------
    heaps : tuple of numpy.ndarray
        uint8 per block: 1 for heaps that arrived.
    counts : numpy.ndarray
        int64 (spectra,): samples present in each spectrum.
    mean_power : numpy.ndarray
        float64 (polarisations,): mean of ``|x|**2`` over the first samples of each heap; 0 when there are none.
    """

    heaps: tuple[npt.NDArray[np.uint8], ...]
    counts: npt.NDArray[np.int64]
    mean_power: npt.NDArray[np.float64]


def start_unix(header: Header) -> float:
    """Unix UTC time of a recording's first sample, from ``STT_IMJD``, ``STT_SMJD`` and ``STT_OFFS``; 0 without them."""
    seconds = header.number("STT_SMJD", 0.0) + header.number("STT_OFFS", 0.0)
    return (header.number("STT_IMJD", MJD_OF_UNIX_EPOCH) - MJD_OF_UNIX_EPOCH) * 86400.0 + seconds


def start_mjd(header: Header) -> float:
    """UTC of a recording's first sample, MJD."""
    return MJD_OF_UNIX_EPOCH + start_unix(header) / 86400.0


class Recording:
    """All blocks of one recording, mapped, in order of time.

    Parameters
    ----------
    blocks : Iterable[Block]
        As `socs_bl.capture.guppi.iter_blocks` yields them.

    Attributes
    ----------
    header : Header
        Of the first block.
    damage : str
        Why reading stopped before the end; empty when it did not. What was read before stays usable.
    samples : int
        Length in spectra of the F-engine, gaps included.

    Raises
    ------
    Refused
        When there is no block, or blocks contradict each other.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.damage = ""
        self.blocks: list[Block] = []
        self._collect(blocks)
        if not self.blocks:
            raise Refused(self.damage or "the recording holds no block; nothing was recorded")
        first = self.blocks[0]
        self.header = first.header
        self.antennas, self.channels, _, self.polarisations, _ = first.data.shape
        self.heap = first.header.integer("HNTIME")
        self.sample_s: float = first.header.number("TBIN")
        self.centre_mhz = first.header.number("OBSFREQ")
        self.chan_bw_hz = first.header.number("CHAN_BW") * 1e6
        if self.heap < 1 or not self.sample_s > 0 or self.chan_bw_hz == 0:
            raise Refused(
                f"{first.header.origin}: HNTIME {self.heap}, TBIN {self.sample_s}, CHAN_BW {self.chan_bw_hz / 1e6}:"
                " each must be there and not zero"
            )
        self.offsets = self._offsets()
        self.samples = self.offsets[-1] + self.blocks[-1].data.shape[2]

    def _collect(self, blocks: Iterable[Block]) -> None:
        """Keep blocks up to the first damaged one; a cut-off end costs that block and nothing before it."""
        try:
            for block in blocks:
                self.blocks.append(block)
        except Refused as error:
            self.damage = str(error)

    def _offsets(self) -> list[int]:
        """First spectrum of each block, counted from the first block."""
        first, recorded, offsets = self.blocks[0], 0, list[int]()
        for block in self.blocks:
            shape = block.data.shape
            if (shape[0], shape[1], shape[3]) != (self.antennas, self.channels, self.polarisations):
                raise Refused(f"{block.header.origin}: block shape {shape} differs from {first.data.shape} before it")
            offset = (block.header.integer("PKTIDX") - first.header.integer("PKTIDX")) * self.heap
            end = offsets[-1] + self.blocks[len(offsets) - 1].data.shape[2] if offsets else 0
            if offset < end:
                raise Refused(f"{block.header.origin}: PKTIDX goes back by {(end - offset) // self.heap} packets")
            recorded += shape[2]
            offsets.append(offset)
        if offsets[-1] > MAX_STRETCH * recorded:
            raise Refused(
                f"{self.blocks[-1].header.origin}: PKTIDX is {offsets[-1]} spectra after the start of a recording of"
                f" {recorded}; the packet index is damaged"
            )
        return offsets

    @property
    def duration_s(self) -> float:
        """Length in seconds, gaps included."""
        return float(self.samples * self.sample_s)

    def band(self, fine: int) -> Band:
        """The frequency axis with `fine` channels per coarse channel."""
        return Band(self.centre_mhz, self.chan_bw_hz, self.channels, fine)

    def workspace(self, fine: int, spectra: int) -> AntennaVoltages:
        """Work space for `spectra` whole FFTs of `fine` samples."""
        return AntennaVoltages(
            np.zeros((self.polarisations, spectra, fine), np.complex64), np.zeros((spectra, fine), np.uint8)
        )

    def survey(self, antenna: int, channel: int, fine: int) -> AntennaSurvey:
        """Find the heaps of one antenna of one coarse channel; what is left after the last whole FFT is not counted."""
        spectra = self.samples // fine
        counts = np.zeros(spectra, np.int64)
        energy = np.zeros(self.polarisations, np.int64)
        heaps, probed = [], 0
        for block, offset in zip(self.blocks, self.offsets, strict=True):
            raw = np.asarray(block.data[antenna, channel])
            heaps.append(np.zeros(-(-raw.shape[0] // self.heap), np.uint8))
            probed += _survey(raw, offset, self.heap, fine, heaps[-1], counts, energy)
        return AntennaSurvey(tuple(heaps), counts, energy / max(1, probed))

    def read(self, antenna: int, channel: int, survey: AntennaSurvey, first: int, into: AntennaVoltages) -> None:
        """Fill `into` with one antenna of one coarse channel, from spectrum `first` on.

        Missing samples are zero and not `present`.
        """
        fine = into.samples.shape[2]
        rows = into.samples.shape[1]
        samples = into.samples.reshape(self.polarisations, -1)
        present = into.present.reshape(-1)
        complete = bool(np.all(survey.counts[first : first + rows] == fine))
        present[:] = complete
        if not complete:
            samples[:] = 0
        low, high = first * fine, (first + rows) * fine
        # The last block that begins at or before the first sample, and those after it.
        number = max(0, bisect_right(self.offsets, low) - 1)
        while number < len(self.blocks) and self.offsets[number] < high:
            raw = np.asarray(self.blocks[number].data[antenna, channel])
            _unpack(raw, self.offsets[number] - low, self.heap, survey.heaps[number], samples, present)
            number += 1


@kernel
def _survey(
    raw: npt.NDArray[np.int8],
    offset: int,
    heap: int,
    fine: int,
    heaps: npt.NDArray[np.uint8],
    counts: npt.NDArray[np.int64],
    energy: npt.NDArray[np.int64],
) -> int:
    """Heaps and samples per spectrum of one block, int8 (time, polarisation, 2).

    Adds ``|x|**2`` of the first `PROBE` samples of each heap to `energy`; returns how many samples those are.
    """
    times, polarisations, _ = raw.shape
    last = min(times, counts.shape[0] * fine - offset)
    probed = 0
    for number in range(heaps.shape[0]):
        start = number * heap
        stop = min(start + heap, last)
        if start >= stop:
            break
        probe = min(start + PROBE, stop)
        total = np.int64(0)
        for polarisation in range(polarisations):
            part = np.int64(0)
            for time in range(start, probe):
                real, imaginary = np.int64(raw[time, polarisation, 0]), np.int64(raw[time, polarisation, 1])
                part += real * real + imaginary * imaginary
            energy[polarisation] += part
            total += part
        if total == 0 and not raw[probe:stop].any():
            continue
        heaps[number] = 1
        probed += probe - start
        place = offset + start
        while place < offset + stop:
            spectrum = place // fine
            until = min((spectrum + 1) * fine, offset + stop)
            counts[spectrum] += until - place
            place = until
    return probed


@kernel
def _unpack(
    raw: npt.NDArray[np.int8],
    offset: int,
    heap: int,
    heaps: npt.NDArray[np.uint8],
    samples: npt.NDArray[np.complex64],
    present: npt.NDArray[np.uint8],
) -> None:
    """Put what is there of a block, int8 (time, polarisation, 2), in place; sample 0 of it belongs at `offset`."""
    times, polarisations, _ = raw.shape
    wanted = present.shape[0]
    for number in range(max(0, -offset) // heap, heaps.shape[0]):
        start = max(number * heap, -offset)
        stop = min((number + 1) * heap, times, wanted - offset)
        if start >= stop:
            break
        if not heaps[number]:
            continue
        present[offset + start : offset + stop] = 1
        for polarisation in range(polarisations):
            source = raw[start:stop, polarisation]
            target = samples[polarisation, offset + start : offset + stop]
            for time in range(stop - start):
                target[time] = complex(np.float32(source[time, 0]), np.float32(source[time, 1]))
