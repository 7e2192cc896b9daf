"""``socs-bl dataflow``: is a pipeline right, and what would it do to which file, and why? Nothing is done."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from socs_bl.core.clock import SystemClock
from socs_bl.dataflow.catalogue import look_into
from socs_bl.dataflow.check import load_pipeline
from socs_bl.dataflow.pipeline import Pipeline, Standing
from socs_bl.dataflow.planning import Planned, files_below, plan_file
from socs_bl.dataflow.readiness import look

EXIT_NOT_READY = 3
_COLOURS = {Standing.NEXT: "green", Standing.WAITS: "yellow", Standing.DONE: "dim", Standing.NO: "dim"}


def add_parser(subparsers: Any) -> None:
    """Add ``dataflow`` and what is below it."""
    parser = subparsers.add_parser("dataflow", help="check a pipeline; say what would be done to which file, and why")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="is the pipeline right, and the world as it wants it?")
    check.add_argument("pipeline", type=Path, metavar="PIPELINE", help="its YAML file")
    check.add_argument("--no-hosts", action="store_true", help="do not connect to other hosts")
    check.set_defaults(run=_check)
    planned = actions.add_parser("plan", help="what would be done to which file, and why?")
    planned.add_argument("pipeline", type=Path, metavar="PIPELINE", help="its YAML file")
    planned.add_argument(
        "paths", type=Path, nargs="*", metavar="PATH", help="files or directories (default: all stores)"
    )
    planned.add_argument(
        "--all", action="store_true", help="also stages that are done or do not apply, with their reasons"
    )
    planned.add_argument("--json", action="store_true", help="print a JSON object a line")
    planned.set_defaults(run=lambda args: plan_files(args.pipeline, args.paths, args.all, args.json))


def _check(args: argparse.Namespace) -> int:
    """Print what was looked at; exit status 3 when something is not as it should be."""
    pipeline = load_pipeline(args.pipeline)
    console = Console()
    console.print(
        f"{args.pipeline}: nothing is wrong with pipeline {pipeline.config.pipeline}", markup=False, soft_wrap=True
    )
    console.print(f"stages in order: {', '.join(pipeline.order)}", markup=False, soft_wrap=True)
    ready = True
    for finding in look(pipeline, hosts=not args.no_hosts):
        ready = ready and finding.good
        word = "[green]ok[/]" if finding.good else "[red]no[/]"
        console.print(f"{word}  {escape(f'{finding.place}: {finding.text}')}", highlight=False, soft_wrap=True)
    return 0 if ready else EXIT_NOT_READY


def plan_files(path: Path, paths: Sequence[Path], every: bool = False, as_json: bool = False) -> int:
    """Print what a pipeline would do to files.

    Parameters
    ----------
    path : Path
        Of the pipeline.
    paths : sequence of Path
        Files or directories; none: every store of this host that is scanned.
    every : bool
        Also print stages that are done or do not apply.
    as_json : bool
        One JSON object a line, with all stages.
    """
    pipeline = load_pipeline(path)
    console = Console()
    for planned in _planned(pipeline, paths):
        if as_json:
            print(json.dumps(msgspec.to_builtins(planned), default=str))
        else:
            _show(console, planned, every)
    return 0


def _planned(pipeline: Pipeline, paths: Sequence[Path]) -> Iterator[Planned]:
    stores = [store.path for store in pipeline.config.stores.values() if store.kind != "ssh" and store.scan > 0]
    now_ns = round(SystemClock().now().wall * 1e9)
    with ExitStack() as stack:
        catalogue = pipeline.config.catalogue
        view = stack.enter_context(look_into(catalogue)) if catalogue.exists() else None
        for path in paths or stores:
            for seen in files_below(pipeline, path.absolute()):
                yield plan_file(pipeline, seen, view, now_ns)


def _show(console: Console, planned: Planned, every: bool) -> None:
    shown = planned.path.encode("utf-8", "backslashreplace").decode()
    console.print(f"{planned.store}:{shown} {planned.state}", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for step in planned.steps:
        if every or step.standing in (Standing.NEXT, Standing.WAITS):
            words = (step.stage, step.does, step.reason)
            table.add_row("", f"[{_COLOURS[step.standing]}]{step.standing}[/]", *(escape(word) for word in words))
    if table.row_count:
        console.print(table)
