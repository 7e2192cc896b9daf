"""After a restart, or when an operator asks: what we know is held against what instances and CAM say.

What instances say is in their status hashes. Of what CAM published meanwhile only traces are left: when it configured a
subarray last, and when the last track ended. From those we conclude what must have been said; what cannot be concluded
is told to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from socs_bl.commensal.metadata import read_time
from socs_bl.commensal.model import Duty, FreeSub, Instance, ReadStatus, RecProc, Severity, Subarray
from socs_bl.commensal.processing import Processing
from socs_bl.commensal.recording import STARTED
from socs_bl.commensal.subscription import CONFIRM, NOWHERE
from socs_bl.core.clock import iso_utc

# Fields of a status hash that are looked at here.
NEEDED = frozenset({"SUBARRAY", "DESTIP", "SCHAN", "FENCHAN", "DAQSTATE"})

Statuses = Mapping[str, Mapping[str, str] | None]


class Difference(NamedTuple):
    """An instance that is not what we think.

    Attributes
    ----------
    instance : str
    expected, found : str
        What it should do and what its status hash says.
    remedy : str
        ``rest``, ``tell`` or ``check``: it is told to rest, told again what to receive, or checked once more.
    """

    instance: str
    expected: str
    found: str
    remedy: str


class Reconciling(Processing):
    """Brings the machine and the world together again."""

    def reconcile(self, world: Mapping[str, Any]) -> None:
        """Act on what was seen of the world: ``statuses`` of instances and ``cam``'s keys of subarrays."""
        statuses = world.get("statuses")
        if isinstance(statuses, Mapping):
            self._reconcile_instances(statuses)
        cam = world.get("cam")
        for name, keys in cam.items() if isinstance(cam, Mapping) else ():
            array = self.array(name)
            if array is not None and isinstance(keys, Mapping):
                self._reconcile_cam(array, keys)

    # -- instances ------------------------------------------------------------------------------------------------

    def differences(self, statuses: Statuses) -> list[Difference]:
        """Instances whose status hash says otherwise than we think, in the order in which they are taken."""
        found = []
        for name in self.index.names:
            cell = self.instance(name)
            if cell is not None and name in statuses:
                difference = self._difference(cell, statuses[name])
                if difference is not None:
                    found.append(difference)
        return found

    def _difference(self, cell: Instance, status: Mapping[str, str] | None) -> Difference | None:
        told = status or {}
        if cell.duty in (Duty.FREE, Duty.DRAINED, Duty.QUARANTINED):
            destip = told.get("DESTIP", NOWHERE)
            if destip != NOWHERE:
                return Difference(cell.name, f"{cell.duty.value}, DESTIP {NOWHERE}", f"DESTIP {destip}", "rest")
            return None
        array = self.array(cell.owner)
        if array is None or self.index.holder.get(cell.name) != array.name or not array.announced:
            return None
        if cell.duty is Duty.RECORDING:
            state = told.get("DAQSTATE", "no DAQSTATE") if status is not None else "no status"
            if state != "RECORD" and self._should_record(array):
                return Difference(cell.name, f"DAQSTATE RECORD for {cell.run}", state, "check")
            return None
        share = next(share for share in array.shares if share.instance == cell.name)
        if cell.duty is Duty.READY and not self.shows(array, share, status):
            shown = told.get("DESTIP", "no DESTIP") if status is not None else "no status"
            return Difference(cell.name, f"ready for {array.name}, DESTIP {share.destip}", shown, "tell")
        return None

    def _should_record(self, array: Subarray) -> bool:
        """Whether the check after the start is over and the end is not near: DAQs stop at a block's end."""
        return f"start/{array.name}" not in self.timers and self.goes_on(array)

    def _reconcile_instances(self, statuses: Statuses) -> None:
        tell: set[str] = set()
        check: set[str] = set()
        resting = []
        for difference in self.differences(statuses):
            owner = self.index.holder.get(difference.instance, "")
            if difference.remedy == "rest":
                self.write(self.gateway.rest(difference.instance))
                resting.append(difference.instance)
            elif difference.remedy == "tell":
                tell.add(owner)
            else:
                check.add(owner)
        if resting:
            text = f"{', '.join(resting)} listen to streams though no subarray holds them; told to receive nothing"
            self.notify(Severity.WARNING, "rested", text)
        # What was read is a moment old: who differs is read again before anything is told or concluded.
        for name in sorted(tell):
            if not self._asked(name, CONFIRM) and f"confirm/{name}" not in self.timers:
                self.change(name, unconfirmed=0)
                self.arm(f"confirm/{name}", self.config.confirm_pause)
        for name in sorted(check):
            if not self._asked(name, STARTED):
                array = self.array(name)
                assert array is not None
                self.on_start_check(array)

    def _asked(self, array: str, purpose: str) -> bool:
        return any(effect.purpose == purpose for effect in self.outstanding_of(ReadStatus, lane=array))

    # -- CAM ------------------------------------------------------------------------------------------------------

    def _reconcile_cam(self, array: Subarray, keys: Mapping[str, str]) -> None:
        configured = read_time(keys.get("last_config", ""))
        track_end = read_time(keys.get("last_track_end", ""))
        if configured > array.configured:
            self._configured_anew(array, configured)
            return
        if array.tracking and track_end and self._has_ended(array, track_end, read_time(keys.get("last_target", ""))):
            text = f"{array.name}: the track ended at {iso_utc(track_end)}, unheard; it does not record on"
            self.notify(Severity.WARNING, "missed", text, array.name)
            self.on_not_tracking(array)

    def _has_ended(self, array: Subarray, track_end: float, last_target: float) -> bool:
        """Whether a track ended since the recording began; without one, whether CAM has named no target since."""
        run = self.run(array.run)
        if run is not None and not run.closed:
            return run.started < track_end <= self.now.wall
        return last_target < track_end - self.config.target_slack

    def _configured_anew(self, array: Subarray, configured: float) -> None:
        """CAM has configured the subarray and we have not heard it, or not all of it."""
        when = f"{array.name} was configured at {iso_utc(configured)}, unheard"
        if array.freesub is FreeSub.CONFIGURING:
            self.notify(Severity.WARNING, "missed", f"{when}; it is subscribed now", array.name)
            self.on_conf_complete(array)
        elif array.freesub is FreeSub.SUBSCRIBED and array.configured:
            if array.recproc is RecProc.RECORD:
                when += "; the recording is closed"
            self.notify(Severity.WARNING, "missed", f"{when}; it is given up and subscribed anew", array.name)
            self.deconfigure(array)
            array = self.change(array.name, freesub=FreeSub.CONFIGURING)
            self.on_conf_complete(array)
        elif array.freesub is FreeSub.FREE:
            # Whether it has been deconfigured since is written nowhere.
            text = f"{when}; if it still is, subscribe it: whether it was deconfigured since cannot be known"
            self.change(array.name, configured=configured)
            self.notify(Severity.WARNING, "missed", text, array.name)
