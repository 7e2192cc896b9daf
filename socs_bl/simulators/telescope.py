"""Who observes what, and when: a schedule as timed steps, and the order of events CAM keeps for a subarray.

Everything here is pure: time comes in as an argument, and what is to be done comes out as the actions of
`socs_bl.simulators.cam`. A subarray goes through these phases::

    idle -configure-> configuring -configured-> configured -capture_init-> initialised -capture_start-> capturing
    capturing -target-> slewing -tracking-> tracking -not_tracking-> capturing
    capturing, slewing -capture_stop-> stopped -capture_done-> configured
    any -deconfigure-> idle
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from socs_bl.core.errors import Refused
from socs_bl.simulators import cam
from socs_bl.simulators.config import Schedule, SubarrayConfig, Timing
from socs_bl.simulators.target import Target

Phase = Literal["idle", "configuring", "configured", "initialised", "capturing", "slewing", "tracking", "stopped"]
Event = Literal[
    "configure",
    "configured",
    "capture_init",
    "capture_start",
    "target",
    "tracking",
    "not_tracking",
    "capture_stop",
    "capture_done",
    "deconfigure",
]

_ORDER: dict[Event, tuple[tuple[Phase, ...], Phase]] = {
    "configure": (("idle",), "configuring"),
    "configured": (("configuring",), "configured"),
    "capture_init": (("configured",), "initialised"),
    "capture_start": (("initialised",), "capturing"),
    "target": (("capturing", "slewing"), "slewing"),
    "tracking": (("slewing",), "tracking"),
    "not_tracking": (("tracking",), "capturing"),
    "capture_stop": (("capturing", "slewing"), "stopped"),
    "capture_done": (("stopped",), "configured"),
}


@dataclass(frozen=True)
class Step:
    """One event of one subarray.

    Attributes
    ----------
    at : float
        Seconds after the start of the schedule.
    subarray : str
    event : str
    target : Target or None
        Of a `target` event.
    cycle : int
        Counted from 1; 0 outside the cycles.
    """

    at: float
    subarray: str
    event: Event
    target: Target | None = None
    cycle: int = 0


@dataclass(frozen=True)
class Track:
    """One target of one subarray, in seconds after the start of the schedule.

    Attributes
    ----------
    subarray : str
    cycle : int
        Counted from 1.
    target : Target
    slew_at, track_at, end_at : float
        The target is requested, the antennas are on source, they leave it.
    """

    subarray: str
    cycle: int
    target: Target
    slew_at: float
    track_at: float
    end_at: float


def tracks(schedule: Schedule) -> tuple[Track, ...]:
    """The targets of all subarrays, drawn from the catalogue with the schedule's seed; none twice until all were had."""
    found = []
    for index, subarray in enumerate(schedule.subarrays):
        draw = random.Random(f"{schedule.seed}/{subarray.name}/targets")
        timing, left = schedule.timing, list[Target]()
        slew_at = _observing_at(timing, index)
        for cycle in range(1, schedule.cycles + 1):
            left = left or draw.sample(schedule.catalogue, len(schedule.catalogue))
            track_at = slew_at + timing.slew_s
            end_at = track_at + timing.track_s
            found.append(Track(subarray.name, cycle, left.pop(), slew_at, track_at, end_at))
            slew_at = end_at + timing.gap_s
    return tuple(found)


def plan(schedule: Schedule) -> tuple[Step, ...]:
    """All steps of a schedule in order of time; the same schedule gives the same steps."""
    steps = []
    for index, subarray in enumerate(schedule.subarrays):
        timing, name = schedule.timing, subarray.name
        start, observing = timing.stagger_s * index, _observing_at(timing, index)
        mine = [track for track in tracks(schedule) if track.subarray == name]
        end = mine[-1].end_at + timing.gap_s
        steps += [
            Step(start, name, "configure"),
            Step(start + timing.metadata_s, name, "configured"),
            Step(observing, name, "capture_init"),
            Step(observing, name, "capture_start"),
        ]
        for track in mine:
            steps += [
                Step(track.slew_at, name, "target", track.target, track.cycle),
                Step(track.track_at, name, "tracking", None, track.cycle),
                Step(track.end_at, name, "not_tracking", None, track.cycle),
            ]
        steps += [Step(end, name, "capture_stop"), Step(end, name, "capture_done"), Step(end, name, "deconfigure")]
    return tuple(sorted(steps, key=lambda step: step.at))


@dataclass(frozen=True)
class SubarrayState:
    """What CAM knows of a subarray.

    Attributes
    ----------
    phase : str
    target : Target or None
        The last one requested since it was configured.
    since : float
        Unix time of the last event, seconds; 0 before the first.
    """

    phase: Phase = "idle"
    target: Target | None = None
    since: float = 0.0


class Control:
    """Keeps the order of events of every subarray and says what each event writes.

    Parameters
    ----------
    schedule : Schedule
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.states = {subarray.name: SubarrayState() for subarray in schedule.subarrays}

    def step(self, step: Step, now: float, sync_time: float) -> tuple[cam.Action, ...]:
        """Take one event.

        Parameters
        ----------
        step : Step
        now : float
            Unix time, seconds.
        sync_time : float
            Unix time of ADC sample 0 of the F-engines, seconds.

        Returns
        -------
        tuple of Action

        Raises
        ------
        Refused
            When the subarray is unknown or in a phase where this cannot happen; nothing has changed.
        """
        subarray = self._schedule.subarray(step.subarray)
        state = self.states[subarray.name]
        before, after = _ORDER[step.event] if step.event != "deconfigure" else ((state.phase,), "idle")
        if state.phase not in before:
            raise Refused(f"{subarray.name} is {state.phase}; {step.event} needs it {' or '.join(before)}")
        if (step.target is None) == (step.event == "target"):
            raise Refused(
                f"{subarray.name}: a target belongs to the event 'target' and to no other, not to {step.event}"
            )
        actions = _actions(subarray, step, now, sync_time)
        target = None if after == "idle" else step.target or state.target
        self.states[subarray.name] = replace(state, phase=after, target=target, since=now)
        return actions

    def to_configured(self, subarray: str) -> tuple[Step, ...]:
        """The steps that build a subarray, counted from now.

        Raises
        ------
        Refused
            When it is built already.
        """
        phase = self._phase(subarray)
        if phase != "idle":
            raise Refused(f"{subarray} is {phase}; deconfigure it first")
        return Step(0.0, subarray, "configure"), Step(self._schedule.timing.metadata_s, subarray, "configured")

    def to_tracking(self, subarray: str, target: Target) -> tuple[Step, ...]:
        """The steps that bring a subarray onto `target`, counted from now.

        Raises
        ------
        Refused
            When it is not built.
        """
        steps = tuple(Step(0.0, subarray, event) for event in self._to_capturing(subarray))
        slew = self._schedule.timing.slew_s
        return *steps, Step(0.0, subarray, "target", target), Step(slew, subarray, "tracking")

    def storm(self, subarray: str, tracks: int, per_minute: float) -> tuple[Step, ...]:
        """The steps of a storm of target changes, counted from now: half of the time on source.

        Parameters
        ----------
        subarray : str
        tracks : int
            How many; the targets are those of the catalogue, in turn.
        per_minute : float

        Raises
        ------
        Refused
            When it is not built.
        """
        steps = [Step(0.0, subarray, event) for event in self._to_capturing(subarray)]
        interval, catalogue = 60.0 / per_minute, self._schedule.catalogue
        for number in range(tracks):
            at = number * interval
            steps += [
                Step(at, subarray, "target", catalogue[number % len(catalogue)]),
                Step(at + interval / 4, subarray, "tracking"),
                Step(at + 3 * interval / 4, subarray, "not_tracking"),
            ]
        return tuple(steps)

    def _to_capturing(self, subarray: str) -> list[Event]:
        """The events after which a built subarray may be given a target."""
        phase = self._phase(subarray)
        if phase in ("idle", "configuring"):
            raise Refused(f"{subarray} is {phase}; configure it first")
        events: list[Event] = []
        if phase == "tracking":
            events += ["not_tracking"]
        if phase == "stopped":
            events += ["capture_done"]
        if phase in ("configured", "stopped"):
            events += ["capture_init"]
        if phase in ("configured", "stopped", "initialised"):
            events += ["capture_start"]
        return events

    def off_target(self, subarray: str) -> tuple[Step, ...]:
        """The step that takes a subarray off its target.

        Raises
        ------
        Refused
            When it tracks nothing.
        """
        phase = self._phase(subarray)
        if phase != "tracking":
            raise Refused(f"{subarray} is {phase} and tracks nothing")
        return (Step(0.0, subarray, "not_tracking"),)

    def to_idle(self, subarray: str) -> tuple[Step, ...]:
        """The steps that end whatever a subarray does and take it apart, at once."""
        phase = self._phase(subarray)
        events: list[Event] = []
        if phase == "tracking":
            events += ["not_tracking"]
        if phase in ("tracking", "slewing", "capturing"):
            events += ["capture_stop"]
        if phase in ("tracking", "slewing", "capturing", "stopped"):
            events += ["capture_done"]
        return tuple(Step(0.0, subarray, event) for event in (*events, "deconfigure"))

    def all_to_idle(self) -> Iterator[Step]:
        """The steps that take every built subarray apart, at once."""
        for name, state in tuple(self.states.items()):
            if state.phase != "idle":
                yield from self.to_idle(name)

    def _phase(self, subarray: str) -> Phase:
        return self.states[self._schedule.subarray(subarray).name].phase


def _observing_at(timing: Timing, index: int) -> float:
    """When the observation of the subarray at place `index` begins."""
    return timing.stagger_s * index + timing.metadata_s + timing.subscribe_s


def _actions(subarray: SubarrayConfig, step: Step, now: float, sync_time: float) -> tuple[cam.Action, ...]:
    """What CAM's interface does at an event."""
    match step.event:
        case "configure":
            return cam.configure(subarray, now)
        case "configured":
            return cam.configured(subarray, now, sync_time)
        case "capture_init":
            return cam.capture_init(subarray)
        case "capture_start":
            return cam.capture_start(subarray, now)
        case "target":
            assert step.target is not None  # `Control.step` has seen to it
            return cam.target_changed(subarray, step.target, now)
        case "tracking":
            return cam.tracking(subarray)
        case "not_tracking":
            return cam.not_tracking(subarray, now)
        case "capture_stop":
            return cam.capture_stop(subarray)
        case "capture_done":
            return cam.capture_done(subarray)
        case "deconfigure":
            return cam.deconfigure(subarray)
