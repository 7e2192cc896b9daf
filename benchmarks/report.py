"""The one form of all benchmarks: rows of ours against a reference measured in the same run, as table and as JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    figure : str
        What was measured.
    ours, reference : float
        In `unit`, in the same run.
    ratio : float
        ``ours / reference``.
    goal : str
        What is aimed at, in words; empty when the figure is only reported.
    unit : str
    holds : bool or None
        Whether the goal is met; None without a goal.
    """

    figure: str
    ours: float
    reference: float
    ratio: float
    goal: str
    unit: str
    holds: bool | None


def arguments(description: str) -> argparse.Namespace:
    """``--quick`` and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller and less exact")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as a list of objects")
    return parser.parse_args()


def publish(figures: list[Figure], path: Path | None) -> None:
    """Print the table and write the JSON."""
    table = Table("figure", "ours", "reference", "ratio", "goal", "holds")
    for row in figures:
        holds = "" if row.holds is None else "yes" if row.holds else "no"
        table.add_row(
            row.figure,
            f"{row.ours:,.4g} {row.unit}",
            f"{row.reference:,.4g} {row.unit}",
            f"{row.ratio:.3g}",
            row.goal,
            holds,
        )
    Console(width=160).print(table)
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in figures], indent=1) + "\n")
