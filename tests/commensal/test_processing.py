"""Processing: results, returns, deadlines and codes."""

from __future__ import annotations

import pytest

from socs_bl.commensal.model import LegacyReturn, ResultRead, StartProcessing
from tests.commensal.bench import INSTANCES, Bench


def test_analyzer_that_refuses() -> None:
    """An analyzer is asked three times, five seconds apart; then its node is quarantined and the run goes on."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    bench.fire("record/array_1")
    bench.status()
    good, bad = bench.wanted(StartProcessing)
    bench.answer(good)
    bench.fail(bad)
    for left in (2, 1):
        assert bench.quarantined() == []
        before = bench.now
        bench.fire(f"ask/{bad.instance}")
        assert bench.now == pytest.approx(before + 5.0)
        (again,) = bench.wanted(StartProcessing)
        assert (again.run, again.datadir) == (bad.run, bad.datadir)
        bench.fail(again, f"refused, {left} to go")
    assert bench.quarantined() == [bad.instance]
    bench.result(good.instance)
    assert bench.states() == ("SUBSCRIBED", "READY") and "1 missing" in bench.notices[-1].text


def test_results_that_do_not_belong() -> None:
    """A result of another run, of an unknown instance, a second one, or one while recording changes nothing."""
    bench = Bench()
    bench.subscribe()
    run = bench.record()
    before = bench.duties()
    bench.result("blpn64/0", run=run)
    assert bench.duties() == before
    bench.fire("record/array_1")
    bench.status()
    before = bench.duties()
    bench.result("blpn64/0", run="MeerKAT:array_1:19700101T000000Z")
    bench.result("blpn99/0")
    bench.result("blpn65/0")
    assert bench.duties() == before
    bench.result("blpn64/0", hits=3)
    bench.result("blpn64/0", hits=3)
    assert bench.machine.run(run).hits == 3


def test_results_cursor() -> None:
    """The place in the results stream is remembered, so that a restart reads on from there."""
    bench = Bench()
    bench.say(ResultRead(cursor="17-3", instance="blpn64/0", run="x", code=0))
    bench.restart()
    assert bench.machine.ledger().results_cursor == "17-3"


def test_legacy_return() -> None:
    """A RETURN without a run ends the run of its instance only when the analyzer cannot tell its result with the run."""
    bench = Bench()
    bench.say(LegacyReturn(instance="blpn64/0", code=0, code2=-1))
    bench.subscribe()
    run = bench.process()
    for name in INSTANCES[:2]:
        bench.say(LegacyReturn(instance=name, code=0, code2=-1))
    assert bench.states()[1] == "PROCESS"
    bench.result("blpn64/0", hits=4)
    assert "legacy/blpn64/0" not in bench.timers and bench.machine.run(run).hits == 4
    bench.fire("legacy/blpn64/1")
    for _ in range(2):
        (again,) = bench.wanted(StartProcessing)
        assert (again.instance, again.run) == ("blpn64/1", run)
        bench.fail(again)
        bench.fire("ask/blpn64/1")
    (again,) = bench.wanted(StartProcessing)
    bench.fail(again)
    assert bench.states() == ("SUBSCRIBED", "READY") and "4 hits" in bench.notices[-1].text


def test_the_return_of_something_else() -> None:
    """A RETURN of an analyzer that has not taken the run yet is that of something else: the run is not over."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    bench.fire("start/array_1")
    bench.status()
    bench.fire("record/array_1")
    bench.status()
    bench.say(LegacyReturn(instance="blpn64/0", code=0, code2=-1))
    first, second = bench.wanted(StartProcessing)
    bench.fail(first)
    bench.answer(second)
    bench.say(LegacyReturn(instance="blpn64/0", code=0, code2=-1))
    assert "legacy/blpn64/0" not in bench.timers
    bench.fire("ask/blpn64/0")
    (again,) = bench.wanted(StartProcessing)
    bench.answer(again)
    bench.result("blpn64/0", hits=2)
    bench.result("blpn64/1")
    assert bench.states()[1] == "READY" and "2 hits" in bench.notices[-1].text


def test_processing_deadline() -> None:
    """Who has not returned by the deadline is quarantined, with the run named; the subarray goes on."""
    bench = Bench()
    bench.subscribe()
    run = bench.process()
    bench.result("blpn64/0")
    bench.fire(f"process/{run}")
    assert bench.states() == ("SUBSCRIBED", "READY") and bench.quarantined() == ["blpn64/1"]
    assert run in bench.machine.instance("blpn64/1").reason
    bench.result("blpn64/1", run=run, code=2)
    assert bench.quarantined() == ["blpn64/1"]


def test_deadline_without_any_result() -> None:
    """With no result at all the subarray is in ERROR; a deconfigured one is merely gone."""
    bench = Bench()
    bench.subscribe()
    bench.fire(f"process/{bench.process()}")
    assert bench.states() == ("SUBSCRIBED", "ERROR") and bench.machine.ledger().completed == 0
    assert bench.timers.keys() == {"watch/pool"} and not bench.machine.outstanding


@pytest.mark.parametrize("code", [2, 139, -11])
def test_bad_codes(code: int) -> None:
    """Code 2, other exits and signals quarantine the node and nobody else; the original counts a signal as success."""
    bench = Bench()
    bench.subscribe()
    bench.process()
    bench.messages()
    bench.result("blpn64/0", code=code)
    assert bench.messages() == [
        ("bluse://blpn64/0/set", "DESTIP=0.0.0.0"),
        ("bluse://blpn64/0/set", "DWELL=0"),
        ("bluse://blpn64/0/gateway", "leave=array_1-0"),
    ]
    bench.result("blpn64/1")
    assert bench.quarantined() == ["blpn64/0"] and bench.states() == ("SUBSCRIBED", "READY")
    assert f"{code}" in bench.machine.instance("blpn64/0").reason
    assert [share.instance for share in bench.array().shares] == ["blpn64/1"]
