"""What one event costs: the commensal machine by itself, made ready for the journal, and committed to Redis.

The mix is that of `workload`: whole cycles of all subarrays at once, the pool used up. It is recorded once and stepped on a
fresh machine, so that nothing but the machine is timed. Steps are timed in CPU seconds of this process, since others may
share the machine; what waits for Redis in seconds of the wall clock.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import redis
from report import Figure, arguments, publish
from workload import Recorder, feed

from socs_bl.commensal.machine import CommensalMachine
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.event import Event
from socs_bl.core.journal import Commit
from socs_bl.core.memory_journal import MemoryJournal, Vault
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.redis_server import RedisServer

WANTED = 50_000.0  # events a second
BATCH = 64  # events a commit, as in `socs_bl.agentkit.runner`
CODEC = Codec(CommensalMachine)
# As much as a commit writes, in the least of a script: the entry appended, all the rest as one field.
BARE = "redis.call('XADD',KEYS[1],ARGV[1],'e',ARGV[2]) redis.call('HSET',KEYS[2],'s',ARGV[3])"


def shortest(work: Callable[[CommensalMachine], None], recorder: Recorder, times: int) -> float:
    """Shortest CPU time of some work on a machine that has just been configured, seconds an event."""
    durations = []
    for _ in range(times):
        machine = CommensalMachine()
        feed(recorder.events[: recorder.beginning], machine.step)
        machine.take_changes()
        machine.take_projection()
        gc.collect()
        began = time.process_time()
        work(machine)
        durations.append(time.process_time() - began)
    return min(durations) / (len(recorder.events) - recorder.beginning)


def recorded(instances: int, subarrays: int, cycles: int) -> Recorder:
    """A workload; what it is made of is kept out of the garbage collector's sight."""
    recorder = Recorder(instances, subarrays)
    recorder.record(cycles)
    gc.collect()
    gc.freeze()
    return recorder


def bare(recorder: Recorder) -> Callable[[CommensalMachine], None]:
    """Step through the workload and nothing else."""
    return lambda machine: feed(recorder.events[recorder.beginning :], machine.step)


def prepared(recorder: Recorder) -> Callable[[CommensalMachine], None]:
    """Make the commits of the workload, with saved keys, encoded entries and encoded state, and write them nowhere."""

    def work(machine: CommensalMachine) -> None:
        driver = Driver(CommensalMachine, CODEC, MemoryJournal(Vault()))
        driver.machine = machine
        events = recorder.events[recorder.beginning :]
        for first in range(0, len(events), BATCH):
            batch = events[first : first + BATCH]
            driver.prepare([Caused(event) for event in batch], batch[-1].at)

    return work


def steps(quick: bool) -> Iterator[Figure]:
    """Events a second without a journal, and how that depends on the size of the pool."""
    times = 3 if quick else 7
    middle = recorded(128, 2, 5 if quick else 20)
    rate = 1 / shortest(bare(middle), middle, times)
    mix = "whole cycles of 2 subarrays"
    yield Figure(
        f"bare step, 128 instances, {mix}", rate, WANTED, rate / WANTED, ">= 50,000 /s", "events/CPU s", rate >= WANTED
    )
    small, many = recorded(100, 2, 5 if quick else 20), 2000 if quick else 100_000
    large = recorded(many, many // 50, 1)
    for what, work, goal in (("bare step", bare, 3.0), (f"commits of {BATCH} made, not written", prepared, 0.0)):
        ours = shortest(work(large), large, 2 if work is bare else 1)
        reference = shortest(work(small), small, times)
        ratio = ours / reference
        yield Figure(
            f"{what}: an event at {many:,} instances ({many // 50:,} subarrays) / at 100 (2)",
            1e6 * ours,
            1e6 * reference,
            ratio,
            f"<= {goal:g}" if goal else "",
            "CPU us",
            ratio <= goal if goal else None,
        )


def with_journal(quick: bool) -> Iterator[Figure]:
    """The commits of the workload in Redis, beside a script that appends and sets as many bytes and does nothing else."""
    recorder = recorded(128, 2, 1 if quick else 3)
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            for batch in (1, BATCH):
                yield _journal_figure(server.url, recorder.events, batch)
        finally:
            server.stop()


def _journal_figure(url: str, events: list[Event], batch: int) -> Figure:
    driver = Driver(CommensalMachine, CODEC, RedisJournal(url, f"bench{batch}"))
    driver.claim("bench")
    commits: list[Commit] = []
    began = time.perf_counter()
    for first in range(0, len(events), batch):
        some = events[first : first + batch]
        commit = driver.prepare([Caused(event) for event in some], some[-1].at).commit
        driver.journal.commit(commit)
        commits.append(commit)
    ours = (time.perf_counter() - began) / len(events)
    driver.journal.close()
    with redis.Redis.from_url(url) as client:
        script = client.register_script(BARE)
        sizes = [(b"".join(commit.entries), b"x" * _state_bytes(commit)) for commit in commits]
        began = time.perf_counter()
        for number, (entries, rest) in enumerate(sizes, 1):
            script(keys=[f"x{batch}", f"y{batch}"], args=[f"{number}-0", entries, rest])
        reference = (time.perf_counter() - began) / len(events)
    what = "one event a commit" if batch == 1 else f"{batch} events a commit"
    return Figure(
        f"stepped and committed to Redis, {what} / bare script of the same bytes",
        1e6 * ours,
        1e6 * reference,
        ours / reference,
        "",
        "us",
        None,
    )


def _state_bytes(commit: Commit) -> int:
    changes = sum(len(field) + len(value or b"") for field, value in commit.changes.items())
    return changes + sum(len(word.encode()) for command in commit.writes for word in command)


if __name__ == "__main__":
    options = arguments(__doc__ or "")
    publish([*steps(options.quick), *with_journal(options.quick)], options.json)
