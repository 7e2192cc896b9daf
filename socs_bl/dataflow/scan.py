"""Looking at all files of a store."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from socs_bl.dataflow.classify import of_errno
from socs_bl.dataflow.model import Seen
from socs_bl.dataflow.outcome import Cause, Failure, Outcome
from socs_bl.dataflow.receiver import INCOMING
from socs_bl.dataflow.rsync import PARTIAL

PRIVATE = frozenset({INCOMING, PARTIAL})


class Scan(msgspec.Struct):
    """What a look at a store, or at a part of it, has found.

    Attributes
    ----------
    files : list of Seen
        Regular files. Symbolic links to files are left out, as what they point to is somewhere else.
    unread : dict
        Directories that could not be looked into, below the root, and why: nothing is known of what is in them.
    left_out : int
        Pipes, sockets, devices, symbolic links.
    device : int
        File system of the root; another one than before means that something was mounted or unmounted there.
    """

    files: list[Seen]
    unread: dict[str, str]
    left_out: int
    device: int


class Changes(NamedTuple):
    """What is different from what was known."""

    new: list[Seen]
    changed: list[Seen]
    gone: list[Seen]


def scan(
    store: str,
    root: Path,
    below: str = "",
    deep: bool = True,
    follow: bool = False,
    stop: threading.Event | None = None,
) -> Scan:
    """Look at every file.

    Parameters
    ----------
    store : str
        Its name, for `Seen`.
    root : Path
    below : str
        Only this directory of it.
    deep : bool
        And all directories in it.
    follow : bool
        Go into directories by symbolic links too; each directory is looked at once, so that loops end.
    stop : threading.Event, optional
        Ends it when set.

    Raises
    ------
    Failure
        When the root cannot be looked at, or it was stopped: then nothing is known, and nothing is gone.
    """
    try:
        top = os.stat(root)
        if not stat.S_ISDIR(top.st_mode):
            raise Failure(Outcome(Cause.NO_ROOT, f"{root} is not a directory"))
    except OSError as error:
        outcome = of_errno(error.errno or 0, f"{root}: {error.strerror}")
        raise Failure(
            outcome if outcome.cause is not Cause.UNKNOWN else Outcome(Cause.NO_ROOT, outcome.text)
        ) from error
    found = Scan([], {}, 0, top.st_dev)
    visited = {(top.st_dev, top.st_ino)}
    waiting = [below]
    while waiting:
        if stop is not None and stop.is_set():
            raise Failure(Outcome(Cause.INTERRUPTED, f"the look at {root} was stopped"))
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                inside = _sorted_out(entries, store, folder, found, follow, visited)
        except FileNotFoundError:
            continue  # removed meanwhile, with all that was in it
        except OSError as error:
            found.unread[folder] = error.strerror or str(error)
            continue
        if deep:
            waiting += inside
    return found


def _sorted_out(
    entries: Iterable[os.DirEntry[str]],
    store: str,
    folder: str,
    found: Scan,
    follow: bool,
    visited: set[tuple[int, int]],
) -> list[str]:
    """Note the files of a directory; returns the directories in it."""
    prefix = folder + "/" if folder else ""
    inside = []
    for entry in entries:
        try:
            if entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.files.append(Seen(store, prefix + entry.name, status.st_size, status.st_mtime_ns, status.st_ino))
            elif not entry.is_dir(follow_symlinks=follow):
                found.left_out += 1
            elif entry.name in PRIVATE:
                continue
            elif not follow or _first_visit(entry, visited):
                inside.append(prefix + entry.name)
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError as error:
            found.unread[prefix + entry.name] = error.strerror or str(error)
    return inside


def _first_visit(entry: os.DirEntry[str], visited: set[tuple[int, int]]) -> bool:
    status = entry.stat()
    place = (status.st_dev, status.st_ino)
    if place in visited:
        return False
    visited.add(place)
    return True


def compare(known: Mapping[str, Seen], found: Scan, below: str = "", deep: bool = True) -> Changes:
    """What a look has changed in what was known.

    Parameters
    ----------
    known : mapping
        Path to what was seen there; of all of the store.
    found : Scan
    below, deep
        What was looked at, as for `scan`: only of that can anything be gone, and of nothing that could not be read.
    """
    new, changed = [], []
    there = set()
    for seen in found.files:
        there.add(seen.path)
        before = known.get(seen.path)
        if before is None:
            new.append(seen)
        elif before.identity != seen.identity:
            changed.append(seen)
    prefix = below + "/" if below else ""
    unread = tuple(f"{folder}/" if folder else "" for folder in found.unread)
    gone = [
        seen
        for path, seen in known.items()
        if path not in there
        and path.startswith(prefix)
        and (deep or "/" not in path[len(prefix) :])
        and not path.startswith(unread)
        and path not in found.unread
    ]
    return Changes(new, changed, gone)
