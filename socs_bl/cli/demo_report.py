"""What the demonstration prints at its end: what was injected against what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from socs_bl.core.errors import Refused
from socs_bl.simulators.comparison import Row, compare, read_search
from socs_bl.simulators.truth import Truth, read_truth


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
    """

    truths: list[Truth]
    rows: list[Row]
    recordings: int
    completed: int
    missing: float

    @property
    def ok(self) -> bool:
        """Every injected signal was found, and there were some."""
        wanted = [row for row in self.rows if row.tone is not None]
        return bool(wanted) and all(row.verdict == "found" for row in wanted)

    def as_json(self, run_dir: Path, image: Path | None) -> dict[str, Any]:
        """For other programs: what went in, what came out, where it is."""
        return {
            "ok": self.ok,
            "scale_factor": self.truths[0].scale_factor,
            "injected": [msgspec.to_builtins(tone) for truth in self.truths for tone in truth.tones],
            "rows": [_row_json(row) for row in self.rows],
            "recordings": self.recordings,
            "completed_runs": self.completed,
            "largest_missing_fraction": self.missing,
            "run_dir": str(run_dir),
            "products": str(run_dir / "products"),
            "waterfall": str(image) if image else None,
        }


def collect(truths: Sequence[Path], products: Path, completed: int) -> Outcome:
    """Read hit lists and the list of injected signals, and compare.

    Raises
    ------
    Refused
        When there is no hit list, or one cannot be read.
    """
    recordings = [read_search(path) for path in sorted(products.rglob("*.search.json"))]
    if not recordings:
        raise Refused(f"{products}: no search has left its summary there; look at the logs of the analyzers")
    read = [read_truth(path) for path in truths]
    tones = [structs.replace(tone, cycle=cycle) for cycle, truth in enumerate(read, 1) for tone in truth.tones]
    missing = max(recording.missing for recording in recordings)
    return Outcome(read, compare(tones, recordings), len(recordings), completed, missing)


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
    for name in ("injected MHz", "Hz/s", "found MHz", "Hz/s", "S/N", "off, channels", "off, steps"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in outcome.rows:
        table.add_row(*_cells(row), Text(row.verdict, "green" if row.verdict == "found" else "bold red"))
    console.print(table)
    factors = ", ".join(f"{name} 1/{factor:.2f}" for name, factor in outcome.truths[0].scale_factor.items())
    console.print(f"sample rate scaled for this machine: {factors} of L band in 1k mode; packet index in real time")
    console.print(f"largest fraction of a recording that was not received: {outcome.missing:.3%}")


def _cells(row: Row) -> list[str]:
    tone, hit = row.tone, row.hit
    return [
        str(tone.cycle) if tone else "",
        row.subarray,
        row.instance,
        f"{row.injected_hz / 1e6:.7f}" if row.injected_hz is not None else "",
        f"{tone.drift_hz_s:+.3f}" if tone else "",
        f"{hit.frequency_hz / 1e6:.7f}" if hit else "",
        f"{hit.drift_hz_s:+.3f}" if hit else "",
        f"{hit.snr:.0f}" if hit else "",
        f"{row.frequency_channels:+.2f}" if row.frequency_channels is not None else "",
        f"{row.drift_steps:+.2f}" if row.drift_steps is not None else "",
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
        "off_by_channels": row.frequency_channels,
        "off_by_steps": row.drift_steps,
    }
