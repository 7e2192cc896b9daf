"""``socs-bl correlator``: make configurations of the correlator's back end, and check them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from socs_bl.core.errors import Refused

LIMIT = 64 << 20  # bytes of a document


def add_parser(subparsers: Any) -> None:
    """Add ``correlator`` and what is below it."""
    parser = subparsers.add_parser("correlator", help="make and check configurations of the correlator's back end")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    made = actions.add_parser("configuration", help="make a configuration from a VCI subArray document, on the output")
    made.add_argument("file", type=Path, metavar="VCI")
    made.add_argument("--name", default="", help="what it is called (default: whoever creates it says so)")
    made.add_argument(
        "--stations",
        default="",
        metavar="1=ea01,...",
        help="antennas by station (default: the document's listOfStations)",
    )
    made.add_argument(
        "--edges",
        default="",
        metavar="AC_8BIT=1e9,...",
        help="sky frequencies of the basebands' edges, Hz (default: unknown)",
    )
    made.add_argument("--share", action="store_true", help="windows that need the same steps share one pipeline")
    made.set_defaults(run=_configuration)
    checked = actions.add_parser("check", help="say what is wrong with a configuration document, or what is in it")
    checked.add_argument("file", type=Path, metavar="FILE")
    checked.set_defaults(run=_check)


def _configuration(args: argparse.Namespace) -> int:
    from socs_bl.correlator.document import write_configuration
    from socs_bl.correlator.vci import parse_stations, parse_vci

    edges = dict(_edge(text) for text in args.edges.split(",") if text)
    made = parse_vci(_read(args.file), args.name, parse_stations(args.stations), edges, args.share)
    sys.stdout.write(write_configuration(made))
    return 0


def _check(args: argparse.Namespace) -> int:
    from socs_bl.correlator.document import parse_configuration
    from socs_bl.correlator.plan import make_plan

    found = parse_configuration(_read(args.file))
    print(f"{args.file}: {len(found.streams)} streams, {len(found.products)} products, dump {found.dump_ns or '?'} ns")
    for subarray in found.subarrays:
        print(f"subarray {subarray.name}: {len(subarray.antennas)} antennas, {len(subarray.windows)} windows")
    windows = Counter(mapping.pipe for mapping in found.mappings)
    for pipe in found.pipes:
        plan = make_plan(found.pipe_products(pipe.name))
        print(
            f"pipeline {pipe.name}: {windows[pipe.name]} windows, {plan.frames} frames and {plan.slot_bytes} bytes a dump: "
            f"{pipe.text}"
        )
    return 0


def _edge(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        frequency = float(value)
    except ValueError:
        frequency = 0.0
    if not (name and equals and 0 < frequency < 1e13):
        raise Refused(f"--edges {text[:60]!r} is no baseband and frequency; write AC_8BIT=1e9")
    return name, frequency


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(LIMIT + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}); give the path of a document") from error
