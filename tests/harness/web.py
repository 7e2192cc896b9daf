"""A small HTTP server for tests of what posts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


class Service(Resource):
    """An HTTP server that keeps what it gets; `answer(body)` gives status and body, or None for never."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[str, dict[str, Any], str]] = []
        self.open = 0
        self.answer: Callable[[dict[str, Any]], tuple[int, bytes] | None] = lambda body: (200, b'{"ok": true}')
        self.site = Site(self)
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}"

    def render_POST(self, request: Any) -> Any:
        body = json.loads(request.content.read())
        self.got.append((request.path.decode(), body, request.getHeader("authorization") or ""))
        self.open += 1
        request.notifyFinish().addBoth(self._finished)
        answer = self.answer(body)
        if answer is None:
            return NOT_DONE_YET
        request.setResponseCode(answer[0])
        return answer[1]

    def _finished(self, _: object) -> None:
        self.open -= 1


@pytest.fixture(scope="module", autouse=True)
def first_port() -> None:
    """The reactor's first listening port makes it reserve a descriptor for good."""
    pytest_twisted.blockon(Service().port.stopListening())
