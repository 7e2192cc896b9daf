"""Entry point of ``socs-bl``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from socs_bl.core.errors import SocsError

# Modules of this package (with _ for -), in the order of the help. Each has ``add_parser(subparsers)``, which sets ``run`` on its
# parser: a callable that takes the parsed arguments and returns the exit status.
COMMANDS = (
    "demo",
    "up",
    "down",
    "status",
    "plan",
    "explain",
    "replay",
    "journal",
    "correlator",
    "dataflow",
    "hand-back",
    "bdf",
    "doctor",
    "pipelinefs",
    "setup",
)

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def make_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(prog="socs-bl", description="Run and look after an observatory's back end.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"socs_bl.cli.{name.replace('-', '_')}").add_parser(subparsers)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run one subcommand; what went wrong is said in a sentence, not in a traceback."""
    parsed = make_parser().parse_args(args)
    try:
        return int(parsed.run(parsed))
    except SocsError as error:
        said = Text.assemble((type(error).__name__, "bold red"), f": {error}")
        Console(stderr=True).print(said, soft_wrap=True)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
