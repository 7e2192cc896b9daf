"""Recorded voltages, one antenna of one coarse channel at a time.

The time of a sample is its packet index, not its place in the file: block ``b`` begins at spectrum
``(PKTIDX_b - PKTIDX_0) * HNTIME`` of the recording, so a block that was never written leaves a gap of the right length.
Heaps that never arrived are recorded as zeros; a heap (``HNTIME`` spectra of one antenna) without a single non-zero
sample in a coarse channel counts as missing there, and so does everything between blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.capture.guppi import Block
from socs_bl.core.errors import Refused
from socs_bl.search.kernel import kernel

# Longer stretches of never recorded packets than this many recordings are a damaged index, not a gap.
MAX_STRETCH = 4


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
    """Work space for one antenna of one coarse channel, used again and again.

    Attributes
    ----------
    samples : numpy.ndarray
        complex64, shape (polarisations, spectra, fine channels): the time series cut at FFT length.
    present : numpy.ndarray
        uint8, shape (spectra, fine channels): 1 where a sample was recorded.
    """

    samples: npt.NDArray[np.complex64]
    present: npt.NDArray[np.uint8]


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

    def workspace(self, fine: int) -> AntennaVoltages:
        """Work space for whole FFTs of `fine` samples; what is left at the end of the recording is not used."""
        spectra = self.samples // fine
        return AntennaVoltages(
            np.zeros((self.polarisations, spectra, fine), np.complex64), np.zeros((spectra, fine), np.uint8)
        )

    def read(self, antenna: int, channel: int, into: AntennaVoltages) -> None:
        """Fill `into` with one antenna of one coarse channel; missing samples are zero and not `present`."""
        samples = into.samples.reshape(self.polarisations, -1)
        present = into.present.reshape(-1)
        samples[:] = 0
        present[:] = 0
        for block, offset in zip(self.blocks, self.offsets, strict=True):
            _unpack(np.asarray(block.data[antenna, channel]), offset, self.heap, samples, present)


@kernel
def _unpack(
    raw: npt.NDArray[np.int8],
    offset: int,
    heap: int,
    samples: npt.NDArray[np.complex64],
    present: npt.NDArray[np.uint8],
) -> None:
    """Turn int8 (time, polarisation, 2) into complex samples from `offset` on, heap by heap."""
    times, polarisations, _ = raw.shape
    last = min(times, present.shape[0] - offset)
    for start in range(0, last, heap):
        stop = min(start + heap, last)
        seen = False
        for time in range(start, stop):
            for polarisation in range(polarisations):
                if raw[time, polarisation, 0] != 0 or raw[time, polarisation, 1] != 0:
                    seen = True
                    break
            if seen:
                break
        if not seen:
            continue
        present[offset + start : offset + stop] = 1
        for polarisation in range(polarisations):
            for time in range(start, stop):
                samples[polarisation, offset + time] = complex(
                    np.float32(raw[time, polarisation, 0]), np.float32(raw[time, polarisation, 1])
                )
