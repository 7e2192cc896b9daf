"""Time: the clock pair every event carries, and the one place that converts between UTC and TAI.

Wall time is Unix UTC seconds; durations come from the monotonic clock only.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from socs_bl.core.errors import Refused

COMPACT_FORMAT = "%Y%m%dT%H%M%SZ"
UNIX_EPOCH_MJD = 40587  # 1970-01-01 as Modified Julian Day
DAY_NS = 86400 * 10**9  # of UTC, without leap seconds


class Instant(msgspec.Struct, frozen=True, array_like=True):
    """A clock pair read together.

    Attributes
    ----------
    wall : float
        Unix time, UTC, seconds. May step.
    monotonic : float
        Monotonic seconds of the process that wrote it. Comparable only within one writer epoch.
    """

    wall: float = 0.0
    monotonic: float = 0.0

    def later(self, seconds: float) -> Instant:
        """The instant `seconds` after this one."""
        return Instant(self.wall + seconds, self.monotonic + seconds)


class Clock(Protocol):
    """Where shells take their instants from; simulations bring their own."""

    def now(self) -> Instant:
        """Read both clocks."""


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(time.time(), time.monotonic())


def utc(wall: float) -> datetime:
    """Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(wall, UTC)


def compact_utc(wall: float) -> str:
    """Unix seconds as ``YYYYmmddTHHMMSSZ`` (cut, not rounded, to the second)."""
    return utc(wall).strftime(COMPACT_FORMAT)


def iso_utc(wall: float) -> str:
    """Unix seconds as ISO 8601 with milliseconds and ``Z``."""
    return utc(wall).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_of_iso(text: str) -> float:
    """ISO 8601 text as Unix seconds; without an offset it is UTC.

    Raises
    ------
    Refused
        When it is not that.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"{text[:40]!r} is not a time; write 2026-11-21T04:00:00Z") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def unix_to_mjd(wall: float) -> tuple[int, float]:
    """Unix seconds as Modified Julian Day number and seconds of that UTC day."""
    days, seconds = divmod(wall, 86400.0)
    return UNIX_EPOCH_MJD + int(days), seconds


def unix_to_tai_mjd(wall: float) -> float:
    """Unix seconds as TAI Modified Julian Date, with astropy's leap-second table."""
    from astropy.time import Time  # a second of import time that most processes never need

    return float(Time(wall, format="unix", scale="utc").tai.mjd)
