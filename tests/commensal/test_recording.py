"""Recording: when it begins, how it ends, and what keeps it from beginning."""

from __future__ import annotations

import pytest

from socs_bl.commensal.model import ReadMetadata, ReadStatus, StartProcessing, StatusRead, TelescopeEvent
from socs_bl.core.event import EffectDone
from tests.commensal.bench import INSTANCES, Bench, sensors
from tests.commensal.golden import untimed


def test_early_stop() -> None:
    """``not-tracking``: DWELL=0 and PKTSTART=0 to each, the true end for BOTH directories, 1.5 s later the dwell back."""
    bench = Bench()
    bench.subscribe()
    run = bench.record()
    started = bench.machine.run(run).started
    bench.now = started + 9.0
    bench.new_writes()
    bench.cam("not-tracking")
    assert untimed(bench.new_writes())[:6] == [
        ("PUBLISH", "bluse://blpn64/0/set", "DWELL=0"),
        ("PUBLISH", "bluse://blpn64/0/set", "PKTSTART=0"),
        ("PUBLISH", "bluse://blpn64/1/set", "DWELL=0"),
        ("PUBLISH", "bluse://blpn64/1/set", "PKTSTART=0"),
        *(("SET", f"rec_end:{path}", str(bench.now)) for path in sorted(bench.machine.run(run).datadirs.values())),
    ]
    bench.cam("not-tracking")
    assert set(bench.timers) == {"halt/array_1"}
    before = bench.now
    bench.fire("halt/array_1")
    assert bench.now == pytest.approx(before + 0.5)  # one and a half seconds after the stop, one has passed
    assert bench.messages() == [("bluse://blpn64/0/set", "DWELL=20"), ("bluse://blpn64/1/set", "DWELL=20")]
    bench.status()
    assert bench.states() == ("SUBSCRIBED", "PROCESS")
    assert [ask.duration for ask in bench.wanted(StartProcessing)] == pytest.approx([10.0, 10.0])
    assert "too-short" not in bench.codes()


def test_too_short() -> None:
    """A recording that is too short to be searched is said to be, and still goes to the analyzers, which delete it."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    bench.cam("not-tracking")
    bench.fire("halt/array_1")
    bench.status()
    assert "too-short" in bench.codes()
    assert [ask.duration for ask in bench.wanted(StartProcessing)] == [0.0, 0.0]  # before PKTSTART


def test_tracking_before_announce() -> None:
    """The telescope may be on source before the groups have been told anything: the recording follows."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.metadata()
    bench.cam("tracking")
    assert not bench.wanted(ReadMetadata)
    bench.fire("announce/array_1")
    bench.metadata()
    bench.status(PKTIDX="")  # the DAQs have not begun to receive yet
    assert bench.states() == ("SUBSCRIBED", "READY")
    bench.fire("target/array_1")
    bench.metadata()
    bench.status()
    assert bench.states() == ("SUBSCRIBED", "RECORD")


def test_target_late() -> None:
    """A target older than the end of the last track is not the one being tracked: five looks, five seconds apart."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata(sensors(last_target="1800000000", last_track_end="1800000010.1"))
    for _ in range(4):
        before = bench.now
        bench.fire("target/array_1")
        assert bench.now == pytest.approx(before + 5.0)
        bench.metadata(sensors(target="moon, special"))
    assert bench.codes()[-1] == "not-recorded" and not bench.timers and not bench.to_do
    bench.cam("tracking")
    bench.metadata(sensors(last_target="1800000000", last_track_end="1800000010.1"))
    bench.fire("target/array_1")
    bench.metadata(sensors(last_target="1800000000", last_track_end="1800000010"))
    bench.status()
    assert bench.states()[1] == "RECORD"


def test_not_tracking_while_preparing() -> None:
    """A track that ends before it is recorded leaves nothing behind, and a late answer starts nothing."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    (read,) = bench.wanted(ReadStatus)
    bench.cam("not-tracking")
    assert not bench.to_do and not bench.timers
    bench.cam("tracking")
    stale = {name: {"PKTIDX": "15800"} for name in read.instances}
    bench.say(StatusRead(array="array_1", purpose="record", run="", statuses=stale), EffectDone(effect=read.id))
    assert bench.states()[1] == "READY"


def test_skipped_proposal() -> None:
    """Pointings of a proposal on the list are not recorded."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.codes()
    bench.metadata(sensors(proposal="'SCI-SKIP'"))
    assert bench.states()[1] == "READY" and bench.codes() == ["skipped"] and not bench.to_do


def test_primary_proposal() -> None:
    """A recording in primary time is kept: not searched, on no work list, and the subarray waits for people."""
    bench = Bench()
    bench.subscribe()
    bench.new_writes()
    bench.record(proposal="SCI-PRIMARY")
    lists = [command[1] for command in bench.new_writes() if command[0] == "LPUSH"]
    assert lists == ["blpn64/0:preserved", "blpn64/1:preserved"]
    bench.fire("record/array_1")
    bench.status()
    assert bench.states() == ("SUBSCRIBED", "WAITING") and not bench.wanted(StartProcessing)
    bench.cam("tracking")
    assert not bench.to_do
    bench.ask("reset_array", "array_1")
    bench.record()
    assert bench.states() == ("SUBSCRIBED", "RECORD")


def test_silent_node() -> None:
    """A node without a packet index is reported and does not hold up the others."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    bench.codes()
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    assert bench.states()[1] == "RECORD" and bench.codes() == ["silent", "recording"]


def test_packet_index_far_off() -> None:
    """PKTSTART more than two minutes away is refused with the reason; nothing is published."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    bench.messages()
    bench.statuses({"blpn64/0": {}, "blpn64/1": {"PKTIDX": "999999999"}})
    assert bench.states()[1] == "READY" and bench.codes()[-1] == "not-recorded"
    assert bench.messages() == []


def test_node_that_does_not_start() -> None:
    """A node that is not recording after PKTSTART is quarantined; the others go on, and the run does not wait for it."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    bench.fire("start/array_1")
    bench.statuses({"blpn64/0": {}, "blpn64/1": {"DAQSTATE": "LISTEN"}})
    assert bench.quarantined() == ["blpn64/1"]
    bench.fire("record/array_1")
    bench.status()
    for ask in bench.wanted(StartProcessing):
        bench.answer(ask)
    bench.result("blpn64/0")
    assert bench.states() == ("SUBSCRIBED", "READY") and bench.machine.ledger().completed == 1
    bench.ask("release_instance", "blpn64/1")
    assert bench.duties()["blpn64/1"] == "free"


@pytest.mark.parametrize(("dwell", "after"), [(20, 5.0), (4, 2.0)])
def test_start_check_is_within_the_dwell(dwell: float, after: float) -> None:
    """Nobody is found not to record because the recording is over already."""
    bench = Bench(dwell=dwell)
    bench.subscribe()
    run = bench.machine.run(bench.record())
    assert bench.machine.timers["start/array_1"].deadline == pytest.approx(run.started + after)


def test_a_check_that_comes_too_late() -> None:
    """Away until the DAQs have stopped by themselves: nobody is quarantined for that, and the recording is searched."""
    bench = Bench()
    bench.subscribe()
    run = bench.machine.run(bench.record())
    bench.now = run.ended + 1
    bench.restart()
    bench.fire("start/array_1")
    assert not bench.wanted(ReadStatus) and "unchecked" in bench.codes()
    bench.fire("record/array_1")
    bench.status(DAQSTATE="LISTEN")
    assert bench.states()[1] == "PROCESS" and bench.quarantined() == []


def test_an_answer_that_comes_too_late() -> None:
    """The same when the status hashes were asked for in time and read when all was over."""
    bench = Bench()
    bench.subscribe()
    run = bench.machine.run(bench.record())
    bench.fire("start/array_1")
    bench.now = run.ended + 1
    bench.status(DAQSTATE="LISTEN")
    assert bench.quarantined() == [] and "unchecked" in bench.codes()


def test_nobody_starts() -> None:
    """When nobody records there is nothing to search: ERROR, which reset_array ends."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    bench.fire("start/array_1")
    bench.statuses(dict.fromkeys(INSTANCES[:2]))
    assert bench.states() == ("SUBSCRIBED", "ERROR") and not bench.to_do
    assert bench.timers.keys() == {"watch/pool"}
    assert bench.quarantined() == ["blpn64/0", "blpn64/1"]
    bench.cam("tracking")
    assert not bench.to_do
    bench.ask("reset_array", "array_1")
    assert bench.states() == ("SUBSCRIBED", "READY")


def test_record_timeout_from_outside() -> None:
    """``rec-timeout`` ends a recording: early as ``not-tracking`` does, after the dwell as our own timer does."""
    bench = Bench()
    bench.subscribe()
    run = bench.record()
    bench.now += 10
    bench.messages()
    bench.cam("rec-timeout")
    assert bench.messages()[0] == ("bluse://blpn64/0/set", "DWELL=0")
    assert bench.machine.run(run).ended == bench.now
    bench.fire("halt/array_1")
    bench.status()
    for name in INSTANCES[:2]:
        bench.result(name)
    run = bench.record()
    bench.now = bench.machine.run(run).ended + 1
    bench.messages()
    bench.cam("rec-timeout")
    assert bench.messages() == [("rec_result", "rec-timeout:array_1")]
    bench.cam("rec-timeout")  # our own message, heard
    bench.status()
    assert bench.states()[1] == "PROCESS" and bench.messages() == []
    bench.cam("rec-timeout")
    assert bench.states()[1] == "PROCESS"


def test_two_tracks_in_one_second() -> None:
    """Two short recordings never share an observation id, even if the packet index read is an old one."""
    bench = Bench(stop_pause=0)
    bench.subscribe()
    first = bench.record()
    index = str(bench.machine.run(first).pktstart - 32)
    bench.cam("not-tracking")
    bench.fire("halt/array_1")
    bench.status()
    for name in INSTANCES[:2]:
        bench.result(name)
    bench.cam("tracking")
    bench.metadata()
    bench.status(PKTIDX=index)
    second = bench.array().run
    assert bench.states()[1] == "RECORD" and second > first


def test_storm() -> None:
    """A hundred tracks of a second: no timer and no question is left over."""
    bench = Bench()
    bench.subscribe()
    for _ in range(100):
        bench.say(
            TelescopeEvent(word="tracking", array="array_1"), TelescopeEvent(word="not-tracking", array="array_1")
        )
    assert not bench.timers and not bench.to_do and not bench.machine.outstanding
