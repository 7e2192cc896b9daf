"""The machine of the listener to the pipe: names, order, and nodes that do not answer."""

from __future__ import annotations

import re

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from socs_bl.core.effect import Answer
from socs_bl.core.event import EffectDone, EffectFailed
from socs_bl.correlator.listener.machine import MOST_WAITING, REFUSED, ListenerMachine
from socs_bl.correlator.listener.model import ActivateConfiguration, CreateConfiguration, Notify, PathGiven
from tests.harness.machine_bench import MachineBench

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z
NODES = ("cbe-01", "cbe-02")


class Bench(MachineBench[ListenerMachine]):
    """The test says what the nodes do."""

    def __init__(self, nodes: tuple[str, ...] = NODES) -> None:
        super().__init__(ListenerMachine, Notify, NOON)
        self.log: list[tuple[str, str, str]] = []
        self.restart(nodes)

    def restart(self, nodes: tuple[str, ...] = NODES) -> None:
        """Begin, or begin again after a crash."""
        self.start({"nodes": list(nodes), "first_pause": 1.0, "longest_pause": 4.0})

    def give(self, *paths: str) -> list[str]:
        """Paths are written; the names they get."""
        for path in paths:
            self.say(PathGiven(path=path))
        return list(self.machine.ledger.names[-len(paths) :])

    def next(self, node: str) -> CreateConfiguration | ActivateConfiguration | None:
        """What a node is being asked for."""
        found = [effect for effect in self.to_do.values() if effect.lane == node]
        assert len(found) <= 1, found
        return found[0] if found else None  # type: ignore[return-value]

    def answer(self, node: str, failure: str = "") -> bool:
        """The node does what it is asked for, or does not; False when it is not asked."""
        effect = self.next(node)
        if effect is None:
            return False
        del self.to_do[effect.id]
        if failure:
            self.say(EffectFailed(effect=effect.id, reason=failure))
            return True
        self.log.append((node, "create" if isinstance(effect, CreateConfiguration) else "activate", effect.name))
        self.say(EffectDone(effect=effect.id))
        return True

    def settle(self, *nodes: str) -> None:
        """These nodes do all they are asked for."""
        for node in nodes:
            while self.answer(node):
                pass

    def of(self, node: str) -> list[tuple[str, str]]:
        """What a node has done."""
        return [(what, name) for who, what, name in self.log if who == node]


def test_names_are_the_time_of_the_event() -> None:
    """HH_MM_SS of UTC; the second and third of a second have a number; no name is given twice, even a day later."""
    bench = Bench()
    assert bench.give("/a", "/b", "/c") == ["12_00_00", "12_00_00_2", "12_00_00_3"]
    bench.now += 3661.9
    assert bench.give("/d") == ["13_01_01"]
    bench.now = NOON + 86400
    assert bench.give("/e") == ["12_00_00_4"]
    bench.now = NOON - 1
    assert bench.give("/f") == ["11_59_59"]


def test_each_node_makes_and_activates_in_order() -> None:
    """Created, then activated, one configuration after the other; a node that is slow holds up no other."""
    bench = Bench()
    names = bench.give("/a", "/b")
    bench.settle("cbe-01")
    assert bench.of("cbe-01") == [(what, name) for name in names for what in ("create", "activate")]
    assert bench.of("cbe-02") == [] and bench.next("cbe-02") is not None
    bench.settle("cbe-02")
    assert bench.of("cbe-02") == bench.of("cbe-01")
    assert not bench.machine.queues() and bench.machine.ledger.activated == 4
    assert [past.fault for past in bench.machine.history.jobs] == [""] * 4


def test_what_a_node_refuses_is_told_and_the_next_one_comes() -> None:
    """A document that is wrong is not asked for again; the one behind it is made."""
    bench = Bench(("cbe-01",))
    first, second = bench.give("/bad", "/good")
    bench.answer("cbe-01", f"{REFUSED}line 3: no such stream s9")
    bench.settle("cbe-01")
    assert bench.of("cbe-01") == [("create", second), ("activate", second)]
    (notice,) = bench.notices
    assert notice.level == "error" and first in notice.text and "line 3: no such stream" in notice.text
    assert bench.machine.ledger.failed == 1


def test_a_node_that_does_not_answer_is_asked_again_for_a_time() -> None:
    """With growing pauses, told once; when the time is up it is given up, told again."""
    bench = Bench(("cbe-01",))
    bench.give("/a")
    pauses = []
    while bench.next("cbe-01") is not None:
        bench.answer("cbe-01", "no answer")
        if bench.timers:
            pauses.append(bench.machine.timers["retry/cbe-01"].duration)
            bench.fire("retry/cbe-01")
    assert pauses[:4] == [1.0, 2.0, 4.0, 4.0] and 60 <= sum(pauses) <= 70
    assert [notice.level for notice in bench.notices] == ["warning", "error"]


def test_a_new_configuration_ends_the_wait_for_the_one_before() -> None:
    """What could not be activated is not activated later, over the newer one: the last one asked for is the one."""
    bench = Bench(("cbe-01",))
    first, second = bench.give("/a")[0], ""
    bench.answer("cbe-01")
    bench.answer("cbe-01", "no answer")
    bench.now += 5
    (second,) = bench.give("/b")
    bench.settle("cbe-01")
    assert bench.of("cbe-01") == [("create", first), ("create", second), ("activate", second)]
    assert not bench.timers


def test_a_restart_goes_on_where_it_was() -> None:
    """Killed between making and activating: the node is asked again for what was outstanding, then for the rest."""
    bench = Bench(("cbe-01",))
    names = bench.give("/a", "/b")
    bench.answer("cbe-01")
    bench.restart(("cbe-01",))
    bench.settle("cbe-01")
    assert bench.of("cbe-01") == [(what, name) for name in names for what in ("create", "activate")]


def test_a_node_that_is_gone_is_given_up() -> None:
    """After a restart with other nodes nothing waits for the old one; people read what it did not get."""
    bench = Bench()
    bench.give("/a", "/b")
    bench.restart(("cbe-01",))
    assert [queue.node for queue in bench.machine.queues()] == ["cbe-01"]
    assert len(bench.notices) == 2 and all("not configured" in notice.text for notice in bench.notices)


def test_what_waits_is_bounded() -> None:
    """Somebody who writes without end is refused, and the person who asks is told why."""
    bench = Bench()
    bench.give(*(f"/{number}" for number in range(MOST_WAITING)))
    effects = bench.say(PathGiven(path="/more", asked=True))
    (answer,) = [effect for effect in effects if isinstance(effect, Answer)]
    assert "50 configurations wait" in answer.refusal and bench.machine.ledger.given == MOST_WAITING


class Writers(RuleBasedStateMachine):
    """Paths, answers, failures, timers and crashes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.0, 30.0]))
    def path(self, seconds: float) -> None:
        """Somebody writes a path."""
        self.bench.now += seconds
        (name,) = self.bench.give("/c.xml")
        assert re.fullmatch(r"\d\d_\d\d_\d\d(_\d+)?", name)

    @rule(node=st.sampled_from(NODES), failure=st.sampled_from(["", "", "", "no answer", REFUSED + "it is wrong"]))
    def node(self, node: str, failure: str) -> None:
        """A node answers."""
        self.bench.answer(node, failure)

    @rule()
    def timer(self) -> None:
        """The next timer runs out."""
        if self.bench.timers:
            self.bench.fire(min(self.bench.timers))

    @rule()
    def killed(self) -> None:
        """The listener is killed and comes back."""
        self.bench.restart()

    def teardown(self) -> None:
        """All answered: each node ends with the configuration that was asked for last, if it has not refused it."""
        bench = self.bench
        for node in NODES:
            for name in [name for name in bench.timers if name.endswith(node)]:
                bench.fire(name)
            bench.settle(node)
            done = bench.of(node)
            activated = [name for what, name in done if what == "activate"]
            order = {name: number for number, name in enumerate(bench.machine.ledger.names)}
            assert [order[name] for name in activated] == sorted(order[name] for name in activated)
            assert len(set(activated)) == len(activated)
            for name in activated:
                assert done.index(("create", name)) < done.index(("activate", name))
        ledger = bench.machine.ledger
        assert ledger.activated + ledger.failed == ledger.given * len(NODES) and not bench.machine.queues()
        assert bench.replayed().cells == (bench.machine.cells)


Writers.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, phases=(Phase.explicit, Phase.generate)
)
TestWriters = Writers.TestCase
