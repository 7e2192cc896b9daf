"""Calibration of a subarray: some time after a recording has begun its solutions are fetched, if there are new ones.

Source: commensal-automator, calibration retrieval. Unlike there, the delay survives a restart, what is fetched last is
forgotten with the subarray, and what goes wrong is told. A recording never waits for any of it.
"""

from __future__ import annotations

from socs_bl.commensal.calibration import why_not
from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.model import Severity, Subarray
from socs_bl.commensal.pool import Pool
from socs_bl.core.clock import compact_utc

CALIBRATION = "calibration"


class Phasing(Pool):
    """The calibration half of every subarray."""

    def await_calibration(self, array: Subarray) -> None:
        """A recording has begun: look for solutions in a while. One look serves recordings that follow each other."""
        if self.config.calibration.enabled and f"{CALIBRATION}/{array.name}" not in self.timers:
            self.arm(f"{CALIBRATION}/{array.name}", self.config.calibration.delay)

    def forget_calibration(self, array: Subarray) -> None:
        """The subarray is configured or given up: what was stored last was of other antennas."""
        self.cancel(f"{CALIBRATION}/{array.name}")
        asked: list[ReadPhaseup | FetchCalibration] = [
            *self.outstanding_of(ReadPhaseup),
            *self.outstanding_of(FetchCalibration),
        ]
        for effect in asked:
            if effect.array == array.name:
                self.withdraw(effect.id)
        if self.config.calibration.enabled:
            self.write([("SET", f"{array.name}:last-cal", "0")])

    def on_calibration_timer(self, array: Subarray) -> None:
        """The delay is over."""
        if not any(effect.array == array.name for effect in self.outstanding_of(ReadPhaseup)):
            self.issue(ReadPhaseup(array=array.name), lane=f"telstate/{array.name}")

    def on_phaseup(self, array: Subarray, event: PhaseupRead) -> None:
        """Fetch the solutions if they are of this subarray and new."""
        if not any(effect.array == array.name for effect in self.outstanding_of(ReadPhaseup)):
            return  # nobody waits for it any more
        reason = why_not(event.phaseup, event.last_config, event.last_stored)
        if reason:
            self.notify(Severity.INFO, "calibration-kept", f"{array.name}: no new calibration: {reason}", array.name)
        else:
            self.issue(FetchCalibration(array=array.name, phaseup=event.phaseup), lane=f"telstate/{array.name}")

    def on_calibration(self, array: Subarray, event: CalibrationFetched) -> None:
        """Tell people what was stored, and what of it is doubtful."""
        doubts = list(event.notes)
        if event.zeroed:
            doubts.append(f"no valid gain for {', '.join(event.zeroed)}")
        if event.clipped:
            doubts.append(f"gain far from the array's for {', '.join(event.clipped)}")
        text = f"{array.name}: calibration of {compact_utc(event.phaseup)} stored for {event.antennas} antennas"
        severity = Severity.WARNING if doubts else Severity.INFO
        self.notify(severity, CALIBRATION, "; ".join([text, *doubts]), array.name)

    def on_calibration_failed(self, effect: ReadPhaseup | FetchCalibration, reason: str) -> None:
        """The telescope state did not answer, or has nothing that can be used: the stored solutions stay in use."""
        text = f"{effect.array}: no calibration fetched: {reason}; the beams use the solutions before"
        self.notify(Severity.WARNING, "calibration-failed", text, effect.array)
