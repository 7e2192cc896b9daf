"""What the demonstration calls a success, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from socs_bl.cli.demo_report import Outcome, show
from socs_bl.cli.demo_theory import theory
from socs_bl.cli.demo_timeline import show_timeline
from socs_bl.commensal.timeline import Row as Happened
from socs_bl.simulators.comparison import Found, SearchedRecording, compare
from socs_bl.simulators.config import Schedule
from socs_bl.simulators.truth import InjectedTone, Truth, inject

TRUTH = inject(Schedule(cycles=1), 1795233600.0)
HAPPENED = Happened(1795233601.5, "array_1", "configure", "")


def outcome(tones: tuple[InjectedTone, ...], hits: list[Found], beams: tuple[str, ...]) -> Outcome:
    """The outcome of one recording of the whole band of the first subarray."""
    subarray = Schedule().subarrays[0]
    low, high = (subarray.channel_centre_hz(channel - 0.5) for channel in (0, subarray.n_channels))
    recording = SearchedRecording(
        subarray="array_1", instance="blpn64/0", start=tones[0].reference - 10.0 if tones else 0.0, duration_s=20.0,
        low_hz=low, high_hz=high, fine_channel_hz=0.9765625, drift_step_hz_s=0.05, hits=tuple(hits), spectra=19,
        beams=beams,
    )  # fmt: skip
    truth = Truth(seed=1, started=0.0, scale_factor={"array_1": 208.98}, fields=TRUTH.fields, tones=tones)
    return Outcome([truth], compare(tones, [recording], theory), 1, 1, 0.0, bool(beams), (HAPPENED,))


TONES = tuple(tone for tone in TRUTH.tones if tone.subarray == "array_1")
BEAMS = tuple(target.name for target in TRUTH.field("array_1", 1))
HITS = [
    Found(tone.frequency_at(TONES[0].reference - 10.0), tone.drift_hz_s, 90.0, BEAMS.index(tone.source), tone.source)
    for tone in TONES
]


def test_success_is_all_and_nothing_else() -> None:
    """Ok only when every signal was found, in the beam on it, and no hit is left over; and when there were any."""
    good = outcome(TONES, HITS, BEAMS)
    assert good.ok and good.false_hits == 0
    extra = outcome(TONES, [*HITS, Found(HITS[0].frequency_hz + 500, 0.0, 9.0)], BEAMS)
    assert not extra.ok and extra.false_hits == 1
    assert not outcome(TONES, HITS[1:], BEAMS).ok
    moved = [Found(HITS[0].frequency_hz, HITS[0].drift_hz_s, 90.0, 1, BEAMS[1]), *HITS[1:]]
    assert not outcome(TONES, moved, BEAMS).ok
    assert not outcome((), [], BEAMS).ok
    blind = [Found(hit.frequency_hz, hit.drift_hz_s, hit.snr) for hit in HITS]
    assert outcome(TONES, blind, ()).ok, "without a recipe there is no beam to be wrong"


def test_what_is_said(tmp_path: Path) -> None:
    """The tables name signals, beams, ratios and times; the JSON has the same, and the timeline."""
    found = outcome(TONES, HITS, BEAMS)
    console = Console(width=150, record=True, file=(tmp_path / "log").open("w"))
    show(console, found)
    show_timeline(console, found.timeline)
    console.file.close()
    text = console.export_text()
    assert all(name in text for name in (*BEAMS, "theory", "found", "configure", "04:00:01.500"))
    summary = found.as_json(tmp_path, None)
    assert summary["false_hits"] == 0 and summary["beamformed"] and summary["timeline"][0]["what"] == "configure"
    assert [row["true_beam"] for row in summary["rows"]] == [row["beam"] for row in summary["rows"]] == list(BEAMS)
    ratios = [90.0 / row["expected_snr"] for row in summary["rows"]]
    assert summary["snr_ratio"]["min"] == pytest.approx(min(ratios))


def test_a_stronger_signal_is_expected_stronger() -> None:
    """The expected ratio follows the injected power, and gains in a beam what the array gives."""
    (weak,) = outcome(TONES[:1], HITS[:1], BEAMS).rows
    (strong,) = outcome((replace(TONES[0], power=2 * TONES[0].power),), HITS[:1], BEAMS).rows
    (blind,) = outcome(TONES[:1], [Found(HITS[0].frequency_hz, HITS[0].drift_hz_s, 90.0)], ()).rows
    assert strong.expected_snr == pytest.approx(2 * (weak.expected_snr or 0.0))
    assert weak.expected_snr == pytest.approx(2 * (blind.expected_snr or 0.0)), "four antennas"
