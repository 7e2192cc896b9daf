"""The faults of the original analyzer (W10 to W13) and the trials of the search (18, 19), each by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from socs_bl.core.event import Event
from socs_bl.search.model import (
    CODES,
    CleanRequested,
    DeleteRaw,
    DiskShort,
    Listed,
    ListRead,
    Outcome,
    PreserveRequested,
    RegisterProducts,
    RequeueRequested,
    RunSearch,
    SearchEnded,
)
from socs_bl.search.wire import update_commands
from socs_bl.search.worklist import WorkList
from tests.search.test_machine import Bench
from tests.search.test_seticore import Bench as SeticoreBench


class Lists:
    """Redis as far as the lists need it: an own copy would do as well, since nothing is written here."""

    def __init__(self, lists: dict[str, list[str]], texts: dict[str, str]) -> None:
        self.lists = lists
        self.texts = texts

    def lrange(self, key: str, first: int, last: int) -> list[bytes]:
        return [text.encode() for text in self.lists.get(key, [])]

    def get(self, key: str) -> bytes | None:
        return self.texts[key].encode() if key in self.texts else None

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]


def listed(*names: str, **more: Any) -> ListRead:
    """The coordinator's list with these directories on it, the oldest first."""
    return ListRead(listed=tuple(Listed(name, f"/buf0/{name}") for name in names), **more)


def unproc(bench: Bench) -> list[str]:
    """What was taken off the coordinator's list."""
    return bench.pushed("LREM", "unprocessed")


def test_w10_what_was_noted_of_a_recording_decides_nothing(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """An early stop leaves a wrong end at one of two directories: both are judged by what lies on the disk, and what the
    target selector is told is what was recorded."""
    noted = {"band": "l", "start_ts": 1000.0, "nants": 64, "obsid": "MeerKAT:array_1:x"}
    texts = {"rec_end:/buf0/x": "1100.0", "rec_end:/buf1/x": "1290.0"}
    texts |= {f"metadata:/buf{number}/x": json.dumps(noted) for number in range(2)}
    work = WorkList(Lists({}, texts), "blpn64/0")  # type: ignore[arg-type]  # what it uses of a client
    assert [work.noted(f"/buf{number}/x").duration for number in range(2)] == [100.0, 290.0]
    bench = Bench()
    for number in range(2):
        entry = msgspec.structs.replace(work.noted(f"/buf{number}/x"), run=f"r{number}")
        assert bench.ask_for(ListRead(listed=(entry,))) == ""
        assert bench.wanted(RunSearch).min_duration is None
        bench.searched()
        bench.done(bench.wanted(RegisterProducts))
    updates = [write[2] for write in bench.vault.writes if write[1] == "target-selector:processing"]
    assert updates == [update_commands("MeerKAT:array_1:x", "l", 20.0, 64, 64)[0][2]] * 2
    assert json.loads(updates[0].removeprefix("UPDATE:")) == {
        "nsegs": 1, "band": "l", "t": 20.0, "nants": 64, "obsid": "MeerKAT:array_1:x", "nbeams": 64,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("behaviour", "outcome"), [("segv", Outcome.KILLED), ("exit 1", Outcome.DECLINED), ("cuda", Outcome.DEVICE)]
)
def test_w11_a_search_that_died_is_no_success_and_deletes_nothing(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], behaviour: str, outcome: Outcome
) -> None:
    """A signal, a missing recipe, a failed device: each its own code above 2, tried once more, raw data kept."""
    seticore = SeticoreBench(tmp_path, voltages, write_raw)
    seticore.recipe(behaviour)
    assert seticore.failure().outcome is outcome
    bench = Bench(keep_raw=False, delete_short=True, reclaim=True)
    bench.ask("r1")
    bench.give_up("r1", outcome)
    assert bench.returns() == [f"RETURN:blpn64/0:{CODES[outcome]}:-1"] and CODES[outcome] > 2
    bench.say(DiskShort(text="full"))
    assert not [effect for effect in bench.to_do.values() if isinstance(effect, DeleteRaw)]
    assert len({code for other, code in CODES.items() if other not in (Outcome.SEARCHED, Outcome.TOO_SHORT)}) == 12


def test_w12_nothing_is_taken_off_the_list_before_it_is_done() -> None:
    """The list is read and not emptied; a crash in the middle loses nothing; each directory is taken off when it was
    searched; what failed stays on it, is not searched again by itself, and is seen; one return with the worst code."""
    bench = Bench()
    assert bench.ask_for(listed("r1", "bad", "r2")) == ""
    assert "already" in bench.ask_for(listed("r1"))
    bench.start()
    bench.searched()
    assert unproc(bench) == []
    bench.done(bench.wanted(RegisterProducts))
    assert unproc(bench) == ["/buf0/r1"] and bench.returns() == []
    bench.start()
    bench.give_up("bad")
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert unproc(bench) == ["/buf0/r1", "/buf0/r2"]
    assert bench.returns() == ["RETURN:blpn64/0:6:-1"]
    assert [result["code1"] for result in bench.results()] == ["0", "6", "0"]
    assert bench.ask_for(listed("bad")) == ""
    assert bench.returns() == ["RETURN:blpn64/0:6:-1"] * 2
    assert [run.name for run in bench.machine.given_up()] == ["bad"]
    assert bench.ask_for(RequeueRequested(datadir="/buf0/bad")) == ""
    assert bench.wanted(RunSearch).run == "bad"


def test_w12_a_return_is_given_whatever_was_noted() -> None:
    """No last directory, an empty list, notes that are no JSON: the original ended without a word."""
    work = WorkList(
        Lists({"blpn64/0:unprocessed": ["/buf0/new", "/buf0/old"]}, {"metadata:/buf0/old": "no JSON"}),  # type: ignore[arg-type]  # likewise
        "blpn64/0",
    )
    read = work.read()
    assert [entry.datadir for entry in read.listed] == ["/buf0/old", "/buf0/new"] and read.last is None
    assert {entry.run for entry in read.listed} == {"list:/buf0/old", "list:/buf0/new"}
    bench = Bench()
    assert bench.ask_for(read) == ""
    for _ in range(2):
        bench.ended(Outcome.MISSING)
    assert bench.ask_for(ListRead()) == ""
    assert bench.returns() == ["RETURN:blpn64/0:1:-1", "RETURN:blpn64/0:0:-1"]


def test_w13_what_was_recorded_in_the_wrong_place_is_searched_and_stays() -> None:
    """A directory that is not on the list was deleted unsearched, preserved or not: it is searched like the others, people
    are told, the return is 1, and a preserved one stays."""
    bench = Bench(keep_raw=False)
    wrong = Listed("wrong", "/buf0/wrong")
    assert bench.ask_for(listed("r1", preserved=("/buf0/wrong",), last=wrong)) == ""
    assert "not on the coordinator's list" in bench.notified("warning")[0]
    bench.ended(Outcome.MISSING)
    assert bench.wanted(RunSearch).datadir == "/buf0/wrong"
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert not [effect for effect in bench.to_do.values() if isinstance(effect, DeleteRaw)]
    assert bench.returns() == ["RETURN:blpn64/0:1:-1"]
    assert bench.ask_for(listed("r2", last=wrong)) == ""
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    bench.deleted()
    assert bench.returns()[-1] == "RETURN:blpn64/0:0:-1", "it has been searched meanwhile and is no mismatch"


def test_d03_18_the_oldest_processed_goes_first_and_never_unprocessed_or_preserved() -> None:
    """A disk that is short takes what was processed first, one at a time; waiting, failed and preserved directories stay,
    and what cannot be proven is not asked for again and again."""
    bench = Bench(reclaim=True)
    bench.process("r1", "kept", "r2", "r3")
    bench.ask("bad")
    bench.give_up("bad")
    assert bench.ask_for(PreserveRequested(datadir="/buf0/kept")) == ""
    bench.ask("waiting")
    order = []
    for number in range(6):
        bench.say(DiskShort(text="1 % free"), DiskShort(text="1 % free"))
        going = [effect for effect in bench.to_do.values() if isinstance(effect, DeleteRaw)]
        order += [(effect.datadir, effect.rule) for effect in going]
        if going:
            bench.deleted(refusal="it has changed" if number == 1 else "")
    assert order == [(f"/buf0/{name}", "disk_short") for name in ("r1", "r2", "r3")]
    assert bench.ask_for(CleanRequested(datadir="/buf0/r2")) == "", "a person may ask again"


@pytest.mark.parametrize(
    "outcome", sorted(set(Outcome) - {Outcome.SEARCHED, Outcome.TOO_SHORT}, key=lambda item: item.value)
)
def test_d03_19_every_bad_end_is_classified_and_left_alone_after_one_more_try(outcome: Outcome) -> None:
    """Whatever a search ends with: at most two searches, then a report with its own reason, raw data kept, and the next
    run begins."""
    bench = Bench(keep_raw=False)
    bench.ask("r1")
    bench.ask("r2")
    searches = 0
    while bench.machine.run("r1").outcome is None:  # type: ignore[union-attr]  # asked for above
        search = bench.wanted(RunSearch)
        searches += 1
        end: Event = SearchEnded(run="r1", attempt=search.attempt, outcome=outcome, text="because")
        bench.done(search, end)
        if bench.machine.timers:
            bench.fire("search/r1")
    assert searches <= 2
    assert bench.results()[0]["reason"] == f"{outcome.value}: because"
    assert not [effect for effect in bench.to_do.values() if isinstance(effect, DeleteRaw)]
    assert bench.wanted(RunSearch).run == "r2"
