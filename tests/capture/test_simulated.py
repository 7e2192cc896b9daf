"""The recorder's machine on a virtual clock: crashes at every point, and everything going wrong at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from socs_bl.capture.machine import RecorderMachine
from socs_bl.capture.model import (
    Arm,
    Disarm,
    JoinGroups,
    KeysChanged,
    LeaveGroups,
    ManualStart,
    Plan,
    RecordingEnded,
    RecordingStarted,
    Restore,
    SetStatus,
    Target,
)
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from tests.harness.simulation import ALL_FAULTS, EPOCH, NO_FAULTS, Faults, Scenario, Simulation

CODEC = Codec(RecorderMachine)
HEAP = 0.064  # seconds of a packet index
GRAIN = 4  # packet indices between two looks of the stream; all blocks are multiples
BLOCK_BYTES = 4 << 20  # 16 packet indices
BAND = {
    "SUBARRAY": "array_1", "BINDPORT": 7148, "SYNCTIME": int(EPOCH), "FECENTER": 1284.0, "FENCHAN": 128,
    "CHAN_BW": 0.004, "HNCHAN": 16, "HNTIME": 256, "HCLOCKS": 65536, "NANTS": 4, "SCHAN": 0, "DWELL": 0, "PKTSTART": 0,
}  # fmt: skip
DESTIP = "239.9.0.0+3"
# What a subarray tells: two recordings, the second one stopped early at 60 s; then the groups are left.
TOLD: list[tuple[float, dict[str, Any]]] = [
    (1.0, BAND), (1.5, {"DATADIR": "/buf0/one"}), (2.0, {"DESTIP": DESTIP}),
    (5.0, {"DWELL": 20}), (5.1, {"SRC_NAME": "J0437-4715"}), (5.2, {"PKTSTART": 160}),
    (40.0, {"DATADIR": "/buf0/two"}), (40.1, {"PKTSTART": 800}),
    (60.0, {"DWELL": 0}), (60.1, {"PKTSTART": 0}), (61.5, {"DWELL": 20}),
    (80.0, {"DESTIP": "0.0.0.0"}),
]  # fmt: skip
BY_HAND = 90.0
WINDOWS = {"one": (160, 464), "two": (800, 1104)}
EARLY = round(60.0 / HEAP)  # packet index of the early stop
# A crash costs two seconds, the block it is in, and the block in which the groups are joined again.
OUTAGE = round(2.5 / HEAP) + 2 * 16


class Stream:
    """A stream that gets every heap, and dies with the shell; it writes down what it has recorded where."""

    simulation: Simulation[RecorderMachine]

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.recorded: dict[str, list[int]] = {}
        self.heard = 0
        self._forget()

    def _forget(self) -> None:
        self.target: Target | None = None
        self.plan: Plan | None = None
        self.open: Plan | None = None
        self.ended = 0

    def perform(self, effect: Effect, now: float) -> list[tuple[float, Event]] | None:
        """Obey, as `CaptureStream` does."""
        match effect:
            case JoinGroups(target=target):
                if target != self.target:
                    self._end()
                    self.target, self.ended = target, 0
            case LeaveGroups():
                self._end()
                self.target = None
            case Arm(plan=plan):
                if self.open is not None and self.open.window.start != plan.window.start:
                    self._end()
                self.plan = None if plan.window.start == self.ended else plan
            case Disarm():
                self._end()
            case SetStatus(pairs=pairs) | Restore(pairs=pairs):
                self.status.update(pairs)
        return []

    def tick(self, pktidx: int) -> None:
        """The heaps before `pktidx` have come."""
        self.simulation.call((pktidx + GRAIN) * HEAP, lambda: self.tick(pktidx + GRAIN))
        if self.simulation.shell is None:
            self._forget()
        elif self.target is not None and self.plan is not None and pktidx % self.target.piperblk == 0:
            self._take(pktidx - self.target.piperblk, self.target.piperblk)

    def _take(self, first: int, count: int) -> None:
        plan = self.open or self.plan
        assert plan is not None and self.plan is not None
        window = self.plan.window
        if window.start <= first < window.stop:
            self.recorded.setdefault(plan.directory.split("/")[2], []).extend(range(first, first + count))
            if self.open is None:
                self.open = plan
                self._say(RecordingStarted(start=window.start, pktidx=first, path=plan.directory))
        if first + count >= window.stop:
            self._end()

    def _end(self) -> None:
        ended, self.open, self.plan = self.open, None, None
        if ended is not None:
            self.ended = ended.window.start
            self._say(RecordingEnded(start=ended.window.start, blocks=1, missing=0))

    def _say(self, event: Event) -> None:
        """Tell the shell of this life, if it still lives then."""
        life = self.simulation.shell

        def deliver() -> None:
            if life is not None and self.simulation.shell is life:
                self.heard += 1
                life.take(Caused(event))

        self.simulation.call(self.simulation.time + 0.001, deliver)

    def write(self, command: tuple[str, ...], now: float) -> list[tuple[float, Event]]:
        """Nothing rides in commits of a recorder."""
        raise AssertionError(command)

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """A new life: nothing is received. Whoever restarts it late does so with smaller blocks."""
        self._forget()
        return {"instance": "blpn64/0", "block_bytes": BLOCK_BYTES if now < 55.0 else BLOCK_BYTES // 4}


def build(seed: int, faults: Faults = NO_FAULTS) -> Simulation[RecorderMachine]:
    """A subscription with two recordings, and one by hand when it is over. Who tells keys tells them until they show."""
    stream = Stream()
    simulation = Simulation(RecorderMachine, CODEC, stream, seed, faults)
    stream.simulation = simulation
    simulation.call(GRAIN * HEAP, lambda: stream.tick(GRAIN))
    for at, pairs in TOLD:
        simulation.say(at, KeysChanged(pairs=pairs), droppable=False)
    simulation.say(BY_HAND, ManualStart(destip=DESTIP, dwell=20.0, datadir="/buf0/hand"), droppable=False)
    return simulation


def faulty(seed: int) -> Simulation[RecorderMachine]:
    """The same with everything going wrong."""
    return build(seed, ALL_FAULTS)


def at_rest(simulation: Simulation[Any]) -> None:
    """Everything is over and said to be; nothing was recorded outside of its window, nothing twice."""
    machine, stream = simulation.machine, simulation.world
    assert machine.state == "idle" and not machine.daq.manual, machine.daq
    assert not machine.outstanding and not machine.timers
    assert machine.settings.instance == "blpn64/0"
    for name, packets in stream.recorded.items():
        assert len(set(packets)) == len(packets), f"{name} has packets twice"
        first, stop = WINDOWS.get(name, (min(packets), min(packets) + 20 * 16))
        assert first <= min(packets) and max(packets) < stop, f"{name}: {min(packets)} to {max(packets)}"


def as_planned(simulation: Simulation[Any]) -> None:
    """Besides, each recording is there but for the time of a crash, and the early stop was one."""
    at_rest(simulation)
    stream = simulation.world
    lost = OUTAGE if simulation.crashes else 0
    assert stream.target is None and stream.status["DAQSTATE"] == "IDLE"
    assert len(stream.recorded["one"]) >= 464 - 160 - lost
    assert EARLY - 800 - 32 - lost <= len(stream.recorded["two"]) <= EARLY - 800 + 16 + lost
    # The last block of a dwell that is not whole blocks is left out.
    assert len(stream.recorded["hand"]) >= 19 * 16 - lost


CYCLE = Scenario(build, 250.0, as_planned, "tests.capture.test_simulated:CYCLE")
STORM = Scenario(faulty, 900.0, at_rest, "tests.capture.test_simulated:STORM")


def test_a_crash_anywhere_costs_only_the_time_of_the_crash() -> None:
    """Whatever was told or asked for is recorded, before or after the crash, and everything comes to its end."""
    assert CYCLE.crash_everywhere(seed=1) > 50


@pytest.mark.parametrize("seed", range(20))
def test_no_recording_outlives_its_end_in_a_storm(seed: int) -> None:
    """Lost answers, slow effects, repeated messages, crashes, stepping clocks: windows hold, and all ends idle."""
    STORM.run(seed)
