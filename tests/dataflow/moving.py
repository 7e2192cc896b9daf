"""What the tests of moving files share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from socs_bl.dataflow.hand import Hand
from socs_bl.dataflow.model import Seen
from socs_bl.dataflow.outcome import Cause
from socs_bl.dataflow.receiver import INCOMING
from socs_bl.dataflow.transfer import Carrier, Item, LocalCarrier, Report, SshCarrier


def make(root: Path, path: str, data: bytes, mtime_ns: int = 1_700_000_000_123_456_789) -> Item:
    """Write a file and describe it as a scan would."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    os.utime(place, ns=(mtime_ns, mtime_ns))
    return describe(root, path)


def describe(root: Path, path: str, **fields: object) -> Item:
    """A file that is there, to be moved to the same path."""
    status = (root / path).lstat()
    seen = Seen("source", path, status.st_size, status.st_mtime_ns, status.st_ino)
    return Item(seen, path, **fields)  # type: ignore[arg-type]


def tree(root: Path) -> dict[str, bytes]:
    """All files below a root, those that are arriving too."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {os.fspath(path.relative_to(root)): path.read_bytes() for path in files}


def arriving(root: Path) -> list[str]:
    """Files on their way."""
    return [path for path in tree(root) if path.startswith(INCOMING)]


def causes(report: Report) -> list[Cause]:
    """Why each ended as it did."""
    return [outcome.cause for outcome in report.outcomes]


class Meddling:
    """A carrier during which something happens: `meddle` is called with the number of the round when files have arrived."""

    def __init__(self, carrier: LocalCarrier | SshCarrier, meddle: Callable[[int], None]) -> None:
        self._carrier = carrier
        self._meddle = meddle
        self.rounds = 0

    @property
    def hand(self) -> Hand:
        """That of the real one."""
        return self._carrier.hand

    def carry(self, *arguments: object) -> object:
        """Carry, then meddle."""
        outcome = self._carrier.carry(*arguments)  # type: ignore[arg-type]
        self.rounds += 1
        self._meddle(self.rounds)
        return outcome


def flip(path: Path) -> None:
    """Change one bit in the middle; size and time stay."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


__all__ = ["Carrier", "Meddling", "arriving", "causes", "describe", "flip", "make", "tree"]
