"""A node on a virtual clock: configurations, recordings, broken processes; crashes at every point of the journal."""

from __future__ import annotations

from typing import Any

import pytest

from socs_bl.core.codec import Codec
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import (
    ActivateAsked,
    CreateAsked,
    DestroyAsked,
    FlowAsked,
    Phase,
    SourceAsked,
    StopAsked,
)
from tests.correlator.plant import DUMP, RECORDED, Plant, pipes, record_asked, wall_ns
from tests.harness.simulation import EPOCH, NO_FAULTS, Faults, Scenario, Simulation

CODEC = Codec(NodeMachine)
UNTIL = 260.0
STORMY = Faults(slow=0.02, silent=0.02, commit_lost=0.05, crash=0.003)
UIDS = list(RECORDED)
# What a crash or a killed ingest process costs: two seconds of nobody, then processes that start.
OUTAGE = 3.0 + 2 * DUMP


def build(seed: int, faults: Faults = NO_FAULTS) -> Simulation[NodeMachine]:
    """A, then B in the middle of a scan, then C, and back to A made anew; a pipeline and the ingest process are killed."""
    plant = Plant()
    simulation = Simulation(NodeMachine, CODEC, plant, seed, faults)
    plant.simulation = simulation
    simulation.call(DUMP, lambda: plant.tick(DUMP))
    said = (
        (1.0, SourceAsked(uri="udp://239.192.50.1:5000")),
        (1.1, CreateAsked(name="a", document="<a/>", pipes=pipes("P0", "P1"), autodestroy=True)),
        (1.1, CreateAsked(name="c0", document="<config/>", pipes=())),
        (1.2, ActivateAsked(name="c0")),
        (1.3, ActivateAsked(name="a")),
        (6.0, FlowAsked(on=True)),
        (9.0, record_asked(1, 10.0, 20.0)),
        (24.0, record_asked(2, 25.0, 45.0)),
        (30.0, CreateAsked(name="b", document="<b/>", pipes=pipes("P0"), autodestroy=True)),
        (30.1, ActivateAsked(name="b")),
        (49.0, record_asked(3, 50.0)),
        (52.0, CreateAsked(name="c", document="<c/>", pipes=pipes("P0"))),
        (52.1, ActivateAsked(name="c")),
        (70.0, StopAsked(uid=UIDS[2], stop_ns=wall_ns(75.0))),
        (80.0, DestroyAsked(name="c")),
        (85.0, CreateAsked(name="a2", document="<a/>", pipes=pipes("P0", "P1"))),
        (85.1, ActivateAsked(name="a2")),
        (128.0, record_asked(4, 130.0, 140.0)),
        (200.0, SourceAsked(uri="")),
    )
    for at, event in said:
        simulation.say(at, event, droppable=False)
    simulation.call(36.0, lambda: plant.kill_pipe("b", "P0"))
    simulation.call(56.0, plant.kill_ingest)
    simulation.call(95.0, lambda: setattr(plant, "sending", False))  # the boards are off: the last scan gets nothing
    return simulation


def at_rest(simulation: Simulation[Any]) -> None:
    """Nothing waits; the source is gone and with it all configurations; each recording is over and has its marker."""
    machine, plant = simulation.machine, simulation.world
    assert plant.wrongs == []
    assert not machine.outstanding and not machine.timers, (machine.outstanding, machine.timers)
    assert [held.name for held in machine.all_held()] in ([], ["c0"])  # c0 is made anew by a start that is later
    assert not machine.source.on and not machine.ingest.active and not machine.ingest.queue
    assert plant.markers.keys() == set(UIDS)
    assert all(recording.closed and recording.marked for recording in machine.all_recordings())
    for uid, written in plant.written.items():
        times = [at for _, _, at in written]
        start, stop = RECORDED[uid]
        assert all(wall_ns(at) >= start for at in times)
        assert all(not stop or wall_ns(at + DUMP) <= stop for at in times)
        for name, _, at in written:
            assert plant.in_force[at] == name, f"{uid}: {at} belongs to {plant.in_force[at]}, written by {name}"


def as_planned(simulation: Simulation[Any]) -> None:
    """Besides: all became active in the order asked, and what was recorded is whole but for the time of outages."""
    at_rest(simulation)
    plant = simulation.world
    # An activation that nobody had heard of when the agent was killed takes place again.
    lasts = sorted(set(plant.activations), key=lambda name: plant.activations[::-1].index(name), reverse=True)
    assert lasts == ["c0", "a", "b", "c", "a2"], plant.activations
    crash = OUTAGE * simulation.crashes
    assert recorded(plant, 0, "P0") >= (10.0 - crash) / DUMP
    assert recorded(plant, 0, "P1") >= (10.0 - crash) / DUMP
    assert recorded(plant, 1, "P0") >= (20.0 - crash - OUTAGE) / DUMP  # the pipeline of b was killed
    assert recorded(plant, 2, "P0") >= (25.0 - crash - OUTAGE) / DUMP  # the ingest process was killed
    assert recorded(plant, 3, "P0") == 0
    assert not any(effect.aborted for effects in plant.markers.values() for effect in effects)


def recorded(plant: Plant, number: int, pipe: str) -> int:
    """Dumps that the pipelines of this name have written of a recording."""
    return len({at for _, written, at in plant.written.get(UIDS[number], []) if written == pipe})


CYCLE = Scenario(build, UNTIL, as_planned, f"{__name__}:CYCLE")
STORM = Scenario(lambda seed: build(seed, STORMY), 2000.0, at_rest, f"{__name__}:STORM")


def test_without_crashes() -> None:
    """Direct switches, a scan over a switch, killed processes, a scan without frames: all as asked, markers once."""
    simulation = CYCLE.run(0)
    plant = simulation.world
    assert {len(effects) for effects in plant.markers.values()} == {1}
    counts = [plant.markers[uid][0].integrations for uid in UIDS]
    assert counts[0] == 20 and counts[3] == 0
    assert abs(EPOCH - 1.8e9) < 1 and all(held.phase is not Phase.DESTROYING for held in simulation.machine.all_held())


def test_a_crash_anywhere_costs_only_its_time() -> None:
    """Fault 23 and kill -9 of the agent: wherever it is killed, all is as asked afterwards."""
    count = CYCLE.crash_points(0)
    assert count > 150
    for number in range(0, count, 2):
        CYCLE.run(0, number)


@pytest.mark.parametrize("seed", range(8))
def test_a_storm_comes_to_rest(seed: int) -> None:
    """Slow and silent processes, lost commits and crashes: invariants hold and everything comes to its end."""
    STORM.run(seed)
