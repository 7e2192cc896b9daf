"""``wcbe-setup``: make an instance of the correlator's back end ready, through a mounted pipelinefs; also ``socs-bl setup``.

It connects to the instance or starts it, says where files are created, creates the default configuration and switches the
flow on. What is so already is left alone, so that it may be run again at any time, also while somebody observes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from socs_bl.core.errors import Refused, SocsError
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.document import write_configuration
from socs_bl.correlator.names import parse_name

DESCRIPTION = "Make an instance of the correlator's back end ready, through a mounted pipelinefs."
DEFAULT = "c0"
ADDRESS = "localhost:9000"
EXIT_FAILED = 1
MOUNTS = Path("/proc/self/mounts")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def add_parser(subparsers: Any) -> None:
    """Add ``setup``."""
    parser = subparsers.add_parser("setup", help="make an instance of the correlator's back end ready")
    add_arguments(parser)
    parser.set_defaults(run=run)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command of its own."""
    parser = argparse.ArgumentParser(prog="wcbe-setup", description=DESCRIPTION)
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("name", metavar="NAME", help="name of the instance, such as 01")
    parser.add_argument(
        "--mount", type=Path, metavar="DIR", help="where pipelinefs is mounted (default: the only one that is)"
    )
    parser.add_argument(
        "--address", default=ADDRESS, metavar="HOST:PORT", help="where it is started (default: %(default)s)"
    )
    parser.add_argument("--bdfdir", metavar="DIR", help="directory in which files are created, on all instances")
    parser.add_argument("--source", metavar="URI", help="where lag frames come from, such as udp://239.1.2.3:5000")


def run(args: argparse.Namespace) -> int:
    """Make it ready; prints what was done."""
    name = parse_name(args.name, "instance")
    top = args.mount or find_mount()
    if not (top / "README").is_file():
        raise Refused(f"no pipelinefs is mounted at {top}; mount it: pipelinefs {top}")
    for line in make_ready(top, name, args.address, args.bdfdir, args.source):
        print(line)
    return 0


def make_ready(top: Path, name: str, address: str, bdfdir: str | None, source: str | None) -> list[str]:
    """Bring an instance to where it can be given configurations.

    Parameters
    ----------
    top : Path
        Where pipelinefs is mounted.
    name, address : str
        The instance, and where it is started when it does not run.
    bdfdir, source : str, optional
        What to change; a change of source destroys all configurations.

    Returns
    -------
    list of str
        What was done, a sentence each.

    Raises
    ------
    Refused
        When a step fails; those before it are done.
    """
    instance = top / name
    done = []

    def ensure(path: Path, wanted: str, sentence: str) -> None:
        if _read(path) != wanted:
            _write(top, path, wanted)
            done.append(sentence)

    if not instance.is_dir():
        _write(top, instance, address)
        done.append(f"{name}: connected, {address}")
    if bdfdir is not None:
        ensure(top / "bdfdir", bdfdir, f"files are created in {bdfdir}")
    if source is not None:
        ensure(instance / "src", source, f"{name}: lag frames come from {source}")
    default = instance / "configurations" / DEFAULT
    if not default.is_dir():
        _write(top, default, write_configuration(Configuration(DEFAULT)))
        done.append(f"{name}: configuration {DEFAULT} created")
    ensure(default / "autodestroy", "0", f"{name}: configuration {DEFAULT} stays")
    if not (instance / "active").is_symlink() and not _activating(instance):
        _write(top, instance / "activations" / f"now-{DEFAULT}", "1")
        done.append(f"{name}: configuration {DEFAULT} will be active once frames flow")
    if _read(instance / "src"):
        ensure(instance / "flow", "on", f"{name}: the flow is on")
    else:
        done.append(f"{name}: no source yet, so nothing flows; give --source URI, or write to {instance / 'src'}")
    return done or [f"{name}: ready already"]


def find_mount(mounts: Path = MOUNTS) -> Path:
    """Where pipelinefs is mounted.

    Raises
    ------
    Refused
        When it is mounted nowhere, or more than once.
    """
    fields = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    places = [
        _ESCAPED.sub(lambda code: chr(int(code[1], 8)), field[1]) for field in fields if field[2] == "fuse.pipelinefs"
    ]
    if len(places) != 1:
        found = f"more than once ({', '.join(places)}); say which with --mount" if places else "nowhere; mount it first"
        raise Refused(f"pipelinefs is mounted {found}")
    return Path(places[0])


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; what went wrong is said in a sentence."""
    try:
        return run(make_parser().parse_args(args))
    except SocsError as error:
        print(f"wcbe-setup: {error}", file=sys.stderr)
        return EXIT_FAILED


def _activating(instance: Path) -> bool:
    """Whether something is about to be active."""
    try:
        return "activate " in (instance / "pending").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error


def _write(top: Path, path: Path, text: str) -> None:
    try:
        with path.open("wb", buffering=0) as file:  # a buffer would be written again after an error
            file.write(f"{text.strip()}\n".encode())
    except OSError as error:
        said = _read(top / "errors").splitlines()
        raise Refused(f"{path} cannot be written: {said[-1] if said else error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
