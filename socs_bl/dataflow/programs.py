"""Programs that run to their end while a thread waits: their words kept, their time limited, stopped on demand."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from socs_bl.services import launch

POLL_INTERVAL = 0.2  # seconds between two looks at whether to stop
_BLOCK = 1 << 16
_STDERR_KEPT = 1 << 16


class Finished(NamedTuple):
    """How a program ended.

    Attributes
    ----------
    status : int
        Exit status; negative: the signal that ended it.
    stdout : bytes
        All of it, empty where lines were asked for.
    stderr : str
        The end of it.
    late : bool
        It was ended because it took too long.
    stopped : bool
        It was ended because somebody asked for it.
    """

    status: int
    stdout: bytes
    stderr: str
    late: bool = False
    stopped: bool = False


def run(
    argv: Sequence[str],
    stdin: bytes = b"",
    timeout: float = 3600.0,
    stop: threading.Event | None = None,
    on_line: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program and wait for its end.

    It is the head of a process group of its own, which is killed as a whole, also when this thread or process dies.

    Parameters
    ----------
    argv : sequence of str
        Never a shell's.
    timeout : float
        Seconds.
    stop : threading.Event, optional
        Ends it when set.
    on_line : callable, optional
        Gets each line of stdout; a carriage return ends one too.
    environment : mapping, optional
        Added to ours.

    Returns
    -------
    Finished
        Also for a program that cannot be started: the launcher says why and exits with a status that is not 0.
    """
    wrapper = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(int(signal.SIGKILL))]
    process = subprocess.Popen(
        [*wrapper, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        start_new_session=True,
    )
    talk = _Talk(process, stdin, on_line)
    deadline = time.monotonic() + timeout
    late = stopped = False
    try:
        while talk.going():
            late = time.monotonic() > deadline
            stopped = stop is not None and stop.is_set()
            if late or stopped:
                break
            talk.step(min(POLL_INTERVAL, max(0.0, deadline - time.monotonic())))
    finally:
        # What it has left behind goes as well. It has not been reaped, so that the number of its group is still ours.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        talk.close()
    return Finished(process.returncode, bytes(talk.stdout), talk.stderr.decode("utf-8", "replace"), late, stopped)


class _Talk:
    """Both directions at once: what a program is told and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, on_line: Callable[[str], None] | None) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._left = memoryview(stdin)
        self._on_line = on_line
        self._line = b""
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._selector = selectors.DefaultSelector()
        self._end = os.pidfd_open(process.pid)  # readable when it has ended
        self._selector.register(self._end, selectors.EVENT_READ)
        os.set_blocking(self._in.fileno(), False)
        self._selector.register(self._out, selectors.EVENT_READ)
        self._selector.register(self._err, selectors.EVENT_READ)
        if stdin:
            self._selector.register(self._in, selectors.EVENT_WRITE)
        else:
            self._in.close()

    def going(self) -> bool:
        """Until it has ended and everything it said was heard."""
        return bool(self._selector.get_map())

    def step(self, timeout: float) -> None:
        """Pass on what can be passed on, waiting `timeout` seconds for it."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._in:
                self._tell()
            elif key.fd == self._end:
                self._selector.unregister(self._end)
            elif not (data := os.read(key.fd, _BLOCK)):
                self._selector.unregister(key.fileobj)
            elif key.fileobj is self._err:
                self.stderr += data
                del self.stderr[:-_STDERR_KEPT]
            elif self._on_line is None:
                self.stdout += data
            else:
                *lines, self._line = (self._line + data.replace(b"\r", b"\n")).split(b"\n")
                for line in lines:
                    self._on_line(line.decode("utf-8", "surrogateescape"))

    def _tell(self) -> None:
        try:
            self._left = self._left[os.write(self._in.fileno(), self._left[:_BLOCK]) :]
        except BrokenPipeError:
            self._left = self._left[:0]  # it has ended; its status says why
        if not self._left:
            self._selector.unregister(self._in)
            self._in.close()

    def close(self) -> None:
        """Let go of the pipes."""
        self._selector.close()
        os.close(self._end)
        for pipe in (self._in, self._out, self._err):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
