"""OCS's agent with its sharp edges taken off. Nothing outside this package needs to know it.

What differs from `ocs.ocs_agent.OCSAgent`:

* parameters are checked by us first, and a held lock refuses a start at once (hook `before_start`);
* the log purger of a session ends with the session, so that sessions can be freed;
* ``wait`` leaves no timer behind;
* ``<agent>.view`` answers status and API and nothing else; ``<agent>.watch`` leases fast streaming;
* a registration that a lost connection of our own left at the router is taken over; a second agent with the same
  instance-id ends with a clear text instead of trying for ever;
* it ends as soon as its operations have ended, three seconds at most, instead of after six.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import ocs
from autobahn.exception import Disconnected
from autobahn.wamp import types as autobahn_types
from autobahn.wamp.exception import ApplicationError, TransportLost
from ocs.ocs_agent import OCSAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning

from socs_bl.core.errors import Refused

_wamp: Any = autobahn_types  # its functions carry no types
STOP_WAIT = 3.0
GHOST_WAIT = 5.0
VIEW_ACTIONS = ("get_api", "status")
EXISTS = "wamp.error.procedure_already_exists"
Reply = tuple[int, str, dict[str, Any]]


class PlainLog:
    """A txaio logger that takes a text without fields as it is.

    OCS logs ready-made texts through a logger that reads braces in them as fields.
    """

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)
        if name not in ("debug", "info", "warn", "error", "critical"):
            return method
        return lambda text="", /, **fields: method(text, **fields) if fields else method("{text}", text=text)


class SiteAgent(OCSAgent):  # type: ignore[misc]  # ocs carries no types
    """The connection of one agent to the router.

    Parameters
    ----------
    reactor : object
        The Twisted reactor.
    site_args : argparse.Namespace
        What ``ocs.site_config.parse_args`` gives.
    class_name : str
        The agent class, as in the plugin table.

    Attributes
    ----------
    before_start : callable
        ``(operation, params) -> None``, raises `Refused` to refuse a start.
    session_started, session_ended : callable
        Told OCS's session after it was made and after its last status.
    joined : callable
        Told every time the router has accepted us.
    watch : callable
        ``(seconds) -> granted`` behind the call ``<agent>.watch``.
    fatal : str or None
        Why the process must end, when it must.
    """

    log: Any

    def __init__(self, reactor: Any, site_args: Any, class_name: str) -> None:
        address = f"{site_args.address_root}.{site_args.instance_id}"
        config = _wamp.ComponentConfig(getattr(site_args, "site_realm", None), {})
        super().__init__(config, site_args, address=address, class_name=class_name)
        self.log = PlainLog(self.log)
        self.reactor = reactor
        self.before_start: Callable[[str, object], None] = _nothing
        self.session_started: Callable[[Any], None] = _nothing
        self.session_ended: Callable[[Any], None] = _nothing
        self.joined: Callable[[], None] = _nothing
        self.watch: Callable[[float], float] = lambda seconds: 0.0
        self.fatal: str | None = None
        self._ending = False
        self._ghost = False  # our address is still registered, and nobody is there

    # --- operations

    def start(self, op_name: str, params: object = None, password: object = None) -> Reply:
        """Start an operation; see `OCSAgent.start`. A refusal changes nothing."""
        try:
            self.before_start(op_name, params)
        except Refused as refusal:
            return (ocs.ERROR, str(refusal), {})
        reply: Reply = super().start(op_name, params=params, password=password)
        if reply[0] == ocs.OK:
            session = self.sessions[op_name]
            self.session_started(session)
            session.d.addBoth(self._session_ended, session)
        return reply

    def start_own(self, op_name: str, params: object = None) -> Reply:
        """Start an operation of our own with the agent's own rights."""
        return self.start(op_name, params=params, password=self)

    def wait(self, op_name: str, timeout: float | None = None, password: object = None) -> Deferred[Reply]:
        """Wait for an operation to end; see `OCSAgent.wait`."""
        return Deferred.fromCoroutine(self._wait(op_name, timeout))

    async def _wait(self, op_name: str, timeout: float | None) -> Reply:
        if op_name not in self.sessions:
            return (ocs.ERROR, f'Unknown operation "{op_name}".', {})
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
            return (ocs.ERROR, f"wait: timeout must be a number of seconds; found {timeout!r:.40}", {})
        session = self.sessions[op_name]
        if session is None:
            return (ocs.OK, "Idle.", {})
        if session.status != "done" and (timeout is None or timeout >= 0):
            await self._ended_or_late(session, timeout)
        if session.status != "done":
            return (ocs.TIMEOUT, f'Operation "{op_name}" still running; wait timed out.', session.encoded())
        word = "SUCCEEDED" if session.success else "FAILED"
        return (ocs.OK, f'Operation "{op_name}" is currently not running ({word}).', session.encoded())

    async def _ended_or_late(self, session: Any, timeout: float | None) -> None:
        turn: Deferred[None] = Deferred()

        def wake(result: Any) -> Any:
            if not turn.called:
                turn.callback(None)
            return result

        session.d.addBoth(wake)
        if timeout is not None:
            turn.addTimeout(timeout, self.reactor, onTimeoutCancel=lambda *_: None)
        await turn

    def _session_ended(self, result: Any, session: Any) -> Any:
        session.purger.addErrback(lambda failure: failure.trap(CancelledError) and None)
        session.purger.cancel()
        self.session_ended(session)
        return result

    # --- the router

    def register(
        self, endpoint: Any, procedure: str | None = None, options: Any = None, **kwargs: Any
    ) -> Deferred[Any]:
        """Register a procedure; one that our own lost connection still holds is taken over."""
        return Deferred.fromCoroutine(self._register(endpoint, procedure, options, kwargs))

    async def _register(self, endpoint: Any, procedure: str | None, options: Any, kwargs: dict[str, Any]) -> Any:
        try:
            return await super().register(endpoint, procedure, options, **kwargs)
        except ApplicationError as error:
            if error.error != EXISTS:
                raise
            twin = None if self._ghost else await self._twin()
            if twin is not None:
                self.fatal = (
                    f"{self.agent_address} is already served by process {twin}; "
                    f"stop that one, or give this agent another instance-id"
                )
                raise
            self._ghost = True
        return await super().register(endpoint, procedure, _wamp.RegisterOptions(force_reregister=True), **kwargs)

    async def _twin(self) -> str | None:
        """Who answers at our address: host and pid of another process, or None for a ghost of ourselves."""
        question: Deferred[Any] = self.call(self.agent_address, "get_api")
        try:
            api = await question.addTimeout(GHOST_WAIT, self.reactor)
        except Exception:  # noqa: BLE001  # a ghost may answer with any error or not at all; only an answer is a twin
            return None
        host, pid = api.get("instance_hostname"), api.get("instance_pid")
        if (host, pid) == (socket.gethostname(), os.getpid()):
            return None
        return f"{pid} on {host}"

    def onConnect(self) -> None:
        """Join the realm; SIGINT and SIGTERM end the agent in order."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        self._ghost = False
        self.join(self.config.realm)

    def _signalled(self, number: int, _frame: object) -> None:
        self.log.info("caught {signal}", signal=signal.Signals(number).name)
        self.reactor.callFromThread(self._shutdown)

    def onJoin(self, details: Any) -> Deferred[None]:
        """Register everything, then tell the agent."""
        return Deferred.fromCoroutine(self._join(details))

    async def _join(self, details: Any) -> None:
        await super().onJoin(details)
        if self.fatal is not None:
            self.log.error("{text}", text=self.fatal)
            self._stop_reactor()
            return
        if not self.realm_joined:
            return
        try:
            await self.register(self._view, f"{self.agent_address}.view")
            await self.register(self._watch, f"{self.agent_address}.watch")
        except (TransportLost, ApplicationError) as error:
            self.log.error("view and watch are not registered: {error}; rejoining", error=error)
            self.leave()
            return
        self.joined()

    def _view(
        self, action: str, op_name: str | None = None, params: object = None, timeout: object = None,
        password: object = None,
    ) -> Any:  # fmt: skip
        """Answer status and API; everything else is refused."""
        if action == "get_api":
            return self._management_handler("get_api")
        if action == "status":
            return self.status(op_name)
        return (ocs.ERROR, f"view answers {' and '.join(VIEW_ACTIONS)} only; call {self.agent_address}.ops", {})

    def _watch(self, seconds: object = 10.0) -> float:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise Refused(f"watch: seconds must be a number; found {seconds!r:.40}")
        return self.watch(float(seconds))

    def send(self, topic: str, payload: tuple[Any, ...], acknowledge: bool) -> Deferred[Any] | None:
        """Publish; None when there is no router to publish to."""
        if not self.realm_joined:
            return None
        try:
            done = self.publish(topic, payload, options=_wamp.PublishOptions(acknowledge=acknowledge))
        except (TransportLost, Disconnected):
            return None
        answer: Deferred[Any] = Deferred()
        if done is None:
            answer.callback(None)
            return answer
        return done  # type: ignore[no-any-return]  # autobahn is untyped

    # --- the end

    def _stop_all_running_sessions(self) -> Deferred[None]:
        """End all operations if we are ending; a router that says goodbye ends nothing."""
        if not self._ending:
            return Deferred.fromCoroutine(_immediately())
        return Deferred.fromCoroutine(self._stop_sessions())

    async def _stop_sessions(self) -> None:
        waiting = []
        for name, session in self.sessions.items():
            if session is None or session.status == "done":
                continue
            if session.status != "stopping":
                (self.abort if name in self.tasks else self.stop)(name, password=self)
            waiting.append(Deferred.fromCoroutine(self._ended_or_late(session, STOP_WAIT)))
        for ended in waiting:
            await ended
        left = [name for name, session in self.sessions.items() if session and session.status != "done"]
        if left:
            self.log.error("did not end within {s} s: {left}", s=STOP_WAIT, left=", ".join(left))

    def end(self) -> Deferred[None]:
        """Stop and abort everything that runs; fires when it has ended or three seconds have passed."""
        self._ending = True
        return self._stop_all_running_sessions()

    def _shutdown(self) -> Deferred[None]:
        return self.end().addBoth(lambda _: self._stop_reactor())

    def _stop_reactor(self) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self.reactor.stop()


def _nothing(*_args: Any) -> None:
    return None


async def _immediately() -> None:
    return None
