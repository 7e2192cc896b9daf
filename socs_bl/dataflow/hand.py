"""Somebody at a store who does what `socs_bl.dataflow.receiver` says: this process, or a Python on the other host."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from socs_bl.dataflow import receiver
from socs_bl.dataflow.classify import of_errno
from socs_bl.dataflow.outcome import Cause, Failure, Outcome
from socs_bl.dataflow.receiver import Answer, Disk
from socs_bl.dataflow.ssh import Link

_SOURCE = inspect.getsource(receiver).encode("utf-8")
# The program comes first on its standard input: no file has to be installed there, and no argument is long.
_START = (
    "import sys;n={'__name__':'receiver'};"
    f"exec(compile(sys.stdin.buffer.read({len(_SOURCE)}),'receiver','exec'),n);n['main']()"
)
TIMEOUT = 6 * 3600.0  # seconds: reading 2 TB back at 100 MB/s


class Hand(Protocol):
    """Who does what is asked at one store."""

    @property
    def root(self) -> Path:
        """The store's root, as it is called there."""
        ...

    def algorithms(self, stop: threading.Event | None = None) -> Sequence[str]:
        """What can be hashed there.

        Raises
        ------
        Failure
            As of `ask`.
        """
        ...

    def ask(self, do: str, stop: threading.Event | None = None, **arguments: Any) -> Any:
        """Have one of the receiver's functions called.

        Raises
        ------
        Failure
            When nothing came of it at all.
        """
        ...


class LocalHand:
    """This process, at a store of this host.

    Parameters
    ----------
    root : Path
    disk : Disk, optional
        The system calls.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()

    def algorithms(self, stop: threading.Event | None = None) -> Sequence[str]:
        """As `Hand.algorithms`."""
        return tuple(receiver.hashers())

    def ask(self, do: str, stop: threading.Event | None = None, **arguments: Any) -> Any:
        """As `Hand.ask`; it is not stopped on its way."""
        return _answer(receiver.serve({"do": do, "root": os.fspath(self.root), **arguments}, self.disk))


class RemoteHand:
    """A Python on the other side of a link.

    Parameters
    ----------
    link : Link
    root : Path
    python : sequence of str
        What starts Python 3.9 or newer there.
    """

    def __init__(self, link: Link, root: Path, python: Sequence[str] = ("python3",)) -> None:
        self.link = link
        self.root = root
        self._python = tuple(python)
        self._algorithms: tuple[str, ...] = ()

    def algorithms(self, stop: threading.Event | None = None) -> Sequence[str]:
        """As `Hand.algorithms`; it is asked once."""
        if not self._algorithms:
            self._algorithms = tuple(self.ask("algorithms", stop))
        return self._algorithms

    def ask(self, do: str, stop: threading.Event | None = None, **arguments: Any) -> Any:
        """As `Hand.ask`."""
        request = json.dumps({"do": do, "root": os.fspath(self.root), **arguments}).encode("ascii")
        done = self.link.run([*self._python, "-I", "-c", _START], _SOURCE + request, TIMEOUT, stop)
        try:
            answer: Answer = json.loads(done.stdout)
        except ValueError as error:
            words = done.stderr.strip().splitlines() or [f"status {done.status}, {len(done.stdout)} bytes"]
            where = f"{self._python[0]} on {self.link.host}"
            raise Failure(Outcome(Cause.TOOL_MISSING, f"{where} does not answer: {words[-1]:.300}")) from error
        return _answer(answer)


def _answer(answer: Answer) -> Any:
    if "answer" in answer:
        return answer["answer"]
    outcome = of_errno(answer["errno"], answer["text"])
    if answer["root"] and outcome.cause in (Cause.UNKNOWN, Cause.PLACE):
        raise Failure(Outcome(Cause.NO_ROOT, outcome.text))
    raise Failure(outcome)
