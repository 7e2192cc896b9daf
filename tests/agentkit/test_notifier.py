"""Notification sinks: what they get, and that dead, slow, refusing and raving ones are told once and change nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from socs_bl.agentkit import notifier as notifier_module
from socs_bl.agentkit.health import Health
from socs_bl.agentkit.notifier import Notifier, Outlet
from socs_bl.agentkit.sinks import LEVELS, Notice, Request, configured
from socs_bl.core.config import check
from socs_bl.core.notifications import NotificationsConfig, SinkConfig
from socs_bl.services.process import free_port
from tests.harness.agent_case import until
from tests.harness.web import Service, first_port  # noqa: F401  # a fixture

NOW = 1_800_000_000.25
SECRETS = {"GRAFANA_AUTH": "grafana-secret", "SLACK_API_TOKEN": "slack-secret"}


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    pytest_twisted.blockon(made.port.stopListening())
    pytest_twisted.blockon(ensureDeferred(until(lambda: not made.open, "all connections are closed")))


@pytest.fixture
def tell() -> Iterator[Callable[..., Any]]:
    """``tell(config, environment)``: a notifier; ``.said`` is what it reported. Closed after the test."""
    made: list[Notifier] = []

    def make(config: dict[str, Any], environment: dict[str, str] = SECRETS) -> Notifier:
        said: list[tuple[str, str]] = []
        sinks = configured(check(config, NotificationsConfig, "test"), environment)
        made.append(Notifier(sinks, reactor, lambda level, text: said.append((level, text)), Health()))
        made[-1].said = said  # type: ignore[attr-defined]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier_module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(notifier_module, "LONGEST_PAUSE", 0.05)


def slack(url: str, **more: Any) -> dict[str, Any]:
    return {"slack": {"url": f"{url}/api/chat.postMessage", "channel": "obs", **more}}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_what_slack_and_grafana_get(service: Service, tell: Any) -> None:
    """Slack gets text, channel and token; Grafana an annotation with tag and bearer token, only for what has a tag."""
    made = tell({**slack(service.url), "grafana": {"url": f"{service.url}/api/annotations"}})
    made.tell(Notice("warning", "quarantined", "blpn64/0 is out", NOW))
    made.tell(Notice("info", "recording", "array_1 records", NOW))
    await until(lambda: len(service.got) == 3, "both have been told")
    assert sorted(service.got, key=lambda item: (item[0], item[1]["text"])) == [
        (
            "/api/annotations",
            {"time": 1_800_000_000_250, "isRegion": False, "tags": ["RECORD"], "text": "array_1 records"},
            "Bearer grafana-secret",
        ),
        ("/api/chat.postMessage", {"channel": "obs", "text": ":warning: blpn64/0 is out"}, "Bearer slack-secret"),
        ("/api/chat.postMessage", {"channel": "obs", "text": "array_1 records"}, "Bearer slack-secret"),
    ]
    await until(lambda: [outlet.counters["sent"] for outlet in made.outlets] == [2, 1], "all is counted")
    assert made.said == []


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_webhook_is_a_secret(service: Service, tell: Any) -> None:
    """The URL of a webhook comes from the environment; without it nothing is sent and the variable is named, once."""
    made = tell({"slack": {"webhook_env": "HOOK"}}, {"HOOK": f"{service.url}/services/secret"})
    made.tell(Notice("error", "failed", "oh", NOW))
    await until(lambda: bool(service.got), "the webhook is called")
    assert service.got == [("/services/secret", {"text": ":x: oh"}, "")]
    made = tell({"slack": {"webhook_env": "HOOK"}}, {})
    made.tell(Notice("error", "failed", "oh", NOW))
    assert made.said == [("warning", "notification sink slack: HOOK is not set in the environment")]
    assert made.outlets[0].waiting == 0


@pytest.mark.live
@pytest.mark.parametrize("kind", ["nobody", "mute", "silent", "500", "raving"])
@pytest_twisted.ensureDeferred
async def test_a_failing_sink_is_told_once_and_tried_again(kind: str, service: Service, tell: Any) -> None:
    """Nobody listens, accepts and is mute, takes and never answers, 500, or no HTTP: one warning, no secrets in it, the
    other sink gets everything; and what was not sent goes out when it works again."""
    mute = socket.create_server(("127.0.0.1", 0))
    raving = reactor.listenTCP(0, _Raving(), interface="127.0.0.1")  # type: ignore[attr-defined]
    good = Service()
    ports = {"nobody": free_port(), "mute": mute.getsockname()[1], "raving": raving.getHost().port}
    url = f"http://127.0.0.1:{ports[kind]}" if kind in ports else service.url
    service.answer = lambda body: None if kind == "silent" else (500, b"slack-secret")
    made = tell({**slack(url, deadline=0.2), "grafana": {"url": good.url}})
    try:
        for n in range(3):
            made.tell(Notice("info", "recording", f"n{n}", NOW))
        await until(lambda: len(good.got) == 3, "the other sink has everything")
        await until(lambda: bool(made.said), "the failure is told")
        first = made.outlets[0]
        if url == service.url:
            await until(lambda: len(service.got) >= 3, "it is tried again")
            service.answer = lambda body: (200, b'{"ok": true}')
            await until(lambda: first.counters["sent"] == 3, "all goes out in the end")
            assert [body["text"] for _, body, _ in service.got][-2:] == ["n1", "n2"]
            assert made.said[1:] == [("info", "notification sink slack works again")]
        (level, text), *_ = made.said
        assert level == "warning" and text.startswith("notification sink slack fails: ") and "secret" not in text
        assert len(made.said) == (2 if url == service.url else 1)
    finally:
        made.close()
        mute.close()
        await raving.stopListening()
        await good.port.stopListening()


@pytest.mark.live
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, b"slack-secret"), "status 401"),
        ((302, b""), "status 302"),
        ((200, b'{"ok": false, "error": "invalid_auth"}'), "invalid_auth"),
        ((200, b'{"ok": false, "error": "slack-secret!"}'), "it does not say why"),
        ((200, b"<html>slack-secret</html>"), "its answer is not Slack's"),
        ((200, b"[]"), "its answer is not Slack's"),
        ((200, b"x" * 200_000), "its answer is not Slack's"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_are_told_once(answer: tuple[int, bytes], says: str, service: Service, tell: Any) -> None:
    """Who says no is not asked again about the same message; why is told once, never in words that may be secret."""
    service.answer = lambda body: answer
    made = tell(slack(service.url))
    for n in range(3):
        made.tell(Notice("info", "a", f"n{n}", NOW))
    await until(lambda: made.outlets[0].counters["refused"] == 3, "all are refused")
    assert [body["text"] for _, body, _ in service.got] == ["n0", "n1", "n2"]
    assert made.said == [("warning", f"notification sink slack refuses: {says}; nothing else depends on it")]


class _Raving:
    """A server that answers every connection with nonsense."""

    numPorts = 0

    def doStart(self) -> None:
        """A factory."""

    def doStop(self) -> None:
        """A factory."""

    def buildProtocol(self, address: object) -> Any:
        from twisted.internet.protocol import Protocol

        class Raving(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"\xff\x00no HTTP\r\n\r\n" * 5)
                self.transport.loseConnection()

        return Raving()


class _Silent:
    """A form whose service is never reached: the queue is looked at."""

    name, missing = "silent", ""

    def wants(self, notice: Notice) -> bool:
        return notice.code != "unwanted"

    def request(self, notice: Notice) -> Request:
        raise AssertionError

    def refusal(self, body: bytes) -> str:
        return ""


def quiet(monkeypatch: pytest.MonkeyPatch, **config: Any) -> tuple[Outlet, Clock, list[str]]:
    """An outlet on a clock of its own that keeps what it would send."""
    clock, sent = Clock(), []
    outlet = Outlet(_Silent(), SinkConfig(**config), clock, lambda level, text: None)
    monkeypatch.setattr(outlet, "_enqueue", lambda notice: sent.append(notice.text))
    return outlet, clock, sent


def test_a_flood_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond burst and rate messages are suppressed, each level for itself; one summary says how many they were."""
    outlet, clock, sent = quiet(monkeypatch, rate=6, burst=3)
    for n in range(10):
        outlet.offer(Notice("info", "a", f"n{n}", NOW))
    outlet.offer(Notice("error", "a", "important", NOW))
    assert sent == ["n0", "n1", "n2", "important"]
    clock.advance(10.1)
    assert sent[4:] == ["7 more of level info suppressed in 10 s; the feed has all of them"]
    clock.advance(10.1)
    outlet.offer(Notice("info", "a", "later", NOW))
    assert sent[5:] == ["later"] and outlet.counters["suppressed"] == 7
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("threshold", LEVELS)
def test_thresholds(monkeypatch: pytest.MonkeyPatch, threshold: str) -> None:
    """What is less than the threshold, or of no interest to the service, is not sent."""
    outlet, _, sent = quiet(monkeypatch, threshold=threshold)
    for level in LEVELS:
        outlet.offer(Notice(level, "a", level, NOW))
        outlet.offer(Notice(level, "unwanted", level, NOW))
    assert sent == list(LEVELS[LEVELS.index(threshold) :])


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_the_queue_is_bounded_and_messages_age(service: Service, tell: Any) -> None:
    """While a sink is silent the newest messages are kept; what is older than `keep` is given up and counted."""
    service.answer = lambda body: None
    made = tell(slack(service.url, queue=3, deadline=0.2, keep=0))
    outlet = made.outlets[0]
    for n in range(8):
        made.tell(Notice("info", "a", f"n{n}", NOW))
    assert outlet.waiting == 3 and outlet.counters["lost"] == 5
    await until(lambda: outlet.counters["lost"] == 8 and outlet.waiting == 0, "all are given up")


@pytest.mark.parametrize(
    "config",
    [
        {"slack": {}},
        {"slack": {"webhook_env": "A", "url": "http://x"}},
        {"slack": {"url": "http://x"}},
        {"slack": {"webhook_env": "xoxb-a-token"}},
        {"grafana": {"url": "ftp://x"}},
    ],
)
def test_impossible_configurations_are_refused(config: dict[str, Any]) -> None:
    """A sink that could not work, or a secret where the name of its variable belongs, is an error at the start."""
    with pytest.raises(Exception, match="test: "):
        check(config, NotificationsConfig, "test")
