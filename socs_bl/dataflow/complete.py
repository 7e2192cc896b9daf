"""When a file is complete: a pure function of what was seen of it and of its like, so that a growing file is never taken.

All times are those of the looks, by the clock of this host; what file systems and names say of time is only compared with
itself. A file of another kind, radar or slice that begins later says nothing: its writer may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from socs_bl.dataflow.config import Completion, Sign
from socs_bl.dataflow.model import FileName, Seen

FUTURE_NS = 3600 * 10**9  # a name that is further ahead of the clock was made by a wrong one


class Look(msgspec.Struct, frozen=True):
    """A file as it was at one time.

    Attributes
    ----------
    at_ns : int
        Time of the look; never steps back between two looks (monotonic).
    seen : Seen
    """

    at_ns: int
    seen: Seen


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file that may still grow.

    Attributes
    ----------
    name : FileName
    time_ns : int or None
        When it begins, by its name, Unix ns.
    looks : tuple of Look
        The oldest first; `remember` keeps them few.
    moved_in, closed : bool
        An event said so after its last change.
    writers : int or None
        Processes that have it open for writing; None where that cannot be known.
    """

    name: FileName
    time_ns: int | None
    looks: tuple[Look, ...] = ()
    moved_in: bool = False
    closed: bool = False
    writers: int | None = None


class Judgement(msgspec.Struct, frozen=True):
    """Whether a file is complete.

    Attributes
    ----------
    complete : bool
    reason : str
        Why, or what is missing.
    after_s : float
        When it makes sense to look again, seconds from now; 0: when something happens.
    """

    complete: bool
    reason: str
    after_s: float = 0.0


def remember(looks: Sequence[Look], look: Look, rule: Completion) -> tuple[Look, ...]:
    """The looks that still count after another one: since the last change, those far enough apart, and the first of them.

    Parameters
    ----------
    looks : sequence of Look
        The oldest first.
    look : Look
        The new one.
    rule : Completion
    """
    if not looks or looks[-1].seen.identity != look.seen.identity:
        return (look,)
    apart = round(rule.apart * 1e9)
    if look.at_ns - looks[-1].at_ns < apart:
        return tuple(looks)
    return (*looks[:1], *looks[1:][-rule.stable_scans :], look)


def judge(rule: Completion, file: Observed, others: Iterable[Observed], now_ns: int, wall_ns: int) -> Judgement:
    """Whether a file is complete.

    Parameters
    ----------
    rule : Completion
    file : Observed
    others : iterable of Observed
        Files of the same kind in the same store, `file` itself allowed.
    now_ns : int
        Time on the clock of the looks.
    wall_ns : int
        The same, Unix ns: only to see which names are of the future.
    """
    if not file.looks:
        return Judgement(False, "it has not been looked at yet")
    if rule.no_writer and file.writers:
        return Judgement(False, f"{file.writers} processes have it open for writing", rule.apart)
    if len(file.looks) < rule.stable_scans:
        return Judgement(False, f"it was the same in {len(file.looks)} looks of {rule.stable_scans}", rule.apart)
    others = list(others)
    missing, after = [], 0.0
    for sign in rule.any:
        found = _sign(sign, file, others, now_ns, wall_ns)
        if found.complete:
            return found
        missing.append(found.reason)
        after = min(after, found.after_s) if after and found.after_s else after or found.after_s
    return Judgement(False, ", and ".join(missing), after)


def _sign(sign: Sign, file: Observed, others: Iterable[Observed], now_ns: int, wall_ns: int) -> Judgement:
    if sign.quiet_for:
        quiet = (now_ns - file.looks[0].at_ns) / 1e9
        if quiet >= sign.quiet_for:
            return Judgement(True, f"it has not changed for {quiet:.0f} s")
        return Judgement(False, f"it has not changed for {quiet:.0f} s of {sign.quiet_for:g}", sign.quiet_for - quiet)
    if sign.newer_block_of_same:
        newer = next((other for other in others if _is_newer(other, file, sign.newer_block_of_same, wall_ns)), None)
        if newer is not None:
            return Judgement(True, f"{newer.name.text} is newer")
        return Judgement(False, f"no file of the same {', '.join(sign.newer_block_of_same)} is newer")
    said, happened = (file.moved_in, "it was moved in") if sign.moved_in else (file.closed, "its writer closed it")
    return Judgement(said, happened if said else f"nothing said that {happened}")


def _is_newer(other: Observed, file: Observed, same: Iterable[str], wall_ns: int) -> bool:
    if other.time_ns is None or file.time_ns is None or not other.time_ns > file.time_ns:
        return False
    if other.time_ns > wall_ns + FUTURE_NS:
        return False
    return all(other.name.fields.get(field) == file.name.fields.get(field) for field in same)
