"""What a night brought: recordings, how long, how much of the time, and what went wrong; from the coordinator's journal."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from socs_bl.commensal.model import Notify, ResultRead, Run
from socs_bl.core.codec import Entry
from socs_bl.core.walk import Step

# Codes of notifications that are counted as they are.
COUNTED = {"skipped": "skipped", "not-recorded": "not_recorded", "failed": "failed", "nobody-records": "failed"}


class Statistics(msgspec.Struct):
    """Figures of one subarray, or of all.

    Attributes
    ----------
    recordings : int
        That ended in the time asked about.
    seconds : float
        Recorded, as far as it lies in that time.
    duty_cycle : float
        Fraction of the time; of all subarrays together the mean.
    short : int
        Too short to be searched.
    kept : int
        In primary time, kept for people.
    searched : int
        With at least one good result.
    failed : int
        Which nobody began, or nobody searched.
    zero_hits : int
        Searched, long enough, and without a hit.
    hits : int
    skipped, not_recorded : int
        Pointings of proposals that are not recorded, and those that could not be.
    """

    recordings: int = 0
    seconds: float = 0.0
    duty_cycle: float = 0.0
    short: int = 0
    kept: int = 0
    searched: int = 0
    failed: int = 0
    zero_hits: int = 0
    hits: int = 0
    skipped: int = 0
    not_recorded: int = 0


def statistics(
    steps: Iterable[Step], arrays: Iterable[str], since: float, until: float, shortest: float
) -> dict[str, Statistics]:
    """Figures by subarray, and under the empty name those of all.

    Parameters
    ----------
    steps : iterable of Step
        Of the coordinator's journal, in order.
    arrays : iterable of str
        Subarrays that are in the answer whether anything happened to them or not.
    since, until : float
        Unix time, seconds.
    shortest : float
        Recordings below that are not searched, seconds.
    """
    found = {name: Statistics() for name in arrays}
    for step in steps:
        at = step.entry.envelope.event.at.wall
        if since <= at < until:
            for effect in step.entry.effects:
                if isinstance(effect, Notify) and effect.code in COUNTED and effect.array:
                    figures = found.setdefault(effect.array, Statistics())
                    name = COUNTED[effect.code]
                    setattr(figures, name, getattr(figures, name) + 1)
        for change in step.changes:
            run = change.before
            if isinstance(run, Run) and change.after is None and change.key.startswith("run/"):
                _count(found.setdefault(run.array, Statistics()), run, step.entry, since, until, shortest)
    span = max(until - since, 1e-9)
    for figures in found.values():
        figures.duty_cycle = figures.seconds / span
    found[""] = _all(found)
    return found


def _count(figures: Statistics, run: Run, entry: Entry, since: float, until: float, shortest: float) -> None:
    """A run that has left the state: completed, kept, or given up because nobody recorded."""
    codes = {effect.code for effect in entry.effects if isinstance(effect, Notify) and effect.array == run.array}
    if "nobody-records" in codes:
        return
    seconds = min(run.ended, until) - max(run.started, since)
    if seconds <= 0:
        return
    figures.recordings += 1
    figures.seconds += seconds
    if run.primary:
        figures.kept += 1
        return
    event = entry.envelope.event
    hits = run.hits + (event.hits if isinstance(event, ResultRead) and event.run == run.id else 0)
    figures.hits += hits
    if run.ended - run.started < shortest:
        figures.short += 1
    elif "processed" in codes:
        figures.searched += 1
        figures.zero_hits += hits == 0


def _all(found: dict[str, Statistics]) -> Statistics:
    total = Statistics()
    for figures in found.values():
        for name in Statistics.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(figures, name))
    total.duty_cycle /= max(len(found), 1)
    return total
