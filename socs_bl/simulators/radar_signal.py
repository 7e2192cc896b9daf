"""What a SuperDARN radar receives: voltages of its antennas, and the correlation functions made of them.

A target in range gate `g` with Doppler velocity `v` (towards the radar), spectral width `w` and lag-zero power `P` has the
correlation function

    R(tau) = P exp(-2 pi f w tau / c) exp(i 4 pi f v tau / c)

at the radar's frequency `f` (SuperDARN's FITACF, exponential decay). Powers are in DMAP's units: a file's correlations times
``(32767 / data_normalization_factor)^2``, its samples times ``32767 / data_normalization_factor``.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.constants import speed_of_light

from socs_bl.simulators.radar_config import SAMPLE_US, Radar, SliceConfig, TargetConfig

Complex = npt.NDArray[np.complex64]

TAU_US = 2400
TAU_SAMPLES = TAU_US // SAMPLE_US
PULSES = np.array([0, 9, 12, 20, 22, 26, 27], np.uint32)  # units of TAU_US
RANGE_KM = 45
NORMALIZATION = 9144500.0
UNIT = NORMALIZATION / 32767
SPACING_M, BEAM_DEG, MIDDLE_BEAM = 15.24, 3.24, 7.5
LEAK = 30.0  # of the transmitter into a receiver that is blanked, over the noise


def lag_table() -> npt.NDArray[np.uint32]:
    """Pairs of pulses, one for each difference, in the differences' order; lag zero again at the end, of the last pulse."""
    pairs = {int(b - a): (int(a), int(b)) for i, a in enumerate(PULSES) for b in PULSES[i:] if b > a}
    first, last = int(PULSES[0]), int(PULSES[-1])
    return np.array([(first, first), *(pairs[lag] for lag in sorted(pairs)), (last, last)], np.uint32)


LAGS = lag_table()
LAG_S = np.asarray((LAGS[:, 1] - LAGS[:, 0]) * (TAU_US * 1e-6), np.float64)


class Echo(msgspec.Struct, frozen=True):
    """A target as a slice sees it: what is to be found in its files.

    Attributes
    ----------
    slice : int
    gate : int
        Counted from 0.
    range_km : float
        Of the gate.
    velocity_m_s, width_m_s : float
    power : float
        At lag zero, without the noise, in DMAP's units.
    noise : float
        At lag zero, in the same units.
    phase_deg : float
        Of the cross-correlation.
    beams : tuple of int
        On which it is seen.
    """

    slice: int
    gate: int
    range_km: float
    velocity_m_s: float
    width_m_s: float
    power: float
    noise: float
    phase_deg: float
    beams: tuple[int, ...]


def echoes(radar: Radar, part: SliceConfig) -> tuple[Echo, ...]:
    """The targets within a slice's ranges."""
    found = (_echo(radar, part, target) for target in radar.targets)
    return tuple(echo for echo in found if 0 <= echo.gate < part.ranges and echo.beams)


def _echo(radar: Radar, part: SliceConfig, target: TargetConfig) -> Echo:
    gate = round((target.range_km - part.first_range_km) / RANGE_KM)
    return Echo(
        slice=part.number,
        gate=gate,
        range_km=float(part.first_range_km + gate * RANGE_KM),
        velocity_m_s=target.velocity_m_s,
        width_m_s=target.width_m_s,
        power=radar.noise * 10 ** (target.power_db / 10),
        noise=radar.noise,
        phase_deg=target.phase_deg,
        beams=tuple(beam for beam in sorted(set(part.beams)) if not target.beams or beam in target.beams),
    )


def correlation(echo: Echo, freq_khz: float, tau_s: npt.NDArray[np.float64]) -> npt.NDArray[np.complex128]:
    """R(tau) of an echo, whatever the sign of `tau`."""
    wave = 2 * math.pi * freq_khz * 1e3 / speed_of_light
    return np.asarray(echo.power * np.exp(wave * (2j * echo.velocity_m_s * tau_s - echo.width_m_s * np.abs(tau_s))))


def azimuth_deg(beam: int) -> float:
    """Of a beam, from the boresight."""
    return BEAM_DEG * (beam - MIDDLE_BEAM)


def first_sample(part: SliceConfig) -> int:
    """The sample in which the echo of the first range gate begins to arrive, counted from the first pulse."""
    return int(first_range_us(part) / SAMPLE_US)


def first_range_us(part: SliceConfig) -> float:
    """Time to the first range gate and back."""
    return 2e9 * part.first_range_km / speed_of_light


def samples(part: SliceConfig) -> int:
    """Samples of a sequence: until the last pulse has come back from the last range gate."""
    return int(PULSES[-1]) * TAU_SAMPLES + first_sample(part) + part.ranges


class Signal:
    """The signal of one slice.

    Parameters
    ----------
    radar : Radar
    part : SliceConfig
    """

    def __init__(self, radar: Radar, part: SliceConfig) -> None:
        self.radar, self.part = radar, part
        self.echoes = echoes(radar, part)

    def _seen(self, beam: int) -> list[Echo]:
        return [echo for echo in self.echoes if beam in echo.beams]

    def correlations(self, random: np.random.Generator, beam: int, sequences: int) -> dict[str, Complex]:
        """Averaged correlations of the main array, of the interferometer, and of the two.

        Returns
        -------
        dict of str to array
            ``main_acfs``, ``intf_acfs``, ``xcfs``; each (1, ranges, lags), as in files.
        """
        noise, share = self.radar.noise, self.radar.intf_antennas / self.radar.main_antennas
        clean = np.zeros((self.part.ranges, len(LAGS)), np.complex128)
        turned = np.zeros_like(clean)
        for echo in self._seen(beam):
            found = correlation(echo, self.part.freq_khz, LAG_S)
            clean[echo.gate] += found
            turned[echo.gate] += found * np.exp(1j * math.radians(echo.phase_deg))
        power = clean[:, :1].real
        # Fewer antennas collect less of both, and fewer antennas' echoes add up to less than their noise's share.
        main, intf = power + noise, share * (share * power + noise)
        made = {}
        for name, signal, spread in (
            ("main_acfs", clean, main), ("intf_acfs", share**2 * clean, intf), ("xcfs", share * turned, np.sqrt(main * intf))
        ):  # fmt: skip
            # An average deviates by the power of everything in the gate over the root of what is averaged.
            noisy = signal + spread * _noise(random, signal.shape) / math.sqrt(sequences)
            if name != "xcfs":
                zero = LAG_S == 0
                noisy[:, zero] = np.abs(noisy[:, zero].real + (spread - signal[:, :1].real))
            made[name] = (noisy * UNIT**2).astype(np.complex64)[np.newaxis]
        return made

    def antennas(self, random: np.random.Generator, beam: int, sequences: int) -> Complex:
        """Voltages of all antennas, the interferometer's after the main array's.

        Returns
        -------
        array (antennas, sequences, samples) of complex64
        """
        radar, part = self.radar, self.part
        main, both = radar.main_antennas, radar.main_antennas + radar.intf_antennas
        made = _noise(random, (both, sequences, samples(part))) * math.sqrt(radar.noise / main)
        made[..., blanked()] = LEAK * math.sqrt(radar.noise)
        pulse_s, pulse_samples = PULSES * TAU_US * 1e-6, PULSES * TAU_SAMPLES
        for echo in self._seen(beam):
            matrix = correlation(echo, part.freq_khz, pulse_s[:, np.newaxis] - pulse_s) / main**2
            root = np.linalg.cholesky(matrix + np.eye(len(PULSES)) * 1e-9 * echo.power)
            # Of each sequence and pulse: a target's echoes are alike within a sequence as long as its width lets them be.
            amplitude = np.einsum("pq,sq->sp", root, _noise(random, (sequences, len(PULSES))))
            sample = pulse_samples + first_sample(part) + echo.gate
            made[:, :, sample] += self._wave(beam, echo.phase_deg)[:, np.newaxis, np.newaxis] * amplitude
        made[list(radar.faults.zeroed_antennas)] = 0
        return (made * UNIT).astype(np.complex64)

    def beams(self, antennas: Complex, beam: int) -> Complex:
        """Voltages of the main array and of the interferometer in the direction of a beam.

        Returns
        -------
        array (2, sequences, 1, samples) of complex64
        """
        weighted = antennas * self._wave(beam, 0.0).conj()[:, np.newaxis, np.newaxis]
        main = self.radar.main_antennas
        return np.stack([weighted[:main].sum(axis=0), weighted[main:].sum(axis=0)])[:, :, np.newaxis].astype(
            np.complex64
        )

    def excitations(self, beam: int) -> tuple[Complex, Complex]:
        """By what the main array's and the interferometer's antennas are multiplied to look along a beam."""
        weights = self._wave(beam, 0.0).conj().astype(np.complex64)
        return weights[: self.radar.main_antennas], weights[self.radar.main_antennas :]

    def _wave(self, beam: int, phase_deg: float) -> npt.NDArray[np.complex128]:
        """A wave from a beam's direction at each antenna."""
        places = antenna_places(self.radar)[:, 0]
        turn = 2 * math.pi * self.part.freq_khz * 1e3 / speed_of_light * math.sin(math.radians(azimuth_deg(beam)))
        extra = np.where(np.arange(len(places)) < self.radar.main_antennas, 0.0, -math.radians(phase_deg))
        return np.asarray(np.exp(1j * (turn * places + extra)))


def antenna_places(radar: Radar) -> npt.NDArray[np.float64]:
    """East, north, up of each antenna in metres; the interferometer stands behind the middle of the main array."""
    rows = [(np.arange(count) - (count - 1) / 2) * SPACING_M for count in (radar.main_antennas, radar.intf_antennas)]
    places = np.zeros((radar.main_antennas + radar.intf_antennas, 3))
    places[:, 0] = np.concatenate(rows)
    places[radar.main_antennas :, 1] = -100.0
    return places


def blanked() -> npt.NDArray[np.uint32]:
    """Samples that are taken while a pulse is sent."""
    return PULSES * np.uint32(TAU_SAMPLES)


def _noise(random: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.complex128]:
    """Complex noise of power 1."""
    return np.asarray(random.normal(scale=math.sqrt(0.5), size=(*shape, 2)).view(np.complex128)[..., 0])
