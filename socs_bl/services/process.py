"""Child processes that die with their parent, known exactly by pid and start time.

A pid alone may belong to somebody else by the time it is used; a pid with the start time the kernel keeps for it, and
the boot it belongs to, never does. Signals go through a pidfd that is opened first and compared second, so that a pid
reused in between is not hit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from socs_bl.core.errors import Faulty, Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.services import launch

POLL_INTERVAL = 0.05  # seconds between two readiness checks
LOG_TAIL_LINES = 20


class Identity(msgspec.Struct, frozen=True):
    """One process and no other.

    Attributes
    ----------
    pid : int
    start : int
        Start time in clock ticks since boot: field 22 of /proc/<pid>/stat (proc(5)).
    boot : str
        The kernel's boot id; ticks of two boots do not compare.
    """

    pid: int
    start: int
    boot: str


def boot_id() -> str:
    """The id the kernel drew at boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> Identity | None:
    """The identity of a running process, None when there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold spaces and parentheses itself.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Identity(pid, int(fields[19]), boot_id())


def open_exactly(identity: Identity) -> int | None:
    """A pidfd of exactly this process, None when it is gone. The caller closes it."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identify(identity.pid) != identity:
        os.close(fd)
        return None
    return fd


def signal_exactly(identity: Identity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it is gone."""
    fd = open_exactly(identity)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def wait_gone(identities: Iterable[Identity], timeout: float) -> list[Identity]:
    """Wait until the processes are gone, at most `timeout` seconds; returns those that are still there."""
    deadline = time.monotonic() + timeout
    waiting: dict[int, Identity] = {}
    poll = select.poll()
    try:
        for identity in identities:
            fd = open_exactly(identity)
            if fd is not None:
                waiting[fd] = identity
                poll.register(fd, select.POLLIN)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                del waiting[fd]
                os.close(fd)
        return list(waiting.values())
    finally:
        for fd in waiting:
            os.close(fd)


def end(identities: Sequence[Identity], grace: float, first: signal.Signals = signal.SIGTERM) -> list[Identity]:
    """End processes: `first`, `grace` seconds, SIGKILL, two seconds. Returns those that survived even that."""
    alive = [identity for identity in identities if signal_exactly(identity, first)]
    alive = wait_gone(alive, grace)
    return wait_gone([identity for identity in alive if signal_exactly(identity, signal.SIGKILL)], 2.0)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent dies; for Python children that somebody else starts.

    "Parent" is the thread that forked: a child started from a worker thread dies when that thread ends.

    Raises
    ------
    Faulty
        When the kernel refuses.
    """
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(launch.PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise Faulty(f"cannot tie this process to its parent {parent}: {os.strerror(ctypes.get_errno())}", "prctl")
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), number)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Child:
    """A child process in a group of its own, that the kernel kills when this process dies.

    Parameters
    ----------
    name : str
        What people call it in messages.
    argv : sequence of str
    log : Path
        Its stdout and stderr are appended here.
    env : mapping, optional
        Added to our environment.
    cwd : Path, optional

    Raises
    ------
    Refused
        When called outside the main thread: the kernel ties a child to the thread that forked it, and a worker thread
        that ends would take the child along.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise Refused(f"{name}: children are started in the main thread only, since they die with their thread")
        self.name = name
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        wrapper = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(int(signal.SIGKILL))]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*wrapper, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        self._fd = os.pidfd_open(self._process.pid)
        identity = identify(self._process.pid)
        # A child that has ended already is a zombie until reaped; its pid is still ours.
        self.identity = identity or Identity(self._process.pid, 0, boot_id())

    @property
    def pid(self) -> int:
        """Process id, also the id of its group."""
        return self._process.pid

    def fileno(self) -> int:
        """The pidfd, readable once the child has ended; for poll and select."""
        return self._fd

    def running(self) -> bool:
        """True until the child has ended."""
        return self._process.returncode is None and not self._ended(0.0)

    def _ended(self, timeout: float) -> bool:
        """Wait for the end without reaping: the zombie keeps the pid and the group id from being reused."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def log_tail(self) -> str:
        """The last lines this child (not an earlier one with the same log) has written."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Ask `ready` until it says True.

        Raises
        ------
        Faulty
            When the child ends or the time is up first; the text holds the end of its log.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if self._ended(POLL_INTERVAL):
                raise Faulty(
                    f"{self.name} ended before it was ready; its log {self.log} ends:\n{self.log_tail()}", self.name
                )
            if time.monotonic() > deadline:
                raise Faulty(
                    f"{self.name} was not ready within {timeout:.0f} s; its log {self.log} ends:\n{self.log_tail()}",
                    self.name,
                )

    def stop(self, grace: float = 5.0, first: signal.Signals = signal.SIGTERM) -> int:
        """End the child and its group: `first` to the child, `grace` seconds, SIGKILL to the group.

        Returns
        -------
        int
            Exit status as subprocess gives it (negative: the signal). Harmless when called again.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        # Popen.send_signal would reap a child that has ended, and its group id with it.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, first)
        self._ended(grace)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to the whole group, at once; returns the exit status."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            os.close(self._fd)
        return self._process.returncode


def write_record(directory: Path, name: str, identity: Identity) -> None:
    """Remember a process under `directory` as ``<name>.json``; whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / f"{name}.json", msgspec.json.encode(identity))


def read_records(directory: Path) -> dict[str, Identity]:
    """The processes remembered under `directory`, by name; unreadable records are left out."""
    records: dict[str, Identity] = {}
    for path in sorted(directory.glob("[!.]*.json")):
        with contextlib.suppress(msgspec.DecodeError, OSError):
            records[path.stem] = msgspec.json.decode(path.read_bytes(), type=Identity)
    return records


def marked(variable: str, value: str) -> list[Identity]:
    """Processes of this user whose environment holds ``variable=value``, this one excepted."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        before = identify(int(entry.name))
        # Processes end while we look, and those of other users do not show their environment.
        with contextlib.suppress(OSError):
            if before and wanted in (entry / "environ").read_bytes().split(b"\0") and identify(before.pid) == before:
                found.append(before)
    return found


def children(pid: int) -> list[Identity]:
    """The direct children of a process, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_bytes()
                if int(stat[stat.rindex(b")") + 2 :].split()[1]) == pid and (child := identify(int(entry.name))):
                    found.append(child)
    return found


def command_line(pid: int) -> list[str]:
    """Its arguments; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:
        return []
