"""Any order of documents, nodes that go and come, crashes, people: scans never overlap and every one is closed once."""

from __future__ import annotations

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from socs_bl.correlator.observation.model import CloseAsked, Observation
from tests.correlator.observation.bench import NODES, SECOND, START, Bench, finish, observation

DATASETS = ("a", "b", "c")
PICK = st.integers(0, 20)
QUIET: list[dict[str, object]] = [{}, {}, {}, {"correlator": "dbe"}, {"intents": ("SuppressData=True",)}]


class Executor(RuleBasedStateMachine):
    """What the executor meant is worked out beside the machine: the sorted starts of each dataset, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(give_up=1e6)
        self.said: list[Observation] = []
        self.cuts: dict[str, dict[int, list[Observation | None]]] = {name: {} for name in DATASETS}
        self.clock = 0.0

    # -- documents ------------------------------------------------------------------------------------------------

    @rule(dataset=st.sampled_from(DATASETS), ahead=st.sampled_from([-20, -1, 0, 5, 30, 90]), scan=PICK, quiet=PICK)
    def document(self, dataset: str, ahead: int, scan: int, quiet: int) -> None:
        """A document whose start is about now, later or past."""
        changes = QUIET[quiet % len(QUIET)]
        self.hear(observation(self.clock + ahead, 1 + scan, dataset=dataset, **changes))

    @rule(dataset=st.sampled_from(DATASETS), ahead=st.integers(0, 10))
    def finish(self, dataset: str, ahead: int) -> None:
        """The end of a dataset."""
        self.hear(finish(self.clock + ahead, dataset))

    @precondition(lambda self: self.said)
    @rule(number=PICK)
    def again(self, number: int) -> None:
        """A document comes once more, however old."""
        self.hear(self.said[-1 - number % len(self.said)])

    @precondition(lambda self: self.said)
    @rule(number=PICK, scan=PICK)
    def corrected(self, number: int, scan: int) -> None:
        """Another document of the same start."""
        old = self.said[-1 - number % len(self.said)]
        self.hear(observation(old.start_ns / SECOND - START, 1 + scan, dataset=old.dataset_id))

    def hear(self, document: Observation) -> None:
        """Tell the machine, and work out what ought to follow."""
        self.bench.hear(document)
        self.said.append(document)
        cuts, now = self.cuts[document.dataset_id], round(self.bench.now * SECOND)
        if document in cuts.get(document.start_ns, ()):
            return
        if any(start <= now for start in cuts if start > document.start_ns):
            return
        if document.start_ns in cuts and document.start_ns <= now:
            return
        cuts.setdefault(document.start_ns, []).append(document)

    @rule(dataset=st.sampled_from(DATASETS))
    def close(self, dataset: str) -> None:
        """A person ends a scan."""
        found = self.bench.machine.open_scan(dataset)
        refusal = self.bench.ask(CloseAsked(dataset_id=dataset))
        assert bool(refusal) == (found is None)
        if found is not None:
            start = max(round(self.bench.now * SECOND), found.scan.start_ns + 1)
            self.cuts[dataset][start] = [None]

    # -- the world ------------------------------------------------------------------------------------------------

    @rule(number=PICK)
    def an_order(self, number: int) -> None:
        """One of the orders, whichever, reaches its node or does not."""
        if self.bench.to_do:
            self.bench.perform(list(self.bench.to_do.values())[number % len(self.bench.to_do)])

    @rule(seconds=st.sampled_from([0.5, 7.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        """With what happens meanwhile."""
        self.clock = max(self.clock, self.bench.now - START) + seconds
        self.bench.later(self.clock)

    @rule(node=st.sampled_from(NODES))
    def a_node_goes_or_comes(self, node: str) -> None:
        """One may be away for long."""
        self.bench.nodes.away ^= {node}

    @rule()
    def killed(self) -> None:
        """The listener is killed and comes back."""
        self.bench.restart(give_up=1e6)

    # -- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def scans_are_as_meant(self) -> None:
        """A dataset's open scan is that of its last cut, if that wants one (the rest: `ObservationMachine.check`)."""
        for dataset, cuts in self.cuts.items():
            last = cuts[max(cuts)][-1] if cuts else None
            found = self.bench.machine.open_scan(dataset)
            wanted = last is not None and last.records("widar")
            assert (found is not None) == wanted, f"{dataset}: {found}, last cut {last}"
            if found is not None and last is not None:
                assert (found.scan.start_ns, found.scan.scan) == (last.start_ns, last.scan)

    def teardown(self) -> None:
        """Everybody back and every dataset finished: each node knows each window that was meant, once, and its end."""
        bench = self.bench
        bench.nodes.away.clear()
        end = bench.now - START + 200.0
        for dataset in DATASETS:
            self.hear(finish(end, dataset))
        bench.later(end + 100.0)
        meant = []
        for dataset, cuts in self.cuts.items():
            starts = sorted(cuts)
            for start, stop in zip(starts, starts[1:], strict=False):
                document = cuts[start][-1]
                if document is not None and document.records("widar") and stop > start + 1:
                    meant.append((dataset, start, stop))
        for node in NODES:
            assert bench.nodes.windows(node) == sorted(meant)
        assert not bench.machine.recordings() and not bench.machine.timers and not bench.machine.outstanding
        assert bench.replayed().cells == bench.machine.cells


Executor.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, phases=(Phase.explicit, Phase.generate)
)
TestExecutor = Executor.TestCase
