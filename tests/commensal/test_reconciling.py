"""After a restart: what was known is held against what instances and CAM say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from socs_bl.commensal.model import ReadMetadata, ReadStatus, StartProcessing
from tests.commensal.bench import Bench, sensors

Statuses = dict[str, Mapping[str, str] | None]


def shown(bench: Bench, array: str = "array_1", **changes: str) -> Statuses:
    """Status hashes that show what the instances were told; all others at rest."""
    idle: Statuses = {name: {"DESTIP": "0.0.0.0", "DAQSTATE": "LISTEN"} for name in bench.config["hashpipe_instances"]}
    told = {
        share.instance: {
            "SUBARRAY": array,
            "DESTIP": share.destip,
            "SCHAN": str(share.first_channel),
            "FENCHAN": "128",
            "DAQSTATE": "RECORD",
            **changes,
        }
        for share in bench.array(array).shares
    }
    return {**idle, **told}


def test_a_world_that_agrees_changes_nothing() -> None:
    """In every state: nothing is told twice, nobody is asked anything."""
    for prepare in (Bench.subscribe, Bench.record, Bench.process):
        bench = Bench()
        bench.subscribe()
        if prepare is not Bench.subscribe:
            prepare(bench)
        bench.new_writes()
        asked, timers = set(bench.machine.outstanding), set(bench.machine.timers)
        cam = {"array_1": {"last_config": "0", "last_track_end": "1799999999", "last_target": "1800000000"}}
        bench.restart(world={"statuses": shown(bench), "cam": cam})
        assert not [command for command in bench.new_writes() if command[0] == "PUBLISH"]
        assert set(bench.machine.outstanding) == asked
        assert set(bench.machine.timers) == timers


def test_a_ready_instance_that_forgot_is_told_again() -> None:
    """It is read once more after the pause, and told what it was told, no more: not the keys at rest."""
    bench = Bench()
    bench.subscribe()
    bench.messages()
    world = shown(bench)
    world["blpn64/1"] = {"DESTIP": "0.0.0.0"}
    bench.restart(world={"statuses": world})
    assert not bench.messages()
    bench.fire("confirm/array_1")
    bench.statuses({**{name: status for name, status in shown(bench).items() if "64" in name}, "blpn64/1": {}})
    told = bench.messages()
    assert ("bluse://blpn64/1/gateway", "join=array_1-1") in told
    assert not [text for channel, text in told if "blpn64/0" in channel or text.startswith(("DWELL", "PKTSTART"))]


def test_an_instance_that_did_not_start_while_we_were_down() -> None:
    """The check after the start was over or missed: who does not record is read again, then quarantined."""
    bench = Bench(dwell=200)
    bench.subscribe()
    bench.record()
    bench.fire("start/array_1")
    bench.status()
    world = shown(bench)
    world["blpn64/1"] = {**(world["blpn64/1"] or {}), "DAQSTATE": "LISTEN"}
    bench.restart(world={"statuses": world})
    (read,) = bench.wanted(ReadStatus)
    assert read.purpose == "started"
    bench.statuses({"blpn64/0": {}, "blpn64/1": {"DAQSTATE": "LISTEN"}})
    assert bench.quarantined() == ["blpn64/1"] and bench.states()[1] == "RECORD"


def test_before_the_check_nobody_is_suspected() -> None:
    """PKTSTART may still lie ahead: the check after the start comes by itself."""
    bench = Bench(dwell=200)
    bench.subscribe()
    bench.record()
    bench.restart(world={"statuses": shown(bench, DAQSTATE="LISTEN")})
    assert not bench.wanted(ReadStatus) and "start/array_1" in bench.timers


def test_near_the_end_nobody_is_suspected() -> None:
    """DAQs stop at the end of a block, before the planned end: that is no failure."""
    bench = Bench(dwell=200)
    bench.subscribe()
    run = bench.record()
    bench.fire("start/array_1")
    bench.status()
    bench.now = bench.machine.run(run).ended - 5
    bench.restart(world={"statuses": shown(bench, DAQSTATE="LISTEN")})
    assert not bench.wanted(ReadStatus)


def test_a_free_instance_that_listens_is_told_to_rest() -> None:
    """Whoever holds nothing and receives is told to receive nothing, and people are told."""
    bench = Bench()
    bench.messages()
    world = shown(bench)
    world["blpn65/0"] = {"DESTIP": "239.192.1.0+3"}
    bench.restart(world={"statuses": world})
    assert bench.messages() == [("bluse://blpn65/0/set", "DESTIP=0.0.0.0"), ("bluse://blpn65/0/set", "DWELL=0")]
    assert "blpn65/0" in next(notice.text for notice in bench.notices if notice.code == "rested")


def cam(last_config: float = 0, last_track_end: float = 0, last_target: float = 0) -> dict[str, Any]:
    keys = {"last_config": last_config, "last_track_end": last_track_end, "last_target": last_target}
    return {"cam": {"array_1": {name: str(value) for name, value in keys.items()}}}


def test_a_track_that_ended_unheard() -> None:
    """CAM's key says that the track ended after PKTSTART: the recording is stopped as by ``not-tracking``."""
    bench = Bench(dwell=200)
    bench.subscribe()
    run = bench.record()
    ended = bench.machine.run(run).started + 50
    bench.now = ended + 20
    bench.restart(world=cam(last_track_end=ended))
    assert "halt/array_1" in bench.timers and not bench.array().tracking and "missed" in bench.codes()
    bench.fire("halt/array_1")
    bench.status()
    assert bench.wanted(StartProcessing)


def test_a_track_that_goes_on() -> None:
    """A track that ended before the recording began is another one."""
    bench = Bench(dwell=200)
    bench.subscribe()
    run = bench.record()
    bench.restart(world=cam(last_track_end=bench.machine.run(run).started - 30))
    assert bench.array().tracking and "halt/array_1" not in bench.timers


@pytest.mark.parametrize("state", ["FREE", "CONFIGURING", "SUBSCRIBED"])
def test_configured_unheard(state: str) -> None:
    """A newer configuration: a waiting subarray is subscribed, an older one given up first, for a free one people
    decide."""
    bench = Bench()
    if state == "SUBSCRIBED":
        bench.cam("configure")
        bench.cam("conf_complete")
        bench.metadata(sensors(last_config="1800000000"))
        bench.fire("announce/array_1")
        bench.cancel_confirm("array_1")
        bench.restart(world=cam(last_config=1_800_000_000))
        assert bench.states()[0] == "SUBSCRIBED" and "missed" not in bench.codes()
    elif state == "CONFIGURING":
        bench.cam("configure")
    bench.codes()
    bench.restart(world=cam(last_config=1_800_000_900))
    assert "missed" in bench.codes()
    if state == "FREE":
        assert bench.states()[0] == "FREE" and not bench.wanted(ReadMetadata)
    else:
        assert bench.states()[0] == "CONFIGURING"
        bench.metadata(sensors(4, last_config="1800000900"))
        assert bench.states()[0] == "SUBSCRIBED" and len(bench.array().shares) == 1
    bench.codes()
    bench.restart(world=cam(last_config=1_800_000_900))
    assert "missed" not in bench.codes(), "it is told once"


def test_an_operator_asks() -> None:
    """The same, asked for while running; what differs is told to who asks."""
    bench = Bench()
    bench.subscribe()
    world = shown(bench)
    world["blpn64/1"] = None
    (difference,) = bench.machine.differences(world)
    assert (difference.instance, difference.found, difference.remedy) == ("blpn64/1", "no status", "tell")
    assert not bench.ask("reconcile", statuses=world)
    assert "confirm/array_1" in bench.timers
    assert bench.replayed().cells == bench.machine.cells
