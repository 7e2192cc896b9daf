"""What a night brought, counted from the journal."""

from __future__ import annotations

import pytest

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.statistics import Statistics, statistics
from socs_bl.core.memory_journal import MemoryJournal
from socs_bl.core.walk import walk
from tests.commensal.bench import CODEC, START, Bench, sensors


def night() -> Bench:
    """A search with hits, one without, a short one, one in primary time, one that nobody began, one skipped."""
    bench = Bench(shortest_recording=15, release_on_heartbeat=False)
    bench.subscribe()
    for hits in (3, 0):
        bench.process()
        bench.result("blpn64/0", hits=hits)
        bench.result("blpn64/1")
        bench.cam("not-tracking")
    run = bench.machine.run(bench.record())
    bench.now = run.started + 9
    bench.cam("not-tracking")  # a second later
    bench.fire("halt/array_1")
    bench.status()
    bench.result("blpn64/0")
    bench.result("blpn64/1")
    bench.record(proposal="SCI-PRIMARY")
    bench.fire("start/array_1")
    bench.status()
    bench.fire("record/array_1")
    bench.status()
    bench.ask("reset_array", "array_1")
    bench.record()
    bench.fire("start/array_1")
    bench.status(DAQSTATE="LISTEN")
    bench.ask("reset_array", "array_1")
    for name in ("blpn64/0", "blpn64/1"):
        bench.ask("release_instance", name)
    bench.cam("deconfigure")
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata({**sensors(), "proposal": "SCI-SKIP"})
    return bench


def count(bench: Bench, since: float = START, until: float = START + 1e6) -> dict[str, Statistics]:
    journal = MemoryJournal(bench.vault)
    steps = walk(CommensalMachine, CODEC, journal.base(), journal.read())
    return statistics(steps, ("array_1", "array_2"), since, until, 15.0)


def test_a_night_is_counted() -> None:
    """Every kind of end is counted once, with the seconds that were recorded."""
    found = count(night(), until=START + 700)
    figures = found["array_1"]
    assert (figures.recordings, figures.searched, figures.short, figures.kept) == (4, 2, 1, 1)
    assert (figures.failed, figures.skipped, figures.zero_hits, figures.hits) == (1, 1, 1, 3)
    assert figures.seconds == pytest.approx(3 * 20 + 10)
    assert figures.duty_cycle == pytest.approx(figures.seconds / 700)
    assert found["array_2"] == Statistics() and found[""].duty_cycle == pytest.approx(figures.duty_cycle / 2)


def test_only_what_lies_in_the_time() -> None:
    """A recording across an edge counts with the part inside; before and after nothing does."""
    bench = Bench()
    bench.subscribe()
    run = bench.machine.run(bench.process())
    bench.result("blpn64/0")
    bench.result("blpn64/1")
    assert count(bench, since=run.started + 5, until=run.started + 100)["array_1"].seconds == pytest.approx(15)
    assert count(bench, until=run.started - 1)["array_1"].recordings == 0
    assert count(bench, since=run.ended + 1)["array_1"].recordings == 0
