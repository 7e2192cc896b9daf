"""Injected tones, and their comparison with hits."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.simulators.comparison import Found, SearchedRecording, compare
from socs_bl.simulators.config import Schedule, SubarrayConfig, ToneConfig
from socs_bl.simulators.telescope import tracks
from socs_bl.simulators.truth import InjectedTone, Truth, inject, power_ratio
from socs_bl.simulators.truth_file import read_truth, write_truth

FINE, STEP = 0.9765625, 0.05
START = 1000.0
TONE = InjectedTone(
    subarray="array_1",
    cycle=1,
    target="x",
    source="x_1",
    ra_deg=139.6,
    dec_deg=-12.1,
    frequency_hz=1420.4e6,
    drift_hz_s=2.0,
    reference=1010.0,
    start=990.0,
    stop=1050.0,
    snr=100.0,
    power=0.002,
    channel_hz=1420.4e6 - 700.0,
    channel_width_hz=4000.0,
    antennas=4,
)
AT_START = 1420.4e6 - 20.0


def recording(*hits: Found, **changes: object) -> SearchedRecording:
    """A recording that should hold TONE."""
    values = {
        "subarray": "array_1",
        "instance": "blpn64/0",
        "start": START,
        "duration_s": 20.0,
        "low_hz": 1420.3e6,
        "high_hz": 1420.5e6,
        "fine_channel_hz": FINE,
        "drift_step_hz_s": STEP,
        "hits": hits,
        "spectra": 19,
    }
    return SearchedRecording(**(values | changes))  # type: ignore[arg-type]


def hit(channels: float = 0.0, steps: float = 0.0) -> Found:
    """A hit so many fine channels and drift steps off TONE at the start of the recording."""
    return Found(AT_START + channels * FINE, TONE.drift_hz_s + steps * STEP, 50.0)


@given(seed=st.integers(0, 10**9))
def test_tones_are_drawn_by_seed_and_stay_where_a_search_can_see_them(seed: int) -> None:
    """Promise: tones come from the seed; each keeps clear of edges and centre of one channel while it is tracked."""
    schedule = Schedule(seed=seed)
    truth = inject(schedule, 5000.0)
    assert truth == inject(Schedule(seed=seed), 5000.0)
    tracked = {(track.subarray, track.cycle): track for track in tracks(schedule)}
    assert len(truth.tones) == len(tracked) * schedule.tones.per_track
    for tone in truth.tones:
        subarray, track = schedule.subarray(tone.subarray), tracked[tone.subarray, tone.cycle]
        assert 0.3 <= abs(tone.drift_hz_s) <= 3.0
        assert tone.start <= 5000 + track.track_at < 5000 + track.end_at <= tone.stop
        places = {
            divmod((tone.frequency_at(5000 + at) - subarray.channel_centre_hz(-0.5)) / subarray.channel_width_hz, 1)
            for at in (track.track_at, track.end_at)
        }
        (channel,) = {place[0] for place in places}
        assert 0 <= channel < subarray.n_channels
        assert all(0.1 - 1e-6 <= abs(place[1] - 0.5) <= 0.4 + 1e-6 for place in places)


def test_tones_are_spread_over_the_band_and_do_not_overlap_in_time() -> None:
    """Promise: every quarter of the band (so every instance's share) has a tone in each cycle, one cycle at a time."""
    schedule = Schedule()
    tones = inject(schedule, 0.0).tones
    for subarray in schedule.subarrays:
        first, second = ([t for t in tones if t.subarray == subarray.name and t.cycle == cycle] for cycle in (1, 2))
        for cycle in (first, second):
            quarters = [
                int((t.frequency_hz - subarray.channel_centre_hz(-0.5)) / subarray.bandwidth_hz * 4) for t in cycle
            ]
            assert quarters == [0, 1, 2, 3]
        assert {t.stop for t in first} == {t.start for t in second}
        assert {t.frequency_hz for t in first}.isdisjoint(t.frequency_hz for t in second)


def test_nominal_snr_is_that_of_a_steady_tone() -> None:
    """Promise: a tone of the stated power has the stated signal-to-noise ratio in a plain sum of spectra."""
    subarray, config = SubarrayConfig(), ToneConfig()
    fine, spectra, inputs = 4096, 19, 8
    rng = np.random.default_rng(7)
    amplitude = math.sqrt(power_ratio(100.0, subarray, config))
    total = np.zeros(fine)
    for _ in range(spectra * inputs):
        noise = (rng.standard_normal(fine) + 1j * rng.standard_normal(fine)) / math.sqrt(2)
        tone = amplitude * np.exp(2j * np.pi * (600 * np.arange(fine) / fine + rng.random()))
        total += np.abs(np.fft.fft(noise + tone)) ** 2
    background = np.delete(total, 600)
    assert (total[600] - background.mean()) / background.std() == pytest.approx(100.0, rel=0.15)


@pytest.mark.parametrize(
    ("channels", "steps", "verdict"),
    [
        (0.0, 0.0, "found"),
        (0.999, 0.0, "found"),
        (-0.999, 0.0, "found"),
        (0.0, 0.999, "found"),
        (0.0, -0.999, "found"),
        (0.999, -0.999, "found"),
        (1.001, 0.0, "missed"),
        (-1.001, 0.0, "missed"),
        (0.0, 1.001, "missed"),
        (0.0, -1.001, "missed"),
    ],
)
def test_one_fine_channel_and_one_drift_step(channels: float, steps: float, verdict: str) -> None:
    """Promise: a hit finds a tone within one fine channel and one drift step, at the first sample of the recording."""
    rows = compare([TONE], [recording(hit(channels, steps))])
    assert rows[0].verdict == verdict
    assert rows[0].injected_hz == AT_START
    if verdict == "found":
        assert rows[0].frequency_channels == pytest.approx(channels, abs=1e-6)
        assert rows[0].drift_steps == pytest.approx(steps, abs=1e-6)
        assert len(rows) == 1
    else:
        assert [row.verdict for row in rows] == ["missed", "unexpected"]


def test_exactly_one_channel_and_one_step_is_still_found() -> None:
    """Promise: the limit itself belongs to what is found (numbers that floating point holds exactly)."""
    tone = msgspec.structs.replace(TONE, frequency_hz=1024.0, drift_hz_s=0.0)
    exact = recording(Found(1025.0, 0.5, 50.0), fine_channel_hz=1.0, drift_step_hz_s=0.5, low_hz=0.0)
    assert [row.verdict for row in compare([tone], [exact])] == ["found"]


@pytest.mark.parametrize(
    "changes",
    [
        {"subarray": "array_2"},
        {"start": 989.0},
        {"start": 1031.0},
        {"low_hz": 1420.4e6 + 1},
        {"high_hz": 1420.4e6 - 1},
    ],
)
def test_a_tone_outside_every_recording_is_not_recorded(changes: dict[str, object]) -> None:
    """Promise: another subarray's, an earlier or later, a lower or higher recording is not asked for the tone."""
    assert [row.verdict for row in compare([TONE], [recording(**changes)])] == ["not recorded"]


def test_no_recording_at_all() -> None:
    """Promise: an empty comparison does not pass."""
    assert [row.verdict for row in compare([TONE], [])] == ["not recorded"]


def test_the_instance_follows_from_the_band() -> None:
    """Promise: of two instances only the one whose band holds the tone is asked."""
    below = recording(instance="blpn64/1", low_hz=1420.2e6, high_hz=1420.3e6)
    rows = compare([TONE], [below, recording(hit())])
    assert [(row.verdict, row.instance) for row in rows] == [("found", "blpn64/0")]


def test_each_hit_explains_one_tone_and_the_closest_first() -> None:
    """Promise: two tones are not found by one hit, and the closer hit is taken."""
    near = msgspec.structs.replace(TONE, frequency_hz=TONE.frequency_hz + 0.5 * FINE)
    rows = compare([TONE, near], [recording(hit(0.4))])
    assert [row.verdict for row in rows] == ["missed", "found"]
    rows = compare([TONE], [recording(hit(0.8), hit(0.1))])
    assert [row.verdict for row in rows] == ["found", "unexpected"]
    assert rows[0].frequency_channels == pytest.approx(0.1, abs=1e-6)


def test_a_tone_must_be_found_in_every_recording_that_holds_it() -> None:
    """Promise: a second recording of the same tone without a hit shows."""
    rows = compare([TONE], [recording(hit()), recording(instance="blpn65/0", start=1005.0)])
    assert [(row.verdict, row.instance) for row in rows] == [("found", "blpn64/0"), ("missed", "blpn65/0")]


def test_truth_file_is_read_back_and_nothing_else_is(tmp_path: Path) -> None:
    """Promise: the file is whole, comes back as it was, and damage is refused by name."""
    path = tmp_path / "telescope" / "truth.json"
    truth = inject(Schedule(), 1795233600.0)
    write_truth(path, truth)
    assert read_truth(path, Truth) == truth
    assert [entry.name for entry in path.parent.iterdir()] == ["truth.json"]
    for content in (b"", b"{}", path.read_bytes()[:-20], path.read_bytes().replace(b'"version": 2', b'"version": 3')):
        path.write_bytes(content)
        with pytest.raises(Refused, match="truth.json"):
            read_truth(path, Truth)
    with pytest.raises(Refused, match="cannot be read"):
        read_truth(tmp_path / "missing.json", Truth)
