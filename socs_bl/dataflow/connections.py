"""How many connections may be opened, for firewalls that count them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from socs_bl.dataflow.quantities import Rate

ROUNDING = 1e-6  # seconds; who has waited as long as told must not be one rounding short


class Connections:
    """Lets at most `rate.times` through in any `rate.seconds`, wherever they begin.

    A bucket that fills evenly would let twice as many through in the worst of them, and a firewall does not forgive that.

    Parameters
    ----------
    rate : Rate
    opened : iterable of float
        When connections were opened before, seconds; so that a restart does not begin with a clean slate.
    """

    def __init__(self, rate: Rate, opened: Iterable[float] = ()) -> None:
        self._rate = rate
        self._opened = deque(sorted(opened)[-rate.times :], maxlen=rate.times)

    def wait(self, now: float) -> float:
        """Seconds until the next one may be opened; 0: now."""
        if len(self._opened) < self._rate.times:
            return 0.0
        left = self._opened[0] + self._rate.seconds - now
        return left if left > ROUNDING else 0.0

    def take(self, now: float) -> bool:
        """Open one now, if it may be."""
        if self.wait(now) > 0.0:
            return False
        self._opened.append(now)
        return True

    @property
    def opened(self) -> tuple[float, ...]:
        """When those that still count were opened."""
        return tuple(self._opened)
