"""Calibration solutions: which phase-up counts, whether it is news, and the corrections that follow from it.

All pure. Source: commensal-automator, calibration from the telescope state; katsdpcal, products K, G, B, KCROSS_DIODE and
BCROSS_DIODE; the corrections are those SARAO's phase-up scripts give to the F-engines:
1 / (exp(-2 pi i K f) B G), f in Hz, K in seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socs_bl.core.clock import compact_utc
from socs_bl.core.errors import Refused

POLARISATIONS = ("h", "v")
LEAST_GAIN, LARGEST_GAIN = 0.5, 2.0  # of an input relative to the array; beyond, the correction is clipped
_ANTENNA = re.compile(r"[A-Za-z]{1,8}([0-9]{1,5})")

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]


@dataclass(frozen=True)
class CaptureBlock:
    """One capture block of the telescope: the script that observed it, and when gains were solved, Unix seconds."""

    script: str
    gain_times: tuple[float, ...]


@dataclass(frozen=True)
class Products:
    """Products of the calibration pipeline as it writes them; NaN is flagged.

    Attributes
    ----------
    antennas, polarisations : tuple of str
        Order of the last two axes.
    delays, cross_delays : ndarray of float, (polarisation, antenna)
        K and KCROSS_DIODE, seconds.
    gains : ndarray of complex, (polarisation, antenna)
    bandpass, cross_phases : ndarray of complex, (channel, polarisation, antenna)
        B and BCROSS_DIODE(_SKY).
    centre, bandwidth : float
        Of the band, Hz.
    reference : str
        Reference antenna.
    """

    antennas: tuple[str, ...]
    polarisations: tuple[str, ...]
    delays: Floats
    cross_delays: Floats
    gains: Complexes
    bandpass: Complexes
    cross_phases: Complexes
    centre: float
    bandwidth: float
    reference: str = "unknown"


@dataclass(frozen=True)
class Calibration:
    """Solutions and corrections, antennas sorted by number, polarisation h before v.

    Attributes
    ----------
    antennas : tuple of str
        Order of the last axis.
    delays : ndarray of float, (1, 2, antenna)
        With the delay between the polarisations, seconds.
    gains : ndarray of complex, (1, 2, antenna)
    bandpass : ndarray of complex, (channel, 2, antenna)
        With the phase between the polarisations, gaps interpolated.
    corrections : ndarray of complex, (channel, 2, antenna)
    reference : str
    zeroed : tuple of str
        Inputs without a valid gain: their corrections are 0.
    clipped : tuple of str
        Inputs whose gain is too far from the array's.
    """

    antennas: tuple[str, ...]
    delays: Floats
    gains: Complexes
    bandpass: Complexes
    corrections: Complexes
    reference: str
    zeroed: tuple[str, ...]
    clipped: tuple[str, ...]


def phaseup_time(blocks: Sequence[CaptureBlock], scripts: Sequence[str], settle: float) -> float:
    """When the last successful phase-up was done, Unix seconds; 0 when there was none.

    Successful is a block of one of `scripts` (base names) with exactly two gain solutions; it is done `settle` seconds
    after the second.
    """
    times = [
        block.gain_times[1] + settle
        for block in blocks
        if block.script.rsplit("/", 1)[-1] in scripts and len(block.gain_times) == 2
    ]
    return max(times, default=0.0)


def why_not(phaseup: float, last_config: float, last_stored: float) -> str:
    """Why the solutions of a phase-up are not fetched; empty when they are.

    Parameters
    ----------
    phaseup : float
        See `phaseup_time`.
    last_config : float
        When the subarray was configured; an older phase-up is of other antennas.
    last_stored : float
        Phase-up time of the solutions stored last.
    """
    if phaseup <= 0:
        return "there has been no phase-up"
    if phaseup < last_config:
        return f"the last phase-up ({compact_utc(phaseup)}) is older than the subarray ({compact_utc(last_config)})"
    if phaseup <= last_stored:
        return f"the solutions of {compact_utc(phaseup)} are stored already"
    return ""


def antenna_order(names: Sequence[str]) -> tuple[str, ...]:
    """Antenna names sorted by number, the order of the antenna axis everywhere here.

    Raises
    ------
    Refused
        For a name that is not letters and a number, or a number that is there twice.
    """
    numbers: dict[int, str] = {}
    for name in names:
        match = _ANTENNA.fullmatch(name)
        if match is None or int(match[1]) in numbers:
            raise Refused(f"antenna {name[:20]!r} has no number of its own; look at the list of antennas")
        numbers[int(match[1])] = name
    return tuple(numbers[number] for number in sorted(numbers))


def calibrate(
    products: Products, antennas: Sequence[str] = (), average: float = 100.0, flatten: bool = True
) -> Calibration:
    """Corrections from the products of the calibration pipeline.

    Parameters
    ----------
    products : Products
    antennas : sequence of str, optional
        The subarray's; one without products is flagged, products of others are left out. All that have products when
        left out.
    average : float
        Magnitude of the correction of an input with the median gain of the array.
    flatten : bool
        Whether each channel gets its own amplitude; else all channels of an input get the same.

    Raises
    ------
    Refused
        When products do not fit together, or no input has a valid gain.
    """
    _check(products)
    names = antenna_order(antennas or products.antennas)
    places = [products.polarisations.index(polarisation) for polarisation in POLARISATIONS]
    columns = [products.antennas.index(name) if name in products.antennas else -1 for name in names]
    delays = _pick(-products.delays - _of_array(products.cross_delays), places, columns)[np.newaxis]
    gains = _pick(products.gains, places, columns)[np.newaxis]
    bandpass = _pick(products.bandpass * _of_array(products.cross_phases), places, columns)
    _fill_gaps(bandpass)
    inputs = [[name + polarisation for name in names] for polarisation in POLARISATIONS]
    corrections, zeroed, clipped = _corrections(delays, gains, bandpass, _frequencies(products), average, flatten)
    return Calibration(
        antennas=names,
        delays=delays,
        gains=gains,
        bandpass=bandpass,
        corrections=corrections,
        reference=products.reference,
        zeroed=tuple(inputs[p][a] for p, a in zeroed),
        clipped=tuple(inputs[p][a] for p, a in clipped),
    )


def _check(products: Products) -> None:
    shape = (len(products.polarisations), len(products.antennas))
    if sorted(products.polarisations) != sorted(POLARISATIONS) or not products.antennas:
        raise Refused(f"polarisations {products.polarisations!r:.60} are not h and v, or there is no antenna")
    channels = products.bandpass.shape[:1]
    found = {
        "K": (products.delays.shape, shape),
        "KCROSS_DIODE": (products.cross_delays.shape, shape),
        "G": (products.gains.shape, shape),
        "B": (products.bandpass.shape, channels + shape),
        "BCROSS_DIODE": (products.cross_phases.shape, channels + shape),
    }
    for name, (is_shape, wanted) in found.items():
        if is_shape != wanted or 0 in wanted:
            raise Refused(f"calibration product {name} has the shape {is_shape}, not {wanted}; look at the pipeline")


def _of_array(values: NDArray[Any]) -> NDArray[Any]:
    """The pipeline solves the difference of the polarisations per antenna, but it is one of the array: the median."""
    flagged = np.isnan(values).all(axis=-1, keepdims=True)
    median: NDArray[Any] = np.nanmedian(np.where(flagged, 0, values), axis=-1, keepdims=True)
    return np.where(flagged, np.nan, median)


def _pick(values: NDArray[Any], places: Sequence[int], columns: Sequence[int]) -> NDArray[Any]:
    """Polarisations and antennas in our order; NaN for an antenna without values (column -1)."""
    picked = values[..., places, :][..., columns]
    picked[..., [index for index, column in enumerate(columns) if column < 0]] = np.nan
    return picked


def _fill_gaps(bandpass: Complexes) -> None:
    """Interpolate flagged channels linearly; an input without any valid channel stays flagged."""
    channels = np.arange(len(bandpass))
    for place in np.ndindex(bandpass.shape[1:]):
        line = bandpass[:, *place]
        flagged = np.isnan(line)
        if flagged.any() and not flagged.all():
            line[flagged] = np.interp(channels[flagged], channels[~flagged], line[~flagged])


def _frequencies(products: Products) -> Floats:
    """Centre of each channel, Hz; channel n/2 is at the centre of the band."""
    count = len(products.bandpass)
    steps: Floats = np.arange(count, dtype=np.float64) - count / 2
    return products.centre + steps * (products.bandwidth / count)


def _corrections(
    delays: Floats, gains: Complexes, bandpass: Complexes, frequencies: Floats, average: float, flatten: bool
) -> tuple[Complexes, list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Corrections (channel, 2, antenna), and places (polarisation, antenna) of what was zeroed and clipped."""
    corrections = np.zeros(bandpass.shape, np.complex128)
    averages = np.zeros(bandpass.shape[1:])
    for place in np.ndindex(averages.shape):
        gain = np.exp(-2j * np.pi * delays[0, *place] * frequencies) * bandpass[:, *place] * gains[0, *place]
        size = np.abs(gain)
        usable = np.isfinite(size) & (size > 0)
        if not usable.any():
            continue
        averages[place] = np.median(size[usable])
        corrections[usable, *place] = 1.0 / gain[usable]
        if not flatten:
            corrections[usable, *place] *= size[usable] / averages[place]
    if not averages.any():
        raise Refused("no input has a valid gain, the beams would be empty; look at the calibration pipeline")
    middle = float(np.median(averages[averages > 0]))
    relative = averages / middle
    safe = np.clip(relative, LEAST_GAIN, LARGEST_GAIN)
    corrections *= average * middle * relative / safe
    zeroed = [place for place in np.ndindex(averages.shape) if averages[place] == 0]
    clipped = [place for place in np.ndindex(averages.shape) if averages[place] > 0 and relative[place] != safe[place]]
    return corrections, zeroed, clipped


# -- what is stored --------------------------------------------------------------------------------------------------


def solutions_key(array: str, phaseup: float) -> str:
    """Name of the hash with the solutions of a phase-up."""
    return f"{array}:cal_solutions:{compact_utc(phaseup)}"


def index_key(array: str) -> str:
    """Name of the sorted set of such names, scored by the time of their retrieval."""
    return f"{array}:cal_solutions:index"


def hash_fields(calibration: Calibration, phaseup: float, retrieved: float) -> dict[str, bytes | str]:
    """Fields of the hash: arrays as bytes in C order; ``antenna_list`` names the last axis in its order."""
    return {
        "cal_K": np.ascontiguousarray(calibration.delays, np.float64).tobytes(),
        "cal_G": np.ascontiguousarray(calibration.gains, np.complex128).tobytes(),
        "cal_B": np.ascontiguousarray(calibration.bandpass, np.complex128).tobytes(),
        "cal_all": np.ascontiguousarray(calibration.corrections, np.complex128).tobytes(),
        "nants": str(len(calibration.antennas)),
        "antenna_list": json.dumps(list(calibration.antennas)),
        "nchan": str(len(calibration.bandpass)),
        "refant": calibration.reference,
        "script_ts": compact_utc(phaseup),
        "retrieval_ts": compact_utc(retrieved),
    }
