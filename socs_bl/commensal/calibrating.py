"""When calibration solutions are fetched, and what people are told of it.

A timer runs from the start of a recording; then the time of the last phase-up is read, and its solutions are fetched
when they are news (`socs_bl.commensal.calibration.why_not`). Source: commensal-automator, calibration retrieval.
"""

from __future__ import annotations

from socs_bl.commensal.calibration import why_not
from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.model import Severity, Subarray
from socs_bl.commensal.upkeep import Upkeep
from socs_bl.core.clock import compact_utc


class Calibrating(Upkeep):
    """The calibration of every subarray."""

    def plan_calibration(self, array: str) -> None:
        """A recording begins: solutions are looked for a little later, once for recordings that follow each other."""
        if self.config.calibration.enabled and f"calibrate/{array}" not in self.timers:
            self.arm(f"calibrate/{array}", self.config.calibration.delay)

    def forget_calibration(self, array: str) -> None:
        """A subarray is given up or made anew: what was stored last was of other antennas."""
        self.cancel(f"calibrate/{array}")
        lane = _lane(array)
        asked = [*self.outstanding_of(ReadPhaseup, lane=lane), *self.outstanding_of(FetchCalibration, lane=lane)]
        for effect in asked:
            self.withdraw(effect.id)
        if self.config.calibration.enabled:
            self.write([("SET", f"{array}:last-cal", "0")])

    def fetching(self, array: str) -> bool:
        """Whether solutions of a subarray are being looked for."""
        lane = _lane(array)
        return bool(self.outstanding_of(ReadPhaseup, lane=lane) or self.outstanding_of(FetchCalibration, lane=lane))

    def on_calibrate(self, array: Subarray) -> None:
        """Look when the last phase-up was."""
        if not self.fetching(array.name):
            self.issue(ReadPhaseup(array=array.name), lane=_lane(array.name))

    def on_phaseup(self, event: PhaseupRead) -> None:
        """Fetch the solutions, or say once why not."""
        lane = _lane(event.array)
        if not self.outstanding_of(ReadPhaseup, lane=lane) or self.outstanding_of(FetchCalibration, lane=lane):
            return  # nobody waits for it any more, or it was said twice
        reason = why_not(event.phaseup, event.last_config, event.last_stored)
        if reason:
            self._ended(event.array, Severity.INFO, "calibration-skipped", f"not fetched: {reason}")
        else:
            self.issue(FetchCalibration(array=event.array, phaseup=event.phaseup), lane=lane)

    def on_calibration(self, event: CalibrationFetched) -> None:
        """Say what is stored, and what is wrong with it."""
        if not self.outstanding_of(FetchCalibration, lane=_lane(event.array)):
            return
        doubts = list(event.notes)
        if event.zeroed:
            doubts.append(f"no valid gain for {', '.join(event.zeroed)}")
        if event.clipped:
            doubts.append(f"gains clipped of {', '.join(event.clipped)}")
        text = f"solutions of {compact_utc(event.phaseup)} stored for {event.antennas} antennas as {event.key}"
        severity = Severity.WARNING if doubts else Severity.INFO
        self._ended(event.array, severity, "calibration", "; ".join([text, *doubts]))

    def on_calibration_failed(self, array: str, reason: str) -> None:
        """The older solutions stay in use."""
        text = f"not fetched: {reason}; the solutions stored before stay in use, fetch_cal tries again"
        self._ended(array, Severity.WARNING, "calibration-failed", text)

    def _ended(self, name: str, severity: Severity, code: str, text: str) -> None:
        """What was said of the last recording already is not said again."""
        array = self.array(name)
        if array is not None and array.calibration != text:
            self.change(name, calibration=text)
            self.notify(severity, code, f"{name}: calibration {text}", name)


def _lane(array: str) -> str:
    """The lane of a subarray's questions to the telescope state."""
    return f"calibration/{array}"
