"""What starting an operation costs: from a client's ``start`` until the operation runs and the client has been told so.

Reference: a bare WAMP call, a procedure that gives back its arguments, registered by a component without any of OCS. The
same router, the same client process and connection, taken in turns. Both servers are processes of their own. Medians.
An operation's own start time is taken inside of it, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import yaml
from report import Figure, arguments, publish

from socs_bl.agentkit import Agent, Session, operation, run
from socs_bl.client import NoAnswer, connect
from socs_bl.services.crossbar_node import CrossbarNode
from socs_bl.services.process import Child

ECHO = "bench-2.echo"  # below the address root, where the router lets agents register
AGENT = "bench-1"
PATIENCE = 60.0
HOLD = 0.02  # seconds; an operation that ends in the moment of its start is none


class Bench(Agent):
    """An agent with an operation that says it runs, and does nothing."""

    @operation("task")
    async def begin(self, session: Session, *, number: int = 0) -> str | None:
        """begin(number=0)

        **Task** - Note when it began.
        """
        session.update(number=number, began=time.monotonic())
        await session.sleep(HOLD)
        return None


def serve_echo(url: str, realm: str, procedure: str) -> None:
    """Be the component with the bare procedure."""
    from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession

    class Echo(ApplicationSession):
        """One procedure."""

        async def onJoin(self, details: object) -> None:
            """Register it."""
            await self.register(lambda *words, **named: [list(words), named], procedure)

    ApplicationRunner(url, realm).run(Echo, auto_reconnect=False)


class Samples:
    """Durations, seconds."""

    def __init__(self) -> None:
        self.bare: list[float] = []
        self.replied: list[float] = []
        self.running: list[float] = []

    def figures(self) -> list[Figure]:
        """Medians against that of the bare call."""
        reference = 1e3 * statistics.median(self.bare)
        rows = []
        for name, times, goal in (
            (
                "start to running, and told so",
                [max(*pair) for pair in zip(self.replied, self.running, strict=True)],
                1.5,
            ),
            ("start to running, in the agent", self.running, None),
            ("start to reply", self.replied, None),
        ):
            ours = 1e3 * statistics.median(times)
            ratio = ours / reference
            rows.append(
                Figure(
                    name, ours, reference, ratio, f"<= {goal}" if goal else "", "ms", ratio <= goal if goal else None
                )
            )
        return rows


async def measure(url: str, realm: str, root: str, count: int) -> Samples:
    """Take `count` pairs, after some that are not counted."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    client, procedure = await connect(url, realm, root), f"{root}.{ECHO}"
    samples = Samples()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            await client.api(AGENT)
            await client.session.call(procedure)
            break
        except Exception as error:  # not yet registered: NoAnswer of ours, ApplicationError of the other
            if time.monotonic() > deadline:
                raise NoAnswer(f"the servers did not come up within {PATIENCE} s: {error}") from error
            await deferLater(reactor, 0.1, lambda: None)
    for number in range(-count // 10, count):
        bare = time.monotonic()
        await client.session.call(procedure, "start", "begin", params={"number": number}, timeout=None)
        bare = time.monotonic() - bare
        called = time.monotonic()
        await client.start(AGENT, "begin", number=number)
        replied = time.monotonic() - called
        session: dict[str, Any] = (await client.request(AGENT, "wait", "begin")).session
        if session["data"]["number"] != number:
            raise RuntimeError(f"session {session['data']} is not that of {number}")
        if number >= 0:
            samples.bare.append(bare)
            samples.replied.append(replied)
            samples.running.append(session["data"]["began"] - called)
    await client.close()
    return samples


def run_all(directory: Path, count: int) -> list[Figure]:
    """Router, servers and client."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed  # a module to mypy
    node = CrossbarNode(directory / "crossbar")
    children: list[Child] = []
    outcome: list[Any] = []
    node.start()
    try:
        site = directory / "default.yaml"
        instances = [{"agent-class": "Bench", "instance-id": AGENT, "arguments": []}]
        hosts = {"localhost": {"crossbar_timeout": 0, "agent-instances": instances}}
        site.write_text(yaml.safe_dump({"hub": node.hub, "hosts": hosts}), encoding="utf-8")
        myself = [sys.executable, __file__]
        at = ["--instance-id", AGENT, "--site-file", str(site), "--site-host", "localhost"]
        children += [Child("agent", [*myself, "agent", *at], directory / "agent.log")]
        children += [
            Child(
                "echo",
                [*myself, "echo", node.ws_url, node.realm, f"{node.address_root}.{ECHO}"],
                directory / "echo.log",
            )
        ]

        async def take() -> None:
            try:
                outcome.append(await measure(node.ws_url, node.realm, node.address_root, count))
            finally:
                reactor.stop()

        taken = Deferred.fromCoroutine(take())
        taken.addErrback(lambda failure: outcome.append(failure))
        reactor.run()
    finally:
        for child in children:
            child.kill()
        node.stop()
    if not outcome or not isinstance(outcome[0], Samples):
        logs = "\n".join(child.log_tail() for child in children)
        raise SystemExit(f"nothing was measured: {outcome}\n{logs}")
    return outcome[0].figures()


def main() -> None:
    """Run the benchmark, or be one of its servers."""
    if sys.argv[1:2] == ["agent"]:
        run(Bench, argparse.ArgumentParser(), sys.argv[2:])
        return
    if sys.argv[1:2] == ["echo"]:
        serve_echo(*sys.argv[2:5])
        return
    options = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as directory:
        publish(run_all(Path(directory), 200 if options.quick else 2000), options.json)


if __name__ == "__main__":
    main()
