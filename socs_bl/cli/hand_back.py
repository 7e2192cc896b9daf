"""``socs-bl hand-back``: make the saved state in Redis what the original coordinator can go on with."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

from rich.console import Console

from socs_bl.cli.source import add_source, machine_now, url_of
from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.saved_state import SavedState
from socs_bl.services.redis_server import connect

EXIT_FINDINGS = 3


def add_parser(subparsers: Any) -> None:
    """Add ``hand-back``."""
    parser = subparsers.add_parser(
        "hand-back", help="what would the original coordinator begin with? With --write, let it begin with that"
    )
    add_source(parser)
    parser.add_argument("--journal", default="commensal", metavar="NAME", help="whose journal (default: commensal)")
    parser.add_argument("--write", action="store_true", help="write the keys; our coordinator must have been stopped")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the keys, and what the original will not do by itself; exit status 3 when there is something."""
    config = machine_now(args, args.journal, CommensalMachine).config
    console = Console()
    with closing(connect(url_of(args))) as client:
        saved = SavedState(client, config)
        if args.write:
            saved.hand_back()
        keys, findings = saved.exported()
    for key, text in sorted(keys.items()):
        console.print(f"{key} {text}", soft_wrap=True, markup=False, highlight=False)
    for finding in findings:
        console.print(finding, style="yellow", soft_wrap=True, markup=False, highlight=False)
    console.print("Written." if args.write else "Nothing was written; --write does it.")
    return EXIT_FINDINGS if findings else 0
