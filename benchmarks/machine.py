"""What one event costs: the commensal machine by itself, and with its journal on Redis beside a bare script.

The mix is one cycle of a subarray of 64 instances again and again: configure, conf_complete with metadata, announce,
confirm, tracking, two reads, record timeout, end, one result an instance, deconfigure.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from report import Figure, arguments, best_of, publish

from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.model import MetadataRead, ResultRead, StatusRead, TelescopeEvent
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec, stamp
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.event import EffectDone, Event, Restarted, TimerFired
from socs_bl.core.journal import Commit
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.redis_server import RedisServer

NOW = 1_795_233_600.0
WORKING = 64


def metadata() -> dict[str, str]:
    """CAM's keys of a subarray whose streams need 64 instances."""
    streams = {"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": "spead://239.2.0.0+255:7148"}}
    return {
        "antennas": "64", "n_channels": "4096", "streams": json.dumps(streams), "target": "A, radec, 1:00:00, -30:00:00",
        "last_target": str(NOW), "last_track_end": "0", "schedule": "20261121-0001", "band": "l", "proposal": "'P'",
        "centre": "1284e6", "bandwidth": "856e6", "sync_time": str(NOW - 1000), "adc_sample_rate": "1712e6",
        "hnchan": "16", "hntime": "256", "samples_between_spectra": "8192",
    }  # fmt: skip


class Cycle:
    """Drives a machine through cycles of one subarray, one event at a time."""

    def __init__(self, instances: int) -> None:
        self.machine = CommensalMachine()
        names = [f"blpn{number}/0" for number in range(instances)]
        self.step(Restarted(epoch=1, world={"config": {"arrays": ["array_1"], "hashpipe_instances": names}}))
        self.values = metadata()
        self.cursor = 0

    def step(self, event: Event) -> None:
        """Step, at a time that never changes."""
        self.machine.step(stamp(event, Instant(NOW, NOW)))

    def events(self) -> Iterator[Event]:
        """One cycle; the next event is made when the one before has been stepped."""
        machine, name = self.machine, "array_1"
        yield TelescopeEvent(word="configure", array=name)
        yield TelescopeEvent(word="conf_complete", array=name)
        yield MetadataRead(array=name, purpose="subscribe", prefix="wide", values=self.values)
        yield from self._acknowledge()
        yield self._timer("announce/array_1")
        status = {"SUBARRAY": name, "FENCHAN": "4096", "PKTIDX": "816327", "NETSTAT": "receiving", "DAQSTATE": "RECORD"}
        shares = machine.array(name).shares  # type: ignore[union-attr]  # it was configured above
        shown = {
            share.instance: {**status, "DESTIP": share.destip, "SCHAN": str(share.first_channel)} for share in shares
        }
        yield self._timer("confirm/array_1")
        yield StatusRead(array=name, purpose="confirm", run="", statuses=shown)
        yield TelescopeEvent(word="tracking", array=name)
        yield MetadataRead(array=name, purpose="record", prefix="wide", values=self.values)
        yield StatusRead(array=name, purpose="record", run="", statuses=shown)
        yield from self._acknowledge()
        run = machine.array(name).run  # type: ignore[union-attr]  # likewise
        yield self._timer("record/array_1")
        yield StatusRead(array=name, purpose="ended", run=run, statuses=shown)
        for share in shares:
            self.cursor += 1
            yield ResultRead(cursor=f"{self.cursor}-0", instance=share.instance, run=run, code=0, hits=1)
        yield TelescopeEvent(word="deconfigure", array=name)
        yield from self._acknowledge()

    def _timer(self, name: str) -> TimerFired:
        return TimerFired(name=name, generation=self.machine.timers[name].generation)

    def _acknowledge(self) -> Iterator[Event]:
        for identity in list(self.machine.outstanding):
            yield EffectDone(effect=identity)

    def cycles(self, count: int) -> int:
        """Step through cycles; returns the number of events."""
        done = 0
        for _ in range(count):
            for event in self.events():
                self.step(event)
                done += 1
            self.machine.take_changes()
        return done


def bare_steps(quick: bool) -> list[Figure]:
    """Events a second without a journal, and how that depends on the size of the pool."""
    rates: dict[int, float] = {}
    for instances in (100, 128, 1000 if quick else 100_000):
        cycle = Cycle(instances)
        cycle.cycles(1)
        began = time.perf_counter()
        events = cycle.cycles(2 if quick else 5)
        rates[instances] = events / (time.perf_counter() - began)
    small, ours, large = rates.values()
    largest = max(rates)
    return [
        Figure(
            "bare step, 128 instances", ours, 50_000, ours / 50_000, ">= 50,000 events/s", "events/s", ours >= 50_000
        ),
        Figure(
            f"time an event, {largest:,} instances / 100",
            1e6 / large,
            1e6 / small,
            small / large,
            "<= 3",
            "us",
            small / large <= 3,
        ),
    ]


def with_journal(quick: bool) -> Figure:
    """Commits of one event each, beside the same bytes given to a script that only appends and sets."""
    script = "redis.call('XADD',KEYS[1],ARGV[1],'e',ARGV[2]) redis.call('HSET',KEYS[2],'s',ARGV[3])"
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            return _journal_figure(server.url, script, 200 if quick else 1000)
        finally:
            server.stop()


def _journal_figure(url: str, script: str, count: int) -> Figure:
    import redis

    driver = Driver(CommensalMachine, Codec(CommensalMachine), RedisJournal(url, "bench"))
    driver.claim("bench")
    world = {"config": {"arrays": ["array_1"], "hashpipe_instances": ["blpn0/0"]}}
    commits: list[Commit] = []

    def commit(event: Event) -> None:
        prepared = driver.prepare([Caused(event)], Instant(NOW, NOW))
        driver.journal.commit(prepared.commit)
        commits.append(prepared.commit)

    commit(driver.restart_event(world))
    ours = best_of(lambda: _repeat(commit, count), 3) / count
    sizes = commits[-1]
    payload = sum(len(value or b"") for value in sizes.changes.values())
    with redis.Redis.from_url(url) as client:
        bare = client.register_script(script)
        place = [0]

        def reference() -> None:
            for _ in range(count):
                place[0] += 1
                bare(keys=["x", "y"], args=[f"{place[0]}-0", sizes.entries[0], b"x" * payload])

        theirs = best_of(reference, 3) / count
    return Figure("one event committed to Redis", 1e6 * ours, 1e6 * theirs, ours / theirs, "", "us", None)


def _repeat(commit: Callable[[Event], None], count: int) -> None:
    for number in range(count):
        commit(TelescopeEvent(word="tracking" if number % 2 else "not-tracking", array="array_1"))


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    publish([*bare_steps(options.quick), with_journal(options.quick)], options.json)
