"""How much, how fast and in which order: connections, bandwidth, batches, room. On a clock of the tests' own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from socs_bl.dataflow.bandwidth import DAY, limit_at, share
from socs_bl.dataflow.batching import Waiting, next_batch
from socs_bl.dataflow.config import Window
from socs_bl.dataflow.connections import Connections
from socs_bl.dataflow.quantities import Rate
from socs_bl.dataflow.space import fitting

PAUSES = st.lists(st.floats(0.0, 30.0), min_size=1, max_size=200)


@given(times=st.integers(1, 7), pauses=PAUSES, restart=st.integers(0, 200))
def test_no_minute_has_more_connections_than_allowed(times: int, pauses: list[float], restart: int) -> None:
    """However often and irregularly it is asked, over a restart too, no minute has more connections than the rate says."""
    connections, now, opened = Connections(Rate(times, 60.0)), 0.0, []
    for number, pause in enumerate(pauses):
        if number == restart:
            connections = Connections(Rate(times, 60.0), reversed(connections.opened))
        now += pause
        if connections.take(now):
            opened.append(now)
        else:
            now += connections.wait(now)  # patience is rewarded at once
            assert connections.take(now)
            opened.append(now)
    for first, later in zip(opened, opened[times:], strict=False):
        assert later - first >= 60.0 - 2e-6  # the rounding of clocks


def test_connections_are_free_until_the_limit() -> None:
    """What is allowed may be used at once; the next one waits until the first of them is old enough."""
    connections = Connections(Rate(3, 60.0))
    assert [connections.take(now) for now in (0.0, 0.0, 10.0, 10.0)] == [True, True, True, False]
    assert connections.wait(20.0) == 40.0
    assert connections.take(60.0) and connections.take(60.0) and not connections.take(60.0)


WINDOWS = (
    Window(between="22:00-06:00", limit=0),
    Window(between="12:00-13:00", limit="1MiB/s"),
    Window(limit="2MiB/s"),
)
HOUR = 3600.0


def test_the_first_window_that_holds_counts() -> None:
    """Night, noon and the rest of the day, each to the minute, past midnight too, and until when."""
    day = 20_000 * DAY
    assert limit_at(WINDOWS, day) == (0, day + 6 * HOUR)
    assert limit_at(WINDOWS, day + 6 * HOUR) == (2 << 20, day + 12 * HOUR)
    assert limit_at(WINDOWS, day + 12 * HOUR + 1) == (1 << 20, day + 13 * HOUR)
    assert limit_at(WINDOWS, day + 21.999 * HOUR) == (2 << 20, day + 22 * HOUR)
    assert limit_at(WINDOWS, day + 22 * HOUR) == (0, day + 30 * HOUR)
    assert limit_at((), day) == (0, float("inf"))
    assert limit_at((Window(limit="1kB/s"),), day) == (1000, float("inf"))


@given(now=st.floats(0, 4 * DAY), step=st.floats(0, 1))
def test_a_limit_holds_until_it_says(now: float, step: float) -> None:
    """Between now and the time that is told, the limit is the same."""
    rate, until = limit_at(WINDOWS, now)
    between = now + (until - now) * step
    assert until > now and (between >= until or limit_at(WINDOWS, between) == (rate, until))


def test_a_limit_is_shared() -> None:
    """Transfers at the same time together keep the limit; none is shared as none."""
    assert (share(100, 3), share(100, 1), share(0, 5), share(2, 5)) == (33, 100, 0, 1)


JOBS = st.lists(
    st.builds(Waiting, st.integers(), st.integers(-10, 10), st.floats(0, 1000), st.integers(0, 100)),
    unique_by=lambda one: one.job,
)


@given(jobs=JOBS, files=st.integers(1, 5), bytes=st.integers(1, 200))
def test_a_batch_is_the_most_urgent(jobs: list[Waiting], files: int, bytes: int) -> None:
    """A batch is of one priority, the highest, oldest first, within its limits; something always goes; nothing goes twice."""
    rest, order = list(jobs), []
    while rest:
        batch = next_batch(rest, 1000.0, files, bytes)
        assert 0 < len(batch) <= files and (sum(one.size for one in batch) <= bytes or len(batch) == 1)
        assert {one.priority for one in batch} == {max(one.priority for one in rest)}
        order += batch
        rest = [one for one in rest if one not in batch]
    assert order == sorted(jobs, key=lambda one: (-one.priority, one.since, one.job))


def test_waiting_long_can_count() -> None:
    """With aging, what has waited long enough goes before what is more urgent and young."""
    plot, data = Waiting(1, -10, 0.0, 1), Waiting(2, 10, 7200.0, 1)
    assert next_batch([plot, data], 7200.0) == (data,)
    assert next_batch([plot, data], 7200.0, aging=300.0) == (plot,)


@given(
    sizes=st.lists(st.integers(0, 50)), free=st.integers(0, 200), inodes=st.integers(-1, 9), reserve=st.integers(0, 60)
)
def test_what_fits_leaves_the_reserve(sizes: list[int], free: int, inodes: int, reserve: int) -> None:
    """What is sent never eats into the reserve nor needs more inodes than there are, and nothing that fits is left out."""
    fits = fitting(sizes, free, inodes, reserve)
    taken = [size for size, fit in zip(sizes, fits, strict=True) if fit]
    assert sum(taken) <= max(0, free - reserve) and (inodes < 0 or len(taken) <= inodes)
    if sum(sizes) <= free - reserve and (inodes < 0 or len(sizes) <= inodes):
        assert all(fits)
