"""Whole cycles of a commensal system with all its subarrays at once, as a shell feeds them to the machine.

The mix: for each subarray configure, conf_complete, metadata, the announcement, the status that confirms it, tracking,
metadata, status, the start check, the end of the dwell, status, the receipt and the result of every instance, and
deconfigure; the receipt of every effect comes as an event of its own, behind its answer. The subarrays take turns event
by event. The pool is used up: every instance works in every cycle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.model import (
    MetadataRead,
    Notify,
    ReadMetadata,
    ReadStatus,
    ResultRead,
    StatusRead,
    TelescopeEvent,
)
from socs_bl.core.clock import Instant
from socs_bl.core.effect import Effect
from socs_bl.core.event import EffectDone, Event, Restarted, TimerFired

NOW = 1_795_233_600.0
STREAMS = 4  # an instance takes so many
TURN = 0.001  # seconds from one event to the next
GAP = 400.0  # seconds from one cycle to the next


def world(instances: int, subarrays: int) -> dict[str, Any]:
    """``Restarted.world`` of a pool of so many instances, two a host."""
    names = [f"blpn{number // 2}/{number % 2}" for number in range(instances)]
    return {"config": {"arrays": [f"array_{number}" for number in range(subarrays)], "hashpipe_instances": names}}


def metadata(streams: int, now: float) -> dict[str, str]:
    """CAM's keys of a subarray with so many streams."""
    url = f"spead://239.2.0.0+{streams - 1}:7148"
    return {
        "antennas": "64", "n_channels": "4096", "target": "A, radec, 1:00:00, -30:00:00",
        "streams": json.dumps({"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": url}}),
        "last_target": str(now), "last_track_end": "0", "schedule": "20261121-0001", "band": "l", "proposal": "'P'",
        "centre": "1284e6", "bandwidth": "856e6", "sync_time": str(now - 1000), "adc_sample_rate": "1712e6",
        "hnchan": "16", "hntime": "256", "samples_between_spectra": "8192",
    }  # fmt: skip


class Recorder:
    """Drives a machine through cycles and keeps the events, so that another machine can be timed with them alone.

    Parameters
    ----------
    instances, subarrays : int
        How many there are; the instances are divided evenly.
    """

    def __init__(self, instances: int, subarrays: int) -> None:
        self.machine = CommensalMachine()
        self.events: list[Event] = []
        self.streams = STREAMS * (instances // subarrays)
        self.now = NOW
        self.cursor = 0
        self._told: list[Notify] = []
        self._say(Restarted(epoch=1, world=world(instances, subarrays)))
        self._deliver()
        self.beginning = len(self.events)

    def record(self, cycles: int) -> None:
        """Go through cycles; in each, the subarrays take turns event by event."""
        for _ in range(cycles):
            going = [self._cycle(name) for name in self.machine.config.arrays]
            while going:
                going = [cycle for cycle in going if next(cycle, self) is None]
            self.now += GAP

    def _cycle(self, array: str) -> Iterator[None]:
        values = metadata(self.streams, self.now)
        yield from self._tell(TelescopeEvent(word="configure", array=array))
        yield from self._tell(TelescopeEvent(word="conf_complete", array=array))
        yield from self._metadata(array, "subscribe", values)
        yield from self._timer(f"announce/{array}")
        yield from self._timer(f"confirm/{array}")
        shown = self._shown(array)
        yield from self._status(array, "confirm", shown)
        yield from self._tell(TelescopeEvent(word="tracking", array=array))
        yield from self._metadata(array, "record", values)
        yield from self._status(array, "record", shown)
        run = self._run(array)
        yield from self._timer(f"start/{array}")
        yield from self._status(array, "started", shown, run)
        yield from self._timer(f"record/{array}")
        yield from self._status(array, "ended", shown, run)
        for instance in shown:
            yield from self._done(self.machine.outstanding_of(Effect, lane=f"analyzer/{instance}"))
        for instance in shown:
            self.cursor += 1
            yield from self._tell(ResultRead(cursor=f"{self.cursor}-0", instance=instance, run=run, code=0, hits=1))
        yield from self._tell(TelescopeEvent(word="deconfigure", array=array))

    def _shown(self, array: str) -> dict[str, dict[str, str]]:
        """What the instances of a subarray say, whenever they are asked."""
        cell = self.machine.array(array)
        assert cell is not None and len(cell.shares) * STREAMS == self.streams
        heap_seconds = 8192 * 256 / 1712e6
        common = {
            "SUBARRAY": array, "FENCHAN": "4096", "PKTIDX": str(int(1000 / heap_seconds)), "NETSTAT": "receiving",
            "DAQSTATE": "RECORD", "DATADIR": "/buf0/20261121T040002Z-20261121-0001",
        }  # fmt: skip
        return {
            share.instance: {**common, "DESTIP": share.destip, "SCHAN": str(share.first_channel)}
            for share in cell.shares
        }

    def _run(self, array: str) -> str:
        cell = self.machine.array(array)
        assert cell is not None and cell.run, f"{array} does not record"
        return cell.run

    def _tell(self, event: Event) -> Iterator[None]:
        self._say(event)
        yield
        yield from self._deliver_one_by_one()

    def _metadata(self, array: str, purpose: str, values: dict[str, str]) -> Iterator[None]:
        (asked,) = self.machine.outstanding_of(ReadMetadata, lane=array)
        yield from self._tell(MetadataRead(array=array, purpose=purpose, prefix="wide", values=values))
        yield from self._done([asked])

    def _status(self, array: str, purpose: str, shown: dict[str, dict[str, str]], run: str = "") -> Iterator[None]:
        (asked,) = self.machine.outstanding_of(ReadStatus, lane=array)
        yield from self._tell(StatusRead(array=array, purpose=purpose, run=run, statuses=shown))
        yield from self._done([asked])

    def _timer(self, name: str) -> Iterator[None]:
        yield from self._tell(TimerFired(name=name, generation=self.machine.timers[name].generation))

    def _done(self, effects: Iterable[Effect]) -> Iterator[None]:
        for effect in effects:
            yield from self._tell(EffectDone(effect=effect.id))

    def _deliver_one_by_one(self) -> Iterator[None]:
        """Notifications have been delivered: a receipt each."""
        while self._told:
            self._say(EffectDone(effect=self._told.pop(0).id))
            yield

    def _deliver(self) -> None:
        for _ in self._deliver_one_by_one():
            pass

    def _say(self, event: Event) -> None:
        self.now += TURN
        event = _at(event, self.now)
        self.events.append(event)
        self._told += [effect for effect in self.machine.step(event) if isinstance(effect, Notify)]


def _at(event: Event, now: float) -> Event:
    from socs_bl.core.codec import stamp

    return stamp(event, Instant(now, now))


def feed(events: Iterable[Event], step: Callable[[Event], object]) -> None:
    """Step through events, nothing else."""
    for event in events:
        step(event)
