"""The analyzer's rules in any order: what was asked for is reported, and told as it is."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.search.model import (
    AbortRequested,
    CleanRequested,
    DeleteRaw,
    DeletionEnded,
    DiskShort,
    Listed,
    ListRead,
    Notify,
    Outcome,
    PreserveRequested,
    RegisterProducts,
    RequeueRequested,
    RunSearch,
    Stage,
    UnpreserveRequested,
)
from tests.search.test_machine import PRODUCTS, RECORDED, Bench

NOT_FROM_A_SEARCH = (Outcome.NOT_DELETED, Outcome.UNPROVEN, Outcome.ABORTED)


class Analyzer(RuleBasedStateMachine):
    """Requests, aborts, answers, failures and crashes in any order."""

    @initialize(keep_raw=st.booleans())
    def begin(self, keep_raw: bool) -> None:
        self.bench = Bench(keep_raw, reclaim=not keep_raw, delete_short=True)
        self.asked: list[str] = []

    def pending(self, *kinds: type[Effect]) -> list[Effect]:
        return [effect for effect in self.bench.to_do.values() if isinstance(effect, kinds)]

    @rule(run=st.sampled_from(["r1", "r2", "r3", "r4", "r5"]), preserve=st.booleans())
    def ask(self, run: str, preserve: bool) -> None:
        self.asked += [] if run in self.asked else [run]
        self.bench.ask(run, preserve=preserve)

    @rule(run=st.sampled_from(["r1", "r2", "r3"]))
    def abort(self, run: str) -> None:
        self.bench.say(AbortRequested(run=run, reason="operator"))

    @rule(run=st.sampled_from(["r1", "r2", "r3"]), wish=st.sampled_from([PreserveRequested, UnpreserveRequested]))
    def preserve(self, run: str, wish: Any) -> None:
        self.bench.ask_for(wish(datadir=f"/buf0/{run}"))

    @rule(run=st.sampled_from(["r1", "r2", "r3"]), force=st.booleans())
    def clean(self, run: str, force: bool) -> None:
        self.bench.ask_for(CleanRequested(datadir=f"/buf0/{run}", force=force))

    @rule(event=st.sampled_from([CleanRequested(before=1e9), DiskShort(text="1 % free")]))
    def clean_more(self, event: Event) -> None:
        self.bench.say(event)

    @rule(run=st.sampled_from(["r1", "r2", "r3"]))
    def requeue(self, run: str) -> None:
        if self.bench.ask_for(RequeueRequested(datadir=f"/buf0/{run}")) == "":
            self.requeued = True

    @rule(names=st.lists(st.sampled_from(["r1", "r2", "r6", "r7"]), unique=True), last=st.sampled_from(["", "r8"]))
    def list_is_read(self, names: list[str], last: str) -> None:
        listed = [Listed(name, f"/buf0/{name}") for name in names]
        found = Listed(last, f"/buf0/{last}") if last else None
        if self.bench.ask_for(ListRead(listed=tuple(listed), last=found)) == "":
            self.asked += [name for name in names if name not in self.asked]
            self.asked += [last] if last and names and last not in self.asked else []

    @precondition(lambda self: self.pending(RunSearch))
    @rule(
        outcome=st.sampled_from([outcome for outcome in Outcome if outcome not in NOT_FROM_A_SEARCH]),
        damage=st.sampled_from(["", "cut off"]),
    )
    def search_ends(self, outcome: Outcome, damage: str) -> None:
        good = outcome in (Outcome.SEARCHED, Outcome.TOO_SHORT)
        recorded = msgspec.structs.replace(RECORDED, damage=damage)
        self.bench.ended(outcome, [recorded] if good else [], PRODUCTS if good else [])

    @precondition(lambda self: self.pending(RegisterProducts, DeleteRaw, Notify))
    @rule(data=st.data())
    def succeeds(self, data: st.DataObject) -> None:
        effect = data.draw(st.sampled_from(self.pending(RegisterProducts, DeleteRaw, Notify)))
        if isinstance(effect, DeleteRaw):
            assert not self.bench.machine.is_preserved(effect.datadir)
            if effect.rule != "forced":
                assert effect.recordings and not any(recorded.damage for recorded in effect.recordings)
            self.bench.done(
                effect,
                DeletionEnded(
                    datadir=effect.datadir, run=effect.run, rule=effect.rule, freed=1,
                    refusal=data.draw(st.sampled_from(["", "changed"])),
                ),
            )  # fmt: skip
            return
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
        latest = {result["run"]: int(result["code1"]) for result in bench.results()}
        for name, stage in states.items():
            known = bench.machine.run(name)
            assert known is not None
            assert name in latest or stage is not Stage.REPORTED
            assert stage is not Stage.REPORTED or latest[name] == known.code >= 0

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
