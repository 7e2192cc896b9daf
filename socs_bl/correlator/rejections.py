"""What came from outside and was not taken: counted by kind, the last one located, people told now and then."""

from __future__ import annotations

from typing import Any

TOLD_INTERVAL = 60.0  # seconds between two notifications about one kind


class Rejections:
    """Counts of what was refused.

    Attributes
    ----------
    counts : dict of str to int
        By kind.
    last : dict
        Kind, sender, text and Unix time of the last one; empty while there is none.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.last: dict[str, Any] = {}
        self._told: dict[str, float] = {}

    @property
    def total(self) -> int:
        """How many were refused."""
        return sum(self.counts.values())

    def count(self, kind: str, sender: str, text: str, now: float) -> bool:
        """Count one that came at Unix time `now`; True when people should be told of it."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.last = {"kind": kind, "sender": sender, "text": text, "time": now}
        if abs(now - self._told.get(kind, float("-inf"))) < TOLD_INTERVAL:
            return False
        self._told[kind] = now
        return True
