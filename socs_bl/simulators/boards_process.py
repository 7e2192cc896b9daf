"""The process of the simulated baseline boards, seen from the one that starts it: commands to it, counters from it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import msgspec

from socs_bl.core.errors import Faulty, Retry
from socs_bl.services.process import Child
from socs_bl.simulators.boards import BoardsConfig, Command
from socs_bl.simulators.boards_config import Correlation
from socs_bl.simulators.sky import delays_ns

PROGRAM = (sys.executable, "-m", "socs_bl.simulators.boards")
STOP_GRACE = 3.0  # seconds
LONGEST_REPORT = 1 << 16


class BoardsProcess:
    """Starts, tells and ends the boards.

    Parameters
    ----------
    directory : Path
        Their configuration and log go there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._child: Child | None = None
        self._sockets = ""
        self._socket: socket.socket | None = None
        self.counters: dict[str, float] = {}

    @property
    def started(self) -> bool:
        """True from `start` to `stop`, whatever became of the process meanwhile."""
        return self._child is not None

    def start(self, config: Correlation) -> None:
        """Start them; only in the main thread, with which they die.

        Raises
        ------
        Faulty
            When they have been started already.
        """
        if self._child is not None:
            raise Faulty("the baseline boards run already; stop them first", "boards")
        self._directory.mkdir(parents=True, exist_ok=True)
        # The path of a Unix socket has 107 characters at most, that of a run directory any number.
        self._sockets = tempfile.mkdtemp(prefix="boards-")
        path = f"{self._sockets}/commands"
        boards = BoardsConfig(correlation=config, delays_ns=tuple(delays_ns(config).values()), socket=path)
        file = self._directory / "boards.json"
        file.write_text(boards.model_dump_json(indent=1), encoding="utf-8")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(f"{path}.reports")
            self.counters = {}
            self._child = Child(
                "the baseline boards", [*PROGRAM, "--config", str(file)], self._directory / "boards.log"
            )
        except BaseException:  # an interrupted start, too, leaves nothing behind
            self._clear()
            raise

    def tell(self, command: Command) -> None:
        """Hand a command to the boards.

        Raises
        ------
        Retry
            When they do not take it: they are starting, or busy.
        """
        if self._socket is None:
            raise Retry("the baseline boards do not run; start 'boards' first")
        try:
            self._socket.sendto(command.model_dump_json(exclude_none=True).encode(), f"{self._sockets}/commands")
        except OSError as error:
            raise Retry(f"the baseline boards take no command yet ({error.strerror})", after=0.2) from error

    def report(self) -> dict[str, float]:
        """What they have counted when they last said so.

        Raises
        ------
        Faulty
            When they have ended; the text holds the end of their log.
        """
        if self._child is None or self._socket is None:
            return {}
        while True:
            try:
                self.counters = msgspec.json.decode(self._socket.recv(LONGEST_REPORT), type=dict[str, float])
            except BlockingIOError:
                break
        if not self._child.running():
            raise Faulty(
                f"the baseline boards have ended; their log {self._child.log} ends:\n{self._child.log_tail()}", "boards"
            )
        return self.counters

    def stop(self) -> dict[str, float]:
        """End them and return their last counters; blocks up to some seconds."""
        child = self._child
        if child is not None:
            child.stop(STOP_GRACE)
            with contextlib.suppress(msgspec.DecodeError):
                self.counters = msgspec.json.decode(child.log_tail().rpartition("\n")[2], type=dict[str, float])
        self._clear()
        return self.counters

    def kill(self) -> None:
        """End them at once."""
        if self._child is not None:
            self._child.kill()
        self._clear()

    def _clear(self) -> None:
        self._child = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        shutil.rmtree(self._sockets, ignore_errors=True)
