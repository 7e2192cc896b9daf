"""An observation machine in a driver, and nodes as a telescope's would be: they know a scan by its uid."""

from __future__ import annotations

from typing import Any

from socs_bl.bdf.scan import Scan
from socs_bl.core.codec import Codec
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import EffectDone, EffectFailed, Event
from socs_bl.correlator.observation.machine import ObservationMachine
from socs_bl.correlator.observation.model import (
    FINISH,
    Notify,
    Observation,
    ObservationHeard,
    Record,
    StopRecording,
)
from tests.harness.machine_bench import MachineBench

CODEC = Codec(ObservationMachine)
START = 1_800_000_000.0
NODES = ("cbe-01", "cbe-02")
SECOND = 10**9


def world(**changes: Any) -> dict[str, Any]:
    """What a restart tells."""
    return {"correlator": "widar", "nodes": list(NODES), "first_pause": 1.0, "longest_pause": 8.0, **changes}


def observation(seconds: float, scan: int = 1, subscan: int = 1, dataset: str = "eb", **changes: Any) -> Observation:
    """A document whose start is so many seconds after `START`."""
    fields: dict[str, Any] = {
        "dataset_id": dataset, "start_ns": round((START + seconds) * SECOND), "source": f"3C{scan}", "scan": scan,
        "subscan": subscan, "correlator": "widar", "config_id": f"{dataset}.2",
    }  # fmt: skip
    return Observation(**{**fields, **changes})


def finish(seconds: float, dataset: str = "eb", scan: int = 99) -> Observation:
    """The document that ends a dataset."""
    return observation(seconds, scan, dataset=dataset, source=FINISH, intents=('suppress_data="True"',))


class Nodes:
    """What the nodes have been told: they take every order, or none while they are away."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.scans: dict[tuple[str, str], Scan] = {}
        self.stops: dict[tuple[str, str], int] = {}

    def take(self, effect: Effect) -> bool:
        """Carry out an order, perhaps not for the first time; False when the node is away."""
        assert isinstance(effect, Record | StopRecording)
        if effect.node in self.away:
            return False
        if isinstance(effect, Record):
            key = (effect.node, effect.scan.uid)
            assert self.scans.setdefault(key, effect.scan).start_ns == effect.scan.start_ns
            if effect.scan.stop_ns:
                self.stops[key] = effect.scan.stop_ns
        else:
            assert (effect.node, effect.uid) in self.scans, (
                f"{effect.node} is to stop {effect.uid}, which it never knew"
            )
            self.stops[effect.node, effect.uid] = effect.stop_ns
        return True

    def windows(self, node: str) -> list[tuple[str, int, int]]:
        """Dataset, start and stop (0: none yet) of all scans a node knows, with some time in them."""
        found = [
            (scan.dataset_id, scan.start_ns, self.stops.get((name, uid), 0))
            for (name, uid), scan in self.scans.items()
            if name == node
        ]
        return sorted(window for window in found if window[2] != window[1] + 1)


class Bench(MachineBench[ObservationMachine]):
    """Orders wait until the test lets the nodes take them."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(ObservationMachine, Notify, START)
        self.nodes = Nodes()
        self.restart(**changes)

    def restart(self, **changes: Any) -> None:
        """Begin, or begin again after a crash."""
        self.start(world(**changes))

    def hear(self, *documents: Observation) -> None:
        """Documents come, one after the other."""
        for document in documents:
            self.say(ObservationHeard(observation=document))

    def ask(self, event: Event) -> str:
        """A person's wish; why it was refused, or nothing."""
        (answer,) = [effect for effect in self.say(event) if isinstance(effect, Answer)]
        return answer.refusal

    def perform(self, effect: Effect) -> None:
        """A node takes an order, or does not."""
        del self.to_do[effect.id]
        taken = self.nodes.take(effect)
        self.say(EffectDone(effect=effect.id) if taken else EffectFailed(effect=effect.id, reason="no answer"))

    def settle(self, most: int = 1000) -> None:
        """Orders are carried out until none is left."""
        for _ in range(most):
            if not self.to_do:
                return
            self.perform(next(iter(self.to_do.values())))
        raise AssertionError(f"no end of orders: {self.to_do}")

    def later(self, seconds: float) -> None:
        """Time goes on to so many seconds after `START`, with all timers and orders on the way."""
        while self.to_do or any(timer.deadline <= START + seconds for timer in self.machine.timers.values()):
            self.settle()
            due = sorted((timer.deadline, name) for name, timer in self.machine.timers.items())
            if due and due[0][0] <= START + seconds:
                self.fire(due[0][1])
        self.now = max(self.now, START + seconds)

    def told(self, level: str) -> list[str]:
        """What people were told at a level."""
        return [notice.text for notice in self.notices if notice.level == level]


def window(start: float, stop: float, dataset: str = "eb") -> tuple[str, int, int]:
    """A window of `Nodes.windows`, in seconds after `START`; no stop: 0."""
    return dataset, round((START + start) * SECOND), round((START + stop) * SECOND) if stop else 0
