"""`AsyncClient`: requests to agents and their feed ``operations``, from the Twisted reactor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ocs
from autobahn.exception import Disconnected
from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp import types as autobahn_types
from autobahn.wamp.exception import ApplicationError, TransportLost
from ocs.ocs_client import OCSReply
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater

from socs_bl.client.errors import DEADLINE, NO_CONNECTION, NO_REPLY, PATIENCE, WAIT_SLICE, NoAnswer, explain
from socs_bl.client.follower import Follower, SessionData

LEASE = 10.0
RETRY = 0.5
_UNHEARD = (TransportLost, Disconnected, TimeoutError, ApplicationError)
_wamp: Any = autobahn_types  # its functions carry no types


class Connection(ApplicationSession):
    """A client's session at the router, kept through reconnects."""

    def __init__(self, realm: str) -> None:
        super().__init__(_wamp.ComponentConfig(realm, {}))
        self.on_join: list[Callable[[], object]] = []

    def onConnect(self) -> None:
        """Join the realm."""
        self.join(self.config.realm)

    def onJoin(self, details: Any) -> None:
        """Tell those who want to know."""
        for function in list(self.on_join):
            function()

    def onLeave(self, details: Any) -> None:
        """Let the runner connect again."""
        self.disconnect()

    def onDisconnect(self) -> None:
        """Nothing; autobahn's own would log an error."""


class AsyncClient:
    """Requests to agents from the reactor, each with a deadline.

    Agents make one of their own session: ``AsyncClient(self.site_agent, root, self.on_join)``; other programs
    `connect`.

    Parameters
    ----------
    session : ApplicationSession
        The session at the router.
    root : str
        The address root, such as ``observatory``.
    on_join : callable
        Registers a function that is called after every (re)join.
    reactor : object, optional
        The Twisted reactor or a clock.
    """

    def __init__(
        self, session: Any, root: str, on_join: Callable[[Callable[[], object]], object], reactor: Any = None
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.session = session
        self.root = root
        self.reactor = reactor
        self.watching: list[Watch] = []
        self._close: Callable[[], Deferred[None]] | None = None
        on_join(self._rejoined)

    async def request(
        self, instance_id: str, action: str, op: str, params: Mapping[str, Any] | None = None,
        timeout: float | None = None, password: str | None = None,
    ) -> OCSReply:  # fmt: skip
        """Send one request; see OCS's operation API.

        Raises
        ------
        NoAnswer
            When the agent does not answer within ten seconds (and the `timeout` of a ``wait``).
        """
        more = {} if password is None else {"password": password}
        deadline = DEADLINE + (timeout or 0.0)
        return OCSReply(
            *await self._call(
                instance_id, "ops", deadline, action, op, params=dict(params or {}), timeout=timeout, **more
            )
        )

    async def start(self, instance_id: str, op: str, password: str | None = None, **params: Any) -> OCSReply:
        """Start an operation."""
        return await self.request(instance_id, "start", op, params, password=password)

    async def run(self, instance_id: str, op: str, password: str | None = None, **params: Any) -> OCSReply:
        """Start a task and wait for its end."""
        begun = await self.start(instance_id, op, password, **params)
        if begun.status != ocs.OK:
            return begun
        while True:
            reply = await self.request(instance_id, "wait", op, timeout=WAIT_SLICE)
            if reply.status != ocs.TIMEOUT:
                return reply

    async def status(self, instance_id: str, op: str) -> OCSReply:
        """The latest session of an operation, by the read-only call of the agent."""
        return OCSReply(*await self.call(instance_id, "view", "status", op))

    async def api(self, instance_id: str) -> dict[str, Any]:
        """What an agent can do, with all its sessions, by its read-only call."""
        answer: dict[str, Any] = await self.call(instance_id, "view", "get_api")
        return answer

    def watch(self, instance_id: str, op: str, patience: float = PATIENCE, forever: bool = False) -> Watch:
        """Follow the session of an operation; see `Watch` and `MatchedClient.watch`."""
        return Watch(self, Follower(instance_id, op, forever), patience)

    async def close(self) -> None:
        """Leave the router, if this client connected by itself."""
        if self._close is not None:
            await self._close()

    async def call(self, instance_id: str, part: str, *args: Any, **kwargs: Any) -> Any:
        """Call ``<agent>.<part>``, with ten seconds to answer."""
        return await self._call(instance_id, part, DEADLINE, *args, **kwargs)

    async def _call(self, instance_id: str, part: str, deadline: float, *args: Any, **kwargs: Any) -> Any:
        address = f"{self.root}.{instance_id}.{part}"
        try:
            answer: Deferred[Any] = self.session.call(address, *args, **kwargs)
            return await answer.addTimeout(deadline, self.reactor)
        except TimeoutError as error:
            raise explain(instance_id, NO_REPLY, "the router") from error
        except (TransportLost, Disconnected) as error:
            raise explain(instance_id, NO_CONNECTION, "the site's hub") from error
        except ApplicationError as error:
            raise explain(instance_id, error.error, "the router", str(error)) from error

    def _rejoined(self) -> None:
        for watch in self.watching:
            watch.rejoined()


class Watch:
    """The states of a session as they come, for ``async with`` and ``async for``::

        async with client.watch("coordinator", "run") as states:
            async for session in states:
                print(session["data"])

    Changes come from the feed ``operations``, ten times a second; what was missed is read again. A slow reader gets
    the newest state and not every one between. It ends with the run.

    Parameters
    ----------
    client : AsyncClient
        Its client.
    follower : Follower
        Whose session.
    patience : float
        Seconds without an answer before NoAnswer is raised.
    """

    def __init__(self, client: AsyncClient, follower: Follower, patience: float) -> None:
        self._client = client
        self._follower = follower
        self._patience = patience
        self._subscription: Any = None
        self._stale = False
        self._renew = float("-inf")
        self._heard = client.reactor.seconds()
        self._waiter: Deferred[bool] | None = None

    async def __aenter__(self) -> Watch:
        self._client.watching.append(self)
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.watching.remove(self)
        subscription, self._subscription = self._subscription, None
        if subscription is None or not self._client.session.is_attached():
            return
        # Autobahn may be in the middle of its list of handlers, and would skip the one after us.
        await deferLater(self._client.reactor, 0)
        # A router that is gone has forgotten the subscription.
        with contextlib.suppress(*_UNHEARD):
            gone: Deferred[Any] = subscription.unsubscribe()
            await gone.addTimeout(DEADLINE, self._client.reactor)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> SessionData:
        """The newest state, once it differs from the one before."""
        while not self._follower.finished:
            answered = await self._catch_up()
            session = self._follower.take()
            if session is not None:
                return session
            heard = await self._change(LEASE / 2 if answered else RETRY)
            self._stale = self._stale or not heard
        raise StopAsyncIteration

    def rejoined(self) -> None:
        """The router is (again) there: listen again, and read what was missed."""
        self._stale = True
        Deferred.fromCoroutine(self._listen())

    async def _catch_up(self) -> bool:
        """Read what was missed and renew the lease; False when the agent did not answer, which may be for a while."""
        now = self._client.reactor.seconds()
        instance_id = self._follower.instance_id
        try:
            if self._follower.gap or self._stale:
                self._stale = False
                self._follower.read((await self._client.status(instance_id, self._follower.op)).session)
            if now >= self._renew:
                await self._client.call(instance_id, "watch", LEASE)
                self._renew = now + LEASE / 2
        except NoAnswer:
            self._stale = True
            if now - self._heard > self._patience:
                raise
            return False
        self._heard = now
        return True

    async def _listen(self) -> None:
        topic = f"{self._client.root}.{self._follower.instance_id}.feeds.operations"
        # Without a router the next join listens again; until then the status is read.
        with contextlib.suppress(*_UNHEARD):
            # The plain method: OCS's own allows one handler per topic.
            listening: Deferred[Any] = ApplicationSession.subscribe(self._client.session, self._hear, topic)
            self._subscription = await listening.addTimeout(DEADLINE, self._client.reactor)
        self._wake()

    def _hear(self, payload: Sequence[Any]) -> None:
        """Take a message ``(data, feed)`` of the feed."""
        self._follower.hear(payload[0])
        if self._follower.fresh or self._follower.gap:
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(True)

    def _change(self, timeout: float) -> Deferred[bool]:
        """Fires True when something is new, False when nothing was for `timeout` seconds."""
        self._waiter = Deferred()
        return self._waiter.addTimeout(timeout, self._client.reactor, onTimeoutCancel=lambda *_: False)


async def connect(url: str, realm: str, root: str, timeout: float = DEADLINE) -> AsyncClient:
    """Connect a client to a router, kept connected until its `close`.

    Parameters
    ----------
    url, realm, root : str
        ``wamp_server``, ``wamp_realm`` and ``address_root`` of the site's hub.
    timeout : float
        Seconds to wait for the router.

    Raises
    ------
    NoAnswer
        When there is no router.
    """
    from twisted.internet import reactor

    connection = Connection(realm)
    client = AsyncClient(connection, root, connection.on_join.append, reactor)
    joined: Deferred[None] = Deferred()
    connection.on_join.append(lambda: None if joined.called else joined.callback(None))
    runner = ApplicationRunner(url, realm)
    runner.max_retries, runner.max_retry_delay, runner._connect_successes = -1, 2.0, 1
    connected: Deferred[Any] = runner.run(connection, start_reactor=False, auto_reconnect=True)
    connected.addErrback(lambda _: None)

    async def close() -> None:
        if connection.is_attached():
            connection.leave()
        await runner.stop()

    client._close = lambda: Deferred.fromCoroutine(close())
    try:
        await joined.addTimeout(timeout, reactor)
    except TimeoutError as error:
        await client.close()
        raise NoAnswer(
            f"no router at {url} within {timeout:.0f} s; start it, or correct the site file", NO_CONNECTION
        ) from error
    return client
