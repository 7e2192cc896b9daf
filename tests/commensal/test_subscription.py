"""Subscription: who gets which streams, what instances are told, and when they are given back."""

from __future__ import annotations

import pytest

from socs_bl.commensal.model import MetadataRead, ReadMetadata, ReadStatus, StartProcessing, StatusRead
from socs_bl.core.event import EffectDone
from tests.commensal.bench import INSTANCES, Bench, sensors


def test_short_pool() -> None:
    """Fewer instances than needed: the subarray goes on with those there are, and people are told how many."""
    bench = Bench()
    bench.subscribe(streams=24)
    assert bench.states() == ("SUBSCRIBED", "READY")
    assert [share.streams for share in bench.array().shares] == [4, 4, 4, 4]
    (short,) = [notice for notice in bench.notices if notice.code == "short"]
    assert "4 of 6" in short.text and "8 streams" in short.text


def test_nothing_free() -> None:
    """With no instance free the subarray is FREE again, and people are told who has them."""
    bench = Bench()
    bench.subscribe(streams=16)
    bench.cam("configure", "array_2")
    bench.cam("conf_complete", "array_2")
    bench.codes()
    bench.metadata()
    assert bench.states("array_2") == ("FREE", "READY")
    assert "4 held by array_1" in bench.notices[0].text and bench.codes() == ["nothing-free"]


def test_metadata_missing_at_subscribe() -> None:
    """A missing sensor leaves the subarray CONFIGURING, names the sensor, and the next conf_complete tries again."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.metadata({**sensors(), "hntime": ""})
    assert bench.states()[0] == "CONFIGURING" and "hntime" in bench.notices[-1].text
    bench.cam("conf_complete")
    bench.metadata()
    assert bench.states()[0] == "SUBSCRIBED"


def test_conf_complete_without_configure_and_second_configure() -> None:
    """Both are ignored: the first has nothing to configure, the second has instances already."""
    bench = Bench()
    bench.cam("conf_complete")
    assert not bench.to_do and bench.states()[0] == "FREE"
    bench.subscribe()
    bench.cam("configure")
    assert bench.states()[0] == "SUBSCRIBED"


def test_deconfigure_while_configuring() -> None:
    """The answer to a question of a subarray that has gone meanwhile claims nothing."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    (read,) = bench.wanted(ReadMetadata)
    bench.cam("deconfigure")
    assert not bench.to_do
    bench.cam("configure")
    bench.say(MetadataRead(array="array_1", purpose="subscribe", prefix="wide", values=sensors()))
    bench.say(EffectDone(effect=read.id))
    assert bench.states()[0] == "CONFIGURING" and set(bench.duties().values()) == {"free"}


def test_deaf_instances_are_told_again() -> None:
    """An instance that does not show what it was told is told again, without the keys at rest, three times."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.metadata()
    bench.fire("announce/array_1")
    for _ in range(3):
        bench.fire("confirm/array_1")
        bench.messages()
        bench.statuses(
            {
                "blpn64/0": {"SUBARRAY": "array_1", "DESTIP": "239.192.1.0+3", "SCHAN": "0", "FENCHAN": "128"},
                "blpn64/1": {"SUBARRAY": "array_1", "DESTIP": "0.0.0.0", "SCHAN": "64", "FENCHAN": "128"},
            }
        )
        told = bench.messages()
        assert told[0] == ("bluse://blpn64/1/gateway", "join=array_1-1")
        assert ("bluse://blpn64/1/set", "DESTIP=239.192.1.4+3") in told
        assert {channel for channel, _ in told} == {"bluse://blpn64/1/gateway", "bluse://blpn64/1/set"}
        assert not any(text.startswith(("DWELL", "PKTSTART")) for _, text in told)
    bench.fire("confirm/array_1")
    bench.codes()
    bench.status()
    assert bench.codes() == ["unconfirmed"] and bench.messages() == []


def test_deconfigure_while_ready() -> None:
    """All instances are free again at once."""
    bench = Bench()
    bench.subscribe()
    bench.cam("deconfigure")
    assert bench.states() == ("FREE", "READY") and set(bench.duties().values()) == {"free"}


def test_deconfigure_while_recording() -> None:
    """The recording is closed and searched; its instances are free when they have returned, not before."""
    bench = Bench()
    bench.subscribe()
    run = bench.record()
    bench.now += 8
    bench.new_writes()
    bench.cam("deconfigure")
    assert bench.states() == ("FREE", "READY")
    assert bench.duties()["blpn64/0"] == bench.duties()["blpn64/1"] == "processing"
    writes = bench.new_writes()
    assert [("SET", f"{name}:last-datadir", "unknown") in writes for name in INSTANCES[:2]] == [True, True]
    assert [command[2] for command in writes if command[1] == "bluse://blpn64/0/set" and command[0] == "PUBLISH"] == [
        "DWELL=0",
        "PKTSTART=0",
        "DESTIP=0.0.0.0",
        "DWELL=0",
    ]
    assert not bench.wanted(ReadStatus) and set(bench.timers) == {f"process/{run}"}
    assert {ask.instance for ask in bench.wanted(StartProcessing)} == {"blpn64/0", "blpn64/1"}
    bench.subscribe("array_2")
    assert [share.instance for share in bench.array("array_2").shares] == ["blpn65/0", "blpn65/1"]
    bench.result("blpn64/0", run=run)
    bench.result("blpn64/1", run=run)
    assert bench.duties()["blpn64/0"] == bench.duties()["blpn64/1"] == "free"
    assert bench.machine.ledger().completed == 1 and not bench.timers.keys() & {f"process/{run}"}


@pytest.mark.parametrize("timer", ["halt", "record"])
def test_deconfigure_while_stopping(timer: str) -> None:
    """Also between the stop and the last look at the DAQs nothing is left behind."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    if timer == "halt":
        bench.cam("not-tracking")
    else:
        bench.fire("record/array_1")
    bench.cam("deconfigure")
    assert bench.states() == ("FREE", "READY") and not bench.wanted(ReadStatus)
    assert [name for name in bench.timers if not name.startswith("process/")] == []


def test_deconfigure_while_processing_and_again() -> None:
    """The same subarray comes back while its old run is searched: other instances, and the old run ends by itself."""
    bench = Bench()
    bench.subscribe()
    old = bench.process()
    bench.cam("deconfigure")
    bench.subscribe()
    assert [share.instance for share in bench.array().shares] == ["blpn65/0", "blpn65/1"]
    new = bench.process()
    assert new != old
    for name in INSTANCES[:2]:
        bench.result(name, run=old)
    assert bench.states() == ("SUBSCRIBED", "PROCESS") and bench.array().run == new
    assert bench.duties()["blpn64/0"] == "free"
    for name in INSTANCES[2:]:
        bench.result(name)
    assert bench.states() == ("SUBSCRIBED", "READY") and bench.machine.ledger().completed == 2


def test_second_subarray_while_first_processes() -> None:
    """Two subarrays never share an instance, and results of one do not end the search of the other."""
    bench = Bench()
    bench.subscribe()
    first = bench.process()
    bench.subscribe("array_2")
    second = bench.process("array_2")
    assert bench.duties() == dict.fromkeys(INSTANCES, "processing")
    bench.result("blpn65/0", run=first)
    bench.result("blpn64/0", run=second)
    assert bench.duties() == dict.fromkeys(INSTANCES, "processing")
    for name in INSTANCES[:2]:
        bench.result(name, run=first)
    assert bench.states() == ("SUBSCRIBED", "READY") and bench.states("array_2") == ("SUBSCRIBED", "PROCESS")


def test_an_instance_that_listens_elsewhere() -> None:
    """It is told to leave first, nothing is recorded meanwhile, and when it does not leave it is quarantined."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.metadata()
    bench.fire("announce/array_1")
    bench.cam("tracking")
    bench.metadata()
    (read,) = bench.wanted(ReadStatus)
    stray = {"PKTIDX": "1600", "NETSTAT": "receiving", "DESTIP": "239.1.1.0+3"}
    statuses = {name: dict(stray) for name in read.instances}
    bench.answer(read, StatusRead(array="array_1", purpose="record", run="", statuses=statuses))
    assert bench.states()[1] == "READY" and "target/array_1" in bench.timers
    for _ in range(4):
        bench.messages()
        bench.fire("confirm/array_1")
        (read,) = bench.wanted(ReadStatus)
        bench.answer(read, StatusRead(array="array_1", purpose="confirm", run="", statuses=statuses))
        told = bench.messages()
        assert ("bluse://blpn64/0/set", "DESTIP=0.0.0.0") in told
        assert not any("SCHAN" in text for _, text in told)
    assert bench.quarantined() == ["blpn64/0", "blpn64/1"]
