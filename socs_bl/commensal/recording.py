"""READY and RECORD: a recording is prepared, started, watched and ended.

Source: commensal-automator, record sequence, normal and early end. Unlike there, a node that does not start is found
out, an early end is noted for every directory, and timers survive restarts.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from socs_bl.commensal.metadata import TrackMetadata, parse_track
from socs_bl.commensal.model import (
    Duty,
    FreeSub,
    MetadataRead,
    Preparation,
    ReadMetadata,
    ReadStatus,
    RecProc,
    Run,
    Severity,
    StatusRead,
    Subarray,
    Wish,
)
from socs_bl.commensal.projection import pointing, recording_end, recording_records, source_keys
from socs_bl.commensal.subscription import Subscription
from socs_bl.commensal.timing import PacketReading, after_second, choose_start, outliers, read_packet_indices
from socs_bl.commensal.wire import REC_RESULT
from socs_bl.core.clock import compact_utc
from socs_bl.core.errors import Refused
from socs_bl.core.machine import Command

RECORD = "record"
STARTED = "started"
ENDED = "ended"
LARGEST_SPREAD = 60.0
LOST_ALL = "it has lost all its instances; unsubscribe and subscribe it"


class Recording(Subscription):
    """The recording half of every subarray, up to the end of the recording."""

    # -- preparation ----------------------------------------------------------------------------------------------

    def on_tracking(self, array: Subarray) -> None:
        """``tracking``: the telescope is on source."""
        array = self.change(array.name, tracking=True)
        if array.freesub is FreeSub.SUBSCRIBED and array.announced:
            self.prepare_recording(array)

    def prepare_recording(self, array: Subarray, wish: Wish | None = None) -> None:
        """Begin to collect what a recording needs; `wish` is that of the operator who asks for it."""
        if array.recproc is not RecProc.READY or self.preparing(array.name):
            return
        if not array.shares:
            self.notify(Severity.WARNING, "not-recorded", f"{array.name} does not record: {LOST_ALL}", array.name)
        else:
            self.put(f"preparation/{array.name}", Preparation(array=array.name, wish=wish))
            self.issue(ReadMetadata(array=array.name, purpose=RECORD), lane=array.name)

    def preparing(self, array: str) -> Preparation | None:
        """The recording that is being prepared."""
        return self.get(f"preparation/{array}", Preparation)

    def give_up_preparation(self, array: str, text: str = "") -> None:
        """Drop a preparation and what it waits for."""
        if self.preparing(array) is None:
            return
        self.drop(f"preparation/{array}")
        self.cancel(f"target/{array}")
        reads: list[ReadMetadata | ReadStatus] = [
            *self.outstanding_of(ReadMetadata, lane=array),
            *self.outstanding_of(ReadStatus, lane=array),
        ]
        for effect in reads:
            if effect.purpose == RECORD:
                self.withdraw(effect.id)
        if text:
            self.notify(Severity.WARNING, "not-recorded", f"{array} does not record: {text}", array)

    def on_record_metadata(self, array: Subarray, event: MetadataRead) -> None:
        """Accept the target if it is the one being tracked, else look again a little later."""
        preparation = self.preparing(array.name)
        if preparation is None:
            return
        try:
            track = parse_track(array.name, event.values)
        except Refused as refused:
            self._look_again(array, preparation, str(refused))
            return
        wish = preparation.wish
        if wish is None and track.last_target < track.last_track_end - self.config.target_slack:
            self._look_again(array, preparation, "CAM has not named the new target yet")
        elif wish is None and track.proposal in self.rules().skip:
            self.give_up_preparation(array.name)
            text = f":pouring_liquid: {array.name}: pointing of proposal {track.proposal} skipped"
            self.notify(Severity.INFO, "skipped", text, array.name)
        else:
            self._read_packets(array, preparation, track)

    def _look_again(self, array: Subarray, preparation: Preparation, reason: str) -> None:
        if preparation.tries >= self.config.target_tries:
            self.give_up_preparation(array.name, f"{reason} ({preparation.tries} tries)")
            return
        self.put(f"preparation/{array.name}", msgspec.structs.replace(preparation, tries=preparation.tries + 1))
        self.arm(f"target/{array.name}", self.config.target_pause)

    def on_record_read_failed(self, array: Subarray, reason: str) -> None:
        """Redis did not answer; it may a little later."""
        preparation = self.preparing(array.name)
        if preparation is not None:
            self._look_again(array, preparation, reason)

    def on_target_timer(self, array: Subarray) -> None:
        """Look for the target again."""
        if self.preparing(array.name) is not None:
            self.issue(ReadMetadata(array=array.name, purpose=RECORD), lane=array.name)

    def _read_packets(self, array: Subarray, preparation: Preparation, track: TrackMetadata) -> None:
        found = msgspec.structs.replace(
            preparation,
            schedule_block=track.schedule_block,
            target=(preparation.wish and preparation.wish.target) or track.target,
            proposal=track.proposal,
        )
        self.put(f"preparation/{array.name}", found)
        instances = self.members(array, Duty.READY)
        self.issue(ReadStatus(array=array.name, purpose=RECORD, run="", instances=instances), lane=array.name)

    # -- start ----------------------------------------------------------------------------------------------------

    def on_record_status(self, array: Subarray, event: StatusRead) -> None:
        """Choose PKTSTART from the packet indices and start, or say why not."""
        preparation = self.preparing(array.name)
        if preparation is None or array.band is None:
            return
        if not self.members(array, Duty.READY):
            self.give_up_preparation(array.name, LOST_ALL)
            return
        elsewhere = self.elsewhere(array, event.statuses)
        if elsewhere:
            self._look_again(array, preparation, f"{', '.join(elsewhere)} still listen to other groups")
            return
        reading = read_packet_indices(event.statuses)
        if not reading.indices:
            names = ", ".join(reading.silent) or "nobody"
            self._look_again(array, preparation, f"no instance reports a packet index ({names} silent)")
            return
        wish = preparation.wish or Wish()
        quorum = self.config.min_quorum if wish.min_quorum is None else wish.min_quorum
        asked = len(event.statuses)
        if len(reading.indices) < quorum * asked:
            names = ", ".join(reading.silent)
            said = f"{len(reading.indices)} of {asked} instances report a packet index, fewer than the quorum of {quorum:g}"
            self._look_again(array, preparation, f"{said} ({names} silent)")
            return
        clock = array.band.clock
        lead = self.config.lead_seconds if wish.lead_seconds is None else wish.lead_seconds
        pktstart = choose_start(reading, clock, self.config.packet_margin, lead)
        pktstart = after_second(pktstart, clock, array.last_started)
        started = clock.time_of(pktstart)
        if abs(started - self.now.wall) > self.config.largest_start_offset:
            self.give_up_preparation(
                array.name,
                f"PKTSTART would be {started - self.now.wall:+.0f} s from now; check SYNCTIME and the nodes' clocks"
                f"{_named(outliers(reading, clock, LARGEST_SPREAD))}",
            )
            return
        self._report_spread(array, reading)
        self._start(array, preparation, pktstart, started)

    def _report_spread(self, array: Subarray, reading: PacketReading) -> None:
        assert array.band is not None
        spread = reading.spread * array.band.clock.heap_seconds
        if spread > LARGEST_SPREAD:
            apart = outliers(reading, array.band.clock, LARGEST_SPREAD / 2)
            text = f"{array.name}: packet indices are {spread:.0f} s apart{_named(apart)}"
            self.notify(Severity.WARNING, "spread", text, array.name)
        if reading.silent:
            text = f"{array.name}: {', '.join(reading.silent)} reported no packet index"
            self.notify(Severity.WARNING, "silent", text, array.name)

    def _start(self, array: Subarray, preparation: Preparation, pktstart: int, started: float) -> None:
        assert array.band is not None and preparation.target is not None
        time_text = compact_utc(started)
        obsid = f"{self.config.telescope}:{array.name}:{time_text}"
        instances = self.members(array, Duty.READY)
        volumes = self._volumes(time_text, preparation.schedule_block)
        dwell = (preparation.wish and preparation.wish.dwell) or self.config.dwell
        run = Run(
            id=obsid,
            array=array.name,
            instances=instances,
            started=started,
            ended=started + dwell,
            pktstart=pktstart,
            datadirs={name: volumes[self.gateway.number(name)] for name in instances},
            band=array.band.band,
            antennas=array.band.antennas,
            target=preparation.target,
            primary=preparation.proposal in self.rules().primary,
        )
        self.write(self._start_messages(array, run, volumes, dwell))
        self.drop(f"preparation/{array.name}")
        self.set_run(run)
        for name in instances:
            self.assign(name, Duty.RECORDING, owner=array.name, run=obsid)
        self.change(array.name, recproc=RecProc.RECORD, run=obsid, stopping=False, last_started=run.started)
        lead = started - self.now.wall
        self.arm(f"start/{array.name}", max(lead, 0.0) + min(self.config.start_check, dwell / 2))
        self.arm(f"record/{array.name}", max(lead + dwell, 0.0) + self.config.dwell_margin)
        self.plan_calibration(array.name)
        text = f":black_circle_for_record: {array.name} records {obsid}, {run.target.name}, starting in {lead:.1f} s"
        self.notify(Severity.INFO, "recording", text, array.name)

    def _volumes(self, time_text: str, schedule_block: str) -> dict[int, str]:
        """Where the instances of each number record."""
        volume = self.config.data_volume
        return {
            number: f"{volume.replace('{number}', str(number))}/{time_text}-{schedule_block}"
            for number in self.gateway.numbers
        }

    def _start_messages(self, array: Subarray, run: Run, volumes: Mapping[int, str], dwell: float) -> list[Command]:
        """In the order in which the DAQs need them; PKTSTART last, since it sets them off."""
        assert array.band is not None
        commands = self.gateway.tell_array(array.name, [("DWELL", _text(dwell))])
        for number, datadir in volumes.items():
            commands += self.gateway.tell_group(array.name, number, [("DATADIR", datadir)])
            commands.append(("SET", f"{array.name}:datadir", datadir))
        commands += self.gateway.tell_array(array.name, source_keys(run.target, run.id))
        commands += self.gateway.tell_array(array.name, [("PKTSTART", str(run.pktstart))])
        commands.append(self.pointing_of(array, run))
        return commands + recording_records(
            run.datadirs, run.band, run.antennas, run.started, run.ended, run.id, run.primary
        )

    def pointing_of(self, array: Subarray, run: Run) -> Command:
        """The request for the targets in the field of view of a recording."""
        assert array.band is not None
        return pointing(self.config.telescope, array.name, run.started, run.target, array.band)

    def on_start_check(self, array: Subarray) -> None:
        """Every instance should be recording by now."""
        if array.recproc is not RecProc.RECORD or array.stopping:
            return
        if self.goes_on(array):
            instances = self.members(array, Duty.RECORDING)
            effect = ReadStatus(array=array.name, purpose=STARTED, run=array.run, instances=instances)
            self.issue(effect, lane=array.name)
        else:
            self._too_late(array)

    def goes_on(self, array: Subarray) -> bool:
        """Whether the DAQs should be recording now; near the end not: they stop by themselves, at the end of a block."""
        run = self.run(array.run)
        if run is None or run.closed or array.stopping:
            return False
        return self.now.wall < run.ended - min(self.config.dwell_margin, (run.ended - run.started) / 4)

    def _too_late(self, array: Subarray) -> None:
        """We were away, or the answer was slow, until the DAQs had stopped by themselves."""
        text = f"{array.name}: whether all began to record {array.run} was not seen in time; their search will show it"
        self.notify(Severity.WARNING, "unchecked", text, array.name)

    def on_started_status(self, array: Subarray, event: StatusRead) -> None:
        """Quarantine instances that do not record; the others go on."""
        if array.recproc is not RecProc.RECORD or array.run != event.run or array.stopping:
            return
        if not self.goes_on(array):
            self._too_late(array)
            return
        for name in self.members(array, Duty.RECORDING):
            status = event.statuses.get(name)
            state = "no status" if status is None else status.get("DAQSTATE", "no DAQSTATE")
            if name in event.statuses and state != "RECORD":
                self._lose(event.run, name, f"did not start recording {event.run} ({state})")
        array = self.change(array.name)
        if not self.members(array, Duty.RECORDING):
            self._abandon(array)

    def _lose(self, identity: str, name: str, reason: str) -> None:
        run = self.run(identity)
        if run is not None:
            self.set_run(msgspec.structs.replace(run, instances=tuple(n for n in run.instances if n != name)))
        self.quarantine_silent(name, reason)

    def _abandon(self, array: Subarray) -> None:
        """Nobody records: there is nothing to wait for or to search."""
        for timer in ("record", "start", "halt"):
            self.cancel(f"{timer}/{array.name}")
        self.drop(f"run/{array.run}")
        self.change(array.name, recproc=RecProc.ERROR, run="", stopping=False)
        text = f"{array.name}: no instance records; look at the DAQs, then reset_array"
        self.notify(Severity.ERROR, "nobody-records", text, array.name)

    # -- end ------------------------------------------------------------------------------------------------------

    def on_not_tracking(self, array: Subarray) -> None:
        """``not-tracking``: the telescope has left the source."""
        array = self.change(array.name, tracking=False)
        self.give_up_preparation(array.name)
        self.stop_recording(array)

    def stop_recording(self, array: Subarray) -> None:
        """End a recording before its time, if there is one."""
        if array.recproc is RecProc.RECORD and not array.stopping:
            self._stop_early(array)
            self.arm(f"halt/{array.name}", self.config.stop_pause)

    def _stop_early(self, array: Subarray) -> None:
        """Stop the DAQs now and note the true end for every directory."""
        run = self.run(array.run)
        assert run is not None
        ended = min(run.ended, max(self.now.wall, run.started))
        self.set_run(msgspec.structs.replace(run, ended=ended))
        commands: list[Command] = []
        for name in self.members(array, Duty.RECORDING):
            commands += self.gateway.tell(name, [("DWELL", "0"), ("PKTSTART", "0")])
        self.write(commands + recording_end(run.datadirs, ended))
        self.cancel(f"record/{array.name}")
        self.cancel(f"start/{array.name}")
        self.change(array.name, stopping=True)
        if ended - run.started < self.config.shortest_recording:
            text = f":timer_clock: {array.name}: {ended - run.started:.0f} s are too short to be searched"
            self.notify(Severity.INFO, "too-short", text, array.name)

    def on_halt(self, array: Subarray) -> None:
        """The DAQs have stopped: give them their dwell back."""
        commands: list[Command] = []
        for name in self.members(array, Duty.RECORDING):
            commands += self.gateway.tell(name, [("DWELL", _text(self.config.dwell))])
        self.write(commands)
        self._read_end(array)

    def on_dwell_over(self, array: Subarray) -> None:
        """The DAQs have stopped by themselves at the end of the dwell."""
        if array.recproc is RecProc.RECORD and not array.stopping:
            self.cancel(f"record/{array.name}")
            self.cancel(f"start/{array.name}")
            self.write([("PUBLISH", REC_RESULT, f"rec-timeout:{array.name}")])
            array = self.change(array.name, stopping=True)
            self._read_end(array)

    def on_record_timeout(self, array: Subarray) -> None:
        """``rec-timeout`` from outside: the end of the dwell, or an early end when it is not over yet."""
        run = self.run(array.run)
        if run is None or array.recproc is not RecProc.RECORD or array.stopping:
            return
        if self.now.wall < run.ended:
            self.stop_recording(array)
        else:
            self.on_dwell_over(array)

    def _read_end(self, array: Subarray) -> None:
        instances = self.members(array, Duty.RECORDING)
        self.issue(ReadStatus(array=array.name, purpose=ENDED, run=array.run, instances=instances), lane=array.name)


def _named(apart: Mapping[str, float]) -> str:
    """Instances and how far they are from the median, seconds, as the end of a sentence."""
    names = ", ".join(f"{name} by {seconds:+.0f} s" for name, seconds in sorted(apart.items()))
    return f"; out of step: {names}" if names else ""


def _text(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)
