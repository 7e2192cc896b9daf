"""Effects start in the order of their lanes and after what they wait for, and nothing that may start is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.effect import Effect
from socs_bl.core.lanes import Lanes
from tests.harness.toy import Light

ORDERS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sets(st.integers(0, 11), max_size=2)), max_size=12)


def startable(queued: list[Effect], started: set[str]) -> set[str]:
    """Ids of effects that may start, found by looking at all of them."""
    waiting, found, lanes = {effect.id for effect in queued}, set(), set()
    for effect in queued:
        first = not effect.lane or effect.lane not in lanes
        lanes.add(effect.lane)
        if first and effect.id not in started and not waiting & set(effect.after):
            found.add(effect.id)
    return found


@given(orders=ORDERS, data=st.data())
def test_what_may_start_starts_once(orders: list[tuple[str, set[int]]], data: st.DataObject) -> None:
    """In any order of queuing, acknowledging and withdrawing, exactly what may start is started, and only once."""
    lanes, queued, started = Lanes(), [], set()
    new = [
        Light(lamp="x", id=f"1.{number}", lane=lane, after=tuple(f"1.{other}" for other in after if other < number))
        for number, (lane, after) in enumerate(orders)
    ]
    while new or queued:
        size = data.draw(st.integers(0, len(new)))
        lanes.add(new[:size])
        queued, new = queued + new[:size], new[size:]
        ready = [effect.id for effect in lanes.start()]
        assert len(ready) == len(set(ready)) and set(ready) == startable(queued, started)
        started.update(ready)
        if queued:
            gone = data.draw(st.sampled_from(queued))
            lanes.settle(gone.id)
            lanes.settle(gone.id)
            queued.remove(gone)
        assert len(lanes) == len(queued)
    assert lanes.start() == []
