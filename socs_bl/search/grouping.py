"""One signal, one hit: detections of the same signal in several beams are put together.

A detection belongs to a stronger one of another beam when it runs along the same line: at the first and at the last sample
of the recording it is no further from it than its own main and side lobes reach (`socs_bl.search.hits.guard_channels`). Two
signals that merely cross are apart at one end at least. In one beam, what is near a signal was masked with it and is no
detection. The strongest of a group is the hit, the others are listed with it.

Strongest is the one with most power over the noise counted from its beam (`socs_bl.search.trials`), not over the noise
measured: the measured one rises with the side lobes of very strong signals, more so in the beam that has more of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from socs_bl.search.hits import Cutout, Line, guard_channels

# Errors of two measurements, in channels.
_MEASURED = 2


@dataclass(frozen=True)
class Detection:
    """A line found in one beam.

    Attributes
    ----------
    beam : int
        Number of the beam; -1 is the incoherent one.
    cutout : Cutout
        The line and the power around it.
    power, incoherent_power : float
        Power above the noise level summed along the line, in this beam and in the incoherent one.
    noise : float
        Deviation of such a sum of pure noise, counted from the noise powers in it.
    leads : bool
        True for the strongest of its group, which is the hit.
    """

    beam: int
    cutout: Cutout
    power: float
    incoherent_power: float
    noise: float
    leads: bool = False

    @property
    def line(self) -> Line:
        """The line."""
        return self.cutout.line


def strongest_first(detection: Detection) -> tuple[float, float, int]:
    """Key to sort by: signal-to-noise ratio, then frequency, then beam."""
    return -detection.line.snr, detection.line.middle, detection.beam


def along(cutout: Cutout) -> float:
    """Power summed along a line, one channel of each spectrum."""
    spectra, channels = cutout.power.shape
    places = np.rint(cutout.line.middle + cutout.line.rate * (np.arange(spectra) - (spectra - 1) / 2)).astype(int)
    columns = places - cutout.first
    inside = (columns >= 0) & (columns < channels)
    return float(cutout.power[np.flatnonzero(inside), columns[inside]].sum())


def group(detections: Iterable[Detection], spectra: int, fine: int, threshold: float) -> list[Sequence[Detection]]:
    """Put detections of the same signal together.

    Parameters
    ----------
    detections : Iterable[Detection]
        Of all beams.
    spectra : int
        Spectra in the recording.
    fine : int
        Fine channels per coarse channel.
    threshold : float
        Signal-to-noise ratio of a hit.

    Returns
    -------
    list[Sequence[Detection]]
        Groups, that with the strongest hit first; in each the hit first, then by signal-to-noise ratio.
    """
    groups: list[list[Detection]] = []
    near: dict[int, list[list[Detection]]] = {}
    for detection in sorted(detections, key=strongest_first):
        place = int(detection.line.middle // fine)
        candidates = [members for step in (-1, 0, 1) for members in near.get(place + step, ())]
        for members in candidates:
            if _same(members[0], detection, spectra, fine, threshold):
                members.append(detection)
                break
        else:
            groups.append([detection])
            near.setdefault(place, []).append(groups[-1])
    led = [_led(members) for members in groups]
    return sorted(led, key=lambda members: strongest_first(members[0]))


def _led(members: Sequence[Detection]) -> list[Detection]:
    """The members of a group, the one that is the hit first."""
    leader = max(members, key=lambda member: member.power / member.noise)
    return [replace(leader, leads=True), *(member for member in members if member is not leader)]


def _same(leader: Detection, other: Detection, spectra: int, fine: int, threshold: float) -> bool:
    """Whether `other` is what another beam has of `leader`."""
    if leader.beam == other.beam:
        return False
    reach = guard_channels(other.line, fine, threshold) + _MEASURED
    return (
        abs(leader.line.start(spectra) - other.line.start(spectra)) <= reach
        and abs(leader.line.end(spectra) - other.line.end(spectra)) <= reach
    )
