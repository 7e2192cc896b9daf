"""The listener on a virtual clock: crashes at every point, and everything going wrong at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.correlator.observation.machine import ObservationMachine
from socs_bl.correlator.observation.model import Notify, ObservationHeard
from tests.correlator.observation.bench import CODEC, NODES, Nodes, finish, observation, window, world
from tests.harness.simulation import ALL_FAULTS, NO_FAULTS, Failed, Faults, Scenario, Simulation


class Backend(Nodes):
    """Nodes of which one is away for a while."""

    def perform(self, effect: Effect, now: float) -> list[tuple[float, Event]] | None:
        """Orders reach the nodes; people are told."""
        self.away = {"cbe-02"} if 15.0 < now < 55.0 else set()
        if not isinstance(effect, Notify) and not self.take(effect):
            raise Failed("no answer")
        return []

    def write(self, command: tuple[str, ...], now: float) -> list[tuple[float, Event]]:
        """Nothing rides in the commits."""
        return []

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """The configuration."""
        return world(give_up=1e6)


def build(seed: int, faults: Faults = NO_FAULTS) -> Simulation[ObservationMachine]:
    """Two datasets, each document said a second before its start, some twice."""
    simulation = Simulation(ObservationMachine, CODEC, Backend(), seed, faults)
    for start, scan in ((10, 1), (20, 2), (30, 3), (45, 4)):
        for after in (0.0, 0.3):
            heard = ObservationHeard(observation=observation(start, scan, dataset="a"))
            simulation.say(start - 1.0 + after, heard, droppable=False)
    simulation.say(24.0, ObservationHeard(observation=observation(25, dataset="b")), droppable=False)
    for name in ("a", "b"):
        simulation.say(59.0, ObservationHeard(observation=finish(60, name)), droppable=False)
    return simulation


def all_told(simulation: Simulation[Any]) -> None:
    """Every scan is closed and every node knows of it; no order is left."""
    machine = simulation.machine
    assert not machine.recordings() and not machine.outstanding and not machine.timers
    assert machine.ledger.opened == machine.ledger.closed and machine.ledger.lost == 0
    assert simulation.world.scans.keys() == simulation.world.stops.keys()


def as_meant(simulation: Simulation[Any]) -> None:
    """Besides, the windows are those of the schedule."""
    all_told(simulation)
    for node in NODES:
        assert simulation.world.windows(node) == [
            window(10, 20, "a"), window(20, 30, "a"), window(30, 45, "a"), window(45, 60, "a"), window(25, 60, "b"),
        ]  # fmt: skip


def faulty(seed: int) -> Simulation[ObservationMachine]:
    """The same with everything going wrong."""
    return build(seed, ALL_FAULTS)


NIGHT = Scenario(build, 400.0, as_meant, "tests.correlator.observation.test_simulated:NIGHT")
# Clocks that step by hours make the wait for the end of a scan as much longer.
STORM = Scenario(faulty, 20 * 86400.0, all_told, "tests.correlator.observation.test_simulated:STORM")


def test_a_crash_anywhere_moves_no_boundary() -> None:
    """Killed before or after any commit or order, the nodes are told the same windows, each with its end."""
    assert NIGHT.crash_everywhere(seed=1) > 60


@pytest.mark.parametrize("seed", range(15))
def test_nothing_stays_open_in_a_storm(seed: int) -> None:
    """Lost answers, slow nodes, crashes, stepping clocks: every scan that was opened is closed everywhere."""
    STORM.run(seed)
