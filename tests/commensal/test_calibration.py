"""Calibration: the corrections are the formula's, worked out here channel by channel, and undo what was done to a signal."""

from __future__ import annotations

import cmath
import dataclasses
import json
import math
import statistics
from typing import Any

import numpy as np
import pytest

from socs_bl.commensal.calibration import (
    CaptureBlock,
    Products,
    antenna_order,
    calibrate,
    hash_fields,
    index_key,
    phaseup_time,
    solutions_key,
    why_not,
)
from socs_bl.core.errors import Refused

ANTENNAS = ("m010", "m002", "m063", "m001")  # CAM and pipeline do not sort
SCRIPTS = ("calibrate_delays.py", "bf_phaseup.py")
CHANNELS = 32
CENTRE, BANDWIDTH = 1.284e9, 856e6
NAN = complex(math.nan, math.nan)


def products(seed: int = 1, antennas: tuple[str, ...] = ANTENNAS) -> Products:
    """Products of a plausible array, without flags."""
    rng = np.random.default_rng(seed)
    shape = (2, len(antennas))

    def phases(*shape: int) -> Any:
        return np.exp(2j * np.pi * rng.random(shape))

    return Products(
        antennas=antennas,
        polarisations=("v", "h"),
        delays=rng.normal(0, 1e-9, shape),
        cross_delays=np.array([[2e-10], [0.0]]) + rng.normal(0, 1e-12, shape),
        gains=phases(*shape) * rng.uniform(0.9, 1.1, shape),
        bandpass=phases(CHANNELS, *shape) * rng.uniform(0.9, 1.1, (CHANNELS, *shape)),
        cross_phases=phases(CHANNELS, 2, 1) * np.ones((CHANNELS, *shape)),
        centre=CENTRE,
        bandwidth=BANDWIDTH,
        reference="m002",
    )


def flagged() -> Products:
    """The same with gaps, a dead input, one far too strong, and one far too weak."""
    found = products()
    found.bandpass[3:6, 0, 0] = NAN
    found.bandpass[:2, 1, 1] = NAN
    found.bandpass[-1, 1, 1] = NAN
    found.bandpass[:, 0, 1] = NAN  # m002v has nothing
    found.gains[1, 2] *= 5.0  # m063h
    found.gains[0, 3] *= 0.1  # m001v
    return found


def by_hand(given: Products, average: float, flatten: bool) -> dict[str, list[complex]]:
    """The corrections by input, one number after the other, in plain Python."""
    gains: dict[str, list[complex]] = {}
    for p, polarisation in enumerate(given.polarisations):
        cross_delay = -statistics.median(given.cross_delays[p])
        for a, antenna in enumerate(given.antennas):
            line = [complex(given.bandpass[c, p, a]) * complex(given.cross_phases[c, p, 0]) for c in range(CHANNELS)]
            good = [c for c, value in enumerate(line) if not cmath.isnan(value)]
            for c in range(CHANNELS):
                if good and c not in good:
                    below, above = (
                        max((g for g in good if g < c), default=None),
                        min((g for g in good if g > c), default=None),
                    )
                    if below is None or above is None:
                        line[c] = line[above if below is None else below]  # type: ignore[index]
                    else:
                        line[c] = line[below] + (line[above] - line[below]) * (c - below) / (above - below)
            delay = -float(given.delays[p, a]) + cross_delay
            steps = [CENTRE - BANDWIDTH / 2 + c * BANDWIDTH / CHANNELS for c in range(CHANNELS)]
            gains[antenna + polarisation] = [
                cmath.exp(-2j * math.pi * delay * f) * value * complex(given.gains[p, a])
                for f, value in zip(steps, line, strict=True)
            ]
    sizes = {name: statistics.median(map(abs, line)) for name, line in gains.items() if not cmath.isnan(line[0])}
    middle = statistics.median(sizes.values())
    corrections = {}
    for name, line in gains.items():
        if name not in sizes:
            corrections[name] = [0j] * CHANNELS
            continue
        relative = sizes[name] / middle
        scale = average * middle * relative / min(max(relative, 0.5), 2.0)
        corrections[name] = [scale / g * (1 if flatten else abs(g) / sizes[name]) for g in line]
    return corrections


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("given", [products(), products(7), flagged()], ids=["plain", "other", "flagged"])
def test_corrections_are_the_formulas(given: Products, flatten: bool) -> None:
    """Every correction of every input and channel is that of the formula, flags, clipping and antenna order included."""
    found = calibrate(given, average=100.0, flatten=flatten)
    wanted = by_hand(given, 100.0, flatten)
    assert found.antennas == ("m001", "m002", "m010", "m063")
    for p, polarisation in enumerate("hv"):
        for a, antenna in enumerate(found.antennas):
            np.testing.assert_allclose(found.corrections[:, p, a], wanted[antenna + polarisation], rtol=1e-9, atol=1e-9)


def test_doubtful_inputs_are_named() -> None:
    """An input without gain gets 0 everywhere and is named; so are those whose gain was clipped; nothing is NaN."""
    found = calibrate(flagged())
    assert found.zeroed == ("m002v",) and found.clipped == ("m063h", "m001v")
    assert np.isfinite(found.corrections).all()
    assert not found.corrections[:, 1, found.antennas.index("m002")].any()
    assert calibrate(products()).zeroed == calibrate(products()).clipped == ()


def test_corrected_signals_are_in_phase() -> None:
    """What the products say was done to a signal is undone: every input comes out at 100 with the phase 0."""
    given = dataclasses.replace(
        products(), cross_delays=np.zeros((2, 4)), cross_phases=np.ones((CHANNELS, 2, 4), complex)
    )
    found = calibrate(given)
    steps = CENTRE + (np.arange(CHANNELS) - CHANNELS / 2) * BANDWIDTH / CHANNELS
    done = np.exp(2j * np.pi * given.delays * steps[:, None, None]) * given.bandpass * given.gains
    for p, polarisation in enumerate("hv"):
        for a, antenna in enumerate(found.antennas):
            signal = done[:, given.polarisations.index(polarisation), given.antennas.index(antenna)]
            out = signal * found.corrections[:, p, a]
            np.testing.assert_allclose(out, out[0].real, rtol=1e-9)
            assert 80 < out[0].real < 125


def test_the_antennas_are_those_of_the_subarray() -> None:
    """The antenna axis is CAM's antennas sorted by number, and ``antenna_list`` says so; who has no products gets 0."""
    found = calibrate(products(), antennas=("m063", "m005", "m001"))
    assert found.antennas == ("m001", "m005", "m063")
    assert found.zeroed == ("m005h", "m005v") and np.isnan(found.delays[0, :, 1]).all()
    fields = hash_fields(found, 1_800_000_000.0, 1_800_000_100.5)
    assert json.loads(fields["antenna_list"]) == ["m001", "m005", "m063"] and fields["nants"] == "3"
    assert antenna_order(["m010", "m9", "s0008"]) == ("s0008", "m9", "m010")
    for names in (["m1", "m01"], ["m"], ["1"], ["m1", ""]):
        with pytest.raises(Refused):
            antenna_order(names)


def test_stored_fields() -> None:
    """Delays are float64, the rest complex128, channel by polarisation by antenna in C order; names and times as known."""
    found = calibrate(products())
    fields = hash_fields(found, 1_800_000_000.0, 1_800_000_100.5)
    assert list(fields) == [
        *("cal_K", "cal_G", "cal_B", "cal_all", "nants", "antenna_list", "nchan", "refant", "script_ts", "retrieval_ts")
    ]
    stored = np.frombuffer(fields["cal_all"], np.complex128).reshape(CHANNELS, 2, 4)  # type: ignore[arg-type]
    np.testing.assert_array_equal(stored, found.corrections)
    assert (
        len(fields["cal_K"]) == 8 * 8 and len(fields["cal_G"]) == 16 * 8 and len(fields["cal_B"]) == 16 * 8 * CHANNELS
    )
    given = products()
    delay = -given.delays[1, 3] - statistics.median(given.cross_delays[1])  # m001, h
    assert np.frombuffer(fields["cal_K"], np.float64)[0] == pytest.approx(delay)  # type: ignore[arg-type]
    assert (fields["nchan"], fields["refant"]) == ("32", "m002")
    assert (fields["script_ts"], fields["retrieval_ts"]) == ("20270115T080000Z", "20270115T080140Z")
    assert solutions_key("array_1", 1_800_000_000.0) == "array_1:cal_solutions:20270115T080000Z"
    assert index_key("array_1") == "array_1:cal_solutions:index"


def test_nothing_valid_is_refused() -> None:
    """Products without any valid gain, or that do not fit together, are refused with the reason."""
    empty = products()
    empty.gains[:] = NAN
    with pytest.raises(Refused, match="no input has a valid gain"):
        calibrate(empty)
    with pytest.raises(Refused, match=r"product B has the shape"):
        calibrate(dataclasses.replace(products(), bandpass=np.ones((CHANNELS, 2, 3), complex)))
    with pytest.raises(Refused, match="polarisations"):
        calibrate(dataclasses.replace(products(), polarisations=("h", "h")))


def test_phaseup_time() -> None:
    """Only a phase-up script with exactly two gain solutions counts; the last does, and it is done 10 s after the second."""
    blocks = [
        CaptureBlock("/home/kat/scripts/bf_phaseup.py", (100.0, 200.0)),
        CaptureBlock("calibrate_delays.py", (300.0, 400.0)),
        CaptureBlock("calibrate_delays.py", (500.0,)),
        CaptureBlock("calibrate_delays.py", (500.0, 600.0, 700.0)),
        CaptureBlock("image.py", (800.0, 900.0)),
    ]
    assert phaseup_time(blocks, SCRIPTS, 10.0) == 410.0
    assert phaseup_time(blocks[2:], SCRIPTS, 10.0) == 0.0


@pytest.mark.parametrize(
    ("phaseup", "config", "stored", "says"),
    [
        (0.0, 0.0, 0.0, "there has been no phase-up"),
        (100.0, 200.0, 0.0, "is older than the subarray"),
        (300.0, 200.0, 300.0, "are stored already"),
        (300.0, 200.0, 400.0, "are stored already"),
        (300.0, 200.0, 299.0, ""),
        (300.0, 300.0, 0.0, ""),
    ],
)
def test_when_solutions_are_fetched(phaseup: float, config: float, stored: float, says: str) -> None:
    """Solutions older than the subarray, or stored already, are not fetched; all others are."""
    reason = why_not(phaseup, config, stored)
    assert says in reason and bool(says) == bool(reason)
