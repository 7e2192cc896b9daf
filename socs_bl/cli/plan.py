"""``socs-bl plan``: what would a subarray get now, and when that is too little, why? Nothing is claimed.

With ``--pipeline`` it is about files instead: what would be done to which, and why (`socs_bl.cli.dataflow`).
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from socs_bl.cli.dataflow import plan_files
from socs_bl.cli.source import add_source, machine_now, url_of
from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.allocation import Streams, parse_streams
from socs_bl.commensal.effects import Reader
from socs_bl.commensal.metadata import parse_band
from socs_bl.commensal.model import MetadataRead, ReadMetadata
from socs_bl.commensal.view import plan
from socs_bl.core.errors import Refused
from socs_bl.core.names import parse_instance, parse_subarray
from socs_bl.services.redis_server import connect

EXIT_SHORT = 3


def add_parser(subparsers: Any) -> None:
    """Add ``plan``."""
    parser = subparsers.add_parser(
        "plan", help="what would a subarray get if it were subscribed now, and why not more?"
    )
    add_source(parser)
    parser.add_argument(
        "what", metavar="ARRAY|STREAMS|PATH", nargs="?", help="such as array_1, or spead://239.9.0.0+63:7148"
    )
    parser.add_argument(
        "--pipeline", type=Path, metavar="FILE", help="what would this data flow do to PATH (default: to all)?"
    )
    parser.add_argument("--instances", nargs="+", default=(), metavar="NAME", help="as if just these were free")
    parser.add_argument("--streams-per-instance", type=int, default=0, metavar="N", help="other than configured")
    parser.add_argument("--journal", default="commensal", metavar="NAME", help="whose journal (default: commensal)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan; exit status 3 when it is short."""
    if args.pipeline is not None:
        return plan_files(args.pipeline, [Path(args.what)] if args.what else [], as_json=args.json)
    if args.what is None:
        raise Refused("plan wants ARRAY or STREAMS, or --pipeline FILE")
    machine = machine_now(args, args.journal, CommensalMachine)
    streams, channels = _streams(args, machine.config.domain)
    names = [str(parse_instance(name)) for name in args.instances]
    planned = plan(machine, streams, channels, names, args.streams_per_instance)
    if args.json:
        print(json.dumps(planned, indent=1))
    else:
        _show(planned)
    return EXIT_SHORT if planned["reason"] else 0


def _streams(args: argparse.Namespace, domain: str) -> tuple[Streams, int]:
    """The streams that are asked about, and channels a stream."""
    if "://" in args.what:
        return parse_streams(args.what), 1
    array = parse_subarray(args.what)
    with closing(connect(url_of(args))) as client:
        (read,) = Reader(client, domain).metadata(ReadMetadata(array=array, purpose="plan"))
    assert isinstance(read, MetadataRead)
    band = parse_band(array, read.values, read.prefix)
    return band.streams, band.channels_per_stream


def _show(planned: dict[str, Any]) -> None:
    table = Table("instance", "first address", "streams", "first channel")
    for share in planned["shares"]:
        table.add_row(share["instance"], share["first_ip"], str(share["count"]), str(share["schan"]))
    console = Console()
    console.print(table)
    text = planned["reason"] or f"{planned['allocated']} instances take all {planned['streams']} streams"
    console.print(text, soft_wrap=True, markup=False, highlight=False)
