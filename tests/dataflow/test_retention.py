"""No copy goes unless its rule is fulfilled by what is known; whatever disagrees, is old, or is not known keeps it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.dataflow.entries import CopyEntry, FileEntry, JobEntry
from socs_bl.dataflow.model import CopyState, Digest, JobState
from socs_bl.dataflow.retention import Decision, Held, Space, decide, plan
from socs_bl.dataflow.stages import DeleteWhen, Retention

DAY = 86400 * 10**9
NOW = 20_000 * DAY
ROOM = Space(1000, 500)


def rule(dry_run: bool = False, **values: Any) -> Retention:
    """A rule for the store ``radar``."""
    wanted = DeleteWhen.model_validate({"verified_copies": 2, **values})
    return Retention(id="keep", kind="retention", store="radar", delete_when=wanted, dry_run=dry_run)


def file(number: int = 1, **values: Any) -> FileEntry:
    """A file that was complete ten days ago."""
    entry = FileEntry(
        id=number, name=f"file-{number}", block="data", fields={}, begins_ns=None, size=100, metadata={},
        added_ns=NOW - 10 * DAY, parent=None, made_by="", digests={"md5": Digest("md5", "0" * 32)},
    )  # fmt: skip
    return msgspec.structs.replace(entry, **values)


def copy(number: int, store: str, state: CopyState = CopyState.VERIFIED, days: float = 1, of: int = 1) -> CopyEntry:
    """A copy that was verified so many days ago."""
    return CopyEntry(
        id=number, file=of, store=store, path=f"{store}/{number}", state=state, size=100, mtime_ns=0, inode=0, seen_ns=0,
        verified_ns=NOW - round(days * DAY), reason="",
    )  # fmt: skip


def job(stage: str, state: JobState) -> JobEntry:
    """A job of the file."""
    return JobEntry(
        id=1, stage=stage, file=1, target="", resource="", state=state, priority=0, order_ns=0, attempts=1, due_ns=0, reason="",
        changed_ns=0,
    )  # fmt: skip


HERE = copy(1, "radar", CopyState.PRESENT)
GOOD = (HERE, copy(2, "nas"), copy(3, "nas"))


def decided(
    stage: Retention, *copies: CopyEntry, here: CopyEntry = HERE, rebuilding: str = "", **values: Any
) -> Decision:
    """What the rule says of the copy in ``radar``."""
    held = Held(file=values.pop("file", file()), copy=here, copies=copies or GOOD, **values)
    return decide(stage, held, NOW, rebuilding)


def test_two_verified_copies_allow_it() -> None:
    """The decision names the rule and the copies that prove it."""
    decision = decided(rule())
    assert decision.delete and decision.rule == "keep"
    assert decision.reason == "2 verified copies elsewhere: nas:nas/2, nas:nas/3"


KEPT: dict[str, tuple[Retention, dict[str, Any], str]] = {
    "one copy is not two": (rule(), {"copies": (HERE, copy(2, "nas"))}, "1 verified copies of 2"),
    "its own verification is no copy": (rule(verified_copies=1), {"copies": (copy(1, "radar"),)}, "0 verified copies of 1"),
    "present is not verified": (rule(), {"copies": (HERE, copy(2, "nas"), copy(3, "nas", CopyState.PRESENT))}, "1 verified"),
    "delivered is no copy": (rule(), {"copies": (HERE, copy(2, "nas"), copy(3, "vt", CopyState.DELIVERED))}, "1 verified"),
    "verified too long ago": (rule(), {"copies": (HERE, copy(2, "nas"), copy(3, "nas", days=31))}, "verified too long ago"),
    "verified in the future": (rule(), {"copies": (HERE, copy(2, "nas"), copy(3, "nas", days=-1))}, "1 verified"),
    "in another store": (rule(on=("campus",)), {}, "0 verified copies of 2"),
    "a corrupt copy anywhere": (rule(), {"copies": (*GOOD, copy(4, "vt", CopyState.CORRUPT))}, "the copy in vt is corrupt"),
    "a suspect copy anywhere": (rule(), {"copies": (*GOOD, copy(4, "vt", CopyState.SUSPECT))}, "the copy in vt is suspect"),
    "the copy itself is suspect": (rule(), {"here": copy(1, "radar", CopyState.SUSPECT)}, "it is suspect"),
    "it is gone already": (rule(), {"here": copy(1, "radar", CopyState.DELETED)}, "it is deleted"),
    "a copy in another store is asked of": (rule(), {"here": copy(2, "nas")}, "the rule is for radar"),
    "never hashed": (rule(), {"file": file(digests={})}, "never hashed"),
    "the rule is for others": (rule(), {"not_for": "'zip' does not hold"}, "not for it: 'zip' does not hold"),
    "a stage needs it": (rule(), {"needed_by": frozenset({"plots"})}, "plots still needs it"),
    "a job runs": (rule(), {"jobs": (job("plots", JobState.RUNNING),)}, "job plots is running"),
    "a job is held": (rule(), {"jobs": (job("to_nas", JobState.HELD),)}, "job to_nas is held"),
    "a job found it bad": (rule(), {"jobs": (job("intake", JobState.BAD),)}, "found it bad"),
    "too young": (rule(min_age="11d"), {}, "10.0 days old, the rule asks for 11"),
    "rebuilding": (rule(), {"rebuilding": "the catalogue was rolled back"}, "not trusted: the catalogue was rolled back"),
    "rebuilding, and the last copy": (
        rule(verified_copies=0, last_copy=True), {"rebuilding": "lost"}, "not trusted: lost"
    ),
    "nothing replaced it": (rule(replaced=True), {}, "nothing has replaced it"),
}  # fmt: skip


@pytest.mark.parametrize("why", KEPT)
def test_it_stays(why: str) -> None:
    """Each of these alone keeps a copy, and is said."""
    stage, values, says = KEPT[why]
    decision = decided(stage, *values.pop("copies", GOOD), **values)
    assert not decision.delete and says in decision.reason


def test_one_file_under_two_names_is_one_copy() -> None:
    """Hard links share their bytes: neither counts beside the other."""
    links = [msgspec.structs.replace(copy(number, "nas"), inode=7) for number in (2, 3)]
    assert not decided(rule(), HERE, *links).delete
    here = msgspec.structs.replace(HERE, inode=8)
    twin = msgspec.structs.replace(copy(2, "radar"), inode=8)
    assert not decided(rule(verified_copies=1), here, twin, here=here).delete


def test_two_copies_do_not_speak_for_each_other() -> None:
    """Two copies in one store under a rule that wants one other: one of them goes, not both."""
    twins = (copy(1, "radar"), copy(2, "radar"))
    held = [Held(file=file(), copy=twin, copies=twins) for twin in twins]
    decisions = plan(rule(verified_copies=1), held, NOW, ROOM)
    assert [decision.delete for decision in decisions] == [True, False]


def test_what_replaced_it_is_counted_instead() -> None:
    """The copies of the packed file speak for the raw one; a corrupt one of them blocks it."""
    packed = file(2, name="packed")
    copies = (copy(5, "nas", of=2), copy(6, "nas", of=2))
    assert decided(rule(replaced=True), HERE, replaced_by=((packed, copies),)).delete
    few = decided(rule(replaced=True), HERE, replaced_by=((packed, copies[:1]),))
    assert not few.delete and "packed" in few.reason
    corrupt = copy(7, "vt", CopyState.CORRUPT, of=2)
    assert not decided(rule(replaced=True), HERE, replaced_by=((packed, (*copies, corrupt)),)).delete


def test_a_dry_run_says_the_same() -> None:
    """It differs in being one, and in nothing else."""
    for copies in (GOOD, GOOD[:2]):
        real, dry = decided(rule(), *copies), decided(rule(dry_run=True), *copies)
        assert dry == msgspec.structs.replace(real, dry_run=True)


def _held(number: int, begins: int) -> Held:
    one = copy(number, "radar", CopyState.PRESENT, of=number)
    return Held(file=file(number, begins_ns=begins), copy=one, copies=(one,))


def test_room_is_made_oldest_first_and_no_more_than_asked() -> None:
    """Below 15 % the oldest files go until 30 % is free; above it nothing does."""
    stage = rule(verified_copies=0, last_copy=True, free_below="15%", free_until="30%")
    held = [_held(1, 300), _held(2, 100), _held(3, 200)]
    gone = [decision.copy.id for decision in plan(stage, held, NOW, Space(1000, 140)) if decision.delete]
    assert gone == [2, 3]  # 140 + 2 x 100 is more than 300
    assert not any(decision.delete for decision in plan(stage, held, NOW, Space(1000, 150)))


STATES = st.sampled_from(list(CopyState))
COPIES = st.lists(st.tuples(st.sampled_from(("radar", "nas", "campus")), STATES, st.floats(0, 60)), max_size=6)


@given(COPIES, st.integers(0, 3), st.sampled_from(((), ("nas",), ("nas", "campus"))), st.booleans())
def test_never_less_than_the_rule_asks_for(
    drawn: list[tuple[str, CopyState, float]], wanted: int, on: tuple[str, ...], replaced: bool
) -> None:
    """Whatever copies there are: when one may be deleted, the others that are verified and young are enough, and none
    disagrees."""
    others = tuple(copy(number, store, state, days) for number, (store, state, days) in enumerate(drawn, 10))
    stage = rule(verified_copies=wanted, last_copy=wanted == 0, on=on, replaced=replaced)
    extra = ((file(2), others),) if replaced else ()
    held = Held(file=file(), copy=HERE, copies=(HERE,) if replaced else (HERE, *others), replaced_by=extra)
    (decision,) = plan(stage, [held], NOW, ROOM)
    if decision.delete:
        good = [one for one in others if one.state is CopyState.VERIFIED and one.verified_ns >= NOW - 30 * DAY]
        assert len([one for one in good if not on or one.store in on]) >= wanted
        assert not any(one.state in (CopyState.CORRUPT, CopyState.SUSPECT) for one in others)
