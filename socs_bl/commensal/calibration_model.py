"""Calibration in the machine's words: what it asks of the telescope state, and what it is told."""

from __future__ import annotations

from typing import ClassVar

from socs_bl.core.effect import Effect
from socs_bl.core.event import Event


class PhaseupRead(Event, frozen=True):
    """When a subarray's last phase-up was done, when CAM configured it, and which phase-up is stored: Unix seconds, 0
    for never."""

    array: str
    phaseup: float
    last_config: float
    last_stored: float


class CalibrationFetched(Event, frozen=True):
    """Solutions have been stored.

    Attributes
    ----------
    array : str
    phaseup : float
        Unix seconds.
    key : str
        The hash they are in.
    antennas : int
    zeroed, clipped : tuple of str
        Inputs without a valid gain; with one too far from the array's.
    notes : tuple of str
        What does not fit together, in sentences.
    """

    array: str
    phaseup: float
    key: str
    antennas: int
    zeroed: tuple[str, ...] = ()
    clipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ReadPhaseup(Effect, frozen=True):
    """Read when the last phase-up of a subarray was done."""

    deadline: ClassVar[float] = 60.0

    array: str


class FetchCalibration(Effect, frozen=True):
    """Fetch the solutions of a phase-up, work out the corrections and store both; a second time writes the same."""

    deadline: ClassVar[float] = 120.0

    array: str
    phaseup: float


CALIBRATION_EVENTS: tuple[type[Event], ...] = (PhaseupRead, CalibrationFetched)
CALIBRATION_EFFECTS: tuple[type[Effect], ...] = (ReadPhaseup, FetchCalibration)
