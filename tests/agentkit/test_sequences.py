"""Any order of requests to an agent has a defined answer, and leaves it able to work."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import ocs
import pytest_twisted

from socs_bl.agentkit import Agent
from tests.agentkit.example_agent import Example
from tests.harness.agent_case import ended, make_site_agent, pause, run_operation, site_args

SEQUENCES, LENGTH = 25, 30
REFUSED = (ocs.ERROR, ocs.TIMEOUT)


def requests(agent: Agent, dice: random.Random) -> dict[str, Callable[[], Any]]:
    """What a client can ask for, by name."""
    site = agent.site_agent
    name = dice.choice(["count", "work", "shout", "nothing"])
    good = {"count": {"interval": 0.001}, "work": {"seconds": 0.005, "steps": dice.randint(1, 5)}}.get(name, {})
    bad = dice.choice(
        [{"interval": "soon"}, {"seconds": True}, {"unknown": 1}, {"steps": float("nan")}, ["list"], "text"]
    )
    return {
        "start": lambda: site.start(name, good),
        "start twice": lambda: (site.start(name, good), site.start(name, good))[1],
        "start badly": lambda: site.start(name, bad),
        "stop": lambda: site.stop(name),
        "abort": lambda: site.abort(name),
        "status": lambda: site.status(name),
        "view": lambda: site.status("work"),
    }


def check(reply: Any, name: str) -> None:
    """A code, a text, and a session or nothing: whatever was asked for in whatever order."""
    status, text, session = reply
    assert status in (ocs.OK, *REFUSED), f"{name}: {reply}"
    assert isinstance(text, str) and text
    if name.endswith(("twice", "badly")):
        assert status in REFUSED, f"{name}: {reply}"
    assert session is None or session == {} or session["status"] in ("starting", "running", "stopping", "done"), name


@pytest_twisted.ensureDeferred
async def test_d03_05_any_sequence_of_requests() -> None:
    """Start twice, stop before a start, abort while starting, nonsense as parameters: answered, and a task works after it."""
    for seed in range(SEQUENCES):
        dice = random.Random(seed)
        site_agent = make_site_agent("Example")
        agent = Example(site_agent, Namespace(**{**vars(site_args()), "peer": "nobody"}))
        try:
            for _ in range(LENGTH):
                asked = requests(agent, dice)
                name = dice.choice(sorted(asked))
                check(asked[name](), f"seed {seed}: {name}")
                if dice.random() < 0.5:
                    await pause(dice.choice([0.0, 0.002]))
            for name, end in (("count", site_agent.stop), ("work", site_agent.abort)):
                end(name)
                if agent.session(name) is not None:
                    await ended(agent, name)
            session = await run_operation(agent, "work", seconds=0.0, steps=1)
            assert session["success"] and session["data"]["result"] == 1, f"seed {seed}"
        finally:
            await site_agent.end()
            agent.close()
