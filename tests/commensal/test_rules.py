"""Any order of anything: the commensal machine keeps its invariants, and nothing is stuck."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.model import (
    BadMessage,
    Duty,
    LegacyReturn,
    MetadataRead,
    ReadMetadata,
    ReadStatus,
    RecProc,
    Requested,
    ResultRead,
    Run,
    StartProcessing,
    StatusRead,
    TelescopeEvent,
)
from socs_bl.commensal.requests import WISHES
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import EffectFailed, Event
from tests.commensal.bench import HEAP, INSTANCES, SYNC, Bench, sensors
from tests.commensal.saved import keys_written, saved_keys

ARRAYS = ("array_1", "array_2", "array_3")
WORDS = ("configure", "conf_complete", "tracking", "not-tracking", "rec-timeout", "deconfigure", "capture-init")
PICK = st.integers(0, 50)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"force": True, "restart_recorders": True},
    {"part": "recorder", "max_instances": 1},
    {"release": True, "keep_raw": False},
    {"to_state": "WAITING", "dwell": 7.0, "target": "x, radec, 1:00, 2:00"},
    {"instances": ["blpn65/0"], "min_quorum": 0.5, "target": "moon", "skip_ids": ["SCI-PRIMARY"]},
]


def answer_to(bench: Bench) -> str:
    """What the machine has refused the last wish with."""
    return next(effect.refusal for effect in bench.effects_of(Requested) if isinstance(effect, Answer))


class Commensal(RuleBasedStateMachine):
    """Telescope, nodes, analyzers, operators and crashes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(processing_deadline=60, calibration={"enabled": True}, reminder=900, record_again=True)
        self.asked: list[StartProcessing] = []
        self.answers: list[Event] = []
        self.keys: dict[str, Any] = {}
        self.seen = 0

    @initialize(
        arrays=st.sets(st.sampled_from(ARRAYS), min_size=1), streams=st.integers(1, 12), steps=st.integers(0, 25)
    )
    def under_way(self, arrays: set[str], streams: int, steps: int) -> None:
        """Some subarrays have their instances already, and have come some way."""
        for array in sorted(arrays):
            self.bench.cam("configure", array)
            self.bench.cam("conf_complete", array)
            self.bench.metadata(sensors(streams))
            self.bench.cam("tracking", array)
        self.all_goes_well(steps)

    @rule(steps=st.integers(1, 8))
    def all_goes_well(self, steps: int) -> None:
        """What waits longest is answered; when nothing waits, the next timer runs out."""
        for _ in range(steps):
            if self.bench.to_do:
                effect = next(iter(self.bench.to_do.values()))
                self.bench.answer(effect, *self.answer_of(effect, False, 7))
            elif self.bench.timers:
                timers = self.bench.machine.timers
                self.bench.fire(min(timers, key=lambda name: (timers[name].deadline, name)))

    # -- the telescope --------------------------------------------------------------------------------------------

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), array=st.sampled_from((*ARRAYS, "array_9")))
    def telescope(self, words: list[str], array: str) -> None:
        """Anything, at any time, several in a batch."""
        self.bench.say(*(TelescopeEvent(word=word, array=array) for word in words))

    @rule(seconds=st.sampled_from([0.3, 7.0, 40.0, -3600.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        """Or the wall clock steps."""
        self.bench.now += seconds

    # -- answers --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.bench.to_do)
    @rule(number=PICK, kind=st.sampled_from(["good", "good", "good", "odd", "failed", "unknown"]), which=PICK)
    def answer(self, number: int, kind: str, which: int) -> None:
        """An outstanding effect, whichever, is done or fails."""
        effect = list(self.bench.to_do.values())[number % len(self.bench.to_do)]
        if kind in ("failed", "unknown"):
            del self.bench.to_do[effect.id]
            self.bench.say(EffectFailed(effect=effect.id, reason="no answer", unknown=kind == "unknown"))
            return
        events = self.answer_of(effect, kind == "odd", which)
        self.answers += events
        self.bench.answer(effect, *events)

    def answer_of(self, effect: Effect, odd: bool, which: int) -> list[Event]:
        """What the world says to an effect."""
        match effect:
            case ReadMetadata(array=array, purpose=purpose):
                odds = ({"streams": "?"}, {"target": "moon"}, {"proposal": "SCI-SKIP"}, {"proposal": "SCI-PRIMARY"})
                values = sensors(1 + which % 20) | (odds[which % 4] if odd else {})
                return [MetadataRead(array=array, purpose=purpose, prefix="wide", values=values)]
            case ReadStatus(array=array, purpose=purpose, run=run, instances=instances):
                index = int((self.bench.now - SYNC) / HEAP)
                good = {"PKTIDX": str(index), "NETSTAT": "receiving", "DAQSTATE": "RECORD", "DESTIP": "239.192.1.0+3"}
                odds = (None, {**good, "DAQSTATE": "LISTEN"}, {**good, "PKTIDX": "x"}, {**good, "PKTIDX": "9" * 12})
                statuses: dict[str, Any] = dict.fromkeys(instances, good)
                if odd and instances:
                    statuses[instances[which % len(instances)]] = odds[which % 4]
                return [StatusRead(array=array, purpose=purpose, run=run, statuses=statuses)]
            case StartProcessing():
                self.asked.append(effect)
            case ReadPhaseup(array=array):
                return [PhaseupRead(array=array, phaseup=500.0 * (which % 3), last_config=100.0, last_stored=0.0)]
            case FetchCalibration(array=array, phaseup=phaseup):
                return [CalibrationFetched(array=array, phaseup=phaseup, key="k", antennas=4)]
        return []

    @precondition(lambda self: self.answers)
    @rule(number=PICK)
    def an_answer_again(self, number: int) -> None:
        """An answer comes a second time, long after."""
        self.bench.say(self.answers[number % len(self.answers)])

    @precondition(lambda self: self.bench.timers)
    @rule(number=PICK)
    def timer(self, number: int) -> None:
        """Any timer runs out."""
        names = sorted(self.bench.timers)
        self.bench.fire(names[number % len(names)])

    # -- results --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.asked)
    @rule(
        number=PICK,
        code=st.sampled_from([0, 0, 0, 1, 2, -11]),
        other=st.booleans(),
        instance=st.sampled_from(INSTANCES),
    )
    def result(self, number: int, code: int, other: bool, instance: str) -> None:
        """A result: of a run that was asked for, perhaps long ago, perhaps from somebody else; or a second time."""
        ask = self.asked[number % len(self.asked)]
        cursor = f"{self.bench.machine.sequence}-0"
        who = instance if other else ask.instance
        self.bench.say(ResultRead(cursor=cursor, instance=who, run=ask.run, code=code))

    @rule(instance=st.sampled_from((*INSTANCES, "other/0")), code=st.sampled_from([0, 2]))
    def legacy(self, instance: str, code: int) -> None:
        """A return without a run."""
        self.bench.say(LegacyReturn(instance=instance, code=code, code2=-1))

    @rule()
    def bad_message(self) -> None:
        """Somebody publishes nonsense."""
        self.bench.say(BadMessage(channel="alerts", reason="nonsense"))

    # -- people and crashes ---------------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(sorted(WISHES.keys() - {"reconcile", "load_state", "report_completion"})),
        name=st.sampled_from((*ARRAYS, *INSTANCES, "blpn64")),
        options=st.sampled_from(OPTIONS),
    )
    def operator(self, what: str, name: str, options: dict[str, Any]) -> None:
        """An operator's wish, sensible or not; refused, it changes nothing."""
        machine = self.bench.machine
        before = (dict(machine.cells), dict(machine.timers), set(machine.outstanding))
        self.bench.say(Requested(what=what, name=name, options=options))
        if answer_to(self.bench):
            machine = self.bench.machine
            assert (machine.cells, machine.timers, set(machine.outstanding)) == before

    @rule(which=PICK)
    def drain(self, which: int) -> None:
        """A node is taken out of service, or put back."""
        name = INSTANCES[which % len(INSTANCES)]
        self.bench.say(Requested(what="undrain" if self.bench.machine.draining(name) else "drain", name=name))

    @precondition(lambda self: "watch/pool" in self.bench.timers)
    @rule(beats=st.integers(1, 4), odd=st.booleans(), which=PICK)
    def heartbeat(self, beats: int, odd: bool, which: int) -> None:
        """Silent instances are looked at some times in a row."""
        for _ in range(beats):
            if "watch/pool" in self.bench.timers:
                self.bench.fire("watch/pool")
                for effect in [effect for effect in self.bench.wanted(ReadStatus) if effect.purpose == "watch"]:
                    self.bench.answer(effect, *self.answer_of(effect, odd, which))

    @rule(
        configured=st.sampled_from(["", "1", "1800000500.0"]),
        track_end=st.sampled_from(["", "1800000400.0"]),
        odd=st.booleans(),
        which=PICK,
        again=st.booleans(),
    )
    def reconcile(self, configured: str, track_end: str, odd: bool, which: int, again: bool) -> None:
        """The world is held against the state, after a crash or because somebody asks."""
        question = ReadStatus(array="", purpose="", run="", instances=INSTANCES)
        (read,) = self.answer_of(question, odd, which)
        assert isinstance(read, StatusRead)
        keys = {"last_config": configured, "last_track_end": track_end, "last_target": "1800000000.0"}
        world = {"statuses": read.statuses, "cam": dict.fromkeys(ARRAYS, keys)}
        if again:
            self.bench.say(Requested(what="reconcile", name="", options=world))
        else:
            self.bench.restart(world=world)

    @rule(instances=st.sampled_from([INSTANCES, INSTANCES[:2], (*INSTANCES, "blpn66/0")]))
    def restart(self, instances: tuple[str, ...]) -> None:
        """The coordinator is killed and comes back, perhaps with another list of instances."""
        self.bench.restart(hashpipe_instances=list(instances))

    # -- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def nothing_waits_for_nothing(self) -> None:
        """Who prepares, records or processes has a timer or a question that will bring it to an end."""
        machine = self.bench.machine
        machine.check()
        assert machine.timers.keys() == self.bench.timers.keys()
        asked = {
            (effect.array, effect.purpose)
            for kind in (ReadMetadata, ReadStatus)
            for effect in machine.outstanding_of(kind)
        }
        for name in ARRAYS:
            array = machine.array(name)
            assert array is not None
            if f"preparation/{name}" in machine.cells:
                assert (name, "record") in asked or f"target/{name}" in machine.timers, f"{name} prepares for ever"
            if array.recproc is RecProc.RECORD:
                ends = {f"record/{name}", f"halt/{name}"} & machine.timers.keys()
                assert ends or (name, "ended") in asked, f"{name} records for ever"
            if array.shares and not array.announced:
                assert f"announce/{name}" in machine.timers, f"{name} is never told"
        for cell in machine.instances():
            if cell.duty is Duty.PROCESSING:
                assert f"process/{cell.run}" in machine.timers, f"{cell.name} is searched for ever"
        for run in machine.cells.values():
            assert not isinstance(run, Run) or machine.pending(run), f"nobody works for {run.id}"
        for name in machine.config.arrays:
            array = machine.array(name)
            assert array is not None
            waits = array.recproc is RecProc.WAITING
            assert waits == (f"remind/{name}" in machine.timers), f"{name} is {array.recproc}: a reminder?"
            assert waits or f"kept/{name}" not in machine.cells, f"{name} keeps what it does not wait for"
        kinds = {name.partition("/")[0] for name in machine.timers}
        assert len(machine.timers) <= 5 * len(ARRAYS) + 13, kinds

    @invariant()
    def keys_follow_the_state(self) -> None:
        """After every commit the saved keys in Redis are those of the state as a whole."""
        writes = self.bench.vault.writes
        self.keys = keys_written(writes[self.seen :], self.keys)
        self.seen = len(writes)
        assert self.keys == saved_keys(self.bench.machine)

    def teardown(self) -> None:
        """The journal replays to the state; given up and left alone, everything comes to rest."""
        bench = self.bench
        assert bench.replayed().cells == bench.machine.cells
        for name in ARRAYS:
            bench.cam("deconfigure", name)
        for _ in range(200):
            timers = [name for name in bench.timers if not name.startswith(("remind/", "watch/"))]
            if bench.to_do:
                bench.fail(next(iter(bench.to_do.values())))
            elif timers:
                bench.fire(min(timers))
            else:
                break
        assert not timers and not bench.machine.outstanding
        assert {cell.duty for cell in bench.machine.instances()} <= {Duty.FREE, Duty.QUARANTINED, Duty.DRAINED}


# Without shrinking, which takes longer here than the time a test has; the steps that failed are printed as they were.
Commensal.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, phases=(Phase.explicit, Phase.generate)
)
TestCommensal = Commensal.TestCase
