"""What agentkit promises to agents: refusals, locks, ends, crashes, sessions."""

from __future__ import annotations

import gc
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import ocs
import pytest
import pytest_twisted
from ocs.ocs_agent import OpSession
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from socs_bl.agentkit import Agent, FeedSchema, Session, SiteAgent, operation
from socs_bl.core.errors import Faulty
from tests.harness.agent_case import AgentCase, begun, end, ended, make_site_agent, pause, run_operation, site_args


class Receiver(Agent):
    """An agent with one of everything."""

    FEEDS = (FeedSchema("receiver", {"level": {"power": float, "lost": int}}),)

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.calls: list[object] = []
        self.cleaned = 0

    @operation("process", privs=2, hardware="receiver")
    async def acquire(self, session: Session, *, interval: float = 0.01, test_mode: bool = False) -> str | None:
        """acquire(interval=0.01, test_mode=False)

        **Process** - Read the level.
        """
        while True:
            session.update(power=await self.in_thread(float, "1.5"))
            if test_mode or not await session.sleep(interval):
                return "Stopped."

    @operation("task", hardware="receiver")
    async def tune(
        self, session: Session, *, frequency: float, mode: Literal["fast", 2] = "fast", steps: int = 3
    ) -> None:
        """tune(frequency=None, mode='fast', steps=3)

        **Task** - Tune.
        """
        self.calls.append((frequency, mode, steps))
        try:
            for done in range(steps):
                session.progress("tuning", done, steps, "steps")
                await session.sleep(0.001)
        finally:
            self.cleaned += 1

    @operation("task", hardware="receiver", lock_timeout=5)
    async def patient(self, session: Session, *, bands: list[int] | None = None) -> str:
        """patient(bands=None)

        **Task** - Wait for the receiver.
        """
        return f"{bands}"

    @operation("task")
    async def fail(self, session: Session, *, how: Literal["crash", "fault"] = "fault") -> None:
        """fail(how='fault')

        **Task** - Fail.
        """
        if how == "crash":
            raise ZeroDivisionError("a bug {with braces}")
        raise Faulty("the receiver does not answer; check its {cable}", part="receiver")


class TestReceiver(AgentCase):
    """The inherited tests on the agent with one of everything."""

    @pytest.fixture
    def capture_log(self) -> Iterator[list[str]]:
        """What is logged meanwhile."""
        lines: list[str] = []

        def observe(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        yield lines
        globalLogPublisher.removeObserver(observe)

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> Receiver:
        return Receiver(site_agent, site_args())

    def parameters(self, name: str) -> dict[str, object] | None:
        return {"tune": {"frequency": 1}, "session_page": None, "fail": None}.get(name, {})

    def state(self, agent: Agent) -> object:
        return list(agent.calls)  # type: ignore[attr-defined]

    @pytest_twisted.ensureDeferred
    async def test_values_arrive_as_annotated(self, agent: Receiver) -> None:
        """An int where a float is meant becomes a float; None means the default."""
        session = await run_operation(agent, "tune", frequency=5, mode=2, steps=None)
        assert session["success"] and agent.calls == [(5.0, 2, 3)]
        assert type(agent.calls[0][0]) is float
        assert session["data"]["progress"] == {"step": "tuning", "done": 2, "total": 3, "unit": "steps",
                                               "eta_s": session["data"]["progress"]["eta_s"]}  # fmt: skip

    @pytest_twisted.ensureDeferred
    async def test_abort_cancels_a_task_where_it_waits(self, agent: Receiver) -> None:
        """An aborted task has failed, saying so, and its clean-up ran once."""
        await begun(agent, "tune", frequency=1.0, steps=10**9)
        end(agent, "tune")
        session = await ended(agent, "tune")
        assert session["success"] is False and "Aborted." in session["messages"][-2][1]
        assert agent.cleaned == 1

    @pytest_twisted.ensureDeferred
    async def test_abort_before_the_first_step(self, agent: Receiver) -> None:
        """An abort that comes while OCS still starts the task ends it without a crash."""
        agent.start_own("tune", frequency=1.0)
        end(agent, "tune")
        session = await ended(agent, "tune")
        assert session["success"] is False and agent.calls == []
        assert not any("CRASH" in text for _, text in session["messages"])

    @pytest_twisted.ensureDeferred
    async def test_failure_reaches_the_client_as_text(self, agent: Receiver) -> None:
        """A failure on purpose is its sentence, no traceback, and does not degrade the agent."""
        session = await run_operation(agent, "fail")
        assert session["success"] is False
        assert "the receiver does not answer" in session["messages"][-2][1]
        assert not agent.health.crashes

    @pytest_twisted.ensureDeferred
    async def test_crash_is_loud(self, agent: Receiver) -> None:
        """A bug fails the session, degrades the monitor, and alerts; a new start clears it."""
        await begun(agent, "monitor", interval=0.1)
        session = await run_operation(agent, "fail", how="crash")
        assert session["success"] is False and "CRASH" in session["messages"][-2][1]
        await pause(0.15)
        monitor = agent.site_agent.sessions["monitor"].encoded()
        assert monitor["degraded"] and "ZeroDivisionError" in monitor["data"]["crashed"]["fail"]
        assert monitor["data"]["alerts"][-1]["level"] == "error"
        assert "TypeError" not in str(session["messages"])
        await run_operation(agent, "fail")
        await pause(0.15)
        assert not agent.site_agent.sessions["monitor"].degraded

    @pytest_twisted.ensureDeferred
    async def test_a_router_that_says_goodbye_ends_nothing(self, agent: Receiver) -> None:
        """An orderly stop of the router is a loss of the router like any other: processes run on."""
        await begun(agent, "acquire")
        await agent.site_agent.onLeave(Namespace(reason="wamp.close.normal"))
        assert agent.site_agent.sessions["acquire"].status == "running"
        await agent.site_agent.end()
        assert agent.site_agent.sessions["acquire"].status == "done"

    def test_logged_texts_need_no_care(self, agent: Receiver, capture_log: list[str]) -> None:
        """Alerts, messages and texts with braces, and fields called text, reach the log as they are."""
        agent.alert("warning", "the {cable} is loose", part="receiver")
        agent.log.error("{0} of {everything}")
        agent.log.info("{text} has {number}", text="the bench", number=2)
        assert capture_log[-3:] == [
            "the {cable} is loose {'part': 'receiver'}", "{0} of {everything}", "the bench has 2",
        ]  # fmt: skip

    @pytest_twisted.ensureDeferred
    async def test_one_operation_at_a_time_on_a_piece_of_hardware(self, agent: Receiver) -> None:
        """While one works, another is refused naming it, or waits for its end if it says so."""
        await begun(agent, "acquire")
        status, text, _ = agent.start_own("tune", frequency=1.0)
        assert status == ocs.ERROR and "receiver is held by acquire since" in text
        await begun(agent, "patient")
        assert agent.site_agent.sessions["patient"].status == "running" and agent.lock("receiver").waiting == 1
        end(agent, "acquire")
        assert (await ended(agent, "patient"))["success"]
        assert agent.calls == []

    @pytest_twisted.ensureDeferred
    async def test_ended_runs_are_freed(self, agent: Receiver) -> None:
        """A task that runs often does not fill the memory with its sessions, as OCS's own would."""
        for _ in range(20):
            await run_operation(agent, "tune", frequency=1.0)
        gc.collect()
        alive = [item for item in gc.get_objects() if isinstance(item, OpSession) and item.app is agent.site_agent]
        assert len(alive) <= 2

    @pytest_twisted.ensureDeferred
    async def test_large_data_is_summed_up_and_paged(self, agent: Receiver) -> None:
        """Ten thousand instances stay under 100 kB in the session, and page by page nothing is missing."""
        await begun(agent, "acquire")
        instances = {f"blpn{n}/0": {"state": "recording", "pktidx": n} for n in range(10_000)}
        session = agent.session("acquire")
        session.update(instances=instances)
        self.check_session(agent, "acquire")
        summary = agent.site_agent.sessions["acquire"].encoded()["data"]["instances"]
        assert summary["truncated"] and summary["length"] == 10_000
        found: dict[str, object] = {}
        page, pages = 0, 1
        while page < pages:
            reply = await run_operation(agent, "session_page", op="acquire", key="instances", page=page)
            found.update(reply["data"]["value"])
            assert len(json.dumps(reply)) < 100_000
            page, pages = page + 1, reply["data"]["pages"]
        assert found == instances
        reply = await run_operation(agent, "session_page", op="acquire", key="instances", page=pages)
        assert reply["success"] is False

    @pytest_twisted.ensureDeferred
    async def test_view_shows_and_does_nothing_else(self, agent: Receiver) -> None:
        """The call for viewers answers status and API; start, stop and abort are refused."""
        view = agent.site_agent._view
        assert view("get_api")["agent_class"] == "TestReceiver"
        assert view("status", "tune")[0] == ocs.OK
        for action in ("start", "stop", "abort", "wait", "anything"):
            assert view(action, "tune", {"frequency": 1.0})[0] == ocs.ERROR
        await pause()
        assert agent.calls == []


@pytest_twisted.ensureDeferred
async def test_access_levels_apply_where_a_policy_is_set() -> None:
    """Without a policy everybody may start everything; with one an operation of level 2 needs its password."""
    free = Receiver(make_site_agent(), site_args())
    assert free.site_agent.processes["acquire"].min_privs == 1
    kept = Receiver(make_site_agent(access_policy="override:two,three"), site_args())
    assert kept.site_agent.start("acquire", {})[0] == ocs.ERROR
    assert kept.site_agent.start("acquire", {"test_mode": True}, password="two")[0] == ocs.OK
    await ended(kept, "acquire")
    for agent in (free, kept):
        agent.close()
