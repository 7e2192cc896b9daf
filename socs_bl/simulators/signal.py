"""What the antennas receive: noise with a bandpass, and narrow-band tones whose frequency drifts.

An ideal channeliser is assumed: a tone is in the one channel whose centre is nearest, as ``exp(+2 pi i (f - f_c) t)``.
Frequencies and drifts are as received; nothing is corrected for the motion of the Earth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import ndtri

from socs_bl.core.config import Config

NOISE_SIGMA = 16.0  # of one real component at bandpass gain 1, in units of the 8-bit samples
_LEVELS = 256


class Tone(Config):
    """A narrow-band signal; where it comes from (`subarray`, `cycle`, `target`, `snr`) is for people only.

    Attributes
    ----------
    frequency_hz : float
        At `reference`.
    drift_hz_s : float
    power : float
        In each polarisation, over the noise power of its channel.
    reference : float or None
        Unix time, seconds; None: the synchronisation time of the F-engines.
    start, stop : float or None
        Unix times between which it is there; None: always.
    """

    frequency_hz: float
    drift_hz_s: float = 0.0
    power: float = Field(gt=0)
    reference: float | None = None
    start: float | None = None
    stop: float | None = None
    subarray: str = ""
    cycle: int = 0
    target: str = ""
    snr: float = 0.0

    def cycles(self, seconds: npt.NDArray[np.float64], base: float) -> npt.NDArray[np.float64]:
        """Phase in cycles, `seconds` after the reference, relative to an oscillator at `base` Hz."""
        return (self.frequency_hz - base) * seconds + 0.5 * self.drift_hz_s * seconds**2

    def frequency_after(self, seconds: float) -> float:
        """Hz, `seconds` after the reference."""
        return self.frequency_hz + self.drift_hz_s * seconds

    def present_at(self, unix: float) -> bool:
        """Whether it is there."""
        return (self.start is None or unix >= self.start) and (self.stop is None or unix < self.stop)


def bandpass(channels: int) -> npt.NDArray[np.float64]:
    """Voltage gain of each channel: flat in the middle, rolling off at both edges, with a slow ripple."""
    x = (np.arange(channels) + 0.5) / channels
    edges = np.minimum(x, 1 - x) / 0.1
    return np.clip(0.6 + 0.4 * edges, 0, 1) * (1 + 0.1 * np.sin(2 * np.pi * 3 * x))


class Sky:
    """Samples of all antennas, one heap time after the other.

    Parameters
    ----------
    antennas, channels, times : int
        Antennas, F-engine channels, spectra per heap.
    lowest : float
        Centre frequency of channel 0, Hz.
    width : float
        Channel width and sample rate of a channel, Hz.
    tones : Sequence[Tone]
        What to inject. Its phase differs from antenna to antenna and polarisation to polarisation.
    sync_time : float
        Unix time of sample 0.
    seed : int
        Two skies with the same seed are the same, call by call.
    """

    def __init__(
        self,
        *,
        antennas: int,
        channels: int,
        times: int,
        lowest: float,
        width: float,
        tones: Sequence[Tone],
        sync_time: float,
        seed: int,
    ) -> None:
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._lowest, self._width = lowest, width
        self._sync_time = sync_time
        self._tones = [(tone, 0.0 if tone.reference is None else tone.reference - sync_time) for tone in tones]
        self._phases = self._random.random((len(tones), antennas, 2))
        self._gain = bandpass(channels)
        # A uniform byte becomes a Gaussian sample by a table of quantiles: much cheaper than drawing Gaussians.
        quantiles = ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS)
        self._tables = np.rint(NOISE_SIGMA * self._gain[:, None] * quantiles).astype(np.int8)
        self._shape = (antennas, channels, times, 2, 2)

    def samples(self, pktidx: int) -> npt.NDArray[np.int8]:
        """The samples of packet index `pktidx`: int8 (antennas, channels, times, polarisations, 2)."""
        uniform = np.frombuffer(self._random.bytes(int(np.prod(self._shape))), np.uint8).reshape(self._shape)
        out = np.empty(self._shape, np.int8)
        for channel, table in enumerate(self._tables):
            out[:, channel] = table[uniform[:, channel]]
        times = self._shape[2]
        seconds = (pktidx * times + np.arange(times)) / self._width
        tones: dict[int, npt.NDArray[np.complex128]] = {}
        for index, (tone, reference) in enumerate(self._tones):
            if not tone.present_at(self._sync_time + seconds[0]):
                continue
            since = seconds - reference
            middle = tone.frequency_after(float(since[times // 2]))
            channel = round((middle - self._lowest) / self._width)
            if 0 <= channel < self._shape[1]:
                cycles = tone.cycles(since, self._lowest + channel * self._width)
                phase = 2j * np.pi * (cycles[None, :, None] + self._phases[index][:, None, :])
                amplitude = NOISE_SIGMA * np.sqrt(2 * tone.power) * self._gain[channel]
                tones[channel] = tones.get(channel, 0) + amplitude * np.exp(phase)
        for channel, signal in tones.items():
            # Signal and noise are quantised together: a tone below one quantisation step would else vanish.
            noise = self._random.standard_normal((*signal.shape, 2)) * (NOISE_SIGMA * self._gain[channel])
            total = noise + np.stack([signal.real, signal.imag], axis=-1)
            out[:, channel] = np.clip(np.rint(total), -127, 127)
        return out
