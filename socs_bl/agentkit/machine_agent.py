"""An agent whose decisions a machine makes: what all of them do with its runner."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from twisted.internet.threads import blockingCallFromThread

from socs_bl.agentkit.agent import Agent
from socs_bl.agentkit.runner import Look, MachineRunner, Perform
from socs_bl.agentkit.session import Session
from socs_bl.core.codec import Codec, Entry
from socs_bl.core.config import check
from socs_bl.core.driver import Driver
from socs_bl.core.effect import Answer
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import Event
from socs_bl.core.explain import Story, Teller, explain
from socs_bl.core.journal import Journal
from socs_bl.core.machine import Machine
from socs_bl.core.retention import Retention
from socs_bl.services.journals import open_journal

MachineT = TypeVar("MachineT", bound=Machine)


def add_journal_argument(group: argparse._ArgumentGroup, *, movable: bool = False) -> None:
    """``--journal-archive`` and what is kept there, for the parser of an agent with a machine.

    Parameters
    ----------
    group : argument group
    movable : bool
        Also ``--journal``: no Redis commands ride in the machine's commits, so they can be in a file.
    """
    if movable:
        group.add_argument(
            "--journal",
            metavar="URL",
            help="where the journal is, such as sqlite:///var/lib/socs_bl.db (default: the server of --redis-url)",
        )
    group.add_argument(
        "--journal-archive",
        metavar="DIR",
        help="directory old journal entries are moved to (default: the journal keeps all)",
    )
    group.add_argument(
        "--journal-keep", metavar="ENTRIES", type=int, help="entries the journal grows by before (20,000)"
    )
    group.add_argument(
        "--archive-days", metavar="DAYS", type=float, help="remove archives that are older (default: none)"
    )
    group.add_argument(
        "--archive-megabytes",
        metavar="MB",
        type=float,
        help="remove the oldest archives beyond so many (default: none)",
    )


def _retention(args: Any) -> Retention:
    given = {"entries": args.journal_keep, "days": args.archive_days, "megabytes": args.archive_megabytes}
    return check({name: value for name, value in given.items() if value is not None}, Retention, "--journal-archive")


class MachineAgent(Agent, Generic[MachineT]):
    """Base of agents with a machine.

    Attributes
    ----------
    runner : MachineRunner or None
        Set by `make_runner`; subclasses set it to None when their process ends.
    fault : str
        Why the machine's shell goes on only degraded; empty while all is well.
    """

    def __init__(self, site_agent: Any, args: Any) -> None:
        super().__init__(site_agent, args)
        self.fault = ""
        self.runner: MachineRunner[MachineT] | None = None
        self.health.add("machine.backlog", lambda: self.runner.backlog if self.runner else 0)

    def open_journal(self, name: str, *, riding: bool = False) -> Journal:
        """This agent's journal: at ``--journal``, else on the server of ``--redis-url``; see `open_journal`."""
        url: str = getattr(self.args, "journal", None) or self.args.redis_url
        return open_journal(url, name, riding=riding)

    def make_runner(
        self, factory: Callable[[], MachineT], journal: Journal, perform: Perform, look: Look
    ) -> MachineRunner[MachineT]:
        """A runner of this agent, not yet started; see `MachineRunner`."""
        self.fault = ""
        self.runner = MachineRunner(
            Driver(factory, Codec(type(factory())), journal),
            perform,
            look,
            self.address,
            reactor=self.reactor,
            on_commit=self.committed,
            on_fault=self._faulted,
            on_recovery=self._recovered,
            archive=Path(self.args.journal_archive) if self.args.journal_archive else None,
            retention=_retention(self.args),
        )
        return self.runner

    def running(self) -> MachineRunner[MachineT]:
        """The runner.

        Raises
        ------
        Refused
            When the process that runs the machine does not run.
        """
        if self.runner is None:
            process = next(name for name, item in self.specifications.items() if item.hardware and item.startup)
            raise Refused(f"nothing decides here at the moment; start '{process}' first")
        return self.runner

    def feed(self, event: Event) -> None:
        """Take an event in, from the reactor's thread; one that cannot be taken in is told to people."""
        if self.runner is None:
            return
        try:
            self.runner.feed(event)
        except (Refused, Retry) as error:
            self.alert("error", f"{event!r:.200} was not taken in: {error}")

    def hand_over(self, event: Event) -> None:
        """Take an event in from another thread, and return when it has been taken in.

        Raises
        ------
        Retry
            When it was not; the caller keeps it.
        """
        blockingCallFromThread(self.reactor, self._take, event)

    def _take(self, event: Event) -> None:
        if self.runner is None:
            raise Retry("nothing decides here at the moment")
        self.runner.feed(event)

    def check_writer(self) -> None:
        """Raise Refused when another process has taken the journal over, or the machine's shell has crashed."""
        if self.runner is not None and self.runner.fenced:
            raise Refused(
                f"{self.fault}; if two agents have this instance-id or journal stop one, then restart this one"
            )

    def feed_from_thread(self, event: Event) -> None:
        """Take an event in, from any thread."""
        self.reactor.callFromThread(self.feed, event)

    async def ask(self, event: Event) -> Entry:
        """Have the machine decide about a person's wish, and wait until the decision is committed.

        Raises
        ------
        Refused
            With the machine's words, when it answers so (`Answer`); nothing was changed then.
        """
        (entry,) = await self.running().submit(event)
        for effect in entry.effects:
            if isinstance(effect, Answer) and effect.refusal:
                raise Refused(effect.refusal)
        return entry

    async def story_of(self, subject: str, teller: Teller[Any] | None = None) -> Story:
        """Why something is as it is, from this agent's journal; see `socs_bl.core.explain.explain`.

        Raises
        ------
        Refused
            When there is no such subject, or nothing runs here.
        Retry, Faulty
            When the journal cannot be read.
        """
        driver = self.running().driver
        return await self.in_thread(explain, driver.factory, driver.journal, subject, teller)

    async def show_story(self, session: Session, subject: str, teller: Teller[Any]) -> str:
        """Put `story_of` a subject into a session's data, with the journal's sequence as ``journal_sequence``.

        Returns
        -------
        str
            How it stands.
        """
        told: dict[str, Any] = msgspec.to_builtins(await self.story_of(subject, teller))
        told["journal_sequence"] = told.pop("sequence")  # the session has a sequence of its own
        session.data = told
        return told["standing"][0] if told["standing"] else ""

    def committed(self, entries: Sequence[Entry]) -> None:
        """Called after every commit; override to show what has changed."""

    def _faulted(self, text: str) -> None:
        self.fault = text
        self.alert("error", text)

    def _recovered(self) -> None:
        self.fault = ""
        self.alert("info", "the journal answers again")
