"""The processes of a node as the reactor sees them: started, asked, heard, and seen to end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

import socs_bl
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.control_client import ControlClient
from socs_bl.services.process import Child

POLL_SECONDS = 0.05  # between two tries to connect
ANSWER_SECONDS = 10.0
LAST_SECONDS = 1.0  # a process that has closed its socket may take to end by itself


class NodeProcess:
    """One process with its control socket.

    Parameters
    ----------
    reactor : Any
    name : str
        What people call it.
    module : str
        Run with ``python -m``.
    arguments : sequence of str
    socket : Path
        Where it answers.
    log : Path
        Takes its output.
    heard : callable
        Given each of its reports, in order.
    ended : callable
        Given a sentence when it has ended without being told to.

    Attributes
    ----------
    patience : float
        Seconds for which it may leave all questions unanswered; then it is ended.

    Raises
    ------
    Retry
        When it cannot be started.
    """

    patience = 60.0

    def __init__(
        self,
        reactor: Any,
        name: str,
        module: str,
        arguments: Sequence[str],
        socket: Path,
        log: Path,
        heard: Callable[[dict[str, Any]], None],
        ended: Callable[[str], None],
    ) -> None:
        self.name = name
        self._reactor = reactor
        self._heard, self._ended = heard, ended
        self._leaving = False
        self._gone = False
        self._waiting: list[Deferred[None]] = []
        self._last_call: Any = None
        self._silent_since: float | None = None
        socket.unlink(missing_ok=True)
        # So that a bare checkout finds its own package, wherever the agent was started.
        paths = [str(Path(socs_bl.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            self._child = Child(
                name,
                [sys.executable, "-m", module, *arguments],
                log,
                {"PYTHONPATH": os.pathsep.join(paths)},
                log.parent,
            )
        except OSError as error:
            raise Retry(f"{name} could not be started: {error}") from error
        self._client = ControlClient(reactor, socket, self._report)
        self._descriptor = self._child.fileno()
        reactor.addReader(self)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    async def ready(self, query: str) -> None:
        """Wait until it answers.

        Raises
        ------
        Faulty
            When it ends first; with the end of its log.
        """
        while True:
            try:
                await self._client.request(query, "query", ANSWER_SECONDS)
            except Retry:
                if self._gone:
                    raise Faulty(f"{self.name} ended before it answered: {self._last_words()}", self.name) from None
                await deferLater(self._reactor, POLL_SECONDS)
            else:
                return

    async def ask(
        self, type: str, kind: str = "command", timeout: float = ANSWER_SECONDS, **fields: Any
    ) -> dict[str, Any]:
        """Ask it something; see `ControlClient.request`. One that hangs is ended (`patience`)."""
        try:
            answer = await self._client.request(type, kind, timeout, **fields)
        except Retry:
            self._unanswered()
            raise
        self._silent_since = None
        return answer

    def _unanswered(self) -> None:
        """A process that hangs is ended, so that it is started again."""
        now = self._reactor.seconds()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > self.patience and not self._gone:
            self._reap()

    async def quit(self, seconds: float) -> None:
        """Have it end by itself within `seconds`, otherwise kill it."""
        self._leaving = True
        overdue = self._reactor.callLater(seconds, self.kill)
        try:
            await self._client.request("WCBE_QUIT_MSG", timeout=seconds)
            if not self._gone:
                end: Deferred[None] = Deferred()
                self._waiting.append(end)
                await end
        except (Retry, Refused, CancelledError):
            self.kill()
        finally:
            _disarm(overdue)

    def kill(self) -> None:
        """End it at once; harmless when it has ended."""
        self._leaving = True
        self._reap()

    def _report(self, report: dict[str, Any]) -> None:
        if report.get("type") != "LOST":
            self._heard(report)
        elif not self._gone:  # it is ending, or it must: nothing it says would be heard any more
            self._last_call = self._reactor.callLater(LAST_SECONDS, self._reap)

    def _reap(self) -> None:
        """Take its end in, or bring it about."""
        if self._gone:
            return
        self._gone = True
        self._reactor.removeReader(self)
        _disarm(self._last_call)
        status = self._child.kill()
        self._client.close()
        waiting, self._waiting = self._waiting, []
        for end in waiting:
            end.callback(None)
        if not self._leaving:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            self._ended(f"{how}; {self._last_words()}")

    def _last_words(self) -> str:
        try:
            lines = self._child.log_tail().splitlines()
        except OSError:  # somebody has cleaned up behind us
            lines = []
        return lines[-1] if lines else "it said nothing"

    # -- what the reactor calls (IReadDescriptor); the pidfd is readable when the process has ended -------------------

    def fileno(self) -> int:
        """The pidfd."""
        return self._descriptor

    def doRead(self) -> None:
        """It has ended."""
        self._reap()

    def connectionLost(self, reason: Any) -> None:
        """The reactor is stopping."""

    def logPrefix(self) -> str:
        """What Twisted calls it in its log."""
        return self.name


def _disarm(call: Any) -> None:
    if call is not None and call.active():
        call.cancel()
