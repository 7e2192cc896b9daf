"""The instance analyzer's operations on raw data: what stays, what goes, and how full the disks are."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, operation
from socs_bl.core.config import load
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.names import parse_instance
from socs_bl.search.analyzer_config import AnalyzerConfig
from socs_bl.search.disk import RawDirectory, Volume, raw_directories, volume
from socs_bl.search.effects import Places
from socs_bl.search.engines import engine_of
from socs_bl.search.machine import LISTED, AnalyzerMachine
from socs_bl.search.model import CleanRequested, DeleteRaw, DiskShort, PreserveRequested, UnpreserveRequested
from socs_bl.search.view import described_cleaning, queue_status
from socs_bl.search.worklist import WorkList
from socs_bl.services.redis_server import connect

POLL_INTERVAL = 0.1  # seconds between two looks at something that others finish
LONGEST_REASON = 500
T = TypeVar("T")


class RawData(MachineAgent[AnalyzerMachine]):
    """The part of an instance's analyzer that has to do with raw data.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `socs_bl.agents.instance_analyzer.agent.add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "analyzer",
            {
                "queue": {"queued": int, "under_way": int, "searched_runs": int, "hits": int},
                "disk": {
                    "data_free_bytes": float,
                    "data_used_fraction": float,
                    "products_free_bytes": float,
                    "products_used_fraction": float,
                    "raw_directories": int,
                    "raw_bytes": float,
                    "oldest_raw_age": float,
                },
            },
        ),
    )

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.instance = str(parse_instance(args.instance))
        config = Path(args.config) if args.config else None
        self.config = load(config, AnalyzerConfig) if config else AnalyzerConfig()
        engine = engine_of(self.config, args.recipe_dir)
        self.places = Places(self.instance, Path(args.root).absolute(), Path(args.products).absolute(), engine)

    @operation("task", privs=2)
    async def preserve(self, session: Session, *, datadir: str, reason: str = "") -> str | None:
        """preserve(datadir=None, reason="")

        **Task** - Have the raw data of a directory stay, whatever any rule says, until ``unpreserve``.

        Parameters:
            datadir (str): The instance's DATADIR.
            reason (str, optional): Why, for people.

        Notes:
            It is put on the list ``<instance>:preserved`` too. The session data are those of ``queue_status``.
        """
        self.places.data(datadir)
        await self.ask(PreserveRequested(datadir=datadir, reason=reason[:LONGEST_REASON]))
        session.data = queue_status(self.running().machine)
        return None

    @operation("task", privs=3)
    async def unpreserve(self, session: Session, *, datadir: str) -> str | None:
        """unpreserve(datadir=None)

        **Task** - Take a ``preserve`` back. Nothing is deleted by it; the rules apply again.

        Parameters:
            datadir (str): The instance's DATADIR.

        Notes:
            The session data are those of ``queue_status``.
        """
        await self.ask(UnpreserveRequested(datadir=datadir))
        session.data = queue_status(self.running().machine)
        return None

    @operation("task", privs=3)
    async def clean_raw(
        self, session: Session, *, datadir: str = "", older_than: float = 0.0, force: bool = False
    ) -> str | None:
        """clean_raw(datadir="", older_than=0.0, force=False)

        **Task** - Delete raw data, under a rule that is named: those of one directory, or of all that were processed
        longer ago than a number of seconds.

        Parameters:
            datadir (str, optional): The instance's DATADIR.
            older_than (float, optional): Seconds since the end of their processing.
            force (bool, optional): Of one directory, delete also what was not searched.

        Notes:
            Never deleted, not even by force: what is preserved, and what a run waits for or works on. An abort ends the
            waiting, not the deletion. The session data are::

                >>> response.session['data']
                {"asked": ["/buf0/20261121T040000Z-20261121-0001"],
                 "cleaned": [{"datadir": "/buf0/20261121T040000Z-20261121-0001", "rule": "asked", "asked": 1795233620.0,
                              "ended": 1795233621.0, "bytes_freed": 1073741824, "refusal": ""}],
                 "removed": 1, "failed": 0, "bytes_freed": 1073741824, "sequence": 3}
        """
        if bool(datadir) == bool(older_than > 0) or (force and not datadir):
            raise Refused(
                "clean_raw: give either datadir or older_than, and force with datadir only; nothing was changed"
            )
        if datadir:
            self.places.data(datadir)
        runner = self.running()
        await self.take_over_preserved()
        before = time.time() - older_than if older_than else 0.0
        entry = await self.ask(CleanRequested(datadir=datadir, before=before, force=force))
        asked = [effect.datadir for effect in entry.effects if isinstance(effect, DeleteRaw)]
        session.update(asked=asked)
        while any(runner.machine.is_cleaned(place) for place in asked) and self.runner is runner:
            if not await session.sleep(POLL_INTERVAL):
                return "Not waited for; the deletion goes on."
        found = [cleaning for place in asked if (cleaning := runner.machine.cleaning(place)) is not None]
        failed = [cleaning for cleaning in found if cleaning.refusal or not cleaning.ended]
        session.update(
            cleaned=[described_cleaning(cleaning) for cleaning in found], removed=len(found) - len(failed),
            failed=len(failed), bytes_freed=sum(cleaning.freed for cleaning in found),
        )  # fmt: skip
        if failed:
            raise Refused(f"clean_raw: {failed[0].datadir}: {failed[0].refusal or 'not yet; see queue_status'}")
        return f"{len(found)} directories deleted."

    @operation("process", startup=True)
    async def monitor_disk(
        self, session: Session, *, interval: float = 10.0, warn_fraction: float = 0.9, test_mode: bool = False
    ) -> str | None:
        """monitor_disk(interval=10.0, warn_fraction=0.9, test_mode=False)

        **Process** - Watch the disks with recordings and products; starts with the agent.

        Parameters:
            interval (float, optional): Seconds between two looks.
            warn_fraction (float, optional): A disk that is used up to a larger part than this is short.
            test_mode (bool, optional): Look only once. This is meant only for testing.

        Notes:
            The process is degraded while a disk is short: fuller than `warn_fraction`, or with less free space than the
            configuration wants. Where the configuration says ``reclaim``, raw data that were searched are deleted then,
            the oldest first, as long as the disk with the recordings is short. The session data are::

                >>> response.session['data']
                {"volumes": {"data": {"path": "/buf0", "total_bytes": 214748364800, "used_bytes": 133514807632,
                                      "free_bytes": 81233557168, "used_fraction": 0.62},
                             "products": {"path": "/data/products", "total_bytes": 214748364800, "used_bytes": 133514807632,
                                          "free_bytes": 81233557168, "used_fraction": 0.62}},
                 "raw": [{"path": "/buf0/20261121T040000Z-20261121-0001", "files": 8, "bytes": 68719476736, "age_s": 12.5}],
                 "short": [], "warn_fraction": 0.9, "least_free_bytes": 1073741824.0, "sequence": 3}

            'raw' holds the directories with raw data, the oldest first; 'age_s' counts from their last writing.
        """
        if interval < 0.1:
            raise Refused(f"monitor_disk: interval must be at least 0.1 s; found {interval}; nothing was changed")
        if not 0 < warn_fraction <= 1:
            raise Refused(f"monitor_disk: warn_fraction must be above 0 and at most 1; found {warn_fraction}")
        was_short: list[str] = []
        while True:
            volumes, raw = await self.in_thread(self._disks, self._buffers())
            short = [
                name for name, disk in volumes.items()
                if disk.used_fraction > warn_fraction or disk.free < self.config.least_free_bytes
            ]  # fmt: skip
            self._show_disks(session, volumes, raw, short, warn_fraction)
            session.degraded = bool(short)
            for name in short:
                if name not in was_short:
                    self._tell_short(volumes[name])
            was_short = short
            if "data" in short:
                await self._make_room(volumes["data"])
            if test_mode or not await session.sleep(interval):
                return "Stopped."

    # --- the shell

    async def listing(self, question: Callable[[WorkList], T]) -> T:
        """Ask the coordinator's lists something."""
        return await self.in_thread(_asked, self.args.redis_url, self.instance, question)

    async def take_over_preserved(self) -> None:
        """What somebody has put on the list of those that stay is in the machine before anything else is decided."""
        for datadir in await self.listing(lambda work: work.preserved()):
            if self.is_sound(datadir) and not self.running().machine.is_preserved(datadir):
                await self.running().submit(PreserveRequested(datadir=datadir, reason=LISTED))

    def is_sound(self, datadir: str) -> bool:
        """Whether a directory on a list is one we could search; people are told when it is not."""
        try:
            self.places.data(datadir)
        except Refused as refusal:
            self.alert("error", f"{self.instance}: on the coordinator's list: {refusal}; left there")
            return False
        return True

    def _buffers(self) -> list[Path]:
        """Where data directories lie: what is configured, then where recordings were searched."""
        found = [self.places.data(buffer) for buffer in self.config.buffers]
        runs = self.runner.machine.runs() if self.runner is not None else []
        return list(dict.fromkeys([*found, *(self.places.data(run.datadir).parent for run in runs)]))

    def _disks(self, buffers: Sequence[Path]) -> tuple[dict[str, Volume], list[RawDirectory]]:
        data = buffers[0] if buffers else self.places.root
        volumes = {"data": volume(data), "products": volume(self.places.products)}
        return volumes, raw_directories(buffers)

    def _show_disks(
        self,
        session: Session,
        volumes: Mapping[str, Volume],
        raw: Sequence[RawDirectory],
        short: Sequence[str],
        warn_fraction: float,
    ) -> None:
        now = time.time()
        session.data = {
            "volumes": {
                name: {
                    "path": disk.path, "total_bytes": disk.total, "used_bytes": disk.used, "free_bytes": disk.free,
                    "used_fraction": round(disk.used_fraction, 4),
                } for name, disk in volumes.items()
            },
            "raw": [
                {"path": item.path, "files": item.files, "bytes": item.bytes, "age_s": round(now - item.written, 1)}
                for item in raw
            ],
            "short": list(short), "warn_fraction": warn_fraction, "least_free_bytes": self.config.least_free_bytes,
        }  # fmt: skip
        figures = {f"{name}_free_bytes": float(disk.free) for name, disk in volumes.items()}
        figures |= {f"{name}_used_fraction": disk.used_fraction for name, disk in volumes.items()}
        figures |= {"raw_directories": len(raw), "raw_bytes": float(sum(item.bytes for item in raw))}
        figures |= {"oldest_raw_age": now - raw[0].written if raw else 0.0}
        self.feeds["analyzer"].publish("disk", figures)

    def _tell_short(self, disk: Volume) -> None:
        text = f"{self.instance}: {disk.path} is nearly full ({disk.free / 1e9:.1f} GB free)"
        self.alert("warning", f"{text}; move products or recordings away, or clean_raw", free_bytes=disk.free)

    async def _make_room(self, disk: Volume) -> None:
        """Tell the machine that the disk is short, when it could do something about that."""
        if self.runner is None or not self.runner.machine.is_reclaimable():
            return
        try:
            await self.take_over_preserved()
            await self.running().submit(DiskShort(text=f"{disk.path} has {disk.free / 1e9:.1f} GB left"))
        except (Refused, Retry) as error:
            self.log.warn("no room is made: {error}", error=error)


def _asked(redis_url: str, instance: str, question: Callable[[WorkList], T]) -> T:
    """Ask the coordinator's lists something. Blocks."""
    with connect(redis_url) as client:
        return question(WorkList(client, instance))
