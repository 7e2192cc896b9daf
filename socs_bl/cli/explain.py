"""``socs-bl explain``: why is it so? From the journal, back to what came from outside."""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec
from rich.console import Console

from socs_bl.cli.source import add_source, machine_now, machine_of, opened, teller_of
from socs_bl.core.explain import CHAPTERS, explain


def add_parser(subparsers: Any) -> None:
    """Add ``explain``."""
    parser = subparsers.add_parser("explain", help="why is an instance, a subarray, a run, a scan or a file as it is?")
    add_source(parser)
    parser.add_argument(
        "subject",
        help="such as blpn64/1, array_1, an OBSID, or the id of an effect; with --journal what that agent knows",
    )
    parser.add_argument(
        "--journal", default="commensal", metavar="NAME",
        help="whose journal, such as node:cbe-01 or bdf_publisher:bdf-publisher (default: commensal)",
    )  # fmt: skip
    parser.add_argument(
        "--last", type=int, default=CHAPTERS, metavar="N", help=f"changes told of (default: {CHAPTERS})"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the story."""
    factory = machine_of(args.journal)
    machine_now(args, args.journal, factory)  # of an empty journal any name would be one that it does not know
    with opened(args, args.journal) as journal:
        story = explain(factory, journal, args.subject, teller_of(args.journal), args.last)
    if args.json:
        print(json.dumps(msgspec.to_builtins(story), indent=1))
    else:
        console = Console()
        for line in story.lines():
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    return 0
