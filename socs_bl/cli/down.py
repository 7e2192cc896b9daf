"""``socs-bl down``: end the observatory of a run directory, and what a killed one has left."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from socs_bl.cli.options import add_run_dir
from socs_bl.services.run_dir import end_observatory


def add_parser(subparsers: Any) -> None:
    """Add ``down``."""
    parser = subparsers.add_parser("down", help="stop the observatory of a run directory")
    add_run_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """End it; not running is not an error."""
    console = Console()
    with console.status("stopping ..."):
        ended = end_observatory(args.run_dir)
    console.print("stopped" if ended else f"nothing runs in {args.run_dir.resolve()}")
    return 0
