"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PRIVATE = re.compile(r"\..+\.\d+-\d+\.part")


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` as `path`: under a private name, to disk, then renamed, and the name to disk.

    Raises
    ------
    OSError
        When it cannot be written; `path` is then what it was before, and the private file is gone.
    """
    with open_whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece that appears as `path` at the end, as with `write_whole`, or not at all.

    Raises
    ------
    OSError
        When it cannot be written; after this and any other error `path` is what it was before.
    """
    private = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(private, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(private, path)
    except BaseException:
        private.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_left_over(directory: Path, before: float) -> None:
    """Remove the private files in `directory` that writers which were killed have left there.

    Parameters
    ----------
    directory : Path
        Need not exist.
    before : float
        Unix seconds; younger files may still be written and stay.

    Raises
    ------
    OSError
        When one cannot be removed.
    """
    for path in directory.glob(".*.part"):
        if not _PRIVATE.fullmatch(path.name):
            continue
        try:
            if path.lstat().st_mtime < before:
                path.unlink()
        except FileNotFoundError:
            continue  # its writer has renamed it meanwhile
