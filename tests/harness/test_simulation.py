"""The simulation keeps its own promises, and finds machines that break theirs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from socs_bl.core.codec import Codec
from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import EffectDone, EffectFailed, Event, Restarted
from socs_bl.core.machine import Machine, Outstanding
from tests.harness.simulation import ALL_FAULTS, HOUR, NO_FAULTS, Failed, Faults, Scenario, Simulation
from tests.harness.toy import Fire, Lamp, LampMachine, Light, Ordered, Seen

LAMPS = ("a", "b", "c")
REPOSITORY = Path(__file__).parents[2]


class Hall:
    """A world of lamps; lighting one is seen a second later, by the answer or by whoever reads the channel."""

    def __init__(self) -> None:
        self.lit: set[str] = set()
        self.fired: Counter[str] = Counter()
        self.published: Counter[str] = Counter()

    def perform(self, effect: Effect, now: float) -> list[tuple[float, Event]] | None:
        """Light lamps, fire salutes."""
        lamp = getattr(effect, "lamp", "")
        if isinstance(effect, Light):
            self.lit.add(lamp)
            return [(1.0, Seen(lamp=lamp))]
        if lamp == "c":
            raise Failed("no powder for c")
        self.fired[lamp] += 1
        return []

    def write(self, command: tuple[str, ...], now: float) -> list[tuple[float, Event]]:
        """Count what is published; somebody reads it and orders once more."""
        self.published[command[2]] += 1
        return [(0.5, Ordered(lamp=command[2]))]

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """What is lit."""
        return {"lit": sorted(self.lit)}


def build(seed: int, faults: Faults = NO_FAULTS, factory: type[Machine] = LampMachine) -> Simulation[Any]:
    simulation = Simulation(factory, Codec(factory), Hall(), seed, faults)
    for lamp in LAMPS:
        simulation.say(1.0, Ordered(lamp=lamp), droppable=False)
        simulation.say(1.2, Seen(lamp="elsewhere"))
    return simulation


def all_lit(simulation: Simulation[Any]) -> None:
    """Every order was published once, every lamp is lit, every salute was fired once, refused, or is told unknown."""
    hall, machine = simulation.world, simulation.machine
    assert hall.published == dict.fromkeys(LAMPS, 1)
    assert hall.lit == set(LAMPS)
    assert machine.outstanding == {} and machine.timers == {}
    for lamp in LAMPS:
        assert machine.get(f"lamp/{lamp}", Lamp).state == "lit"
        assert hall.fired[lamp] <= 1, f"{lamp} was saluted twice"
        refused = any(
            getattr(envelope.event, "reason", "") == f"no powder for {lamp}" for envelope in events(simulation)
        )
        assert hall.fired[lamp] or refused or machine.get(f"salute/{lamp}", Lamp), f"{lamp} was never saluted"


def scenario(name: str, faults: Faults = NO_FAULTS, factory: type[Machine] = LampMachine) -> Scenario:
    return Scenario(lambda seed: build(seed, faults, factory), 120.0, all_lit, f"{__name__}:{name}")


QUIET = scenario("QUIET")
STORMY = scenario("STORMY", ALL_FAULTS)


def log(simulation: Simulation[Any]) -> str:
    return hashlib.sha256(b"\n".join(simulation.vault.entries.values())).hexdigest()


def events(simulation: Simulation[Any]) -> list[Any]:
    return [simulation.codec.decode(entry).envelope for entry in simulation.vault.entries.values()]


def test_one_seed_is_one_run() -> None:
    """Two runs of a seed have byte-identical journals, in other processes too; another seed has another."""
    first = STORMY.run(3)
    assert first.vault.entries == STORMY.run(3).vault.entries != STORMY.run(4).vault.entries
    code = "from tests.harness.test_simulation import STORMY, log; print(log(STORMY.run(3)))"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert ran.stdout.strip() == log(first)


def test_crashes_everywhere_lose_nothing() -> None:
    """The lamp machine survives a crash at every point: before and after commits, within and after batches of effects."""
    points = QUIET.run(0).points
    assert QUIET.crash_everywhere(0) == len(points) > 20
    kinds = ("before the commit", "after the commit", "not acknowledged", "of its batch to go")
    assert all(any(kind in label for label in points) for kind in kinds)
    for number in range(len(points)):
        crashed = QUIET.run(0, number)
        assert crashed.crashes == 1
        assert sum(isinstance(envelope.event, Restarted) for envelope in events(crashed)) == (1 if number == 0 else 2)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_storms_lose_nothing(first: int) -> None:
    """With every fault at once, crashes among them, 200 seeds end as the quiet one does."""
    for seed in range(first, first + 50):
        STORMY.run(seed)


@pytest.mark.parametrize("name", list(Faults.__dataclass_fields__))
def test_each_fault_happens(name: str) -> None:
    """Each fault alone shows in the run, and a run without it does not show it."""
    shown = {
        "lost": lambda run: sum(type(e.event) is Seen and e.cause == "" for e in events(run)) < 3,
        "repeated": lambda run: sum(type(e.event) is EffectDone for e in events(run)) > 6,
        "jitter": lambda run: min(e.event.at.monotonic for e in events(run) if type(e.event) is Seen) > 1.3,
        "slow": lambda run: any(type(e.event) is EffectFailed and e.event.unknown for e in events(run)),
        "silent": lambda run: any(type(e.event) is EffectFailed and e.event.unknown for e in events(run)),
        "commit_lost": lambda run: "before the commit of 1" in run.points[1:],
        "wall_step": lambda run: len({round((e.event.at.wall - e.event.at.monotonic) / HOUR) for e in events(run)}) > 1,
        "crash": lambda run: run.crashes > 0,
    }[name]
    faults = Faults(**{name: 10.0 if name == "jitter" else 0.5 if name in ("commit_lost", "crash") else 1.0})
    runs = []
    for seed in range(5):
        runs.append(build(seed, faults))
        runs[-1].run(60.0)
    assert any(shown(run) for run in runs)
    assert not shown(QUIET.run(0))


def test_messages_during_the_down_time() -> None:
    """While the shell is down a droppable message is gone; another is taken in after the restart, and before its order."""
    simulation = build(0)
    simulation.say(1.5, Seen(lamp="x"))
    simulation.say(1.5, Seen(lamp="y"), droppable=False)
    simulation.run(60.0, crash_at=3)
    seen = [e.event.lamp for e in events(simulation) if type(e.event) is Seen and e.cause == ""]
    assert simulation.crashes == 1 and "x" not in seen and "y" in seen


class Forgetful(LampMachine):
    """Drops what was outstanding."""

    def keep(self, outstanding: Outstanding, event: Restarted) -> Effect | None:
        """Forget it."""
        return None


class Hasty(LampMachine):
    """Arms timers that are not in the journal."""

    def arm(self, name: str, seconds: float) -> None:
        """Arm, and do not store."""
        super().arm(name, seconds)
        self._changed_timers.discard(name)


class Secretive(LampMachine):
    """Decides by what is not in a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.orders = 0

    def handle(self, event: Event) -> None:
        """Number the orders of this life."""
        super().handle(event)
        if isinstance(event, Ordered):
            self.orders += 1
            lamp = self.get(f"lamp/{event.lamp}", Lamp)
            assert lamp is not None
            self.put(f"lamp/{event.lamp}", Lamp(name=lamp.name, state=lamp.state, tries=self.orders))


class Salvo(Fire, frozen=True):
    """A salute that claims to be harmless twice."""

    delivery: ClassVar[Delivery] = Delivery.REPEATABLE


class Trigger(LampMachine):
    """Fires salutes without noting the attempt."""

    effect_types = (Light, Fire, Salvo)

    def issue(self, effect: Effect, lane: str = "", after: Any = ()) -> str:
        """Fire salvos."""
        return super().issue(Salvo(lamp=effect.lamp) if type(effect) is Fire else effect, lane, after)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (Forgetful, "never saluted"),
        (Hasty, "waits for nothing"),
        (Secretive, "replayed cells differ"),
        (Trigger, "saluted twice"),
    ],
)
def test_broken_machines_are_found(factory: type[Machine], words: str) -> None:
    """A machine that breaks a promise passes without crashes, fails with them, and the failure names its repro."""
    broken = scenario("BROKEN", factory=factory)
    broken.run(0)
    with pytest.raises(AssertionError, match=words) as caught:
        broken.crash_everywhere(0)
    assert "tests.harness.test_simulation:BROKEN --seed 0 --crash-at " in str(caught.value)
