"""What the demonstration prints at its end: what was injected against what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
from msgspec import structs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from socs_bl.cli.demo_theory import theory
from socs_bl.cli.demo_timeline import timeline_json
from socs_bl.commensal.timeline import Row as Happened
from socs_bl.core.errors import Refused
from socs_bl.simulators.comparison import Row, compare, read_search
from socs_bl.simulators.truth import Truth
from socs_bl.simulators.truth_file import read_truth


@dataclass(frozen=True)
class Outcome:
    """The comparison of one session.

    Attributes
    ----------
    truths : list of Truth
        What was injected, a cycle each.
    rows : list of Row
    recordings : int
        Recordings that were searched.
    completed : int
        Runs the coordinator counts as completed.
    missing : float
        Largest fraction of a recording that was lost.
    beamformed : bool
        Whether every recording was searched in beams.
    timeline : tuple
        What happened, from the coordinator's journal.
    """

    truths: list[Truth]
    rows: list[Row]
    recordings: int
    completed: int
    missing: float
    beamformed: bool
    timeline: tuple[Happened, ...]

    @property
    def ok(self) -> bool:
        """There were injected signals, all were found, each in the beam on it, and nothing else was."""
        return bool(self.rows) and all(row.verdict == "found" for row in self.rows)

    @property
    def false_hits(self) -> int:
        """Hits that no injected signal explains."""
        return sum(row.verdict == "unexpected" for row in self.rows)

    @property
    def snr_ratios(self) -> list[float]:
        """Signal-to-noise ratio measured over expected, of every signal found."""
        return [row.snr_ratio for row in self.rows if row.snr_ratio is not None]

    def as_json(self, run_dir: Path, image: Path | None) -> dict[str, Any]:
        """For other programs: what went in, what came out, where it is."""
        return {
            "ok": self.ok,
            "scale_factor": self.truths[0].scale_factor,
            "injected": [msgspec.to_builtins(tone) for truth in self.truths for tone in truth.tones],
            "rows": [_row_json(row) for row in self.rows],
            "false_hits": self.false_hits,
            "beamformed": self.beamformed,
            "snr_ratio": _span(self.snr_ratios),
            "timeline": timeline_json(self.timeline),
            "recordings": self.recordings,
            "completed_runs": self.completed,
            "largest_missing_fraction": self.missing,
            "run_dir": str(run_dir),
            "products": str(run_dir / "products"),
            "waterfall": str(image) if image else None,
        }


def _span(values: Sequence[float]) -> dict[str, float] | None:
    """Smallest, mean and largest; None of nothing."""
    return {"min": min(values), "mean": fmean(values), "max": max(values)} if values else None


def collect(truths: Sequence[Path], products: Path, completed: int, timeline: Sequence[Happened]) -> Outcome:
    """Read hit lists and the list of injected signals, and compare.

    Raises
    ------
    Refused
        When there is no hit list, or one cannot be read.
    """
    recordings = [read_search(path) for path in sorted(products.rglob("*.search.json"))]
    if not recordings:
        raise Refused(f"{products}: no search has left its summary there; look at the logs of the analyzers")
    read = [read_truth(path, Truth) for path in truths]
    tones = [structs.replace(tone, cycle=cycle) for cycle, truth in enumerate(read, 1) for tone in truth.tones]
    missing = max(recording.missing for recording in recordings)
    beamformed = all(recording.beams for recording in recordings)
    rows = compare(tones, recordings, theory)
    return Outcome(read, rows, len(recordings), completed, missing, beamformed, tuple(timeline))


def picture(products: Path) -> Path | None:
    """The waterfall of the strongest hit of all."""
    best: tuple[float, Path] | None = None
    for path in products.rglob("*.search.json"):
        hits = json.loads(path.read_text())["hits"]
        image = path.with_name(path.name.replace(".search.json", ".hit01.png"))
        if hits and image.is_file() and (best is None or hits[0]["snr"] > best[0]):
            best = (hits[0]["snr"], image)
    return best[1] if best else None


def show(console: Console, outcome: Outcome) -> None:
    """Print the table."""
    table = Table(title="injected against found (at the first sample of each recording)")
    for name in ("cycle", "subarray", "instance"):
        table.add_column(name, no_wrap=True)
    for name in ("MHz", "Hz/s", "off, ch.", "off, steps", "S/N", "theory", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("signal at", "in beam", ""):
        table.add_column(name, no_wrap=True)
    for row in outcome.rows:
        table.add_row(*_cells(row), Text(row.verdict, "green" if row.verdict == "found" else "bold red"))
    console.print(table)
    factors = ", ".join(f"{name} 1/{factor:.2f}" for name, factor in outcome.truths[0].scale_factor.items())
    console.print(f"sample rate scaled for this machine: {factors} of L band in 1k mode; packet index in real time")
    console.print(f"largest fraction of a recording that was not received: {outcome.missing:.3%}")
    if ratios := _span(outcome.snr_ratios):
        console.print(
            "signal-to-noise ratio over theory (radiometer formula, scalloping, drift smearing, lines tried):"
            f" {ratios['min']:.2f} to {ratios['max']:.2f}, mean {ratios['mean']:.2f}"
        )
    if not outcome.beamformed:
        console.print("searched without a recipe: in the incoherent sum only, so no beam was looked for")


def _cells(row: Row) -> list[str]:
    tone, hit = row.tone, row.hit
    return [
        str(tone.cycle) if tone else "",
        row.subarray,
        row.instance,
        f"{(row.injected_hz or (hit.frequency_hz if hit else 0.0)) / 1e6:.7f}",
        f"{tone.drift_hz_s:+.3f}" if tone else f"{hit.drift_hz_s:+.3f}" if hit else "",
        f"{row.frequency_channels:+.2f}" if row.frequency_channels is not None else "",
        f"{row.drift_steps:+.2f}" if row.drift_steps is not None else "",
        f"{hit.snr:.0f}" if hit else "",
        f"{row.expected_snr:.0f}" if row.expected_snr is not None else "",
        f"{row.snr_ratio:.2f}" if row.snr_ratio is not None else "",
        tone.source if tone else "",
        (hit.beam_name or "sum") if hit else "",
    ]


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "verdict": row.verdict,
        "subarray": row.subarray,
        "cycle": row.tone.cycle if row.tone else None,
        "instance": row.instance,
        "injected_hz": row.injected_hz,
        "injected_drift_hz_s": row.tone.drift_hz_s if row.tone else None,
        "found_hz": row.hit.frequency_hz if row.hit else None,
        "found_drift_hz_s": row.hit.drift_hz_s if row.hit else None,
        "snr": row.hit.snr if row.hit else None,
        "expected_snr": row.expected_snr,
        "snr_ratio": row.snr_ratio,
        "beam": row.hit.beam_name if row.hit else None,
        "true_beam": row.tone.source if row.tone else None,
        "off_by_channels": row.frequency_channels,
        "off_by_steps": row.drift_steps,
    }
