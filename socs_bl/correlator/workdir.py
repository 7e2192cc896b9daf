"""The working directory of a node: sockets, logs and documents of its processes, and its rings in memory.

``cbe<digits>`` in the directory for temporary files (``TMPDIR``, ``TEMP``, ``TMP``, else ``/tmp``), and one of the same
name on the file system in memory. Both are removed at a clean end; after SIGKILL the next start of the same instance
removes them. Source: man page wcbe-sys, working directories.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from socs_bl.core.errors import Faulty
from socs_bl.services.process import identify, read_records, write_record

LONGEST_SOCKET = 100  # bytes; the kernel takes 107
_NAME = re.compile(r"cbe[0-9]{1,18}")


class WorkDirectory:
    """Made at the start of an agent.

    Parameters
    ----------
    instance : str
        The agent's instance-id, which knows its left-over directories by it.
    memory : Path
        A file system in memory, for rings.

    Attributes
    ----------
    path, rings : Path
        For files; for rings.

    Raises
    ------
    Faulty
        When it cannot be made.
    """

    def __init__(self, instance: str, memory: Path) -> None:
        parent = Path(tempfile.gettempdir())
        self.removed = remove_left_over(instance, parent, memory)
        try:
            self.path = _make(parent)
            self.rings = memory / self.path.name
            shutil.rmtree(self.rings, ignore_errors=True)  # its other half somebody has removed by hand
            self.rings.mkdir(mode=0o700, parents=True)
            mine = identify(os.getpid())
            assert mine is not None
            for directory in (self.path, self.rings):
                write_record(directory, instance, mine)
        except OSError as error:
            raise Faulty(f"no working directory in {parent} and {memory}: {error}; set TMPDIR", "tmp") from error
        if len(os.fsencode(self.socket(999_999))) > LONGEST_SOCKET:
            self.remove()
            raise Faulty(f"{self.path} is too long for a socket's name; set TMPDIR to something shorter", "tmp")

    def socket(self, number: int) -> Path:
        """A control socket."""
        return self.path / f"{number}.sock"

    def log(self, name: str) -> Path:
        """What a process writes on its output."""
        return self.path / f"{name}.log"

    def document(self, name: str) -> Path:
        """A configuration's document, for its pipelines."""
        return self.path / f"{name}.xml"

    def recordings(self, name: str, pipe: str) -> Path:
        """What a pipeline has to record when it starts."""
        return self.path / f"{name}.{pipe}.json"

    def ring(self, name: str, pipe: str) -> Path:
        """A pipeline's ring."""
        return self.rings / f"{name}.{pipe}"

    def free_rings(self, name: str) -> None:
        """Remove the rings of a configuration that is no more."""
        for path in self.rings.glob(f"{name}.*"):
            path.unlink(missing_ok=True)
        self.document(name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove both directories."""
        shutil.rmtree(self.rings, ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)


def remove_left_over(instance: str, *parents: Path) -> int:
    """Remove the directories that earlier lives of an instance have left in these; returns how many."""
    removed = 0
    for path in (found for parent in parents for found in parent.glob("cbe*")):
        if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        owner = read_records(path).get(instance)
        if owner is not None and identify(owner.pid) != owner:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _make(parent: Path) -> Path:
    for number in range(1000):
        path = parent / f"cbe{os.getpid()}{number:03d}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{parent} is full of working directories")
