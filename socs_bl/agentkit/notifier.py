"""Takes notifications to sinks that may be dead, slow or wrong, and lets nothing of that reach anybody else.

Each sink has a bounded queue, one request under way with a deadline, and limits on its rate. A sink that fails is
reported once, and once more when it works again; meanwhile what it could not take is tried again with growing pauses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeadlineError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web import client
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from socs_bl.agentkit.health import Health
from socs_bl.agentkit.sinks import LEVELS, Form, Notice
from socs_bl.core.notifications import Level, SinkConfig

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries at a sink that fails
LARGEST_ANSWER = 1 << 16  # bytes; what is beyond is not read
TOO_MANY = 429
_web: Any = client  # its classes carry no types
Report = Callable[[str, str], None]


class Bucket:
    """A token bucket: `burst` at once, `rate` a minute in the long run."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate / 60.0, burst
        self._tokens, self._filled = float(burst), now

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self._tokens = min(float(self._burst), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self) -> float:
        """Seconds from the last `take` until there is a token."""
        return max(0.0, (1.0 - self._tokens) / self._rate)


class Refusal(Exception):
    """The sink does not want the message, and will not want it later."""


class Outlet:
    """One sink.

    Parameters
    ----------
    form : Form
        What the service wants to read.
    config : SinkConfig
    reactor : object
        The Twisted reactor.
    report : callable
        ``(level, text)``: told when the sink begins to fail and when it works again.

    Attributes
    ----------
    counters : dict of str to int
        ``sent``, ``refused``, ``lost`` (not sent in time, or pushed out of the queue), ``suppressed`` (over the rate).
    """

    def __init__(self, form: Form, config: SinkConfig, reactor: Any, report: Report) -> None:
        self.form = form
        self._config = config
        self._reactor = reactor
        self._report = report
        pool = _web.HTTPConnectionPool(reactor, persistent=False)
        self._agent = _web.Agent(reactor, connectTimeout=config.deadline, pool=pool)
        now = reactor.seconds()
        # Each level has its own: a flood of one must not hide the others.
        self._buckets = {level: Bucket(config.rate, config.burst, now) for level in LEVELS}
        self._suppressed: dict[Level, int] = dict.fromkeys(LEVELS, 0)
        self._since: dict[Level, float] = {}
        self._summaries: dict[Level, Any] = {}
        self._queue: deque[tuple[float, Notice]] = deque()
        self._work: Deferred[None] | None = None
        self._failing = False
        self._closed = False
        self.counters = dict.fromkeys(("sent", "refused", "lost", "suppressed"), 0)

    @property
    def waiting(self) -> int:
        """Messages in the queue."""
        return len(self._queue)

    def offer(self, notice: Notice) -> None:
        """Take a notice, if the sink is told such things and its rate allows."""
        if self._closed or LEVELS.index(notice.level) < LEVELS.index(self._config.threshold):
            return
        if not self.form.wants(notice):
            return
        if self._buckets[notice.level].take(self._reactor.seconds()):
            self._enqueue(notice)
            return
        self.counters["suppressed"] += 1
        self._suppressed[notice.level] += 1
        self._arm_summary(notice.level, notice.time)

    def close(self) -> None:
        """Give up what has not been sent."""
        self._closed = True
        for call in self._summaries.values():
            call.cancel()
        self._summaries.clear()
        if self._work is not None:
            self._work.cancel()

    # -- the rate ---------------------------------------------------------------------------------------------------

    def _arm_summary(self, level: Level, time: float) -> None:
        if level not in self._summaries:
            self._since.setdefault(level, self._reactor.seconds())
            wait = self._buckets[level].wait()
            self._summaries[level] = self._reactor.callLater(wait, self._summarise, level, time)

    def _summarise(self, level: Level, time: float) -> None:
        """One message for all that went beyond the rate, as soon as the rate allows one."""
        del self._summaries[level]
        now = self._reactor.seconds()
        if not self._buckets[level].take(now):
            self._arm_summary(level, time)
            return
        count, self._suppressed[level] = self._suppressed[level], 0
        seconds = now - self._since.pop(level)
        text = f"{count} more of level {level} suppressed in {seconds:.0f} s; the feed has all of them"
        notice = Notice(level, "suppressed", text, time)
        if self.form.wants(notice):
            self._enqueue(notice)

    # -- the queue --------------------------------------------------------------------------------------------------

    def _enqueue(self, notice: Notice) -> None:
        if len(self._queue) >= self._config.queue:
            self._queue.popleft()
            self.counters["lost"] += 1
        self._queue.append((self._reactor.seconds(), notice))
        if self._work is None:
            self._work = Deferred.fromCoroutine(self._empty())
            self._work.addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        """The work was cancelled by `close`; anything else is a bug that people are told of."""
        self._work = None
        if not isinstance(failure.value, CancelledError):
            self._report("error", f"sink {self.form.name} crashed: {failure.value!r:.200}; restart the agent")

    async def _empty(self) -> None:
        """Send what waits, one after the other."""
        pause = FIRST_PAUSE
        while self._queue and not self._closed:
            item = self._queue[0]
            try:
                await self._send(item[1])
            except Refusal as refusal:
                self._drop(item, "refused")
                self._fails(f"refuses: {refusal}")
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever a server does to us ends here
                if self._closed:
                    return
                self._fails(f"fails: {_reason(error)}")
                if self._reactor.seconds() - item[0] > self._config.keep:
                    self._drop(item, "lost")
                await deferLater(self._reactor, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._drop(item, "sent")
                self._works()
                pause = FIRST_PAUSE
        self._work = None

    def _drop(self, item: tuple[float, Notice], kind: str) -> None:
        if self._queue and self._queue[0] is item:  # else it has been pushed out, and counted, meanwhile
            self._queue.popleft()
            self.counters[kind] += 1

    def _fails(self, how: str) -> None:
        if not self._failing:
            self._failing = True
            self._report("warning", f"notification sink {self.form.name} {how}; nothing else depends on it")

    def _works(self) -> None:
        if self._failing:
            self._failing = False
            self._report("info", f"notification sink {self.form.name} works again")

    # -- one message ------------------------------------------------------------------------------------------------

    async def _send(self, notice: Notice) -> None:
        exchange = Deferred.fromCoroutine(self._exchange(notice))
        exchange.addTimeout(self._config.deadline, self._reactor, onTimeoutCancel=_late)
        await exchange

    async def _exchange(self, notice: Notice) -> None:
        request = self.form.request(notice)
        headers = Headers({"Content-Type": ["application/json; charset=utf-8"], "User-Agent": ["socs_bl"]})
        if request.token:
            headers.addRawHeader("Authorization", f"Bearer {request.token}")
        answer: Any = await self._agent.request(b"POST", request.url.encode(), headers, _Bytes(request.body))
        body = _Body()
        answer.deliverBody(body)
        content = await body.done
        if answer.code == TOO_MANY or answer.code >= 500:
            raise OSError(f"status {answer.code}")
        if not 200 <= answer.code < 300:
            raise Refusal(f"status {answer.code}")
        refusal = self.form.refusal(content)
        if refusal:
            raise Refusal(refusal)


class Notifier:
    """All sinks of an agent.

    Parameters
    ----------
    sinks : sequence of (Form, SinkConfig)
    reactor : object
    report : callable
        See `Outlet`.
    health : Health
        Gets the counters of every sink.
    """

    def __init__(self, sinks: Sequence[tuple[Any, SinkConfig]], reactor: Any, report: Report, health: Health) -> None:
        self.outlets = [Outlet(form, config, reactor, report) for form, config in sinks]
        for outlet in self.outlets:
            name = f"notify.{outlet.form.name}"
            health.add(f"{name}.waiting", lambda outlet=outlet: outlet.waiting)  # type: ignore[misc]
            for kind in outlet.counters:
                health.add(f"{name}.{kind}", lambda outlet=outlet, kind=kind: outlet.counters[kind])  # type: ignore[misc]
        for form, _ in sinks:
            if form.missing:
                report("warning", f"notification sink {form.name}: {form.missing} is not set in the environment")

    def tell(self, notice: Notice) -> None:
        """Tell all sinks; returns at once."""
        for outlet in self.outlets:
            outlet.offer(notice)

    def close(self) -> None:
        """Give up what has not been sent."""
        for outlet in self.outlets:
            outlet.close()


def _reason(error: BaseException) -> str:
    """What went wrong, without anything a message or an address may contain."""
    if isinstance(error, DeadlineError):
        return f"no answer within {error}"
    if isinstance(error, OSError) and str(error).startswith("status "):
        return str(error)
    return type(error).__name__


def _late(_: object, seconds: float) -> None:
    raise DeadlineError(f"{seconds:g} s")


class _Bytes:
    """A request's body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length: Any = len(body) or UNKNOWN_LENGTH

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """All is written at once."""

    def resumeProducing(self) -> None:
        """Likewise."""

    def stopProducing(self) -> None:
        """Likewise."""


class _Body(Protocol):
    """Reads an answer, as much of it as is allowed."""

    def __init__(self) -> None:
        self._data = b""
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > LARGEST_ANSWER:
            self._finish()
            self._abort()

    def connectionLost(self, reason: Any = None) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self._finish()
        elif not self.done.called:
            self.done.errback(reason)

    def _finish(self) -> None:
        if not self.done.called:
            self.done.callback(self._data)

    def _abort(self) -> None:
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()
