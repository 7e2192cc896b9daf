"""The analyzer's decisions: nothing asked for is forgotten, nothing is reported that did not happen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver, Work
from socs_bl.core.effect import Effect
from socs_bl.core.event import EffectDone, EffectFailed, Event, TimerFired
from socs_bl.core.memory_journal import MemoryJournal, Vault
from socs_bl.search.machine import CATALOGUE_TRIES, DELETE_TRIES, REPORTED_KEPT, AnalyzerMachine
from socs_bl.search.model import (
    AbortRequested,
    DeleteRaw,
    Notify,
    Outcome,
    ProcessRequested,
    Recorded,
    RegisterProducts,
    RunSearch,
    SearchEnded,
    Stage,
)

CODEC = Codec(AnalyzerMachine)
RECORDED = Recorded("a", "MeerKAT:array_1:x", "blpn64/0", "J0000", 1.7e9, 20.0, 1e9, 2e9, 3, ("/buf0/x/a.0000.raw",))
PRODUCTS = ("/products/a.dat",)


class Bench:
    """A machine in a driver; what it wants done is kept until it is answered."""

    def __init__(self, keep_raw: bool = True) -> None:
        self.vault = Vault()
        self.keep_raw = keep_raw
        self.now = 100.0
        self.to_do: dict[str, Effect] = {}
        self.timers: dict[str, TimerFired] = {}
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a crash: all that was not committed is lost."""
        self.to_do, self.timers = {}, {}
        self.driver = Driver(AnalyzerMachine, CODEC, MemoryJournal(self.vault))
        self.driver.claim("test")
        self.say(self.driver.restart_event({"instance": "blpn64/0", "keep_raw": self.keep_raw}))

    def say(self, *events: Event) -> None:
        self.now += 1.0
        prepared = self.driver.prepare([Caused(event) for event in events], Instant(self.now, self.now))
        self.driver.journal.commit(prepared.commit)
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

    def done(self, effect: Effect, *answers: Event) -> None:
        del self.to_do[effect.id]
        self.say(*answers, EffectDone(effect=effect.id))

    def fail(self, effect: Effect, reason: str, unknown: bool = False) -> None:
        del self.to_do[effect.id]
        self.say(EffectFailed(effect=effect.id, reason=reason, unknown=unknown))

    def fire(self, name: str) -> None:
        self.say(self.timers.pop(name))

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
    assert [write[0] for write in bench.vault.writes] == ["XADD", "PUBLISH"]
    assert bench.results() == [
        {"run": "r1", "instance": "blpn64/0", "code1": "0", "code2": "-1", "reason": "searched: because", "hits": "3",
         "obsid": "MeerKAT:array_1:x"}
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
    [(Outcome.TOO_SHORT, 0), (Outcome.MISSING, 1), (Outcome.DAMAGED, 3), (Outcome.DISK, 4), (Outcome.SETTINGS, 5)],
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


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.KILLED, 7), (Outcome.CRASHED, 6)])
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
    assert delete.recordings == (RECORDED,) and delete.products == PRODUCTS and "not preserved" in delete.rule
    assert bench.returns() == []
    bench.done(delete)
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


class Analyzer(RuleBasedStateMachine):
    """Requests, aborts, answers, failures and crashes in any order."""

    @initialize(keep_raw=st.booleans())
    def begin(self, keep_raw: bool) -> None:
        self.bench = Bench(keep_raw)
        self.asked: list[str] = []
        self.preserved: set[str] = set()

    def pending(self, *kinds: type[Effect]) -> list[Effect]:
        return [effect for effect in self.bench.to_do.values() if isinstance(effect, kinds)]

    @rule(run=st.sampled_from(["r1", "r2", "r3", "r4", "r5"]), preserve=st.booleans())
    def ask(self, run: str, preserve: bool) -> None:
        known = self.bench.machine.run(run)
        if preserve and (known is None or known.stage not in (Stage.DELETING, Stage.REPORTED)):
            self.preserved.add(run)
        self.asked += [] if run in self.asked else [run]
        self.bench.ask(run, preserve=preserve)

    @rule(run=st.sampled_from(["r1", "r2", "r3"]))
    def abort(self, run: str) -> None:
        self.bench.say(AbortRequested(run=run, reason="operator"))

    @precondition(lambda self: self.pending(RunSearch))
    @rule(outcome=st.sampled_from(list(Outcome)[:9]), damage=st.sampled_from(["", "cut off"]))
    def search_ends(self, outcome: Outcome, damage: str) -> None:
        good = outcome in (Outcome.SEARCHED, Outcome.TOO_SHORT)
        recorded = msgspec.structs.replace(RECORDED, damage=damage)
        self.bench.ended(outcome, [recorded] if good else [], PRODUCTS if good else [])

    @precondition(lambda self: self.pending(RegisterProducts, DeleteRaw, Notify))
    @rule(data=st.data())
    def succeeds(self, data: st.DataObject) -> None:
        effect = data.draw(st.sampled_from(self.pending(RegisterProducts, DeleteRaw, Notify)))
        if isinstance(effect, DeleteRaw):
            assert effect.run not in self.preserved and not self.bench.keep_raw
            assert not any(recorded.damage for recorded in effect.recordings)
        self.bench.done(effect)

    @precondition(lambda self: self.bench.to_do)
    @rule(data=st.data(), unknown=st.booleans())
    def fails(self, data: st.DataObject, unknown: bool) -> None:
        self.bench.fail(data.draw(st.sampled_from(list(self.bench.to_do.values()))), "no luck", unknown)

    @precondition(lambda self: self.bench.timers)
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        self.bench.fire(data.draw(st.sampled_from(sorted(self.bench.timers))))

    @rule()
    def crash(self) -> None:
        self.bench.start()

    @invariant()
    def nothing_is_forgotten(self) -> None:
        bench = self.bench
        states = {run.name: run.stage for run in bench.machine.runs()}
        assert sorted(states) == sorted(self.asked)
        reported = {result["run"] for result in bench.results()}
        assert reported == {name for name, stage in states.items() if stage is Stage.REPORTED}
        assert len(bench.results()) == len(bench.returns())
        for result in bench.results():
            known = bench.machine.run(result["run"])
            assert known is not None and int(result["code1"]) == known.code >= 0

    def teardown(self) -> None:
        """Left alone with a world that works, every run comes to its end, in the order of the requests."""
        if not hasattr(self, "bench"):
            return
        bench = self.bench
        for _ in range(200):
            if bench.to_do:
                effect = next(iter(bench.to_do.values()))
                if isinstance(effect, RunSearch):
                    bench.searched()
                else:
                    bench.done(effect)
            elif bench.timers:
                bench.fire(sorted(bench.timers)[0])
        assert all(run.stage is Stage.REPORTED for run in bench.machine.runs())
        assert bench.machine.outstanding == {} and bench.machine.timers == {}


TestAnalyzer = Analyzer.TestCase
TestAnalyzer.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
