"""An agent for live tests: counts, works, and breaks when asked to."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence

from socs_bl.agentkit import Agent, Session, SiteAgent, operation, run
from socs_bl.core.errors import Faulty


class Example(Agent):
    """Counts as fast as it is told to."""

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.heard: list[object] = []
        self.listen_to(f"{args.address_root}.{args.peer}.feeds.alerts", self.heard.append)

    @operation("process", startup=True)
    async def count(self, session: Session, *, interval: float = 0.01) -> str | None:
        """count(interval=0.01)

        **Process** - Count.
        """
        number = 0
        while await session.sleep(interval):
            number += 1
            session.update(number=number, heard=len(self.heard))
        return f"counted to {number}"

    @operation("task", hardware="bench")
    async def work(self, session: Session, *, seconds: float = 1.0, steps: int = 10, fail: bool = False) -> str | None:
        """work(seconds=1.0, steps=10, fail=False)

        **Task** - Work for a while.
        """
        for done in range(steps):
            session.progress("working", done, steps, "steps")
            if not await session.sleep(seconds / steps):
                return "gave up"
        if fail:
            raise Faulty("the bench is broken; mend it", part="bench")
        session.update(result=steps)
        return "worked"

    @operation("task")
    async def shout(self, session: Session, *, text: str = "help") -> None:
        """shout(text='help')

        **Task** - Tell people.
        """
        self.alert("info", text)


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of this agent."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument_group("Agent Options").add_argument("--peer", default="nobody")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(Example, add_agent_args(), args)


if __name__ == "__main__":
    main()
