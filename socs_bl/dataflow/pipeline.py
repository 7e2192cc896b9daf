"""A pipeline held together: of any file, which stages apply to it, in which order, and why.

It is a pure function of what is known of a file, so that ``plan`` and the agent cannot differ. A stage has a file for its
own when the file lies in the stage's store, ``when`` holds, no route sends it elsewhere and no transform has put something
in its place; it may begin once all stages it comes ``after``, and those that these come after, are done with the file or do
not apply to it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.expression import Expression, Value
from socs_bl.dataflow.model import FileName
from socs_bl.dataflow.naming import DATES, Pattern
from socs_bl.dataflow.stages import (
    Derive,
    Distribute,
    Move,
    PipelineConfig,
    Retention,
    Route,
    StageBase,
    Transform,
    Work,
)

BUILT_IN = ("size", "store", "block")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one file, seen from one of its copies.

    Attributes
    ----------
    name : FileName
    block : str
        Which kind of file it is.
    store : str
        Where this copy is.
    stores : frozenset of str
        Where any copy is or has been.
    size : int
        Bytes.
    metadata : dict
        What inspections have found.
    done : frozenset of str
        Stages that need not be waited for any more.
    """

    name: FileName
    block: str
    store: str
    stores: frozenset[str] = frozenset()
    size: int = 0
    metadata: dict[str, Value] = {}
    done: frozenset[str] = frozenset()


class Standing(enum.StrEnum):
    """How a stage and a file stand."""

    DONE = "done"
    NEXT = "next"
    WAITS = "waits"
    NO = "does not apply"


class Step(msgspec.Struct, frozen=True):
    """A stage, as it stands with a file.

    Attributes
    ----------
    stage : str
    standing : Standing
    does : str
        What would be done, with the places.
    reason : str
        Why it stands so.
    priority : int
    resource : str
        What it takes a share of: ``work`` or ``store:<name>``.
    """

    stage: str
    standing: Standing
    does: str
    reason: str
    priority: int = 0
    resource: str = ""


class Pipeline:
    """A configuration of which no reference hangs in the air.

    Parameters
    ----------
    config : PipelineConfig

    Raises
    ------
    Refused
        When stages come after each other in a circle or after one that does not exist; `socs_bl.dataflow.check` says
        this and all else that is wrong, with its place.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.patterns = {
            name: Pattern(re.compile(block.name), *((block.time.field, block.time.format) if block.time else ()))
            for name, block in config.blocks.items()
        }
        self.stages = {stage.id: stage for stage in config.stages}
        self.routes_to: dict[str, list[Route]] = {}
        for stage in config.stages:
            if isinstance(stage, Route):
                for name in dict.fromkeys(name for turn in stage.rules for name in turn.to):
                    self.routes_to.setdefault(name, []).append(stage)
        self.names = frozenset(BUILT_IN).union(*(self.names_of(block) for block in config.blocks))
        self.order = self._ordered()
        self._before = {name: self._all_before(name) for name in self.order}

    def _ordered(self) -> tuple[str, ...]:
        """The stages, each behind those it comes after, else as they were written."""
        edges = {name: self.predecessors(name) for name in self.stages}
        for name, found in edges.items():
            for other in found:
                if other not in self.stages:
                    raise Refused(f"stage {name} comes after {other}, and there is none")
        try:
            sorter = TopologicalSorter(edges)
            sorter.prepare()
        except CycleError as error:
            raise Refused(f"stages come after each other in a circle: {' <- '.join(error.args[1])}") from error
        place = {name: number for number, name in enumerate(self.stages)}
        order: list[str] = []
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=place.__getitem__)
            order.append(ready.pop(0))
            sorter.done(order[-1])
        return tuple(order)

    def predecessors(self, name: str) -> tuple[str, ...]:
        """What is to be done before a stage: what it comes after, routes to it; before a deletion all else that takes the copy."""
        stage = self.stages[name]
        routes = [route.id for route in self.routes_to.get(name, ())]
        takers = [
            other.id for other in self.config.stages
            if isinstance(stage, Retention) and source_of(other) == stage.store and not isinstance(other, Retention)
        ]  # fmt: skip
        return tuple(dict.fromkeys((*stage.after, *routes, *takers)))

    def _all_before(self, name: str) -> frozenset[str]:
        direct = self.predecessors(name)
        return frozenset(direct).union(*(self._all_before(other) for other in direct))

    def names_of(self, block: str) -> frozenset[str]:
        """What conditions may ask of files of one kind, apart from ``size``, ``store`` and ``block``."""
        kind = self.config.blocks[block]
        dates = DATES if kind.time else ()
        return frozenset((*self.patterns[block].expression.groupindex, *dates, *kind.metadata))

    # -- one file

    def parse(self, text: str) -> tuple[str, FileName] | None:
        """The kind and the fields of a file's name; None when it fits no pattern.

        Raises
        ------
        Refused
            When it fits one and is no safe name.
        """
        for block, pattern in self.patterns.items():
            name = pattern.parse(text)
            if name is not None:
                return block, name
        return None

    def values(self, facts: Facts) -> dict[str, Value]:
        """What conditions see of a file; what its kind has not is empty, what is not known yet is missing."""
        block = self.config.blocks[facts.block]
        found: dict[str, Value] = dict.fromkeys(self.names - block.metadata.keys(), "")
        found.update(self.patterns[facts.block].places(facts.name))
        found.update({name: facts.metadata[name] for name in block.metadata if name in facts.metadata})
        found.update(size=facts.size, store=facts.store, block=facts.block)
        return found

    def steps(self, facts: Facts) -> tuple[Step, ...]:
        """How every stage stands with a file, in their order."""
        values = self.values(facts)
        stores = facts.stores | {facts.store}
        return tuple(self._step(self.stages[name], facts, values, stores) for name in self.order)

    def _step(self, stage: StageBase, facts: Facts, values: Mapping[str, Value], stores: frozenset[str]) -> Step:
        if stage.id in facts.done:
            return Step(stage.id, Standing.DONE, "", "done with this file")
        if source_of(stage) != facts.store:
            return Step(stage.id, Standing.NO, "", f"it takes files from {source_of(stage)}")
        applies, reason = self.applies(stage, values, stores)
        if applies is False:
            return Step(stage.id, Standing.NO, "", reason)
        does = self.does(stage, facts)
        waiting = [] if applies else [reason]
        waiting += [
            f"stage {name} is not done" for name in self.order
            if name in self._before[stage.id] and self._is_awaited(name, facts, values, stores)
        ]  # fmt: skip
        standing = Standing.WAITS if waiting else Standing.NEXT
        return Step(
            stage.id, standing, does, "; ".join(waiting) or reason, self.priority(stage, values), resource_of(stage)
        )

    def _is_awaited(self, name: str, facts: Facts, values: Mapping[str, Value], stores: frozenset[str]) -> bool:
        if name in facts.done or isinstance(self.stages[name], Route):
            return False  # a route is a decision, and has been asked already
        return self.applies(self.stages[name], values, stores)[0] is not False

    def applies(self, stage: StageBase, values: Mapping[str, Value], stores: Iterable[str]) -> tuple[bool | None, str]:
        """Whether a stage has a file for its own, and why; None: that is not known yet.

        Parameters
        ----------
        stage : StageBase
        values : dict
            As `values` makes them.
        stores : iterable of str
            Where the file is or has been.
        """
        if source_of(stage) not in stores:
            return False, f"the file is not in {source_of(stage)}"
        held, reason = _asked(stage.when, values)
        if held is False:
            return held, reason
        for route in self.routes_to.get(stage.id, ()):
            sent, why = self._is_sent(route, stage.id, values, stores)
            if not sent:
                return sent, why
            reason = f"{reason}; {why}"
        if not isinstance(stage, Retention):
            for name in self._before[stage.id]:
                before = self.stages[name]
                if isinstance(before, Transform) and before.replaces:
                    replaced, _ = self.applies(before, values, stores)
                    if replaced is not False:
                        return replaced and False, f"stage {name} puts another file in its place"
        return held, reason

    def _is_sent(
        self, route: Route, name: str, values: Mapping[str, Value], stores: Iterable[str]
    ) -> tuple[bool | None, str]:
        """Whether a route sends a file to a stage."""
        applies, reason = self.applies(route, values, stores)
        if not applies:
            return applies, f"route {route.id}: {reason}"
        for number, turn in enumerate(route.rules, 1):
            held, reason = _asked(turn.if_, values)
            if held is None:
                return None, f"route {route.id}: {reason}"
            if held:
                return name in turn.to, f"route {route.id}, line {number} sends it to {', '.join(turn.to) or 'nothing'}"
        return False, f"no line of route {route.id} holds"

    def priority(self, stage: StageBase, values: Mapping[str, Value]) -> int:
        """How early a job comes among those that are ready; the highest first."""
        for choice in stage.priority:
            if _asked(choice.if_, values)[0]:
                return choice.priority
        return 0

    def does(self, stage: StageBase, facts: Facts) -> str:
        """What a stage would do with a file, in words; a directory that cannot be made is said."""
        try:
            return self._does(stage, facts)
        except Refused as refusal:
            return f"cannot be done: {refusal}"

    def _does(self, stage: StageBase, facts: Facts) -> str:
        places = self.patterns[facts.block].places(facts.name)
        if isinstance(stage, Work):
            into = (
                f" into {_place(stage.store, stage.into.fill(places))}" if isinstance(stage, Transform | Derive) else ""
            )
            return f"run {stage.run}{into}"
        if isinstance(stage, Move):
            return "copy to " + " and ".join(_place(stage.to, into.fill(places)) for into in stage.into)
        if isinstance(stage, Distribute):
            targets = [(name, self.config.targets[name]) for name in stage.targets]
            return "copy to " + ", ".join(f"{name} ({_place(t.store, t.into.fill(places))})" for name, t in targets)
        if isinstance(stage, Retention):
            return "say what would be deleted" if stage.dry_run else "delete under its rule"
        return "decide where it goes"


def source_of(stage: StageBase) -> str:
    """The store a stage takes files from."""
    source: str = stage.from_ if isinstance(stage, Move | Distribute) else stage.store  # type: ignore[attr-defined]
    return source


def resource_of(stage: StageBase) -> str:
    """What jobs of a stage take a share of."""
    return f"store:{stage.to}" if isinstance(stage, Move) else "work" if isinstance(stage, Work) else ""


def _asked(condition: Expression | None, values: Mapping[str, Value]) -> tuple[bool | None, str]:
    if condition is None:
        return True, "it takes all files there"
    held = condition.holds(values)
    if held is None:
        return None, f"{condition.text!r} waits for {', '.join(condition.unknown(values))}"
    return held, f"{condition.text!r} {'holds' if held else 'does not hold'}"


def _place(store: str, directory: str) -> str:
    return f"{store}:{directory or '.'}"
