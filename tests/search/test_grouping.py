"""Detections of one signal are one hit; two signals stay two."""

from __future__ import annotations

import numpy as np

from socs_bl.search.grouping import Detection, along, group
from socs_bl.search.hits import Cutout, Line

SPECTRA, FINE, THRESHOLD = 20, 1024, 8.0


def detection(middle: float, rate: float, snr: float, beam: int = -1, power: float | None = None) -> Detection:
    cutout = Cutout(Line(middle, rate, snr), np.zeros((SPECTRA, 1), np.float32), int(middle))
    return Detection(beam, cutout, snr if power is None else power, 0.0, 1.0)


def grouped(*detections: Detection) -> list[list[tuple[int, float]]]:
    groups = group(detections, SPECTRA, FINE, THRESHOLD)
    assert all([member.leads for member in members] == [True] + [False] * (len(members) - 1) for members in groups)
    return [[(member.beam, member.line.snr) for member in members] for members in groups]


def test_the_same_line_in_several_beams_is_one_group_led_by_the_strongest() -> None:
    """Whatever the order they come in, also across the edge between two coarse channels."""
    beams = [detection(1023.9, 1.01, 20.0, 0), detection(1024.2, 1.0, 90.0, 2), detection(1024.0, 0.98, 30.0, -1)]
    wanted = [[(2, 90.0), (-1, 30.0), (0, 20.0)]]
    assert grouped(*beams) == grouped(*reversed(beams)) == wanted


def test_lines_that_cross_or_run_apart_stay_apart() -> None:
    """Crossing half-way with different drifts, and parallel at some distance, are two signals each."""
    assert len(grouped(detection(500, 1.0, 50.0, 0), detection(500, -1.0, 40.0, 1))) == 2
    assert len(grouped(detection(500, 1.0, 50.0, 0), detection(515, 1.0, 40.0, 1))) == 2
    assert len(grouped(detection(500, 1.0, 50.0, 0), detection(500 + FINE, 1.0, 40.0, 1))) == 2


def test_a_strong_signal_does_not_swallow_others() -> None:
    """Beside a signal of S/N 10^5, something 20 channels away in another beam, or in its own, is something else: its own
    side lobes were masked where it was found."""
    assert len(grouped(detection(500, 0.1, 1e5, 0), detection(520, 0.1, 10.0, 1))) == 2
    assert len(grouped(detection(500, 0.1, 1e5, 0), detection(503, 0.1, 10.0, 0))) == 2
    assert len(grouped(detection(500, 0.1, 1e5, 0), detection(503, 0.1, 10.0, 1))) == 1


def test_the_hit_is_where_the_power_is_highest_over_the_counted_noise() -> None:
    """A very strong signal raises the noise measured in the beam on it; that beam has it all the same."""
    assert grouped(detection(500, 0.1, 900.0, -1, 500.0), detection(500, 0.1, 800.0, 2, 1200.0)) == [
        [(2, 800.0), (-1, 900.0)]
    ]


def test_power_along_a_line_is_summed_where_there_is_any() -> None:
    """One channel of each spectrum; what is outside the picture counts as nothing."""
    power = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert along(Cutout(Line(101.5, 1.0, 9.0), power, 100)) == 0 + 6 + 12 + 18
    assert along(Cutout(Line(98.5, 1.0, 9.0), power, 100)) == 15.0
