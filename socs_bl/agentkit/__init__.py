'''The shell all agents share. The only package that knows how OCS works inside.

An agent is a class; an operation is an ``async def`` method whose annotations are its parameters::

    import argparse
    from argparse import Namespace
    from collections.abc import Sequence

    from socs_bl.agentkit import Agent, FeedSchema, Session, SiteAgent, operation, run
    from socs_bl.core.errors import Faulty


    class Receiver(Agent):
        """Reads a receiver."""

        FEEDS = (FeedSchema("receiver", {"level": {"power": float, "lost": int}}),)

        def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
            super().__init__(site_agent, args)
            self.lost = 0
            self.health.add("receiver.lost", lambda: self.lost)

        @operation("process", privs=2, startup=True, hardware="receiver")
        async def acquire(self, session: Session, *, interval: float = 1.0, test_mode: bool = False) -> str | None:
            """acquire(interval=1.0, test_mode=False)

            **Process** - Read the level until stopped.
            """
            while True:
                power = await self.in_thread(read_level)          # blocking calls in bounded threads
                session.update(power=power)                       # session.data and the feed `operations`
                self.feeds["receiver"].publish("level", {"power": power, "lost": self.lost})
                if test_mode or not await session.sleep(interval):  # False once a stop is requested
                    return "Stopped."

        @operation("task", privs=2, hardware="receiver")
        async def tune(self, session: Session, *, frequency: float, mode: Literal["fast", "exact"] = "fast") -> None:
            """tune(frequency=None, mode='fast')

            **Task** - Tune the receiver.
            """
            for done in range(10):
                session.progress("tuning", done, 10, "steps")
                if not await session.sleep(0.1):
                    return None
            if self.lost:
                raise Faulty("the receiver does not answer; check its cable", part="receiver")


    def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
        parser = parser or argparse.ArgumentParser()
        parser.add_argument_group("Agent Options").add_argument("--port", type=int, default=7000)
        return parser


    def main(args: Sequence[str] | None = None) -> None:
        run(Receiver, add_agent_args(), args)

What comes with it: parameters checked before anything changes; a held lock refuses, naming its holder and since when;
an abort cancels a task where it waits (CancelledError; use try/finally), a stop makes ``session.sleep`` and
``session.stopping`` true and cancels after ``grace`` seconds; a crash fails the session, degrades the agent and is told
to people (`Agent.alert`). Every agent has the process ``monitor``, the task ``session_page``, the feeds ``operations``,
``alerts`` and ``health``, and the calls ``.view`` and ``.watch``.
'''

from socs_bl.agentkit.agent import Agent
from socs_bl.agentkit.feeds import FeedSchema, NumericFeed
from socs_bl.agentkit.lock import HardwareLock
from socs_bl.agentkit.machine_agent import MachineAgent, add_journal_argument
from socs_bl.agentkit.operation import Specification, operation
from socs_bl.agentkit.run import run
from socs_bl.agentkit.session import Session, Stopping
from socs_bl.agentkit.site_agent import SiteAgent

__all__ = [
    "Agent",
    "FeedSchema",
    "HardwareLock",
    "MachineAgent",
    "NumericFeed",
    "Session",
    "SiteAgent",
    "Specification",
    "Stopping",
    "add_journal_argument",
    "operation",
    "run",
]
