"""The commensal machine: both state machines of every subarray and the one pool of instances.

It is assembled from `pool` (ownership), `upkeep` (drain, silence), `calibrating`, `subscription` (FREE, CONFIGURING,
SUBSCRIBED), `recording` (READY, RECORD), `processing` (PROCESS, WAITING, ERROR), `reconciling` (after a restart),
`takeover` (of the original's saved state) and `requests` (what operators want); here events, timers and failures are led
to them.

Invariants (`check`): an instance has one duty and, when it works, one owner and at most one run; the shares of two
subarrays never meet; a recording has an end in sight and a search a deadline; who processes has a run that is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.model import (
    BadMessage,
    Duty,
    FreeSub,
    LegacyReturn,
    MetadataRead,
    ReadMetadata,
    ReadStatus,
    Requested,
    RestartPart,
    ResultRead,
    Severity,
    StartProcessing,
    StatusRead,
    Subarray,
    TelescopeEvent,
)
from socs_bl.commensal.recording import ENDED, RECORD, STARTED
from socs_bl.commensal.requests import Requests
from socs_bl.commensal.subscription import CONFIRM, SUBSCRIBE
from socs_bl.commensal.upkeep import WATCH, WATCH_TIMER
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import Event, Restarted


class CommensalMachine(Requests):
    """Decides for all subarrays. Its configuration comes with ``Restarted.world["config"]``."""

    def handle(self, event: Event) -> None:
        """Lead an event to the subarray, run or instance it is about."""
        entrance = _ENTRANCES.get(type(event))
        if entrance is not None:
            entrance(self, event)

    def _result(self, event: ResultRead) -> None:
        ledger = self.ledger()
        self.put("ledger", msgspec.structs.replace(ledger, results_cursor=event.cursor))
        self.on_result(event)

    def _bad(self, event: BadMessage) -> None:
        ledger = self.ledger()
        self.put("ledger", msgspec.structs.replace(ledger, bad_messages=ledger.bad_messages + 1))

    def _telescope(self, event: TelescopeEvent) -> None:
        array = self.array(event.array)
        if array is None:
            text = f"{event.word} for {event.array}, which is not configured here; add it to `arrays` if it should be"
            self.notify(Severity.WARNING, "unknown-array", text, event.array)
            self.issue(Answer(refusal=text))
            return
        array = self.change(array.name, last_event=event.word)
        match event.word:
            case "configure":
                self.on_configure(array)
            case "conf_complete":
                self.on_conf_complete(array)
            case "tracking":
                self.on_tracking(array)
            case "not-tracking":
                self.on_not_tracking(array)
            case "rec-timeout":
                self.on_record_timeout(array)
            case "deconfigure":
                self.deconfigure(array)

    def _metadata(self, event: MetadataRead) -> None:
        array = self.array(event.array)
        if not any(wait.purpose == event.purpose for wait in self.outstanding_of(ReadMetadata, lane=event.array)):
            return  # nobody waits for it any more
        if array is not None and event.purpose == SUBSCRIBE:
            self.on_subscribe_metadata(array, event)
        elif array is not None and event.purpose == RECORD:
            self.on_record_metadata(array, event)

    def _status(self, event: StatusRead) -> None:
        asked = (event.purpose, event.run)
        if event.purpose == WATCH:
            if self.outstanding_of(ReadStatus, lane=WATCH):
                self.on_watch_status(event)
            return
        array = self.array(event.array)
        waited = {(wait.purpose, wait.run) for wait in self.outstanding_of(ReadStatus, lane=event.array)}
        if array is None or asked not in waited:
            return
        match event.purpose:
            case "confirm":
                if array.freesub is FreeSub.SUBSCRIBED and array.announced:
                    self.on_confirm_status(array, event)
            case "record":
                self.on_record_status(array, event)
            case "started":
                self.on_started_status(array, event)
            case "ended":
                self.on_ended_status(array, event)

    def _legacy(self, event: LegacyReturn) -> None:
        """A return without a run belongs to the run its instance is working for."""
        instance = self.instance(event.instance)
        if instance is not None and instance.duty is Duty.PROCESSING:
            self.on_legacy_return(instance, event)

    def fired(self, name: str) -> None:
        """Lead a timer to what it is for."""
        kind, _, subject = name.partition("/")
        if kind == "ask":
            self.on_ask_timer(subject)
        elif kind == "legacy":
            self.on_legacy_timer(subject)
        elif kind == "process":
            self.on_process_deadline(subject)
        elif name == WATCH_TIMER:
            self.on_watch_timer()
        else:
            array = self.array(subject)
            assert array is not None, name
            self._array_timer(kind, array)

    def _array_timer(self, kind: str, array: Subarray) -> None:
        match kind:
            case "announce":
                self.on_announce(array)
                array = self.change(array.name)
                if array.tracking:
                    self.prepare_recording(array)
            case "confirm":
                self.on_confirm(array)
            case "target":
                self.on_target_timer(array)
            case "start":
                self.on_start_check(array)
            case "record":
                self.on_dwell_over(array)
            case "halt":
                self.on_halt(array)
            case "calibrate":
                self.on_calibrate(array)
            case "remind":
                self.on_remind(array)

    def done(self, effect: Effect) -> None:
        """Whoever is still silent is looked at again."""
        if isinstance(effect, ReadStatus) and effect.purpose == WATCH:
            self.watch()

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """What could not be read or asked."""
        if isinstance(effect, StartProcessing):
            self.on_processing_refused(effect, reason)
        elif isinstance(effect, ReadPhaseup | FetchCalibration):
            self.on_calibration_failed(effect.array, reason)
        elif isinstance(effect, RestartPart):
            text = f"the {effect.part} of {effect.instance} was not restarted: {reason}"
            self.notify(Severity.WARNING, "not-restarted", text)
        elif isinstance(effect, ReadStatus) and effect.purpose == WATCH:
            self.watch()
        elif isinstance(effect, ReadMetadata | ReadStatus):
            self._unread(effect, reason)

    def _unread(self, effect: ReadMetadata | ReadStatus, reason: str) -> None:
        array = self.array(effect.array)
        if array is None:
            return
        if isinstance(effect, ReadMetadata) and effect.purpose == SUBSCRIBE:
            self.on_subscribe_failed(array, reason)
        elif effect.purpose == RECORD:
            self.on_record_read_failed(array, reason)
        elif isinstance(effect, ReadStatus) and effect.purpose == ENDED:
            run = self.run(effect.run)
            if run is not None and not run.closed:
                self.note_directories(dict.fromkeys(effect.instances))
                self.close_run(run)
        elif effect.purpose in (STARTED, CONFIRM):
            text = f"{array.name}: status hashes could not be read ({reason}); whether all work is not known"
            self.notify(Severity.WARNING, "unchecked", text, array.name)

    def restarted(self, event: Restarted) -> None:
        """Take over the configuration, see how the world stands, and say that messages may have been missed.

        ``event.world`` has the configuration (``config``), status hashes (``statuses``), CAM's traces (``cam``, by
        subarray) and, when this journal is new, what the original coordinator has saved (``saved``).
        """
        first = "settings" not in self.cells
        config = event.world.get("config")
        if isinstance(config, dict):
            self.adopt(config)
        # Whoever wrote the keys last, and whatever was lost with them: from here on they agree with the journal.
        self.touch_everything()
        saved = event.world.get("saved")
        if first and isinstance(saved, dict):
            self.begin_with(saved)
        self.watch()
        self.reconcile(event.world)
        if first:
            self.notify(Severity.INFO, "started", ":large_green_circle: coordinator started")
        else:
            text = "coordinator restarted; messages sent while it was down are not known to it"
            self.notify(Severity.WARNING, "restarted", text)


_ENTRANCES: dict[type[Event], Callable[[CommensalMachine, Any], None]] = {
    TelescopeEvent: CommensalMachine._telescope,
    MetadataRead: CommensalMachine._metadata,
    StatusRead: CommensalMachine._status,
    ResultRead: CommensalMachine._result,
    LegacyReturn: CommensalMachine._legacy,
    Requested: CommensalMachine.on_request,
    BadMessage: CommensalMachine._bad,
    PhaseupRead: lambda machine, event: machine.on_phaseup(event),
    CalibrationFetched: lambda machine, event: machine.on_calibration(event),
}
