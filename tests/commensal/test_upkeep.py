"""Instances out of service: drained for maintenance, quarantined for silence, and back again."""

from __future__ import annotations

from typing import Any

import pytest

from socs_bl.commensal import allocation
from socs_bl.commensal.model import ReadStatus, StartProcessing
from tests.commensal.bench import INSTANCES, Bench
from tests.commensal.observatory import Observatory
from tests.commensal.saved import saved_keys
from tests.commensal.test_simulation import CONFIG, build

REST = [
    ("bluse://blpn64/0/set", "DESTIP=0.0.0.0"),
    ("bluse://blpn64/0/set", "DWELL=0"),
    ("bluse://blpn64/0/gateway", "leave=array_1-0"),
]


def test_a_free_instance_is_drained() -> None:
    """It goes out at once, is in nobody's list of free ones, and comes back; a host means all its instances."""
    bench = Bench()
    assert not bench.ask("drain", "blpn64", "new disks")
    assert bench.duties() == {"blpn64/0": "drained", "blpn64/1": "drained", "blpn65/0": "free", "blpn65/1": "free"}
    assert saved_keys(bench.machine)["free_instances"] == ["blpn65/0", "blpn65/1"]
    assert bench.machine.instance("blpn64/1").reason == "new disks"
    assert "drained already" in bench.ask("drain", "blpn64/0")
    bench.restart()
    bench.subscribe(streams=12)
    assert "2 drained" in next(notice.text for notice in bench.notices if notice.code == "short")
    assert [share.instance for share in bench.array().shares] == ["blpn65/0", "blpn65/1"]
    assert not bench.ask("undrain", "blpn64/1")
    assert bench.duties()["blpn64/1"] == "free" and bench.duties()["blpn64/0"] == "drained"
    assert "not drained" in bench.ask("undrain", "blpn64/1")


def test_a_ready_instance_leaves_its_subarray() -> None:
    """It is told to receive nothing and to leave its group; the subarray goes on without it."""
    bench = Bench()
    bench.subscribe()
    bench.messages()
    bench.ask("drain", "blpn64/0")
    assert bench.messages() == REST and bench.duties()["blpn64/0"] == "drained"
    assert [share.instance for share in bench.array().shares] == ["blpn64/1"]
    bench.process()
    assert [ask.instance for ask in bench.wanted(StartProcessing)] == []
    bench.result("blpn64/1")
    assert bench.states() == ("SUBSCRIBED", "READY")


@pytest.mark.parametrize("when", ["before", "between", "at last"])
def test_all_are_drained(when: str) -> None:
    """A subarray that loses all its instances, before or while a recording is prepared, does not record and says why."""
    bench = Bench()
    bench.subscribe()
    if when == "before":
        bench.ask("drain", "blpn64")
    bench.cam("tracking")
    if when == "between":
        bench.ask("drain", "blpn64")
    if when != "before":
        bench.metadata()
    if when == "at last":
        bench.ask("drain", "blpn64")
    if when != "before":
        (read,) = bench.wanted(ReadStatus)
        bench.statuses(dict.fromkeys(read.instances or ("blpn64/0",), {}))
    assert bench.states() == ("SUBSCRIBED", "READY") and "lost all" in bench.notices[-1].text
    assert not bench.to_do and not bench.timers


@pytest.mark.parametrize("deconfigured", [False, True])
def test_a_working_instance_finishes_its_run(deconfigured: bool) -> None:
    """It records and searches to the end, also when the subarray is given up meanwhile, and is drained then."""
    bench = Bench()
    bench.subscribe()
    run = bench.record()
    bench.ask("drain", "blpn64/0")
    bench.restart()
    assert bench.duties()["blpn64/0"] == "recording"
    bench.fire("start/array_1")
    bench.status()
    bench.fire("record/array_1")
    bench.status(DATADIR="/buf0/x")
    if deconfigured:
        bench.cam("deconfigure")
    bench.messages()
    bench.result("blpn64/0", run=run)
    assert bench.messages() == ([] if deconfigured else REST)
    bench.result("blpn64/1", run=run)
    assert bench.duties()["blpn64/0"] == "drained"
    assert bench.duties()["blpn64/1"] == ("free" if deconfigured else "ready")


def test_a_drain_that_is_taken_back() -> None:
    """While it still works, an undrain leaves everything as it is."""
    bench = Bench()
    bench.subscribe()
    bench.process()
    bench.ask("drain", "blpn64/0")
    assert not bench.ask("undrain", "blpn64/0")
    bench.result("blpn64/0")
    assert bench.duties()["blpn64/0"] == "ready"


def test_a_quarantined_instance_is_released_into_maintenance() -> None:
    """A drain of a quarantined instance holds when it is released; one that leaves the configuration is forgotten."""
    bench = Bench()
    bench.ask("quarantine_instance", "blpn64/0", "disk")
    bench.ask("drain", "blpn64/0")
    assert bench.quarantined() == ["blpn64/0"]
    bench.ask("release_instance", "blpn64/0")
    assert bench.duties()["blpn64/0"] == "drained"
    bench.restart(hashpipe_instances=list(INSTANCES[1:]))
    assert "blpn64/0" not in bench.duties() and "drain/blpn64/0" not in bench.machine.cells


# -- silence --------------------------------------------------------------------------------------------------------


def silent(**changes: Any) -> Bench:
    """blpn64/1 had no status when it should have recorded."""
    bench = Bench(watch_interval=10, heartbeat_for=30, **changes)
    bench.subscribe()
    bench.record()
    bench.fire("start/array_1")
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    assert bench.quarantined() == ["blpn64/1"]
    bench.codes()
    return bench


def look(bench: Bench, status: dict[str, str] | None) -> None:
    """The silent instance is looked at once."""
    bench.fire("watch/pool")
    (read,) = [effect for effect in bench.wanted(ReadStatus) if effect.purpose == "watch"]
    bench.to_do = {read.id: read, **{key: item for key, item in bench.to_do.items() if item is not read}}
    bench.statuses(dict.fromkeys(read.instances, status))


def beat(number: int) -> dict[str, str]:
    return {"DAQPULSE": f"Sat Nov 21 04:00:{number:02d} 2026", "PKTIDX": "0", "NETSTAT": "idle"}


def test_it_comes_back_by_its_heartbeat() -> None:
    """Heard of for thirty seconds without a gap it is in the pool again; a gap begins anew; a restart keeps the count."""
    bench = silent()
    look(bench, None)
    for number in (0, 1, 2):
        look(bench, beat(number))
    look(bench, beat(2))  # the hash is there, the recorder that writes it hangs
    for number in (3, 4):
        look(bench, beat(number))
    bench.restart()
    assert bench.quarantined() == ["blpn64/1"]
    look(bench, beat(5))
    assert bench.duties()["blpn64/1"] == "free" and bench.codes()[-1] == "returned"
    assert "watch/pool" not in bench.timers


def test_it_does_not_come_back_for_ever() -> None:
    """One that falls silent again and again stays out until people release it; a good result is a new beginning."""
    bench = silent(heartbeat_returns=1)
    for number in range(4):
        look(bench, beat(number))
    assert bench.duties()["blpn64/1"] == "free"
    bench.cam("deconfigure")
    bench.result(
        "blpn64/0", run=next(key for key in bench.machine.cells if key.startswith("run/")).removeprefix("run/")
    )
    bench.subscribe("array_2")
    bench.record("array_2")
    bench.fire("start/array_2")
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    assert "people must look" in bench.machine.instance("blpn64/1").reason and "watch/pool" not in bench.timers
    bench.ask("release_instance", "blpn64/1")
    assert "silence/blpn64/1" not in bench.machine.cells


def test_bad_codes_have_no_heartbeat() -> None:
    """Who was quarantined for another reason, or by hand, is not watched."""
    bench = Bench()
    bench.subscribe()
    bench.process()
    bench.result("blpn64/0", code=2)
    bench.ask("quarantine_instance", "blpn65/0")
    assert "watch/pool" not in bench.timers
    assert "watch/pool" not in silent(release_on_heartbeat=False).timers


def test_bad_codes_after_a_silence() -> None:
    """One that came back by itself and then returns a bad code stays out: that is no silence."""
    bench = silent()
    for number in range(4):
        look(bench, beat(number))
    bench.cam("deconfigure")
    bench.result(
        "blpn64/0", run=next(key for key in bench.machine.cells if key.startswith("run/")).removeprefix("run/")
    )
    bench.subscribe("array_2")
    bench.process("array_2")
    bench.result("blpn64/1", code=2, array="array_2")
    assert bench.quarantined() == ["blpn64/1"] and "watch/pool" not in bench.timers


def test_one_that_returned_nothing_must_have_been_down() -> None:
    """Its recorder may have been well all the time; once the node has been down, its coming back counts."""
    bench = Bench()
    bench.subscribe()
    bench.fire(f"process/{bench.process()}")
    for number in range(6):
        look(bench, beat(number))
    assert bench.quarantined() == ["blpn64/0", "blpn64/1"]
    look(bench, None)
    for number in range(4):
        look(bench, beat(number))
    assert bench.quarantined() == []


@pytest.mark.parametrize(("code", "released"), [(0, True), (1, True), (2, False)])
def test_a_late_result(code: int, released: bool) -> None:
    """The result that comes after all settles the data, and if it is good releases the instance; not another's."""
    bench = Bench()
    bench.subscribe()
    run = bench.process()
    datadir = bench.machine.run(run).datadirs["blpn64/1"]
    bench.result("blpn64/0")
    bench.fire(f"process/{run}")
    bench.new_writes()
    bench.result("blpn64/1", run="MeerKAT:array_1:20200101T000000Z")
    assert bench.quarantined() == ["blpn64/1"] and not bench.new_writes()
    bench.result("blpn64/1", run=run, code=code)
    assert ("LREM", "blpn64/1:unprocessed", "0", datadir) in bench.new_writes()
    assert bench.quarantined() == ([] if released else ["blpn64/1"])


def test_a_node_that_was_down_records_again() -> None:
    """Simulated: dead at the first recording, back at the second; nobody has to do anything."""
    simulation = build(0)
    world = simulation.world
    assert isinstance(world, Observatory) and CONFIG["hashpipe_instances"][1] == "blpn64/1"
    world.dead.add("blpn64/1")
    simulation.call(20.0, world.dead.clear)
    simulation.run(200.0)
    assert [notice.code for notice in world.notices].count("returned") == 1
    assert simulation.machine.instance("blpn64/1").duty.value == "free" and world.wrongs == []


def test_shortage_counts_the_drained() -> None:
    """The explanation of a short allocation says how many are out of service, if any."""
    plan = allocation.plan(allocation.Streams("239.1.1.0", 8, 1), ("a1/0",), 4, 1)
    assert "1 quarantined, 2 drained" in allocation.shortage(plan, 4, {}, 1, 2)
    assert "drained" not in allocation.shortage(plan, 4, {}, 1)
