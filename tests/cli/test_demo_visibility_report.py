"""What the correlator's part of the demonstration calls a success, and what it says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from socs_bl.cli.demo_visibilities import Measured, Observed
from socs_bl.cli.demo_visibility_report import (
    CorrelatorOutcome,
    Found,
    compare,
    correlator_json,
    measure,
    show_correlator,
)
from socs_bl.core.errors import Faulty
from socs_bl.simulators import sky
from socs_bl.simulators.boards_config import Correlation

TRUTH = sky.inject(Correlation(), "TSIM26.61365.16666667", 1795233600.0)


def scan(number: int) -> Observed:
    """A scan as it was read, without data."""
    source = TRUTH.scans[number - 1].source
    return Observed(
        number, source, number == 1, (0.0, 0.0), 61365.0, tuple(TRUTH.delays_ns), np.zeros((5, 3)), (), 15, 0.0
    )


def found() -> Found:
    """Numbers that agree, but for half an error."""
    good: Found = {}
    delays = [*TRUTH.delays_ns.items()]
    for name, late in delays[1:]:
        good[(1, f"delay {name} - {delays[0][0]}")] = Measured((late - delays[0][1]) * 1e-9 + 0.5e-12, 1e-12)
    for each in TRUTH.scans:
        good[(each.scan, "coefficient")] = Measured(each.sources[0].coefficient, 1e-5)
    for each in TRUTH.scans[1:]:
        good[(each.scan, "east")] = Measured(each.sources[0].east_arcsec - 0.001, 0.002)
        good[(each.scan, "north")] = Measured(each.sources[0].north_arcsec + 0.001, 0.002)
    return good


def outcome(numbers: Found, scans: int = 3) -> CorrelatorOutcome:
    """The outcome of these numbers."""
    published = tuple(scan(number + 1) for number in range(scans))
    return CorrelatorOutcome(tuple(compare(numbers, TRUTH)), published, 3, Path("/truth.json"), Path("/sdm"))


def test_all_numbers_within_five_errors_are_a_success() -> None:
    """Amplitudes, delays and places are compared; the table and the summary show each with error and limit."""
    done = outcome(found())
    assert done.ok and len(done.rows) == 3 + 4 + 2 * 2
    assert {row.unit for row in done.rows} == {"1e-3", "ps", "arcsec"}
    section = correlator_json(done)
    assert section["ok"] is True and section["rows"][1]["limit"] == pytest.approx(5.0)
    text = io.StringIO()
    show_correlator(Console(file=text, width=160), done)
    assert "all 11 numbers agree, in 3 published scans of 3" in text.getvalue()
    assert "delay ea07 - ea03" in text.getvalue()


@pytest.mark.parametrize("key", sorted(found(), key=str))
def test_any_number_that_is_off_is_a_failure(key: tuple[int, str]) -> None:
    """Six errors off, or not found at all: no success, and no number hides another."""
    numbers = found()
    numbers[key] = Measured(numbers[key].value + 6 * numbers[key].error, numbers[key].error)
    bad = outcome(numbers)
    assert not bad.ok and sum(not row.ok for row in bad.rows) == 1
    del numbers[key]
    none = outcome(numbers)
    assert not none.ok
    (row,) = [row for row in correlator_json(none)["rows"] if not row["ok"]]
    assert row["found"] is None and json.dumps(row, allow_nan=False)
    text = io.StringIO()
    show_correlator(Console(file=text, width=160), none)
    assert "10 of 11 numbers agree" in text.getvalue()


def test_a_scan_that_was_not_published_is_a_failure() -> None:
    """Numbers of two scans do not make up for the third."""
    assert not outcome(found(), scans=2).ok
    assert not replace(outcome(found()), rows=()).ok


def test_without_a_calibrator_nothing_can_be_said() -> None:
    """The intents of the published scans say which one is measured against."""
    with pytest.raises(Faulty, match="calibrator"):
        measure([scan(2), scan(3)])
