"""``socs-bl up``: start an observatory on this machine and keep it running."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from socs_bl.cli.options import add_run_dir, add_site_config, add_system
from socs_bl.core.errors import Faulty
from socs_bl.services.crossbar_node import START_TIMEOUT
from socs_bl.services.observatory import AGENT_TIMEOUT, Observatory
from socs_bl.services.redis_url import redact
from socs_bl.services.run_dir import State, read_state
from socs_bl.services.site import default_site

WATCH_INTERVAL = 3600.0  # seconds; the end of a service wakes us at once
DETACHED_TIMEOUT = AGENT_TIMEOUT + START_TIMEOUT
DETACHED_INTERVAL = 0.2
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_parser(subparsers: Any) -> None:
    """Add ``up``."""
    parser = subparsers.add_parser("up", help="start the observatory and keep it running until Ctrl-C")
    add_run_dir(parser)
    add_site_config(parser)
    add_system(parser)
    parser.add_argument("-d", "--detach", action="store_true", help="return once it runs; end it with socs-bl down")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run in the foreground, or start ourselves again in the background."""
    site_config = args.site_config or default_site()
    start = _detached if args.detach else _foreground
    return start(args.run_dir, site_config, args.system)


class StartProgress:
    """One bar for each thing that is started."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far `step` is."""
        if step not in self._tasks:
            self._tasks[step] = self.progress.add_task(step, total=total)
        self.progress.update(self._tasks[step], completed=done, total=total)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and a lost terminal act like Ctrl-C, and only the first of them interrupt: the way down is bounded."""
    # Under nohup a lost terminal is ignored, and stays so.
    numbers = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for again in numbers:
            signal.signal(again, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _foreground(run_dir: Path, site_config: Path, systems: list[str]) -> int:
    console = Console()
    report = StartProgress(console)
    observatory = Observatory(run_dir, site_config, report, systems)
    with interruptible():
        try:
            with report.progress:
                observatory.start()
            console.print(
                describe(observatory.site.hub.wamp_http, observatory.redis_url, observatory.run_dir),
                soft_wrap=True,
                markup=False,
            )
            console.print("Ctrl-C or 'socs-bl down' ends it.")
            while True:
                for name in observatory.supervise(WATCH_INTERVAL):
                    console.print(f"{name} had ended and was started again", style="yellow")
        except KeyboardInterrupt:
            console.print("stopping ...")
        finally:
            observatory.stop()
    console.print("stopped")
    return 0


def describe(wamp_http: str, redis_url: str, run_dir: Path) -> str:
    """Where the observatory is and how one looks at it."""
    return (
        f"The observatory runs in {run_dir}\n  router {wamp_http}\n  Redis  {redact(redis_url) or 'none'}\n"
        f"  logs   {run_dir / 'logs'}\nLook: socs-bl status; or export OCS_CONFIG_DIR={run_dir} and ocs-client-cli scan"
    )


def _detached(run_dir: Path, site_config: Path, systems: list[str]) -> int:
    """Start the same command in a session of its own and wait until it is ready."""
    console = Console()
    run_dir.mkdir(parents=True, exist_ok=True)
    log = run_dir / "up.log"
    argv = [
        sys.executable,
        "-m",
        "socs_bl.cli.main",
        "up",
        "--run-dir",
        str(run_dir),
        "--site-config",
        str(site_config),
        *(word for name in systems for word in ("--system", name)),
    ]
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        with console.status("starting ..."):
            state = _wait_ready(child, run_dir, log)
    except BaseException:  # whatever keeps us from waiting, nothing half started stays
        child.terminate()
        raise
    console.print(describe(state.wamp_http, state.redis_url, run_dir.resolve()), soft_wrap=True, markup=False)
    console.print("'socs-bl down' ends it.")
    child.returncode = 0  # it outlives us on purpose; nobody needs to wait for it
    return 0


def _wait_ready(child: subprocess.Popen[bytes], run_dir: Path, log: Path) -> State:
    deadline = time.monotonic() + DETACHED_TIMEOUT
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(DETACHED_INTERVAL)
            raise Faulty(f"it did not start; {log} ends:\n{log.read_text(errors='replace')[-3000:].strip()}", "up")
        state = read_state(run_dir)
        if state is not None and state.supervisor.pid == child.pid and state.ready:
            return state
        if time.monotonic() > deadline:
            raise Faulty(f"it was not ready within {DETACHED_TIMEOUT:.0f} s and is being stopped; see {log}", "up")
