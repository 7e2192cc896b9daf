"""What the demonstration reads out of visibilities: delays, phases and places put in are found, within their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from socs_bl.cli.demo_visibilities import Observed, Spectrum, calibrate, locate
from socs_bl.simulators import geometry, sky
from socs_bl.simulators.boards_config import Correlation
from socs_bl.simulators.lags import LagMaker, make_products

UNIX = 1795233600.0
SECONDS = 4.0
CONFIG = Correlation()


def observed(number: int, noise_seed: int) -> Observed:
    """A scan of the default schedule, as it would be published, with the noise of `SECONDS`."""
    field, delays = sky.sky_of(CONFIG, number), np.array([*sky.delays_ns(CONFIG).values()]) * 1e-9
    draw, spectra = np.random.default_rng(noise_seed), []
    for baseband in CONFIG.basebands:
        subband = baseband.subbands[0]
        products = make_products(CONFIG, baseband, subband)
        maker = LagMaker(CONFIG, products, delays, 1)
        maker.point(field, UNIX)
        values, frequencies = maker.spectra()[:, 0].astype(np.complex128), products.frequencies()
        if baseband.lower:
            values, frequencies = values[:, ::-1].conj(), frequencies[::-1]
        own = {
            (x, hand): values[row].real
            for row, (x, y, (hand, other)) in enumerate(
                zip(products.x, products.y, products.polarisations, strict=True)
            )
            if x == y and hand == other
        }
        cross = np.array([
            [
                values[row] / np.sqrt(own[x, hand] * own[y, hand])
                for row, (x, y, (hand, other)) in enumerate(zip(products.x, products.y, products.polarisations, strict=True))
                if (x, y, other) == (first, second, hand)
            ]
            for second in range(5) for first in range(second)
        ]).transpose(0, 2, 1)  # fmt: skip
        deviation = 1.0 / math.sqrt(2 * subband.channel_width_hz * SECONDS)
        cross += deviation * (draw.standard_normal(cross.shape) + 1j * draw.standard_normal(cross.shape))
        spectra.append(Spectrum(frequencies, cross, deviation))
    positions = geometry.positions(CONFIG.site, [station.pad for station in CONFIG.ordered])
    return Observed(
        scan=number + 1, source=CONFIG.scans[number].source, calibrator=CONFIG.scans[number].calibrator,
        centre=(float(field.centre[0]), float(field.centre[1])), mjd=UNIX / 86400 + 40587,
        antennas=tuple(station.name for station in CONFIG.ordered), positions=positions, spectra=tuple(spectra),
        integrations=8, flagged=0.0,
    )  # fmt: skip


def test_delays_and_places_are_found_within_their_errors() -> None:
    """Over many noises the scatter is what the errors say, and none of all is off by five of them."""
    truth = sky.inject(CONFIG, "x", UNIX)
    values = [*truth.delays_ns.values()]
    pulls = []
    for seed in range(12):
        calibration = calibrate(observed(0, seed))
        pulls += [
            (found.value * 1e9 - (late - values[0])) / (found.error * 1e9)
            for found, late in zip(calibration.delays, values[1:], strict=True)
        ]
        pulls.append(
            (calibration.coefficient.value - truth.scans[0].sources[0].coefficient) / calibration.coefficient.error
        )
        source, place = truth.scans[1].sources[0], locate(observed(1, 100 + seed), calibration)
        pulls.append((place.east.value - source.east_arcsec) / place.east.error)
        pulls.append((place.north.value - source.north_arcsec) / place.north.error)
        pulls.append((place.coefficient.value - source.coefficient) / place.coefficient.error)
        assert place.east.error < 0.02 and calibration.delays[0].error < 1e-11
    assert max(map(abs, pulls)) < 5 and 0.7 < float(np.std(pulls)) < 1.3 and abs(float(np.mean(pulls))) < 0.4, pulls


def test_a_wrong_sign_is_not_forgiven() -> None:
    """Conjugated visibilities put the source on the other side, and delays change their sign."""
    right, target = observed(0, 1), observed(1, 2)

    def mirrored(scan: Observed) -> Observed:
        spectra = tuple(Spectrum(s.frequencies, s.coefficients.conj(), s.deviation) for s in scan.spectra)
        return Observed(**{**vars(scan), "spectra": spectra})

    one, other = calibrate(right), calibrate(mirrored(right))
    assert all(a.value == pytest.approx(-b.value, abs=1e-13) for a, b in zip(one.delays, other.delays, strict=True))
    place, wrong = locate(target, one), locate(mirrored(target), other)
    assert wrong.east.value == pytest.approx(-place.east.value, abs=1.0)
