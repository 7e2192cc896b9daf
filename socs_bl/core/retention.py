"""How long journals and their archives are kept.

Two rules, nothing else removes anything: entries leave the journal only for an archive that is complete on disk, and only
up to the snapshot (`socs_bl.core.archive.trim`); archives leave the disk oldest first, when they are older or together
larger than wanted, and only when the snapshot is past them, so that what a replay from it needs is always there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from socs_bl.core.archive import archive_stem
from socs_bl.core.config import Config

DAY = 86400.0
_MEGABYTE = 1_000_000


class Retention(Config):
    """What is kept.

    Attributes
    ----------
    entries : int
        The journal is trimmed into an archive when it has grown by as many.
    days : float or None
        Archives written longer ago are removed; None keeps them.
    megabytes : float or None
        The oldest archives are removed until the rest is not larger; None keeps them.
    """

    entries: int = Field(default=20_000, ge=1)
    days: float | None = Field(default=None, gt=0)
    megabytes: float | None = Field(default=None, gt=0)


class Archived(NamedTuple):
    """An archive file: its entries, size in bytes and the Unix time it was written."""

    path: Path
    first: int
    last: int
    size: int
    written: float


class Expired(NamedTuple):
    """An archive that may go, and the rule that allows it."""

    archive: Archived
    rule: str


def archives(directory: Path, name: str) -> list[Archived]:
    """The archives of a journal, the oldest first."""
    pattern = re.compile(re.escape(archive_stem(name)) + r"-([0-9]{12,})-([0-9]{12,})\.jsonl")
    found = []
    for path in directory.glob("*.jsonl"):
        match = pattern.fullmatch(path.name)
        if match:
            status = path.stat()
            found.append(Archived(path, int(match[1]), int(match[2]), status.st_size, status.st_mtime))
    return sorted(found, key=lambda archive: (archive.first, archive.last))


def expired(found: Sequence[Archived], snapshot: int, retention: Retention, now: float) -> list[Expired]:
    """Which archives may be removed.

    Parameters
    ----------
    found : sequence of Archived
        The oldest first.
    snapshot : int
        Sequence of the journal's snapshot; archives with later entries stay.
    retention : Retention
    now : float
        Unix time, seconds.

    Returns
    -------
    list of Expired
        Without a hole: one that stays keeps all after it.
    """
    gone: list[Expired] = []
    left = sum(archive.size for archive in found)
    for archive in found:
        old = retention.days is not None and now - archive.written > retention.days * DAY
        large = retention.megabytes is not None and left > retention.megabytes * _MEGABYTE
        if archive.last > snapshot or not (old or large):
            break
        rule = f"older than {retention.days:g} days" if old else f"more than {retention.megabytes:g} MB of archives"
        gone.append(Expired(archive, f"{rule}, and the snapshot is at entry {snapshot}"))
        left -= archive.size
    return gone


def prune(directory: Path, name: str, snapshot: int, retention: Retention, now: float) -> list[Expired]:
    """Remove the archives that may go; return them with the rule that allowed it.

    Raises
    ------
    OSError
        When one cannot be removed.
    """
    gone = expired(archives(directory, name), snapshot, retention, now)
    for item in gone:
        item.archive.path.unlink(missing_ok=True)
    return gone
