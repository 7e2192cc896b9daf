"""FREE, CONFIGURING, SUBSCRIBED: instances are claimed for a subarray, told what to receive, and given back.

Source: commensal-automator, FreeSubscribed states, subscribe and unsubscribe sequences. Unlike there, nothing sleeps:
pauses are timers, and whether the instances have understood is read back from their status hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from socs_bl.commensal import allocation
from socs_bl.commensal.calibrating import Calibrating
from socs_bl.commensal.metadata import BandMetadata, parse_band, read_time
from socs_bl.commensal.model import (
    Duty,
    FreeSub,
    MetadataRead,
    ReadMetadata,
    ReadStatus,
    RecProc,
    Severity,
    StatusRead,
    Subarray,
    Subscribing,
)
from socs_bl.commensal.projection import REST_KEYS, band_keys, share_keys
from socs_bl.core.errors import Refused
from socs_bl.core.machine import Command

SUBSCRIBE = "subscribe"
CONFIRM = "confirm"
NOWHERE = "0.0.0.0"  # the DESTIP of an instance that listens to nothing


class Subscription(Calibrating):
    """The allocation half of every subarray."""

    def on_configure(self, array: Subarray) -> None:
        """``configure``: CAM builds the subarray."""
        if array.freesub is FreeSub.FREE:
            self.forget_calibration(array.name)
            self.change(array.name, freesub=FreeSub.CONFIGURING)
            self.notify(Severity.INFO, "configuring", f":magic_wand: {array.name} is being configured", array.name)

    def on_conf_complete(self, array: Subarray) -> None:
        """``conf_complete``: CAM's sensors of the subarray are in Redis."""
        if array.freesub is FreeSub.CONFIGURING and not self._reading(array.name):
            self.issue(ReadMetadata(array=array.name, purpose=SUBSCRIBE), lane=array.name)

    def on_subscribe_metadata(self, array: Subarray, event: MetadataRead) -> None:
        """Claim instances, or say why not."""
        if array.freesub is not FreeSub.CONFIGURING:
            return
        try:
            band = parse_band(array.name, event.values, event.prefix)
        except Refused as refused:
            text = f"{refused}; {array.name} stays unsubscribed until conf_complete comes again"
            self.notify(Severity.ERROR, "metadata", text, array.name)
            return
        self._claim(array, band, read_time(event.values.get("last_config", "")))

    def _claim(self, array: Subarray, band: BandMetadata, configured: float) -> None:
        per_instance = self.config.streams_per_instance
        free = self._available(array.name, allocation.wanted(band.streams, per_instance))
        plan = allocation.plan(band.streams, free, per_instance, band.channels_per_stream)
        reason = self._shortage(plan)
        if not plan.shares:
            self.drop(f"subscribing/{array.name}")
            self.change(array.name, freesub=FreeSub.FREE)
            self.notify(Severity.ERROR, "nothing-free", f":no_entry_sign: {array.name}: {reason}", array.name)
            return
        for share in plan.shares:
            self.assign(share.instance, Duty.READY, owner=array.name)
        self.change(
            array.name,
            freesub=FreeSub.SUBSCRIBED,
            shares=plan.shares,
            band=band,
            announced=False,
            unconfirmed=0,
            requested=plan.requested,
            configured=configured,
        )
        self.drop(f"subscribing/{array.name}")
        commands: list[Command] = [("SET", f"coordinator:cal_ts:{array.name}", "0")]
        commands += [self.gateway.join(array.name, share.instance) for share in plan.shares]
        self.write(commands)
        if reason:
            self.notify(Severity.WARNING, "short", f"{array.name}: {reason}", array.name)
        # The groups are spoken to when the instances have had time to join them.
        self.arm(f"announce/{array.name}", self.config.join_pause)

    def _available(self, array: str, count: int) -> tuple[str, ...]:
        """The instances to claim: the first free ones, or those an operator wants."""
        wish = self.get(f"subscribing/{array}", Subscribing)
        if wish is None:
            return self.index.first_free(count)
        count = min(count, wish.most or count)
        if wish.only:
            return tuple(name for name in wish.only if name in self.index.free)[:count]
        return self.index.first_free(count)

    def _shortage(self, plan: allocation.Plan) -> str:
        index = self.index
        return allocation.shortage(plan, len(index.names), index.held, len(index.quarantined), len(index.drained))

    def on_announce(self, array: Subarray) -> None:
        """Tell groups and instances what to receive, and begin to see whether they do."""
        assert array.band is not None
        commands = self.gateway.tell_array(array.name, [*band_keys(array.name, array.band), *REST_KEYS])
        for share in array.shares:
            commands += self.gateway.tell(share.instance, share_keys(share))
        hosts = f"coordinator:allocated_hosts:{array.name}"
        commands += [("DEL", hosts), *(("RPUSH", hosts, share.instance) for share in array.shares)]
        self.write(commands)
        self.change(array.name, announced=True)
        text = f":arrow_forward: {array.name} subscribed: {len(array.shares)}/{array.requested} instances"
        self.notify(Severity.INFO, "subscribed", text, array.name)
        self.arm(f"confirm/{array.name}", self.config.confirm_pause)

    def on_confirm(self, array: Subarray) -> None:
        """Time to look whether the instances have understood."""
        instances = self.members(array)
        if instances:
            self.issue(ReadStatus(array=array.name, purpose=CONFIRM, run="", instances=instances), lane=array.name)

    def on_confirm_status(self, array: Subarray, event: StatusRead) -> None:
        """Tell those again that do not show what they were told; after the last try, tell people."""
        deaf = [share for share in array.shares if not self.shows(array, share, event.statuses.get(share.instance))]
        if not deaf:
            return
        names = ", ".join(share.instance for share in deaf)
        if array.unconfirmed >= self.config.confirm_tries:
            text = f"{array.name}: {names} do not show what they were told; their recording will show whether they work"
            self.notify(Severity.WARNING, "unconfirmed", text, array.name)
            for name in self.elsewhere(array, event.statuses):
                self.quarantine(
                    name, f"listens to the groups of something else and does not leave them for {array.name}"
                )
            return
        self.write(self._tell_again(array, deaf, event.statuses))
        self.change(array.name, unconfirmed=array.unconfirmed + 1)
        self.notify(Severity.WARNING, "retold", f":fast_forward: {array.name}: {names} told again", array.name)
        self.arm(f"confirm/{array.name}", self.config.confirm_pause)

    def _tell_again(
        self, array: Subarray, deaf: Sequence[allocation.Share], statuses: Mapping[str, Mapping[str, str] | None]
    ) -> list[Command]:
        assert array.band is not None
        elsewhere = self.elsewhere(array, statuses)
        commands: list[Command] = []
        for share in deaf:
            commands.append(self.gateway.join(array.name, share.instance))
            # Not the keys at rest: a recording may have been started meanwhile.
            pairs = band_keys(array.name, array.band) + share_keys(share)
            if share.instance in elsewhere:
                pairs = [("DESTIP", NOWHERE)]  # DAQs refuse other groups before they have left theirs
            commands += self.gateway.tell(share.instance, pairs)
        return commands

    def elsewhere(self, array: Subarray, statuses: Mapping[str, Mapping[str, str] | None]) -> tuple[str, ...]:
        """Instances of a subarray that are ready and listen to groups that are not theirs."""
        wanted = {share.instance: share.destip for share in array.shares}
        found = []
        for name in self.members(array, Duty.READY):
            destip = (statuses.get(name) or {}).get("DESTIP", NOWHERE)
            if destip not in (NOWHERE, wanted[name]):
                found.append(name)
        return tuple(found)

    def shows(self, array: Subarray, share: allocation.Share, status: Mapping[str, str] | None) -> bool:
        """Whether a status hash says what the instance was told."""
        assert array.band is not None
        wanted = {
            "SUBARRAY": array.name,
            "DESTIP": share.destip,
            "SCHAN": str(share.first_channel),
            "FENCHAN": str(array.band.channels),
        }
        return status is not None and all(status.get(key) == value for key, value in wanted.items())

    def release(self, array: Subarray) -> None:
        """Give the instances back; one that still works for a run is free when its run has ended."""
        instances = self.members(array)
        commands: list[Command] = []
        for name in instances:
            commands += self.gateway.rest(name)
        commands += self.gateway.leave(array.name, instances) + self.gateway.disband(array.name)
        commands.append(("DEL", f"coordinator:allocated_hosts:{array.name}"))
        self.write(commands)
        for name in self.members(array, Duty.READY):
            self.assign(name, Duty.FREE)
        self.cancel(f"announce/{array.name}")
        self.cancel(f"confirm/{array.name}")
        self.forget_calibration(array.name)
        stuck = array.recproc in (RecProc.WAITING, RecProc.ERROR)
        self.change(
            array.name,
            freesub=FreeSub.FREE,
            recproc=array.recproc if stuck else RecProc.READY,
            shares=(),
            band=None,
            announced=False,
            run="",
            requested=0,
        )
        self.notify(Severity.INFO, "unsubscribed", f":eject: {array.name} unsubscribed", array.name)

    def on_subscribe_failed(self, array: Subarray, reason: str) -> None:
        """CAM's keys could not be read."""
        if array.freesub is FreeSub.CONFIGURING:
            text = f"{array.name}: {reason}; publish conf_complete:{array.name} again when Redis answers"
            self.notify(Severity.ERROR, "metadata", text, array.name)

    def _reading(self, array: str) -> bool:
        return bool(self.outstanding_of(ReadMetadata, lane=array))
