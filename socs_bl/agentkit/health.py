"""How an agent is: reactor lag, queue depths, counters of its rooms, and what has crashed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from socs_bl.core.clock import iso_utc

LAG_LIMIT = 0.5
ALERTS_KEPT = 20
Read = Callable[[], float]


@dataclass
class Health:
    """Collects what the process ``monitor`` reports.

    Attributes
    ----------
    crashes : dict
        Per operation the text of its last crash; an entry goes when the operation is started again.
    alerts : deque
        The latest notifications.
    stalls : int
        How often the reactor was late by more than half a second.
    """

    crashes: dict[str, str] = field(default_factory=dict)
    alerts: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=ALERTS_KEPT))
    stalls: int = 0
    worst_lag: float = 0.0
    lag: float = 0.0
    _readers: dict[str, Read] = field(default_factory=dict)

    def add(self, name: str, read: Read) -> None:
        """Have `read()` reported as counter `name`, such as ``capture.heaps_missing``.

        Raises
        ------
        ValueError
            When the name is taken.
        """
        if name in self._readers:
            raise ValueError(f"the counter {name!r} exists already")
        self._readers[name] = read

    def late(self, seconds: float) -> bool:
        """Note by how much the reactor was late; True when that is a stall."""
        self.lag = max(0.0, seconds)
        self.worst_lag = max(self.worst_lag, self.lag)
        if self.lag <= LAG_LIMIT:
            return False
        self.stalls += 1
        return True

    def alert(self, agent: str, level: str, text: str, facts: dict[str, Any]) -> dict[str, Any]:
        """Make and keep a notification."""
        now = time.time()
        notification = {"time": now, "utc": iso_utc(now), "agent": agent, "level": level, "text": text, "facts": facts}
        self.alerts.append(notification)
        return notification

    def counters(self) -> dict[str, float]:
        """All counters now; one whose reader fails is NaN."""
        return {name: _read(read) for name, read in self._readers.items()}

    def report(self) -> dict[str, Any]:
        """What ``monitor`` shows in its session data."""
        return {
            "reactor": {"lag_s": self.lag, "worst_lag_s": self.worst_lag, "stalls": self.stalls},
            "counters": self.counters(),
            "crashed": dict(self.crashes),
            "alerts": list(self.alerts),
        }


def _read(read: Read) -> float:
    try:
        return float(read())
    except Exception:  # noqa: BLE001  # a counter of a room must never take the monitor down; NaN shows it
        return math.nan
