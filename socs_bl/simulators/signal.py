"""What the antennas receive: noise with a passband, and narrow-band tones whose frequency drifts.

A tone from elsewhere than the phase centre arrives with what delay tracking leaves of its geometric delay: antenna ``a``
has it as ``exp(-2 pi i f tau_a)``, sign and frame as in `socs_bl.simulators.geometry`. At the phase centre all antennas
have it alike. The two polarisations have phases of their own, drawn from the seed. Noise is that of the receivers:
independent everywhere.

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
    """A narrow-band signal.

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
    delays, delay_rates : tuple of float
        Of each antenna relative to the phase centre at `reference`, seconds, and their change, seconds per second.
        Empty: from the phase centre.
    """

    frequency_hz: float
    drift_hz_s: float = 0.0
    power: float = Field(gt=0)
    reference: float | None = None
    start: float | None = None
    stop: float | None = None
    delays: tuple[float, ...] = ()
    delay_rates: tuple[float, ...] = ()

    def cycles(self, seconds: npt.NDArray[np.float64], base: float) -> npt.NDArray[np.float64]:
        """Phase in cycles, `seconds` after the reference, relative to an oscillator at `base` Hz."""
        return (self.frequency_hz - base) * seconds + 0.5 * self.drift_hz_s * seconds**2

    def delay_cycles(self, seconds: npt.NDArray[np.float64], antennas: int) -> npt.NDArray[np.float64]:
        """Cycles by which each antenna is behind, `seconds` after the reference: (antennas, times)."""
        if not self.delays:
            return np.zeros((antennas, len(seconds)))
        delay = np.array(self.delays)[:, None] + np.array(self.delay_rates)[:, None] * seconds
        return np.asarray((self.frequency_hz + self.drift_hz_s * seconds) * delay)

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


def gains(antennas: int, channels: int, ripple: float, seed: int) -> npt.NDArray[np.float64]:
    """Voltage gain of each antenna and channel: the common `bandpass` with a slow ripple of each antenna's own.

    Parameters
    ----------
    antennas, channels : int
    ripple : float
        Largest deviation from the common passband.
    seed : int

    Returns
    -------
    numpy.ndarray
        (antennas, channels).
    """
    draw = np.random.default_rng([seed, 1])
    periods, phases = draw.uniform(1.0, 4.0, (antennas, 1)), draw.uniform(0.0, 1.0, (antennas, 1))
    x = (np.arange(channels) + 0.5) / channels
    return np.asarray(bandpass(channels) * (1.0 + ripple * np.sin(2 * np.pi * (periods * x + phases))))


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
        What to inject.
    sync_time : float
        Unix time of sample 0.
    ripple : float
        Of the antennas' passbands, see `gains`.
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
        ripple: float = 0.0,
    ) -> None:
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._lowest, self._width = lowest, width
        self._sync_time = sync_time
        self._tones = [(tone, 0.0 if tone.reference is None else tone.reference - sync_time) for tone in tones]
        self._phases = self._random.random((len(tones), 2))
        self._gain = gains(antennas, channels, ripple, seed)
        # A uniform byte becomes a Gaussian sample by a table of quantiles: much cheaper than drawing Gaussians.
        quantiles = ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS)
        self._tables = np.rint(NOISE_SIGMA * self._gain[..., None] * quantiles).astype(np.int8)
        self._shape = (antennas, channels, times, 2, 2)

    def samples(self, pktidx: int) -> npt.NDArray[np.int8]:
        """The samples of packet index `pktidx`: int8 (antennas, channels, times, polarisations, 2)."""
        uniform = np.frombuffer(self._random.bytes(int(np.prod(self._shape))), np.uint8).reshape(self._shape)
        out = np.empty(self._shape, np.int8)
        for antenna, tables in enumerate(self._tables):
            for channel, table in enumerate(tables):
                np.take(table, uniform[antenna, channel], out=out[antenna, channel])
        times = self._shape[2]
        seconds = (pktidx * times + np.arange(times)) / self._width
        for channel, signal in self._signals(seconds).items():
            # Signal and noise are quantised together: a tone below one quantisation step would else vanish.
            noise = self._random.standard_normal((*signal.shape, 2)) * NOISE_SIGMA
            total = (noise + np.stack([signal.real, signal.imag], axis=-1)) * self._gain[:, channel, None, None, None]
            out[:, channel] = np.clip(np.rint(total), -127, 127)
        return out

    def _signals(self, seconds: npt.NDArray[np.float64]) -> dict[int, npt.NDArray[np.complex128]]:
        """Tones by channel, before the passband: complex (antennas, times, polarisations)."""
        antennas, channels = self._shape[:2]
        found: dict[int, npt.NDArray[np.complex128]] = {}
        for index, (tone, reference) in enumerate(self._tones):
            if not tone.present_at(self._sync_time + seconds[0]):
                continue
            since = seconds - reference
            middle = tone.frequency_after(float(since[len(since) // 2]))
            channel = round((middle - self._lowest) / self._width)
            if 0 <= channel < channels:
                cycles = tone.cycles(since, self._lowest + channel * self._width)
                behind = cycles - tone.delay_cycles(since, antennas)
                phase = 2j * np.pi * (behind[:, :, None] + self._phases[index])
                found[channel] = found.get(channel, 0) + NOISE_SIGMA * np.sqrt(2 * tone.power) * np.exp(phase)
        return found
