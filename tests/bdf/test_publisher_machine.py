"""The publisher's machine: its rules under any order of events, and crashes at every entry of its journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from socs_bl.bdf.machine import PublisherMachine, why_aborted
from socs_bl.bdf.model import (
    Announced,
    Describe,
    DiscardNow,
    File,
    Looked,
    Marker,
    Measure,
    PublishNow,
    Resend,
    Settings,
    Sighting,
    Step,
    Tell,
)
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec, Entry
from socs_bl.core.driver import Caused
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import EffectDone, EffectFailed, Envelope, Event, Restarted, TimerFired
from tests.bdf.disk import Disk
from tests.harness.simulation import EPOCH, NO_FAULTS, Faults, Scenario, Simulation

CODEC = Codec(PublisherMachine)
NODES = ("cbe-01", "cbe-02")
NAMES = ("uid_a", "uid_b")
SETTINGS = msgspec.to_builtins(Settings())


def world(disk: Disk) -> dict[str, Any]:
    """What a shell sees that looks around."""
    found: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode({"settings": SETTINGS, "sightings": disk.everything()})
    )
    return found


class AnyOrder(RuleBasedStateMachine):
    """Nodes, looks, steps that succeed, fail or succeed unseen, timers, people and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.machine, self.disk, self.wall = PublisherMachine(), Disk(), 1000.0

    def step(self, event: Event) -> list[Effect]:
        self.wall += 0.01
        event = msgspec.structs.replace(event, at=Instant(self.wall, self.wall))
        effects = self.machine.step(event)
        self.machine.check()
        envelope = Envelope(schema=1, sequence=self.machine.sequence, epoch=1, cause="", event=event)
        entry = Entry(envelope, tuple(effects))
        assert CODEC.decode(CODEC.encode(entry)) == entry
        return effects

    @initialize()
    def start(self) -> None:
        self.step(Restarted(epoch=1, world=world(self.disk)))

    @rule(name=st.sampled_from(NAMES), stop=st.sampled_from([0.0, 500.0, 2000.0, 4e5]), nodes=st.sampled_from([NODES, ()]),
          integrations=st.integers(0, 2))  # fmt: skip
    def create(self, name: str, stop: float, nodes: tuple[str, ...], integrations: int) -> None:
        self.disk.create(name, int(stop * 1e9), nodes, integrations)

    @rule(
        name=st.sampled_from(NAMES), node=st.sampled_from(NODES), aborted=st.booleans(), stop=st.sampled_from([0, 600])
    )
    def mark(self, name: str, node: str, aborted: bool, stop: int) -> None:
        self.disk.mark(name, Marker(node=node, aborted=aborted, stop_ns=stop * 10**9))

    @rule(name=st.sampled_from(NAMES))
    def grow(self, name: str) -> None:
        if name in self.disk.private:
            self.disk.private[name].version += 1

    @rule()
    def look(self) -> None:
        if changed := self.disk.look():
            self.step(Looked(sightings=tuple(changed)))

    def _outstanding(self) -> list[str]:
        return sorted(self.machine.outstanding)

    @precondition(lambda self: self.machine.outstanding)
    @rule(data=st.data(), fate=st.sampled_from(["done", "done", "failed", "unseen"]))
    def settle(self, data: st.DataObject, fate: str) -> None:
        identity = data.draw(st.sampled_from(self._outstanding()))
        self.carry_out(identity, fate)

    def carry_out(self, identity: str, fate: str = "done") -> None:
        effect = self.machine.outstanding[identity].effect
        answers = self.disk.perform(effect) if isinstance(effect, Step) and fate != "failed" else []
        if fate == "done":
            for answer in answers:
                self.step(answer)
            self.step(EffectDone(effect=identity))
        else:
            self.step(EffectFailed(effect=identity, reason="no", unknown=fate == "unseen"))

    @precondition(lambda self: self.machine.timers)
    @rule(data=st.data())
    def timer(self, data: st.DataObject) -> None:
        timer = self.machine.timers[data.draw(st.sampled_from(sorted(self.machine.timers)))]
        self.wall = max(self.wall, timer.deadline)
        self.step(TimerFired(name=timer.name, generation=timer.generation))

    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from([PublishNow, DiscardNow, Resend]))
    def person(self, name: str, kind: type[PublishNow]) -> None:
        if kind is Resend and name not in self.disk.sides:
            return  # the agent refuses it
        effects = self.step(kind(name=name))
        assert sum(isinstance(effect, Answer) for effect in effects) == 1

    @rule()
    def restart(self) -> None:
        self.step(Restarted(epoch=2, outstanding=tuple(self.machine.outstanding), world=world(self.disk)))

    @invariant()
    def nothing_is_lost(self) -> None:
        self.disk.check()

    def teardown(self) -> None:
        """When nothing fails any more, everything is published or discarded in the end."""
        self.look()
        for _ in range(200):
            if self.machine.outstanding:
                self.carry_out(self._outstanding()[0])
            elif self.machine.timers:
                timer = min(self.machine.timers.values(), key=lambda timer: timer.deadline)
                self.wall = max(self.wall, timer.deadline)
                self.step(TimerFired(name=timer.name, generation=timer.generation))
        assert self.disk.done() and not self.machine.files
        self.disk.check()


TestAnyOrder = AnyOrder.TestCase


@pytest.mark.parametrize(
    ("markers", "file", "reason"),
    [
        ((Marker(node="cbe-01"), Marker(node="cbe-02")), {}, ""),
        ((Marker(node="cbe-01", aborted=True, reason="disk full"), Marker(node="cbe-02")), {}, "cbe-01: disk full"),
        ((Marker(node="cbe-01"),), {"ended": "unchanged for 30 s"}, "no end from cbe-02; unchanged for 30 s"),
        ((Marker(node="cbe-01"),), {"asked": True}, "no end from cbe-02; published by hand"),
        ((Marker(node="cbe-01"), Marker(node="cbe-02")), {"asked": True}, ""),
    ],
)
def test_reasons(markers: tuple[Marker, ...], file: dict[str, Any], reason: str) -> None:
    """Why a recording is said to be aborted; by hand does not matter when everybody has finished anyway."""
    seen = Sighting(name="uid_a", part=True, nodes=NODES, markers=markers)
    assert why_aborted(File(sighting=seen, **file)) == reason


def test_pauses_grow_and_end() -> None:
    """A step that fails is tried again after 60 s, 120 s ... an hour; people are told once of each reason."""
    machine, disk, wall, told, pauses = PublisherMachine(), Disk(), 1000.0, [], []
    disk.create("uid_a", 0, (), 1)
    effects = machine.step(Restarted(epoch=1, world=world(disk), at=Instant(wall, wall)))
    for _ in range(9):
        (step,) = [effect for effect in effects if isinstance(effect, Step)]
        effects = machine.step(EffectFailed(effect=step.id, reason="EIO", at=Instant(wall, wall)))
        told += [effect for effect in effects if isinstance(effect, Tell)]
        timer = machine.timers["retry/uid_a"]
        pauses.append(timer.duration)
        wall = timer.deadline
        effects = machine.step(TimerFired(name=timer.name, generation=timer.generation, at=Instant(wall, wall)))
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600] and len(told) == 1
    (measure,) = [effect for effect in effects if isinstance(effect, Measure)]
    effects = machine.step(EffectDone(effect=measure.id))
    assert any(isinstance(effect, Tell) and "goes on" in effect.text for effect in effects)


# -- on a virtual clock ------------------------------------------------------------------------------------------------


class Directories:
    """The world of a simulation: nodes write two files, one of them without saying when it has finished."""

    simulation: Simulation[PublisherMachine]

    def __init__(self) -> None:
        self.disk = Disk()
        self.busy = 0

    def perform(self, effect: Effect, now: float) -> list[tuple[float, Event]]:
        if not isinstance(effect, Step):
            return []
        return [(0.0, event) for event in self.disk.perform(effect)]

    def write(self, command: tuple[str, ...], now: float) -> list[tuple[float, Event]]:
        raise AssertionError(command)

    def snapshot(self, now: float) -> Mapping[str, Any]:
        return world(self.disk)

    def tick(self) -> None:
        """A look, when no step is under way."""
        simulation, shell = self.simulation, self.simulation.shell
        simulation.call(simulation.time + 1.0, self.tick)
        if shell is not None and not any(
            isinstance(item.effect, Step) for item in shell.driver.machine.outstanding.values()
        ):
            changed = self.disk.look()
            if changed:
                shell.take(Caused(Looked(sightings=tuple(changed))))


def build(seed: int, faults: Faults = NO_FAULTS) -> Simulation[PublisherMachine]:
    """Two files that hold something and one that does not."""
    place = Directories()
    simulation = Simulation(PublisherMachine, CODEC, place, seed, faults)
    place.simulation, disk = simulation, place.disk
    stop = int((EPOCH + 20) * 1e9)
    for number, name in enumerate(("uid_a", "uid_b", "uid_c")):
        held = 0 if name == "uid_c" else 3
        simulation.call(2.0 + number, lambda name=name, held=held: disk.create(name, stop, NODES, held))  # type: ignore[misc]
        for node in NODES[: 1 if name == "uid_b" else 2]:
            marker = Marker(node=node, integrations=held)
            simulation.call(21.0 + number, lambda name=name, marker=marker: disk.mark(name, marker))  # type: ignore[misc]
    simulation.call(0.5, place.tick)
    return simulation


def holds(simulation: Simulation[Any]) -> None:
    """Published once, announced, nothing left; the empty one is gone."""
    assert isinstance(simulation.world, Directories)
    disk = simulation.world.disk
    disk.check()
    assert disk.done() and set(disk.public) == {"uid_a", "uid_b"}, disk.private
    assert set(disk.announced) == {"uid_a", "uid_b"} and not simulation.machine.files


NIGHT = Scenario(build, 200.0, holds, "tests.bdf.test_publisher_machine:NIGHT")
# Steps are carried out in this process, so that their answers come once, and looks are no messages.
FAULTS = Faults(slow=0.05, silent=0.05, commit_lost=0.05, wall_step=0.05, crash=0.01)
STORM = Scenario(lambda seed: build(seed, FAULTS), 40_000.0, holds, "tests.bdf.test_publisher_machine:STORM")


def test_a_crash_at_every_entry_of_the_journal() -> None:
    """Before a commit, after it, and between an effect and its receipt: nothing is lost, nothing is published twice."""
    assert NIGHT.crash_everywhere(seed=1) > 60


@pytest.mark.parametrize("seed", range(6))
def test_everything_goes_wrong(seed: int) -> None:
    """Lost and repeated answers, slow effects, unknown commits, a stepping clock and crashes at random."""
    STORM.run(seed)


def test_counts() -> None:
    """Only what is published for the first time is counted as published; what was not described is told of."""
    machine, disk = PublisherMachine(), Disk()
    machine.step(Restarted(epoch=1, world=world(disk)))
    disk.create("uid_a", 1, NODES, 2)
    for node in NODES:
        disk.mark("uid_a", Marker(node=node))
    machine.step(Looked(sightings=tuple(disk.look())))
    told = []
    for _ in range(40):
        for identity, item in list(machine.outstanding.items()):
            effect = item.effect
            if isinstance(effect, Describe):
                machine.step(EffectFailed(effect=identity, reason="no schema"))
                continue
            if isinstance(effect, Tell):
                told.append(effect.text)
            for answer in disk.perform(effect) if isinstance(effect, Step) else []:
                machine.step(answer)
            machine.step(EffectDone(effect=identity))
    assert machine.tally.published == machine.tally.announced == 1 and "not described" in told[0]
    assert machine.tally.latest[0].name == "uid_a"
    machine.step(Announced(name="uid_a", target="uid_a", integrations=2, bytes=2))
    assert machine.tally.published == 1 and machine.tally.announced == 2
