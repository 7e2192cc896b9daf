"""A growing file is never taken, whatever else is written beside it and whatever the clocks say; a complete one is."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.dataflow.complete import Look, Observed, judge, remember
from socs_bl.dataflow.config import Completion
from socs_bl.dataflow.model import Seen
from socs_bl.dataflow.naming import Pattern

PATTERN = Pattern(
    re.compile(r"(?P<t0>\d{8}\.\d{4}\.\d{2})\.(?P<radar>[a-z]{3})\.(?P<slice>\d+)\.(?P<type>[a-z_]+)"),
    "t0",
    "%Y%m%d.%H%M.%S",
)
SAME = {"newer_block_of_same": ["radar", "type", "slice"]}
RULE = Completion.model_validate({"any": [SAME, {"quiet_for": "300s"}], "stable_scans": 2, "apart": "5s"})
SECOND = 10**9
NOW = 1_709_650_000 * SECOND  # 20240305, shortly after 14:46


def observed(name: str, *looks: tuple[float, int], inode: int = 7, writers: int | None = None) -> Observed:
    """A file as looks at given seconds found it, with so many bytes."""
    parsed = PATTERN.parse(name)
    assert parsed is not None
    kept: tuple[Look, ...] = ()
    for at, size in looks:
        kept = remember(kept, Look(round(at * SECOND), Seen("radar", name, size, size, inode)), RULE)
    return Observed(name=parsed, time_ns=PATTERN.time_ns(parsed), looks=kept, writers=writers)


FIRST = "20240305.1200.00.sas.0.rawacf"


def complete(file: Observed, *others: Observed, now: float = 20, rule: Completion = RULE) -> bool:
    """Whether it is taken to be complete."""
    return judge(rule, file, others, round(now * SECOND), NOW).complete


def test_a_newer_block_of_the_same_completes() -> None:
    """The radar has opened the next file of this kind and slice, so this one is closed."""
    assert complete(observed(FIRST, (0, 9), (10, 9)), observed("20240305.1400.00.sas.0.rawacf", (0, 1)))


@pytest.mark.parametrize(
    "other",
    [
        "20240305.1200.04.sas.1.rawacf",  # the second slice of an experiment that has just begun: it cost 8 records of 20
        "20240305.1400.00.sas.1.rawacf",
        "20240305.1400.00.pgr.0.rawacf",
        "20240305.1400.00.sas.0.antennas_iq",
        "20240305.1000.00.sas.0.rawacf",
        FIRST,
        "20360305.1400.00.sas.0.rawacf",  # a wrong clock made it
    ],
)
def test_another_file_says_nothing(other: str) -> None:
    """Neither another slice, radar or kind, nor an older block, nor one of the future completes a file."""
    assert not complete(observed(FIRST, (0, 9), (10, 9)), observed(other, (0, 1)))


def test_a_file_that_grows_is_not_complete() -> None:
    """Even with a newer one beside it: its size was not the same twice."""
    newer = observed("20240305.1400.00.sas.0.rawacf", (0, 1))
    assert not complete(observed(FIRST, (0, 9), (10, 10)), newer)
    assert not complete(observed(FIRST, (0, 9), (10, 10), (12, 10)), newer)  # two looks at once are one
    assert complete(observed(FIRST, (0, 9), (10, 10), (16, 10)), newer)


def test_quiet_counts_from_the_first_look_at_what_it_is_now() -> None:
    """What its file system says of the time does not count, a pause in the middle neither."""
    quiet = observed(FIRST, *((at, 9) for at in range(0, 300, 10)))
    assert not complete(quiet, now=299)
    assert complete(quiet, now=300)
    paused = observed(FIRST, (0, 9), (200, 9), (290, 10), (300, 10))
    assert not complete(paused, now=589) and complete(paused, now=591)
    said = judge(RULE, paused, (), 310 * SECOND, NOW)
    assert said.after_s == pytest.approx(280) and "20 s of 300" in said.reason


def test_a_writer_keeps_it_open() -> None:
    """A process that has it open for writing outweighs all signs; where that cannot be known the others decide."""
    newer = observed("20240305.1400.00.sas.0.rawacf", (0, 1))
    assert not complete(observed(FIRST, (0, 9), (10, 9), writers=1), newer)
    assert complete(observed(FIRST, (0, 9), (10, 9), writers=0), newer)


def test_another_file_under_the_same_name_begins_anew() -> None:
    """The same size under another inode is another file."""
    file = observed(FIRST, (0, 9), (10, 9))
    look = Look(20 * SECOND, Seen("radar", FIRST, 9, 9, inode=8))
    changed = msgspec.structs.replace(file, looks=remember(file.looks, look, RULE))
    assert not complete(changed, observed("20240305.1400.00.sas.0.rawacf", (0, 1)))


def test_events_complete_where_the_rule_says_so() -> None:
    """What was renamed into place is complete at the first look; without the event nothing is."""
    rule = Completion.model_validate({"any": [{"moved_in": True}, {"closed": True}], "stable_scans": 1})
    file = observed(FIRST, (0, 9))
    assert not complete(file, rule=rule)
    assert complete(msgspec.structs.replace(file, moved_in=True), rule=rule)
    assert complete(msgspec.structs.replace(file, closed=True), rule=rule)


@given(
    st.lists(st.tuples(st.floats(0.1, 120), st.integers(1, 3)), min_size=1, max_size=30),
    st.floats(0.1, 400),
    st.booleans(),
)
def test_no_file_is_complete_within_a_moment_of_its_last_change(
    history: list[tuple[float, int]], wait: float, newer: bool
) -> None:
    """Under any course of looks: what is complete was the same for at least as long as the looks must be apart, and
    without a newer block for as long as it must be quiet."""
    at, last_change = 0.0, 0.0
    looks: list[tuple[float, int]] = []
    for pause, grown in history:
        at += pause
        size = (looks[-1][1] if looks else 0) + grown - 1
        if not looks or size != looks[-1][1]:
            last_change = at
        looks.append((at, size))
    others = [observed("20240305.1400.00.sas.0.rawacf", (0, 1))] if newer else []
    now = at + wait
    if complete(observed(FIRST, *looks), *others, now=now):
        assert now - last_change >= (5 if newer else 300) - 1e-6
