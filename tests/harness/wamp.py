"""Plain WAMP sessions for tests, as any client would open them."""

from __future__ import annotations

from urllib.parse import urlparse

import txaio

txaio.use_twisted()  # before autobahn's twisted side is imported

from autobahn.twisted.wamp import ApplicationSession  # noqa: E402
from autobahn.twisted.websocket import WampWebSocketClientFactory  # noqa: E402
from autobahn.wamp.types import ComponentConfig  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402


class Session(ApplicationSession):
    """A session that says when it has joined and when it is gone."""

    def __init__(self, config: ComponentConfig, joined: Deferred[Session]) -> None:
        super().__init__(config)
        self.joined = joined
        self.gone: Deferred[None] = Deferred()

    def onJoin(self, details: object) -> None:
        """The router has let us in."""
        self.joined.callback(self)

    def onDisconnect(self) -> None:
        """The transport is closed."""
        self.gone.callback(None)

    def close(self) -> Deferred[None]:
        """Leave; fires when the transport is closed."""
        self.leave()
        return self.gone


def connect(url: str, realm: str) -> Deferred[Session]:
    """Open a session on a router; fires with it once it has joined."""
    from twisted.internet import reactor

    joined: Deferred[Session] = Deferred()
    factory = WampWebSocketClientFactory(lambda: Session(ComponentConfig(realm), joined), url=url)
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
    address = urlparse(url)
    reactor.connectTCP(address.hostname, address.port, factory)
    return joined
