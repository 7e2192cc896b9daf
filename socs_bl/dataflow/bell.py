"""A watch in the reactor: events wake a look, soon and not too often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from socs_bl.dataflow.watch import Wake, Watch

QUIET = 0.02  # seconds without an event after which a look is taken
LONGEST = 0.5  # seconds that a look is put off while events go on

log = logging.getLogger(__name__)


class Debounce:
    """When to look, given when things happened.

    Parameters
    ----------
    quiet : float
        Seconds.
    longest : float
        Seconds from the first event on.
    """

    def __init__(self, quiet: float = QUIET, longest: float = LONGEST) -> None:
        self._quiet = quiet
        self._longest = longest
        self._first: float | None = None

    def heard(self, now: float) -> float:
        """Something happened; returns when to look."""
        if self._first is None:
            self._first = now
        return min(now + self._quiet, self._first + self._longest)

    def looked(self) -> None:
        """The look is taken."""
        self._first = None


class Bell:
    """Calls somebody when a store is to be looked at.

    Parameters
    ----------
    reactor : IReactorFDSet and IReactorTime
    watch : Watch
    on_wake : callable
        Gets what is to be looked at. An error of it is logged, and what it was to look at comes again with the next call.
    debounce : Debounce, optional
    """

    def __init__(
        self, reactor: Any, watch: Watch, on_wake: Callable[[Wake], None], debounce: Debounce | None = None
    ) -> None:
        self._reactor = reactor
        self._watch = watch
        self._on_wake = on_wake
        self._debounce = debounce or Debounce()
        self._wake = Wake()
        self._call: Any = None

    def start(self) -> None:
        """Listen."""
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Listen no more; the watch stays."""
        self._reactor.removeReader(self)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def fileno(self) -> int:
        """The watch's."""
        return self._watch.fileno()

    def logPrefix(self) -> str:
        """Twisted's name for us."""
        return "bell"

    def connectionLost(self, reason: object) -> None:
        """Never, for a descriptor of inotify; Twisted wants the method."""

    def doRead(self) -> None:
        """Events are there. An error that left here would make Twisted deaf to this descriptor for good."""
        try:
            self._wake |= self._watch.read()
        except OSError as error:
            log.error("events of a store were lost: %s; all of it is looked at", error)
            self._wake |= Wake(everything=True)
        if self._wake:
            self._look_at(self._debounce.heard(self._reactor.seconds()))

    def _look_at(self, due: float) -> None:
        delay = max(0.0, due - self._reactor.seconds())
        if self._call is None:
            self._call = self._reactor.callLater(delay, self._look)
        else:
            self._call.reset(delay)

    def _look(self) -> None:
        self._call = None
        self._debounce.looked()
        wake, self._wake = self._wake, Wake()
        try:
            self._on_wake(wake)
        except Exception:
            log.exception("the look at a store failed; it is taken again with the next event")
            self._wake |= wake
