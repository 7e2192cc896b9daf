"""The commensal machine as a whole: one cycle on the wire, restarts, bad messages, what people are shown."""

from __future__ import annotations

import pytest

from socs_bl.commensal.model import BadMessage, MetadataRead, ReadMetadata, ReadStatus, StartProcessing, StatusRead
from socs_bl.commensal.view import overview
from tests.commensal.bench import Bench
from tests.commensal.golden import (
    ANNOUNCED,
    CLAIMED,
    CONFIGURING,
    ENDED,
    FIRST,
    RELEASED,
    RETURNED,
    RUN,
    SECOND,
    STARTED,
    untimed,
)


def test_full_cycle_on_the_wire() -> None:
    """Every Redis command of a cycle, in order: subscribe, record, end, results, unsubscribe."""
    bench = Bench()
    bench.new_writes()
    bench.cam("configure")
    assert untimed(bench.new_writes()) == CONFIGURING
    bench.cam("conf_complete")
    bench.new_writes()
    bench.metadata()
    assert untimed(bench.new_writes()) == CLAIMED
    bench.fire("announce/array_1")
    assert untimed(bench.new_writes()) == ANNOUNCED
    bench.cancel_confirm("array_1")
    assert bench.now < 1_800_000_020
    bench.now = 1_800_000_014.0
    bench.cam("tracking")
    bench.metadata()
    bench.new_writes()
    bench.status()
    # Packet index at 08:00:16 is (1016 - 0) / 0.064 = 15875; the lead is 2 s = 32 heaps; 15907 heaps are 1018.048 s.
    assert bench.array().run == RUN
    assert untimed(bench.new_writes()) == STARTED
    bench.fire("start/array_1")
    bench.status()
    bench.new_writes()
    bench.fire("record/array_1")
    assert bench.now == pytest.approx(1_800_000_048.048)
    bench.statuses({"blpn64/0": {"DATADIR": FIRST}, "blpn64/1": {}})
    assert untimed(bench.new_writes()) == ENDED
    asked = bench.wanted(StartProcessing)
    assert [(ask.instance, ask.run, ask.datadir, ask.duration) for ask in asked] == [
        ("blpn64/0", RUN, FIRST, 20.0),
        ("blpn64/1", RUN, SECOND, 20.0),
    ]
    for ask in asked:
        bench.answer(ask)
    bench.codes()
    bench.result("blpn64/0", hits=2)
    bench.result("blpn64/1", code=1, hits=1)
    assert "codes 0: 1, 1: 1, 3 hits" in bench.notices[-1].text
    assert untimed(bench.new_writes()) == RETURNED
    bench.cam("deconfigure")
    assert untimed(bench.new_writes()) == RELEASED
    assert not bench.to_do and not bench.timers and not bench.machine.outstanding
    assert bench.replayed().cells == bench.machine.cells


def test_restart_in_each_state() -> None:
    """A restart changes nothing but that timers are armed again and questions are asked again; then the cycle goes on."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.restart()
    bench.metadata()
    bench.restart()
    bench.fire("announce/array_1")
    bench.cancel_confirm("array_1")
    bench.cam("tracking")
    bench.restart()
    bench.metadata()
    bench.restart()
    bench.status()
    run = bench.array().run
    bench.restart()
    bench.fire("start/array_1")
    bench.status()
    bench.fire("record/array_1")
    bench.restart()
    bench.status()
    bench.restart()
    assert len(bench.wanted(StartProcessing)) == 2
    bench.result("blpn64/0", run=run)
    bench.restart()
    assert [ask.instance for ask in bench.wanted(StartProcessing)] == ["blpn64/1"]
    bench.result("blpn64/1", run=run)
    assert bench.states() == ("SUBSCRIBED", "READY") and not bench.timers and not bench.to_do
    assert bench.codes().count("restarted") == 8


def test_malformed_messages() -> None:
    """They are counted and change nothing else; an unknown subarray is named to people."""
    bench = Bench()
    before = bench.duties(), bench.states()
    bench.say(BadMessage(channel="alerts", reason="x"), BadMessage(channel="proc_result", reason="y"))
    bench.cam("tracking", "array_9")
    bench.cam("capture-init")
    assert (bench.duties(), bench.states()) == before and bench.machine.ledger().bad_messages == 2
    assert bench.codes()[-1] == "unknown-array"
    bench.say(MetadataRead(array="array_9", purpose="subscribe", prefix="", values={}))
    bench.say(StatusRead(array="array_9", purpose="record", run="", statuses={}))


def test_read_failures() -> None:
    """A question without an answer costs what it was for, and no more."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.fail(bench.wanted(ReadMetadata)[0])
    assert bench.states()[0] == "CONFIGURING"
    bench.cam("conf_complete")
    bench.metadata()
    bench.fire("announce/array_1")
    bench.fire("confirm/array_1")
    bench.fail(bench.wanted(ReadStatus)[0])
    bench.cam("tracking")
    bench.fail(bench.wanted(ReadMetadata)[0])
    assert bench.states() == ("SUBSCRIBED", "READY") and not bench.to_do
    bench.fire("target/array_1")  # asked again, as for a late target
    bench.metadata()
    bench.fail(bench.wanted(ReadStatus)[0])
    bench.fire("target/array_1")
    bench.metadata()
    bench.status()
    bench.fire("start/array_1")
    bench.fail(bench.wanted(ReadStatus)[0])
    bench.fire("record/array_1")
    bench.new_writes()
    bench.fail(bench.wanted(ReadStatus)[0])
    assert bench.states() == ("SUBSCRIBED", "PROCESS")
    assert ("SET", "blpn64/0:last-datadir", "unknown") in bench.new_writes()


def test_overview() -> None:
    """What people are shown agrees with the state."""
    bench = Bench()
    bench.subscribe()
    run = bench.process()
    bench.result("blpn64/0", code=2)
    shown = overview(bench.machine)
    assert shown["pool"] == {"free": 2, "ready": 0, "recording": 0, "processing": 1, "quarantined": 1, "drained": 0}
    assert shown["arrays"]["array_1"]["obsid"] == run and shown["arrays"]["array_1"]["target"] == "J0437-4715"
    assert shown["arrays"]["array_1"]["processing"] == ["blpn64/1"] and "blpn64/0" in shown["quarantined"]
