"""Every change that publishing makes to the file system, one call each.

In one place, so that a test can stop between any two of them, and let any of them fail.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from socs_bl.core.errors import Refused


class Files:
    """The file system as publishing uses it. All calls block; what fails raises OSError and names the path."""

    def create(self, path: Path, data: bytes) -> None:
        """Write a file to the disk, replacing what was there."""
        with _named(path), open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync(self, path: Path) -> None:
        """Bring a file, or the names in a directory, to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with _named(path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; FileExistsError when another file has it."""
        os.link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file, replacing what was there."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Take a name away; nothing happens when it is not there."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """Make a directory unless it is there."""
        path.mkdir(parents=True, exist_ok=True)

    # -- made of those ----------------------------------------------------------------------------------------------

    def write_whole(self, directory: Path, contents: Mapping[str, bytes]) -> None:
        """Files of a directory, each of which appears whole or not at all, in this order.

        All are on the disk before the first one appears. What a writer that was killed has left is overwritten.
        """
        for name, data in contents.items():
            self.create(directory / f".{name}.new", data)
        for name in contents:
            self.replace(directory / f".{name}.new", directory / name)
        self.sync(directory)

    def link_once(self, source: Path, target: Path) -> bool:
        """Give a file a second name, on the disk.

        Returns
        -------
        bool
            False when another file has the name. The same file having it already is success.
        """
        self.sync(source)
        try:
            self.link(source, target)
        except FileExistsError:
            if not same_file(source, target):
                return False
        self.sync(target.parent)
        return True


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of calls that know only a descriptor name the path."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def same_file(one: Path, other: Path) -> bool:
    """Whether two names are those of one file; False when one of them is not there."""
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except FileNotFoundError:
        return False


def read_limited(path: Path, limit: int) -> bytes:
    """A small file.

    Raises
    ------
    Refused
        When it is larger than `limit` bytes.
    OSError
        When it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Refused(f"{path} is larger than {limit} bytes; it is not what its name says")
    return data
