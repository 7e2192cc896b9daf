"""What an operation sees of its own run: its data, its progress, its end.

Whatever is put in becomes finite JSON. The whole of ``session.data`` stays under 100 kB; larger values are shown
as a summary and read page by page (task ``session_page``). ``session.data["sequence"]`` counts the changes, and the
feed ``operations`` carries the same number, so that a gap there means: read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from socs_bl.agentkit.jsonsafe import Json, json_safe, size
from socs_bl.agentkit.timing import Timer, Timing, disarm

SEQUENCE = "sequence"
DATA_LIMIT = 90_000  # bytes of all values; what OCS adds keeps the whole under 100 kB
PAGE_LIMIT = 40_000
MESSAGE_LIMIT = 2_000
TOLD_PAUSE = 0.05  # seconds


class OpSession(Protocol):
    """The part of ``ocs.ocs_agent.OpSession`` this module uses."""

    op_name: str
    session_id: int
    status: str
    success: bool | None
    degraded: bool
    cred_level: int
    start_time: float
    end_time: float | None
    data: dict[str, Any]

    def add_message(self, message: str) -> None:
        """Append to the messages clients see."""

    def set_status(self, status: str) -> None:
        """Move the status forward."""


class Stopping:
    """Whether a stop or abort was requested: true or false, and awaitable."""

    def __init__(self) -> None:
        self._requested = False
        self._waiting: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        return self._requested

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    def wait(self) -> Deferred[None]:
        """A Deferred that fires when the end is requested (at once if it has been)."""
        waiter: Deferred[None] = Deferred(self._forget)
        if self._requested:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    def request(self) -> None:
        """Raise the flag without waking those who wait."""
        self._requested = True

    def wake(self) -> None:
        """Wake those who wait."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _forget(self, waiter: Deferred[None]) -> None:
        self._waiting = [item for item in self._waiting if item is not waiter]


class Session:
    """One run of an operation.

    `update`, `progress`, `say` and setting `data` or `degraded` work from worker threads too; the rest belongs to
    the reactor thread.

    Parameters
    ----------
    raw : OpSession
        OCS's own session.
    changed : callable
        Told after every change; hands it to the feed ``operations``.
    clock : Timing
        For `sleep`, and with its ``callFromThread`` for changes from threads.
    """

    def __init__(self, raw: OpSession, changed: Callable[[Session], None], clock: Timing) -> None:
        self.raw = raw
        self.stopping = Stopping()
        self.sequence = 0
        self.sent = 0
        self.pending: dict[str, Json] = {}
        self.removed: set[str] = set()
        self._changed = changed
        self._clock = clock
        self._reactor_thread = threading.get_ident()
        self._full: dict[str, Json] = {}
        self._sizes: dict[str, int] = {}
        self._revisions: dict[str, int] = {}
        self._summaries: dict[str, Json] = {}
        self._shown: dict[str, Json] = {}
        self._progress: tuple[str, float, float] | None = None
        self._deferred: Deferred[Any] | None = None
        self._grace: Timer | None = None
        raw.data = {SEQUENCE: 0}

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.raw.op_name

    @property
    def id(self) -> int:
        """OCS's session id."""
        return self.raw.session_id

    @property
    def level(self) -> int:
        """The access level of the caller."""
        return self.raw.cred_level

    @property
    def data(self) -> Mapping[str, Any]:
        """What clients see; set it to replace everything."""
        return self._shown

    @data.setter
    def data(self, values: Mapping[str, object]) -> None:
        self._from_any_thread(self._apply, self._safe(values), True)

    def update(self, **changes: object) -> None:
        """Change some keys of the data and leave the others."""
        self._from_any_thread(self._apply, self._safe(changes), False)

    def remove(self, *keys: str) -> None:
        """Take keys out of the data."""
        self._from_any_thread(self._remove, keys)

    def progress(self, step: str, done: float, total: float | None = None, unit: str = "") -> None:
        """Report how far long work is, as ``data["progress"]``: step, done, total, unit, eta_s.

        The estimate assumes the mean rate of this step so far; it is None until there is one.
        """
        self._from_any_thread(self._report, step, done, total, unit)

    def say(self, text: str) -> None:
        """Add a line to the messages clients see."""
        self._from_any_thread(self.raw.add_message, text[:MESSAGE_LIMIT])

    @property
    def degraded(self) -> bool:
        """True while it runs but cannot do its main work; reaches the heartbeat. Both edges are logged."""
        return self.raw.degraded

    @degraded.setter
    def degraded(self, value: bool) -> None:
        self._from_any_thread(self._set_degraded, value)

    async def sleep(self, seconds: float) -> bool:
        """Wait; False as soon as a stop or abort is requested: ``while await session.sleep(1.0): ...``."""
        told = bool(self.stopping)
        waiter: Deferred[None] = Deferred() if told else self.stopping.wait()
        # A loop that ignores the answer still lets the reactor turn, which cancels it when its grace is over.
        timer = self._clock.callLater(TOLD_PAUSE if told else max(0.0, seconds), waiter.callback, None)
        try:
            await waiter
        finally:
            disarm(timer)
            self.stopping._forget(waiter)
        return not self.stopping

    def page(self, key: str, number: int) -> dict[str, Json]:
        """One page of a value that is too large for the data.

        Returns
        -------
        dict
            ``key``, ``page``, ``pages``, ``value`` (a slice of the list, dict or text) and ``of_sequence``, the number
            of the change that gave the value: pages with the same one belong together.

        Raises
        ------
        KeyError
            When there is no such key.
        IndexError
            When there is no such page.
        """
        pages = _pages(self._full[key])
        if not 0 <= number < len(pages):
            raise IndexError(f"{key} has {len(pages)} pages, 0 to {len(pages) - 1}")
        return {
            "key": key, "page": number, "pages": len(pages), "of_sequence": self._revisions[key], "value": pages[number],
        }  # fmt: skip

    def touch(self) -> None:
        """Count a change of the run itself (status, degraded) so that it is streamed."""
        self.sequence += 1
        self.raw.data = {**self._shown, SEQUENCE: self.sequence}
        self._changed(self)

    def attach(self, deferred: Deferred[Any]) -> None:
        """Learn what to cancel."""
        self._deferred = deferred

    def end(self, grace: float) -> None:
        """Request the end: at once with `grace` 0, else cancelled if it has not ended by itself after that time."""
        self.stopping.request()
        # OCS moves a starting session to running whatever happened since, and status never goes back:
        # a run that is still starting sees the flag when it begins.
        if self.raw.status == "running":
            self.raw.set_status("stopping")
        self.touch()
        if grace <= 0:
            self.cancel()
            self.stopping.wake()
            return
        self.stopping.wake()
        if self.raw.status != "done" and self._grace is None:
            self._grace = self._clock.callLater(grace, self.cancel)

    def ended(self) -> None:
        """The run is over: OCS has set its last status."""
        disarm(self._grace)
        self.touch()

    def cancel(self) -> None:
        """Raise CancelledError where the operation waits."""
        if self._deferred is not None:
            self._deferred.cancel()

    def _safe(self, values: Mapping[str, object]) -> dict[str, Json]:
        if SEQUENCE in values:
            raise ValueError(f"{self.name}: the key {SEQUENCE!r} counts the changes of a session; use another one")
        return {str(key): json_safe(value) for key, value in values.items()}

    def _from_any_thread(self, function: Callable[..., None], *args: Any) -> None:
        if threading.get_ident() == self._reactor_thread:
            function(*args)
        else:
            self._clock.callFromThread(function, *args)  # type: ignore[attr-defined]  # the reactor has it, a Clock not

    def _apply(self, values: dict[str, Json], replace: bool) -> None:
        if replace:
            self._drop([key for key in self._full if key not in values])
        for key, value in values.items():
            if key in self._full and self._full[key] == value and type(self._full[key]) is type(value):
                continue
            self._full[key] = value
            self._sizes[key] = size(value) + len(key) + 8
            self._revisions[key] = self.sequence + 1
            self._summaries.pop(key, None)
        self._show()

    def _remove(self, keys: tuple[str, ...]) -> None:
        self._drop([key for key in keys if key in self._full])
        self._show()

    def _drop(self, keys: list[str]) -> None:
        for key in keys:
            del self._full[key], self._sizes[key], self._revisions[key]
            self._summaries.pop(key, None)

    def _show(self) -> None:
        """Rebuild what clients see, and note what differs from what they saw."""
        shown = dict(self._full)
        total = sum(self._sizes.values())
        for key in sorted(self._sizes, key=lambda item: -self._sizes[item]):
            if total <= DATA_LIMIT:
                break
            shown[key] = self._summary(key)
            total += size(shown[key]) - self._sizes[key]
        changed = {key: value for key, value in shown.items() if self._shown.get(key, self) is not value}
        gone = self._shown.keys() - shown.keys()
        if not changed and not gone:
            return
        self.pending = {key: value for key, value in {**self.pending, **changed}.items() if key not in gone}
        self.removed = (self.removed - changed.keys()) | gone
        self._shown = shown
        self.touch()

    def _summary(self, key: str) -> Json:
        if key not in self._summaries:
            self._summaries[key] = _summary(self._full[key], self._sizes[key])
        return self._summaries[key]

    def _report(self, step: str, done: float, total: float | None, unit: str) -> None:
        now = self._clock.seconds()
        if self._progress is None or self._progress[0] != step or done < self._progress[2]:
            self._progress = (step, now, done)
        _, began, first = self._progress
        eta = None
        if total is not None and done > first and now > began:
            eta = round(max(0.0, total - done) * (now - began) / (done - first), 1)
        report = {"step": step, "done": done, "total": total, "unit": unit, "eta_s": eta}
        self._apply({"progress": json_safe(report)}, False)

    def _set_degraded(self, value: bool) -> None:
        if value == self.raw.degraded:
            return
        self.raw.degraded = value
        self.say("degraded" if value else "recovered")
        self.touch()


def _summary(value: Json, bytes_: int) -> Json:
    length = len(value) if isinstance(value, list | dict | str) else 1
    return {
        "truncated": True, "type": type(value).__name__, "length": length, "bytes": bytes_, "read_with": "session_page",
    }  # fmt: skip


def _pages(value: Json) -> list[Json]:
    """Cut a value into pages of at most `PAGE_LIMIT` bytes (an element larger than that is a page of its own)."""
    if isinstance(value, str):
        step = PAGE_LIMIT // 4
        return [value[start : start + step] for start in range(0, max(1, len(value)), step)]
    if isinstance(value, list):
        return [list(group) for group in _groups(value, size)]
    if isinstance(value, dict):
        return [dict(group) for group in _groups(list(value.items()), lambda item: size(item[1]) + len(item[0]))]
    return [value]


def _groups(items: list[Any], weigh: Callable[[Any], int]) -> list[list[Any]]:
    groups: list[list[Any]] = [[]]
    filled = 0
    for item in items:
        weight = weigh(item) + 8
        if groups[-1] and filled + weight > PAGE_LIMIT:
            groups.append([])
            filled = 0
        groups[-1].append(item)
        filled += weight
    return groups
