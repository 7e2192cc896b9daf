"""``pipelinefs``: mount the correlator's back end as a file system; also ``socs-bl pipelinefs``."""

from __future__ import annotations

import argparse
import grp
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from socs_bl.cli.nodes import SPAWN, WampNodes
from socs_bl.core.errors import Refused, SocsError
from socs_bl.correlator.pipelinefs import Instances, Tree
from socs_bl.correlator.pipelinefs.mount import NAME, mount
from socs_bl.services.run_dir import read_state

DESCRIPTION = "Mount the correlator's back end as a file system."
EXIT_FAILED = 1
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def add_parser(subparsers: Any) -> None:
    """Add ``pipelinefs``."""
    parser = subparsers.add_parser("pipelinefs", help="mount the correlator's back end as a file system")
    add_arguments(parser)
    parser.set_defaults(run=run)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command of its own."""
    parser = argparse.ArgumentParser(prog="pipelinefs", description=DESCRIPTION)
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("mountpoint", type=Path, metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, with the log on the terminal"
    )
    parser.add_argument("--group", help="group that may write as well (default: that of the process)")
    parser.add_argument(
        "--allow-other", action=argparse.BooleanOptionalAction, default=None,
        help="let other users see it (default: where /etc/fuse.conf or being root permits it)",
    )  # fmt: skip
    parser.add_argument(
        "--spawn", default=SPAWN, metavar="COMMAND",
        help="how an instance is started: words with {host}, {port}, {name}, {python} and {arguments} in them, such as "
        "'ssh {host} /opt/socs_bl/bin/python {arguments}' (default: %(default)s, on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR",
        help="where logs are kept, of the file system and of instances it starts (default: $XDG_STATE_HOME/pipelinefs)",
    )  # fmt: skip
    parser.add_argument(
        "--privs", type=int, choices=(1, 2, 3), default=1, help="OCS access level to use (default: %(default)s)"
    )
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="the observatory that socs-bl up runs there, instead of a site config",
    )
    site = parser.add_argument_group("Site Config Options", "OCS's own")
    site.add_argument("--site", help="name of the site config in $OCS_CONFIG_DIR (default: default)")
    site.add_argument("--site-file", help="a site config, instead")
    site.add_argument("--site-host", help="host whose entries count (default: this one's)")
    site.add_argument("--site-hub", help="websocket of the router, other than the file says")
    site.add_argument("--site-http", help="HTTP caller of the router, other than the file says")
    site.add_argument("--site-realm", help="realm, other than the file says")
    # OCS reads these as well.
    parser.set_defaults(working_dir=None, log_dir=None, instance_id=None)


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/pipelinefs``; without the variable as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / NAME


def run(args: argparse.Namespace) -> int:
    """Mount and serve; in the background once it is mounted, unless told otherwise."""
    if args.run_dir is not None:
        observatory = read_state(args.run_dir)
        if observatory is None:
            raise Refused(f"nothing runs in {args.run_dir.resolve()}; start it with socs-bl up")
        args.site_file, args.site_host = observatory.site_file, observatory.host
    # Whole paths: in the background the working directory is the root.
    state_dir = (args.state_dir or default_state_dir()).resolve()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = None if args.foreground else state_dir / f"{NAME}.log"
    logging.basicConfig(filename=log, format=_FORMAT, level=logging.INFO)
    nodes = WampNodes(args, state_dir, args.spawn, args.privs)
    tree = Tree(Instances(nodes))
    mount(tree, args.mountpoint.resolve(), _group(args.group), args.allow_other, args.foreground)
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; what went wrong is said in a sentence."""
    try:
        return run(make_parser().parse_args(args))
    except SocsError as error:
        print(f"pipelinefs: {error}", file=sys.stderr)
        return EXIT_FAILED


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Refused(f"there is no group {name!r:.40}; make it, or name another with --group") from None


if __name__ == "__main__":
    sys.exit(main())
