"""``socs-bl journal``: list, archive, back up, restore and verify journals."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from socs_bl.cli.source import add_source, full_name, machine_of, opened, url_of
from socs_bl.core.archive import Trimmed, trim
from socs_bl.core.backup import backup_entries, read_backup, restore, verify, verify_journal, write_backup
from socs_bl.core.clock import iso_utc
from socs_bl.core.config import check
from socs_bl.core.errors import Faulty, Retry
from socs_bl.core.journal import Journal, OutOfSequence
from socs_bl.core.retention import Retention, prune
from socs_bl.services.journals import list_journals

TRIM_TRIES = 50  # a writer that commits while its journal is being trimmed comes in between


def add_parser(subparsers: Any) -> None:
    """Add ``journal`` and what is below it."""
    parser = subparsers.add_parser("journal", help="list, archive, back up, restore and verify journals")
    add_source(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _action(actions, "list", _list, "the journals there are")
    archive = _action(actions, "archive", _archive, "move the entries so far into an archive file", name=True)
    archive.add_argument("directory", type=Path, help="where archives are kept")
    archive.add_argument("--days", type=float, help="then remove archives that are older")
    archive.add_argument("--megabytes", type=float, help="then remove the oldest archives beyond so many")
    backup = _action(actions, "backup", _backup, "write all of a journal into one file", name=True)
    backup.add_argument("file", type=Path)
    put_back = _action(
        actions, "restore", _restore, "fill a journal from a backup; a running writer is fenced", name=True
    )
    put_back.add_argument("file", type=Path)
    put_back.add_argument("--replace", action="store_true", help="also when the journal holds something")
    verified = _action(actions, "verify", _verify, "replay a journal, or a backup of it, and compare", name=True)
    verified.add_argument("file", type=Path, nargs="?", help="a backup instead of the journal itself")


def _action(actions: Any, word: str, run: Any, text: str, name: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(word, help=text)
    add_source(parser, again=True)
    if name:
        parser.add_argument("journal", metavar="NAME", help="such as commensal or recorder:blpn64/0")
    parser.set_defaults(run=run)
    return parser


def _list(args: argparse.Namespace) -> int:
    table = Table("journal", "events", "since entry", "epoch", "writer", box=None)
    for item in list_journals(url_of(args)):
        table.add_row(item.name, str(item.sequence), str(item.base + 1), str(item.epoch), item.writer)
    Console().print(table)
    return 0


def _archive(args: argparse.Namespace) -> int:
    retention = check({"days": args.days, "megabytes": args.megabytes}, Retention, "archive")
    name = full_name(args.journal)
    with opened(args, name) as journal:
        trimmed = _trim(journal, name, args.directory)
        if trimmed.path is None:
            _say(f"{name}: there is nothing to archive")
        else:
            _say(f"{name}: {trimmed.entries} entries are in {trimmed.path}")
        for gone in prune(args.directory, name, journal.base().sequence, retention, time.time()):
            _say(f"{gone.archive.path} removed: {gone.rule}")
    return 0


def _trim(journal: Journal, name: str, directory: Path) -> Trimmed:
    for _ in range(TRIM_TRIES):
        try:
            return trim(journal, name, directory)
        except OutOfSequence:
            continue
    raise Retry(f"{name} is written all the time; try again, or let its agent archive (--journal-archive)")


def _backup(args: argparse.Namespace) -> int:
    name = full_name(args.journal)
    with opened(args, name) as journal:
        try:
            head = write_backup(journal, name, args.file, time.time())
        except OSError as error:
            raise Faulty(f"{args.file} cannot be written ({error}); give another place", str(args.file)) from error
    _say(
        f"{name}: snapshot of entry {head.base[1]}, {head.entries} entries, state of {head.state[1]} are in {args.file}"
    )
    return 0


def _restore(args: argparse.Namespace) -> int:
    name = full_name(args.journal)
    with opened(args, name) as journal:
        head, epoch = restore(journal, args.file, args.replace)
    _say(
        f"{name} is as {head.journal} was at entry {head.state[1]} ({iso_utc(head.written)}), in epoch {epoch}; "
        "an agent that has it open is fenced off: restart it"
    )
    return 0


def _verify(args: argparse.Namespace) -> int:
    factory = machine_of(args.journal)
    if args.file is not None:
        backup = read_backup(args.file)
        verify(factory, backup.base, backup.state, backup_entries(args.file))
        base, state, what = backup.base, backup.state, str(args.file)
    else:
        what = full_name(args.journal)
        with opened(args, what) as journal:
            base, state = verify_journal(factory, journal)
    _say(f"{what}: entries {base.sequence + 1} to {state.sequence} replay to the stored state")
    return 0


def _say(text: str) -> None:
    Console().print(text, soft_wrap=True, markup=False, highlight=False)
