"""Which effects may start: in order within a lane, and after what they wait for is acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from socs_bl.core.effect import Effect


class Lanes:
    """Effects that are committed and not acknowledged, in the order in which they may be carried out.

    A call costs what has changed since the last one, however many effects wait.
    """

    def __init__(self) -> None:
        self._effects: dict[str, Effect] = {}
        self._lanes: dict[str, deque[str]] = {}
        self._heads: dict[str, None] = {}  # first of their lanes, not looked at since they became that
        self._waiting: dict[str, list[str]] = {}  # first of their lanes, by what they wait for

    def __len__(self) -> int:
        return len(self._effects)

    def add(self, effects: Iterable[Effect]) -> None:
        """Queue effects; one that is already queued keeps its place."""
        for effect in effects:
            if effect.id in self._effects:
                continue
            self._effects[effect.id] = effect
            queue = self._lanes.setdefault(self._lane(effect), deque())
            queue.append(effect.id)
            if len(queue) == 1:
                self._heads[effect.id] = None

    def start(self) -> list[Effect]:
        """Effects that may start now; they count as started from here on."""
        ready: list[Effect] = []
        for identity in self._heads:
            effect = self._effects[identity]
            awaited = next((other for other in effect.after if other in self._effects), None)
            if awaited is None:
                ready.append(effect)
            else:
                self._waiting.setdefault(awaited, []).append(identity)
        self._heads.clear()
        return ready

    def settle(self, identity: str) -> None:
        """An effect is acknowledged or withdrawn."""
        effect = self._effects.pop(identity, None)
        if effect is None:
            return
        self._heads.pop(identity, None)
        lane = self._lane(effect)
        queue = self._lanes[lane]
        first = queue[0] == identity
        queue.remove(identity)
        if not queue:
            del self._lanes[lane]
        elif first:
            self._heads[queue[0]] = None
        for other in self._waiting.pop(identity, ()):
            if other in self._effects:
                self._heads[other] = None

    @staticmethod
    def _lane(effect: Effect) -> str:
        return effect.lane or f"#{effect.id}"
