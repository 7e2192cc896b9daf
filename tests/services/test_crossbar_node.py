"""The router's configuration: who may do what, and what it answers to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import pytest_twisted
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, SubscribeOptions
from ocs.client_http import ControlClient, ControlClientError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from socs_bl.services.crossbar_node import CrossbarNode, configuration
from tests.harness.wamp import Session, connect

FORBIDDEN = ("observatory.x", "observatory.x.ops", "observatory.x.preview", "observatory.x.y.view")
Steps = Generator[Deferred[Any], Any, None]


@pytest_twisted.inlineCallbacks
def _refused(made: Deferred[Any]) -> Generator[Deferred[Any], Any, bool]:
    try:
        yield made
    except ApplicationError as error:
        return error.error == ApplicationError.NOT_AUTHORIZED
    return False


def test_listens_on_loopback_unless_told_otherwise() -> None:
    """Anonymous clients are let in, so the default is an address nobody outside can reach."""
    endpoint: Any = configuration(8001)["workers"][0]["transports"][0]["endpoint"]  # type: ignore[index]
    assert endpoint == {"type": "tcp", "port": 8001, "interface": "127.0.0.1"}


@pytest.mark.live
@pytest_twisted.inlineCallbacks
def test_a_viewer_sees_everything_and_touches_nothing(router: CrossbarNode) -> Steps:
    """A viewer gets every feed and may call ``<agent>.view``; it cannot call, register or publish anything else."""
    agent: Session = yield connect(router.ws_url, router.realm)
    viewer: Session = yield connect(router.view_url, router.realm)
    try:
        yield agent.register(lambda: "seen", "observatory.x.view")
        for address in FORBIDDEN:
            yield agent.register(lambda: "touched", address)
        received: Deferred[str] = Deferred()
        yield viewer.subscribe(received.callback, "observatory..feeds.", SubscribeOptions(match="wildcard"))
        agent.publish("observatory.x.feeds.f", "news")
        assert (yield received) == "news"
        assert (yield viewer.call("observatory.x.view")) == "seen"
        for address in (*FORBIDDEN, "wamp.session.list"):
            assert (yield _refused(viewer.call(address))), address
        for address in ("observatory.y.view", "observatory.y"):
            assert (yield _refused(viewer.register(lambda: None, address))), address
        for address in ("observatory.x.feeds.f", "observatory.x.view"):
            published = viewer.publish(address, "lies", options=PublishOptions(acknowledge=True))
            assert (yield _refused(published)), address
    finally:
        yield viewer.close()
        yield agent.close()


@pytest.mark.live
@pytest_twisted.inlineCallbacks
def test_operators_call_over_http(router: CrossbarNode) -> Steps:
    """``/call`` carries what OCS's HTTP client asks to the agent, and says what is not there."""
    agent: Session = yield connect(router.ws_url, router.realm)
    try:
        yield agent.register(lambda word: f"{word} back", "observatory.x")
        client = ControlClient("observatory.x", url=router.http_url, realm=router.realm)
        assert (yield deferToThread(client.call, "observatory.x", "there and")) == "there and back"
        with pytest.raises(ControlClientError):
            yield deferToThread(client.call, "observatory.nobody", "")
    finally:
        yield agent.close()


@pytest.mark.live
@pytest_twisted.inlineCallbacks
def test_a_message_above_the_limit_ends_only_its_own_session(router: CrossbarNode) -> Steps:
    """A session that sends more than the message limit is cut off; the others go on."""
    good: Session = yield connect(router.ws_url, router.realm)
    bad: Session = yield connect(router.ws_url, router.realm)
    try:
        yield good.register(lambda: "here", "observatory.x.view")
        bad.publish("observatory.x.feeds.f", "x" * (5 << 20))
        yield bad.gone
        assert (yield good.call("observatory.x.view")) == "here"
    finally:
        yield good.close()
