"""The machine's part of calibration: when it looks, what it fetches, what it tells, and that restarts lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from socs_bl.commensal.calibration_model import (
    CALIBRATION_EFFECTS,
    CALIBRATION_EVENTS,
    CalibrationFetched,
    FetchCalibration,
    PhaseupRead,
    ReadPhaseup,
)
from socs_bl.commensal.model import CELLS, EFFECTS, EVENTS, Notify
from socs_bl.commensal.phasing import Phasing
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.effect import ArmTimer, Effect, StoreWrites
from socs_bl.core.event import EffectDone, EffectFailed, Event, Restarted, TimerFired

START = 1_800_000_000.0
CONFIG = {"arrays": ["array_1"], "hashpipe_instances": ["blpn64/0"], "calibration": {"enabled": True}}


class Began(Event, frozen=True):
    """A recording has begun, or the subarray was given up."""

    what: str = "recording"


class Phaser(Phasing):
    """Nothing but phasing."""

    event_types = (*EVENTS, *CALIBRATION_EVENTS, Began)
    effect_types = (*EFFECTS, *CALIBRATION_EFFECTS)
    cell_types = CELLS

    def _the_array(self) -> Any:
        return self.array("array_1")

    def handle(self, event: Event) -> None:
        match event:
            case Began(what="recording"):
                self.await_calibration(self._the_array())
            case Began():
                self.forget_calibration(self._the_array())
            case PhaseupRead():
                self.on_phaseup(self._the_array(), event)
            case CalibrationFetched():
                self.on_calibration(self._the_array(), event)

    def fired(self, name: str) -> None:
        assert name == "calibration/array_1"
        self.on_calibration_timer(self._the_array())

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        assert isinstance(effect, ReadPhaseup | FetchCalibration)
        self.on_calibration_failed(effect, reason)

    def restarted(self, event: Restarted) -> None:
        if "config" in event.world:
            self.adopt(event.world["config"])


def at(event: Event, seconds: float) -> Any:
    return type(event)(
        **{**{f: getattr(event, f) for f in event.__struct_fields__}, "at": Instant(START + seconds, seconds)}
    )


def machine(**calibration: Any) -> Phaser:
    made = Phaser()
    config = {**CONFIG, "calibration": {"enabled": True, **calibration}}
    made.step(at(Restarted(epoch=1, world={"config": config}), 0))
    return made


def read(phaseup: float = 500.0, config: float = 100.0, stored: float = 0.0) -> PhaseupRead:
    return PhaseupRead(array="array_1", phaseup=phaseup, last_config=config, last_stored=stored)


def only(effects: list[Effect], kind: type[Any]) -> Any:
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def looking(made: Phaser) -> ReadPhaseup:
    """Up to the question for the phase-up."""
    timer = only(made.step(at(Began(), 1)), ArmTimer)
    asked = only(made.step(at(TimerFired(name=timer.name, generation=timer.generation), 61)), ReadPhaseup)
    assert isinstance(asked, ReadPhaseup)
    return asked


def test_new_solutions_are_fetched_after_the_delay() -> None:
    """A minute after the start it asks when the phase-up was; a new one of this subarray is fetched, and told."""
    made = machine()
    assert only(made.step(at(Began(), 1)), ArmTimer).seconds == 60.0
    assert not made.step(at(Began(), 20)), "a recording that follows at once waits for the same look"
    asked = looking(machine())
    made = machine()
    asked = looking(made)
    fetch = only(made.step(at(read(), 62)), FetchCalibration)
    assert fetch.array == "array_1" and fetch.phaseup == 500.0 and fetch.lane == asked.lane
    made.step(at(EffectDone(effect=asked.id), 62))
    event = CalibrationFetched(array="array_1", phaseup=500.0, key="k", antennas=4)
    assert only(made.step(at(event, 63)), Notify).severity.value == "info"
    event = CalibrationFetched(array="array_1", phaseup=500.0, key="k", antennas=4, zeroed=("m001h",), notes=("odd",))
    notice = only(made.step(at(event, 63)), Notify)
    assert notice.severity.value == "warning" and "m001h" in notice.text and "odd" in notice.text


@pytest.mark.parametrize("event", [read(phaseup=0.0), read(config=600.0), read(stored=500.0)])
def test_old_solutions_stay(event: PhaseupRead) -> None:
    """What is no news is not fetched, and the reason is told."""
    made = machine()
    looking(made)
    effects = made.step(at(event, 62))
    assert not any(isinstance(effect, FetchCalibration) for effect in effects)
    assert only(effects, Notify).code == "calibration-kept"


def test_failures_are_told_and_nothing_hangs() -> None:
    """A telescope state that does not answer costs a warning; the next recording looks again."""
    made = machine()
    asked = looking(made)
    effects = made.step(at(EffectFailed(effect=asked.id, reason="nobody there"), 90))
    assert "nobody there" in only(effects, Notify).text and not made.outstanding_of(ReadPhaseup)
    assert looking(made).id != asked.id


def test_the_delay_survives_a_restart() -> None:
    """A coordinator that is restarted in the minute looks when the minute is over, or at once if it is."""
    made = machine()
    made.step(at(Began(), 1))
    codec = Codec(Phaser)
    parts = {
        key: codec.decode_part(key[0], codec.encode_part(part)) for key, part in made.take_changes().items() if part
    }
    for now, left in ((31.0, 30.0), (100.0, 0.0)):
        again = Phaser()
        again.restore(made.sequence, parts)
        timer = only(again.step(at(Restarted(epoch=2), now)), ArmTimer)
        assert (timer.name, timer.seconds) == ("calibration/array_1", left)


def test_a_subarray_given_up_is_not_calibrated() -> None:
    """With the subarray its delay, its questions and the memory of what was stored go; late answers change nothing."""
    made = machine()
    looking(made)
    made.step(at(Began(), 62))
    effects = made.step(at(Began(what="given up"), 63))
    assert only(effects, StoreWrites).commands == (("SET", "array_1:last-cal", "0"),)
    assert not made.timers and not made.outstanding_of(ReadPhaseup)
    assert not made.step(at(read(), 64))


def test_it_can_be_switched_off() -> None:
    """Where there is no telescope state nothing is looked for."""
    made = machine(enabled=False)
    assert not made.step(at(Began(), 1)) and not made.timers
