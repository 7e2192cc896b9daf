"""``socs-bl demo``: one observing session on this machine, from a telescope's events to signals found in voltages, then
one of the correlator, from lag frames to published files.

It starts the one-machine observatory in a directory of its own, has the telescope play its schedule, watches, and only
when everything has been recorded and searched reads the list of what was injected and compares. The second part is in
`socs_bl.cli.demo_correlator`; the agents of the first have ended then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from socs_bl.cli.demo_correlator import run_correlator
from socs_bl.cli.demo_report import Outcome, collect, picture, show
from socs_bl.cli.demo_timeline import read_timeline, show_timeline
from socs_bl.cli.demo_visibility_report import correlator_json, show_correlator
from socs_bl.cli.up import StartProgress, interruptible
from socs_bl.commensal.timeline import Row
from socs_bl.core.clock import compact_utc, iso_utc
from socs_bl.core.errors import Faulty, Retry, SocsError
from socs_bl.services.observatory import Observatory
from socs_bl.services.site import default_site

LOOK_INTERVAL = 0.5  # seconds
LOG_WIDTH = 150
PATIENCE = 120.0  # seconds after the end of the schedule for the last search to end
FIRST_ANSWER = 60.0  # seconds for the telescope to say what it does
COMMENSAL, CORRELATOR = "commensal", "correlator"
COLOURS = {"RECORD": "bold red", "PROCESS": "yellow", "READY": "green", "ERROR": "bold white on red"}


def add_parser(subparsers: Any) -> None:
    """Add ``demo``."""
    parser = subparsers.add_parser("demo", help="observe on this machine and compare injected with found")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="where everything is kept (default: ./run/demo-<time>)"
    )
    parser.add_argument("--site-config", type=Path, metavar="FILE", help="another one-machine observatory")
    parser.add_argument("--only", choices=(COMMENSAL, CORRELATOR), help="one part of it (default: both)")
    parser.add_argument("--cycles", type=int, default=2, help="targets a subarray (default: 2)")
    parser.add_argument("--seed", type=int, default=2026, help="seed of targets and signals (default: 2026)")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="also write what went in and came out as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; 0 only when what was injected was found, and nothing else."""
    # A log is no terminal, and must not wrap the table.
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    run_dir = (args.run_dir or Path("run") / f"demo-{compact_utc(time.time())}").resolve()
    summary: dict[str, Any] = {"ok": True, "run_dir": str(run_dir)}
    try:
        if args.only != CORRELATOR:
            summary |= _commensal(console, run_dir, args)
        if args.only != COMMENSAL:
            summary[CORRELATOR] = _correlator(console, run_dir / CORRELATOR, args)
            summary["ok"] = summary["ok"] and summary[CORRELATOR]["ok"]
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    except SocsError as error:
        _write(args.summary, {**summary, "ok": False, "error": str(error)})
        raise
    _write(args.summary, summary)
    return 0 if summary["ok"] else 1


def _correlator(console: Console, run_dir: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The correlator's part; returns its section of the summary."""
    console.rule("correlator")
    outcome = run_correlator(console, run_dir, args.site_config or default_site(), args.seed)
    show_correlator(console, outcome)
    return correlator_json(outcome)


def _commensal(console: Console, run_dir: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The commensal part; returns the summary of it."""
    console.rule("commensal observing")
    truths, completed, timeline = _observe(console, run_dir, args)
    outcome = collect(truths, run_dir / "products", completed, timeline)
    show_timeline(console, outcome.timeline)
    show(console, outcome)
    image = picture(run_dir / "products")
    console.print(f"recordings (GUPPI RAW)  {run_dir / 'hosts'}")
    console.print(f"hits, waterfalls        {run_dir / 'products'}")
    if image is not None:
        console.print(f"waterfall               {image}", soft_wrap=True)
    console.print(f"injected signals        {run_dir / 'telescope'}")
    console.print(_verdict(outcome))
    return outcome.as_json(run_dir, image)


def _observe(console: Console, run_dir: Path, args: argparse.Namespace) -> tuple[list[Path], int, list[Row]]:
    """Start everything, observe, stop everything.

    Returns the lists of injected signals, the runs completed, and what happened.
    """
    start = StartProgress(console)
    observatory = Observatory(run_dir, args.site_config or default_site(), start)
    with interruptible():
        try:
            with start.progress:
                observatory.start()
            watch = Watch(console, observatory)
            truths = [watch.observe(cycle, args.cycles, args.seed + cycle - 1) for cycle in range(1, args.cycles + 1)]
            timeline = read_timeline(observatory.redis_url)
        finally:
            console.print("stopping the agents")
            observatory.stop()
    return truths, watch.completed, timeline


def _write(path: Path | None, summary: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(summary, indent=1) + "\n")


def _verdict(outcome: Outcome) -> Text:
    found = sum(row.verdict == "found" for row in outcome.rows)
    wanted = sum(row.tone is not None for row in outcome.rows)
    if outcome.ok:
        return Text(
            f"all {wanted} injected signals were found in {outcome.recordings} recordings, and nothing else",
            "bold green",
        )
    return Text(
        f"{found} of {wanted} injected signals were found in {outcome.recordings} recordings,"
        f" {outcome.false_hits} hits are none of them",
        "bold red",
    )


class Watch:
    """Starts the schedule and shows what happens until all is done.

    Parameters
    ----------
    console : Console
    observatory : Observatory
        Running.

    Attributes
    ----------
    completed : int
        Runs the coordinator has completed.
    """

    def __init__(self, console: Console, observatory: Observatory) -> None:
        self.console = console
        self.operator = observatory.operator
        self.completed = 0
        self.lines: dict[str, str] = {}

    def observe(self, cycle: int, cycles: int, seed: int) -> Path:
        """Have one cycle of the schedule played and everything searched.

        Parameters
        ----------
        cycle, cycles : int
            Which one of how many, from 1.
        seed : int
            Of targets and signals.

        Returns
        -------
        Path
            Where the telescope wrote what it injected.

        Raises
        ------
        Faulty
            When the schedule fails or the searches do not end.
        """
        self.console.rule(f"cycle {cycle} of {cycles}")
        status, text, _ = self.operator.request("telescope", "start", "observe", cycles=1, seed=seed)
        if status != 0:
            raise Faulty(f"the telescope does not observe: {text}", "telescope")
        began = time.monotonic()
        over: float | None = None
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while True:
                telescope, coordinator = (
                    self._session("telescope", "observe"),
                    self._session("coordinator", "coordinate"),
                )
                live.update(self._picture(telescope["data"], coordinator["data"]))
                self._tell(coordinator["data"])
                if telescope["status"] == "done" and not telescope["success"]:
                    raise Faulty(f"the schedule failed: {telescope['messages'][-1:]}", "telescope")
                if over is None and telescope["status"] == "done":
                    over = time.monotonic()
                if over is not None and self._idle(coordinator["data"]):
                    self.completed = int(coordinator["data"]["completed_runs"])
                    return Path(telescope["data"]["truth"])
                if over is not None and time.monotonic() - over > PATIENCE:
                    raise Faulty(f"searches did not end: {coordinator['data'].get('arrays')}", "coordinator")
                if "truth" not in telescope["data"] and time.monotonic() - began > FIRST_ANSWER:
                    raise Faulty("the telescope's schedule does not begin; see its log", "telescope")
                time.sleep(LOOK_INTERVAL)

    def _session(self, agent: str, operation: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"status": None, "data": {}, "messages": [], "success": None}
        try:
            _, _, session = self.operator.request(agent, "status", operation)
        except Retry:  # an agent that is being restarted does not answer for a moment
            return empty
        return {**empty, **session, "data": session.get("data") or {}}

    @staticmethod
    def _idle(data: dict[str, Any]) -> bool:
        pool = data.get("pool", {})
        busy = sum(pool.get(duty, 1) for duty in ("ready", "recording", "processing"))
        return busy == 0 and all(array["freesub_state"] == "FREE" for array in data.get("arrays", {}).values())

    def _tell(self, data: dict[str, Any]) -> None:
        """Leave a line for every change of state, so that a log tells the story too."""
        for name, array in data.get("arrays", {}).items():
            line = f"{name} {array['freesub_state']} {array['recproc_state']}"
            if array["obsid"]:
                line += f" {array['obsid']} {array['target']} on {', '.join(array['recording'] or array['processing'])}"
            if self.lines.get(name) != line:
                self.lines[name] = line
                self.console.print(f"{iso_utc(time.time())} {line}", highlight=False)

    def _picture(self, telescope: dict[str, Any], coordinator: dict[str, Any]) -> Group:
        progress = telescope.get("progress", {})
        done, total = float(progress.get("done") or 0.0), float(progress.get("total") or 1.0)
        table = Table("subarray", "telescope", "allocation", "recording", "target", "instances")
        for name, array in coordinator.get("arrays", {}).items():
            phase = telescope.get("subarrays", {}).get(name, {}).get("phase", "")
            state = array["recproc_state"]
            members = ", ".join(array["subscribed"])
            table.add_row(
                name, phase, array["freesub_state"], Text(state, COLOURS.get(state, "")), array["target"], members
            )
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            str(progress.get("step", "starting")),
            ProgressBar(total=total, completed=done, width=40),
            f"{done:.0f}/{total:.0f} s, {coordinator.get('completed_runs', 0)} recordings searched",
        )
        return Group(bar, table)
