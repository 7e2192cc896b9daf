"""agentkit and the clients on a real router, with agents in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ocs
import pytest
import pytest_twisted
from ocs.client_http import ControlClientError
from twisted.internet.defer import Deferred

from socs_bl.client import AsyncClient, MatchedClient, NoAnswer, connect, matched
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.process import Child
from tests.harness.agent_case import pause
from tests.harness.live import REPOSITORY, wait_until

pytestmark = pytest.mark.live
EXAMPLE = Path(__file__).with_name("example_agent.py")


class Bench:
    """Example agents on the session's router."""

    def __init__(self, site: Path, router: CrossbarNode) -> None:
        self.site = site
        self.router = router
        self.children: list[Child] = []

    def start(self, instance_id: str, *arguments: str, ready: bool = True) -> Child:
        argv = [sys.executable, str(EXAMPLE), "--instance-id", instance_id, "--site-file", str(self.site)]
        argv += ["--site-host", "localhost", *arguments]
        log = self.site.parent / f"{instance_id}-{len(self.children)}.log"
        child = Child(instance_id, argv, log, cwd=REPOSITORY, env={"PYTHONPATH": str(REPOSITORY)})
        self.children.append(child)
        if ready:
            child.wait_ready(lambda: self.answers(instance_id), 60.0)
        return child

    def answers(self, instance_id: str) -> bool:
        try:
            return bool(self.client(instance_id))
        except NoAnswer:
            return False

    def client(self, instance_id: str) -> MatchedClient:
        return MatchedClient(instance_id, args=["--site-file", str(self.site), "--site-host", "localhost"])

    async def connect(self) -> AsyncClient:
        return await connect(self.router.ws_url, self.router.realm, self.router.address_root)


@pytest.fixture
def bench(router: CrossbarNode, make_site: Callable[..., Path]) -> Iterator[Bench]:
    """Starts example agents; they are killed after the test."""
    names = ["example-1", "example-2"]
    made = Bench(make_site([{"agent-class": "Example", "instance-id": name} for name in names]), router)
    yield made
    for child in made.children:
        child.kill()


def test_scripts_written_for_matched_client_run(bench: Bench) -> None:
    """Tasks, processes, refusals, watching and errors work as scripts know them."""
    bench.start("example-1")
    client = bench.client("example-1")
    assert client.count.status().session["status"] == "running"
    reply = client.work(seconds=0.2)
    assert reply.status == ocs.OK and reply.session["success"] and reply.session["data"]["result"] == 10
    reply = client.work.start(seconds="long")
    assert reply.status == ocs.ERROR and "seconds" in reply.msg
    assert client.work.start(seconds=30).status == ocs.OK
    assert client.work.wait(timeout=0.1).status == ocs.TIMEOUT
    assert client.work.abort().status == ocs.OK
    assert client.work.wait().session["success"] is False
    client.work.start(seconds=0.5, fail=True)
    seen = list(client.watch("work", interval=0.05))
    assert seen[-1]["status"] == "done" and "the bench is broken" in str(seen[-1]["messages"])
    steps = [session["data"]["progress"]["done"] for session in seen if "progress" in session["data"]]
    assert steps == sorted(steps) and steps[-1] == 9
    client.count.stop()
    assert client.count.wait().session["success"]
    with pytest.raises(AttributeError, match="it has .*work"):
        client.no_such_operation.start()


def test_missing_agent_is_named(bench: Bench) -> None:
    """A client of an agent that does not run says which one, and is the error old scripts catch."""
    with pytest.raises(NoAnswer, match="agent 'example-2' did not answer: no agent has registered") as caught:
        bench.client("example-2")
    assert isinstance(caught.value, RuntimeError) and caught.value.args[0][4] == "wamp.error.no_such_procedure"


def test_a_second_agent_with_the_same_name_gives_up(bench: Bench) -> None:
    """The first one keeps its name; the second ends with a sentence that says who has it."""
    first = bench.start("example-1")
    second = bench.start("example-1", ready=False)
    wait_until(lambda: not second.running(), what="end of the second agent")
    assert f"already served by process {first.pid}" in second.log.read_text()
    assert bench.client("example-1").work(seconds=0.01).session["success"]


def test_it_ends_quickly(bench: Bench) -> None:
    """SIGTERM ends the operations and the process with status 0."""
    child = bench.start("example-1")
    began = time.monotonic()
    assert child.stop(grace=30.0) == 0
    print(f"ended after {time.monotonic() - began:.2f} s")


async def follow(
    client: AsyncClient, instance_id: str, op: str, pace: float = 0.0, **options: Any
) -> list[dict[str, Any]]:
    """Everything a watcher sees, taking `pace` seconds for each."""
    seen = []
    async with client.watch(instance_id, op, **options) as states:
        async for session in states:
            seen.append(session)
            if pace:
                await pause(pace)
    return seen


@pytest_twisted.ensureDeferred
async def test_fast_slow_and_late_subscribers_see_the_same_end(bench: Bench) -> None:
    """Whoever watches sees the last state; a slow one skips states, none sees them out of order."""
    bench.start("example-1")
    client = await bench.connect()
    await client.start("example-1", "work", seconds=2.0, steps=20)
    fast = Deferred.fromCoroutine(follow(client, "example-1", "work"))
    slow = Deferred.fromCoroutine(follow(client, "example-1", "work", pace=0.7))
    results = [await fast, await slow]
    results.append(await follow(client, "example-1", "work"))
    for seen in results:
        assert seen[-1]["status"] == "done" and seen[-1]["success"]
        assert seen[-1]["data"] == results[0][-1]["data"] and seen[-1]["data"]["result"] == 20
        numbers = [session["data"]["sequence"] for session in seen]
        assert numbers == sorted(numbers)
    assert len(results[0]) > len(results[1]) > len(results[2]) == 1
    assert len(results[0]) >= 10, "a lease makes it about ten a second"
    await client.close()


@pytest.mark.may_leave("processes", "descriptors")  # the session's router, started again
@pytest_twisted.ensureDeferred
async def test_agents_and_watchers_survive_a_killed_router(bench: Bench) -> None:
    """After kill -9 of the router agents run on, come back under their names, and every last state arrives."""
    bench.start("example-1")
    bench.start("example-2", "--peer", "example-1")
    client = await bench.connect()
    before = await client.status("example-1", "count")
    await client.start("example-1", "work", seconds=1.0, fail=True)
    watchers = [Deferred.fromCoroutine(follow(client, "example-1", "work"))]
    bench.router.kill()
    pids = [child.pid for child in bench.children]
    await pause(2.0)
    bench.router.start()
    seen = await watchers[0]
    assert seen[-1]["status"] == "done" and seen[-1]["success"] is False
    assert seen[-1]["data"]["progress"]["done"] == 9
    for name in ("example-1", "example-2"):
        await until_answers(client, name)
    after = await client.status("example-1", "count")
    assert after.session["status"] == "running"
    assert after.session["start_time"] == before.session["start_time"]
    assert after.session["data"]["number"] > before.session["data"]["number"] + 200
    await client.run("example-1", "shout")
    async with client.watch("example-2", "count") as states:
        async for session in states:
            if session["data"].get("heard"):
                break
    assert [child.pid for child in bench.children if child.running()] == pids
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_viewer_sees_everything_and_moves_nothing(bench: Bench) -> None:
    """The router's viewer role may call ``.view`` and listen; operations are out of its reach."""
    bench.start("example-1")
    client = await connect(bench.router.view_url, bench.router.realm, bench.router.address_root)
    assert (await client.status("example-1", "count")).session["status"] == "running"
    assert "work" in str((await client.api("example-1"))["tasks"])
    with pytest.raises(ControlClientError, match="example-1"):
        await client.start("example-1", "work")
    reply = await client.call("example-1", "view", "start", "work")
    assert reply[0] == ocs.ERROR
    assert not (await client.status("example-1", "work")).session
    await client.close()


def test_a_dead_registration_is_taken_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of an agent that no longer answers does not keep its successor out."""
    frozen = bench.start("example-1")
    os.kill(frozen.pid, signal.SIGSTOP)
    monkeypatch.setattr(matched, "DEADLINE", 1.0)
    successor = bench.start("example-1", ready=False)

    def served_by_successor() -> bool:
        try:
            return bool(bench.client("example-1")._api["instance_pid"] == successor.pid)
        except NoAnswer:
            return False

    wait_until(served_by_successor, timeout=60, what="take-over by the successor")
    assert bench.client("example-1").work(seconds=0.01).session["success"]


async def until_answers(client: AsyncClient, instance_id: str) -> None:
    """Wait until an agent has registered again."""
    for _ in range(200):
        try:
            await client.api(instance_id)
        except NoAnswer:
            await pause(0.1)
        else:
            return
    raise AssertionError(f"{instance_id} did not come back")
