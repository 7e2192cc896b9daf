"""The second part of ``socs-bl demo``: a scan of the correlator's back end, from lag frames to published files.

It starts the one-machine correlator system in a directory of its own, hands the configuration to the named pipe, has the
simulated correlator observe its schedule, and waits for the files. They are read and measured first
(`socs_bl.cli.demo_visibilities`); only then is the list of what was injected opened, and compared.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from socs_bl.cli.demo_visibilities import read_scans
from socs_bl.cli.demo_visibility_report import CorrelatorOutcome, compare, measure
from socs_bl.cli.up import StartProgress, interruptible
from socs_bl.core.clock import iso_utc
from socs_bl.core.errors import Faulty, Retry
from socs_bl.core.whole_file import write_whole
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.vci import parse_vci
from socs_bl.services.observatory import Observatory
from socs_bl.simulators.sky import CorrelatorTruth
from socs_bl.simulators.truth_file import read_truth

SYSTEM = "correlator"
NODE, WIDAR, LISTENER = "cbe-01", "widar", "config-listener"
LOOK_INTERVAL = 0.2  # seconds
PATIENCE = 90.0  # seconds for one step: on a busy machine everything is compiled first


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
    injected = read_truth(truth, CorrelatorTruth)
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
