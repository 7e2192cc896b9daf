"""The second part of ``socs-bl demo``: a scan of the correlator's back end, from lag frames to published files.

It starts the one-machine correlator system in a directory of its own, hands the configuration to the named pipe, has the
simulated correlator observe its schedule, and waits for the files. They are read and measured first
(`socs_bl.cli.demo_visibilities`); only then is the list of what was injected opened, and compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from socs_bl.cli.demo_visibilities import Measured, Observed, calibrate, locate, read_scans
from socs_bl.cli.up import StartProgress, interruptible
from socs_bl.core.clock import iso_utc
from socs_bl.core.errors import Faulty, Retry
from socs_bl.core.whole_file import write_whole
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.vci import parse_vci
from socs_bl.services.observatory import Observatory
from socs_bl.simulators.sky import CorrelatorTruth, read_truth

SYSTEM = "correlator"
NODE, WIDAR, LISTENER = "cbe-01", "widar", "config-listener"
LOOK_INTERVAL = 0.2  # seconds
PATIENCE = 90.0  # seconds for one step: on a busy machine everything is compiled first
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


def run_correlator(console: Console, run_dir: Path, site_config: Path, seed: int) -> CorrelatorOutcome:
    """Observe, publish, measure and compare; everything is stopped again.

    Raises
    ------
    Faulty
        When a step does not come about; the text names it.
    """
    start = StartProgress(console)
    observatory = Observatory(run_dir, site_config, start, systems=[SYSTEM])
    with interruptible():
        try:
            with start.progress:
                observatory.start()
            truth, sdm = _Session(console, observatory).observe(seed)
        finally:
            console.print("stopping the agents")
            observatory.stop()
    scans = read_scans(sdm)
    measured = measure(scans)
    injected = read_truth(truth)
    rows = compare(measured, injected)
    return CorrelatorOutcome(tuple(rows), tuple(scans), len(injected.scans), truth, sdm)


class _Session:
    """Asks the agents of a running observatory, one step after the other.

    Parameters
    ----------
    console : Console
    observatory : Observatory
        Running.
    """

    def __init__(self, console: Console, observatory: Observatory) -> None:
        self._console, self._operator, self._run_dir = console, observatory.operator, observatory.run_dir

    def observe(self, seed: int) -> tuple[Path, Path]:
        """Configure, observe and publish; returns where the truth and the published execution block are."""
        self._start(WIDAR, "boards")
        self._wait("the boards send frames", lambda: self._data(WIDAR, "boards").get("counters", {}).get("frames"))
        source = str(self._data(WIDAR, "boards")["source"])
        self._task(NODE, "set_source", uri=source)
        self._task(NODE, "set_flow", flow="on")
        made = self._task(WIDAR, "configure")
        self._submit(self._configuration(Path(made["document"]), made["edges_hz"]))
        active = str(self._wait("a configuration is active", self._active))
        self._tell(f"configuration {active} is active on {NODE}, which listens to {source}")
        self._start(WIDAR, "observe", seed=seed)
        seen = 0
        while not self._done(WIDAR, "observe"):
            said = list(self._data(WIDAR, "observe").get("said", []))
            for text in said[seen:]:
                self._tell(f"Executor: {text}")
            seen = len(said)
            time.sleep(LOOK_INTERVAL)
        observed = self._data(WIDAR, "observe")
        sdm = self._run_dir / "bdf" / "sdm" / str(observed["dataset_id"])
        wanted = sum(text.startswith("scan ") for text in observed["said"])
        self._wait(f"{wanted} files are published", lambda: self._published(sdm) >= wanted)
        self._tell(f"{wanted} files are published in {self._run_dir / 'bdf'}")
        return Path(observed["truth"]), sdm

    def _configuration(self, document: Path, edges: dict[str, float]) -> Path:
        """Make the back end's configuration from that of the correlator, beside it."""
        path = document.with_suffix("").with_suffix(".xml")
        configuration = parse_vci(document.read_bytes(), edges=edges)
        write_whole(path, write_configuration(configuration).encode())
        self._tell(f"{path.name}: {len(configuration.products)} lag products, {len(configuration.pipes)} pipelines")
        return path

    def _submit(self, path: Path) -> None:
        """Write a path into the named pipe, as an operator does with ``echo``."""
        pipe = self._run_dir / "config"

        def write() -> bool:
            with contextlib.suppress(OSError):  # nobody reads it yet
                descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                try:
                    return os.write(descriptor, f"{path}\n".encode()) > 0
                finally:
                    os.close(descriptor)
            return False

        self._wait(f"{pipe} is read", write)

    def _active(self) -> object:
        """The active configuration, if it has pipelines.

        Raises
        ------
        Faulty
            When the listener could not have it made; the text says why.
        """
        listener = self._data(LISTENER, "listen")
        for text in [job["fault"] for job in listener.get("last", [])] + [
            listener.get("last_rejected", {}).get("text")
        ]:
            if text:
                raise Faulty(f"the configuration was not taken: {text}", LISTENER)
        data = self._data(NODE, "run")
        active = data.get("active")
        return active if active and data["configurations"][active]["pipelines"] else None

    @staticmethod
    def _published(sdm: Path) -> int:
        """Files of an execution block that its SDM names."""
        with contextlib.suppress(OSError):
            return (sdm / "Main.xml").read_text(encoding="utf-8").count("<row>")
        return 0

    def _start(self, agent: str, operation: str, **parameters: object) -> None:
        status, text, _ = self._operator.request(agent, "start", operation, **parameters)
        if status != 0:
            raise Faulty(f"{agent} does not {operation}: {text}", agent)

    def _task(self, agent: str, operation: str, **parameters: object) -> dict[str, Any]:
        """Have a task done; returns its session data."""
        self._start(agent, operation, **parameters)
        self._wait(f"{agent} has done {operation}", lambda: self._done(agent, operation))
        return self._data(agent, operation)

    def _session(self, agent: str, operation: str) -> dict[str, Any]:
        with contextlib.suppress(Retry):  # a busy machine answers late
            return self._operator.request(agent, "status", operation)[2]
        return {}

    def _data(self, agent: str, operation: str) -> dict[str, Any]:
        return dict(self._session(agent, operation).get("data") or {})

    def _done(self, agent: str, operation: str) -> bool:
        session = self._session(agent, operation)
        if session.get("status") != "done":
            return False
        if not session["success"]:
            raise Faulty(f"{agent} {operation} failed: {session['messages'][-1:]}", agent)
        return True

    def _wait(self, what: str, ready: Callable[[], object]) -> object:
        """Ask until the answer is something."""
        deadline = time.monotonic() + PATIENCE
        with self._console.status(f"{what} ..."):
            while not (answer := ready()):
                if time.monotonic() > deadline:
                    raise Faulty(f"not within {PATIENCE:.0f} s: {what}; logs are in {self._run_dir / 'logs'}", NODE)
                time.sleep(LOOK_INTERVAL)
        return answer

    def _tell(self, text: str) -> None:
        self._console.print(f"{iso_utc(time.time())} {text}", highlight=False, soft_wrap=True)


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
