"""The tree as a mounted file system, by libfuse through mfusepy.

The kernel is told to keep nothing: entries come and go, and a file says what is true when it is opened. Sizes need not be
right (``direct_io``). Requests are carried out by several threads, and each ends by its deadline.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socs_bl.core.errors import Faulty, Refused, SocsError
from socs_bl.correlator.pipelinefs.tree import Draft, Entry, Tree, number_of, sentence_of

NAME = "pipelinefs"
THREADS = 64  # requests at the same time: one that starts an instance takes as long as that
_LOOP_ENDED = 8  # fuse_main's status when its loop was ended, by a signal or because the kernel went away
_LOG = logging.getLogger(NAME)
_TYPES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "link": stat.S_IFLNK}
_WRITING = os.O_WRONLY | os.O_RDWR


@dataclass
class _Opened:
    """An open file: what it said when it was opened, or the new file that is being written."""

    path: str
    content: bytes = b""
    draft: Draft | None = None
    writer: int = 0


def import_mfusepy() -> Any:
    """The library, which is an extra.

    Raises
    ------
    Refused
        When it or libfuse is not installed; the text has the commands.
    """
    try:
        import mfusepy
    except (ImportError, OSError, AttributeError) as error:  # the library is found and loaded at import
        raise Refused(
            f"mounting needs mfusepy and libfuse ({error}); install them: pip install 'socs_bl[fuse]', and Debian's fuse3"
        ) from error
    return mfusepy


def mount(
    tree: Tree,
    mountpoint: Path,
    group: int | None = None,
    allow_other: bool | None = None,
    foreground: bool = True,
) -> None:
    """Mount the tree and serve it until it is unmounted (``fusermount -u``) or the process gets SIGTERM or SIGINT.

    Parameters
    ----------
    tree : Tree
    mountpoint : Path
        An empty directory.
    group : int, optional
        Group that may write; by default that of the process.
    allow_other : bool, optional
        Whether other users see it; by default where this is permitted.
    foreground : bool
        Otherwise this process exits with status 0 once it is mounted, and a copy of it in the background serves.

    Raises
    ------
    Refused
        When the mount point cannot be used or FUSE is not to be had.
    Faulty
        When it ended with an error.
    """
    check_place(mountpoint)
    fuse = import_mfusepy()
    others = may_allow_other() if allow_other is None else allow_other
    options: dict[str, Any] = {
        "fsname": NAME, "subtype": NAME, "direct_io": True, "attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0,
        "default_permissions": True, "allow_other": others,
    }  # fmt: skip
    if (fuse.fuse_version_major, fuse.fuse_version_minor) >= (3, 12):
        options["max_threads"] = THREADS
    try:
        fuse.FUSE(_operations(fuse)(tree, group), str(mountpoint), foreground=foreground, **options)
    except RuntimeError as error:
        if error.args == (_LOOP_ENDED,):
            return
        raise Faulty(f"{mountpoint}: FUSE ended with status {error}; what it said stands above", NAME) from error


def check_place(mountpoint: Path) -> None:
    """See that a file system can be mounted there.

    Raises
    ------
    Refused
        When it cannot.
    """
    try:
        if not mountpoint.is_dir() or next(mountpoint.iterdir(), None) is not None:
            raise Refused(f"{mountpoint} is not an empty directory; make one, or unmount what is there: fusermount -u")
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        raise Refused(f"FUSE cannot be used here: {error}; see to /dev/fuse and to what is mounted") from error


def may_allow_other() -> bool:
    """Whether this user may show a file system to others."""
    if os.geteuid() == 0:
        return True
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def _operations(fuse: Any) -> Callable[[Tree, int | None], Any]:
    """mfusepy's interface over a tree. Its methods run in libfuse's threads; their names are libfuse's."""

    class Operations(fuse.Operations):  # type: ignore[misc]  # mfusepy is found at run time
        use_ns = True

        def __init__(self, tree: Tree, group: int | None) -> None:
            self._tree = tree
            self._owner = (os.getuid(), os.getgid() if group is None else group)
            self._began = time.time_ns()
            self._numbers = itertools.count(1)
            self._opened: dict[int, _Opened] = {}
            self._opening = threading.Lock()

        # -- paths --------------------------------------------------------------------------------------------

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            with self._answering(path):
                return self._attributes(self._tree.lookup(path))

        def readdir(self, path: str, fh: int) -> list[str]:
            with self._answering(path):
                return [".", "..", *self._tree.list(path)]

        def readlink(self, path: str) -> str:
            with self._answering(path):
                return self._tree.readlink(path)

        def mkdir(self, path: str, mode: int) -> int:
            with self._answering(path):
                self._tree.mkdir(path)
            return 0

        def rmdir(self, path: str) -> int:
            with self._answering(path):
                self._tree.rmdir(path)
            return 0

        def unlink(self, path: str) -> int:
            with self._answering(path):
                self._tree.unlink(path)
            return 0

        def statfs(self, path: str) -> dict[str, int]:
            return {"f_bsize": 512, "f_blocks": 0, "f_bavail": 0}  # no blocks: absent from df

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            return 0  # a shell's > truncates first; what is written says what is wanted

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            return 0  # times are those of the mount

        # -- files --------------------------------------------------------------------------------------------

        def open(self, path: str, flags: int) -> int:
            with self._answering(path):
                reading = flags & _WRITING != os.O_WRONLY
                return self._number(_Opened(path, self._tree.read(path) if reading else b""))

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            with self._answering(path):
                return self._number(_Opened(path, draft=self._tree.create(path), writer=fuse.fuse_get_context()[2]))

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return self._opened[fh].content[offset : offset + size]

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            opened = self._opened[fh]
            with self._answering(opened.path):
                if opened.draft is None:
                    self._tree.write(opened.path, data)
                else:
                    opened.draft.write(data)
            return len(data)

        def flush(self, path: str, fh: int) -> int:
            opened = self._opened[fh]
            # Every process that inherited the file closes it; what its maker has to say ends when the maker does.
            if opened.draft is not None and opened.writer == fuse.fuse_get_context()[2]:
                with self._answering(opened.path):
                    opened.draft.finish()
            return 0

        def release(self, path: str, fh: int) -> int:
            with self._opening:
                opened = self._opened.pop(fh)
            if opened.draft is not None:
                with self._answering(opened.path):
                    opened.draft.close()
            return 0

        # -- how it works -------------------------------------------------------------------------------------

        def _number(self, opened: _Opened) -> int:
            number = next(self._numbers)
            with self._opening:
                self._opened[number] = opened
            return number

        def _attributes(self, entry: Entry) -> dict[str, Any]:
            mode = _TYPES[entry.kind]
            if entry.kind == "link":
                mode |= 0o777
            else:
                mode |= (0o444 if entry.readable else 0) | (0o220 if entry.writable else 0)
                mode |= 0o111 if entry.kind == "directory" else 0
            owner, group = self._owner
            times = dict.fromkeys(("st_mtime", "st_atime", "st_ctime"), self._began)
            links = 2 if entry.kind == "directory" else 1
            return {
                "st_mode": mode,
                "st_nlink": links,
                "st_size": entry.size,
                "st_uid": owner,
                "st_gid": group,
                **times,
            }

        @contextmanager
        def _answering(self, path: str) -> Iterator[None]:
            """An error becomes its number; its sentence is kept and logged, unless it says only that nothing is there."""
            try:
                yield
            except (SocsError, OSError) as error:
                number = number_of(error)
                if number != errno.ENOENT:
                    self._tree.instances.complain(path, sentence_of(error))
                    _LOG.warning("%s: %s", path, sentence_of(error))
                raise fuse.FuseOSError(number) from None

    return Operations
