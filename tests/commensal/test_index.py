"""The index says after any changes what one made from scratch says; who is taken next is worked out here once more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from socs_bl.commensal.allocation import Share
from socs_bl.commensal.index import Index, index_of
from socs_bl.commensal.model import Duty, Instance, Subarray

NAMES = ("blpn0/0", "blpn0/1", "blpn9/0", "blpn10/0")
ARRAYS = ("array_1", "array_2")
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from([Duty.FREE, *Duty]),
        st.sampled_from(ARRAYS),
        st.sampled_from(["run 1", "run 2"]),
        st.booleans(),
    ),
    max_size=60,
)


def instance(name: str, duty: Duty, owner: str, run: str) -> Instance:
    """An instance as the pool would write it."""
    works = duty in (Duty.RECORDING, Duty.PROCESSING)
    return Instance(name=name, duty=duty, owner=owner if works or duty is Duty.READY else "", run=run if works else "")


@given(changes=CHANGES, wanted=st.integers(1, 5))
def test_an_index_agrees_with_its_cells(changes: list[tuple[str, Duty, str, str, bool]], wanted: int) -> None:
    """Whoever comes, goes, works and is taken, also when it is asked for the first free ones in between."""
    index = Index(NAMES)
    pool: dict[str, Instance] = {}
    arrays = {name: Subarray(name=name) for name in ARRAYS}
    for name, duty, owner, run, leaves in changes:
        after = None if leaves else instance(name, duty, owner, run)
        index.moved(pool.pop(name, None), after)
        if after is not None:
            pool[name] = after
        before = arrays[owner].shares
        others = {share.instance for cell in arrays.values() for share in cell.shares if cell.name != owner}
        members = [name for name in NAMES if name in pool and pool[name].owner == owner and name not in others]
        arrays[owner] = Subarray(name=owner, shares=tuple(Share(name, "", 4, 0) for name in members))
        index.shared_out(owner, before, arrays[owner].shares)
        free = [name for name in NAMES if name in pool and pool[name].duty is Duty.FREE]
        assert index.first_free(wanted) == tuple(free[:wanted])
    assert index.contents() == index_of(NAMES, [*pool.values(), *arrays.values()]).contents()
    assert index.all_free() == [name for name in NAMES if name in pool and pool[name].duty is Duty.FREE]
