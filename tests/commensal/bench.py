"""A commensal machine in a driver: events in, what it wants done out; answers are given by the test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.model import (
    Duty,
    MetadataRead,
    Notify,
    ReadMetadata,
    ReadStatus,
    Requested,
    ResultRead,
    StartProcessing,
    StatusRead,
    Subarray,
    TelescopeEvent,
)
from socs_bl.core.archive import replay
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.effect import Answer, ArmTimer, CancelTimer, Effect, Withdraw
from socs_bl.core.event import EffectDone, EffectFailed, Event, TimerFired
from socs_bl.core.memory_journal import MemoryJournal, Vault

CODEC = Codec(CommensalMachine)
SYNC = 1_799_999_000  # Unix time of packet index 0
START = 1_800_000_000.0
HEAP = 0.064  # seconds: 256 spectra of 256 samples at 1.024 MHz
INSTANCES = ("blpn64/0", "blpn64/1", "blpn65/0", "blpn65/1")
CONFIG: dict[str, Any] = {
    "arrays": ["array_1", "array_2", "array_3"],
    "hashpipe_instances": list(INSTANCES),
    "dwell": 20,
    "shortest_recording": 5,
    "lead_seconds": 2,
    "skip_proposals": ["SCI-SKIP"],
    "primary_proposals": ["SCI-PRIMARY"],
}
EffectT = TypeVar("EffectT", bound=Effect)


def sensors(streams: int = 8, **changes: str) -> dict[str, str]:
    """CAM's values of a subarray with so many streams, some changed."""
    url = f"spead://239.192.1.0+{streams - 1}:7148"
    values = {
        "antennas": "4",
        "n_channels": "128",
        "streams": json.dumps({"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": url}}),
        "target": "J0437-4715 | x, radec, 04:30:00, -47:15:00",
        "last_target": "1800000000.0",
        "last_track_end": "0",
        "schedule": "20261121-0001,20261121-0002",
        "band": "'l'",
        "proposal": "'EXT-1'",
        "centre": "1420000000.0",
        "bandwidth": "512000.0",
        "sync_time": f"{SYNC}.7",
        "adc_sample_rate": "1024000.0",
        "hnchan": "16",
        "hntime": "256",
        "samples_between_spectra": "256",
    }
    return {**values, **changes}


class Bench:
    """One shell after the other on one vault; its clock goes one second an event."""

    def __init__(self, **changes: Any) -> None:
        self.vault = Vault()
        self.config = {**CONFIG, **changes}
        self.now = START
        self.mark = 0
        self.notices: list[Notify] = []
        self.restart()

    # -- shell ----------------------------------------------------------------------------------------------------

    def restart(self, world: Mapping[str, Any] | None = None, **changes: Any) -> None:
        """Begin, or begin again after a crash, perhaps with another configuration, and with what is seen outside."""
        self.config = {**self.config, **changes}
        self.to_do: dict[str, Effect] = {}
        self.timers: dict[str, TimerFired] = {}
        self.driver = Driver(CommensalMachine, CODEC, MemoryJournal(self.vault))
        self.driver.claim("test")
        self.say(self.driver.restart_event({"config": self.config, **(world or {})}))

    @property
    def machine(self) -> CommensalMachine:
        """The machine."""
        return self.driver.machine

    def say(self, *events: Event, cause: str = "") -> None:
        """Step and commit a batch, check the invariants, note what is to be done; notifications are delivered."""
        self.now += 1.0
        prepared = self.driver.prepare([Caused(event, cause) for event in events], Instant(self.now, self.now))
        self.driver.journal.commit(prepared.commit)
        self.machine.check()
        work = self.driver.committed(prepared.entries)
        for effect in work.local:
            if isinstance(effect, ArmTimer):
                self.timers[effect.name] = TimerFired(name=effect.name, generation=effect.generation)
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.name, None)
            elif isinstance(effect, Withdraw):
                self.to_do.pop(effect.effect, None)
        told = [effect for effect in work.perform if isinstance(effect, Notify)]
        self.notices += told
        self.to_do |= {effect.id: effect for effect in work.perform if effect not in told}
        if told:
            self.now -= 1.0
            self.say(*(EffectDone(effect=effect.id) for effect in told))

    def fire(self, name: str) -> None:
        """Let a timer that is armed run out, at its deadline."""
        self.now = max(self.now, self.machine.timers[name].deadline) - 1.0
        fired = self.timers.pop(name)
        self.say(fired, cause=str(fired.generation))

    def wanted(self, kind: type[EffectT]) -> list[EffectT]:
        """What is to be done of one kind, in order."""
        return [effect for effect in self.to_do.values() if isinstance(effect, kind)]

    def answer(self, effect: Effect, *events: Event) -> None:
        """An effect is done, with these answers."""
        del self.to_do[effect.id]
        self.say(*events, EffectDone(effect=effect.id), cause=effect.id)

    def fail(self, effect: Effect, reason: str = "no answer") -> None:
        """An effect has failed."""
        del self.to_do[effect.id]
        self.say(EffectFailed(effect=effect.id, reason=reason), cause=effect.id)

    # -- what the world says --------------------------------------------------------------------------------------

    def cam(self, word: str, array: str = "array_1") -> None:
        """A message on ``alerts``."""
        self.say(TelescopeEvent(word=word, array=array))

    def metadata(self, values: Mapping[str, str] | None = None) -> None:
        """Answer the one read of CAM's keys."""
        (read,) = self.wanted(ReadMetadata)
        values = sensors() if values is None else values
        self.answer(read, MetadataRead(array=read.array, purpose=read.purpose, prefix="wide", values=values))

    def status(self, **changes: Any) -> None:
        """Answer the one read of status hashes; `changes` are fields of all."""
        (read,) = self.wanted(ReadStatus)
        self.statuses(dict.fromkeys(read.instances, changes))

    def statuses(self, changes: Mapping[str, Mapping[str, str] | None]) -> None:
        """Answer the one read of status hashes; None is a missing hash."""
        (read,) = self.wanted(ReadStatus)
        index = {"PKTIDX": str(int((self.now - SYNC) / HEAP)), "NETSTAT": "receiving", "DAQSTATE": "RECORD"}
        found = {name: None if change is None else {**index, **change} for name, change in changes.items()}
        answer = StatusRead(array=read.array, purpose=read.purpose, run=read.run, statuses=found)
        self.answer(read, answer)

    def result(self, instance: str, code: int = 0, run: str = "", hits: int = 0, array: str = "array_1") -> None:
        """A result in the stream, of the current run unless another is named."""
        cursor = f"{self.machine.sequence}-0"
        self.say(ResultRead(cursor=cursor, instance=instance, run=run or self.array(array).run, code=code, hits=hits))

    def ask(self, what: str, name: str = "", reason: str = "", **options: Any) -> str:
        """An operator's wish; why it was refused, or nothing."""
        self.say(Requested(what=what, name=name, reason=reason, options=options))
        return next(effect.refusal for effect in self.effects_of(Requested) if isinstance(effect, Answer))

    def effects_of(self, kind: type[Event]) -> tuple[Effect, ...]:
        """The effects of the last event of a kind, from the journal."""
        entries = (CODEC.decode(data) for _, data in MemoryJournal(self.vault).read(max(1, self.machine.sequence - 20)))
        return [entry for entry in entries if isinstance(entry.envelope.event, kind)][-1].effects

    # -- into a state ---------------------------------------------------------------------------------------------

    def subscribe(self, array: str = "array_1", streams: int = 8) -> None:
        """To SUBSCRIBED, announced and confirmed."""
        self.cam("configure", array)
        self.cam("conf_complete", array)
        self.metadata(sensors(streams))
        self.fire(f"announce/{array}")
        self.cancel_confirm(array)

    def cancel_confirm(self, array: str) -> None:
        """All instances show what they were told."""
        self.fire(f"confirm/{array}")
        shares = {share.instance: share for share in self.array(array).shares}
        shown = {
            name: {"SUBARRAY": array, "DESTIP": share.destip, "SCHAN": str(share.first_channel), "FENCHAN": "128"}
            for name, share in shares.items()
        }
        self.statuses(shown)

    def record(self, array: str = "array_1", **changes: str) -> str:
        """From SUBSCRIBED to RECORD; the run."""
        self.cam("tracking", array)
        self.metadata(sensors(**changes))
        self.status()
        return self.array(array).run

    def process(self, array: str = "array_1") -> str:
        """From SUBSCRIBED to PROCESS; the run."""
        run = self.record(array)
        self.fire(f"start/{array}")
        self.status()
        self.fire(f"record/{array}")
        self.status(DATADIR=next(iter(self.machine.run(run).datadirs.values())))
        for asked in self.wanted(StartProcessing):
            if asked.run == run:
                self.answer(asked)
        return run

    # -- what is to be seen ---------------------------------------------------------------------------------------

    def array(self, name: str = "array_1") -> Subarray:
        """A subarray."""
        cell = self.machine.array(name)
        assert cell is not None
        return cell

    def states(self, array: str = "array_1") -> tuple[str, str]:
        """Both states of a subarray."""
        return self.array(array).freesub.value, self.array(array).recproc.value

    def duties(self) -> dict[str, str]:
        """What every instance does."""
        return {cell.name: cell.duty.value for cell in sorted(self.machine.instances(), key=lambda cell: cell.name)}

    def quarantined(self) -> list[str]:
        """Who is out of use."""
        return [name for name, duty in self.duties().items() if duty == Duty.QUARANTINED.value]

    def new_writes(self) -> list[tuple[str, ...]]:
        """Riding commands since the last call, in order, without the messages to Slack."""
        new = [command for command in self.vault.writes[self.mark :] if command[1] != "slack-messages"]
        self.mark = len(self.vault.writes)
        return new

    def messages(self) -> list[tuple[str, str]]:
        """What was published since the last call, as (channel, payload)."""
        return [(command[1], command[2]) for command in self.new_writes() if command[0] == "PUBLISH"]

    def codes(self) -> list[str]:
        """Codes of the notifications since the last call."""
        codes = [notice.code for notice in self.notices]
        self.notices.clear()
        return codes

    def replayed(self) -> CommensalMachine:
        """The machine that the journal gives."""
        journal = MemoryJournal(self.vault)
        return replay(CommensalMachine, CODEC, journal.base(), journal.read())
