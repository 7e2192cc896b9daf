"""Instances out of service: drained for maintenance, and those whose silence put them out until they are heard of again.

A drain is a wish of its own beside the duty: an instance that is free or ready goes out at once, one that works when
its run has ended. An instance that was silent is watched: it is released when its status hash has said something new at
every reading for `heartbeat_for` seconds. One that returned no result must have been seen down first, or the result
must come after all: its recorder may have been well all the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from socs_bl.commensal.model import Drain, Duty, Instance, ReadStatus, ResultRead, Severity, Silence, StatusRead
from socs_bl.commensal.pool import Pool
from socs_bl.commensal.projection import records_settled
from socs_bl.commensal.wire import is_good

WATCH = "watch"
WATCH_TIMER = "watch/pool"


class Upkeep(Pool):
    """The pool, and who is out of it for a while."""

    # -- drain ----------------------------------------------------------------------------------------------------

    def named(self, name: str) -> list[Instance]:
        """The instance of that name, or all instances of the host of that name, in the order they are taken."""
        cell = self.instance(name)
        if cell is not None:
            return [cell]
        cells = (self.instance(other) for other in self.index.names if other.partition("/")[0] == name)
        return [cell for cell in cells if cell is not None]

    def draining(self, name: str) -> bool:
        """Whether people want an instance out of service."""
        return f"drain/{name}" in self.cells

    def on_drain(self, cell: Instance, reason: str) -> None:
        """Out of service: now, or at the end of its run."""
        self.put(f"drain/{cell.name}", Drain(instance=cell.name, reason=reason))
        if cell.duty is Duty.READY:
            self.part(cell.name)
        if cell.duty in (Duty.READY, Duty.FREE):
            self.assign(cell.name, Duty.FREE)
        when = f"when {cell.run} has ended" if cell.run else "now"
        self.notify(Severity.INFO, "drained", f"{cell.name} goes out of service {when}: {reason}", cell.owner)

    def on_undrain(self, cell: Instance) -> None:
        """Back into service; one that had not left yet stays where it is."""
        self.drop(f"drain/{cell.name}")
        if cell.duty is Duty.DRAINED:
            self.assign(cell.name, Duty.FREE)
        self.notify(Severity.INFO, "undrained", f"{cell.name} is in service again", cell.owner)

    # -- silence --------------------------------------------------------------------------------------------------

    def quarantine_silent(self, name: str, reason: str, run: str = "", datadir: str = "") -> None:
        """Put an instance out of use because nothing was heard of it, and listen for it."""
        before = self.get(f"silence/{name}", Silence)
        returns = before.returns if before is not None else 0
        if returns >= self.config.heartbeat_returns > 0:
            reason += f"; it came back by itself {returns} times, so people must look at it"
        self.quarantine(name, reason)
        silence = Silence(instance=name, run=run, datadir=datadir, down=not run, returns=returns)
        self.put(f"silence/{name}", silence)
        self.watch()

    def watch(self) -> None:
        """See to it that silent instances are looked at."""
        reading = self.outstanding_of(ReadStatus, lane=WATCH)
        if self._watched() and not reading and WATCH_TIMER not in self.timers:
            self.arm(WATCH_TIMER, self.config.watch_interval)

    def on_watch_timer(self) -> None:
        """Look at the silent instances, in one question for all."""
        names = self._watched()
        if names:
            self.issue(ReadStatus(array="", purpose=WATCH, run="", instances=names), lane=WATCH)

    def _watched(self) -> tuple[str, ...]:
        if not self.config.release_on_heartbeat:
            return ()
        found = []
        for name in sorted(self.index.quarantined):
            silence = self.get(f"silence/{name}", Silence)
            if silence is not None and silence.returns < self.config.heartbeat_returns:
                found.append(name)
        return tuple(found)

    def on_watch_status(self, event: StatusRead) -> None:
        """Release who has been heard of long enough."""
        needed = max(1, math.ceil(self.config.heartbeat_for / self.config.watch_interval))
        watched = set(self._watched())
        for name, status in event.statuses.items():
            silence = self.get(f"silence/{name}", Silence)
            if silence is None or name not in watched:
                continue
            silence = _after(silence, status)
            self.put(f"silence/{name}", silence)
            if silence.down and silence.beats >= needed:
                self._let_back(silence, f"{name} is heard of again and was released into the pool")

    def on_late_result(self, event: ResultRead) -> None:
        """The result of an instance that was given up: it is alive, and its data are settled."""
        silence = self.get(f"silence/{event.instance}", Silence)
        if silence is None or not silence.run or silence.run != event.run:
            return
        self.write(records_settled(silence.instance, silence.datadir))
        if event.instance in self._watched() and is_good(event.code):
            text = (
                f"{event.instance} returned code {event.code} for {event.run} after all and was released into the pool"
            )
            self._let_back(silence, text)

    def _let_back(self, silence: Silence, text: str) -> None:
        back = Silence(instance=silence.instance, returns=silence.returns + 1)
        self.put(f"silence/{silence.instance}", back)
        self.assign(silence.instance, Duty.FREE)
        self.notify(Severity.INFO, "returned", text)

    # -- invariants -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Also: who is drained is wanted out and works for nobody; a wish never stands against a free instance."""
        super().check()
        for instance in self.instances():
            wanted = self.draining(instance.name)
            assert wanted or instance.duty is not Duty.DRAINED, f"{instance.name} is drained and nobody wants it"
            assert not wanted or instance.duty not in (Duty.FREE, Duty.READY), f"{instance.name} is to be drained"
        for cell in self.cells.values():
            if isinstance(cell, Drain | Silence):
                assert self.instance(cell.instance) is not None, f"{cell} of an instance that is gone"
        if self._watched():
            assert WATCH_TIMER in self.timers or self.outstanding_of(ReadStatus, lane=WATCH), "nobody listens"


def _after(silence: Silence, status: Mapping[str, str] | None) -> Silence:
    """A silence after one more reading of the status hash."""
    if status is None:
        return msgspec.structs.replace(silence, down=True, beat="", beats=0)
    beat = f"{status.get('DAQPULSE', '')}/{status.get('PKTIDX', '')}"
    if not silence.beat:
        return msgspec.structs.replace(silence, beat=beat, beats=0)
    if beat == silence.beat:  # the hash is there and the recorder that writes it hangs
        return msgspec.structs.replace(silence, down=True, beats=0)
    return msgspec.structs.replace(silence, beat=beat, beats=silence.beats + 1)
