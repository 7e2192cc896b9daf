"""Which effects may start: in order within a lane, and after what they wait for is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from socs_bl.core.effect import Effect


class Lanes:
    """Effects that are committed and not acknowledged, in the order in which they may be carried out."""

    def __init__(self) -> None:
        self._effects: dict[str, Effect] = {}
        self._lanes: dict[str, deque[str]] = {}
        self._started: set[str] = set()

    def __len__(self) -> int:
        return len(self._effects)

    def add(self, effects: Iterable[Effect]) -> None:
        """Queue effects; one that is already queued keeps its place."""
        for effect in effects:
            if effect.id in self._effects:
                continue
            self._effects[effect.id] = effect
            self._lanes.setdefault(self._lane(effect), deque()).append(effect.id)

    def start(self) -> list[Effect]:
        """Effects that may start now; they count as started from here on."""
        ready: list[Effect] = []
        for queue in self._lanes.values():
            effect = self._effects[queue[0]]
            if effect.id not in self._started and not any(other in self._effects for other in effect.after):
                ready.append(effect)
        self._started.update(effect.id for effect in ready)
        return ready

    def settle(self, identity: str) -> None:
        """An effect is acknowledged or withdrawn."""
        effect = self._effects.pop(identity, None)
        if effect is None:
            return
        self._started.discard(identity)
        lane = self._lane(effect)
        queue = self._lanes[lane]
        queue.remove(identity)
        if not queue:
            del self._lanes[lane]

    @staticmethod
    def _lane(effect: Effect) -> str:
        return effect.lane or f"#{effect.id}"
