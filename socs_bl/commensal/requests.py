"""What operators want: every wish is refused with a reason, and changes nothing then, or is carried out.

`WISHES` has the words: for each what it does and to what (``Requested.name``); the rest is in ``Requested.options``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from socs_bl.commensal.metadata import Target, parse_target
from socs_bl.commensal.model import (
    Duty,
    FreeSub,
    Instance,
    Kept,
    ReadMetadata,
    RecProc,
    Requested,
    RestartPart,
    Rules,
    Subarray,
    Subscribing,
    Wish,
)
from socs_bl.commensal.reconciling import Reconciling
from socs_bl.commensal.takeover import Takeover
from socs_bl.commensal.wire import FREE_INSTANCES, PROCESSING, format_update
from socs_bl.core.effect import Answer
from socs_bl.core.errors import Refused
from socs_bl.core.names import instance_order

PARTS = ("recorder", "gateway")


class Requests(Reconciling, Takeover):
    """The operators' side of the machine."""

    def on_request(self, event: Requested) -> None:
        """Do what an operator wants, or say why not."""
        wish = WISHES.get(event.what)
        refusal = wish(self, event) if wish else f"{event.what!r} is not a wish known here; the software is older"
        self.issue(Answer(refusal=refusal))

    # -- subarrays ------------------------------------------------------------------------------------------------

    def _subscribe(self, array: Subarray, event: Requested) -> str:
        if array.freesub is FreeSub.SUBSCRIBED:
            return f"{array.name} is subscribed already; unsubscribe it first"
        if self.outstanding_of(ReadMetadata, lane=array.name):
            return f"{array.name} is being subscribed already"
        only = event.options.get("instances") or ()
        strangers = [name for name in only if name not in self.index.place]
        if strangers:
            return f"{', '.join(strangers)} are not in the pool; look at hashpipe_instances in the configuration"
        taken = [self._doing(name) for name in only if name not in self.index.free]
        if taken:
            return f"{', '.join(taken)}; only free instances can be claimed"
        most = int(event.options.get("max_instances") or 0)
        if only or most:
            wish = Subscribing(array=array.name, most=most, only=tuple(sorted(set(only), key=instance_order)))
            self.put(f"subscribing/{array.name}", wish)
        self.on_configure(array)
        self.on_conf_complete(self.change(array.name))
        return ""

    def _unsubscribe(self, array: Subarray, event: Requested) -> str:
        if array.freesub is FreeSub.FREE:
            return f"{array.name} is FREE: it holds no instances"
        if array.recproc in (RecProc.RECORD, RecProc.PROCESS) and not event.options.get("force"):
            return f"{array.name} is in {array.recproc.value} with {array.run}; force closes a recording, data stay"
        instances = self.members(array)
        self.deconfigure(array)
        for part in PARTS:
            for name in instances if event.options.get(f"restart_{part}s") else ():
                self.issue(RestartPart(instance=name, part=part), lane=f"restart/{name}")
        return ""

    def _start_recording(self, array: Subarray, event: Requested) -> str:
        refusal = self._unfit(array)
        if refusal:
            return refusal
        options = event.options
        try:
            target = _target(array.name, str(options.get("target") or ""))
        except Refused as refused:
            return str(refused)
        wish = Wish(
            dwell=options.get("dwell"),
            lead_seconds=options.get("lead_seconds"),
            min_quorum=options.get("min_quorum"),
            target=target,
        )
        self.prepare_recording(array, wish)
        return ""

    def _unfit(self, array: Subarray) -> str:
        """Why a subarray cannot begin a recording."""
        if array.freesub is not FreeSub.SUBSCRIBED:
            return f"{array.name} is {array.freesub.value}; subscribe it first"
        if array.recproc in (RecProc.WAITING, RecProc.ERROR):
            return f"{array.name} is in {array.recproc.value}; reset_array leads out"
        if array.recproc is not RecProc.READY:
            return f"{array.name} is in {array.recproc.value} with {array.run}; it records again when that has ended"
        if not array.announced:
            return f"{array.name} has not told its instances yet what to receive; ask again in a few seconds"
        if not array.shares:
            return f"{array.name} has lost all its instances; unsubscribe and subscribe it"
        if self.preparing(array.name):
            return f"{array.name} is preparing a recording already"
        return ""

    def _stop_recording(self, array: Subarray, event: Requested) -> str:
        if self.preparing(array.name):
            self.give_up_preparation(array.name, f"stopped by an operator{_because(event.reason)}")
        elif array.recproc is not RecProc.RECORD:
            return f"{array.name} is in {array.recproc.value}; there is no recording to stop"
        elif array.stopping:
            return f"{array.name} is stopping {array.run} already"
        else:
            self.stop_recording(array)
        return ""

    def _start_processing(self, array: Subarray, event: Requested) -> str:
        run, kept = self.run(array.run), self.get(f"kept/{array.name}", Kept)
        if array.recproc is RecProc.PROCESS and run is not None:
            if self.ask_again(run):
                return ""
            return f"all who work for {run.id} are being asked at this moment"
        if array.recproc is RecProc.WAITING and kept is not None:
            if not set(kept.run.instances) & set(self.members(array, Duty.READY)):
                return (
                    f"none of the instances that recorded {kept.run.id} is {array.name}'s any more; use their analyzers"
                )
            self.process_kept(array, kept.run)
            return ""
        if array.recproc is RecProc.RECORD:
            return f"{array.name} records {array.run}; stop_recording ends it, and it is searched then"
        return f"{array.name} is in {array.recproc.value} and has no recording to search; use requeue of the analyzers"

    def _reset_array(self, array: Subarray, event: Requested) -> str:
        if event.options.get("to_state") == RecProc.WAITING.value:
            if array.recproc not in (RecProc.READY, RecProc.ERROR):
                return f"{array.name} is in {array.recproc.value}; only READY and ERROR can be made to wait"
            self.park(array)
            return ""
        if array.recproc not in (RecProc.WAITING, RecProc.ERROR):
            return f"{array.name} is in {array.recproc.value}; only WAITING and ERROR are reset"
        release = bool(event.options.get("release"))
        if release:
            array = self.change(array.name, tracking=False)
        self.on_reset_array(array, bool(event.options.get("keep_raw", True)))
        if release:
            self.deconfigure(self.change(array.name))
        return ""

    def _fetch_calibration(self, array: Subarray, event: Requested) -> str:
        if self.fetching(array.name):
            return f"solutions of {array.name} are being looked for already"
        self.change(array.name, calibration="")
        self.arm(f"calibrate/{array.name}", float(event.options.get("delay") or 0.0))
        return ""

    def _request_targets(self, array: Subarray, event: Requested) -> str:
        run = self.run(array.run)
        if run is None or array.band is None:
            return f"{array.name} is in {array.recproc.value}; targets are requested for a recording"
        self.write([self.pointing_of(array, run)])
        return ""

    # -- instances ------------------------------------------------------------------------------------------------

    def _release_instance(self, cell: Instance, event: Requested) -> str:
        if cell.duty is not Duty.QUARANTINED:
            return f"{cell.name} is {cell.duty.value}; only a quarantined instance is released"
        self.on_release_instance(cell)
        return ""

    def _quarantine_instance(self, cell: Instance, event: Requested) -> str:
        if cell.duty is not Duty.FREE:
            return f"{cell.name} is {cell.duty.value} for {cell.owner or cell.reason}; it is not free, drain it instead"
        self.quarantine(cell.name, event.reason or "by an operator")
        return ""

    def _restart_part(self, cell: Instance, event: Requested) -> str:
        part = str(event.options.get("part"))
        if part not in PARTS:
            return f"{part!r} cannot be restarted; it is one of {', '.join(PARTS)}"
        if cell.duty is Duty.RECORDING and not event.options.get("force"):
            return f"{cell.name} records {cell.run}; force restarts its {part} all the same"
        if self.outstanding_of(RestartPart, lane=f"restart/{cell.name}"):
            return f"the {part} of {cell.name} is being restarted already"
        self.issue(RestartPart(instance=cell.name, part=part), lane=f"restart/{cell.name}")
        return ""

    def _drain(self, event: Requested) -> str:
        cells = [cell for cell in self.named(event.name) if not self.draining(cell.name)]
        if not cells:
            return self._nobody(event.name, "is drained already")
        for cell in cells:
            self.on_drain(cell, event.reason or "by an operator")
        return ""

    def _undrain(self, event: Requested) -> str:
        cells = [cell for cell in self.named(event.name) if self.draining(cell.name)]
        if not cells:
            return self._nobody(event.name, "is not drained")
        for cell in cells:
            self.on_undrain(cell)
        return ""

    def _nobody(self, name: str, state: str) -> str:
        if self.named(name):
            return f"{name} {state}"
        return f"{name} is neither an instance nor a host of the pool; look at hashpipe_instances in the configuration"

    def _doing(self, name: str) -> str:
        cell = self.instance(name)
        if cell is None:
            return f"{name} is not there"
        return f"{name} is {cell.duty.value}" + (f" of {cell.owner}" if cell.owner else "")

    # -- the whole system -----------------------------------------------------------------------------------------

    def _set_proposal_rules(self, event: Requested) -> str:
        before = self.rules()
        both = {**{"primary": before.primary, "skip": before.skip}, **_given(event.options)}
        after = Rules(primary=tuple(both["primary"]), skip=tuple(both["skip"]))
        twice = sorted(set(after.primary) & set(after.skip))
        if twice:
            return f"{', '.join(twice)} would be both kept for people and skipped"
        self.put("rules", after)
        return ""

    def _report_completion(self, event: Requested) -> str:
        self.write([("PUBLISH", PROCESSING, format_update(event.options))])
        return ""

    def _reconcile(self, event: Requested) -> str:
        self.reconcile(event.options)
        return ""

    def _load_state(self, event: Requested) -> str:
        busy = [cell.name for cell in self.instances() if cell.duty is not Duty.FREE]
        if busy:
            doing = ", ".join(self._doing(name) for name in sorted(busy, key=instance_order)[:4])
            return f"{doing}; a saved state can be taken over only when all are free"
        arrays = [array for array in map(self.array, self.config.arrays) if array is not None]
        used = [array for array in arrays if (array.freesub, array.recproc) != (FreeSub.FREE, RecProc.READY)]
        if used:
            return f"{', '.join(array.name for array in used)} are in use; unsubscribe and reset them first"
        if not self.begin_with(event.options):
            return "there is no saved state in Redis"
        return ""

    def begin_with(self, keys: Mapping[str, str]) -> bool:
        """Begin with what the original coordinator has saved, if it has."""
        if not any(key == FREE_INSTANCES or key.endswith(":state") for key in keys):
            return False
        self.take_over(keys)
        for name in self.config.arrays:
            array = self.array(name)
            if array is not None and array.recproc is RecProc.WAITING:
                self.remind_later(name)
        return True


def _of_array(wish: Callable[[Requests, Subarray, Requested], str]) -> Callable[[Requests, Requested], str]:
    """A wish that is about a subarray."""

    def ask(machine: Requests, event: Requested) -> str:
        array = machine.array(event.name)
        if array is None:
            return f"there is no subarray {event.name}; there are {', '.join(machine.config.arrays)}"
        return wish(machine, array, event)

    return ask


def _of_instance(wish: Callable[[Requests, Instance, Requested], str]) -> Callable[[Requests, Requested], str]:
    """A wish that is about an instance."""

    def ask(machine: Requests, event: Requested) -> str:
        cell = machine.instance(event.name)
        if cell is None:
            return f"{event.name} is not in the pool; look at hashpipe_instances in the configuration"
        return wish(machine, cell, event)

    return ask


def _target(array: str, text: str) -> Target | None:
    return parse_target(array, text) if text else None


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    names = {"primary": "primary_ids", "skip": "skip_ids"}
    return {short: options[name] for short, name in names.items() if options.get(name) is not None}


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


WISHES: dict[str, Callable[[Requests, Requested], str]] = {
    "subscribe": _of_array(Requests._subscribe),
    "unsubscribe": _of_array(Requests._unsubscribe),
    "start_recording": _of_array(Requests._start_recording),
    "stop_recording": _of_array(Requests._stop_recording),
    "start_processing": _of_array(Requests._start_processing),
    "reset_array": _of_array(Requests._reset_array),
    "fetch_cal": _of_array(Requests._fetch_calibration),
    "request_targets": _of_array(Requests._request_targets),
    "release_instance": _of_instance(Requests._release_instance),
    "quarantine_instance": _of_instance(Requests._quarantine_instance),
    "restart_part": _of_instance(Requests._restart_part),
    "drain": Requests._drain,
    "undrain": Requests._undrain,
    "set_proposal_rules": Requests._set_proposal_rules,
    "report_completion": Requests._report_completion,
    "reconcile": Requests._reconcile,
    "load_state": Requests._load_state,
}
