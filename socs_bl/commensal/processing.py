"""PROCESS, WAITING and ERROR: recordings are searched, results collected, and the subarray is made ready again.

Source: commensal-automator, PROCESS and RETURN handling. Unlike there, a result belongs to a run, every run has a
deadline, and a node that fails is quarantined while the rest goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from socs_bl.commensal.model import (
    Duty,
    FreeSub,
    Instance,
    Kept,
    LegacyReturn,
    ReadMetadata,
    ReadStatus,
    RecProc,
    ResultRead,
    Run,
    Severity,
    StartProcessing,
    StatusRead,
    Subarray,
)
from socs_bl.commensal.projection import records_expire, records_settled, records_to_search, records_unpreserved
from socs_bl.commensal.recording import Recording
from socs_bl.commensal.wire import is_good

_FREE, _READY, _PROCESSING = Duty.FREE, Duty.READY, Duty.PROCESSING


class Processing(Recording):
    """The processing half of every subarray."""

    def on_ended_status(self, array: Subarray | None, event: StatusRead) -> None:
        """The recording has ended: note the directories, then search."""
        run = self.run(event.run)
        if run is None or run.closed:
            return
        self.note_directories(event.statuses)
        self.close_run(run)

    def note_directories(self, statuses: Mapping[str, Mapping[str, str] | None]) -> None:
        """Note where each instance says it has recorded."""
        self.write(
            [
                ("SET", f"{name}:last-datadir", (status or {}).get("DATADIR", "unknown") or "unknown")
                for name, status in statuses.items()
            ]
        )

    def close_run(self, run: Run) -> None:
        """From recording to processing."""
        array = self.array(run.array)
        text = f":black_square_for_stop: {run.array}: recording {run.id} ended after {run.ended - run.started:.0f} s"
        self.notify(Severity.INFO, "ended", text, run.array)
        if run.primary:
            self._wait(run)
            return
        current = array is not None and array.run == run.id
        run = msgspec.structs.replace(run, closed=True)
        self.set_run(run)
        pending = self.pending(run)
        for name in pending:
            self.assign(name, Duty.PROCESSING, owner=run.array, run=run.id, tries=1)
            self._ask(run, name)
        self.arm(f"process/{run.id}", self.config.processing_deadline)
        if current:
            self.change(run.array, recproc=RecProc.PROCESS, stopping=False)
        text = f":gear: {run.array}: {len(pending)} instances process {run.id}"
        self.notify(Severity.INFO, "processing", text, run.array)
        self._finish_if_done(run)

    def _wait(self, run: Run) -> None:
        for name in self.pending(run):
            self._hand_back(name, run)
        self.drop(f"run/{run.id}")
        self.put(f"kept/{run.array}", Kept(run=run))
        self._leave_run(run, RecProc.WAITING)
        text = f":zap: {run.array}: {run.id} was primary time and is kept; reset_array when people are done"
        self.notify(Severity.WARNING, "primary", text, run.array)

    def _ask(self, run: Run, name: str) -> None:
        effect = StartProcessing(
            instance=name, run=run.id, datadir=run.datadirs[name], duration=max(run.ended - run.started, 0.0)
        )
        self.issue(effect, lane=_lane(name))

    def on_processing_refused(self, effect: StartProcessing, reason: str) -> None:
        """An analyzer did not take its run: ask again a little later, or do without it."""
        run, instance = self.run(effect.run), self.instance(effect.instance)
        if run is None or instance is None or instance.run != run.id:
            return
        if instance.tries >= self.config.processing_tries:
            if instance.heard is not None:  # a legacy analyzer, which cannot be asked again
                self._accept_return(instance, *instance.heard)
                return
            self._stop_asking(instance.name)
            self.quarantine_silent(
                instance.name, f"its analyzer did not take {run.id}: {reason}", run.id, run.datadirs[instance.name]
            )
            self._finish_if_done(run)
            return
        self.set_instance(msgspec.structs.replace(instance, tries=instance.tries + 1))
        self.arm(f"ask/{instance.name}", self.config.processing_pause)

    def on_ask_timer(self, name: str) -> None:
        """Ask an analyzer again."""
        instance = self.instance(name)
        run = self.run(instance.run) if instance else None
        if run is not None and run.closed:
            self._ask(run, name)

    def on_legacy_return(self, instance: Instance, event: LegacyReturn) -> None:
        """Hits and reason come with the result only; the return stands in for a result that does not come."""
        asked = self.outstanding_of(StartProcessing, lane=_lane(instance.name))
        if asked or f"ask/{instance.name}" in self.timers:
            return  # an analyzer that has not taken the run has not ended it: this is the return of something else
        if self.config.supervisor.kind == "circus":  # its analyzers say nothing else, and one asked again returns 0
            self._accept_return(instance, event.code, event.code2)
            return
        self.set_instance(msgspec.structs.replace(instance, heard=(event.code, event.code2)))
        self.arm(f"legacy/{instance.name}", self.config.legacy_pause)

    def on_legacy_timer(self, name: str) -> None:
        """Nothing but the return has come, and it does not say of which run: an analyzer of ours tells it again."""
        instance = self.instance(name)
        run = self.run(instance.run) if instance else None
        if run is not None:
            self._ask(run, name)

    def _accept_return(self, instance: Instance, code: int, code2: int) -> None:
        cursor = self.ledger().results_cursor
        self.on_result(ResultRead(cursor=cursor, instance=instance.name, run=instance.run, code=code, code2=code2))

    def on_result(self, event: ResultRead) -> None:
        """A result belongs to its run; one of an unknown run or of another instance changes nothing."""
        run, instance = self.run(event.run), self.instance(event.instance)
        if run is None or instance is None or instance.run != run.id or instance.duty is not _PROCESSING:
            if instance is not None and instance.duty is Duty.QUARANTINED:
                self.on_late_result(event)
            return
        name, code = instance.name, str(event.code)
        counts = {**run.counts, code: run.counts.get(code, 0) + 1}
        run = msgspec.structs.replace(run, counts=counts, hits=run.hits + event.hits)
        self.set_run(run)
        self._stop_asking(name)
        self.write(records_settled(name, run.datadirs[name]))
        if is_good(event.code):
            self.drop(f"silence/{name}")
            self._hand_back(name, run)
        elif self.config.on_error != "quarantine":
            self._hand_back(name, run)
        else:
            reason = f"code {event.code} of {run.id}" + (f": {event.reason}" if event.reason else "")
            self.quarantine(name, reason)
        self._finish_if_done(run)

    def _stop_asking(self, name: str) -> None:
        self.cancel(f"ask/{name}")
        self.cancel(f"legacy/{name}")
        for effect in self.outstanding_of(StartProcessing, lane=_lane(name)):
            self.withdraw(effect.id)

    def _hand_back(self, name: str, run: Run) -> None:
        """To the subarray that holds it; to the pool when that has been given up, out when it is to be drained."""
        if self.index.holder.get(name) == run.array:
            if f"drain/{name}" not in self.cells:
                self.assign(name, _READY, owner=run.array)
                return
            self.part(name)
        self.assign(name, _FREE)

    def on_process_deadline(self, identity: str) -> None:
        """Whoever has not returned by now is quarantined."""
        run = self.run(identity)
        if run is None:
            return
        for name in self.pending(run):
            self._stop_asking(name)
            reason = f"returned nothing for {run.id} within {self.config.processing_deadline:g} s"
            self.quarantine_silent(name, reason, run.id, run.datadirs[name])
        self._finish_if_done(run)

    def _finish_if_done(self, run: Run) -> None:
        if run.id in self.index.working:
            return
        self.cancel(f"process/{run.id}")
        self.drop(f"run/{run.id}")
        self.write(records_expire(run.datadirs.values()))
        counts = {int(code): count for code, count in run.counts.items()}
        good = sum(count for code, count in counts.items() if is_good(code))
        missing = len(run.instances) - sum(counts.values())
        most = self.config.max_bad_instances
        text = ", ".join(f"{code}: {count}" for code, count in sorted(counts.items())) or "none"
        text = f"{run.array}: {run.id} processed, codes {text}" + (f", {missing} missing" if missing else "")
        if good and (most is None or len(run.instances) - good <= most):
            self.write([self.completed()])
            mark = ":white_check_mark:" if set(counts) == {0} and not missing else ":heavy_check_mark:"
            self.notify(Severity.INFO, "processed", f"{mark} {text}, {run.hits} hits", run.array)
            bad = sum(counts.values()) > good
            self._leave_run(run, RecProc.WAITING if bad and self.config.on_error == "wait" else RecProc.READY)
        else:
            self.notify(Severity.ERROR, "failed", f"{text}; look at the analyzers, then reset_array", run.array)
            self._leave_run(run, RecProc.ERROR)

    def _leave_run(self, run: Run, state: RecProc) -> None:
        array = self.array(run.array)
        if array is None or array.run != run.id:
            return
        array = self.change(array.name, recproc=state, run="", stopping=False)
        if state is RecProc.READY:
            self._record_again(array)
        elif state is RecProc.WAITING:
            self.remind_later(array.name)

    # -- giving up ------------------------------------------------------------------------------------------------

    def deconfigure(self, array: Subarray) -> None:
        """Give the subarray up. A recording is closed and still searched; its data stay."""
        array = self.change(array.name, tracking=False)
        self.give_up_preparation(array.name)
        self.drop(f"subscribing/{array.name}")
        if array.freesub is FreeSub.CONFIGURING:
            for effect in self.outstanding_of(ReadMetadata, lane=array.name):
                self.withdraw(effect.id)
            self.change(array.name, freesub=FreeSub.FREE)
        elif array.freesub is FreeSub.SUBSCRIBED:
            self._close_recording(array)
            array = self.change(array.name)
            self.release(array)

    def _close_recording(self, array: Subarray) -> None:
        run = self.run(array.run)
        if array.recproc is not RecProc.RECORD or run is None:
            return
        if not array.stopping:
            self._stop_early(array)
        self.cancel(f"halt/{array.name}")
        for effect in self.outstanding_of(ReadStatus, lane=array.name):
            self.withdraw(effect.id)
        ended = self.run(run.id)
        assert ended is not None
        # Nobody waits for the status hashes of a subarray that is given up.
        self.note_directories(dict.fromkeys(self.pending(ended)))
        self.close_run(ended)

    # -- ways out -------------------------------------------------------------------------------------------------

    def _record_again(self, array: Subarray) -> None:
        """The telescope may still be on source."""
        if self.config.record_again and array.tracking and array.announced:
            self.prepare_recording(array)

    def remind_later(self, array: str) -> None:
        """A subarray waits for people: they are told again after a while."""
        if self.config.reminder:
            self.arm(f"remind/{array}", self.config.reminder)

    def on_remind(self, array: Subarray) -> None:
        """Tell people again that a subarray waits for them."""
        if array.recproc is RecProc.WAITING:
            minutes = max(self.now.wall - array.since, 0.0) / 60
            text = (
                f":bust_in_silhouette: {array.name} has been waiting for {minutes:.0f} min; reset_array lets it go on"
            )
            self.notify(Severity.WARNING, "waiting", text, array.name)
            self.remind_later(array.name)

    def park(self, array: Subarray) -> None:
        """Into WAITING, by an operator: nothing is recorded until it is reset."""
        self.give_up_preparation(array.name)
        self.change(array.name, recproc=RecProc.WAITING)
        self.remind_later(array.name)
        self.notify(Severity.INFO, "parked", f"{array.name} waits: nothing is recorded until reset_array", array.name)

    def on_reset_array(self, array: Subarray, keep_raw: bool = True) -> None:
        """Out of WAITING and ERROR; unless `keep_raw`, the recording that was kept for people need not be any more."""
        kept = self.get(f"kept/{array.name}", Kept)
        if kept is not None and not keep_raw:
            self.write(records_unpreserved(kept.run.datadirs))
        self.drop(f"kept/{array.name}")
        self.cancel(f"remind/{array.name}")
        array, before = self.change(array.name, recproc=RecProc.READY), array.recproc.value
        self.notify(Severity.INFO, "reset", f"{array.name} was reset from {before}", array.name)
        self._record_again(array)

    def process_kept(self, array: Subarray, kept: Run) -> None:
        """Search a recording that was kept for people, by those of its instances that are still the subarray's."""
        self.drop(f"kept/{array.name}")
        self.cancel(f"remind/{array.name}")
        ready = set(self.members(array, _READY))
        instances = tuple(name for name in kept.instances if name in ready)
        run = msgspec.structs.replace(kept, instances=instances, primary=False, closed=True)
        datadirs = {name: kept.datadirs[name] for name in instances}
        self.write(records_unpreserved(datadirs) + records_to_search(datadirs))
        self.set_run(run)
        self.change(array.name, recproc=RecProc.PROCESS, run=run.id)
        for name in instances:
            self.assign(name, _PROCESSING, owner=array.name, run=run.id, tries=1)
            self._ask(run, name)
        self.arm(f"process/{run.id}", self.config.processing_deadline)
        text = f":gear: {array.name}: {len(instances)} instances process {run.id}, which was kept"
        self.notify(Severity.INFO, "processing", text, array.name)

    def ask_again(self, run: Run) -> int:
        """Ask those who have not returned a result once more; how many are asked."""
        asked = 0
        for name in self.pending(run):
            if not self.outstanding_of(StartProcessing, lane=_lane(name)):
                self.cancel(f"ask/{name}")
                self._ask(run, name)
                asked += 1
        return asked

    def on_release_instance(self, instance: Instance) -> None:
        """Out of quarantine."""
        self.drop(f"silence/{instance.name}")
        self.assign(instance.name, Duty.FREE)
        self.notify(Severity.INFO, "released", f"{instance.name} was released into the pool")


def _lane(instance: str) -> str:
    """The lane of what an instance's analyzer is asked."""
    return f"analyzer/{instance}"
