"""A named pipe that lines are read from, in the reactor."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure

from socs_bl.core.errors import Retry

MODE = 0o660
LONGEST_LINE = 4096
CHUNK = 4096


class Pipe:
    """Reads lines; writers come and go.

    Parameters
    ----------
    path : Path
        Made with mode 660 where there is none.
    group : str
        Group that may write; empty: leave it as it is.
    line : callable
        Called with each line, without its end.
    dropped : callable
        Called with the beginning of each line that was too long to be taken.
    """

    def __init__(self, path: Path, group: str, line: Callable[[bytes], None], dropped: Callable[[bytes], None]) -> None:
        self.path = path
        self._group = group
        self._line = line
        self._dropped = dropped
        self._descriptor = -1
        self._reactor: Any = None
        self._rest = b""
        self._skipping = False

    def open(self, reactor: Any) -> None:
        """Read from the pipe, made when it is not there; again when what is there is not what is read from.

        Raises
        ------
        Retry
            When it cannot be made or opened, is something else, or another process reads from it.
        """
        if self._descriptor >= 0 and self._is_there():
            return
        self.close()
        try:
            self._descriptor = self._opened()
        except (OSError, KeyError) as error:
            raise Retry(f"{self.path} cannot be read from: {error}; correct that, it is tried again") from error
        self._reactor = reactor
        reactor.addReader(self)

    def close(self) -> None:
        """Read no more; the pipe stays, so that writers wait for the next reader."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(descriptor)
        self._rest, self._skipping = b"", False

    def _is_there(self) -> bool:
        """Whether the pipe of this name is the one that is read from."""
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _opened(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.path, MODE)
        # Open for writing as well: without a writer a reader would be told of an end all the time.
        descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISFIFO(found.st_mode):
                raise OSError("it is not a named pipe")
            group = grp.getgrnam(self._group).gr_gid if self._group else found.st_gid
            if group != found.st_gid:
                os.fchown(descriptor, -1, group)
            if stat.S_IMODE(found.st_mode) != MODE:
                os.fchmod(descriptor, MODE)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    # -- what the reactor calls -----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """What the reactor waits for."""
        return self._descriptor

    def doRead(self) -> None:
        """Take what is there; a line without end costs a few kilobytes and is told once."""
        try:
            chunk = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
            self._skipping = False
        if len(rest) > LONGEST_LINE:
            self._take(rest)
            self._skipping, rest = True, b""
        self._rest = rest

    def _take(self, line: bytes) -> None:
        """Hand a line on, unless it is too long or the end of one that was."""
        if self._skipping:
            return
        if len(line) > LONGEST_LINE:
            self._dropped(line[:80])
        else:
            self._line(line)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor could not read: opened again by whoever looks after it."""
        self.close()

    def logPrefix(self) -> str:
        """Who this is in Twisted's log."""
        return f"pipe {self.path}"
