"""What may be deleted, and under which rule: pure functions, so that a dry run and the real one cannot differ.

A copy goes only when the catalogue knows it, it is what the catalogue says, nothing is still to be done with it, no copy of
the file anywhere disagrees, and as many other copies as the rule wants were verified lately. Whatever is not known is a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from socs_bl.dataflow.entries import CopyEntry, FileEntry, JobEntry
from socs_bl.dataflow.model import ENDED, CopyState, JobState
from socs_bl.dataflow.stages import DeleteWhen, Retention

DAY = 86400.0
_DISAGREE = (CopyState.CORRUPT, CopyState.SUSPECT)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that may be deleted, and all that is known of its file.

    Attributes
    ----------
    file : FileEntry
    copy : CopyEntry
        The one in question.
    copies : tuple of CopyEntry
        All of the file, `copy` among them.
    jobs : tuple of JobEntry
        Of the file.
    replaced_by : tuple of (FileEntry, tuple of CopyEntry)
        What transforms have put in its place, with its copies.
    needed_by : frozenset of str
        Stages that take this copy, by the pipeline, and have not done it yet.
    not_for : str
        Why the rule is not for this file, by the pipeline; empty when it is.
    """

    file: FileEntry
    copy: CopyEntry
    copies: tuple[CopyEntry, ...]
    jobs: tuple[JobEntry, ...] = ()
    replaced_by: tuple[tuple[FileEntry, tuple[CopyEntry, ...]], ...] = ()
    needed_by: frozenset[str] = frozenset()
    not_for: str = ""


class Space(msgspec.Struct, frozen=True):
    """Bytes of a store: in all, and free."""

    total: int
    free: int


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a copy.

    Attributes
    ----------
    copy : CopyEntry
    delete : bool
        It may be deleted.
    rule : str
        Id of the retention stage.
    reason : str
        The proof that the rule is fulfilled, or what is missing.
    dry_run : bool
        It is only said.
    """

    copy: CopyEntry
    delete: bool
    rule: str
    reason: str
    dry_run: bool = False


def decide(stage: Retention, held: Held, now_ns: int, rebuilding: str = "") -> Decision:
    """Whether a rule allows to delete a copy now, the free space apart.

    Parameters
    ----------
    stage : Retention
    held : Held
    now_ns : int
        Unix ns.
    rebuilding : str
        Why the catalogue is not to be trusted; empty when it is.
    """
    obstacle = f"the catalogue is not trusted: {rebuilding}" if rebuilding else _obstacle(stage, held, now_ns)
    if obstacle:
        return Decision(held.copy, False, stage.id, obstacle, stage.dry_run)
    rule = stage.delete_when
    if rule.last_copy:
        return Decision(held.copy, True, stage.id, "the rule asks for no other copy", stage.dry_run)
    counted, reason = _enough(rule, held, now_ns)
    return Decision(held.copy, counted, stage.id, reason, stage.dry_run)


def _obstacle(stage: Retention, held: Held, now_ns: int) -> str:
    """What stands against deleting a copy, whatever other copies there are."""
    copy = held.copy
    if held.not_for:
        return f"the rule is not for it: {held.not_for}"
    if copy.store != stage.store:
        return f"it is in {copy.store}, the rule is for {stage.store}"
    if copy.state not in (CopyState.PRESENT, CopyState.VERIFIED):
        return f"it is {copy.state}"
    if not held.file.digests:
        return "its bytes were never hashed"
    wrong = [other for other in _all_copies(held) if other.state in _DISAGREE]
    if wrong:
        return f"the copy in {wrong[0].store} is {wrong[0].state}: {wrong[0].reason or 'look at it'}"
    needing = sorted(held.needed_by)
    if needing:
        return f"{', '.join(needing)} still needs it"
    open_jobs = [job for job in held.jobs if job.state not in ENDED and job.stage != stage.id]
    if open_jobs:
        return f"job {open_jobs[0].stage} is {open_jobs[0].state}"
    bad = [job for job in held.jobs if job.state is JobState.BAD]
    if bad:
        return f"job {bad[0].stage} found it bad: {bad[0].reason}"
    age = (now_ns - held.file.added_ns) / 1e9
    if age < stage.delete_when.min_age:
        return f"it is {age / DAY:.1f} days old, the rule asks for {stage.delete_when.min_age / DAY:g}"
    return ""


def _all_copies(held: Held) -> Iterable[CopyEntry]:
    yield from held.copies
    for _, copies in held.replaced_by:
        yield from copies


def _enough(rule: DeleteWhen, held: Held, now_ns: int) -> tuple[bool, str]:
    """Whether as many verified copies are elsewhere, and which."""
    if not rule.replaced:
        others = [copy for copy in held.copies if copy.id != held.copy.id and _body(copy) != _body(held.copy)]
        return _count(rule, others, now_ns)
    if not held.replaced_by:
        return False, "nothing has replaced it"
    for made, copies in held.replaced_by:
        enough, reason = _count(rule, copies, now_ns)
        if not enough:
            return False, f"of {made.name}, which replaced it: {reason}"
    return True, f"replaced by {', '.join(made.name for made, _ in held.replaced_by)}, of which there is: {reason}"


def _count(rule: DeleteWhen, copies: Sequence[CopyEntry], now_ns: int) -> tuple[bool, str]:
    oldest = now_ns - round(rule.verified_within * 1e9)
    wanted = [copy for copy in copies if not rule.on or copy.store in rule.on]
    young = [copy for copy in wanted if copy.state is CopyState.VERIFIED and oldest <= copy.verified_ns <= now_ns]
    good = list({_body(copy): copy for copy in young}.values())
    places = sorted(f"{copy.store}:{copy.path}" for copy in good)
    if len(good) < rule.verified_copies:
        stale = [copy for copy in wanted if copy.state is CopyState.VERIFIED and copy.verified_ns < oldest]
        text = f"{len(good)} verified copies of {rule.verified_copies} elsewhere"
        return False, text + (f", {len(stale)} were verified too long ago" if stale else "")
    return True, f"{len(good)} verified copies elsewhere: {', '.join(places)}"


def _body(copy: CopyEntry) -> tuple[str, int, int]:
    """What two copies share that are one file under two names."""
    return copy.store, copy.inode, 0 if copy.inode else copy.id


def plan(stage: Retention, held: Iterable[Held], now_ns: int, space: Space, rebuilding: str = "") -> list[Decision]:
    """What a rule deletes now, the oldest first, and why the rest stays.

    Parameters
    ----------
    stage : Retention
    held : iterable of Held
    now_ns : int
        Unix ns.
    space : Space
        Of the store.
    rebuilding : str
        Why the catalogue is not to be trusted; empty when it is.
    """
    rule = stage.delete_when
    oldest_first = sorted(held, key=lambda one: (_begins(one.file), one.file.id, one.copy.id))
    share = space.free / space.total if space.total else 1.0
    until = None if rule.free_below is None else rule.free_until if rule.free_until is not None else rule.free_below
    short = rule.free_below is not None and share < rule.free_below
    free, found, gone = space.free, [], set[int]()
    for one in oldest_first:
        left = tuple(copy for copy in one.copies if copy.id not in gone)  # what goes now speaks for nothing any more
        decision = decide(stage, msgspec.structs.replace(one, copies=left), now_ns, rebuilding)
        if decision.delete and until is not None:
            if not short or free >= until * space.total:
                reason = f"{free / max(space.total, 1):.1%} of the store is free, which is enough"
                decision = msgspec.structs.replace(decision, delete=False, reason=reason)
            else:
                free += one.copy.size
        if decision.delete:
            gone.add(one.copy.id)
        found.append(decision)
    return found


def _begins(file: FileEntry) -> int:
    return file.added_ns if file.begins_ns is None else file.begins_ns
