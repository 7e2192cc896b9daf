"""Recordings made of noise and tones, written as GUPPI RAW files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from socs_bl.capture.guppi import encode_header

HEAP = 256
SIGMA = 12.0

Tone = tuple[float, float, float]


def voltages(
    tones: Sequence[Tone],
    seed: int,
    antennas: int = 2,
    channels: int = 2,
    heaps: int = 79,
    chan_bw: float = 1000.0,
    offset: float = 0.0,
) -> npt.NDArray[np.int8]:
    """Noise of rms `SIGMA` and drifting tones: int8 (antennas, channels, times, 2, 2).

    A tone is (frequency in Hz above the lower edge of the band at the first sample, drift in Hz/s, amplitude in units of
    `SIGMA`); its phase differs between antennas and polarisations. Each coarse channel has a bandwidth of `chan_bw` Hz.
    """
    generator = np.random.default_rng(seed)
    count = heaps * HEAP
    time = np.arange(count) / chan_bw
    data = np.empty((antennas, channels, count, 2, 2), np.int8)
    for antenna in range(antennas):
        phases = generator.uniform(0, 2 * np.pi, (len(tones), 2))
        for channel in range(channels):
            noise = generator.standard_normal((2, count, 2)) * (SIGMA / np.sqrt(2))
            series = noise[0] + 1j * noise[1] + offset
            for (frequency, drift, amplitude), phase in zip(tones, phases, strict=True):
                now = frequency + drift * time
                inside = (now >= channel * chan_bw) & (now < (channel + 1) * chan_bw)
                cycles = (frequency - (channel + 0.5) * chan_bw) * time + 0.5 * drift * time**2
                tone = SIGMA * amplitude * inside * np.exp(2j * np.pi * cycles)
                series += tone[:, None] * np.exp(1j * phase)
            data[antenna, channel, ..., 0] = np.clip(np.rint(series.real), -127, 127)
            data[antenna, channel, ..., 1] = np.clip(np.rint(series.imag), -127, 127)
    return data


def write_raw(
    path: Path,
    data: npt.NDArray[np.int8],
    chan_bw: float = 1000.0,
    block_heaps: int = 10,
    dropped_blocks: Sequence[int] = (),
) -> Path:
    """Write `data` as one GUPPI RAW file around 1400 MHz, without the blocks in `dropped_blocks`."""
    antennas, channels, count = data.shape[:3]
    with open(path, "wb") as file:
        for number, start in enumerate(range(0, count, block_heaps * HEAP)):
            block = np.ascontiguousarray(data[:, :, start : start + block_heaps * HEAP])
            cards: dict[str, str | int | float] = {
                "BACKEND": "GUPPI", "TELESCOP": "MeerKAT", "SRC_NAME": "J0000-0000", "OBSID": "MeerKAT:array_1:test",
                "RA_STR": "01:00:00.0", "DEC_STR": "-30:00:00.0", "OBSFREQ": 1400.0, "CHAN_BW": chan_bw / 1e6,
                "OBSBW": channels * chan_bw / 1e6, "OBSNCHAN": antennas * channels, "NANTS": antennas, "NPOL": 4,
                "NBITS": 8, "TBIN": 1 / abs(chan_bw), "DIRECTIO": 0, "BLOCSIZE": block.size, "HNTIME": HEAP,
                "PKTIDX": 5000 + start // HEAP, "STT_IMJD": 60000, "STT_SMJD": 100, "STT_OFFS": 0.25,
                "INSTANCE": "blpn64/0",
            }  # fmt: skip
            if number not in dropped_blocks:
                file.write(encode_header(cards))
                file.write(block.tobytes())
    return path


@pytest.fixture(name="voltages")
def voltages_fixture() -> Callable[..., npt.NDArray[np.int8]]:
    """`voltages`, for test modules."""
    return voltages


@pytest.fixture(name="write_raw")
def write_raw_fixture() -> Callable[..., Path]:
    """`write_raw`, for test modules."""
    return write_raw
