"""What the correlator's part of the demonstration prints at its end: what was injected against what files give."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from socs_bl.cli.demo_visibilities import Measured, Observed, calibrate, locate
from socs_bl.core.errors import Faulty
from socs_bl.simulators.sky import CorrelatorTruth

SIGMAS = 5.0  # what is found must agree within so many standard deviations of the noise
PICOSECONDS, PER_MILLE, ARCSECONDS = 1e12, 1e3, 1.0


@dataclass(frozen=True)
class Row:
    """One number that went in, and what came out.

    Attributes
    ----------
    scan : int
    source : str
    what, unit : str
    injected, found, error : float
        `error` is one standard deviation of the noise.
    """

    scan: int
    source: str
    what: str
    unit: str
    injected: float
    found: float
    error: float

    @property
    def limit(self) -> float:
        """How far it may be off."""
        return SIGMAS * self.error

    @property
    def ok(self) -> bool:
        """Whether it agrees."""
        return abs(self.found - self.injected) <= self.limit


@dataclass(frozen=True)
class CorrelatorOutcome:
    """What was injected against what published files give.

    Attributes
    ----------
    rows : tuple of Row
    scans : tuple of Observed
    wanted : int
        Scans that were observed.
    truth, sdm : Path
        Where it was written what went in, and the published execution block.
    """

    rows: tuple[Row, ...]
    scans: tuple[Observed, ...]
    wanted: int
    truth: Path
    sdm: Path

    @property
    def ok(self) -> bool:
        """Every scan was published, and every number agrees."""
        return bool(self.rows) and len(self.scans) == self.wanted and all(row.ok for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "ok": self.ok,
            "rows": [{**asdict(row), "limit": row.limit, "ok": row.ok} for row in self.rows],
            "scans": [
                {
                    "scan": scan.scan,
                    "source": scan.source,
                    "integrations": scan.integrations,
                    "flagged": scan.flagged,
                    "antennas": list(scan.antennas),
                }
                for scan in self.scans
            ],
            "observed": self.wanted,
            "truth": str(self.truth),
            "sdm": str(self.sdm),
        }


Found = dict[tuple[int, str], Measured]


def measure(scans: list[Observed]) -> Found:
    """What the files give, by scan and quantity: antennas' delays from the calibrator, then each source's place.

    Raises
    ------
    Faulty
        When there is no calibrator.
    """
    calibrators = [scan for scan in scans if scan.calibrator]
    if not calibrators:
        raise Faulty("none of the published scans is that of a calibrator; look at their intents", "bdf-publisher")
    calibrator = calibrators[0]
    calibration = calibrate(calibrator)
    found: Found = {(calibrator.scan, "coefficient"): calibration.coefficient}
    for antenna, delay in zip(calibrator.antennas[1:], calibration.delays, strict=True):
        found[(calibrator.scan, f"delay {antenna} - {calibrator.antennas[0]}")] = delay
    for scan in scans:
        if not scan.calibrator:
            located = locate(scan, calibration)
            found[(scan.scan, "coefficient")] = located.coefficient
            found[(scan.scan, "east")], found[(scan.scan, "north")] = located.east, located.north
    return found


def compare(found: Found, truth: CorrelatorTruth) -> list[Row]:
    """What was injected against what was found; what was not found is infinitely off."""
    missing = Measured(float("inf"), 0.0)
    rows = []
    names = list(truth.delays_ns)
    for scan in truth.scans:
        (source,) = scan.sources

        def row(what: str, unit: str, injected: float, factor: float, key: tuple[int, str], name: str) -> None:
            value = found.get(key, missing)
            rows.append(Row(key[0], name, what, unit, injected * factor, value.value * factor, value.error * factor))

        row("amplitude", "1e-3", source.coefficient, PER_MILLE, (scan.scan, "coefficient"), scan.source)
        if scan.calibrator:
            for name in names[1:]:
                late = (truth.delays_ns[name] - truth.delays_ns[names[0]]) * 1e-9
                what = f"delay {name} - {names[0]}"
                row(what, "ps", late, PICOSECONDS, (scan.scan, what), scan.source)
        else:
            row("east (l)", "arcsec", source.east_arcsec, ARCSECONDS, (scan.scan, "east"), scan.source)
            row("north (m)", "arcsec", source.north_arcsec, ARCSECONDS, (scan.scan, "north"), scan.source)
    return rows


def show_correlator(console: Console, outcome: CorrelatorOutcome) -> None:
    """Print the table."""
    table = Table(title="injected against found in the published files, read with sdmpy")
    for name in ("scan", "source", "what", "unit"):
        table.add_column(name, no_wrap=True)
    for name in ("injected", "found", "difference", "error", f"limit ({SIGMAS:g} errors)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in outcome.rows:
        numbers = (row.injected, row.found, row.found - row.injected, row.error, row.limit)
        cells = [f"{number:+.4f}" if position < 3 else f"{number:.4f}" for position, number in enumerate(numbers)]
        verdict = Text("found", "green") if row.ok else Text("wrong", "bold red")
        table.add_row(str(row.scan), row.source, row.what, row.unit, *cells, verdict)
    console.print(table)
    for scan in outcome.scans:
        console.print(
            f"scan {scan.scan} {scan.source}: {scan.integrations} integrations of {len(scan.antennas)} antennas,"
            f" {scan.flagged:.3%} flagged"
        )
    console.print(
        "amplitude: correlation coefficient, cross over own spectra; errors are those of the radiometer's noise"
    )
    console.print(f"published files (SDM)   {outcome.sdm}", soft_wrap=True)
    console.print(f"injected sources        {outcome.truth}", soft_wrap=True)
    good = sum(row.ok for row in outcome.rows)
    if outcome.ok:
        console.print(
            Text(f"all {good} numbers agree, in {len(outcome.scans)} published scans of {outcome.wanted}", "bold green")
        )
    else:
        text = (
            f"{good} of {len(outcome.rows)} numbers agree, in {len(outcome.scans)} published scans of {outcome.wanted}"
        )
        console.print(Text(text, "bold red"))


def correlator_json(outcome: CorrelatorOutcome) -> dict[str, Any]:
    """The section of the summary; what is infinitely off is null."""
    text = json.dumps(outcome.as_json())
    return dict(json.loads(text, parse_constant=lambda _: None))
