"""The expected signal-to-noise ratio, against spectra of simulated voltages that know nothing of the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from socs_bl.simulators.expectation import Resolution, best_share, chirp_power, expected_snr

FINE, SPECTRA, ANTENNAS = 512, 16, 4
COARSE_HZ = 4000.0
RESOLUTION = Resolution(COARSE_HZ, COARSE_HZ / FINE, SPECTRA, ANTENNAS)


def measured(power: float, offset: float, rate: float, coherent: bool, width: int, seed: int) -> float:
    """Excess over noise, in sigmas of the noise, summed in the `width` channels nearest to the tone of each spectrum."""
    random = np.random.default_rng(seed)
    shape = (ANTENNAS, 2, SPECTRA * FINE)
    noise = (random.standard_normal(shape) + 1j * random.standard_normal(shape)) / math.sqrt(2)
    # Time in spectra from the middle of the first one; frequency in fine channels.
    time = (np.arange(SPECTRA * FINE) + 0.5) / FINE - 0.5
    tone = math.sqrt(power) * np.exp(2j * np.pi * (offset * time + 0.5 * rate * time**2))
    voltage = noise + tone
    if coherent:
        voltage = voltage.sum(axis=0, keepdims=True)
    spectra = np.abs(np.fft.fft(voltage.reshape(*voltage.shape[:2], SPECTRA, FINE), axis=-1)) ** 2
    total = spectra.sum(axis=(0, 1))
    places = offset + rate * np.arange(SPECTRA)
    first = np.ceil(places - width / 2).astype(int)
    line = total[np.arange(SPECTRA)[:, None], (first[:, None] + np.arange(width)) % FINE].sum()
    # The noise of such sums: the same cut through channels that the tone does not reach.
    far = np.arange(60, FINE - 60, width)
    blank = np.stack([total[:, far + part] for part in range(width)]).sum(axis=(0, 1))
    return float((line - blank.mean()) / blank.std())


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize(("offset", "rate"), [(3.0, 0.0), (3.5, 0.0), (-20.2, 0.7), (5.3, -2.2), (-30.0, 3.1)])
def test_theory_is_what_spectra_show(offset: float, rate: float, coherent: bool) -> None:
    """Steady, between two channels, slowly and fast drifting, in a beam and in the incoherent sum: within 10 %."""
    power = 0.02
    widths = range(1, math.ceil(abs(rate)) + 2)
    shown = max(np.mean([measured(power, offset, rate, coherent, w, seed) for seed in range(6)]) for w in widths)
    fine = RESOLUTION.fine_hz
    theory = expected_snr(power, offset * fine, rate * fine**2, RESOLUTION, 1.0 if coherent else None)
    assert shown == pytest.approx(theory, rel=0.1)


def test_losses() -> None:
    """No loss in the middle of a channel; 2 / pi squared between two, or what two channels give; a chirp keeps its power."""
    assert best_share(7.0, 0.0, 10) == pytest.approx(1.0, abs=1e-5)
    assert best_share(7.5, 0.0, 10) == pytest.approx((2 / math.pi) ** 2, rel=1e-4)
    for rate in (0.0, 0.5, 2.5):
        assert chirp_power(rate, np.arange(-400, 401) + 0.3).sum() == pytest.approx(1.0, abs=0.01)
    assert best_share(0.2, 3.0, 19) == pytest.approx(best_share(0.2, -3.0, 19), rel=0.05)


def test_beams_gain_over_the_sum() -> None:
    """A beam of four antennas on a tone gains a factor of two over the incoherent sum; half heard, half that."""
    incoherent = expected_snr(0.01, 0.0, 0.0, RESOLUTION, None)
    assert expected_snr(0.01, 0.0, 0.0, RESOLUTION, 1.0) == pytest.approx(2 * incoherent)
    assert expected_snr(0.01, 0.0, 0.0, RESOLUTION, 0.5) == pytest.approx(incoherent)
    assert expected_snr(0.02, 0.0, 0.0, RESOLUTION, None) == pytest.approx(2 * incoherent)
