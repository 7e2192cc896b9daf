"""A file system that a test mounts, where the machine lets it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from socs_bl.services.process import Child
from tests.harness.live import REPOSITORY
from tests.harness.programs import need_program

MOUNT_TIMEOUT = 60.0


def need_fuse() -> str:
    """The path of fusermount. Where nobody may open /dev/fuse (a container without the right) the test is skipped."""
    program = need_program("fusermount3", "fusermount")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"FUSE cannot be used here: {error}")
    return program


@contextmanager
def mounted(argv: Sequence[str], place: Path) -> Iterator[Child]:
    """Run a program that mounts something at `place` (the last argument) and stays in the foreground; unmount it after."""
    program = need_fuse()
    place.mkdir()
    child = Child("file system", [*argv, str(place)], place.with_suffix(".log"), cwd=REPOSITORY)
    try:
        child.wait_ready(lambda: os.path.ismount(place), MOUNT_TIMEOUT)
        yield child
    finally:
        unmount(program, place)
        child.stop()


def unmount(program: str, place: Path) -> None:
    """Unmount what is mounted, also when its program hangs or is gone."""
    subprocess.run([program, "-u", "-z", str(place)], capture_output=True, timeout=30)
