"""The analyzer's decisions: nothing asked for is forgotten, nothing is reported that did not happen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from socs_bl.core.archive import read_archive
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver, Work
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import EffectDone, EffectFailed, Event, TimerFired
from socs_bl.core.memory_journal import MemoryJournal, Vault
from socs_bl.search.deletion import DELETE_TRIES
from socs_bl.search.machine import AnalyzerMachine
from socs_bl.search.model import (
    WORTH_ANOTHER_TRY,
    AbortRequested,
    CleanRequested,
    DeleteRaw,
    DeletionEnded,
    Notify,
    Outcome,
    PreserveRequested,
    ProcessRequested,
    Proof,
    Recorded,
    RegisterProducts,
    RequeueRequested,
    RunSearch,
    SearchEnded,
    UnpreserveRequested,
)
from socs_bl.search.runs import CATALOGUE_TRIES, REPORTED_KEPT

SCHEMA_1 = Path(__file__).parent / "schema_1"
CODEC = Codec(AnalyzerMachine)
RECORDED = Recorded("a", "MeerKAT:array_1:x", "blpn64/0", "J0000", 1.7e9, 20.0, 1e9, 2e9, 3, ("/buf0/x/a.0000.raw",))
PRODUCTS = ("/products/a.dat",)


class Bench:
    """A machine in a driver; what it wants done is kept until it is answered."""

    def __init__(self, keep_raw: bool = True, **settings: object) -> None:
        self.vault = Vault()
        self.keep_raw = keep_raw
        self.world = {"instance": "blpn64/0", "keep_raw": keep_raw, **settings}
        self.now = 100.0
        self.to_do: dict[str, Effect] = {}
        self.timers: dict[str, TimerFired] = {}
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a crash: all that was not committed is lost."""
        self.to_do, self.timers = {}, {}
        self.driver = Driver(AnalyzerMachine, CODEC, MemoryJournal(self.vault))
        self.driver.claim("test")
        self.say(self.driver.restart_event(self.world))

    def say(self, *events: Event) -> None:
        self.now += 1.0
        prepared = self.driver.prepare([Caused(event) for event in events], Instant(self.now, self.now))
        self.driver.journal.commit(prepared.commit)
        self.effects = [effect for entry in prepared.entries for effect in entry.effects]
        self.note(self.driver.committed(prepared.entries))
        self.machine.check()

    def note(self, work: Work) -> None:
        for local in work.local:
            name: Any = getattr(local, "name", None)
            if type(local).__name__ == "ArmTimer":
                self.timers[name] = TimerFired(name=name, generation=local.generation)  # type: ignore[attr-defined]
            elif type(local).__name__ == "CancelTimer":
                del self.timers[name]
            else:
                self.to_do.pop(local.effect, None)  # type: ignore[attr-defined]
        self.to_do.update({effect.id: effect for effect in work.perform})

    @property
    def machine(self) -> AnalyzerMachine:
        return self.driver.machine

    def wanted(self, kind: type[Effect]) -> Any:
        """The one effect of a kind that waits to be carried out."""
        (effect,) = [effect for effect in self.to_do.values() if isinstance(effect, kind)]
        return effect

    def ask_for(self, event: Event) -> str:
        """Say something that a person asks for; returns the refusal."""
        before = self.machine.cells.copy()
        self.say(event)
        (answer,) = [effect for effect in self.effects if isinstance(effect, Answer)]
        assert not answer.refusal or self.machine.cells == before, "refused, and something was changed"
        return answer.refusal

    def deleted(self, freed: int = 5000, refusal: str = "") -> None:
        effect = self.wanted(DeleteRaw)
        self.done(
            effect,
            DeletionEnded(datadir=effect.datadir, run=effect.run, rule=effect.rule, freed=freed, refusal=refusal),
        )

    def notified(self, level: str) -> list[str]:
        return [effect.text for effect in self.to_do.values() if isinstance(effect, Notify) and effect.level == level]

    def pushed(self, verb: str, key: str) -> list[str]:
        return [write[-1] for write in self.vault.writes if write[:2] == (verb, f"blpn64/0:{key}")]

    def done(self, effect: Effect, *answers: Event) -> None:
        del self.to_do[effect.id]
        self.say(*answers, EffectDone(effect=effect.id))

    def fail(self, effect: Effect, reason: str, unknown: bool = False) -> None:
        del self.to_do[effect.id]
        self.say(EffectFailed(effect=effect.id, reason=reason, unknown=unknown))

    def fire(self, name: str) -> None:
        self.say(self.timers.pop(name))

    def give_up(self, run: str, outcome: Outcome = Outcome.CRASHED) -> None:
        """Its search fails as often as it is tried."""
        self.ended(outcome)
        self.fire(f"search/{run}")
        self.ended(outcome)

    def process(self, *runs: str) -> None:
        """Ask for runs and search them well, one after the other."""
        for run in runs:
            self.ask(run)
            self.searched()
            self.done(self.wanted(RegisterProducts))

    def ended(self, outcome: Outcome, recorded: Sequence[Recorded] = (), products: Sequence[str] = ()) -> None:
        search = self.wanted(RunSearch)
        self.done(
            search,
            SearchEnded(
                run=search.run, attempt=search.attempt, outcome=outcome, text="because", hits=3 if products else 0,
                obsid="MeerKAT:array_1:x" if recorded else "", recordings=tuple(recorded), products=tuple(products),
            ),
        )  # fmt: skip

    def searched(self) -> None:
        self.ended(Outcome.SEARCHED, [RECORDED], PRODUCTS)

    def returns(self) -> list[str]:
        return [write[2] for write in self.vault.writes if write[:2] == ("PUBLISH", "proc_result")]

    def results(self) -> list[dict[str, str]]:
        added = [write for write in self.vault.writes if write[:2] == ("XADD", "socs_bl:results")]
        return [dict(zip(write[6::2], write[7::2], strict=True)) for write in added]

    def ask(self, run: str, **more: Any) -> None:
        self.say(ProcessRequested(run=run, datadir=f"/buf0/{run}", **more))


def test_a_run_is_searched_catalogued_and_reported() -> None:
    """The result goes into the stream first and out as the original's message second, in the commit that ends it."""
    bench = Bench()
    bench.ask("r1", duration=20.0)
    assert bench.wanted(RunSearch).datadir == "/buf0/r1"
    bench.searched()
    assert bench.returns() == []
    assert bench.wanted(RegisterProducts).searched
    bench.done(bench.wanted(RegisterProducts))
    assert [write[0] for write in bench.vault.writes] == ["XADD", "PUBLISH", "LREM"]
    assert bench.results() == [
        {"run": "r1", "instance": "blpn64/0", "code1": "0", "code2": "-1", "reason": "searched: because", "hits": "3",
         "obsid": "MeerKAT:array_1:x", "stamps": "0", "freed": "0"}
    ]  # fmt: skip
    assert bench.returns() == ["RETURN:blpn64/0:0:-1"]
    assert bench.to_do == {}


def test_runs_wait_their_turn_and_a_second_request_is_the_same_run() -> None:
    """Two runs are searched one after the other; asking again for one that waits or runs adds nothing, for one that is
    done reports it again."""
    bench = Bench()
    for run in ("r1", "r2", "r1", "r2"):
        bench.ask(run)
    assert bench.wanted(RunSearch).run == "r1"
    bench.ended(Outcome.MISSING)
    assert bench.wanted(RunSearch).run == "r2"
    bench.ask("r1")
    assert bench.returns() == ["RETURN:blpn64/0:1:-1"] * 2
    assert [result["run"] for result in bench.results()] == ["r1", "r1"]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.TOO_SHORT, 0), (Outcome.MISSING, 1), (Outcome.DAMAGED, 3), (Outcome.SETTINGS, 5)],
)
def test_each_outcome_has_its_own_code(outcome: Outcome, code: int) -> None:
    """What went wrong can be told from the code and the reason; raw data of a failed search are never deleted."""
    bench = Bench(keep_raw=False)
    bench.ask("r1")
    bench.ended(outcome, [RECORDED] if outcome is Outcome.TOO_SHORT else [])
    if outcome is Outcome.TOO_SHORT:
        assert not bench.wanted(RegisterProducts).searched
        bench.done(bench.wanted(RegisterProducts))
    assert bench.returns() == [f"RETURN:blpn64/0:{code}:-1"]
    assert bench.results()[0]["reason"].startswith(outcome.value)
    assert not any(isinstance(effect, DeleteRaw) for effect in bench.to_do.values())


FAILURES = [
    (Outcome.DISK, 4), (Outcome.CRASHED, 6), (Outcome.KILLED, 7), (Outcome.OVERDUE, 8), (Outcome.DECLINED, 10),
    (Outcome.DEVICE, 11), (Outcome.GARBAGE, 12),
]  # fmt: skip


def test_all_that_is_worth_another_try_is_tried_below() -> None:
    """The table of failures is that of the machine."""
    assert {outcome for outcome, _ in FAILURES} == WORTH_ANOTHER_TRY


@pytest.mark.parametrize(("outcome", "code"), FAILURES)
def test_a_killed_search_is_tried_again_and_never_a_success(outcome: Outcome, code: int) -> None:
    """Death by a signal is no success (the original took it for one): tried once more, then reported above 2."""
    bench = Bench(keep_raw=False)
    bench.ask("r1")
    bench.ended(outcome)
    assert bench.returns() == []
    bench.fire("search/r1")
    assert bench.wanted(RunSearch).attempt == 2
    bench.ended(outcome)
    assert bench.returns() == [f"RETURN:blpn64/0:{code}:-1"]
    assert [effect.level for effect in bench.to_do.values() if isinstance(effect, Notify)] == ["warning", "error"]
    assert [run.name for run in bench.machine.given_up()] == ["r1"]


def test_an_answer_of_an_earlier_attempt_changes_nothing() -> None:
    """A repeated answer of the first attempt does not end the second."""
    bench = Bench()
    bench.ask("r1")
    late = SearchEnded(run="r1", attempt=1, outcome=Outcome.KILLED)
    bench.ended(Outcome.KILLED)
    bench.say(late)
    bench.fire("search/r1")
    bench.say(late)
    assert bench.returns() == [] and bench.wanted(RunSearch).attempt == 2


def test_a_search_that_could_not_start_or_is_overdue() -> None:
    """An effect that fails is tried again like a killed search; one past its deadline is reported as overdue."""
    bench = Bench()
    bench.ask("r1")
    bench.fail(bench.wanted(RunSearch), "fork: no memory")
    bench.fire("search/r1")
    bench.fail(bench.wanted(RunSearch), "no answer within 21600 s", unknown=True)
    assert bench.returns() == ["RETURN:blpn64/0:8:-1"]


def test_raw_data_go_only_by_the_rule() -> None:
    """Deleted when searched, catalogued and not preserved, before the report."""
    bench = Bench(keep_raw=False)
    for run, preserve in (("r1", False), ("r2", True), ("r3", False)):
        bench.ask(run, preserve=preserve)
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    delete = bench.wanted(DeleteRaw)
    assert delete.recordings == (RECORDED,) and delete.products == PRODUCTS
    assert (delete.datadir, delete.rule, delete.proof) == ("/buf0/r1", "searched", Proof.SEARCHED)
    assert bench.returns() == []
    bench.deleted(5000)
    assert bench.results()[0]["freed"] == "5000"
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert bench.returns() == ["RETURN:blpn64/0:0:-1"] * 2
    bench.searched()
    bench.ask("r3", preserve=True)
    bench.done(bench.wanted(RegisterProducts))
    assert not any(isinstance(effect, DeleteRaw) for effect in bench.to_do.values())


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(RECORDED, damage="the recording was interrupted here"),
        msgspec.structs.replace(RECORDED, stem="too_short"),
    ],
)
def test_what_was_not_searched_completely_is_kept(other: Recorded) -> None:
    """A damaged recording, or one too short for a hit list, among those of a run: the run is reported as searched, says
    so, and nothing is deleted."""
    bench = Bench(keep_raw=False)
    bench.ask("r1")
    bench.ended(Outcome.SEARCHED, [RECORDED, other], PRODUCTS)
    bench.done(bench.wanted(RegisterProducts))
    assert bench.to_do == {}
    assert [(result["code1"], result["reason"]) for result in bench.results()] == [
        ("0", "searched: because; not all of it was searched, so raw data are kept")
    ]


def test_what_cannot_be_proven_is_said_and_not_tried_again() -> None:
    """Raw data that are not what was searched stay: code 2 at once, with a reason of its own."""
    bench = Bench(keep_raw=False)
    bench.process("r1")
    bench.deleted(0, "it was written anew")
    assert [(result["code1"], result["reason"]) for result in bench.results()] == [
        ("2", "unproven: because; it was written anew")
    ]
    assert bench.machine.timers == {}
    assert bench.machine.run("r1").raw  # type: ignore[union-attr]  # asked for above


def test_a_request_can_keep_or_let_go_of_its_raw_data() -> None:
    """What is asked for with a run goes before the configuration."""
    bench = Bench(keep_raw=False)
    bench.ask("r1", keep_raw=True)
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert bench.to_do == {}
    bench.ask("r2", keep_raw=False)
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert bench.wanted(DeleteRaw).datadir == "/buf0/r2"


def test_short_data_go_when_the_configuration_says_so() -> None:
    """A recording that is too short to be searched is deleted under its own rule, and only where that is wanted."""
    for delete_short in (False, True):
        bench = Bench(keep_raw=False, delete_short=delete_short)
        bench.ask("r1", min_duration=150.0)
        assert bench.wanted(RunSearch).min_duration == 150.0
        bench.ended(Outcome.TOO_SHORT, [RECORDED])
        bench.done(bench.wanted(RegisterProducts))
        assert [effect.rule for effect in bench.to_do.values() if isinstance(effect, DeleteRaw)] == (
            ["too_short"] if delete_short else []
        )


def test_a_second_run_of_a_directory_protects_it() -> None:
    """Raw data that another run still waits for are not deleted."""
    bench = Bench(keep_raw=False)
    bench.ask("r1")
    bench.say(ProcessRequested(run="again", datadir="/buf0/r1"))
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert "a run waits for it" in bench.results()[0]["reason"]
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert bench.wanted(DeleteRaw).run == "again"


def test_a_search_without_hits_says_so() -> None:
    """Nothing found is worth a word: it may be the sky, or a search that does not work."""
    bench = Bench()
    bench.ask("r1")
    search = bench.wanted(RunSearch)
    bench.done(
        search,
        SearchEnded(run="r1", attempt=1, outcome=Outcome.SEARCHED, recordings=(RECORDED,), products=PRODUCTS, stamps=2),
    )
    bench.done(bench.wanted(RegisterProducts))
    assert [(result["reason"], result["stamps"]) for result in bench.results()] == [("searched: no hits", "2")]


def test_a_busy_catalogue_delays_a_deletion() -> None:
    """A deletion that fails is tried again after a pause; only when all tries have failed it is code 2, with the last
    reason, and people are told."""
    bench = Bench(keep_raw=False)
    for run in ("r1", "r2"):
        bench.ask(run)
    for run, refusals in (("r1", DELETE_TRIES - 1), ("r2", DELETE_TRIES)):
        bench.searched()
        bench.done(bench.wanted(RegisterProducts))
        for number in range(refusals):
            assert bench.returns() == ["RETURN:blpn64/0:0:-1"] * (run == "r2")
            bench.fail(bench.wanted(DeleteRaw), f"locked {number}", unknown=number == 1)
            if number < DELETE_TRIES - 1:
                bench.fire(f"delete/{run}")
        if run == "r1":
            bench.done(bench.wanted(DeleteRaw))
    assert bench.returns() == ["RETURN:blpn64/0:0:-1", "RETURN:blpn64/0:2:-1"]
    assert bench.results()[1]["reason"] == f"not_deleted: because; locked {DELETE_TRIES - 1}"
    assert [effect.level for effect in bench.to_do.values() if isinstance(effect, Notify)] == ["error"]


def test_a_catalogue_that_does_not_answer_delays_but_does_not_hide_the_result() -> None:
    """Registering is tried a few times; then the result counts, says so, and no rule allows a deletion."""
    bench = Bench(keep_raw=False)
    bench.ask("r1")
    bench.searched()
    for _ in range(CATALOGUE_TRIES - 1):
        bench.fail(bench.wanted(RegisterProducts), "locked")
        bench.fire("catalogue/r1")
    bench.fail(bench.wanted(RegisterProducts), "locked")
    assert bench.returns() == ["RETURN:blpn64/0:0:-1"]
    assert "not catalogued: locked" in bench.results()[0]["reason"]


def test_an_abort_ends_what_runs_and_the_next_begins() -> None:
    """An aborted run is reported as such, its search is taken back; a queued one never starts."""
    bench = Bench()
    for run in ("r1", "r2", "r3"):
        bench.ask(run)
    bench.say(AbortRequested(run="r2", reason="not needed"))
    bench.say(AbortRequested(run="r1", reason="operator"))
    assert bench.wanted(RunSearch).run == "r3"
    assert [result["run"] for result in bench.results()] == ["r2", "r1"]
    assert bench.returns() == ["RETURN:blpn64/0:9:-1"] * 2


def test_less_than_was_to_be_recorded_is_worth_a_word() -> None:
    """A recording much shorter than the coordinator meant it to be is searched, and said to be short."""
    bench = Bench()
    bench.ask("r1", duration=40.0)
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert "20.0 s of 40.0 s" in bench.results()[0]["reason"]


def test_only_so_many_reported_runs_are_remembered() -> None:
    """The state does not grow for ever; the oldest reported runs are forgotten first."""
    bench = Bench()
    for number in range(REPORTED_KEPT + 3):
        bench.ask(f"r{number}")
        bench.ended(Outcome.MISSING)
    assert [run.name for run in bench.machine.runs()][:2] == ["r3", "r4"]
    assert len(bench.machine.runs()) == REPORTED_KEPT


def test_what_was_given_up_is_searched_again_when_asked() -> None:
    """A recording that failed twice is left alone until it is requeued; then its run is reported again."""
    bench = Bench()
    bench.ask("r1")
    bench.give_up("r1")
    bench.process("r2")
    assert [run.name for run in bench.machine.given_up()] == ["r1"]
    assert "no run of" in bench.ask_for(RequeueRequested(datadir="/buf0/nothing"))
    assert bench.ask_for(RequeueRequested(datadir="/buf0/r1")) == ""
    assert "waited for" in bench.ask_for(RequeueRequested(datadir="/buf0/r1"))
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert [(result["run"], result["code1"]) for result in bench.results()] == [("r1", "6"), ("r2", "0"), ("r1", "0")]
    assert bench.machine.given_up() == []


def test_preserved_directories_are_never_deleted_by_any_rule() -> None:
    """No rule passes a preserved directory, force included; the list that others read agrees; it can be taken back."""
    bench = Bench()
    bench.process("r1")
    assert bench.ask_for(PreserveRequested(datadir="/buf0/r1", reason="a candidate")) == ""
    assert bench.pushed("LPUSH", "preserved") == ["/buf0/r1"]
    for force in (False, True):
        assert "it is preserved" in bench.ask_for(CleanRequested(datadir="/buf0/r1", force=force))
    assert "nothing that old" in bench.ask_for(CleanRequested(before=1e12))
    assert bench.ask_for(UnpreserveRequested(datadir="/buf0/r1")) == ""
    assert bench.pushed("LREM", "preserved") == ["/buf0/r1"] * 2
    assert "not preserved" in bench.ask_for(UnpreserveRequested(datadir="/buf0/r1"))
    assert bench.ask_for(CleanRequested(datadir="/buf0/r1")) == ""
    assert bench.wanted(DeleteRaw).rule == "asked"
    assert "being deleted already" in bench.ask_for(PreserveRequested(datadir="/buf0/r1"))


def test_only_what_was_searched_is_cleaned_without_force() -> None:
    """A person who asks is refused for a directory that was not searched, and told the rule; one who insists is not."""
    bench = Bench()
    bench.ask("r1")
    assert "a run waits for it" in bench.ask_for(CleanRequested(datadir="/buf0/r1", force=True))
    bench.give_up("r1")
    refusal = bench.ask_for(CleanRequested(datadir="/buf0/r1"))
    assert "not searched completely" in refusal and "rule asked" in refusal
    assert bench.ask_for(CleanRequested(datadir="/buf0/r1", force=True)) == ""
    assert (bench.wanted(DeleteRaw).rule, bench.wanted(DeleteRaw).proof) == ("forced", Proof.NOTHING)
    bench.ask("r1")
    bench.say(ProcessRequested(run="again", datadir="/buf0/r1"))
    assert not [effect for effect in bench.to_do.values() if isinstance(effect, RunSearch)]
    bench.deleted(7)
    assert bench.wanted(RunSearch).run == "again"
    assert [(item.freed, item.refusal) for item in bench.machine.cleanings()] == [(7, "")]
    bench.ended(Outcome.MISSING)


def test_all_that_is_old_is_cleaned() -> None:
    """By age: what was processed before, and nothing younger, preserved or not searched."""
    bench = Bench()
    bench.process("r1", "r2")
    bench.ask("bad")
    bench.give_up("bad")
    limit = bench.now
    bench.process("r3")
    assert bench.ask_for(PreserveRequested(datadir="/buf0/r2")) == ""
    assert bench.ask_for(CleanRequested(before=limit)) == ""
    assert bench.wanted(DeleteRaw).datadir == "/buf0/r1"
    bench.deleted()
    assert "deleted already" in bench.ask_for(CleanRequested(datadir="/buf0/r1"))
    assert "are deleted" in bench.ask_for(RequeueRequested(datadir="/buf0/r1"))


def test_a_deletion_that_was_asked_for_survives_a_crash_and_a_busy_catalogue() -> None:
    """It is tried again a few times, over a restart, and ends with a word when it cannot be done."""
    bench = Bench()
    bench.process("r1")
    assert bench.ask_for(CleanRequested(datadir="/buf0/r1")) == ""
    bench.start()
    for number in range(DELETE_TRIES):
        bench.fail(bench.wanted(DeleteRaw), f"locked {number}")
        if number < DELETE_TRIES - 1:
            bench.fire("clean//buf0/r1")
    (cleaning,) = bench.machine.cleanings()
    assert cleaning.refusal == "locked 3" and bench.machine.run("r1").raw  # type: ignore[union-attr]  # asked for
    assert len(bench.notified("error")) == 1


def test_what_is_being_deleted_is_not_queued_again() -> None:
    """A directory whose deletion is under way cannot be requeued: its run would be searched when its data are gone."""
    bench = Bench()
    bench.process("r1")
    assert bench.ask_for(CleanRequested(datadir="/buf0/r1")) == ""
    assert "are being deleted" in bench.ask_for(RequeueRequested(datadir="/buf0/r1"))
    bench.deleted()
    assert not bench.machine.run("r1").raw  # type: ignore[union-attr]


def test_a_deletion_ends_when_its_run_is_forgotten() -> None:
    """When the run that proved it is not remembered any more, nothing is said to be deleted that is still there."""
    bench = Bench()
    bench.process("r1")
    assert bench.ask_for(CleanRequested(datadir="/buf0/r1")) == ""
    bench.fail(bench.wanted(DeleteRaw), "locked")
    bench.process(*(f"more{number}" for number in range(REPORTED_KEPT)))
    assert bench.machine.run("r1") is None
    bench.fire("clean//buf0/r1")
    (cleaning,) = bench.machine.cleanings()
    assert "not remembered" in cleaning.refusal and len(bench.notified("error")) == 1


def test_journals_of_schema_1_go_on() -> None:
    """What an analyzer of the first version journaled is taken over: preserved data stay preserved, by every rule, and a
    deletion that was under way ends as today's. The record was written by its code."""
    base, entries = read_archive(SCHEMA_1 / "searched.jsonl")
    decoded = [CODEC.decode(data) for _, data in entries]
    assert [effect.rule for entry in decoded for effect in entry.effects if isinstance(effect, DeleteRaw)] == [
        "searched"
    ]
    base, _ = read_archive(SCHEMA_1 / "going.jsonl")
    bench = Bench(keep_raw=False, reclaim=True)
    bench.driver.journal.refill(base, base, [])
    bench.start()
    assert [kept.datadir for kept in bench.machine.preserved()] == ["/buf0/kept", "/buf0/wanted"]
    for force in (False, True):
        assert "it is preserved" in bench.ask_for(CleanRequested(datadir="/buf0/kept", force=force))
    bench.fail(bench.wanted(DeleteRaw), "locked")
    bench.fire("delete/going")
    bench.deleted(7)
    going = bench.machine.run("going")
    assert going is not None and (going.code, going.freed, going.raw) == (0, 7, False)
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert bench.machine.run("wanted").raw and not bench.machine.is_reclaimable()  # type: ignore[union-attr]


@pytest.mark.parametrize("spelled", ["/buf0/r1/", "/buf0//r1", "//buf0/./r1"])
def test_a_directory_is_the_same_however_it_is_written(spelled: str) -> None:
    """A slash more does not get around what forbids a deletion: preserved is preserved, and worked on is worked on."""
    bench = Bench()
    bench.ask("r1")
    assert "a run waits for it" in bench.ask_for(CleanRequested(datadir=spelled, force=True))
    bench.searched()
    bench.done(bench.wanted(RegisterProducts))
    assert bench.ask_for(PreserveRequested(datadir=spelled)) == ""
    for datadir in ("/buf0/r1", spelled):
        assert "it is preserved" in bench.ask_for(CleanRequested(datadir=datadir, force=True))
    assert bench.machine.is_preserved(spelled) and bench.pushed("LPUSH", "preserved") == ["/buf0/r1"]
    assert bench.ask_for(UnpreserveRequested(datadir="/buf0/r1")) == ""
    assert bench.ask_for(CleanRequested(datadir=spelled)) == ""
    bench.deleted()
    assert not bench.machine.run("r1").raw  # type: ignore[union-attr]
