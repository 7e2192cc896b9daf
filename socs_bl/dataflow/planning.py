"""What would be done to which file, and why; nothing is done. The agent asks the same questions with the same answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.config import Completion
from socs_bl.dataflow.entries import CopyEntry, FileEntry, JobEntry, View
from socs_bl.dataflow.model import CopyState, JobState, Seen
from socs_bl.dataflow.outcome import Failure
from socs_bl.dataflow.pipeline import Facts, Pipeline, Standing, Step
from socs_bl.dataflow.retention import Held, decide
from socs_bl.dataflow.scan import scan
from socs_bl.dataflow.stages import Derive, Distribute, Retention, Transform

_GIVEN_UP = (JobState.HELD, JobState.BAD)


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and what would be done to it.

    Attributes
    ----------
    store, path : str
    block : str
        Which kind of file; empty: none of the pipeline's.
    state : str
        What the catalogue knows of this copy, or why there is nothing to know.
    steps : tuple of Step
    """

    store: str
    path: str
    block: str
    state: str
    steps: tuple[Step, ...] = ()


def done_stages(pipeline: Pipeline, jobs: Iterable[JobEntry]) -> frozenset[str]:
    """The stages that need not be waited for any more, by the jobs of a file.

    A distribution is done when its required targets have the file; a derivation that may fail also when it has failed.
    """
    by_stage: dict[str, dict[str, JobState]] = {}
    for job in jobs:
        by_stage.setdefault(job.stage, {})[job.target] = job.state
    found = set()
    for name, states in by_stage.items():
        stage = pipeline.stages.get(name)
        enough = {JobState.DONE, *(_GIVEN_UP if isinstance(stage, Derive) and stage.optional else ())}
        wanted = (stage.require or stage.targets) if isinstance(stage, Distribute) else tuple(states)
        if stage is not None and all(states.get(target) in enough for target in wanted):
            found.add(name)
    return frozenset(found)


def facts_of(pipeline: Pipeline, view: View, file: FileEntry, copy: CopyEntry) -> Facts | None:
    """What conditions see of a copy in the catalogue; None when its name fits no pattern any more."""
    parsed = pipeline.parse(file.name)
    if parsed is None:
        return None
    return Facts(
        name=parsed[1], block=parsed[0], store=copy.store, stores=frozenset(one.store for one in view.copies(file.id)),
        size=file.size, metadata=dict(file.metadata), done=done_stages(pipeline, view.jobs(file.id)),
    )  # fmt: skip


def held_of(pipeline: Pipeline, view: View, rule: Retention, file: FileEntry, copy: CopyEntry) -> Held:
    """What a rule asks of a copy in the catalogue."""
    facts = facts_of(pipeline, view, file, copy)
    not_for, needed = "its name fits no pattern", frozenset[str]()
    if facts is not None:
        applies, reason = pipeline.applies(rule, pipeline.values(facts), facts.stores)
        not_for = "" if applies else reason
        needed = frozenset(
            step.stage for step in pipeline.steps(facts)
            if step.standing in (Standing.NEXT, Standing.WAITS) and not isinstance(pipeline.stages[step.stage], Retention)
        )  # fmt: skip
    replacing = {name for name, stage in pipeline.stages.items() if isinstance(stage, Transform) and stage.replaces}
    made = tuple((one, tuple(view.copies(one.id))) for one in view.made_of(file.id) if one.made_by in replacing)
    return Held(
        file=file, copy=copy, copies=tuple(view.copies(file.id)), jobs=tuple(view.jobs(file.id)), replaced_by=made,
        needed_by=needed, not_for=not_for,
    )  # fmt: skip


def plan_file(pipeline: Pipeline, seen: Seen, view: View | None, now_ns: int) -> Planned:
    """What would be done to a file.

    Parameters
    ----------
    pipeline : Pipeline
    seen : Seen
        As it lies there.
    view : View or None
        The catalogue; None: there is none yet.
    now_ns : int
        Unix ns.
    """
    try:
        parsed = pipeline.parse(os.path.basename(seen.path))
    except Refused as refusal:
        return Planned(store=seen.store, path=seen.path, block="", state=f"is left alone: {refusal}")
    if parsed is None:
        return Planned(store=seen.store, path=seen.path, block="", state="is left alone: its name fits no pattern")
    block, name = parsed
    copy = view.copy_at(seen.store, seen.path) if view is not None else None
    file = view.file_of(copy.file) if view is not None and copy is not None else None
    if view is None or copy is None or file is None:
        rule = pipeline.config.blocks[block].complete_when
        state = f"is not in the catalogue: it is entered when it is complete ({_shown(rule)})"
        steps = pipeline.steps(Facts(name=name, block=block, store=seen.store, size=seen.size))
        return Planned(store=seen.store, path=seen.path, block=block, state=state, steps=steps)
    facts = facts_of(pipeline, view, file, copy)
    steps = pipeline.steps(facts) if facts is not None else ()
    steps = tuple(_with_decision(pipeline, view, step, file, copy, now_ns) for step in steps)
    state = f"is {copy.state}" if copy.seen.identity == seen.identity else f"was {copy.state} and has changed since"
    if copy.state is CopyState.CORRUPT:
        state += f" ({copy.reason})"
    return Planned(store=seen.store, path=seen.path, block=block, state=state, steps=steps)


def _with_decision(pipeline: Pipeline, view: View, step: Step, file: FileEntry, copy: CopyEntry, now_ns: int) -> Step:
    """Of a deletion that is next: whether its rule is fulfilled."""
    rule = pipeline.stages[step.stage]
    if not isinstance(rule, Retention) or step.standing is not Standing.NEXT:
        return step
    decision = decide(rule, held_of(pipeline, view, rule, file, copy), now_ns, view.rebuilding)
    reason = decision.reason
    if decision.delete and rule.delete_when.free_below is not None:
        reason += f", while less than {rule.delete_when.free_below:.0%} of the store is free"
    standing = Standing.NEXT if decision.delete else Standing.WAITS
    return msgspec.structs.replace(step, standing=standing, reason=reason)


def _shown(rule: Completion) -> str:
    """A rule of completeness in words."""
    signs = []
    for sign in rule.any:
        if sign.newer_block_of_same:
            signs.append(f"a newer one of the same {', '.join(sign.newer_block_of_same)} is there")
        elif sign.quiet_for:
            signs.append(f"it is quiet for {sign.quiet_for:g} s")
        else:
            signs.append("it is moved in" if sign.moved_in else "its writer closes it")
    same = f", and it was the same in {rule.stable_scans} looks" if rule.stable_scans > 1 else ""
    return " or ".join(signs) + same


def files_below(pipeline: Pipeline, path: Path) -> Iterator[Seen]:
    """The files at a path or below it, by name, as the store it belongs to sees them.

    Raises
    ------
    Refused
        When the path is not there, cannot be looked at, or is in no store of this host.
    """
    stores = {name: store.path for name, store in pipeline.config.stores.items() if store.kind != "ssh"}
    store = next((name for name, root in stores.items() if path == root or root in path.parents), None)
    if store is None:
        places = ", ".join(f"{name} ({root})" for name, root in stores.items())
        raise Refused(f"{path} is in no store of this host; there are: {places or 'none'}")
    root = stores[store]
    below = "" if path == root else str(path.relative_to(root))
    try:
        if not path.is_dir():
            status = path.lstat()
            yield Seen(store, below, status.st_size, status.st_mtime_ns, status.st_ino)
            return
        found = scan(store, root, below)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; name a file or directory that is there") from error
    except Failure as failure:
        raise Refused(f"{path}: {failure.outcome.text}; look at the store") from failure
    if found.unread:
        folder, reason = next(iter(found.unread.items()))
        raise Refused(f"{root / folder}: {reason}; see that this user may look there")
    yield from sorted(found.files, key=lambda seen: seen.path)
