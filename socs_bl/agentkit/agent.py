"""The shell every agent of this package is: operations, locks, sessions, feeds, threads, health."""

from __future__ import annotations

import traceback
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from socs_bl.agentkit.feeds import FeedSchema, NumericFeed
from socs_bl.agentkit.health import Health
from socs_bl.agentkit.jsonsafe import json_safe
from socs_bl.agentkit.lock import HardwareLock
from socs_bl.agentkit.operation import Specification, Startup, operation, specifications
from socs_bl.agentkit.params import check_all, prescreen
from socs_bl.agentkit.session import Session
from socs_bl.agentkit.site_agent import SiteAgent
from socs_bl.agentkit.streaming import Message, Stream
from socs_bl.agentkit.threads import WorkerThreads
from socs_bl.core.errors import Refused, SocsError

P = ParamSpec("P")
T = TypeVar("T")
Outcome = tuple[bool, str]
NO_POLICY = (None, "", "none")
HEALTH = FeedSchema(
    "health",
    {"agent": {
        "reactor_lag": float, "reactor_stalls": int, "threads_busy": int, "stream_waiting": int,
        "stream_unsent": int, "crashed": int,
    }},
    buffer_time=10.0,
)  # fmt: skip


class Agent:
    """Base of all agents; see the example in `socs_bl.agentkit`.

    Parameters
    ----------
    site_agent : SiteAgent
        The connection to the router.
    args : argparse.Namespace
        The parsed arguments.

    Attributes
    ----------
    FEEDS : tuple of FeedSchema
        Declared by subclasses: the numeric feeds.
    THREADS : int
        Declared by subclasses: worker threads at most.
    feeds : dict of str to NumericFeed
        The numeric feeds by name.
    reactor : object
        The Twisted reactor; also the clock timers are armed on.
    """

    FEEDS: ClassVar[tuple[FeedSchema, ...]] = ()
    THREADS: ClassVar[int] = 8

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        self.site_agent = site_agent
        self.args = args
        self.log = site_agent.log
        self.reactor = site_agent.reactor
        self.health = Health()
        self.threads = WorkerThreads(self.reactor, self.THREADS)
        self.stream = Stream(self._publish_change, self.reactor)
        self.specifications = specifications(type(self))
        self.feeds: dict[str, NumericFeed] = {}
        self._locks: dict[str, HardwareLock] = {}
        self._sessions: dict[str, Session] = {}
        self._on_join: list[Callable[[], object]] = []
        site_agent.before_start = self._before_start
        site_agent.session_started = self._session_started
        site_agent.session_ended = self._session_ended
        site_agent.joined = self._joined
        site_agent.watch = self.stream.watch
        for name in ("operations", "alerts"):
            site_agent.register_feed(name, record=False)
        for schema in (HEALTH, *self.FEEDS):
            self._register_feed(schema)
        for specification in self.specifications.values():
            self._register(specification)

    # --- for subclasses

    @property
    def address(self) -> str:
        """The WAMP address of this agent, such as ``observatory.coordinator``."""
        return str(self.site_agent.agent_address)

    def auto_start(self, specification: Specification) -> Startup:
        """Whether (and with which parameters) an operation starts with the agent; override to ask the arguments."""
        return specification.startup

    def lock(self, name: str) -> HardwareLock:
        """The lock of a piece of hardware, made at first use."""
        if name not in self._locks:
            self._locks[name] = HardwareLock(name, self.reactor)
        return self._locks[name]

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that blocks in a worker thread; see `WorkerThreads.run`."""
        return await self.threads.run(function, *args, **kwargs)

    def alert(self, level: str, text: str, **facts: object) -> None:
        """Tell people: log, feed ``alerts``, and the data of ``monitor``.

        Parameters
        ----------
        level : str
            ``info``, ``warning`` or ``error``.
        text : str
            What happened, where, what to do next.
        **facts
            Numbers and names that belong to it.
        """
        safe = json_safe(facts)
        notification = self.health.alert(self.address, level, text, safe if isinstance(safe, dict) else {})
        (self.log.error if level == "error" else self.log.warn if level == "warning" else self.log.info)(
            "{text} {facts}", text=text, facts=notification["facts"]
        )
        self._send("alerts", notification, acknowledge=False)

    def listen_to(self, topic: str, handler: Callable[[Any], object], match: str = "exact") -> None:
        """Have `handler((data, feed))` called for every message of a topic, also after reconnects.

        Parameters
        ----------
        topic : str
            Full topic, such as ``f"{root}.telescope.feeds.events"``.
        handler : callable
            Called in the reactor thread.
        match : str
            ``exact``, ``prefix`` or ``wildcard``.
        """
        subscription = {
            "handler": handler, "topic": topic, "options": {"match": match}, "force_subscribe": True,
        }  # fmt: skip
        self.site_agent.startup_subs.append(subscription)
        if self.site_agent.realm_joined:
            self.site_agent.subscribe(**subscription)

    def on_join(self, function: Callable[[], object]) -> None:
        """Have `function()` called every time the router has accepted this agent."""
        self._on_join.append(function)

    def start_own(self, name: str, /, **parameters: object) -> tuple[int, str, Mapping[str, Any]]:
        """Start an operation of this agent with its own rights; ``(status, text, session)`` as OCS answers."""
        return self.site_agent.start_own(name, parameters)

    def session(self, name: str) -> Session | None:
        """The latest run of an operation."""
        return self._sessions.get(name)

    def close(self) -> None:
        """Give threads and timers back; subclasses that hold more extend it."""
        for feed in self.feeds.values():
            feed.flush()
        self.stream.close()
        self.threads.close()

    # --- operations of every agent

    @operation("process", startup=True)
    async def monitor(self, session: Session, *, interval: float = 1.0, test_mode: bool = False) -> str | None:
        """monitor(interval=1.0, test_mode=False)

        **Process** - Report how the agent is; it starts with the agent.

        Parameters:
            interval (float, optional): Seconds between two reports.
            test_mode (bool, optional): Report only once. This is meant only for testing.

        Notes:
            The process is degraded while an operation of the agent has crashed and has not been started again. The
            session data are::

                >>> response.session['data']
                {"reactor": {"lag_s": 0.001, "worst_lag_s": 0.02, "stalls": 0},
                 "counters": {"threads.busy": 0.0, "threads.refused": 0.0, "stream.waiting": 0.0},
                 "crashed": {},
                 "alerts": [],
                 "locks": {"daq": {"job": "record", "since": 1700000000.0, "waiting": 0}},
                 "sequence": 12}

            'crashed' holds per operation the text of its crash, 'alerts' the latest notifications, 'locks' the
            hardware that is held.
        """
        if interval < 0.1:
            raise Refused(f"monitor: interval must be at least 0.1 s; found {interval}; nothing was changed")
        while True:
            self._report(session)
            due = self.reactor.seconds() + interval
            if test_mode or not await session.sleep(interval):
                return "Stopped."
            if self.health.late(self.reactor.seconds() - due):
                self.alert("warning", f"the reactor was blocked for {self.health.lag:.2f} s", lag=self.health.lag)

    @operation("task")
    async def session_page(self, session: Session, *, op: str, key: str, page: int = 0) -> str | None:
        """session_page(op=None, key=None, page=0)

        **Task** - Read one page of a value that is too large for the session data of an operation.

        Parameters:
            op (str): The operation.
            key (str): The key of its session data that says ``truncated``.
            page (int, optional): Number of the page, from 0.

        Notes:
            Pages belong together when 'of_sequence' is the same in all. The session data are::

                >>> response.session['data']
                {"op": "status", "key": "instances", "page": 0, "pages": 3,
                 "of_sequence": 41, "value": ["blpn0/0", "blpn0/1"], "sequence": 1}
        """
        source = self._sessions.get(op)
        if source is None:
            raise Refused(f"session_page: operation {op!r:.60} has not run; nothing to read")
        try:
            session.data = {"op": op, **source.page(key, page)}
        except KeyError:
            raise Refused(f"session_page: {op} has no data {key!r:.60}; it has {', '.join(source.data)}") from None
        except IndexError as error:
            raise Refused(f"session_page: {error}") from None
        return None

    # --- how it works

    def _register(self, specification: Specification) -> None:
        method = getattr(self, specification.name)

        def launch(raw: Any, params: Mapping[str, Any] | None) -> Deferred[Outcome]:
            session = self._session_of(raw)
            performed = Deferred.fromCoroutine(self._perform(specification, method, session, params))
            session.attach(performed)
            return performed

        def end(raw: Any, _params: object) -> Deferred[Outcome]:
            self._session_of(raw).end(specification.grace)
            return Deferred.fromCoroutine(_outcome(f"{specification.name} was told to end"))

        launch.__doc__ = specification.doc
        launch._ocs_prescreen = prescreen(specification.parameters)  # type: ignore[attr-defined]  # where OCS looks
        # Without a policy OCS gives everybody level 1, so that a higher one could never be reached.
        privs = 1 if self.site_agent.site_args.access_policy in NO_POLICY else specification.privs
        common = {"blocking": False, "startup": self.auto_start(specification), "min_privs": privs}
        if specification.kind == "task":
            self.site_agent.register_task(specification.name, launch, aborter=end, **common)
        else:
            self.site_agent.register_process(specification.name, launch, end, **common)

    async def _perform(
        self,
        specification: Specification,
        method: Callable[..., Any],
        session: Session,
        params: Mapping[str, Any] | None,
    ) -> Outcome:
        ended = "Stopped." if specification.kind == "process" else "Aborted."
        if session.stopping:
            session.raw.set_status("stopping")
            return specification.kind == "process", ended
        try:
            values = check_all(specification.name, specification.parameters, params)
            async with self._hardware(specification):
                text = await method(session, **values)
        except SocsError as error:
            return False, str(error)
        except CancelledError:
            if not session.stopping:
                self._crashed(specification.name, traceback.format_exc())
                raise
            return specification.kind == "process", ended
        except Exception:  # whatever an operation raises makes its session fail loudly; raised again for the session
            self._crashed(specification.name, traceback.format_exc())
            raise
        return True, text or "Done."

    @asynccontextmanager
    async def _hardware(self, specification: Specification) -> AsyncIterator[None]:
        if specification.hardware is None:
            yield
            return
        async with self.lock(specification.hardware).held(specification.name, specification.lock_timeout):
            yield

    def _crashed(self, name: str, trace: str) -> None:
        """A bug has ended an operation: be loud."""
        last = trace.strip().splitlines()[-1]
        self.health.crashes[name] = last
        self.log.error("{name} crashed:\n{trace}", name=name, trace=trace)
        self.alert("error", f"operation {name} of {self.address} crashed: {last}; see the agent's log", operation=name)

    def _before_start(self, name: str, params: object) -> None:
        specification = self.specifications.get(name)
        if specification is None:
            return
        check_all(name, specification.parameters, params)
        if specification.hardware is not None and specification.lock_timeout == 0:
            refusal = self.lock(specification.hardware).refusal()
            if refusal is not None:
                raise Refused(f"{name}: {refusal}; nothing was changed")

    def _session_of(self, raw: Any) -> Session:
        session = self._sessions.get(raw.op_name)
        if session is None or session.raw is not raw:
            session = Session(raw, self.stream.changed, self.reactor)
            self._sessions[raw.op_name] = session
        return session

    def _session_started(self, raw: Any) -> None:
        self.health.crashes.pop(raw.op_name, None)
        self._session_of(raw).touch()

    def _session_ended(self, raw: Any) -> None:
        session = self._session_of(raw)
        session.ended()
        self.stream.ended(session)

    def _joined(self) -> None:
        self.stream.rejoined()
        for function in self._on_join:
            function()

    def _register_feed(self, schema: FeedSchema) -> None:
        raw = self.site_agent.register_feed(
            schema.name,
            record=True,
            agg_params={"frame_length": schema.frame_length},
            buffer_time=schema.buffer_time,
        )
        self.feeds[schema.name] = NumericFeed(schema, raw, lambda: self.site_agent.realm_joined)

    def _publish_change(self, message: Message, acknowledge: bool) -> Deferred[Any] | None:
        return self._send("operations", message, acknowledge)

    def _send(self, feed: str, message: Mapping[str, Any], acknowledge: bool) -> Deferred[Any] | None:
        raw = self.site_agent.feeds[feed]
        return self.site_agent.send(raw.address, (message, raw.encoded()), acknowledge)

    def _report(self, session: Session) -> None:
        report = self.health.report()
        report["counters"].update({
            "threads.busy": self.threads.running, "threads.refused": self.threads.refused,
            "stream.waiting": self.stream.waiting,
            **{f"stream.{name}": count for name, count in self.stream.counters.items()},
        })  # fmt: skip
        report["locks"] = {
            name: {"job": lock.holding.job, "since": lock.holding.since, "waiting": lock.waiting}
            for name, lock in self._locks.items()
            if lock.holding is not None
        }
        session.data = report
        session.degraded = bool(self.health.crashes)
        self.feeds["health"].publish(
            "agent",
            {
                "reactor_lag": self.health.lag,
                "reactor_stalls": self.health.stalls,
                "threads_busy": self.threads.running,
                "stream_waiting": self.stream.waiting,
                "stream_unsent": self.stream.counters["unsent"],
                "crashed": len(self.health.crashes),
            },
        )


async def _outcome(text: str) -> Outcome:
    return True, text


__all__ = ["Agent"]
