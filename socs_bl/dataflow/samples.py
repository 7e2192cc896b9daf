"""Files as they could be: every combination of values that the conditions of a pipeline can tell apart.

What a pipeline does with a file depends on its conditions alone, so it is enough to look at one file for each outcome. Fields
that are a list of words have those; others have the literals they are compared with and one that is none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from socs_bl.dataflow.expression import Expression, Test, Value
from socs_bl.dataflow.pipeline import Pipeline
from socs_bl.dataflow.stages import Distribute, Move, Retention, Route, StageBase

OTHER = "(another)"
MOST = 20_000  # combinations of one block that are looked at


def conditions(stages: Iterable[StageBase]) -> Iterator[tuple[str, Expression]]:
    """Every condition, with the place where it stands."""
    for number, stage in enumerate(stages):
        place = f"stages.{number} ({stage.id})"
        if stage.when is not None:
            yield f"{place}.when", stage.when
        for line, choice in enumerate(stage.priority):
            if choice.if_ is not None:
                yield f"{place}.priority.{line}.if", choice.if_
        if isinstance(stage, Route):
            for line, turn in enumerate(stage.rules):
                if turn.if_ is not None:
                    yield f"{place}.rules.{line}.if", turn.if_


def samples(pipeline: Pipeline) -> Iterator[dict[str, Value]]:
    """Values of files as conditions see them, without ``store``; at most `MOST` of each kind."""
    tests = [test for _, condition in conditions(pipeline.config.stages) for test in condition.tests()]
    for block in pipeline.config.blocks:
        found = {name: _values(pipeline, block, name, tests) for name in _asked_for(pipeline, block, tests)}
        nothing: dict[str, Value] = dict.fromkeys(pipeline.names, "")
        for combination in itertools.islice(itertools.product(*found.values()), MOST):
            yield {**nothing, **dict(zip(found, combination, strict=True)), "block": block}


def _asked_for(pipeline: Pipeline, block: str, tests: list[Test]) -> list[str]:
    known = pipeline.names_of(block) | {"size"}
    return sorted({test.name for test in tests} & known)


def _values(pipeline: Pipeline, block: str, name: str, tests: list[Test]) -> list[Value]:
    literals = [literal for test in tests if test.name == name for literal in test.literals]
    numbers = [literal for literal in literals if not isinstance(literal, str)]
    metadata = pipeline.config.blocks[block].metadata
    if name == "size" or metadata.get(name) == "number":
        return list(dict.fromkeys([0, 1, *(n + step for n in numbers for step in (-1, 0, 1))]))
    texts = [literal for literal in literals if isinstance(literal, str)]
    if name in metadata:
        return list(dict.fromkeys(["", *texts, OTHER]))
    pattern = pipeline.patterns[block]
    group = pattern.groups.get(name)
    if group is None:  # a part of the time
        return [*texts, OTHER]
    found = list(group.words) or [*(text for text in texts if pattern.admits(name, text)), OTHER]
    return list(dict.fromkeys([*found, *([""] if pattern.admits(name, "") else [])]))


def shown(sample: dict[str, Value]) -> str:
    """A sample in words, without what is empty."""
    return ", ".join(f"{name}={value}" for name, value in sorted(sample.items()) if value not in ("", OTHER))


def copies_behind(pipeline: Pipeline, rule: Retention, sample: dict[str, Value]) -> list[str]:
    """The copies that other stages make of a file in the store of a rule, further on too: ``stage: store`` for each."""
    reached, found = [rule.store], []
    for store in reached:
        for stage in pipeline.config.stages:
            if not isinstance(stage, Move | Distribute) or stage.from_ != store:
                continue
            if pipeline.applies(stage, {**sample, "store": store}, reached)[0] is False:
                continue
            if isinstance(stage, Move):
                made = [stage.to for _ in stage.into]
            else:
                targets = [pipeline.config.targets[name] for name in stage.targets]
                made = [target.store for target in targets if not target.consumed]
            found += [(stage.id, to) for to in made]
            reached += [to for to in dict.fromkeys(made) if to not in reached]
    wanted = rule.delete_when.on
    return [f"{stage}: {to}" for stage, to in found if not wanted or to in wanted]
