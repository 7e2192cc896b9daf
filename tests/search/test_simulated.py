"""The analyzer's machine on a virtual clock: crashes at every point, and everything going wrong at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from socs_bl.core.codec import Codec
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.search.machine import AnalyzerMachine
from socs_bl.search.model import (
    DeleteRaw,
    DeletionEnded,
    DiskShort,
    Outcome,
    ProcessRequested,
    Recorded,
    RegisterProducts,
    RunSearch,
    SearchEnded,
    Stage,
)
from tests.harness.simulation import ALL_FAULTS, NO_FAULTS, Failed, Faults, Scenario, Simulation

CODEC = Codec(AnalyzerMachine)
RUNS = {"good": Outcome.SEARCHED, "empty": Outcome.MISSING, "deadly": Outcome.KILLED, "kept": Outcome.SEARCHED}


class Host:
    """Disks with one recording a run, and searches that take a minute."""

    def __init__(self, keep_raw: bool = False) -> None:
        self.keep_raw = keep_raw
        self.raw = {name for name, outcome in RUNS.items() if outcome is not Outcome.MISSING}
        self.catalogued: set[str] = set()
        self.refusals = 2
        self.refused_deletions = 2
        self.returns: list[str] = []
        self.results: list[tuple[str, str]] = []

    def perform(self, effect: Effect, now: float) -> list[tuple[float, Event]] | None:
        """Search, register, delete, notify."""
        if isinstance(effect, RunSearch):
            outcome = RUNS[effect.run]
            assert (effect.run in self.raw) == (outcome is not Outcome.MISSING), (
                "searched after its raw data were deleted"
            )
            found = outcome is Outcome.SEARCHED
            recorded = Recorded(
                effect.run, effect.run, "blpn64/0", "J0", 1.8e9, 20.0, 1e9, 2e9, 1, (f"{effect.run}.raw",)
            )
            ended = SearchEnded(
                run=effect.run, attempt=effect.attempt, outcome=outcome, hits=int(found),
                recordings=(recorded,) * found, products=(f"{effect.run}.dat",) * found,
            )  # fmt: skip
            return [(60.0, ended)]
        if isinstance(effect, RegisterProducts):
            if self.refusals:
                self.refusals -= 1
                raise Failed("the catalogue is locked")
            self.catalogued.add(effect.run)
        elif isinstance(effect, DeleteRaw):
            assert effect.run in self.catalogued and effect.run != "kept"
            if self.refused_deletions:
                self.refused_deletions -= 1
                raise Failed("the catalogue is locked")
            freed = int(effect.run in self.raw)
            self.raw.discard(effect.run)
            return [
                (1.0, DeletionEnded(datadir=effect.datadir, run=effect.run, rule=effect.rule, freed=freed)),
            ]
        return []

    def write(self, command: tuple[str, ...], now: float) -> list[tuple[float, Event]]:
        """Read what is reported."""
        if command[0] == "XADD":
            fields = dict(zip(command[6::2], command[7::2], strict=True))
            self.results.append((fields["run"], fields["code1"]))
        elif command[:2] == ("PUBLISH", "proc_result"):
            self.returns.append(command[2])
        return []

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """The configuration."""
        return {"instance": "blpn64/0", "keep_raw": self.keep_raw, "reclaim": self.keep_raw}


def build(seed: int, faults: Faults = NO_FAULTS) -> Simulation[AnalyzerMachine]:
    """Four runs asked for, one of them twice."""
    simulation = Simulation(AnalyzerMachine, CODEC, Host(), seed, faults)
    for number, run in enumerate([*RUNS, "good"]):
        request = ProcessRequested(run=run, datadir=f"/buf0/{run}", preserve=run == "kept")
        simulation.say(1.0 + number, request, droppable=False)
    return simulation


def everything_reported(simulation: Simulation[Any]) -> None:
    """Every run has come to its end; without faults in the world each with its own result."""
    world = simulation.world
    runs = simulation.machine.runs()
    assert [run.name for run in runs] == list(RUNS)
    assert all(run.stage is Stage.REPORTED for run in runs), [(run.name, run.stage) for run in runs]
    assert {name for name, _ in world.results} == set(RUNS)
    assert len(world.results) == len(world.returns)
    assert {"deadly", "kept"} <= world.raw
    for run in runs:
        assert {code for name, code in world.results if name == run.name} == {str(run.code)}
    assert simulation.machine.run("deadly").code > 2


def as_planned(simulation: Simulation[Any]) -> None:
    """Besides, each run was searched as it should be."""
    everything_reported(simulation)
    codes = {run.name: run.code for run in simulation.machine.runs()}
    assert codes == {"good": 0, "empty": 1, "deadly": 7, "kept": 0}
    assert simulation.world.raw == {"deadly", "kept"}


def faulty(seed: int) -> Simulation[AnalyzerMachine]:
    """The same with everything going wrong."""
    return build(seed, ALL_FAULTS)


CYCLE = Scenario(build, 3600.0, as_planned, "tests.search.test_simulated:CYCLE")


def build_short(seed: int, faults: Faults = NO_FAULTS) -> Simulation[AnalyzerMachine]:
    """The same where raw data are kept as long as there is room, and there is none from the beginning."""
    simulation = Simulation(AnalyzerMachine, CODEC, Host(keep_raw=True), seed, faults)
    for number, run in enumerate(RUNS):
        request = ProcessRequested(run=run, datadir=f"/buf0/{run}", preserve=run == "kept")
        simulation.say(1.0 + number, request, droppable=False)
    for number in range(40):
        simulation.say(2.0 + 30.0 * number, DiskShort(text="1 % free"))
    return simulation


def room_was_made(simulation: Simulation[Any]) -> None:
    """What was searched and is not preserved has gone; what failed, and what is preserved, is there."""
    everything_reported(simulation)
    assert simulation.world.raw == {"deadly", "kept"}
    assert [(item.datadir, item.rule) for item in simulation.machine.cleanings()] == [("/buf0/good", "disk_short")]


SHORT = Scenario(build_short, 3600.0, room_was_made, "tests.search.test_simulated:SHORT")
# Silent effects wait for their deadline, six hours for a search.
STORM = Scenario(faulty, 20 * 86400.0, everything_reported, "tests.search.test_simulated:STORM")


def test_a_crash_anywhere_changes_no_result() -> None:
    """Whatever has been asked for is searched, catalogued and reported with the same codes, crash or no crash."""
    assert CYCLE.crash_everywhere(seed=1) > 30


def test_d03_18_a_disk_that_is_short_costs_nothing_unprocessed_or_preserved() -> None:
    """Crash or no crash: what goes was searched and catalogued, and what waits, failed or is preserved stays."""
    assert SHORT.crash_everywhere(seed=1) > 30


@pytest.mark.parametrize("seed", range(25))
def test_nothing_is_forgotten_in_a_storm(seed: int) -> None:
    """Lost answers, slow effects, repeated messages, crashes, stepping clocks: every run still ends, and is reported."""
    STORM.run(seed)
