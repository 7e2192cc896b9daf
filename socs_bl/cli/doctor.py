"""``socs-bl doctor``: can this machine run an observatory, and is the running one well?"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.text import Text

from socs_bl.cli.options import add_run_dir, add_site_config
from socs_bl.services.doctor import examine
from socs_bl.services.site import default_site


def add_parser(subparsers: Any) -> None:
    """Add ``doctor``."""
    parser = subparsers.add_parser("doctor", help="check this machine and say what to do")
    add_run_dir(parser)
    add_site_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line for each finding; exit status 1 when something would keep the observatory from running."""
    console = Console()
    sick = False
    for finding in examine(args.run_dir, args.site_config or default_site()):
        word, style = ("ok", "green") if finding.good else ("bad", "red") if finding.fatal else ("note", "yellow")
        console.print(Text.assemble((f"{word:<5}", style), f"{finding.name}: {finding.text}"), soft_wrap=True)
        sick = sick or (finding.fatal and not finding.good)
    return int(sick)
