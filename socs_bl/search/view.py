"""The analyzer's state as people and clients see it."""

from __future__ import annotations

from typing import Any

from socs_bl.search.machine import AnalyzerMachine
from socs_bl.search.model import Cleaning, Outcome, Run, Stage

REPORTED_SHOWN = 20


def described(run: Run) -> dict[str, Any]:
    """One run as JSON values."""
    return {
        "run": run.name,
        "datadir": run.datadir,
        "stage": run.stage.value,
        "code": run.code,
        "reason": run.outcome.value if run.outcome else "",
        "text": run.text,
        "tries": run.tries,
        "hits": run.hits,
        "stamps": run.stamps,
        "bytes_freed": run.freed,
        "rule": run.rule,
        "raw": run.raw,
        "obsid": run.obsid,
        "products": list(run.products),
        "asked": run.asked,
        "began": run.began,
        "ended": run.ended,
    }


def described_cleaning(cleaning: Cleaning) -> dict[str, Any]:
    """One deletion that was asked for as JSON values."""
    return {
        "datadir": cleaning.datadir,
        "rule": cleaning.rule,
        "asked": cleaning.asked,
        "ended": cleaning.ended,
        "bytes_freed": cleaning.freed,
        "refusal": cleaning.refusal,
    }


def overview(machine: AnalyzerMachine) -> dict[str, Any]:
    """The queue as JSON values: what is under way, what waits, and what was reported lately, last one first."""
    under_way = machine.under_way()
    reported = [run for run in machine.runs() if run.stage is Stage.REPORTED]
    return {
        "instance": machine.settings.instance,
        "under_way": described(under_way) if under_way else None,
        "queued": [run.name for run in machine.queued()],
        "reported": [described(run) for run in sorted(reported, key=lambda run: -run.ended)[:REPORTED_SHOWN]],
        "searched_runs": sum(run.outcome is Outcome.SEARCHED for run in reported),
        "hits": sum(run.hits for run in reported),
    }


def queue_status(machine: AnalyzerMachine) -> dict[str, Any]:
    """All of it: besides `overview` the runs that wait and those that were given up, what stays, and what was deleted."""
    return {
        **overview(machine),
        "pending": [described(run) for run in machine.queued()],
        "failed": [described(run) for run in machine.given_up()],
        "preserved": [
            {"datadir": kept.datadir, "reason": kept.reason, "since": kept.since} for kept in machine.preserved()
        ],
        "cleaned": [described_cleaning(cleaning) for cleaning in machine.cleanings()],
    }
