"""``socs-bl bdf``: look into binary data files, draw them, save what is left of damaged ones."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from socs_bl.core.errors import Refused

EXIT_DAMAGED = 3


def add_parser(subparsers: Any) -> None:
    """Add ``bdf`` and what is below it."""
    parser = subparsers.add_parser("bdf", help="look into binary data files, draw them, save damaged ones")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    shown = actions.add_parser(
        "info", help="header, integrity, integrations, windows; exit status 3 when it is not whole"
    )
    shown.add_argument("--json", action="store_true", help="print it as JSON")
    shown.set_defaults(run=_info)
    drawn = actions.add_parser("plot", help="amplitude and phase by channel and by time, as PNG")
    drawn.add_argument(
        "--window", default="0", metavar="N|NAME", help="from 0, or such as AC_8BIT-1 (default: the first)"
    )
    drawn.add_argument(
        "--antennas", default="0-1", metavar="A-B", help="from 0; 2-2 is an auto-correlation (default: 0-1)"
    )
    drawn.add_argument("--product", default="", help="such as RL (default: the window's first)")
    drawn.add_argument("--bin", type=int, default=0, help="phase bin (default: 0)")
    drawn.set_defaults(run=_plot)
    saved = actions.add_parser("salvage", help="copy every whole integration of a damaged file")
    saved.set_defaults(run=_salvage)
    for action in (shown, drawn, saved):
        action.add_argument("file", type=Path, metavar="FILE")
    drawn.add_argument("picture", type=Path, nargs="?", metavar="PNG", help="(default: FILE.png)")
    saved.add_argument("target", type=Path, metavar="OUT")


def _info(args: argparse.Namespace) -> int:
    from socs_bl.bdf.info import info

    found = info(args.file)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        _show(found)
    return EXIT_DAMAGED if found["damage"] else 0


def _show(found: dict[str, Any]) -> None:
    console = Console()
    facts = Table(box=None, show_header=False)
    gaps = f", {found['missing']} missing between" if found["missing"] else ""
    aborted = found["aborted"]
    for name, value in (
        ("uid", found["uid"]),
        ("execution block", found["exec_block"]),
        ("project path", found["project_path"]),
        ("start", found["start"]),
        ("integrations", f"{found['integrations']} of {found['interval_ns'] * 1e-9:g} s{gaps}"),
        ("antennas", f"{found['antennas']}, {found['baselines']} baselines, {found['mode']}"),
        ("parts", ", ".join(found["parts"])),
        ("bytes", f"{found['bytes']:,}"),
        ("whole", "yes" if not found["damage"] else f"no: {found['damage']}"),
        *((("aborted", aborted["reason"]),) if aborted else ()),
    ):
        facts.add_row(name, value)
    titles = ("window", "chan", "bins", "cross", "flagged", "used", "auto", "flagged", "used")
    windows = Table(*titles, box=None, collapse_padding=True)  # so that it fits into 80 columns
    for one in found["windows"]:
        windows.add_row(
            f"{one['baseband']}-{one['number']}", str(one["channels"]), str(one["bins"]),
            " ".join(one["cross"]), _percent(one["cross_flagged"]), _percent(one["cross_integrated"]),
            " ".join(one["auto"]), _percent(one["auto_flagged"]), _percent(one["auto_integrated"]),
        )  # fmt: skip
    console.print(facts)
    console.print(windows)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}%"


def _plot(args: argparse.Namespace) -> int:
    from socs_bl.bdf.plot import plot

    match = re.fullmatch(r"([0-9]{1,3})-([0-9]{1,3})", args.antennas)
    if match is None:
        raise Refused(f"--antennas {args.antennas!r:.40} is not two numbers; write them like 0-1")
    picture = args.picture or args.file.with_name(args.file.name + ".png")
    plot(args.file, picture, _window(args.file, args.window), (int(match[1]), int(match[2])), args.product, args.bin)
    print(picture)
    return 0


def _window(path: Path, text: str) -> int:
    """A window's position, given as such or by name."""
    from socs_bl.bdf.reader import BdfReader

    if text.isascii() and text.isdigit():
        return int(text[:6])
    with BdfReader(path, partial=True) as reader:
        names = [f"{window.baseband}-{window.number}" for window in reader.header.windows]
    if text not in names:
        raise Refused(f"{path}: has no window {text!r:.40}; it has {', '.join(names)}")
    return names.index(text)


def _salvage(args: argparse.Namespace) -> int:
    from socs_bl.bdf.salvage import salvage

    saved = salvage(args.file, args.target)
    print(f"{args.target}: {saved.integrations} integrations, numbers {saved.first} to {saved.last}")
    for gap in saved.skipped:
        print(f"skipped {gap.nbytes} bytes: {gap.reason}")
    if not saved.closed:
        print("the file was not closed")
    return 0
