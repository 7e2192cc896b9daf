"""The journal's timeline as the demonstration prints it: what happened to each subarray, and when."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.table import Table

from socs_bl.cli.source import full_name
from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.timeline import Row, timeline
from socs_bl.core.clock import iso_utc
from socs_bl.core.codec import Codec
from socs_bl.services.journals import open_journal

JOURNAL = "commensal"
DETAIL = 60  # characters of a detail that are shown


def read_timeline(url: str) -> list[Row]:
    """The timeline of the coordinator's whole journal at `url`.

    Raises
    ------
    Retry
        When the server of the journal does not answer.
    """
    codec = Codec(CommensalMachine)
    with closing(open_journal(url, full_name(JOURNAL))) as journal:
        first = journal.base().sequence + 1
        return timeline(codec.decode(data) for _, data in journal.read(first))


def show_timeline(console: Console, rows: Sequence[Row]) -> None:
    """Print it."""
    table = Table("UTC", "subarray", "what", "detail", title="what happened, from the journal")
    for row in rows:
        if row.array:
            table.add_row(iso_utc(row.time)[11:23], row.array, row.what, row.detail[:DETAIL])
    console.print(table)


def timeline_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For other programs; times are Unix seconds."""
    return [row._asdict() for row in rows]
