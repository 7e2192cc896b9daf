"""BDF publisher: finishes the binary files that nodes write, publishes them and says so."""

from __future__ import annotations

import argparse
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.bdf import view
from socs_bl.bdf.config import PublisherConfig
from socs_bl.bdf.effects import Announcer, Performer, free_bytes, make_directories
from socs_bl.bdf.lookout import Lookout
from socs_bl.bdf.machine import PublisherMachine
from socs_bl.bdf.model import DiscardNow, Looked, PublishNow, Resend, Settings, Sighting, Tell
from socs_bl.bdf.story import PublisherTeller
from socs_bl.bdf.wire import parse_name
from socs_bl.core.clock import SystemClock
from socs_bl.core.config import from_arguments
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import Event
from socs_bl.services.redis_url import add_redis_arguments

JOURNAL = "socs_bl:bdf_publisher:"
DIRECTORY_VARIABLE = "WCBE_BDFDIR"
STEPS = "steps"  # the lock under which files are looked at and changed


class BDFPublisher(MachineAgent[PublisherMachine]):
    """Publishes what lies finished in the creation directory.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "bdf_publisher",
            {
                "files": {
                    "waiting": int, "faulty": int, "published": int, "integrations": int, "published_bytes": int,
                    "discarded": int, "disk_free": int,
                }
            },
        ),
    )  # fmt: skip

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.config = from_arguments(args, PublisherConfig)
        self.clock = SystemClock()
        self.lookout = Lookout(self.config)
        self.performer: Performer | None = None

    @operation("process", privs=2, startup=True, hardware="directory")
    async def publish(self, session: Session, *, test_mode: bool = False) -> str | None:
        """publish(test_mode=False)

        **Process** - Watch the creation directory, finish, publish and announce what is complete; starts with the agent.
        After a restart it goes on from what lies in the directories.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The process is degraded while a file cannot be published, the directories cannot be read, or the journal
            does not answer. 'files' holds what is not done; their 'stage' is waiting, faulty (tried again by itself),
            damaged (waits for people) or the step under way. 'latest' holds the last files that were published, the
            newest first. The session data are::

                >>> response.session['data']
                {"bdfdir": "/data/bdf", "private": "/data/bdf/.private",
                 "files": {"uid____evla_bdf_1795233600123":
                               {"stage": "waiting", "nodes": {"cbe-01": 60}, "missing": ["cbe-02"],
                                "stop": 1795233660.0, "published": "", "aborted": "", "fault": ""}},
                 "published": 12, "announced": 12, "integrations": 720, "bytes": 8568000000, "discarded": 0,
                 "latest": [{"name": "uid____evla_bdf_1795233540456", "integrations": 60, "bytes": 714000000,
                             "at": 1795233602.5}],
                 "disk_free": 512000000000, "fault": "", "timestamp": 1795233610.0, "sequence": 12}
        """
        config = self.config
        announcer = Announcer(config.group, config.port, config.interface, config.hops)
        self.performer = Performer(config, self.lookout, announcer.send)
        runner = self.make_runner(
            PublisherMachine, self.open_journal(JOURNAL + self.instance_id), self._carry_out, self._look
        )
        try:
            await runner.start()
            while True:
                trouble = await self._watch()
                self._show(session, trouble, await self.in_thread(free_bytes, config.bdfdir))
                self.check_writer()
                if test_mode or not await session.sleep(config.poll_seconds):
                    return "Stopped."
        finally:
            self.runner = self.performer = None
            await runner.stop()
            announcer.close()

    @operation("task", privs=2)
    async def publish_now(self, session: Session, *, name: str) -> str | None:
        """publish_now(name=None)

        **Task** - Finish and publish a file without waiting for its nodes, or try a faulty one again now. What a node
        writes from then on is refused.

        Parameters:
            name (str): As ``list_files`` shows it.

        Notes:
            There are no session data.
        """
        await self.ask(PublishNow(name=parse_name(name)))
        return f"{name} is published without waiting for anybody."

    @operation("task", privs=3)
    async def discard(self, session: Session, *, name: str) -> str | None:
        """discard(name=None)

        **Task** - Delete a file that is not published, with its scan and markers. There is no other copy.

        Parameters:
            name (str): As ``list_files`` shows it.

        Notes:
            There are no session data.
        """
        await self.ask(DiscardNow(name=parse_name(name)))
        return f"{name} is being deleted."

    @operation("task", privs=2)
    async def resend(self, session: Session, *, name: str) -> str | None:
        """resend(name=None)

        **Task** - Make the SDM of a published file anew and send its BdfInfo again, under the same id.

        Parameters:
            name (str): Its name in the publication directory.

        Notes:
            There are no session data.
        """
        if self.performer is None:
            raise Refused("resend: nothing is published at the moment; start 'publish' first")
        await self.in_thread(self.performer.side_file, parse_name(name))
        await self.ask(Resend(name=name))
        return f"{name} is announced again."

    @operation("task", privs=1)
    async def list_files(self, session: Session) -> str | None:
        """list_files()

        **Task** - List the files that are not published yet, and why not.

        Notes:
            The session data are::

                >>> response.session['data']
                {"files": [{"name": "uid____evla_bdf_1795233600123", "stage": "waiting", "nodes": {"cbe-01": 60},
                            "missing": ["cbe-02"], "stop": 1795233660.0, "published": "", "aborted": "", "fault": ""}],
                 "sequence": 1}
        """
        files = view.list_files(self.running().machine)
        session.data = {"files": files}
        return f"{len(files)} files are not published yet."

    @operation("task", privs=1)
    async def explain(self, session: Session, *, name: str) -> str | None:
        """explain(name=None)

        **Task** - Say why a file is where it is, from the journal.

        Parameters:
            name (str): Name of a file, or the id of an effect.

        Notes:
            The same as text: ``socs-bl explain``. The session data are::

                >>> response.session['data']
                {"subject": "uid____evla_bdf_1795233600123", "standing": ["waiting: a private file, a scan"],
                 "chapters": [{"sequence": 31, "time": 1795233602.0, "changes": ["uid____evla_bdf_1795233600123: ..."],
                               "said": [], "chain": [{"sequence": 31, "time": 1795233602.0, "text": "it was seen: ..."}]}],
                 "journal_sequence": 40, "first": 1, "unlike": 0, "sequence": 1}
        """
        return await self.show_story(session, name, PublisherTeller())

    # -- how it works ---------------------------------------------------------------------------------------------

    @property
    def instance_id(self) -> str:
        """The agent's own name."""
        return self.address.rpartition(".")[2]

    async def _look(self) -> Mapping[str, Any]:
        """Settings and everything that lies in the directories."""
        config = self.config
        await self.in_thread(make_directories, config)
        settings = Settings(
            grace_seconds=config.grace_seconds,
            grace_integrations=config.grace_integrations,
            abandoned_seconds=config.abandoned_seconds,
        )
        sightings = await self._seen(self.lookout.all)
        return {"settings": msgspec.to_builtins(settings), "sightings": msgspec.to_builtins(sightings)}

    async def _watch(self) -> str:
        """Feed what has changed; why that is not possible, or nothing."""
        if self.lock(STEPS).holding is not None:
            return ""  # a step is under way; it says itself what it leaves behind
        try:
            changed = await self._seen(self.lookout.look)
        except Retry as error:
            return str(error)
        if changed:
            self.feed(Looked(sightings=tuple(changed)))
        return ""

    async def _seen(self, look: Any) -> list[Sighting]:
        async with self.lock(STEPS).held("look", -1):
            try:
                sightings: list[Sighting] = await self.in_thread(look)
            except OSError as error:
                raise Retry(f"{error.filename}: {error.strerror}; nothing is published until it is back") from error
            return sightings

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        """One step at a time, and none during a look, so that what was seen is never older than what was done."""
        if isinstance(effect, Tell):
            self.alert(effect.level, effect.text, file=effect.file)
            return []
        if self.performer is None:
            raise Retry("the publisher is stopping; it goes on when it is back")
        async with self.lock(STEPS).held(type(effect).__name__, -1):
            return await self.in_thread(self.performer.perform, effect)

    def _show(self, session: Session, trouble: str, free: int) -> None:
        """Session data and feed."""
        data = view.overview(self.running().machine)
        stages = [file["stage"] for file in data["files"].values()]
        faulty = sum(stage in ("faulty", "damaged") for stage in stages)
        session.degraded = bool(self.fault or trouble or faulty)
        session.data = {
            "bdfdir": str(self.config.bdfdir),
            "private": str(self.config.private),
            **data,
            "disk_free": free,
            "fault": self.fault or trouble,
            "timestamp": self.clock.now().wall,
        }
        self.feeds["bdf_publisher"].publish(
            "files",
            {
                "waiting": len(stages) - faulty,
                "faulty": faulty,
                "published": data["published"],
                "integrations": data["integrations"],
                "published_bytes": data["bytes"],
                "discarded": data["discarded"],
                "disk_free": free,
            },
        )


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    group.add_argument(
        "--bdfdir",
        default=os.environ.get(DIRECTORY_VARIABLE),
        help=f"publication directory; files are created in .private below it (default: ${DIRECTORY_VARIABLE})",
    )
    group.add_argument("--group", help="multicast group that BdfInfo is sent to (default: 239.192.3.3)")
    group.add_argument("--port", type=int, help="its port (default: 53002)")
    group.add_argument("--interface", help="address of the interface that sends it (default: 127.0.0.1)")
    group.add_argument("--hops", type=int, help="time to live of the datagrams (default: 1)")
    group.add_argument("--poll-seconds", type=float, help="time between two looks (default: 1)")
    group.add_argument(
        "--grace-seconds",
        type=float,
        help="a file unchanged for so long after the end of its recording waits for no node (default: 30)",
    )
    group.add_argument(
        "--grace-integrations", type=int, help="the same in integrations; the longer one counts (default: 5)"
    )
    group.add_argument(
        "--abandoned-seconds",
        type=float,
        help="a file unchanged for so long is published although nobody has ended its recording (default: 3600)",
    )
    group.add_argument("--telescope", help="name in the SDM (default: EVLA)")
    group.add_argument("--dish-diameter", type=float, help="metres, for the SDM (default: 25)")
    group.add_argument("--catalogue", help="directory of the catalogue of published files (default: none)")
    add_redis_arguments(group, "Redis of the journal")
    add_journal_argument(group, movable=True)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(BDFPublisher, add_agent_args(), args)


if __name__ == "__main__":
    main()
