"""Where agentkit arms its timers: the reactor, or a virtual clock in tests.

Twisted's own ``IReactorTime`` is a zope interface, which type checkers cannot use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """An armed call."""

    def active(self) -> bool:
        """True until it was made or cancelled."""

    def cancel(self) -> None:
        """Disarm it."""

    def getTime(self) -> float:
        """When it is due, on its clock."""


class Timing(Protocol):
    """A Twisted reactor or ``twisted.internet.task.Clock``."""

    def seconds(self) -> float:
        """Seconds now, from an arbitrary zero."""

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any) -> Timer:
        """Make a call after `delay` seconds."""


def disarm(timer: Timer | None) -> None:
    """Cancel a timer if it is still armed."""
    if timer is not None and timer.active():
        timer.cancel()
