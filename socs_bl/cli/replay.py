"""``socs-bl replay``: what happened, an event a line, with what it changed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from socs_bl.cli.source import add_source, machine_of, opened, teller_of
from socs_bl.core.archive import read_archive
from socs_bl.core.clock import iso_utc
from socs_bl.core.codec import Codec
from socs_bl.core.errors import Refused
from socs_bl.core.explain import Teller, cut
from socs_bl.core.journal import Journal, Stored
from socs_bl.core.walk import Step, walk

FOLLOW_INTERVAL = 0.5  # seconds
EXIT_UNLIKE = 1


def add_parser(subparsers: Any) -> None:
    """Add ``replay``."""
    parser = subparsers.add_parser("replay", help="step through a journal and show what each event changed")
    add_source(parser)
    parser.add_argument("journal", nargs="?", default="commensal", metavar="NAME", help="which (default: commensal)")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEQ", help="show entries from here on")
    parser.add_argument("--until", metavar="T|SEQ", help="stop after this entry, or at this time (ISO 8601, UTC)")
    parser.add_argument("--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="an archive of the journal instead of itself")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it; exit status 1 when today's software would have answered differently."""
    last_sequence, last_time = parse_until(args.until)
    factory, words = machine_of(args.journal), teller_of(args.journal)
    console = Console()
    count = unlike = 0
    with _entries(args) as (base, entries):
        for step in walk(factory, Codec(factory), base, entries):
            envelope = step.entry.envelope
            if envelope.sequence > last_sequence or envelope.event.at.wall > last_time:
                break
            count += 1
            unlike += not step.faithful
            if envelope.sequence >= args.first:
                console.print(line(step, words), soft_wrap=True, markup=False, highlight=False)
    said = "all answered as recorded" if not unlike else f"{unlike} of which today's software answers differently"
    console.print(f"{count} entries, {said}")
    return EXIT_UNLIKE if unlike else 0


def line(step: Step, words: Teller[Any]) -> str:
    """One event: sequence, time, cause, what happened, what it changed."""
    envelope = step.entry.envelope
    cause = f" <- {envelope.cause}" if envelope.cause else ""
    changes = [words.change(change) for change in step.changes if change.table == "cell"]
    mark = "" if step.faithful else " (answered differently today)"
    happened = (
        f"{envelope.sequence:>7} {iso_utc(envelope.event.at.wall)}{cause} {cut(words.event(envelope.event))}{mark}"
    )
    return happened + "".join(f"\n{'':>8}{cut(change)}" for change in changes)


def parse_until(text: str | None) -> tuple[float, float]:
    """The last sequence and the last Unix time that are wanted.

    Raises
    ------
    Refused
        When the text is neither a number nor a time.
    """
    end = float("inf")
    if text is None:
        return end, end
    if text.isascii() and text.isdigit():
        return float(text), end
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"--until {text!r} is neither an entry's number nor a time like 2026-11-21T04:00:00Z") from error
    return end, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


@contextmanager
def _entries(args: argparse.Namespace) -> Iterator[tuple[Stored, Iterator[tuple[int, bytes]]]]:
    """Where to begin and what to read: an archive, or a journal that is perhaps followed."""
    if args.archive:
        yield read_archive(args.archive)
        return
    with opened(args, args.journal) as journal:
        base = journal.base()
        entries = journal.read(base.sequence + 1)
        yield base, follow(journal, base.sequence) if args.follow else entries


def follow(journal: Journal, last: int) -> Iterator[tuple[int, bytes]]:
    """Entries after `last` and all that come, for ever."""
    while True:
        for sequence, data in journal.read(last + 1):
            yield sequence, data
            last = sequence
        time.sleep(FOLLOW_INTERVAL)
