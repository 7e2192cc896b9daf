"""Detections of one signal are one hit; two signals stay two."""

from __future__ import annotations

import numpy as np

from socs_bl.search.grouping import Detection, along, group
from socs_bl.search.hits import Cutout, Line

SPECTRA, FINE, THRESHOLD = 20, 1024, 8.0


def detection(middle: float, rate: float, snr: float, beam: int = -1) -> Detection:
    return Detection(beam, Cutout(Line(middle, rate, snr), np.zeros((SPECTRA, 1), np.float32), int(middle)), 0.0, 0.0)


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


def test_side_lobes_belong_to_the_signal_that_is_strong_enough_for_them() -> None:
    """Beside a signal of S/N 10^5, something weak 30 channels away is its side lobe; beside one of 50 it is not."""
    assert len(grouped(detection(500, 0.1, 1e5, 0), detection(530, 0.1, 10.0, 1))) == 1
    assert len(grouped(detection(500, 0.1, 50.0, 0), detection(530, 0.1, 10.0, 1))) == 2


def test_power_along_a_line_is_summed_where_there_is_any() -> None:
    """One channel of each spectrum; what is outside the picture counts as nothing."""
    power = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert along(Cutout(Line(101.5, 1.0, 9.0), power, 100)) == 0 + 6 + 12 + 18
    assert along(Cutout(Line(98.5, 1.0, 9.0), power, 100)) == 15.0
