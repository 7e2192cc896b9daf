"""When the machine looks for calibration solutions, what it fetches, what it tells, and that restarts lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from tests.commensal.bench import Bench


def recording(**calibration: Any) -> Bench:
    """A recording has begun."""
    bench = Bench(calibration={"enabled": True, **calibration})
    bench.subscribe()
    bench.new_writes()
    bench.record()
    bench.codes()
    return bench


def read(phaseup: float = 500.0, config: float = 100.0, stored: float = 0.0) -> PhaseupRead:
    return PhaseupRead(array="array_1", phaseup=phaseup, last_config=config, last_stored=stored)


def ask(bench: Bench) -> ReadPhaseup:
    """The delay is over: the question when the phase-up was."""
    bench.fire("calibrate/array_1")
    (asked,) = bench.wanted(ReadPhaseup)
    return asked


def test_new_solutions_are_fetched_after_the_delay() -> None:
    """A minute after the start it asks when the phase-up was; a new one of this subarray is fetched, and told."""
    bench = recording()
    timer = bench.machine.timers["calibrate/array_1"]
    assert timer.duration == 60.0
    asked = ask(bench)
    bench.answer(asked, read())
    (fetch,) = bench.wanted(FetchCalibration)
    assert (fetch.array, fetch.phaseup, fetch.lane) == ("array_1", 500.0, asked.lane)
    bench.answer(fetch, CalibrationFetched(array="array_1", phaseup=500.0, key="k", antennas=4, zeroed=("m001h",)))
    (notice,) = bench.notices
    assert (notice.code, notice.severity.value) == ("calibration", "warning") and "m001h" in notice.text
    assert bench.array().calibration in notice.text


@pytest.mark.parametrize("event", [read(phaseup=0.0), read(config=600.0), read(stored=500.0)])
def test_old_solutions_stay(event: PhaseupRead) -> None:
    """What is no news is not fetched; the reason is told, once for recordings that follow each other."""
    bench = recording()
    bench.answer(ask(bench), event)
    assert not bench.wanted(FetchCalibration) and bench.codes() == ["calibration-skipped"]
    assert not bench.ask("fetch_cal", "array_1")
    bench.answer(ask(bench), event)
    assert bench.codes() == ["calibration-skipped"], "who asks is told again"


def test_what_has_not_changed_is_not_told_again() -> None:
    """Recordings that follow each other do not repeat that there is nothing new."""
    bench = recording()
    bench.fire("start/array_1")
    bench.status()
    bench.fire("record/array_1")
    bench.status()
    bench.result("blpn64/0")
    bench.result("blpn64/1")
    bench.answer(ask(bench), read(stored=500.0))
    assert "calibration-skipped" in bench.codes()
    bench.record()
    bench.codes()
    bench.answer(ask(bench), read(stored=500.0))
    assert bench.codes() == []


def test_failures_are_told_and_nothing_hangs() -> None:
    """A telescope state that does not answer costs a warning; the recording goes on, and the next look is free."""
    bench = recording()
    bench.fail(ask(bench), "nobody there")
    assert "nobody there" in bench.notices[-1].text and bench.states()[1] == "RECORD"
    assert not bench.ask("fetch_cal", "array_1", delay=5.0)
    assert bench.machine.timers["calibrate/array_1"].duration == 5.0
    bench.answer(ask(bench), read())
    assert "already" in bench.ask("fetch_cal", "array_1")
    (fetch,) = bench.wanted(FetchCalibration)
    bench.fail(fetch, "no gains")
    assert "no gains" in bench.array().calibration


def test_the_delay_survives_a_restart() -> None:
    """A coordinator that is restarted in the minute looks when the minute is over."""
    bench = recording()
    deadline = bench.machine.timers["calibrate/array_1"].deadline
    bench.restart()
    assert bench.machine.timers["calibrate/array_1"].deadline == deadline
    assert ask(bench).array == "array_1"


def test_a_subarray_given_up_is_not_calibrated() -> None:
    """With the subarray its delay, its questions and the memory of what was stored go; late answers change nothing."""
    bench = recording()
    ask(bench)
    bench.new_writes()
    bench.cam("deconfigure")
    assert ("SET", "array_1:last-cal", "0") in bench.new_writes()
    assert "calibrate/array_1" not in bench.timers and not bench.wanted(ReadPhaseup)
    bench.say(read())
    assert not bench.wanted(FetchCalibration)


def test_a_subarray_configured_anew_begins_without_solutions() -> None:
    """Also when its end was never heard here: what is in Redis is of other antennas, and an old retrieval is off."""
    bench = Bench(calibration={"enabled": True})
    bench.ask("fetch_cal", "array_1", delay=30.0)
    bench.new_writes()
    bench.cam("configure")
    assert "calibrate/array_1" not in bench.timers
    assert ("SET", "array_1:last-cal", "0") in bench.new_writes()


def test_it_can_be_switched_off() -> None:
    """Where there is no telescope state nothing is looked for, unless somebody asks."""
    bench = recording(enabled=False)
    assert "calibrate/array_1" not in bench.timers
    assert not bench.ask("fetch_cal", "array_1") and ask(bench)
