"""Feeds, worker threads and health."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from socs_bl.agentkit.feeds import FeedSchema, NumericFeed
from socs_bl.agentkit.health import Health
from socs_bl.agentkit.threads import WorkerThreads
from socs_bl.core.errors import Retry
from tests.harness.agent_case import make_site_agent, pause

SCHEMA = FeedSchema("daq", {"rate": {"gbps": float, "lost": int, "state": str, "armed": bool}})


class RawFeed:
    """Takes what would go to OCS, with OCS's own checks."""

    def __init__(self) -> None:
        self.agent = make_site_agent()
        self.feed = self.agent.register_feed("daq", record=True, buffer_time=1e9)

    def publish_message(self, message: dict[str, Any]) -> None:
        self.feed.publish_message(message)

    @property
    def data(self) -> dict[str, list[Any]]:
        data: dict[str, list[Any]] = self.feed.blocks["rate"].data
        return data


def test_values_are_cast_to_their_field() -> None:
    """numpy scalars and ints for floats reach the aggregator as what the schema says."""
    raw = RawFeed()
    feed = NumericFeed(SCHEMA, raw, lambda: True)
    assert feed.publish("rate", {"gbps": np.float32(1.5), "lost": np.int64(3), "state": "ok", "armed": np.bool_(True)})
    assert feed.publish("rate", {"gbps": 2, "lost": 3.0, "state": 5, "armed": 0}, timestamp=1)
    assert raw.data == {"gbps": [1.5, 2.0], "lost": [3, 3], "state": ["ok", "5"], "armed": [True, False]}
    assert {name: {type(x) for x in column} for name, column in raw.data.items()} == {
        "gbps": {float}, "lost": {int}, "state": {str}, "armed": {bool},
    }  # fmt: skip


def test_samples_that_are_not_finite_are_left_out_and_counted() -> None:
    """A NaN costs its own sample only."""
    raw = RawFeed()
    feed = NumericFeed(SCHEMA, raw, lambda: True)
    assert not feed.publish("rate", {"gbps": math.nan, "lost": 0, "state": "", "armed": False})
    assert feed.counters == {"published": 0, "unsent": 0, "not_finite": 1} and "rate" not in raw.feed.blocks


def test_the_structure_of_a_block_is_fixed() -> None:
    """A missing or additional field, or an unknown block, is the caller's bug and says so."""
    feed = NumericFeed(SCHEMA, RawFeed(), lambda: True)
    for block, values in (("rate", {"gbps": 1.0}), ("other", {"gbps": 1.0})):
        with pytest.raises(ValueError, match="feed daq"):
            feed.publish(block, values)


def test_without_router_samples_are_counted_as_unsent() -> None:
    """OCS keeps no samples while the router is gone; we at least count them."""
    feed = NumericFeed(SCHEMA, RawFeed(), lambda: False)
    assert not feed.publish("rate", {"gbps": 1.0, "lost": 0, "state": "", "armed": False})
    assert feed.counters["unsent"] == 1


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("daq", {"rate": {"1st": float}}), ("daq", {"rate": {"a-b": float}}), ("d q", {}), ("daq", {"rate": {"a": list}})],
)
def test_schemas_ocs_would_refuse_fail_when_written(name: str, blocks: dict[str, dict[str, type]]) -> None:
    """Names and types are checked with OCS's own rules when the class is defined."""
    with pytest.raises(ValueError):
        FeedSchema(name, blocks)


@pytest.fixture
def threads() -> Any:
    """Two worker threads with a backlog of one."""
    from twisted.internet import reactor

    made = WorkerThreads(reactor, size=2, backlog=1)
    yield made
    made.close()


@pytest_twisted.ensureDeferred
async def test_blocking_calls_run_beside_the_reactor(threads: WorkerThreads) -> None:
    """The result comes back, an error too, and the call ran in another thread."""
    assert await threads.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    assert threads.running == 0


@pytest_twisted.ensureDeferred
async def test_too_many_calls_are_refused_not_queued(threads: WorkerThreads) -> None:
    """Two run, one waits, the next is refused with a Retry; afterwards there is room again."""
    gate = threading.Event()
    calls = [Deferred.fromCoroutine(threads.run(gate.wait, 20)) for _ in range(3)]
    with pytest.raises(Retry, match="3 blocking calls"):
        await threads.run(int)
    assert threads.refused == 1
    gate.set()
    assert [await call for call in calls] == [True] * 3
    assert await threads.run(int) == 0


@pytest_twisted.ensureDeferred
async def test_a_cancelled_caller_waits_for_its_thread(threads: WorkerThreads) -> None:
    """What holds a lock around a blocking call keeps it until the call has really ended."""
    gate = threading.Event()
    ended: list[str] = []

    async def caller() -> None:
        try:
            await threads.run(gate.wait, 20)
        finally:
            ended.append("caller")

    performed = Deferred.fromCoroutine(caller())
    performed.cancel()
    await pause(0.05)
    performed.cancel()
    await pause(0.05)
    assert ended == [] and threads.running == 1
    gate.set()
    with pytest.raises(CancelledError):
        await performed
    assert ended == ["caller"] and threads.running == 0


@pytest_twisted.ensureDeferred
async def test_after_close_nothing_starts(threads: WorkerThreads) -> None:
    """An agent that ends takes no new work."""
    await threads.run(int)
    threads.close()
    with pytest.raises(Retry):
        await threads.run(int)


def test_health_counts_stalls_and_survives_bad_counters() -> None:
    """A late reactor is a stall, and a counter that fails shows as NaN and takes nothing down."""
    health = Health()
    health.add("capture.lost", lambda: 3)
    health.add("capture.broken", lambda: 1 / 0)
    with pytest.raises(ValueError, match="capture.lost"):
        health.add("capture.lost", lambda: 4)
    assert [health.late(lag) for lag in (-0.001, 0.2, 0.7)] == [False, False, True]
    report = health.report()
    assert report["counters"]["capture.lost"] == 3.0 and math.isnan(report["counters"]["capture.broken"])
    assert report["reactor"] == {"lag_s": 0.7, "worst_lag_s": 0.7, "stalls": 1}


def test_only_the_latest_alerts_are_kept() -> None:
    """A flood of notifications costs bounded memory."""
    health = Health()
    for number in range(100):
        health.alert("observatory.a", "error", f"alert {number}", {})
    assert len(health.alerts) == 20 and health.alerts[-1]["text"] == "alert 99"
