"""Being woken when something happens in a store. What happened is found out by looking: events are only the bell.

inotify(7) drops events when its queue is full, loses a directory that is deleted, does not see what is mounted over one, and
tells nothing of what other hosts do. So no event is believed to be all: each says which directory to look at, whatever goes
wrong says that all of it has to be, and a look now and then is taken anyway.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import inotify_simple
import msgspec
from inotify_simple import flags

from socs_bl.dataflow.scan import PRIVATE

_MASK = (
    flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.CREATE | flags.DELETE
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR | flags.EXCL_UNLINK
)  # fmt: skip
# A directory that has gone and left its name, or is no directory any more by the time it is watched.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Wake(msgspec.Struct, frozen=True):
    """What is to be looked at.

    Attributes
    ----------
    folders : frozenset of str
        Directories below the root, each by itself.
    trees : frozenset of str
        Directories with all that is in them: they are new, or were moved.
    everything : bool
        All of the store: events were lost.
    """

    folders: frozenset[str] = frozenset()
    trees: frozenset[str] = frozenset()
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.folders or self.trees or self.everything)

    def __or__(self, other: Wake) -> Wake:
        return Wake(self.folders | other.folders, self.trees | other.trees, self.everything or other.everything)


class Watch:
    """The bell of one store; readable, as its file descriptor says, when it rings.

    Parameters
    ----------
    root : Path
        Need not be there yet.

    Attributes
    ----------
    overflows : int
        Times that the kernel dropped events.
    unwatched : dict
        Directories that could not be watched, below the root, and why, such as the user's limit of watches; what happens there
        is found by the next look at all of the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._inotify = inotify_simple.INotify(nonblocking=True)
        self._folders: dict[int, str] = {}  # by watch
        self._places: dict[str, tuple[int, int, int]] = {}  # watch, device and inode, by directory
        self.overflows = 0
        self.unwatched: dict[str, str] = {}
        self.refresh()

    def fileno(self) -> int:
        """For the reactor, select and poll."""
        return int(self._inotify.fileno())

    @property
    def watched(self) -> int:
        """How many directories."""
        return len(self._folders)

    def refresh(self) -> Wake:
        """Watch what is not watched; to be called before every look at all of the store.

        It finds what no event tells: a root that has come back, a file system that was mounted over a directory, a limit that
        was raised.

        Returns
        -------
        Wake
            The directories that had gone unwatched.
        """
        self.unwatched.clear()
        for folder in [known for known in self._places if not self._in_place(known)]:
            self._forget(folder)
        return self._add("")

    def read(self) -> Wake:
        """What has happened since the last time; never blocks, and knows no event that it could not survive."""
        wake = Wake()
        for event in self._inotify.read(timeout=0):
            wake |= self._heard(event)
        return wake

    def close(self) -> None:
        """Watch nothing any more."""
        self._inotify.close()

    def _heard(self, event: inotify_simple.Event) -> Wake:
        if event.mask & flags.Q_OVERFLOW:
            self.overflows += 1
            return self.refresh() | Wake(everything=True)
        folder = self._folders.get(event.wd)
        if folder is None:
            return Wake()  # of a directory that was let go
        if event.mask & (flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED):
            self._forget(folder)
            # Another directory may have its name already.
            return self._add(folder) | Wake(trees=frozenset({folder}), everything=not folder)
        if event.name in PRIVATE:
            return Wake()
        if event.mask & flags.ISDIR:
            inside = f"{folder}/{event.name}" if folder else event.name
            if event.mask & flags.MOVED_FROM:
                self._forget(inside)
            return self._add(inside) | Wake(trees=frozenset({inside}))
        return Wake(frozenset({folder}))

    def _add(self, top: str) -> Wake:
        """Watch a directory and all in it; first watched, then listed, so that nothing can be born unseen in between."""
        added = []
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            path = os.path.join(self._root, os.fsencode(folder))
            try:
                if folder not in self._places:
                    # The root itself may be a link.
                    mask = _MASK | (flags.DONT_FOLLOW if folder else 0)
                    watch = self._inotify.add_watch(path, mask)
                    if (other := self._folders.get(watch)) is not None:
                        self._places.pop(other, None)  # it was renamed; the kernel's watch went with it
                    status = os.stat(path)
                    self._folders[watch] = folder
                    self._places[folder] = (watch, status.st_dev, status.st_ino)
                    added.append(folder)
                with os.scandir(path) as entries:
                    names = [os.fsdecode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as error:
                if error.errno not in _GONE or not folder:
                    self.unwatched[folder] = error.strerror or str(error)
                continue
            waiting += [f"{folder}/{name}" if folder else name for name in names if name not in PRIVATE]
        return Wake(frozenset(added))

    def _in_place(self, folder: str) -> bool:
        try:
            status = os.stat(os.path.join(self._root, os.fsencode(folder)), follow_symlinks=not folder)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._places[folder][1:]

    def _forget(self, top: str) -> None:
        """Let go of a directory and all in it."""
        prefix = top + "/" if top else ""
        for folder in [known for known in self._places if known == top or known.startswith(prefix)]:
            watch = self._places.pop(folder)[0]
            self._folders.pop(watch, None)
            try:
                self._inotify.rm_watch(watch)
            except OSError as error:
                if error.errno != errno.EINVAL:  # the kernel has let go of it already
                    raise
