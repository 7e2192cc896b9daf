"""The whole commensal subsystem on a virtual clock: two subarrays, two cycles each, with and without faults."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from typing import Any

import pytest

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.model import Duty, FreeSub, RecProc, Requested, TelescopeEvent
from tests.commensal.bench import CODEC, CONFIG, INSTANCES
from tests.commensal.observatory import Observatory
from tests.commensal.saved import keys_written, saved_keys
from tests.harness.simulation import ALL_FAULTS, NO_FAULTS, Faults, Scenario, Simulation

SCHEDULE = (
    (1.0, "configure", "array_1"),
    (2.0, "conf_complete", "array_1"),
    (8.0, "tracking", "array_1"),
    (10.0, "configure", "array_2"),
    (11.0, "conf_complete", "array_2"),
    (17.0, "tracking", "array_2"),
    (45.0, "not-tracking", "array_1"),
    (60.0, "not-tracking", "array_2"),
    (62.0, "tracking", "array_1"),
    (68.0, "tracking", "array_2"),
    (76.0, "not-tracking", "array_1"),
    (82.0, "deconfigure", "array_2"),
    (110.0, "deconfigure", "array_1"),
)
GIVEN_UP = ((130.0, "deconfigure", "array_1"), (130.0, "deconfigure", "array_2"))
UNTIL = 260.0
MESSY = Faults(lost=0.05, repeated=0.1, jitter=2.0, slow=0.1, silent=0.05, commit_lost=0.05, crash=0.005)


def build(seed: int, faults: Faults = NO_FAULTS, kept: bool = True) -> Simulation[Any]:
    """The schedule; its messages may be lost unless they are `kept`, those that give the subarrays up never are."""
    world = Observatory({**CONFIG, "processing_deadline": 60, "calibration": {"enabled": True, "delay": 10}})
    simulation = Simulation(CommensalMachine, CODEC, world, seed, faults)
    world.simulation = simulation
    for at, word, array in SCHEDULE:
        simulation.say(at, TelescopeEvent(word=word, array=array), droppable=not kept)
    if not kept:  # some nodes are broken, and people put back what has been taken out of use
        for at, name in itertools.product((50.0, 65.0, 90.0), INSTANCES):
            simulation.say(at, Requested(what="release_instance", name=name))
        world.refuses.update(INSTANCES[seed % 3 : seed % 3 + 1])
        world.dead.update(INSTANCES[2 + seed % 4 :][:1])
        simulation.call(70.0 + seed % 30, world.dead.clear)  # it comes back, and is heard of
        drained = INSTANCES[seed % len(INSTANCES)]
        simulation.say(20.0 + 3 * (seed % 10), Requested(what="drain", name=drained), droppable=False)
        simulation.say(150.0, Requested(what="undrain", name=drained), droppable=False)
    for at, word, array in GIVEN_UP:
        simulation.say(at, TelescopeEvent(word=word, array=array), droppable=False)
    return simulation


def at_rest(simulation: Simulation[Any]) -> None:
    """Nothing waits, no subarray holds anything, the saved keys say so, and nothing wrong was done."""
    machine = simulation.machine
    assert simulation.world.wrongs == []
    assert not [item for item in machine.outstanding.values() if getattr(item.effect, "purpose", "") != "watch"]
    assert machine.timers.keys() <= {"watch/pool"}
    assert keys_written(simulation.vault.writes) == saved_keys(machine)
    assert {cell.duty for cell in machine.instances()} <= {Duty.FREE, Duty.QUARANTINED}
    for name in machine.config.arrays:
        array = machine.array(name)
        assert (array.freesub, array.shares, array.run) == (FreeSub.FREE, (), "")
        assert array.recproc in (RecProc.READY, RecProc.ERROR)


def completed(simulation: Simulation[Any]) -> None:
    """At rest, everybody in service, and all four recordings recorded and searched in full."""
    at_rest(simulation)
    machine, world = simulation.machine, simulation.world
    assert {cell.duty for cell in machine.instances()} == {Duty.FREE}
    assert machine.ledger().completed == 4
    assert set(world.calibrated) == {"array_1", "array_2"}
    assert not any(daq.groups for daq in world.daqs.values())
    durations = defaultdict(list)
    for (name, run), seconds in world.searched.items():
        durations[name, run.split(":")[1]].append(round(seconds))
    assert set(durations) == {(name, "array_1") for name in INSTANCES[:2]} | {
        (name, "array_2") for name in INSTANCES[2:]
    }
    for first, second in durations.values():
        assert first == 20 and 9 <= second <= 14  # stopped early; a message kept for a restart comes 2 s late


def messages(simulation: Simulation[Any]) -> dict[str, list[tuple[str, str]]]:
    """Gateway messages in order, by subarray, without what depends on the second of PKTSTART."""
    ordered = defaultdict(list)
    for channel, payload in simulation.world.gateway:
        array = "array_1" if "array_1" in channel or "blpn64" in channel else "array_2"
        payload = re.sub(r"\d{8}T\d{6}Z", "TIME", payload)
        ordered[array].append((channel, re.sub(r"PKTSTART=[1-9]\d+", "PKTSTART=N", payload)))
    return dict(ordered)


CYCLES = Scenario(build, UNTIL, completed, f"{__name__}:CYCLES")
STORMY = Scenario(lambda seed: build(seed, MESSY, kept=False), UNTIL, at_rest, f"{__name__}:STORMY")
WORST = Scenario(lambda seed: build(seed, ALL_FAULTS, kept=False), UNTIL, at_rest, f"{__name__}:WORST")


def test_without_faults() -> None:
    """Two subarrays, two cycles each: all recorded, searched, counted, and everything given back."""
    simulation = CYCLES.run(0)
    assert simulation.crashes == 0
    codes = [notice.code for notice in simulation.world.notices]
    assert codes.count("recording") == codes.count("processed") == 4
    assert not {"short", "silent", "quarantined", "retold", "not-recorded"} & set(codes)


def test_a_crash_anywhere_changes_nothing() -> None:
    """Wherever the coordinator is killed, the cycle ends the same and the gateways hear the same in the same order."""
    expected = messages(CYCLES.run(0))
    count = CYCLES.crash_points(0)
    assert count > 100
    for number in range(count):
        crashed = CYCLES.run(0, number)
        assert crashed.crashes == 1
        assert messages(crashed) == expected, f"crash point {number}: {crashed.points[number]}"


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_faults_leave_nothing_stuck(first: int) -> None:
    """With messages lost, repeated and reordered, slow and silent effects and crashes, everything comes to rest."""
    for seed in range(first, first + 10):
        STORMY.run(seed)


def test_all_faults_at_once() -> None:
    """The same with a wall clock that steps by hours."""
    for seed in range(10):
        WORST.run(seed)


def test_released_instance_hears_its_new_subarray_only() -> None:
    """An instance that was quarantined in one subarray and released hears nobody but the next that claims it."""
    simulation = build(0)
    world = simulation.world
    world.refuses.add("blpn64/1")
    simulation.call(64.0, world.refuses.clear)
    simulation.say(65.0, Requested(what="release_instance", name="blpn64/1"))
    simulation.say(66.0, TelescopeEvent(word="configure", array="array_3"))
    simulation.say(67.0, TelescopeEvent(word="conf_complete", array="array_3"))
    simulation.run(75.0)
    quarantined = [notice.text for notice in world.notices if notice.code == "quarantined"]
    assert len(quarantined) == 1 and "blpn64/1" in quarantined[0]
    assert [share.instance for share in simulation.machine.array("array_3").shares] == ["blpn64/1"]
    assert world.daqs["blpn64/1"].groups == {"array_3-1"}
    assert world.wrongs == []
