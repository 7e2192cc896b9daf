"""The search's process as the reactor sees it: its lines, its end, and how to end it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from twisted.internet import error as internet_error
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

import socs_bl
from socs_bl.core.errors import Retry
from socs_bl.search.ending import OUTCOMES
from socs_bl.search.model import Outcome, Recorded

LONGEST_LINE = 4 << 20
STDERR_LINES = 20


class Ending(NamedTuple):
    """How a search ended: outcome, details for people, and the result line's contents."""

    outcome: Outcome
    text: str
    result: dict[str, Any]


class SearchProcess(ProcessProtocol):
    """One search.

    Parameters
    ----------
    progress : callable
        Given each progress line's contents.

    Attributes
    ----------
    ended : Deferred of Ending
        Fires when the process has ended. Cancelling it kills the process.
    gone : Deferred of None
        Fires when the process has ended, also after a cancellation; fired already when it never began.
    """

    def __init__(self, progress: Callable[[dict[str, Any]], None]) -> None:
        self.ended: Deferred[Ending] = Deferred(lambda _: self.kill())
        self.gone: Deferred[None] = Deferred()
        self._progress = progress
        self._rest = b""
        self._errors: deque[str] = deque(maxlen=STDERR_LINES)
        self._result: dict[str, Any] = {}
        self._fault = ""

    def start(self, reactor: Any, arguments: Sequence[str]) -> None:
        """Start ``python -m socs_bl.search`` with `arguments`.

        Raises
        ------
        Retry
            When the process cannot be made.
        """
        # So that a bare checkout finds its own package, wherever the agent was started.
        paths = [str(Path(socs_bl.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", "socs_bl.search", *arguments]
        try:
            reactor.spawnProcess(self, sys.executable, command, env=environment)
        except OSError as error:
            self.gone.callback(None)
            raise Retry(f"the search could not be started: {error}") from error

    def outReceived(self, data: bytes) -> None:
        """Take in standard output, line by line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._fault = b"", f"a line of more than {LONGEST_LINE} bytes on its standard output"
            self.kill()

    def errReceived(self, data: bytes) -> None:
        """Keep the last lines of standard error."""
        self._errors.extend(data.decode("utf-8", "replace").splitlines())

    def processEnded(self, reason: Any) -> None:
        """Say how it ended."""
        if not self.ended.called:
            self.ended.callback(self._ending(reason.value))
        self.gone.callback(None)

    def kill(self) -> None:
        """End the process at once; nothing happens when it is gone."""
        transport: Any = self.transport
        # Its end may be on its way to us.
        with contextlib.suppress(internet_error.ProcessExitedAlready):
            transport.signalProcess("KILL")

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            self._errors.append(line[:200].decode("utf-8", "replace"))
            return
        if isinstance(message, dict) and isinstance(message.get("result"), dict):
            self._result = message["result"]
        elif isinstance(message, dict):
            self._progress(message)

    def _ending(self, reason: Any) -> Ending:
        if self._fault:
            return Ending(Outcome.CRASHED, self._fault, {})
        if reason.signal is not None:
            return Ending(Outcome.KILLED, f"ended by signal {reason.signal}", {})
        text = str(self._result.get("text", "")) or (self._errors[-1] if self._errors and reason.exitCode else "")
        if reason.exitCode:
            outcome = OUTCOMES.get(reason.exitCode, Outcome.CRASHED)
            return Ending(outcome, text or f"exit status {reason.exitCode}", self._result)
        try:
            return Ending(Outcome(self._result["reason"]), text, self._result)
        except (KeyError, ValueError):
            return Ending(Outcome.CRASHED, "exit status 0 without a result", {})


def recordings_of(result: dict[str, Any]) -> tuple[Recorded, ...]:
    """The recordings in a result line.

    Raises
    ------
    msgspec.ValidationError
        When they are not what a search writes.
    """
    described = ({**summary, "files": summary.get("paths")} for summary in result.get("recordings", ()))
    return tuple(msgspec.convert(summary, Recorded) for summary in described)
