"""A file system so small that a test can fill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tiny_disk(place: Path, size: int) -> Iterator[Path]:
    """A tmpfs of `size` bytes; ``mount -o remount,size=...`` makes room.

    Where the kernel lets nobody mount (a plain user, a container without the right), the test is skipped: limits on
    file sizes stand for it in other tests.
    """
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    mounted = subprocess.run(argv, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
