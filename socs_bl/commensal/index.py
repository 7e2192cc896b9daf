"""What the commensal machine looks up at every event, so that no event walks the whole pool.

An index is made from cells and never stored: `index_of` makes it from scratch, `moved` and `shared_out` keep it up to
date, and the machine's `check` holds the one against the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from socs_bl.commensal.allocation import Share
from socs_bl.commensal.model import Duty, Instance, Subarray

_FREE, _QUARANTINED, _DRAINED = Duty.FREE, Duty.QUARANTINED, Duty.DRAINED


class Index:
    """Who is free, who works for which run, who holds how many, and in whose shares an instance is.

    Attributes
    ----------
    names : tuple of str
        The instances of the configuration in the order in which they are taken.
    place : dict of str to int
        Where an instance stands in `names`.
    free : set of str
        Free instances.
    quarantined : set of str
        Instances that are out of use.
    drained : set of str
        Instances that are out of service.
    working : dict of str to set of str
        Run to the instances that record or process it.
    held : dict of str to int
        Subarray to the number of instances it owns.
    holder : dict of str to str
        Instance to the subarray whose shares name it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.place = {name: place for place, name in enumerate(self.names)}
        self.free: set[str] = set()
        self.quarantined: set[str] = set()
        self.drained: set[str] = set()
        self.working: dict[str, set[str]] = {}
        self.held: dict[str, int] = {}
        self.holder: dict[str, str] = {}
        # Places of free instances, and of some that have been taken since: those are dropped when they come up.
        self._heap: list[int] = []
        self._heaped: set[int] = set()

    def moved(self, before: Instance | None, after: Instance | None) -> None:
        """An instance has another duty, owner or run; None is an instance that there is not."""
        if before is not None:
            if before.duty is _FREE:
                self.free.discard(before.name)
            elif before.duty is _QUARANTINED:
                self.quarantined.discard(before.name)
            elif before.duty is _DRAINED:
                self.drained.discard(before.name)
            if before.owner:
                self._give_up(before.owner)
            if before.run:
                self._leave(before.run, before.name)
        if after is not None:
            if after.duty is _FREE:
                self._set_free(after.name)
            elif after.duty is _QUARANTINED:
                self.quarantined.add(after.name)
            elif after.duty is _DRAINED:
                self.drained.add(after.name)
            if after.owner:
                self.held[after.owner] = self.held.get(after.owner, 0) + 1
            if after.run:
                self.working.setdefault(after.run, set()).add(after.name)

    def shared_out(self, array: str, before: Sequence[Share], after: Sequence[Share]) -> None:
        """A subarray has other shares."""
        for share in before:
            if self.holder.get(share.instance) == array:
                del self.holder[share.instance]
        for share in after:
            self.holder[share.instance] = array

    def first_free(self, count: int) -> tuple[str, ...]:
        """The first free instances in the order in which they are taken, at most `count`."""
        found: list[int] = []
        while self._heap and len(found) < count:
            place = heapq.heappop(self._heap)
            if self.names[place] in self.free:
                found.append(place)
            else:
                self._heaped.discard(place)
        for place in found:
            heapq.heappush(self._heap, place)
        return tuple(self.names[place] for place in found)

    def all_free(self) -> list[str]:
        """All free instances in the order in which they are taken."""
        return [name for name in self.names if name in self.free]

    def contents(self) -> dict[str, object]:
        """What the index says, to be compared with that of another."""
        return {
            "free": self.all_free(),
            "first": self.first_free(len(self.names)),
            "quarantined": self.quarantined,
            "drained": self.drained,
            "working": self.working,
            "held": self.held,
            "holder": self.holder,
        }

    def _set_free(self, name: str) -> None:
        self.free.add(name)
        place = self.place[name]
        if place not in self._heaped:
            self._heaped.add(place)
            heapq.heappush(self._heap, place)

    def _give_up(self, owner: str) -> None:
        left = self.held[owner] - 1
        if left:
            self.held[owner] = left
        else:
            del self.held[owner]

    def _leave(self, run: str, name: str) -> None:
        workers = self.working[run]
        workers.discard(name)
        if not workers:
            del self.working[run]


def index_of(names: Sequence[str], cells: Iterable[object]) -> Index:
    """The index of a state; `names` are the instances of its configuration."""
    index = Index(names)
    for cell in cells:
        if isinstance(cell, Instance):
            index.moved(None, cell)
        elif isinstance(cell, Subarray):
            index.shared_out(cell.name, (), cell.shares)
    return index
