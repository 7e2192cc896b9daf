"""The recorder's machine: the rules of the DAQ it stands for, and its invariants under any order of events."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from socs_bl.capture.machine import RecorderMachine
from socs_bl.capture.model import (
    Arm,
    Disarm,
    Geometry,
    JoinGroups,
    KeysChanged,
    LeaveGroups,
    ManualStart,
    ManualStop,
    RecordingEnded,
    RecordingStarted,
    Restore,
    SetStatus,
    StreamStalled,
    TimestampsWentBack,
    Window,
)
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec, Entry
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import EffectDone, EffectFailed, Envelope, Event, Restarted, TimerFired

BAND = {
    "SUBARRAY": "array_1", "BINDPORT": 7148, "SYNCTIME": 1000, "FECENTER": 1284.0, "FENCHAN": 128, "CHAN_BW": 0.004,
    "HNCHAN": 16, "HNTIME": 256, "HCLOCKS": 65536, "NANTS": 4, "SCHAN": 0, "DWELL": 0, "PKTSTART": 0,
}  # fmt: skip
DESTIP = "239.9.0.0+3"
GEOMETRY = Geometry.from_keys(BAND, 4)
BLOCK_BYTES = 4 << 20
PIPERBLK = 16
WORLD = {"instance": "blpn64/0", "block_bytes": BLOCK_BYTES}


class Bench:
    """A machine, its codec, and all effects so far."""

    def __init__(self) -> None:
        self.machine = RecorderMachine()
        self.codec = Codec(RecorderMachine)
        self.effects: list[Effect] = []
        self.wall = 2000.0
        self.step(Restarted(epoch=1, world=WORLD))
        self.effects.clear()

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

    def keys(self, **pairs: object) -> list[Effect]:
        return self.step(KeysChanged(pairs=pairs))

    def status(self) -> dict[str, object]:
        return {key: value for effect in self.of(SetStatus) for key, value in effect.pairs.items()}

    def of(self, kind: type) -> list:
        return [effect for effect in self.effects if isinstance(effect, kind)]


def listening() -> Bench:
    """A machine that has joined its groups."""
    bench = Bench()
    bench.keys(**BAND)
    bench.keys(DESTIP=DESTIP, DATADIR="/buf0/one")
    assert len(bench.of(JoinGroups)) == 1 and bench.status()["DAQSTATE"] == "LISTEN"
    return bench


@pytest.mark.parametrize(
    ("pktstart", "dwell", "window"),
    [
        (1000, 20, Window(992, 992 + 19 * 16)),  # 20 s are 19.53 blocks of 1.024 s
        (992, 20.48, Window(992, 992 + 20 * 16)),  # exactly 20 blocks
        (1007, 1.03, Window(992, 1008)),
        (1000, 1.0, None),  # less than a block
        (0, 20, None),
        (1000, 0, None),
        (1000, -5, None),
        (1000, float("inf"), None),
        (1000, float("nan"), None),
    ],
)
def test_window_is_rounded_to_blocks(pktstart: int, dwell: float, window: Window | None) -> None:
    """PKTSTART is rounded down to a block; PKTSTOP is whole blocks of the dwell, truncated; 0 is no start."""
    assert Window.of(pktstart, dwell, GEOMETRY, PIPERBLK) == window


def test_geometry_and_axis() -> None:
    """PIPERBLK is what fits; OBSFREQ puts coarse channel i at FECENTER + (SCHAN + i - FENCHAN / 2) CHAN_BW."""
    assert GEOMETRY.piperblk(BLOCK_BYTES) == PIPERBLK
    geometry = Geometry.from_keys({**BAND, "SCHAN": 64}, 4)
    for i in (0, 1, 63):
        centre = geometry.obsfreq - geometry.obsbw / 2 + (i + 0.5) * 0.004
        assert centre == pytest.approx(1284.0 + (64 + i - 64) * 0.004, abs=1e-12)
    assert GEOMETRY.heap_seconds == pytest.approx(0.064) and GEOMETRY.wall(1000) == pytest.approx(1064.0)
    with pytest.raises(Refused, match=r"HNTIME, FECENTER"):
        Geometry.from_keys({key: value for key, value in BAND.items() if key not in ("HNTIME", "FECENTER")}, 4)


def test_a_recording_from_keys_to_its_end() -> None:
    """DATADIR, DWELL, then PKTSTART last: one plan with all of it; RECORD and LISTEN follow what the stream reports."""
    bench = listening()
    bench.keys(DWELL=20)
    bench.keys(DATADIR="/buf0/two", SRC_NAME="Hyd A")
    assert not bench.of(Arm)
    bench.keys(PKTSTART=1000)
    (arm,) = bench.of(Arm)
    assert arm.plan.window == Window(992, 1296) and arm.plan.directory == "/buf0/two/Unknown/GUPPI"
    assert arm.plan.cards["SRC_NAME"] == arm.plan.source == "Hyd_A" and arm.plan.cards["OBSNCHAN"] == 256
    assert bench.status()["PKTSTOP"] == 1296
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    assert bench.status()["DAQSTATE"] == "RECORD" and bench.machine.state == "recording"
    bench.keys(DATADIR="/buf0/three")
    assert len(bench.of(Arm)) == 1, "a recording does not move to another directory"
    bench.step(RecordingEnded(start=992, blocks=19, missing=0))
    assert bench.status()["DAQSTATE"] == "LISTEN"
    bench.keys(DWELL=290)
    assert len(bench.of(Arm)) == 1, "a window that is over is not recorded again"
    bench.keys(PKTSTART=5000)
    assert bench.of(Arm)[-1].plan.scan == 2


def test_early_stop_and_longer_dwell() -> None:
    """DWELL moves the end of an open recording; DWELL 0 ends it."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    bench.keys(DWELL=40)
    assert bench.of(Arm)[-1].plan.window == Window(992, 992 + 39 * 16)
    bench.keys(DWELL=0)
    assert len(bench.of(Disarm)) == 1
    bench.step(RecordingEnded(start=992, blocks=3, missing=0))
    bench.keys(PKTSTART=0, DWELL=290)
    assert len(bench.of(Arm)) == 2


def test_destination_is_fixed_while_listening() -> None:
    """A new DESTIP is refused and the status shows the old one; 0.0.0.0 leaves; then another may be joined."""
    bench = listening()
    for other in ("239.9.0.4+3", "junk"):
        bench.keys(DESTIP=other)
        assert bench.status()["DESTIP"] == DESTIP and DESTIP in str(bench.status()["DAQERR"])
    assert len(bench.of(JoinGroups)) == 1 and not bench.of(LeaveGroups)
    bench.keys(DESTIP="0.0.0.0")
    assert len(bench.of(LeaveGroups)) == 1 and bench.status()["DAQSTATE"] == "IDLE"
    bench.keys(DESTIP="239.9.0.4+3")
    assert bench.of(JoinGroups)[-1].target.groups[0] == "239.9.0.4"


def test_a_new_synchronisation_of_the_same_groups_is_followed() -> None:
    """SYNCTIME or the band may change under the same DESTIP between recordings, not within one."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.keys(SYNCTIME=1500)
    assert bench.of(JoinGroups)[-1].target.geometry.synctime == 1500
    assert bench.of(Arm)[-1].plan.cards["SYNCTIME"] == 1500 and len(bench.of(Arm)) == 2
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    bench.keys(SYNCTIME=1600)
    assert len(bench.of(JoinGroups)) == 2
    bench.step(RecordingEnded(start=992, blocks=19, missing=0))
    assert bench.of(JoinGroups)[-1].target.geometry.synctime == 1600


def test_keys_that_come_late_are_waited_for() -> None:
    """A DESTIP before the band is not lost: the groups are joined when the last missing key has come."""
    bench = Bench()
    bench.keys(DESTIP=DESTIP)
    assert not bench.of(JoinGroups) and "HNCHAN" in str(bench.status()["DAQERR"])
    bench.keys(**BAND)
    assert len(bench.of(JoinGroups)) == 1 and bench.status()["DAQERR"] == "none"


@pytest.mark.parametrize("datadir", ["relative", "/buf0/../../etc", "/", "/a b", "/buf0/x\ny", 5])
def test_hostile_directories_are_refused(datadir: object) -> None:
    """A DATADIR that is no absolute path of plain names records nothing and says why."""
    bench = listening()
    bench.keys(DATADIR=datadir, DWELL=20, PKTSTART=1000)
    assert not bench.of(Arm) and "DATADIR" in str(bench.status()["DAQERR"])


def test_failed_writing_and_stalled_streams_end_the_recording() -> None:
    """A full disk or a silent stream ends a recording for good, and the status says why."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    bench.step(RecordingEnded(start=992, blocks=3, missing=0, fault="disk full: block 3"))
    assert bench.status()["DAQERR"] == "disk full: block 3" and bench.machine.state == "listening"
    bench.keys(PKTSTART=3000)
    bench.step(RecordingStarted(start=2992, pktidx=2992, path="/y"))
    bench.step(StreamStalled(seconds=10.0))
    assert bench.of(Disarm) and bench.machine.state == "listening"


def test_time_that_went_back_is_joined_anew() -> None:
    """The open recording ends for good, the groups are left and joined again in this order, and the next window works."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    bench.effects.clear()
    bench.step(TimestampsWentBack(heaps=40))
    assert [type(effect) for effect in bench.effects if not isinstance(effect, SetStatus)] == [LeaveGroups, JoinGroups]
    assert bench.machine.state == "listening" and "went back" in str(bench.status()["DAQERR"])
    bench.step(RecordingEnded(start=992, blocks=3, missing=0))
    assert not bench.of(Arm)
    bench.keys(PKTSTART=200)
    assert bench.of(Arm)[-1].plan.window.start == 192 and bench.machine.daq.fault == ""


def test_an_armed_window_survives_time_that_went_back() -> None:
    """What is armed and has not begun is armed again after the groups were joined anew; idle, nothing happens."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.effects.clear()
    bench.step(TimestampsWentBack(heaps=40))
    ordered = [type(effect) for effect in bench.effects if not isinstance(effect, SetStatus)]
    assert ordered == [LeaveGroups, JoinGroups, Arm]
    idle = Bench()
    assert not idle.step(TimestampsWentBack(heaps=40))


def test_joining_is_tried_again() -> None:
    """When the groups cannot be joined the status says so, and it is tried again after a while."""
    bench = Bench()
    bench.keys(**BAND, DESTIP=DESTIP)
    (join,) = bench.of(JoinGroups)
    bench.step(EffectFailed(effect=join.id, reason="no such interface"))
    assert bench.machine.state == "idle" and bench.status()["DAQERR"] == "no such interface"
    assert bench.status()["DAQSTATE"] == "IDLE"
    timer = bench.machine.timers["join"]
    bench.step(TimerFired(name="join", generation=timer.generation))
    assert len(bench.of(JoinGroups)) == 2


def test_restart_receives_and_records_again() -> None:
    """After a restart in the middle of a recording the status, the group, the groups and the plan are ordered anew."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    effects = bench.step(Restarted(epoch=2))
    kinds = [type(effect) for effect in effects]
    assert kinds[:3] == [Restore, JoinGroups, Arm]
    assert effects[0].group == "array_1-0" and effects[0].pairs["PKTSTART"] == 1000
    assert effects[0].pairs["DAQSTATE"] == "LISTEN"


def test_a_group_that_could_not_be_joined_again_is_tried_later() -> None:
    """Without its group an instance would miss DWELL and PKTSTART: a failed rejoining is repeated until it is done."""
    bench = listening()
    bench.keys(SUBARRAY="array_1")
    bench.step(Restarted(epoch=2))
    for tries in (2, 3):
        restore = bench.of(Restore)[-1]
        bench.step(EffectFailed(effect=restore.id, reason="Redis is away"))
        timer = bench.machine.timers["restore"]
        bench.step(TimerFired(name="restore", generation=timer.generation))
        assert len(bench.of(Restore)) == tries
    bench.step(EffectDone(effect=bench.of(Restore)[-1].id))
    assert "restore" not in bench.machine.timers


def test_a_restart_with_another_block_size() -> None:
    """Groups and window are ordered anew in blocks of the new size, and only so; a restart that says none keeps it."""
    bench = listening()
    bench.keys(DWELL=20, PKTSTART=1000)
    bench.step(RecordingStarted(start=992, pktidx=992, path="/x"))
    effects = bench.step(Restarted(epoch=2, world={**WORLD, "block_bytes": BLOCK_BYTES // 4}))
    (join,) = [effect for effect in effects if isinstance(effect, JoinGroups)]
    (arm,) = [effect for effect in effects if isinstance(effect, Arm)]
    assert join.target.piperblk == PIPERBLK // 4
    assert arm.plan.window == Window(1000, 1000 + 78 * 4) and arm.plan.cards["PIPERBLK"] == 4
    assert bench.status()["PIPERBLK"] == 4
    bench.step(Restarted(epoch=3))
    assert bench.of(JoinGroups)[-1].target.piperblk == 4


def test_manual_recording_is_refused_while_allocated() -> None:
    """An instance the keys have allocated is the subarray's: by hand nothing starts and nothing stops."""
    bench = listening()
    answer = bench.step(ManualStart(destip="239.9.0.4+3", dwell=20, datadir="/buf0/hand"))[-1]
    assert isinstance(answer, Answer) and "allocated to array_1" in answer.refusal
    answer = bench.step(ManualStop())[-1]
    assert isinstance(answer, Answer) and "allocated" in answer.refusal
    assert not bench.of(LeaveGroups) and not bench.of(Arm)


def test_manual_recording() -> None:
    """By hand: groups joined, a window a little ahead; at its end the groups are left and the keys rule again."""
    bench = Bench()
    bench.keys(**BAND)
    answer = bench.step(ManualStart(destip=DESTIP, dwell=20, datadir="/buf0/hand"))[-1]
    assert answer == Answer(refusal="", id=answer.id)
    (arm,) = bench.of(Arm)
    ahead = GEOMETRY.wall(arm.plan.window.start) - bench.wall
    assert 3.0 <= ahead <= 3.0 + 2 * 1.024
    again = bench.step(ManualStart(destip=DESTIP, dwell=20, datadir="/buf0/hand"))[-1]
    assert isinstance(again, Answer) and "already" in again.refusal
    bench.keys(DESTIP="239.9.0.4+3")
    start = arm.plan.window.start
    bench.step(RecordingStarted(start=start, pktidx=start, path="/x"))
    bench.step(RecordingEnded(start=start, blocks=19, missing=0))
    assert len(bench.of(LeaveGroups)) == 1
    assert bench.of(JoinGroups)[-1].target.groups[0] == "239.9.0.4", "now the subarray has it"


def test_a_manual_recording_without_heaps_ends() -> None:
    """When no end of it is heard, some seconds after its window the groups are left and the keys rule again."""
    bench = Bench()
    bench.keys(**BAND)
    bench.step(ManualStart(destip=DESTIP, dwell=20, datadir="/buf0/hand"))
    bench.keys(DESTIP="239.9.0.4+3")
    (arm,) = bench.of(Arm)
    timer = bench.machine.timers["manual"]
    assert timer.deadline == pytest.approx(GEOMETRY.wall(arm.plan.window.stop) + 15.0)
    bench.step(TimerFired(name="manual", generation=timer.generation))
    assert bench.of(JoinGroups)[-1].target.groups[0] == "239.9.0.4" and not bench.machine.daq.manual


class AnyOrder(RuleBasedStateMachine):
    """Keys, reports of a stream, failures, people and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.bench.keys(**BAND)
        self.open = 0

    @rule(
        pairs=st.fixed_dictionaries(
            {},
            optional={
                "DESTIP": st.sampled_from([DESTIP, "239.9.0.4+3", "0.0.0.0", "239.9.0.0", "junk", 7]),
                "PKTSTART": st.sampled_from([0, 1000, 1015, 1016, 5000, 2.5, "x"]),
                "DWELL": st.sampled_from([0, 0.5, 20, 290, "x"]),
                "DATADIR": st.sampled_from(["/buf0/one", "/buf0/two", "bad"]),
                "HNCHAN": st.sampled_from([16, 8, 0, "x"]),
                "SYNCTIME": st.sampled_from([1000, 0]),
            },
        )
    )
    def keys(self, pairs: dict[str, object]) -> None:
        self.bench.keys(**pairs)

    @precondition(lambda self: self.bench.machine.daq.plan is not None)
    @rule()
    def starts(self) -> None:
        plan = self.bench.machine.daq.plan
        assert plan is not None
        self.open = plan.window.start
        self.bench.step(RecordingStarted(start=self.open, pktidx=self.open, path="/x"))

    @precondition(lambda self: self.open)
    @rule(fault=st.sampled_from(["", "disk full"]))
    def ends(self, fault: str) -> None:
        self.bench.step(RecordingEnded(start=self.open, blocks=1, missing=0, fault=fault))
        self.open = 0

    @rule()
    def stalls(self) -> None:
        self.bench.step(StreamStalled(seconds=10.0))

    @rule()
    def goes_back(self) -> None:
        self.bench.step(TimestampsWentBack(heaps=20))
        self.open = 0

    @rule(start=st.booleans())
    def by_hand(self, start: bool) -> None:
        event = ManualStart(destip=DESTIP, dwell=20, datadir="/buf0/hand") if start else ManualStop()
        effects = self.bench.step(event)
        assert sum(isinstance(effect, Answer) for effect in effects) == 1

    @precondition(lambda self: self.bench.machine.outstanding)
    @rule(data=st.data(), fails=st.booleans())
    def settles(self, data: st.DataObject, fails: bool) -> None:
        identity = data.draw(st.sampled_from(sorted(self.bench.machine.outstanding)))
        self.bench.step(EffectFailed(effect=identity, reason="no") if fails else EffectDone(effect=identity))

    @precondition(lambda self: self.bench.machine.timers)
    @rule()
    def timer(self) -> None:
        timer = next(iter(self.bench.machine.timers.values()))
        self.bench.step(TimerFired(name=timer.name, generation=timer.generation))

    @rule(parts=st.sampled_from([1, 1, 4]))
    def restart(self, parts: int) -> None:
        world = {**WORLD, "block_bytes": BLOCK_BYTES // parts}
        self.bench.step(Restarted(epoch=2, outstanding=tuple(self.bench.machine.outstanding), world=world))
        self.open = 0

    @invariant()
    def status_agrees(self) -> None:
        """The last DAQSTATE told is the machine's."""
        told = {
            key: value
            for effect in self.bench.effects
            if isinstance(effect, SetStatus | Restore)
            for key, value in effect.pairs.items()
        }
        expected = {"idle": "IDLE", "listening": "LISTEN", "recording": "RECORD"}[self.bench.machine.state]
        assert told.get("DAQSTATE", "IDLE") == expected


TestAnyOrder = AnyOrder.TestCase
