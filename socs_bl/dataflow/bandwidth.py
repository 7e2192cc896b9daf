"""How fast files may be sent at this time of the day, and how long that holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

DAY = 86_400.0  # seconds of a day, UTC without leap seconds


class TimeOfDay(Protocol):
    """A limit for a part of the day, as a pipeline declares it."""

    @property
    def between(self) -> str:
        """``HH:MM-HH:MM``, empty for all of it."""
        ...

    @property
    def limit(self) -> int:
        """Bytes a second; 0: none."""
        ...

    def holds(self, second: float) -> bool:
        """Whether it is that time."""
        ...


class Limit(NamedTuple):
    """What may be sent now.

    Attributes
    ----------
    rate : int
        Bytes a second; 0: as much as goes.
    until : float
        Unix seconds at which that may change; infinite when it does not.
    """

    rate: int
    until: float


def limit_at(windows: Sequence[TimeOfDay], now: float) -> Limit:
    """What holds at a time.

    Parameters
    ----------
    windows : sequence of TimeOfDay
        The first that holds counts; without one there is no limit.
    now : float
        Unix seconds.
    """
    midnight = now - now % DAY
    edges = sorted({_second_of(text) for window in windows if window.between for text in window.between.split("-")})
    coming = [midnight + day * DAY + edge for day in (0, 1) for edge in edges]
    until = next((edge for edge in coming if edge > now), float("inf"))
    return Limit(next((window.limit for window in windows if window.holds(now - midnight)), 0), until)


def share(rate: int, among: int) -> int:
    """What each of several transfers may send; 0: as much as goes."""
    return max(1, rate // max(1, among)) if rate else 0


def _second_of(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60
