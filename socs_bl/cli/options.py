"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path

RUN_DIR = Path("run")


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    """``--run-dir``: where the observatory keeps what it needs."""
    parser.add_argument(
        "--run-dir", type=Path, default=RUN_DIR, metavar="DIR", help="where the observatory lives (default: ./run)"
    )


def add_site_config(parser: argparse.ArgumentParser) -> None:
    """``--site-config``: which observatory it is."""
    parser.add_argument(
        "--site-config",
        type=Path,
        metavar="FILE",
        help="site config (default: the package's own, a whole observatory on this machine)",
    )


def add_system(parser: argparse.ArgumentParser) -> None:
    """``--system``: which of its systems are started."""
    parser.add_argument(
        "--system",
        action="append",
        default=[],
        metavar="NAME",
        help="start this system (in the package's own site config: commensal, correlator); may be given several times"
        " (default: as the site config says, commensal)",
    )
