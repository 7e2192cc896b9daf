"""The machine of an instance recorder: follows the keys of its status buffer, as a DAQ does.

States: idle (no groups), listening (groups joined), recording (a window's file is open). `DESTIP` decides between idle
and listening; ``PKTSTART`` and ``DWELL`` make the window. Rules, as of hpguppi_daq:

* while listening, a ``DESTIP`` other than ``0.0.0.0`` is refused, and the status shows the one in force again;
* between recordings the band and the synchronisation are those of the keys;
* a window moves until its recording has begun; after that only its end does;
* a window that is over, or whose writing failed, is not recorded a second time;
* when timestamps go back as a whole, the groups are joined anew: what was received is no measure any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from socs_bl.capture import wire
from socs_bl.capture.cards import cards_of, directory_of
from socs_bl.capture.model import (
    CELLS,
    EFFECTS,
    EVENTS,
    Arm,
    Daq,
    Disarm,
    Geometry,
    JoinGroups,
    Keys,
    KeysChanged,
    LeaveGroups,
    ManualStart,
    ManualStop,
    Plan,
    RecordingEnded,
    RecordingStarted,
    Restore,
    SetStatus,
    Settings,
    StreamStalled,
    Target,
    TimestampsWentBack,
    Value,
    Window,
)
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Machine, Outstanding
from socs_bl.core.names import source_name

LANE = "daq"
RETRY_JOIN = "join"
RETRY_RESTORE = "restore"
RETRY_SECONDS = 5.0
MANUAL_END = "manual"
MANUAL_GRACE = 15.0  # seconds after its window by which a recording by hand is over, whether or not its end was heard
FAULT_LENGTH = 68  # of a value of the status buffer
NO_FAULT = "none"


class RecorderMachine(Machine):
    """Decides what an instance receives and records. Its `Settings` come with ``Restarted.world``."""

    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    @property
    def daq(self) -> Daq:
        """Where the recorder stands."""
        return self.get("daq", Daq) or Daq()

    @property
    def keys(self) -> Mapping[str, Value]:
        """The status buffer, as far as it was set from outside."""
        return (self.get("keys", Keys) or Keys()).pairs

    @property
    def state(self) -> str:
        """``idle``, ``listening`` or ``recording``."""
        if self.daq.target is None:
            return "idle"
        return "listening" if self.daq.recording is None else "recording"

    @property
    def allocated(self) -> bool:
        """Whether the keys have given the instance groups to receive."""
        return str(self.keys.get("DESTIP", wire.LEAVE_ALL)) != wire.LEAVE_ALL

    # -- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Answer an event."""
        match event:
            case KeysChanged(pairs=pairs):
                self.put("keys", Keys(pairs={**self.keys, **pairs}))
                self._follow()
            case RecordingStarted(start=start, path=path):
                if self.daq.target is not None:  # else it is over: the groups were left meanwhile
                    self._change(recording=start, path=path, fault="")
                    self._tell({"DAQSTATE": "RECORD", "DAQERR": NO_FAULT})
            case RecordingEnded():
                self._ended(event)
            case StreamStalled(seconds=seconds):
                if self.daq.recording is not None:
                    self._abandon(f"no heaps for {seconds:.0f} s; recording ended")
            case TimestampsWentBack(heaps=heaps):
                if self.daq.target is not None:
                    self._resynchronise(self.daq.target, heaps)
            case ManualStart():
                self._start(event)
            case ManualStop():
                self._stop()

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """Joining is tried again; the rest is told."""
        if isinstance(effect, JoinGroups) and effect.target == self.daq.target:
            manual = self.daq.manual
            self._forget_target()
            self.issue(LeaveGroups(), lane=LANE)  # it may have joined after all
            self._tell(self._status_of(None))
            self._fault(reason)
            if not manual:
                self.arm(RETRY_JOIN, RETRY_SECONDS)
        else:
            self._fault(f"{type(effect).__name__}: {reason}")
            if isinstance(effect, Restore):
                self.arm(RETRY_RESTORE, RETRY_SECONDS)

    def fired(self, name: str) -> None:
        """Try again to join; or a recording by hand should have ended long ago: no heaps came, or we were down."""
        if name == MANUAL_END:
            self._leave()
            self._fault("the end of the recording by hand was not seen; groups left")
        if name == RETRY_RESTORE:
            self._restore()
        self._follow()

    def keep(self, outstanding: Outstanding, event: Restarted) -> Effect | None:
        """Nothing: `restarted` orders anew what the state says, since the stream has forgotten everything."""
        return None

    def restarted(self, event: Restarted) -> None:
        """The stream is new: receive and record again what was received and recorded, in blocks of today's size."""
        self._adopt(event)
        daq = self._change(recording=None)
        self._restore()
        if daq.target is not None and not daq.manual:
            self._follow_band(daq.target)
        if daq.target is not None and self.daq.target == daq.target:
            self.issue(JoinGroups(target=daq.target), lane=LANE)
            if daq.plan is not None:
                self.issue(Arm(plan=daq.plan), lane=LANE)
        self._follow()

    def _restore(self) -> None:
        """Order the status buffer and the gateway's group as they were."""
        self.cancel(RETRY_RESTORE)
        subarray = str(self.keys.get("SUBARRAY", ""))
        number = self.settings.instance.rpartition("/")[2]
        group = f"{subarray}-{number}" if subarray and self.allocated else ""
        self.issue(Restore(pairs={**self.keys, **self._status_of(self.daq.target)}, group=group))

    def _adopt(self, event: Restarted) -> None:
        instance, block_bytes = event.world.get("instance"), event.world.get("block_bytes")
        if isinstance(instance, str) and isinstance(block_bytes, int):
            self.put("settings", Settings(instance=instance, block_bytes=block_bytes))

    # -- following the keys ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Bring what is received and armed in line with the keys."""
        if self.daq.manual:
            return  # what a person started goes on until it ends; then the keys are followed
        try:
            self._follow_destination()
            if self.daq.target is not None:
                self._follow_window(self.daq.target)
        except Refused as error:
            self._fault(str(error))

    def _follow_destination(self) -> None:
        target, wanted = self.daq.target, str(self.keys.get("DESTIP", wire.LEAVE_ALL))
        if target is None:
            groups = wire.parse_destination(wanted)
            if groups:
                self._join(self._target(groups, self.keys), manual=False)
        elif wanted.partition("+")[0] == wire.LEAVE_ALL:
            self._leave()
        else:
            in_force = wire.format_destination(target.groups[0], len(target.groups))
            if wanted not in (in_force, in_force.removesuffix("+0")):
                self.put("keys", Keys(pairs={**self.keys, "DESTIP": in_force}))
                self._tell({"DESTIP": in_force})
                raise Refused(f"listening to {in_force}: leave it first")
            self._follow_band(target)

    def _follow_band(self, target: Target) -> None:
        """The same groups may be given another band or synchronisation; an open recording keeps its own."""
        if self.daq.recording is not None:
            return
        try:
            wanted = self._target(target.groups, self.keys)
        except Refused:
            return  # the keys come one after the other; between two of them they need not fit
        if wanted != target:
            self._join(wanted, manual=False)

    def _follow_window(self, target: Target) -> None:
        daq, keys = self.daq, self.keys
        pktstart, dwell = keys.get("PKTSTART", 0), keys.get("DWELL", 0)
        window = None
        if isinstance(pktstart, int) and isinstance(dwell, int | float):
            window = Window.of(pktstart, dwell, target.geometry, target.piperblk)
        if window is None or window.start == daq.spent:
            if daq.plan is not None:
                self._change(plan=None)
                self.issue(Disarm(), lane=LANE)
            return
        if daq.plan is not None and daq.recording == window.start:
            if daq.plan.window != window:
                self._arm_plan(msgspec.structs.replace(daq.plan, window=window))
            return
        moved = daq.plan is None or daq.plan.window.start != window.start
        try:
            plan = self._plan(window, target, keys, daq.scans + moved)
        except Refused:
            # What was armed before is not what is wanted any more.
            if daq.plan is not None:
                self._change(plan=None)
                self.issue(Disarm(), lane=LANE)
            raise
        self._arm_plan(plan)

    def _plan(self, window: Window, target: Target, keys: Mapping[str, Value], scan: int) -> Plan:
        return Plan(
            window=window,
            directory=directory_of(keys),
            source=source_name(str(keys.get("SRC_NAME", ""))),
            scan=scan,
            cards=cards_of(keys, target, self.settings.instance),
        )

    def _arm_plan(self, plan: Plan) -> None:
        if plan == self.daq.plan:
            return
        self._change(plan=plan, scans=plan.scan, fault="")
        self.issue(Arm(plan=plan), lane=LANE)
        self._tell({"PKTSTOP": plan.window.stop, "DAQERR": NO_FAULT})

    def _target(self, groups: tuple[str, ...], keys: Mapping[str, Value]) -> Target:
        geometry = Geometry.from_keys(keys, len(groups))
        port = keys.get("BINDPORT", wire.DEFAULT_PORT)
        if not isinstance(port, int) or not 0 < port < 65536:
            raise Refused(f"BINDPORT {port!r} is no port")
        return Target(
            groups=groups, port=port, geometry=geometry, piperblk=geometry.piperblk(self.settings.block_bytes)
        )

    # -- changes --------------------------------------------------------------------------------------------------

    def _join(self, target: Target, manual: bool) -> None:
        self.cancel(RETRY_JOIN)
        self._change(target=target, manual=manual, plan=None, scans=0, spent=0, fault="")
        self.issue(JoinGroups(target=target), lane=LANE)
        self._tell({**self._status_of(target), "DAQERR": NO_FAULT})

    def _leave(self) -> None:
        self._forget_target()
        self.issue(LeaveGroups(), lane=LANE)
        self._tell({**self._status_of(None), "DAQERR": NO_FAULT})

    def _forget_target(self) -> None:
        self._change(target=None, manual=False, plan=None, recording=None, fault="")
        self.cancel(RETRY_JOIN)
        self.cancel(MANUAL_END)

    def _ended(self, event: RecordingEnded) -> None:
        """A window is over. The recording may be one that a newer plan has replaced, or of groups already left."""
        daq = self.daq
        if daq.target is None or daq.recording != event.start:
            return
        self._over(event.start)
        if event.fault:
            self._fault(event.fault)
        self._tell({"DAQSTATE": "LISTEN"})
        if daq.manual:
            self._leave()
        self._follow()

    def _abandon(self, reason: str) -> None:
        """End the open recording for good."""
        start = self.daq.recording
        assert start is not None
        self._over(start)
        self.issue(Disarm(), lane=LANE)
        self._fault(reason)
        self._tell({"DAQSTATE": "LISTEN"})
        if self.daq.manual:
            self._leave()
            self._follow()

    def _resynchronise(self, target: Target, heaps: int) -> None:
        """Time went back: what is open ends, and the groups are joined anew, since the stream only goes forward."""
        reason = f"timestamps went back ({heaps} heaps); groups joined anew"
        if self.daq.manual:
            self._leave()
            self._fault(reason)
            self._follow()
            return
        if self.daq.recording is not None:
            self._over(self.daq.recording)
        self._change(plan=None)
        self.issue(LeaveGroups(), lane=LANE)
        self.issue(JoinGroups(target=target), lane=LANE)
        self._tell(self._status_of(target))
        self._fault(reason)
        self._follow()

    def _over(self, start: int) -> None:
        plan = self.daq.plan
        over = plan is not None and plan.window.start == start
        self._change(recording=None, spent=start, plan=None if over else plan)

    # -- by hand --------------------------------------------------------------------------------------------------

    def _start(self, event: ManualStart) -> None:
        try:
            if self.allocated:
                owner = self.keys.get("SUBARRAY", "a subarray")
                raise Refused(f"{self.settings.instance} is allocated to {owner}; release it there first")
            if self.daq.manual:
                raise Refused(f"{self.settings.instance} records by hand already; stop that first")
            groups = wire.parse_destination(event.destip)
            if not groups:
                raise Refused("give the groups to record as DESTIP, such as 239.9.0.64+3")
            keys = {**self.keys, "DATADIR": event.datadir}
            target = self._target(groups, keys)
            since = self.now.wall + event.lead - target.geometry.synctime
            window = Window.of(
                math.ceil(since / target.geometry.heap_seconds) + target.piperblk - 1,
                event.dwell,
                target.geometry,
                target.piperblk,
            )
            if window is None:
                raise Refused(f"a dwell of {event.dwell:g} s is less than one block")
            plan = self._plan(window, target, keys, 1)
        except Refused as refused:
            self.issue(Answer(refusal=str(refused)))
            return
        self._join(target, manual=True)
        self._arm_plan(plan)
        self.arm(MANUAL_END, target.geometry.wall(window.stop) - self.now.wall + MANUAL_GRACE)
        self.issue(Answer(refusal=""))

    def _stop(self) -> None:
        if not self.daq.manual:
            text = "is allocated; its subarray stops it" if self.allocated else "records nothing by hand"
            self.issue(Answer(refusal=f"{self.settings.instance} {text}"))
            return
        if self.daq.plan is not None:
            self._change(spent=self.daq.plan.window.start)
        self._leave()
        self.issue(Answer(refusal=""))
        self._follow()

    # -- telling --------------------------------------------------------------------------------------------------

    def _status_of(self, target: Target | None) -> dict[str, Value]:
        if target is None:
            return {"DAQSTATE": "IDLE", "NETSTAT": "idle"}
        geometry = target.geometry
        return {
            "DAQSTATE": "LISTEN" if self.daq.recording is None else "RECORD",
            "NETSTAT": "waiting",
            "NSTRM": geometry.nstrm,
            "PIPERBLK": target.piperblk,
            "BLOCSIZE": target.block_bytes,
            "OBSNCHAN": geometry.nants * geometry.channels,
            "OBSFREQ": geometry.obsfreq,
            "OBSBW": geometry.obsbw,
            "TBIN": geometry.tbin,
        }

    def _tell(self, pairs: Mapping[str, Value]) -> None:
        self.issue(SetStatus(pairs=pairs), lane="status")

    def _fault(self, reason: str) -> None:
        if reason != self.daq.fault:
            self._change(fault=reason)
            printable = "".join(char if char.isprintable() else " " for char in reason)
            self._tell({"DAQERR": printable[:FAULT_LENGTH]})

    def _change(self, **changes: object) -> Daq:
        daq = msgspec.structs.replace(self.daq, **changes)
        self.put("daq", daq)
        return daq

    def check(self) -> None:
        """What must hold after every event."""
        daq = self.daq
        assert daq.manual == (MANUAL_END in self.timers), f"by hand and without an end, or an end of nothing: {daq}"
        if daq.target is None:
            assert daq.plan is None and daq.recording is None and not daq.manual, f"idle, yet {daq}"
            return
        if daq.plan is not None:
            window, piperblk = daq.plan.window, daq.target.piperblk
            assert window.start % piperblk == window.stop % piperblk == 0, f"{window} is not whole blocks of {piperblk}"
            assert 0 < window.start < window.stop, f"{window} holds nothing"
            assert daq.manual or window.start != daq.spent, f"{window} is recorded a second time"
        if not daq.manual:
            told = wire.parse_destination(str(self.keys.get("DESTIP", wire.LEAVE_ALL)))
            assert told == daq.target.groups, f"receives {daq.target.groups}, told {told}"
