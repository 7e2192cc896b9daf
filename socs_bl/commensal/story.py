"""The commensal journal in words: why an instance, a subarray or a run is as it is.

The words for `socs_bl.core.explain`: ``explain(CommensalMachine, journal, "blpn64/1", CommensalTeller())``.
"""

from __future__ import annotations

from collections.abc import Callable

from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.model import (
    BadMessage,
    Duty,
    FreeSub,
    Instance,
    LegacyReturn,
    MetadataRead,
    Notify,
    Preparation,
    ReadMetadata,
    ReadStatus,
    RecProc,
    Requested,
    RestartPart,
    ResultRead,
    StartProcessing,
    StatusRead,
    Subarray,
    TelescopeEvent,
)
from socs_bl.commensal.timeline import plain
from socs_bl.core.clock import iso_utc
from socs_bl.core.codec import Part
from socs_bl.core.effect import Effect, effect_order
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.core.explain import Teller
from socs_bl.core.names import parse_instance, parse_subarray
from socs_bl.core.walk import Change

_TOLD = ("freesub", "recproc", "tracking", "announced", "stopping", "run")  # fields of a subarray that people ask about
_SHOWN = ("DAQSTATE", "NETSTAT", "PKTIDX", "DESTIP")  # fields of a status hash that decide


class CommensalTeller(Teller[CommensalMachine]):
    """Knows instances (``blpn64/1``), subarrays (``array_1``), runs (their OBSID) and effects (``118.2``)."""

    def concerns(self, machine: CommensalMachine, subject: str) -> Callable[[Change], bool]:
        """An instance goes with the subarray that holds it; a subarray with the recording it prepares."""
        keys = {subject, f"run/{subject}"}
        arrays: set[str] = set()
        kind = _kind(subject)
        if kind == "instance":
            cell = machine.instance(subject)
            if cell is None:
                raise Refused(f"{subject} is not in the pool; there are {_names(machine)}")
            keys |= {f"{table}/{subject}" for table in ("instance", "drain", "silence")}
            arrays |= {cell.owner} - {""}
        elif kind == "array":
            if machine.array(subject) is None:
                raise Refused(f"there is no subarray {subject}; there are {', '.join(machine.config.arrays)}")
            arrays.add(subject)
        elif kind == "":
            raise Refused(f"{subject!r} is no instance, subarray, run or effect; write blpn64/1, array_1 or 118.2")
        keys |= {f"{table}/{name}" for name in arrays for table in ("preparation", "subscribing", "kept")}

        def wanted(change: Change) -> bool:
            if change.key in keys:
                return True
            return change.key.removeprefix("array/") in arrays and bool(_changed(change))

        return wanted

    def standing(self, machine: CommensalMachine, subject: str) -> list[str]:
        """What it does now, and what that waits for."""
        kind = _kind(subject)
        if kind == "instance":
            return self._instance(machine, subject)
        if kind == "array":
            return self._array(machine, subject)
        run = machine.run(subject)
        if run is not None:
            waits = ", ".join(machine.pending(run)) or "nobody"
            return [f"{'is searched' if run.closed else 'is recorded'} for {run.array}; {waits} still work for it"]
        if kind == "run":
            return ["is not in the present state: it is completed, or never was"]
        return super().standing(machine, subject)

    def _instance(self, machine: CommensalMachine, name: str) -> list[str]:
        cell = machine.instance(name)
        assert cell is not None, name
        match cell.duty:
            case Duty.FREE:
                return ["is free: no subarray holds it"]
            case Duty.QUARANTINED:
                return [f"is quarantined: {cell.reason}; release_instance puts it back"]
            case Duty.DRAINED:
                return [f"is drained: {cell.reason}; undrain puts it back"]
            case Duty.READY:
                return [f"is ready and belongs to {cell.owner}", *self._of(machine, cell.owner)]
        leaves = ["goes out of service when its run has ended"] if machine.draining(name) else []
        return [*leaves, f"is {cell.duty.value} {cell.run} for {cell.owner}", *self._of(machine, cell.owner)]

    def _of(self, machine: CommensalMachine, array: str) -> list[str]:
        return [f"{array} {text}" for text in self._array(machine, array)] if machine.array(array) else []

    def _array(self, machine: CommensalMachine, name: str) -> list[str]:
        cell = machine.array(name)
        assert cell is not None, name
        lines = [f"is {cell.freesub.value} and {cell.recproc.value} since {iso_utc(cell.since)}"]
        if cell.freesub is FreeSub.SUBSCRIBED and cell.recproc is RecProc.READY:
            lines.append("is on source" if cell.tracking else "is not on source; it records when CAM says tracking")
            if not cell.announced:
                lines.append("has not told its instances yet what to receive")
            if cell.tracking and machine.get(f"preparation/{name}", Preparation) is None:
                lines.append("prepares no recording; why it gave up stands below, the next tracking begins anew")
        waits = [timer for timer in machine.timers.values() if timer.name.partition("/")[2] in (name, cell.run or name)]
        for timer in sorted(waits, key=lambda timer: timer.deadline):
            lines.append(f"waits for timer {timer.name} until {iso_utc(timer.deadline)}")
        for identity in sorted(machine.outstanding, key=effect_order):
            effect = machine.outstanding[identity].effect
            if getattr(effect, "array", "") == name and not isinstance(effect, Notify):
                lines.append(f"waits for effect {identity}, {self.effect(effect)}")
        return lines

    def event(self, event: Event) -> str:
        """What was heard or read."""
        match event:
            case TelescopeEvent():
                return f"{event.word} was said for {event.array}, from outside"
            case MetadataRead():
                return f"CAM's keys of {event.array} were read ({event.purpose}), {len(event.values)} values"
            case StatusRead():
                read = (f"{name} {_shown(status)}" for name, status in event.statuses.items())
                return f"status hashes of {event.array} were read ({event.purpose}): {'; '.join(read)}"
            case ResultRead():
                reason = f" ({event.reason})" if event.reason else ""
                return f"{event.instance} returned code {event.code}{reason} for {event.run}, {event.hits} hits"
            case LegacyReturn():
                return f"{event.instance} returned code {event.code} on proc_result, without a run"
            case Requested():
                options = ", ".join(f"{name}={value}" for name, value in event.options.items() if value)
                words = f"an operator asked for {event.what} {event.name}{f' ({options})' if options else ''}"
                return words + (f": {event.reason}" if event.reason else "")
            case PhaseupRead():
                done = iso_utc(event.phaseup) if event.phaseup else "never"
                return f"the telescope state was read: {event.array} was last phased up {done}"
            case CalibrationFetched():
                return f"calibration of {event.array} from {iso_utc(event.phaseup)} was stored in {event.key}"
            case BadMessage():
                return f"a message on {event.channel} could not be read: {event.reason}"
        return super().event(event)

    def effect(self, effect: Effect) -> str:
        """What was to be done."""
        match effect:
            case ReadMetadata():
                return f"read CAM's keys of {effect.array} ({effect.purpose})"
            case ReadStatus():
                return f"read status hashes of {effect.array} ({effect.purpose})"
            case StartProcessing():
                return f"have {effect.instance} search {effect.run}"
            case RestartPart():
                return f"restart the {effect.part} of {effect.instance}"
            case ReadPhaseup():
                return f"read when {effect.array} was phased up"
            case FetchCalibration():
                return f"fetch the calibration of {effect.array} from {iso_utc(effect.phaseup)}"
            case Notify():
                return f"tell people: {plain(effect.text)}"
        return super().effect(effect)

    def said(self, effect: Effect) -> str:
        """Notifications."""
        return plain(effect.text) if isinstance(effect, Notify) else ""

    def difference(self, before: Part | None, after: Part | None) -> str:
        """Duties and states in the words of the documentation."""
        if isinstance(after, Instance):
            was = f"{before.duty.value} -> " if isinstance(before, Instance) and before.duty is not after.duty else ""
            owner = f" of {after.owner}" if after.owner else ""
            run = f" for {after.run}" if after.run else ""
            return f"{was}{after.duty.value}{owner}{run}" + (f": {after.reason}" if after.reason else "")
        if isinstance(before, Subarray) and isinstance(after, Subarray):
            changed = _fields(before, after)
            if not changed:
                return super().difference(before, after)
            return ", ".join(f"{name} {_word(before, name)} -> {_word(after, name)}" for name in changed)
        if isinstance(after, Subarray):
            return f"{after.freesub.value}, {after.recproc.value}"
        if isinstance(before or after, Preparation) and (before is None or after is None):
            return "a recording is being prepared" if after else "the preparation has ended"
        return super().difference(before, after)


def _kind(subject: str) -> str:
    """``instance``, ``array``, ``run``, ``effect`` or, for what can be none of these, nothing."""
    for kind, parse in (("instance", parse_instance), ("array", parse_subarray)):
        try:
            parse(subject)
        except Refused:
            continue
        return kind
    if subject.count(":") == 2:
        return "run"
    head, dot, tail = subject.partition(".")
    return "effect" if (head.isdigit() and dot and tail.isdigit()) or "/" in subject else ""


def _changed(change: Change) -> bool:
    """Whether a subarray changed in what people ask about."""
    before, after = change.before, change.after
    if isinstance(before, Subarray) and isinstance(after, Subarray):
        return bool(_fields(before, after))
    return True


def _fields(before: Subarray, after: Subarray) -> list[str]:
    names = [name for name in _TOLD if getattr(before, name) != getattr(after, name)]
    if [share.instance for share in before.shares] != [share.instance for share in after.shares]:
        names.append("shares")
    return names


def _word(cell: Subarray, name: str) -> str:
    value = getattr(cell, name)
    if name == "shares":
        return ", ".join(share.instance for share in cell.shares) or "none"
    return str(getattr(value, "value", value)) or "none"


def _shown(status: object) -> str:
    if not isinstance(status, dict):
        return "has none"
    return ", ".join(f"{key}={status[key]}" for key in _SHOWN if key in status) or "says nothing that decides"


def _names(machine: CommensalMachine) -> str:
    names = sorted(cell.name for cell in machine.instances())
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
