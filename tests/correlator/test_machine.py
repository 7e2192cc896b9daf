"""The machine of a node: its rules one by one, and its invariants under any order of events."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec, Entry
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import EffectDone, EffectFailed, Envelope, Event, Restarted, TimerFired
from socs_bl.correlator.machine import NodeMachine
from socs_bl.correlator.model import (
    Activate,
    ActivateAsked,
    Activated,
    AutodestroyAsked,
    BdfdirAsked,
    CreateAsked,
    CreateTables,
    Destroy,
    DestroyAsked,
    Destroyed,
    EndOfFile,
    FlowAsked,
    FramedumpAsked,
    FrameTimeRead,
    IngestEnded,
    IngestRefused,
    PipelineEnded,
    PlaybackAsked,
    ReadFrameTime,
    RecordingDone,
    SendRecording,
    SendStop,
    SetFlow,
    SetFramedump,
    SetSource,
    SourceAsked,
    Stage,
    StartIngest,
    StartPipeline,
    StopAsked,
    StopPipeline,
    Tell,
    WriteMarker,
)
from socs_bl.correlator.view import overview, pending
from tests.correlator.plant import SETTINGS, pipes, record_asked, wall_ns
from tests.harness.simulation import EPOCH

SOURCE = "udp://239.192.50.1:5000"
WORLD = {"settings": SETTINGS, "bdfdir": "/bdf/.private", "default_document": None}


class Bench:
    """A machine, its codec, and all effects so far."""

    def __init__(self) -> None:
        self.machine = NodeMachine()
        self.codec = Codec(NodeMachine)
        self.effects: list[Effect] = []
        self.wall = EPOCH
        self.step(Restarted(epoch=1, world=WORLD))

    def step(self, event: Event) -> list[Effect]:
        self.wall += 0.5
        event = msgspec.structs.replace(event, at=Instant(self.wall, self.wall))
        effects = self.machine.step(event)
        self.machine.check()
        envelope = Envelope(schema=1, sequence=self.machine.sequence, epoch=1, cause="", event=event)
        entry = Entry(envelope, tuple(effects))
        assert self.codec.decode(self.codec.encode(entry)) == entry
        self.effects += effects
        return effects

    def of(self, kind: type) -> list[Any]:
        """Effects of a kind that nobody has answered yet."""
        return self.machine.outstanding_of(kind)

    def settle(self, *kinds: type) -> None:
        """All outstanding effects (of these kinds) are done, also those that follow."""
        while found := [e for e in self.of(Effect) if not kinds or isinstance(e, kinds)]:
            self.done(found[0])

    def done(self, effect: Effect) -> None:
        """An effect is done, with its answer."""
        if isinstance(effect, ReadFrameTime):
            self.step(FrameTimeRead(uid=effect.uid, newest_ns=0, flowing=False))
        self.step(EffectDone(effect=effect.id))

    def ask(self, event: Event) -> str:
        """What the person who asks is told."""
        answers = [effect for effect in self.step(event) if isinstance(effect, Answer)]
        assert len(answers) == 1, "who asks gets one answer"
        return answers[0].refusal

    @property
    def run(self) -> int:
        return self.machine.ingest.run

    def activated(self, name: str) -> None:
        """Frames have come, and belong to `name`."""
        self.step(Activated(run=self.run, name=name, previous=self.machine.ingest.active, cut_ns=1))

    def make(self, name: str, autodestroy: bool = False, **changes: Any) -> None:
        assert not self.ask(CreateAsked(name=name, document=name, pipes=pipes("P0"), autodestroy=autodestroy))
        self.settle()


def flowing() -> Bench:
    """A node with frames and the configuration ``a`` active."""
    bench = Bench()
    bench.settle()
    assert not bench.ask(SourceAsked(uri=SOURCE)) and not bench.ask(FlowAsked(on=True))
    bench.make("a")
    assert not bench.ask(ActivateAsked(name="a"))
    bench.settle()
    bench.activated("a")
    return bench


def test_an_activation_waits_for_pipelines_then_for_frames() -> None:
    """Created, pipelines up, sent, pending until frames flow, then active: the order of the life cycle."""
    bench = Bench()
    bench.settle()
    assert not bench.ask(SourceAsked(uri=SOURCE))
    bench.settle()
    assert not bench.ask(CreateAsked(name="a", document="x", pipes=pipes("P0", "P1")))
    assert not bench.ask(ActivateAsked(name="a"))
    assert pending(bench.machine) == [["create", "a"], ["activate", "a"]]
    bench.settle(CreateTables)
    assert not bench.of(Activate), "no pipeline runs yet"
    first, second = bench.of(StartPipeline)
    bench.step(EffectDone(effect=first.id))
    assert not bench.of(Activate), "one of two runs"
    bench.step(EffectDone(effect=second.id))
    assert [effect.name for effect in bench.of(Activate)] == ["a"]
    bench.settle()
    assert pending(bench.machine) == [["activate", "a"]] and not bench.machine.ingest.active
    bench.activated("a")
    assert pending(bench.machine) == [] and bench.machine.ingest.active == "a"


def test_direct_switches() -> None:
    """A -> B -> C asked at once: one after the other, no way by c0, and what has autodestroy goes when it is replaced."""
    bench = flowing()
    bench.ask(AutodestroyAsked(name="a", autodestroy=True))
    bench.make("b", autodestroy=True)
    bench.make("c")
    for name in ("b", "c"):
        assert not bench.ask(ActivateAsked(name=name))
    bench.settle()
    assert [e.name for e in bench.effects if isinstance(e, Activate)] == ["a", "b"], "c waits for b"
    bench.activated("b")
    assert [e.name for e in bench.of(Destroy)] == ["a"] and [e.name for e in bench.of(Activate)] == ["c"]
    bench.settle()
    bench.step(Destroyed(run=bench.run, name="a"))
    bench.settle()
    bench.activated("c")
    bench.step(Destroyed(run=bench.run, name="b"))
    bench.settle()
    assert [held.name for held in bench.machine.all_held()] == ["c"] and not bench.machine.timers


def test_destroying_the_active_one_waits() -> None:
    """A destroy of the active configuration is pending until another one is active."""
    bench = flowing()
    assert not bench.ask(DestroyAsked(name="a"))
    assert pending(bench.machine) == [["destroy", "a"]] and not bench.of(Destroy)
    bench.make("b")
    bench.ask(ActivateAsked(name="b"))
    bench.settle()
    bench.activated("b")
    assert [effect.name for effect in bench.of(Destroy)] == ["a"]
    assert "is being destroyed" in bench.ask(ActivateAsked(name="a"))


def test_refusals_change_nothing() -> None:
    """Unknown names, a second configuration of a name, too much memory, flow without a source: a sentence each."""
    bench = Bench()
    bench.settle()
    assert "no configuration x; there are: none" in bench.ask(ActivateAsked(name="x"))
    assert "no configuration" in bench.ask(DestroyAsked(name="x"))
    assert "source" in bench.ask(FlowAsked(on=True))
    assert "file" in bench.ask(PlaybackAsked(rate=1, live_timestamps=False))
    bench.make("a")
    assert not bench.ask(CreateAsked(name="a", document="a", pipes=pipes("P0"))), "the same again is no mistake"
    assert "already" in bench.ask(CreateAsked(name="a", document="other", pipes=()))
    refusal = bench.ask(CreateAsked(name="b", document="b", pipes=pipes("P0", ring_bytes=991)))
    assert "991 bytes" in refusal and "990 of 1000 are left" in refusal
    assert [held.name for held in bench.machine.all_held()] == ["a"]


def test_a_new_source_destroys_all() -> None:
    """A change of the source destroys all configurations and sets flow off; the same source again does nothing."""
    bench = flowing()
    bench.make("b")
    bench.ask(ActivateAsked(name="b"))
    assert not bench.ask(SourceAsked(uri=SOURCE)) and bench.machine.ingest.active == "a"
    assert not bench.ask(SourceAsked(uri="file:///x.blf"))
    assert not bench.machine.source.on and not bench.machine.ingest.queue
    assert not bench.ask(PlaybackAsked(rate=1000, live_timestamps=True))
    bench.settle()
    assert not bench.machine.all_held() and {e.pipe for e in bench.effects if isinstance(e, StopPipeline)} == {"P0"}
    assert bench.effects[-1] != SetFlow and bench.machine.source.rate == 1000
    bench.ask(FlowAsked(on=True))
    bench.step(EndOfFile(run=bench.run, uri="file:///x.blf"))
    assert not bench.machine.source.uri and not bench.machine.source.on, "the end of a file removes it"


def test_a_pipeline_that_fails_is_restarted_then_left_alone() -> None:
    """Fault 25: growing pauses, recordings told anew, quarantine after three in a row, tried again when activated."""
    bench = flowing()
    bench.ask(record_asked(1, 0.0))
    bench.settle()
    pauses = []
    for failure in range(3):
        line = bench.machine.line("a", "P0")
        assert line is not None and line.stage is Stage.RUNNING
        bench.step(PipelineEnded(configuration="a", pipe="P0", run=line.run, reason="signal 11"))
        bench.step(PipelineEnded(configuration="a", pipe="P0", run=line.run, reason="heard twice"))
        if failure < 2:
            timer = bench.machine.timers["pipeline/a/P0"]
            pauses.append(timer.duration)
            before = len([e for e in bench.effects if isinstance(e, SendRecording)])
            bench.step(TimerFired(name=timer.name, generation=timer.generation))
            bench.settle()
            assert len([e for e in bench.effects if isinstance(e, SendRecording)]) == before + 1
    assert pauses == [0.5, 1.0]
    line = bench.machine.line("a", "P0")
    assert line is not None and line.stage is Stage.QUARANTINED and bench.machine.troubled
    assert any("left alone" in e.text for e in bench.effects if isinstance(e, Tell))
    bench.make("b")
    bench.ask(ActivateAsked(name="b"))
    bench.settle()
    bench.activated("b")
    bench.ask(ActivateAsked(name="a"))
    assert [e.pipe for e in bench.of(StartPipeline)] == ["P0"]


def test_an_ingest_process_that_ends_is_told_everything_again() -> None:
    """Source, framedump, configurations, the active one first, then flow; the pipelines live on."""
    bench = flowing()
    bench.ask(FramedumpAsked(mode="binary", directory="/tmp/x", size=1))
    bench.make("b")
    bench.ask(ActivateAsked(name="b"))
    bench.settle()
    seen = len(bench.effects)
    bench.step(IngestEnded(run=bench.run, reason="signal 9"))
    assert pending(bench.machine)[:1] == [["activate", "a"]] or ["create", "a"] in pending(bench.machine)
    timer = bench.machine.timers["ingest"]
    bench.step(TimerFired(name="ingest", generation=timer.generation))
    bench.settle()
    told = [e for e in bench.effects[seen:] if e.lane == "ingest"]
    assert [type(e) for e in told] == [
        StartIngest, SetSource, SetFramedump, CreateTables, CreateTables, Activate, SetFlow,
    ]  # fmt: skip
    assert told[5].name == "a" and not [e for e in bench.effects[seen:] if isinstance(e, StartPipeline)]
    bench.activated("a")
    assert [e.name for e in bench.of(Activate)] == ["b"], "what waited before waits again"


def test_what_ingest_refuses_is_not_kept() -> None:
    """A configuration that cannot be made goes, and what waits for it; people are told why."""
    bench = flowing()
    bench.ask(CreateAsked(name="b", document="b", pipes=pipes("P0")))
    bench.ask(ActivateAsked(name="b"))
    bench.step(IngestRefused(run=bench.run, action="create", name="b", reason="no memory"))
    bench.settle()
    assert bench.machine.held("b") is None and not bench.machine.ingest.queue
    bench.step(IngestRefused(run=bench.run, action="flow", name="", reason="no such interface"))
    assert not bench.machine.source.on and bench.machine.source.uri == SOURCE
    bench.step(IngestRefused(run=bench.run, action="source", name="", reason="no such file"))
    assert not bench.machine.source.uri
    bench.ask(FramedumpAsked(mode="binary", directory="/nowhere", size=1000))
    bench.step(IngestRefused(run=bench.run, action="framedump", name="", reason="no directory"))
    assert bench.machine.source.dump_mode == "none", "nobody is shown a dump that there is not"
    told = [e.text for e in bench.effects if isinstance(e, Tell)]
    assert "no memory" in told[0] and told[-1] == "the ingest process refuses framedump: no directory"


def test_a_recording_over_a_switch() -> None:
    """Both configurations write; the marker comes when frame time has passed the stop, with the integrations of both."""
    bench = flowing()
    assert not bench.ask(record_asked(1, 0.0))
    assert not bench.ask(record_asked(1, 0.0)), "the same again is no mistake"
    bench.make("b")
    bench.ask(ActivateAsked(name="b"))
    bench.settle()
    (activation,) = [e for e in bench.effects if isinstance(e, Activate) and e.name == "b"]
    sent = [e for e in bench.effects if isinstance(e, SendRecording) and e.configuration == "b"]
    assert [e.id for e in sent] == list(activation.after), "told of the recording before the first frame"
    uid = sent[0].uid
    bench.activated("b")
    done = {"uid": uid, "dropped": 0, "error": "", "pipe": "P0", "run": 1}
    bench.step(RecordingDone(configuration="a", integrations=5, ending="flush", **done))
    assert not bench.of(WriteMarker)
    assert not bench.ask(StopAsked(uid=uid, stop_ns=wall_ns(60.0), reason="FINISH"))
    assert not bench.ask(StopAsked(uid=uid, stop_ns=wall_ns(90.0)))
    bench.settle()
    stops = [e for e in bench.effects if isinstance(e, SendStop)]
    assert [(e.configuration, e.stop_ns) for e in stops] == [("b", wall_ns(60.0))], "of two stops the earlier counts"
    bench.step(RecordingDone(configuration="b", integrations=7, ending="stop", **done))
    (marker,) = bench.of(WriteMarker)
    assert (marker.integrations, marker.aborted, marker.reason) == (12, False, "FINISH")
    assert marker.stop_ns == wall_ns(60.0) and marker.directory == "/bdf/.private"
    assert not bench.ask(StopAsked(uid=uid, stop_ns=0)) and not bench.ask(StopAsked(uid="uid:///x/1", stop_ns=5))


def test_a_recording_without_frames_ends_all_the_same() -> None:
    """Its stop is over and no frames come: pipelines are told to end it; as long as frames come, they are waited for."""
    bench = flowing()
    bench.ask(record_asked(1, 0.0, 1.0))
    bench.settle()
    uid = "uid:///evla/bdf/1"
    for flowing_, newest in ((True, 0.5), (True, 0.6), (False, 0.6)):
        timer = bench.machine.timers[f"guard/{uid}"]
        bench.step(TimerFired(name=timer.name, generation=timer.generation))
        (asked,) = bench.of(ReadFrameTime)
        bench.step(FrameTimeRead(uid=uid, newest_ns=wall_ns(newest), flowing=flowing_))
        bench.step(EffectDone(effect=asked.id))
    assert [(e.uid, e.stop_ns) for e in bench.of(SendStop)] == [(uid, 0)]
    line = bench.machine.line("a", "P0")
    assert line is not None
    bench.step(
        RecordingDone(
            configuration="a", pipe="P0", run=line.run, uid=uid, integrations=0, dropped=0, error="", ending="told"
        )
    )
    assert [e.integrations for e in bench.of(WriteMarker)] == [0]


def test_a_recording_of_the_past_waits_for_its_pipelines() -> None:
    """A file that is played has times long gone: its recording is not ended while the pipelines are still starting."""
    bench = Bench()
    bench.settle()
    bench.ask(SourceAsked(uri="file:///x.blf"))
    bench.ask(CreateAsked(name="a", document="a", pipes=pipes("P0")))
    bench.ask(ActivateAsked(name="a"))
    bench.ask(record_asked(1, -500.0, -400.0))
    timer = bench.machine.timers["guard/uid:///evla/bdf/1"]
    bench.step(TimerFired(name=timer.name, generation=timer.generation))
    assert not bench.of(ReadFrameTime) and timer.name in bench.machine.timers
    bench.settle()
    assert [e.uid for e in bench.effects if isinstance(e, SendRecording)] == ["uid:///evla/bdf/1"]


def test_a_full_disk_ends_one_pipeline_s_part() -> None:
    """A fault of one pipeline is told and marks the recording as aborted; the next recording is told to it as ever."""
    bench = flowing()
    bench.ask(record_asked(1, 0.0, 30.0))
    bench.settle()
    line = bench.machine.line("a", "P0")
    assert line is not None
    done = {"configuration": "a", "pipe": "P0", "run": line.run, "uid": "uid:///evla/bdf/1", "dropped": 2}
    bench.step(RecordingDone(integrations=3, error="disk full", ending="fault", **done))
    bench.step(RecordingDone(integrations=3, error="heard twice", ending="fault", **done))
    assert not bench.ask(StopAsked(uid="uid:///evla/bdf/1", stop_ns=0, reason=""))
    (marker,) = bench.of(WriteMarker)
    assert (marker.aborted, marker.integrations, marker.dropped) == (True, 3, 2) and "disk full" in marker.reason
    bench.ask(record_asked(2, 40.0))
    assert [e.uid for e in bench.of(SendRecording)] == ["uid:///evla/bdf/2"]


def test_people_are_told_of_a_cause_once() -> None:
    """What stops all pipelines of a recording, no frames or a full disk, is one notification and one reason."""
    bench = flowing()
    assert not bench.ask(CreateAsked(name="b", document="b", pipes=pipes("P0", "P1", "P2")))
    bench.settle()
    bench.ask(ActivateAsked(name="b"))
    bench.settle()
    bench.activated("b")
    markers = []
    for number, error, ending in ((1, "no room", "fault"), (2, "", "silence")):
        bench.ask(record_asked(number, 0.0, 30.0))
        bench.settle()
        for pipe in ("P0", "P1", "P2"):
            done = {"uid": f"uid:///evla/bdf/{number}", "configuration": "b", "pipe": pipe, "run": 1, "dropped": 0}
            bench.step(RecordingDone(integrations=3, error=error, ending=ending, **done))
        bench.ask(StopAsked(uid=done["uid"], stop_ns=0))
        markers += bench.of(WriteMarker)
        bench.settle()
    told = [(e.level, e.text) for e in bench.effects if isinstance(e, Tell)]
    assert [level for level, _ in told] == ["error", "warning"]
    assert "no room" in told[0][1] and "no frames" in told[1][1]
    assert [(e.aborted, e.reason) for e in markers] == [(True, "b/P0, b/P1, b/P2: no room"), (False, "")]


def test_a_marker_that_cannot_be_written_is_tried_again() -> None:
    """The publisher waits for it, so it is not given up lightly."""
    bench = flowing()
    bench.ask(record_asked(1, 0.0))
    bench.settle()
    bench.ask(StopAsked(uid="uid:///evla/bdf/1", stop_ns=0))
    for timer_name in ("end/uid:///evla/bdf/1", "marker/uid:///evla/bdf/1"):
        timer = bench.machine.timers[timer_name]
        bench.step(TimerFired(name=timer.name, generation=timer.generation))
        (marker,) = bench.of(WriteMarker)
        bench.step(EffectFailed(effect=marker.id, reason="read-only"))
    assert len([e for e in bench.effects if isinstance(e, Tell) and "read-only" in e.text]) == 1
    timer = bench.machine.timers["marker/uid:///evla/bdf/1"]
    bench.step(TimerFired(name=timer.name, generation=timer.generation))
    bench.settle()
    assert bench.machine.all_recordings()[0].marked


class Node(RuleBasedStateMachine):
    """Anything in any order: the invariants hold after every event, and the view is JSON of the promised form."""

    names = st.sampled_from(["a", "b", "c", "c0"])
    numbers = st.integers(1, 3)
    endings = st.sampled_from(["stop", "flush", "told", "fault"])

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()

    @rule(name=names, count=st.integers(0, 2), autodestroy=st.booleans(), size=st.sampled_from([10, 400]))
    def create(self, name: str, count: int, autodestroy: bool, size: int) -> None:
        made = pipes(*["P0", "P1"][:count], ring_bytes=size)
        self.bench.ask(CreateAsked(name=name, document=f"{count}", pipes=made, autodestroy=autodestroy))

    @rule(name=names, what=st.sampled_from([ActivateAsked, DestroyAsked]))
    def ask(self, name: str, what: type[ActivateAsked]) -> None:
        self.bench.ask(what(name=name))

    @rule(uri=st.sampled_from(["", SOURCE, "file:///x.blf"]))
    def source(self, uri: str) -> None:
        self.bench.ask(SourceAsked(uri=uri))

    @rule(on=st.booleans())
    def flow(self, on: bool) -> None:
        self.bench.ask(FlowAsked(on=on))

    @rule(number=numbers, stop=st.sampled_from([0.0, 5.0, 50.0]))
    def record(self, number: int, stop: float) -> None:
        self.bench.ask(record_asked(number, 1.0, stop))

    @rule(number=numbers, stop=st.sampled_from([0, wall_ns(3.0), wall_ns(70.0)]))
    def stop(self, number: int, stop: int) -> None:
        self.bench.ask(StopAsked(uid=f"uid:///evla/bdf/{number}", stop_ns=stop))

    @rule(directory=st.sampled_from(["/x", "/y"]))
    def bdfdir(self, directory: str) -> None:
        self.bench.ask(BdfdirAsked(directory=directory))

    @precondition(lambda self: self.bench.machine.outstanding)
    @rule(data=st.data(), outcome=st.sampled_from(["done", "done", "done", "failed"]))
    def answer(self, data: st.DataObject, outcome: str) -> None:
        ids = sorted(self.bench.machine.outstanding)
        effect = self.bench.machine.outstanding[data.draw(st.sampled_from(ids))].effect
        if outcome == "failed":
            self.bench.step(EffectFailed(effect=effect.id, reason="broken", unknown=True))
            return
        self.bench.done(effect)

    @precondition(lambda self: self.bench.machine.timers)
    @rule(data=st.data())
    def fire(self, data: st.DataObject) -> None:
        timer = self.bench.machine.timers[data.draw(st.sampled_from(sorted(self.bench.machine.timers)))]
        self.bench.step(TimerFired(name=timer.name, generation=timer.generation))

    @rule(
        name=names,
        run=st.integers(0, 1),
        what=st.sampled_from(["activated", "destroyed", "refused", "no flow", "eof", "ended"]),
    )
    def ingest_says(self, name: str, run: int, what: str) -> None:
        run = self.bench.run - run
        said = {
            "activated": Activated(run=run, name=name, previous="", cut_ns=1),
            "destroyed": Destroyed(run=run, name=name),
            "refused": IngestRefused(run=run, action="create", name=name, reason="no"),
            "no flow": IngestRefused(run=run, action="flow", name="", reason="no"),
            "eof": EndOfFile(run=run, uri=self.bench.machine.source.uri),
            "ended": IngestEnded(run=run, reason="signal 9"),
        }
        self.bench.step(said[what])

    @precondition(lambda self: self.bench.machine.ingest.queue and self.bench.machine.ingest.queue[0].sent)
    @rule()
    def frames_come(self) -> None:
        self.bench.activated(self.bench.machine.ingest.queue[0].name)

    @rule(
        name=names,
        pipe=st.sampled_from(["P0", "P1"]),
        number=numbers,
        ending=st.sampled_from(["stop", "flush", "told", "fault"]),
    )
    def pipeline_done(self, name: str, pipe: str, number: int, ending: str) -> None:
        line = self.bench.machine.line(name, pipe)
        error = "disk full" if ending == "fault" else ""
        self.bench.step(
            RecordingDone(
                configuration=name, pipe=pipe, run=line.run if line else 1, uid=f"uid:///evla/bdf/{number}",
                integrations=1, dropped=0, error=error, ending=ending,
            )
        )  # fmt: skip

    @rule(name=names, pipe=st.sampled_from(["P0", "P1"]))
    def pipeline_ends(self, name: str, pipe: str) -> None:
        line = self.bench.machine.line(name, pipe)
        self.bench.step(PipelineEnded(configuration=name, pipe=pipe, run=line.run if line else 1, reason="signal 11"))

    @rule(default=st.booleans())
    def restart(self, default: bool) -> None:
        outstanding = tuple(self.bench.machine.outstanding)
        world = {**WORLD, "default_document": "<config/>" if default else None}
        self.bench.step(Restarted(epoch=2, outstanding=outstanding, world=world))

    @invariant()
    def shown(self) -> None:
        msgspec.json.encode(overview(self.bench.machine, "01", {}, {}))

    def teardown(self) -> None:
        """Whatever has happened: when processes obey again, everything comes to rest."""
        for _ in range(200):
            self.bench.settle()
            machine = self.bench.machine
            if not machine.timers:
                break
            timer = min(machine.timers.values(), key=lambda timer: timer.deadline)
            self.bench.wall = max(self.bench.wall, timer.deadline)
            self.bench.step(TimerFired(name=timer.name, generation=timer.generation))
        assert not self.bench.machine.timers, self.bench.machine.timers


TestNode = Node.TestCase
TestNode.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
