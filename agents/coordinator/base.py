"""What all operations of the coordinator share: a wish is handed to the machine, and its outcome waited for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socs_bl.agentkit import MachineAgent, Session, SiteAgent
from socs_bl.commensal import CommensalConfig, CommensalMachine
from socs_bl.commensal.calibration_model import CalibrationFetched
from socs_bl.commensal.calibrator import Calibrator
from socs_bl.commensal.effects import Reader
from socs_bl.commensal.model import Notify, Requested, Subarray
from socs_bl.commensal.reconciling import NEEDED
from socs_bl.commensal.saved_state import SavedState
from socs_bl.core.codec import Entry
from socs_bl.core.config import load
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.event import EffectFailed, Event
from socs_bl.core.names import parse_subarray
from socs_bl.services.redis_server import connect

JOURNAL = "socs_bl:commensal"
LOOK_INTERVAL = 0.05  # seconds between looks whether a wish has come true


@dataclass
class _Wait:
    """Somebody waits until the committed state is as wanted."""

    met: Callable[[CommensalMachine], bool]
    over: bool


class Coordinating(MachineAgent[CommensalMachine]):
    """A coordinator without operations.

    Attributes
    ----------
    config : CommensalConfig
    redis : redis.Redis
        Where CAM's keys, the gateways and the journal are.
    reader, calibrator, saved : Reader, Calibrator, SavedState
        What reads and writes there.
    told : dict of str to str
        What people were told last of each subarray.
    stored : dict of str to CalibrationFetched
        The solutions stored last for each subarray, since the agent started.
    """

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.config = load(Path(args.config), CommensalConfig)
        self.redis = connect(args.redis_url)
        self.reader = Reader(self.redis, self.config.domain)
        self.calibrator = Calibrator(self.redis, self.config.calibration)
        self.saved = SavedState(self.redis, self.config)
        self.told: dict[str, str] = {}
        self.stored: dict[str, CalibrationFetched] = {}
        self._failures: dict[str, str] = {}
        self._waits: list[_Wait] = []

    def close(self) -> None:
        """Also give the connection back."""
        super().close()
        self.redis.close()

    def committed(self, entries: Sequence[Entry]) -> None:
        """Remember what operations may wait for."""
        for entry in entries:
            event = entry.envelope.event
            if isinstance(event, EffectFailed) and event.effect in self._failures:
                self._failures[event.effect] = event.reason
            elif isinstance(event, CalibrationFetched):
                self.stored[event.array] = event
            for effect in entry.effects:
                if isinstance(effect, Notify) and effect.array:
                    self.told[effect.array] = effect.text
        for wait in self._waits:
            wait.over = wait.over or (self.runner is not None and wait.met(self.runner.machine))

    async def submit(self, session: Session, event: Event) -> Entry:
        """Have the machine decide about an event, and show where that stands in the journal.

        Raises
        ------
        Refused
            With the machine's words.
        """
        entry = await self.ask(event)
        effects = [f"{type(effect).__name__} {effect.id}" for effect in entry.effects]
        session.data = {"journal_sequence": entry.envelope.sequence, "effects": effects}
        return entry

    async def wish(self, session: Session, what: str, name: str = "", reason: str = "", **options: Any) -> Entry:
        """Hand an operator's wish to the machine; see `submit`."""
        return await self.submit(session, Requested(what=what, name=name, reason=reason, options=options))

    async def settled(
        self, session: Session, met: Callable[[CommensalMachine], bool], patience: float, what: str
    ) -> CommensalMachine:
        """Wait until the machine's committed state is as wanted.

        Raises
        ------
        Retry
            When it is not within `patience` seconds, or the operation is to end.
        """
        # Asked now, just after the commit of the wish, and after every commit: in between the machine is ahead of it.
        wait = _Wait(met, met(self.running().machine))
        self._waits.append(wait)
        deadline = self.reactor.seconds() + patience
        try:
            while not wait.over:
                if self.reactor.seconds() > deadline:
                    raise Retry(f"{what} has not come about within {patience:g} s; explain says what it waits for")
                if not await session.sleep(LOOK_INTERVAL):
                    raise Retry(f"{what} is not waited for any more; it goes on all the same")
        finally:
            self._waits.remove(wait)
        return self.running().machine

    async def shown(
        self, session: Session, interval: float, look: Callable[[], Awaitable[dict[str, Any]]], once: bool
    ) -> str:
        """Make what is seen the session data, again and again; degraded while it cannot be seen."""
        while True:
            try:
                session.data = await look()
            except Retry as error:
                session.degraded = True
                session.update(fault=str(error))
            else:
                session.degraded = False
            if once or not await session.sleep(interval):
                return "Stopped."

    async def carried_out(self, session: Session, effect: str, patience: float) -> str:
        """Wait until an effect is settled; why it failed, or nothing."""
        self._failures[effect] = ""
        try:
            await self.settled(session, lambda machine: effect not in machine.outstanding, patience, f"effect {effect}")
            return self._failures[effect]
        finally:
            del self._failures[effect]

    def array_named(self, name: str) -> Subarray:
        """A subarray as it is now.

        Raises
        ------
        Refused
            When there is none of that name.
        """
        array = self.running().machine.array(parse_subarray(name))
        if array is None:
            raise Refused(f"there is no subarray {name}; there are {', '.join(self.config.arrays)}")
        return array

    async def world(self) -> Mapping[str, Any]:
        """What instances and CAM say now, as far as the machine reconciles it: all of it goes into the journal."""
        read = await self.in_thread(self.reader.statuses, self.config.hashpipe_instances)
        statuses = {
            name: {key: text for key, text in status.items() if key in NEEDED} if status is not None else None
            for name, status in read.items()
        }
        return {"statuses": statuses, "cam": await self.in_thread(self.reader.traces, self.config.arrays)}

    def clock_time(self) -> float:
        """Unix time of the last event the machine has seen, seconds."""
        return self.runner.machine.now.wall if self.runner else 0.0
