"""Conversions of time against values worked out by hand."""

from __future__ import annotations

import pytest

from socs_bl.core.clock import compact_utc, iso_utc, unix_to_mjd, unix_to_tai_mjd

LEAP = 1_483_228_800.0  # 2017-01-01T00:00:00 UTC, right after the last leap second: TAI - UTC went from 36 s to 37 s


@pytest.mark.parametrize(("wall", "offset"), [(LEAP, 37.0), (LEAP - 2 * 86400.0, 36.0)])
def test_tai_is_ahead_by_the_leap_seconds(wall: float, offset: float) -> None:
    """TAI as MJD is UTC plus the leap seconds of that day (MJD 57754 is 2017-01-01)."""
    utc_days = 57754 + (wall - LEAP) / 86400.0
    assert (unix_to_tai_mjd(wall) - utc_days) * 86400.0 == pytest.approx(offset, abs=1e-3)


def test_utc_texts_and_days() -> None:
    """Texts are UTC and cut to the second; the day number is that of the UTC day."""
    assert compact_utc(LEAP + 0.999) == "20170101T000000Z"
    assert iso_utc(LEAP + 0.25) == "2017-01-01T00:00:00.250Z"
    assert unix_to_mjd(LEAP + 3600.5) == (57754, 3600.5)
