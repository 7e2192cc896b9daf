"""The clients without a router: what a follower makes of messages, and errors that say who did not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ocs
import pytest
import yaml

from socs_bl.client import Follower, MatchedClient, NoAnswer, matched
from socs_bl.client import errors as client_errors
from socs_bl.core.errors import Lost, Refused, Retry
from tests.agentkit.fakes import FakeAgent

Answer = Callable[[str, list[Any], dict[str, Any]], Any]


def test_a_restarted_agent_is_not_taken_for_the_end_of_a_run() -> None:
    """When the run followed has vanished, the follower says that its end is unknown."""
    agent = FakeAgent()
    agent.start()
    follower = Follower("agent-1", "work")
    follower.read(agent.runs["work"].encoded())
    with pytest.raises(Lost, match="agent-1 was restarted while work ran"):
        follower.read({})
    agent.start()
    with pytest.raises(Lost):
        follower.read(agent.runs["work"].encoded())
    agent.stream.close()


def test_follow_for_ever_goes_on_with_the_next_run() -> None:
    """With ``forever`` an end is a state like others."""
    agent = FakeAgent()
    watcher = agent.subscriber()
    watcher.follower.forever = True
    for _ in range(3):
        session = agent.start()
        agent.clock.advance(2.0)
        watcher.turn()
        agent.end(session)
        watcher.turn()
    assert [(state["session_id"], state["status"]) for state in watcher.states if state["status"] == "done"] == [
        (0, "done"), (1, "done"), (2, "done"),
    ]  # fmt: skip
    assert not watcher.follower.finished


def test_repeated_and_old_messages_change_nothing() -> None:
    """What a router delivers twice or late is dropped."""
    agent = FakeAgent()
    session = agent.start()
    for number in range(4):
        session.update(number=number)
        agent.clock.advance(2.0)
    agent.end(session)
    follower = Follower("agent-1", "work")
    for message in agent.router.sent:
        follower.hear(message)
    final = follower.take()
    assert final is not None and final["data"]["number"] == 3
    for message in agent.router.sent:
        follower.hear(message)
    assert follower.take() is None and not follower.gap


def test_sessions_of_other_agents_are_followed_by_comparison() -> None:
    """OCS's own agents have no sequence in their data; a change is still a change."""
    agent = FakeAgent()
    agent.start()
    encoded = {**agent.runs["work"].encoded(), "data": {"value": 1}}
    follower = Follower("registry", "work")
    follower.read(encoded)
    assert follower.take() is not None
    follower.read(dict(encoded))
    assert follower.take() is None
    follower.read({**encoded, "data": {"value": 2}})
    assert follower.take() is not None
    agent.stream.close()


class Bridge:
    """An HTTP server that answers as the router's ``/call`` does, or worse."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []
        self.answer: Answer = lambda procedure, args, kwargs: API
        bridge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                bridge.calls.append((body["procedure"], body["args"], body["kwargs"]))
                reply = bridge.answer(*bridge.calls[-1])
                if isinstance(reply, int):
                    self.send_error(reply)
                    return
                text = json.dumps(reply if "error" in reply else {"args": [reply["value"]]}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients give up on purpose
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


API: dict[str, Any] = {
    "value": {
        "agent_class": "Example", "access_control": {"version": 1},
        "tasks": [["work", {}, {"docstring": "work()"}]], "processes": [["count-up", {}, {"docstring": "count()"}]],
    }
}  # fmt: skip


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    """A bridge, and a site file that points to it."""
    made = Bridge()
    write_site(tmp_path, f"http://127.0.0.1:{made.server.server_port}/call")
    yield made
    made.close()


def write_site(directory: Path, wamp_http: str) -> None:
    hub = {"wamp_server": "ws://127.0.0.1:1/ws", "wamp_http": wamp_http, "wamp_realm": "r", "address_root": "lab"}
    (directory / "site.yaml").write_text(yaml.safe_dump({"hub": hub, "hosts": {}}))


def client(directory: Path, **options: Any) -> MatchedClient:
    return MatchedClient("example-1", args=["--site-file", str(directory / "site.yaml")], **options)


def test_requests_are_those_of_the_operation_api(bridge: Bridge, tmp_path: Path) -> None:
    """Names become attributes, parameters arrive by name, the password goes along where there is one."""
    made = client(tmp_path, privs="secret")
    bridge.answer = lambda procedure, args, kwargs: {"value": [0, "ok", {}]}
    assert made.work.start(seconds=2).status == ocs.OK
    assert bridge.calls[-1] == ("lab.example-1.ops", ["start", "work", {"seconds": 2}], {"password": "secret"})
    made.count_up.stop()
    assert bridge.calls[-1] == ("lab.example-1.ops", ["stop", "count-up", {}], {"password": "secret"})
    assert made.work.__doc__ == "work()"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"error": "wamp.error.no_such_procedure", "args": []}, "no agent has registered under that name"),
        ({"error": "wamp.error.canceled", "args": []}, "went away while it was asked"),
        (503, "answers 503; is it the /call address"),
    ],
)
def test_errors_name_the_agent_and_what_to_do(bridge: Bridge, tmp_path: Path, answer: Any, said: str) -> None:
    """Who did not answer, and the next thing to look at."""
    bridge.answer = lambda *_: answer
    with pytest.raises(NoAnswer, match=f"agent 'example-1' did not answer: .*{said}"):
        client(tmp_path)


def test_a_hanging_agent_is_given_up(bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that does not come in time is an error with the agent's name, not a client that hangs."""
    made = client(tmp_path)
    released = threading.Event()
    bridge.answer = lambda *_: {"value": released.wait(20)}
    monkeypatch.setattr(matched, "DEADLINE", 0.2)
    with pytest.raises(NoAnswer, match="agent 'example-1' did not answer: no reply in time"):
        made.work.status()
    released.set()


def test_no_router_and_no_site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both say what to set right."""
    write_site(tmp_path, "http://127.0.0.1:1/call")
    with pytest.raises(NoAnswer, match="no router at http://127.0.0.1:1/call; start it"):
        client(tmp_path)
    write_site(tmp_path, "ws://127.0.0.1:1/ws")
    with pytest.raises(Refused, match="wamp_http in the site file is 'ws://"):
        client(tmp_path)
    monkeypatch.delenv("OCS_CONFIG_DIR", raising=False)
    with pytest.raises(Refused, match="set OCS_CONFIG_DIR"):
        MatchedClient("example-1")


def test_a_task_whose_agent_restarts_is_an_error_not_a_success(bridge: Bridge, tmp_path: Path) -> None:
    """Calling a task never returns the session of another run."""
    made = client(tmp_path)
    old = {"session_id": 5, "start_time": 1.0, "status": "running", "data": {}}

    def answer(procedure: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return {"value": [0, "Started", old] if args[0] == "start" else [0, "Idle.", {}]}

    bridge.answer = answer
    reply = made.work(seconds=1)
    assert reply.status == ocs.ERROR and "example-1 was restarted while work ran" in reply.msg


def test_waiting_survives_silence_up_to_its_patience(
    bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait goes on when the router comes back, and gives up when it stays away."""
    made = client(tmp_path)
    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(matched, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    answers: list[Any] = [502, 502, {"value": [1, "running", {}]}, {"value": [0, "done", {"status": "done"}]}]
    bridge.answer = lambda *_: answers.pop(0)
    assert made.wait("work").msg == "done"
    assert len(pauses) == 2
    bridge.answer = lambda *_: 502
    with pytest.raises(NoAnswer):
        made.wait("work", patience=5.0)
    assert now[0] < 10.0


def test_no_answer_is_what_both_worlds_catch() -> None:
    """It is a Retry of ours and OCS's ControlClientError, with the arguments scripts look at."""
    error = client_errors.explain("a", client_errors.NO_PROCEDURE, "here")
    assert isinstance(error, Retry) and isinstance(error, RuntimeError)
    assert error.args[0][4] == "wamp.error.no_such_procedure" and str(error).startswith("agent 'a'")


def test_pages_are_joined(bridge: Bridge, tmp_path: Path) -> None:
    """A value that is only summed up is read whole; a page of somebody else's reading is an error."""
    made = client(tmp_path)
    pages = [["a", "b"], ["c"]]

    def answer(procedure: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if args[0] == "start":
            answer.page = args[2]["page"]  # type: ignore[attr-defined]
        number = answer.page  # type: ignore[attr-defined]
        data = {"op": "work", "key": "names", "page": number, "pages": 2, "value": pages[number], "of_sequence": 3}
        return {"value": [0, "ok", {"success": True, "status": "done", "data": {**data, **wrong}}]}

    wrong: dict[str, Any] = {}
    bridge.answer = answer
    assert made.page_through("work", "names") == ["a", "b", "c"]
    wrong["key"] = "other"
    with pytest.raises(Retry, match="somebody else"):
        made.page_through("work", "names")
    changes = iter([3, 4])
    wrong = {}

    def changing(procedure: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if args[0] == "start":
            wrong["of_sequence"] = next(changes)
        return answer(procedure, args, kwargs)

    bridge.answer = changing
    with pytest.raises(Retry, match="changed while it was read"):
        made.page_through("work", "names")
