"""The lag processing stage of one pipeline: dumps in, whole integrations out, by frame time alone.

::

    dump --learn its length--> grid --> sums of each group --last dump of the integration--> deliver
                                    \\-> lag sets (bls)

A flush ends an activation: what has been summed is thrown away. The first integration after a start or a flush may have
begun before it: it is *partial*, and delivered as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused
from socs_bl.correlator.bls import LagSetFiles
from socs_bl.correlator.integration import Grid, Spectra, Sums
from socs_bl.correlator.pipeline import KINDS, ElementText, Value, make_recipe
from socs_bl.correlator.plan import Plan

HELD_DUMPS = 4  # from which the length of a dump is learned


@dataclass(frozen=True, slots=True)
class Integration:
    """One that is whole, or as whole as it gets.

    Attributes
    ----------
    number : int
        On the grid.
    grid : Grid
    start_ns, end_ns : int
        Unix ns.
    partial : bool
        Its first dumps did not come to this process.
    """

    number: int
    grid: Grid
    start_ns: int
    partial: bool

    @property
    def end_ns(self) -> int:
        """Where the next one starts."""
        return self.start_ns + self.grid.interval_ns


class Stage:
    """What the elements of a pipeline do with the dumps of its ring.

    Parameters
    ----------
    elements : sequence of ElementText
    plan : Plan
        Of the ring's slots.
    dump_ns : int
        Length of a dump; 0: learned from the first ones, which are held so long.
    deliver : callable
        Given each integration; asks `spectra` for the data if it wants them, before it returns.
    lag_sets : LagSetFiles or None
        Where lag sets go when there is a bls element.

    Raises
    ------
    Refused
        When the elements do not fit the lags.

    Attributes
    ----------
    counters : dict of str to int
        dumps; sets and flagged (lag sets, and those left out); integrations; discarded (integrations that ended before
        they were whole); late (dumps out of order, which are left out).
    """

    def __init__(
        self,
        elements: Sequence[ElementText],
        plan: Plan,
        dump_ns: int,
        deliver: Callable[[Integration], None],
        lag_sets: LagSetFiles | None = None,
    ) -> None:
        self.elements = tuple(elements)
        self.recipe = make_recipe(elements)
        self.counters = dict.fromkeys(("dumps", "sets", "flagged", "integrations", "discarded", "late"), 0)
        self._plan = plan
        self._deliver = deliver
        self._lag_sets = lag_sets
        self._unlearned = self._grid = Grid(dump_ns, self.recipe.dumps)
        self._sums = [Sums(group, self.recipe) for group in plan.groups] if self.recipe.normalises else []
        self._held: list[tuple[int, npt.NDArray[np.uint8]]] = []
        self._current: Integration | None = None
        self._last = -1
        self._changed = False

    @property
    def nbytes(self) -> int:
        """Memory of the sums."""
        return sum(sums.nbytes for sums in self._sums)

    @property
    def dump_ns(self) -> int:
        """Length of a dump; 0 while it is not known."""
        return self._grid.dump_ns

    def take(self, time_ns: int, slot: npt.NDArray[np.uint8]) -> None:
        """Take in a dump that starts at this time (unix ns); its slot is free again afterwards."""
        self.counters["dumps"] += 1
        if self._lag_sets is not None:
            self._lag_sets.write(time_ns, slot)
        if not self._sums:
            return
        if self._grid.dump_ns:
            self._sum(time_ns, slot)
            return
        self._held.append((time_ns, slot.copy()))
        if len(self._held) == HELD_DUMPS:
            self._learn()

    def _learn(self) -> None:
        """The shortest time from one dump to the next is the length of a dump."""
        times = [time for time, _ in self._held]
        steps = [after - before for before, after in zip(times, times[1:], strict=False) if after > before]
        held, self._held = self._held, []
        if steps:
            self._grid = Grid(min(steps), self.recipe.dumps)
            for time_ns, slot in held:
                self._sum(time_ns, slot)

    def _sum(self, time_ns: int, slot: npt.NDArray[np.uint8]) -> None:
        """Add a dump to its integration; one that another integration's dump ends is delivered."""
        number, offset = self._grid.place(time_ns)
        place = number * self.recipe.dumps + offset
        if place <= self._last:
            self.counters["late"] += 1
            return
        if self._current is not None and self._current.number != number:
            self._end()
        if self._current is None:
            partial = offset > 0 and self._last < 0
            self._current = Integration(number, self._grid, self._grid.start_ns(time_ns), partial)
            self._begin()
        self._last = place
        for sums in self._sums:
            self.counters["flagged"] += sums.add(slot, offset)
            self.counters["sets"] += len(sums.group.products) * sums.group.bins
        if offset == self.recipe.dumps - 1:
            self._end()

    def _begin(self) -> None:
        if self._changed:
            self._sums, self._changed = [Sums(group, self.recipe) for group in self._plan.groups], False
        for sums in self._sums:
            sums.clear()

    def _end(self) -> None:
        """The current integration has all it will get."""
        if self._current is not None:
            self.counters["integrations"] += 1
            done, self._current = self._current, None
            self._deliver(done)

    def spectra(self) -> list[Spectra]:
        """The data of the integration that is being delivered, of each group."""
        return [sums.result() for sums in self._sums]

    def flush(self) -> None:
        """The activation ends: forget what has been summed and held, the clock, and the length that was learned."""
        if self._current is not None or self._held:
            self.counters["discarded"] += 1
        self._current, self._held, self._last, self._grid = None, [], -1, self._unlearned

    def properties(self) -> list[dict[str, Any]]:
        """Name, kind, properties and their writable ones of each element, with its counters."""
        found = []
        for element in self.elements:
            writable = [name for name, known in KINDS[element.kind].items() if known.writable]
            values = {**element.properties, **self._counts(element.kind)}
            found.append({"name": element.kind, "kind": element.kind, "properties": values, "writable": writable})
        return found

    def _counts(self, kind: str) -> Mapping[str, Value]:
        """What an element has counted."""
        names = {"flag": ("sets", "flagged"), "integrate": ("integrations", "discarded"), "null": ("dumps",)}
        counts: dict[str, Value] = {name: self.counters[name] for name in names.get(kind, ())}
        if kind == "integrate":
            counts["dump-ns"] = self.dump_ns
        if kind == "bls" and self._lag_sets is not None:
            files = self._lag_sets
            counts |= {"records": files.records, "left-out": files.left_out, "error": files.error}
        return counts

    def set_property(self, element: str, name: str, text: str) -> Value:
        """Change a property that may be changed; what is computed changes with the next integration.

        Returns
        -------
        int or str
            Its new value.

        Raises
        ------
        Refused
            When there is no such element or property, it cannot be changed, or the value is wrong.
        """
        kinds = {item.kind: item for item in self.elements}
        if element not in kinds or name not in kinds[element].properties:
            raise Refused(f"{element}.{name}: no such property; there are {', '.join(_all(self.elements)) or 'none'}")
        known = KINDS[element][name]
        if not known.writable:
            raise Refused(f"{element}.{name} cannot be changed while the pipeline runs; create another configuration")
        value = known.accept(text.strip())
        changed = replace(kinds[element], properties={**kinds[element].properties, name: value})
        self.elements = tuple(changed if item.kind == element else item for item in self.elements)
        self.recipe = make_recipe(self.elements)
        self._changed = bool(self._sums)
        if self._lag_sets is not None:
            self._lag_sets.limit = self.recipe.bls_limit << 20
        return value


def _all(elements: Sequence[ElementText]) -> list[str]:
    return [f"{element.kind}.{name}" for element in elements for name in element.properties]
