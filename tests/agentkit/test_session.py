"""Session data: finite JSON whatever is put in, bounded, truthful about progress and the end."""

from __future__ import annotations

import dataclasses
import enum
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from socs_bl.agentkit.jsonsafe import json_safe, size
from tests.agentkit.fakes import FakeAgent


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: float


@dataclasses.dataclass
class Point:
    x: float
    path: Path


class Packet(msgspec.Struct):
    index: int
    payload: bytes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None), (float("-inf"), None), (np.float32("inf"), None), (np.float64(1.5), 1.5),
        (np.int64(7), 7), (np.bool_(True), True), (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.0, np.nan]), [1.0, None]), ({3, 1, 2}, [1, 2, 3]), ((1, 2), [1, 2]), (Pair(1, 2.0), [1, 2.0]),
        (Colour.RED, "red"), (Path("/buf0/x"), "/buf0/x"), (b"\xffok", "\\xffok"), (2**70, str(2**70)),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"), (timedelta(seconds=90), 90.0),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}), (Point(1.0, Path("p")), {"x": 1.0, "path": "p"}),
        (Packet(1, b"x"), {"index": 1, "payload": "x"}), ("\ud800", "?"), (True, True),
    ],
)  # fmt: skip
def test_what_is_put_in_comes_out_as_json(value: object, expected: object) -> None:
    """Every kind of value operations report has a JSON form that says the same."""
    assert json_safe(value) == expected
    assert type(json_safe(value)) is type(expected)


def test_a_cycle_ends() -> None:
    """A structure that holds itself does not hang the agent."""
    loop: dict[str, Any] = {}
    loop["me"] = loop
    json.dumps(json_safe(loop))


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.complex_numbers()
    | st.just(object()) | st.decimals(allow_nan=True)
)  # fmt: skip


@given(st.recursive(LEAVES, lambda x: st.lists(x) | st.dictionaries(st.integers() | st.text(), x) | st.tuples(x, x)))
def test_anything_becomes_strict_json(value: object) -> None:
    """No value whatever breaks the status of an agent."""
    text = json.dumps(json_safe(value), allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert size(json_safe(value)) == len(text)


@settings(max_examples=15)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30_000), min_size=1))
def test_data_stay_below_the_limit_and_pages_hold_everything(lengths: dict[str, int]) -> None:
    """However much is put in, the session shows less than 100 kB, and the pages hold all of it."""
    agent = FakeAgent()
    session = agent.start()
    values: dict[str, list[int]] = {key: list(range(length)) for key, length in lengths.items()}
    session.data = values
    shown = session.raw.data
    assert len(json.dumps(shown)) < 100_000
    for key, value in values.items():
        if shown[key] != value:
            assert shown[key]["truncated"] and shown[key]["length"] == len(value)
            first = session.page(key, 0)
            pages = [first, *(session.page(key, number) for number in range(1, int(str(first["pages"]))))]
            assert all(size(page["value"]) < 50_000 for page in pages)
            assert [item for page in pages for item in page["value"]] == value  # type: ignore[union-attr]
    agent.stream.close()


def test_the_sequence_counts_every_change_and_is_reserved() -> None:
    """The number in the data is the one of the feed; nobody overwrites it."""
    agent = FakeAgent()
    session = agent.start()
    numbers = []
    for value in range(5):
        session.update(value=value)
        numbers.append(session.raw.data["sequence"])
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    with pytest.raises(ValueError, match="sequence"):
        session.update(sequence=3)
    agent.stream.close()


def test_progress_estimates_the_rest() -> None:
    """Half done after ten seconds means ten more; a new step starts anew; without a total there is no estimate."""
    agent = FakeAgent()
    session = agent.start()
    session.progress("copy", 0, 100, "files")
    assert session.data["progress"] == {"step": "copy", "done": 0, "total": 100, "unit": "files", "eta_s": None}
    agent.clock.advance(10)
    session.progress("copy", 50, 100, "files")
    assert session.data["progress"]["eta_s"] == 10.0
    session.progress("verify", 5, 10)
    assert session.data["progress"]["eta_s"] is None
    agent.clock.advance(1)
    session.progress("verify", 6)
    assert session.data["progress"]["eta_s"] is None
    agent.stream.close()


def test_sleep_ends_with_the_time_or_the_stop() -> None:
    """``sleep`` is true after its time, false at once when told to end, and leaves no timer."""
    agent = FakeAgent()
    session = agent.start()
    answers: list[bool] = []
    Deferred.fromCoroutine(session.sleep(5)).addCallback(answers.append)
    agent.clock.advance(5)
    Deferred.fromCoroutine(session.sleep(5)).addCallback(answers.append)
    session.end(grace=10)
    Deferred.fromCoroutine(session.sleep(5)).addCallback(answers.append)
    agent.clock.advance(0.1)
    assert answers == [True, False, False]
    agent.end(session)
    agent.stream.close()
    assert not agent.clock.getDelayedCalls()


def test_a_loop_that_does_not_listen_leaves_the_reactor_alive() -> None:
    """A process that ignores the answer of ``sleep`` is cancelled after its grace, and blocks nobody until then."""
    agent = FakeAgent()
    session = agent.start()
    rounds: list[int] = []

    async def operation() -> None:
        while True:
            rounds.append(1)
            await session.sleep(1000)

    performed = Deferred.fromCoroutine(operation())
    session.attach(performed)
    session.end(grace=3)
    for _ in range(5):
        agent.clock.advance(1)
    failed: list[object] = []
    performed.addErrback(lambda failure: failed.append(failure.trap(CancelledError)))
    assert failed and 2 <= len(rounds) <= 100
    agent.end(session)
    agent.stream.close()


@pytest.mark.parametrize("grace", [0.0, 3.0])
def test_who_does_not_listen_is_cancelled(grace: float) -> None:
    """An operation that waits for something else is cancelled after its grace, and its clean-up runs."""
    agent = FakeAgent()
    session = agent.start()
    cleaned: list[bool] = []

    async def operation() -> None:
        try:
            await Deferred()
        finally:
            cleaned.append(bool(session.stopping))

    performed = Deferred.fromCoroutine(operation())
    session.attach(performed)
    session.end(grace)
    assert session.raw.status == "stopping" and cleaned == ([True] if grace == 0 else [])
    agent.clock.advance(grace)
    assert cleaned == [True]
    performed.addErrback(lambda failure: failure.trap(CancelledError))
    agent.end(session)
    agent.stream.close()


def test_changes_from_threads_are_made_in_the_reactor() -> None:
    """A worker thread hands its change over; the data are a snapshot of that moment."""
    agent = FakeAgent()
    handed: list[tuple[Any, ...]] = []
    agent.clock.callFromThread = lambda function, *args: handed.append((function, *args))  # type: ignore[attr-defined]
    session = agent.start()
    values = [1, 2]

    def work() -> None:
        session.update(values=values)
        session.progress("work", 1, 2)
        values.append(3)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "values" not in session.data
    for function, *args in handed:
        function(*args)
    assert session.data["values"] == [1, 2] and session.data["progress"]["done"] == 1
    agent.stream.close()


def test_degraded_edges_are_logged_once() -> None:
    """Both edges are told, repetitions are not."""
    agent = FakeAgent()
    session = agent.start()
    for value in (False, True, True, False, False):
        session.degraded = value
    assert session.raw.messages == ["degraded", "recovered"]  # type: ignore[attr-defined]
    agent.stream.close()
