"""The disks an analyzer watches: how full they are, and which raw data lie on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Volume(NamedTuple):
    """One file system as `statvfs` describes it, bytes."""

    path: str
    total: int
    used: int
    free: int

    @property
    def used_fraction(self) -> float:
        """Of what others than root may use."""
        return self.used / (self.used + self.free) if self.used + self.free else 1.0


class RawDirectory(NamedTuple):
    """A data directory with GUPPI RAW files: how many, how large together, and when one was last written (Unix s)."""

    path: str
    files: int
    bytes: int
    written: float


def volume(path: Path) -> Volume:
    """The file system a directory is on; the directory is made when it is not there."""
    path.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(path)
    return Volume(str(path), usage.total, usage.used, usage.free)


def raw_directories(buffers: Iterable[Path]) -> list[RawDirectory]:
    """The directories right below `buffers` that hold GUPPI RAW files at any depth, the oldest first.

    What comes, goes or cannot be read while it is looked at is left out.
    """
    found = []
    for buffer in buffers:
        try:
            places = [entry.path for entry in os.scandir(buffer) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        found += [directory for place in places if (directory := _raw_directory(place)).files]
    return sorted(found, key=lambda directory: directory.written)


def _raw_directory(place: str) -> RawDirectory:
    files, size, written = 0, 0, 0.0
    for folder, _, names in os.walk(place):
        for name in names:
            if not name.endswith(".raw"):
                continue
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            files, size, written = files + 1, size + status.st_size, max(written, status.st_mtime)
    return RawDirectory(place, files, size, written)
