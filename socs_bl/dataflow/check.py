"""What is wrong with a pipeline, before anything starts: every problem with its place, the value, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from socs_bl.core.config import load
from socs_bl.core.errors import Refused
from socs_bl.core.stage import ENTRY_POINTS
from socs_bl.dataflow.expression import Test
from socs_bl.dataflow.naming import DATES, Pattern, Template
from socs_bl.dataflow.pipeline import BUILT_IN, Pipeline, source_of
from socs_bl.dataflow.samples import conditions, copies_behind, samples, shown
from socs_bl.dataflow.stages import (
    Derive,
    Distribute,
    Inspect,
    Move,
    PipelineConfig,
    Retention,
    Route,
    StageBase,
    Transform,
    Work,
)

Problems = Iterator[str]
Loader = Callable[[], Any]  # gives the class of an installed stage


def installed() -> dict[str, Loader]:
    """The stages that packages offer, by name; each is imported when it is called."""
    return {point.name: point.load for point in entry_points(group=ENTRY_POINTS)}


def load_pipeline(path: Path, offered: Mapping[str, Loader] | None = None) -> Pipeline:
    """Read a pipeline and check all of it.

    Parameters
    ----------
    path : Path
    offered : mapping or None
        The stages there are; None: those that are installed.

    Raises
    ------
    Refused
        When it cannot be read or something in it is wrong; one line a problem.
    """
    config = load(path, PipelineConfig)
    found = [f"{path}: {problem}" for problem in problems(config, installed() if offered is None else offered)]
    if found:
        raise Refused("\n".join(found))
    return Pipeline(config)


def problems(config: PipelineConfig, offered: Mapping[str, Loader]) -> list[str]:
    """Everything that is wrong, without the file's name; what builds on references is looked at when those are right."""
    found = [*_references(config), *_blocks(config), *_stages(config, offered)]
    if found:
        return found
    try:
        pipeline = Pipeline(config)
    except Refused as refusal:
        return [f"stages: {refusal}; take one 'after' out"]
    found = [*_names(pipeline), *_circles(config), *_reach(pipeline)]
    return found or [*_files(pipeline)]


def _among(place: str, value: str, what: str, known: Iterable[str]) -> Problems:
    """A problem when `value` is none of `known`."""
    names = list(known)
    if value not in names:
        close = difflib.get_close_matches(value, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
        yield f"{place}: {value!r} is no {what}; {hint}"


def _references(config: PipelineConfig) -> Problems:
    """Stores, stages and targets that are named and are not there; names that are given twice."""
    ids = [stage.id for stage in config.stages]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"stages: {name!r} is the id of {ids.count(name)} stages; give each its own"
    for name, target in config.targets.items():
        yield from _among(f"targets.{name}.store", target.store, "store", config.stores)
    for number, stage in enumerate(config.stages):
        place = f"stages.{number} ({stage.id})"
        key = "from" if isinstance(stage, Move | Distribute) else "store"
        yield from _among(f"{place}.{key}", source_of(stage), "store", config.stores)
        for name in stage.after:
            yield from _among(f"{place}.after", name, "stage", (other for other in ids if other != stage.id))
        if isinstance(stage, Move):
            yield from _among(f"{place}.to", stage.to, "store", config.stores)
        elif isinstance(stage, Distribute):
            for name in stage.targets:
                yield from _among(f"{place}.targets", name, "target", config.targets)
            for name in stage.require:
                yield from _among(f"{place}.require", name, "target of this stage", stage.targets)
        elif isinstance(stage, Route):
            for line, turn in enumerate(stage.rules):
                for name in turn.to:
                    yield from _among(f"{place}.rules.{line}.to", name, "stage", (i for i in ids if i != stage.id))
        elif isinstance(stage, Retention):
            for name in stage.delete_when.on:
                yield from _among(f"{place}.delete_when.on", name, "store", config.stores)


def _blocks(config: PipelineConfig) -> Problems:
    """Fields that a pattern lacks; a time that the pattern does not admit."""
    for name, block in config.blocks.items():
        place = f"blocks.{name}"
        pattern = Pattern(re.compile(block.name))
        fields = list(pattern.expression.groupindex)
        for field in fields:
            if field in BUILT_IN or field in DATES:
                yield f"{place}.name: the group {field!r} has the name of something every file has; call it otherwise"
        for field in block.metadata:
            if field in fields or field in BUILT_IN or field in DATES:
                yield f"{place}.metadata.{field}: the name is taken by the file's name; call it otherwise"
        for key, names in _fields_used(place, block):
            for field in names:
                yield from _among(key, field, "group of the pattern", fields)
        if block.time is None:
            if any(sign.newer_block_of_same for sign in block.complete_when.any):
                yield f"{place}.complete_when: newer_block_of_same needs the time in the names; set {place}.time"
        elif block.time.field in fields:
            written = datetime(2024, 3, 5, 14, tzinfo=UTC).strftime(block.time.format)
            if not pattern.admits(block.time.field, written):
                yield (
                    f"{place}.time.format: {block.time.format!r} makes {written!r}, which group {block.time.field!r} "
                    "does not admit; write the format that the names have"
                )


def _fields_used(place: str, block: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if block.time is not None:
        yield f"{place}.time.field", (block.time.field,)
    yield f"{place}.together", block.together
    for number, sign in enumerate(block.complete_when.any):
        yield f"{place}.complete_when.any.{number}.newer_block_of_same", sign.newer_block_of_same


def _stages(config: PipelineConfig, offered: Mapping[str, Loader]) -> Problems:
    """What a stage says that cannot be."""
    for number, stage in enumerate(config.stages):
        place = f"stages.{number} ({stage.id})"
        yield from _sources(place, stage, config)
        for key, lines in (("priority", stage.priority), ("rules", stage.rules if isinstance(stage, Route) else ())):
            yield from _last_lines(f"{place}.{key}", [line.if_ is None for line in lines], "if")
        if isinstance(stage, Move):
            yield from _last_lines(f"{place}.bwlimit", [not window.between for window in stage.bwlimit], "between")
            if stage.to == stage.from_ and any(not into.text for into in stage.into):
                yield f"{place}.into: a move inside of store {stage.to!r} needs a directory to move to"
            if len({into.text for into in stage.into}) < len(stage.into):
                yield f"{place}.into: a directory is named twice, which is one copy; name another or take it out"
        if isinstance(stage, Work):
            yield from _run(place, stage, offered)


def _sources(place: str, stage: StageBase, config: PipelineConfig) -> Problems:
    store = config.stores.get(source_of(stage))
    if store is None:
        return
    if store.kind == "ssh":
        yield (
            f"{place}: store {source_of(stage)!r} is on another host, where nothing can be done with files; "
            "let the agent of that host do it"
        )
    bad = (stage.on_bad, getattr(stage, "on_suspect", "")) if isinstance(stage, Inspect | Transform) else ()
    if "quarantine" in bad and store.quarantine is None:
        yield f"{place}: bad files go to quarantine, but stores.{source_of(stage)}.quarantine is not set; name a directory"


def _last_lines(place: str, catching: list[bool], key: str) -> Problems:
    """Of a list of which the first line that holds counts: those behind one that always holds are never reached."""
    if True in catching[:-1]:
        number = catching.index(True)
        yield f"{place}.{number}: has no {key!r}, so that the lines after it are never reached; put it last"


def _run(place: str, stage: Work, offered: Mapping[str, Loader]) -> Problems:
    """The installed stage that is named: it exists, is of this kind, and takes the parameters."""
    missing = list(_among(f"{place}.run", stage.run, "installed stage", offered))
    if missing:
        yield from missing
        return
    kind: str = stage.kind  # type: ignore[attr-defined]
    try:
        found = offered[stage.run]()
    except ImportError as error:
        yield f"{place}.run: {stage.run!r} cannot be imported ({error}); install what it needs"
        return
    kinds = (
        {"inspect", "route"} if isinstance(stage, Inspect) else {kind}
    )  # one that routes finds out, and a route decides
    if found.kind not in kinds:
        yield f"{place}.kind: {stage.run!r} is a stage of kind {found.kind!r}, not {kind!r}; write kind: {found.kind}"
    model: type[BaseModel] = found.parameters
    try:
        model.model_validate(stage.parameters)
    except ValidationError as error:
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            there = (
                f"; {stage.run} has: {', '.join(model.model_fields) or 'none'}"
                if item["type"] == "extra_forbidden"
                else ""
            )
            yield f"{place}.parameters.{key}: {item['msg']} (found {item['input']!r:.80}){there}"


def _names(pipeline: Pipeline) -> Problems:
    """Names in conditions and directories that no file has, and values that a name never has."""
    metadata: dict[str, str] = {}
    for block in pipeline.config.blocks.values():
        metadata.update(block.metadata)
    for place, condition in conditions(pipeline.config.stages):
        for test in condition.tests():
            unknown = list(_among(place, test.name, "name that a file has", sorted(pipeline.names)))
            yield from unknown or _values(place, test, pipeline, metadata)
    for place, template in _templates(pipeline.config):
        for name in template.names:
            known = {name for block in pipeline.config.blocks for name in pipeline.names_of(block)} - metadata.keys()
            yield from _among(place, name, "field of any name", sorted(known))


def _values(place: str, test: Test, pipeline: Pipeline, metadata: Mapping[str, str]) -> Problems:
    number = test.name == "size" or metadata.get(test.name) == "number"
    for literal in test.literals:
        if isinstance(literal, str) == number:
            right = "a number" if number else f"'{literal}' in quotes"
            kind = "number" if number else "text"
            yield f"{place}, column {test.column}: {test.name} is a {kind}, {literal!r} is not; write {right}"
        elif isinstance(literal, str) and not _possible(test.name, literal, pipeline, metadata):
            yield f"{place}, column {test.column}: {test.name} is never {literal!r}; {_what_it_is(test.name, pipeline)}"


def _possible(name: str, literal: str, pipeline: Pipeline, metadata: Mapping[str, str]) -> bool:
    if name == "store":
        return literal in pipeline.config.stores
    if name == "block":
        return literal in pipeline.config.blocks
    if name in metadata or name in DATES:
        return True
    patterns = [pattern for pattern in pipeline.patterns.values() if name in pattern.groups]
    absent = len(patterns) < len(pipeline.patterns) and literal == ""
    return absent or any(pattern.admits(name, literal) for pattern in patterns)


def _what_it_is(name: str, pipeline: Pipeline) -> str:
    if name in ("store", "block"):
        return f"there are: {', '.join(pipeline.config.stores if name == 'store' else pipeline.config.blocks)}"
    groups = [pattern.groups[name].inner for pattern in pipeline.patterns.values() if name in pattern.groups]
    return f"the pattern says {' or '.join(groups)}"


def _templates(config: PipelineConfig) -> Iterator[tuple[str, Template]]:
    for number, stage in enumerate(config.stages):
        for template in directories_of(stage):
            yield f"stages.{number} ({stage.id}).into", template
    for name, target in config.targets.items():
        yield f"targets.{name}.into", target.into


def directories_of(stage: StageBase) -> tuple[Template, ...]:
    """The directories a stage itself names."""
    if isinstance(stage, Move):
        return stage.into
    return (stage.into,) if isinstance(stage, Transform | Derive) else ()


def _circles(config: PipelineConfig) -> Problems:
    """Moves that bring files back to where they come from."""
    onward: dict[str, dict[str, str]] = {}
    for stage in config.stages:
        if isinstance(stage, Move) and stage.to != stage.from_:
            onward.setdefault(stage.from_, {})[stage.to] = stage.id
    for start in config.stores:
        path, seen = [start], {start}
        while path:
            following = [store for store in onward.get(path[-1], {}) if store == start or store not in seen]
            if start in following:
                named = [onward[a][b] for a, b in zip(path, [*path[1:], start], strict=True)]
                yield f"stages: {', '.join(named)} move files in a circle: {' -> '.join([*path, start])}; take one out"
                return
            if following:
                path.append(following[0])
                seen.add(following[0])
            else:
                path.pop()


def _reach(pipeline: Pipeline) -> Problems:
    """Stages that no file comes to, and targets that no stage names."""
    config = pipeline.config
    fed = {name for name, store in config.stores.items() if store.kind != "ssh" and store.scan > 0}
    fed |= {stage.to for stage in config.stages if isinstance(stage, Move)}
    for number, stage in enumerate(config.stages):
        place = f"stages.{number} ({stage.id})"
        if source_of(stage) not in fed:
            yield f"{place}: no file comes to store {source_of(stage)!r}: it is not scanned (scan: 0) and nothing moves files there"
        for route in pipeline.routes_to.get(stage.id, ()):
            if source_of(route) != source_of(stage):
                yield (
                    f"{place}: route {route.id} sends it files of store {source_of(route)!r}, but it takes them from "
                    f"{source_of(stage)!r}; let both name one store"
                )
    used = {name for stage in config.stages if isinstance(stage, Distribute) for name in stage.targets}
    for name in config.targets:
        if name not in used:
            yield f"targets.{name}: no stage of kind distribute names it; name it there or take it out"


def _files(pipeline: Pipeline) -> Problems:
    """What files as they could be would meet: stages for none of them, directories without a field, too few copies."""
    reached: set[str] = set()
    told: set[tuple[int, str]] = set()
    everywhere = list(pipeline.config.stores)
    for sample in samples(pipeline):
        for number, stage in enumerate(pipeline.config.stages):
            values = {**sample, "store": source_of(stage)}
            if pipeline.applies(stage, values, everywhere)[0] is False:
                continue
            reached.add(stage.id)
            for key, text in (*_fields_lacking(pipeline, stage, sample), *_copies_lacking(pipeline, stage, sample)):
                if (number, key) not in told:
                    told.add((number, key))
                    yield f"stages.{number} ({stage.id}).{key}: {text}"
    for number, stage in enumerate(pipeline.config.stages):
        if stage.id not in reached:
            yield f"stages.{number} ({stage.id}): no file could ever come to it; look at its 'when', and at what it comes after"


def _fields_lacking(pipeline: Pipeline, stage: StageBase, sample: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    block = sample["block"]
    fields = pipeline.names_of(block) - pipeline.config.blocks[block].metadata.keys()
    named = [("into", template) for template in directories_of(stage)]
    if isinstance(stage, Distribute):
        named += [(f"targets ({name})", pipeline.config.targets[name].into) for name in stage.targets]
    for key, template in named:
        for name in template.names:
            if name not in fields:
                yield (
                    key,
                    f"{template.text!r} wants {name!r}, which names of block {block!r} have not; exclude them by 'when'",
                )


def _copies_lacking(pipeline: Pipeline, stage: StageBase, sample: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(stage, Retention):
        return
    rule = stage.delete_when
    if rule.replaced:
        if not any(isinstance(s, Transform) and s.replaces and s.store == stage.store for s in pipeline.config.stages):
            yield "delete_when.replaced", f"no transform replaces files of store {stage.store!r}; set replaces there"
        return
    copies = copies_behind(pipeline, stage, sample)
    if len(copies) < rule.verified_copies:
        made = f"makes {len(copies)} ({', '.join(copies)})" if copies else "makes none"
        yield (
            "delete_when.verified_copies",
            f"asks for {rule.verified_copies}, but of a file with {shown(sample)} the pipeline {made}; "
            "add a move, ask for fewer, or exclude it by 'when'",
        )
