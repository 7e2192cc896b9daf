"""The schedule: what a seed decides, and in which order things happen to a subarray."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.config import check
from socs_bl.core.errors import Refused
from socs_bl.simulators.config import Schedule, SubarrayConfig, Timing
from socs_bl.simulators.target import Target, parse_target
from socs_bl.simulators.telescope import Control, Step, plan, tracks

TARGET = Target(name="Hyd A", ra="9:18:05.28", dec="-12:05:48.9")


@given(seed=st.integers(0, 10**9), cycles=st.integers(1, 12))
def test_a_seed_decides_everything(seed: int, cycles: int) -> None:
    """Promise: the same schedule gives the same steps; targets repeat only after all of them were had."""
    schedule = Schedule(seed=seed, cycles=cycles)
    assert plan(schedule) == plan(Schedule(seed=seed, cycles=cycles))
    for subarray in schedule.subarrays:
        names = [track.target.name for track in tracks(schedule) if track.subarray == subarray.name]
        assert len(names) == cycles
        assert len(set(names[:6])) == min(cycles, 6)


def test_another_seed_observes_something_else() -> None:
    """Promise: the seed is used."""
    assert len({tuple(track.target.name for track in tracks(Schedule(seed=seed))) for seed in range(20)}) > 10


def test_plan_of_two_cycles() -> None:
    """Promise: every subarray is built, tracks one target a cycle, and is taken apart, at the times the schedule says."""
    timing = Timing(stagger_s=2, metadata_s=1, subscribe_s=10, slew_s=3, track_s=30, gap_s=20)
    steps = [(step.at, step.event, step.cycle) for step in plan(Schedule(timing=timing)) if step.subarray == "array_2"]
    assert steps == [
        (2, "configure", 0),
        (3, "configured", 0),
        (13, "capture_init", 0),
        (13, "capture_start", 0),
        (13, "target", 1),
        (16, "tracking", 1),
        (46, "not_tracking", 1),
        (66, "target", 2),
        (69, "tracking", 2),
        (99, "not_tracking", 2),
        (119, "capture_stop", 0),
        (119, "capture_done", 0),
        (119, "deconfigure", 0),
    ]


@given(
    seed=st.integers(0, 1000),
    cycles=st.integers(1, 5),
    stagger=st.floats(0, 100),
    times=st.lists(st.floats(0, 50), min_size=4, max_size=4),
)
def test_plan_keeps_the_order_of_events(seed: int, cycles: int, stagger: float, times: list[float]) -> None:
    """Promise: every plan, with zero waits too, is one that CAM's order of events allows, and ends with all taken apart."""
    metadata, subscribe, slew, gap = times
    timing = Timing(stagger_s=stagger, metadata_s=metadata, subscribe_s=subscribe, slew_s=slew, gap_s=gap)
    schedule = Schedule(seed=seed, cycles=cycles, timing=timing)
    control, steps = Control(schedule), plan(schedule)
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    for step in steps:
        control.step(step, step.at, 0.0)
    assert {state.phase for state in control.states.values()} == {"idle"}


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], "configured"),
        ([], "tracking"),
        (["configure"], "configure"),
        (["configure"], "capture_init"),
        (["configure", "configured"], "target"),
        (["configure", "configured", "capture_init", "capture_start"], "tracking"),
        (["configure", "configured", "capture_init", "capture_start"], "not_tracking"),
        (["configure", "configured", "capture_init", "capture_start", "target", "tracking"], "target"),
        (["configure", "configured", "capture_init", "capture_start", "target", "tracking"], "capture_stop"),
    ],
)
def test_events_out_of_order_are_refused_and_change_nothing(before: list[str], event: str) -> None:
    """Promise: the telescope never says what CAM could not say."""
    control = Control(Schedule())
    for name in before:
        control.step(step(name), 1.0, 0.0)
    states = dict(control.states)
    with pytest.raises(Refused, match="array_1 is"):
        control.step(step(event), 2.0, 0.0)
    assert control.states == states


def step(event: str) -> Step:
    """A step of array_1."""
    return Step(0.0, "array_1", event, TARGET if event == "target" else None)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["configure", "track", "stop", "deconfigure"]), max_size=12), st.integers(0, 3))
def test_requests_of_an_operator_are_carried_out_or_refused(requests: list[str], interrupted: int) -> None:
    """Promise: whatever is asked in whatever order, also when only part of it was done, the way back to idle is open."""
    control = Control(Schedule())
    ways = {
        "configure": lambda: control.to_configured("array_1"),
        "track": lambda: control.to_tracking("array_1", TARGET),
        "stop": lambda: control.off_target("array_1"),
        "deconfigure": lambda: control.to_idle("array_1"),
    }
    for number, request in enumerate(requests):
        before = control.states["array_1"]
        try:
            steps = ways[request]()
        except Refused:
            assert control.states["array_1"] == before
            continue
        for one in steps[: -1 if number % 4 == interrupted else None]:
            control.step(one, 0.0, 0.0)
    for one in control.all_to_idle():
        control.step(one, 0.0, 0.0)
    assert {state.phase for state in control.states.values()} == {"idle"}


def test_tracking_another_target_leaves_the_first() -> None:
    """Promise: a target change while tracking is heard as an end of the track first."""
    control = Control(Schedule())
    for steps in (lambda: control.to_configured("array_1"), lambda: control.to_tracking("array_1", TARGET)):
        for one in steps():
            control.step(one, 0.0, 0.0)
    assert [one.event for one in control.to_tracking("array_1", TARGET)] == ["not_tracking", "target", "tracking"]


def test_unknown_subarray_is_refused() -> None:
    """Promise: the refusal names the subarrays there are."""
    with pytest.raises(Refused, match="array_1, array_2"):
        Control(Schedule()).to_configured("array_7")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ({"subarrays": [{"antennas": ["m000", "m000"]}]}, "each once"),
        ({"subarrays": [{"n_groups": 7}]}, "not a multiple of n_groups 7"),
        ({"subarrays": [{"first_group": "10.0.0.1"}]}, "not all multicast"),
        ({"subarrays": [{"first_group": "239.255.255.250"}]}, "not all multicast"),
        ({"subarrays": [{"first_group": "nowhere"}]}, "first_group|IPv4|octets"),
        ({"subarrays": [{"name": "../1"}]}, "subarray name"),
        ({"subarrays": [{}, {"name": "other_1"}]}, "last character"),
        ({"subarrays": [{}, {"name": "array_2"}]}, "both use 239.192.1.0:7148"),
        ({"subarrays": [{}, {"name": "array_2", "first_group": "239.192.3.0"}]}, "one subarray only"),
        ({"subarrays": [{"schedule_blocks": ["yesterday"]}]}, "schedule block"),
        ({"catalogue": [{"name": "a,b", "ra": "0:00:00", "dec": "0:00:00"}]}, "target name"),
        ({"catalogue": [{"name": "a", "ra": "24:00:00", "dec": "0:00:00"}]}, "right ascension"),
        ({"catalogue": [{"name": "a", "ra": "0:00:00", "dec": "-91:00:00"}]}, "declination"),
        ({"tones": {"per_track": 129}}, "more than the channels"),
        ({"tones": {"max_drift_hz_s": 40.0}}, "would not stay clear"),
        ({"tones": {"min_snr": 500}}, "must not exceed"),
        ({"cycle": 3}, "Extra inputs"),
    ],
)
def test_impossible_schedules_are_refused(raw: dict[str, object], found: str) -> None:
    """Promise: a schedule that no telescope could observe is refused with the reason and the key."""
    with pytest.raises(Refused, match=found):
        check(raw, Schedule, "schedule.yaml")


def test_demonstration_geometry() -> None:
    """Promise: the defaults are the demonstration: 8 groups of 16 channels of 4 kHz, 15.625 packets per second."""
    subarray = SubarrayConfig()
    assert (subarray.channel_width_hz, subarray.channels_per_group, subarray.samples_per_heap) == (4000.0, 16, 65536)
    assert subarray.packet_rate_hz == 15.625
    assert subarray.scale_factor == 835937.5 / 4000
    assert subarray.channel_centre_hz(64) == subarray.centre_frequency_hz
    assert subarray.channel_centre_hz(0) == 1420.4e6 - 256e3


def test_targets_by_any_name_or_description() -> None:
    """Promise: operators may say a name, an alias or a whole description; anything else is refused."""
    schedule = Schedule()
    assert schedule.target("3C 286") == schedule.target("J1331+3030")
    assert parse_target(schedule.catalogue[0].description) == schedule.catalogue[0]
    for text in ("nobody", "a, azel, 1:00:00, 2:00:00", "a, radec, x, y", "", "a|b;c, radec, 1:00:00, 2:00:00"):
        with pytest.raises(Refused, match="target"):
            schedule.target(text)


def test_a_schedule_on_another_port_is_otherwise_the_same() -> None:
    """Promise: moved to another port, every stream is on it, CAM says so, and nothing else changes."""
    schedule, moved = Schedule(), Schedule().on_port(40404)
    assert {subarray.port for subarray in moved.subarrays} == {40404}
    assert all(subarray.stream_url.endswith(":40404") for subarray in moved.subarrays)
    assert moved.on_port(schedule.subarrays[0].port) == schedule
