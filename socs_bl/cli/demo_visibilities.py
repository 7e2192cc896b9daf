"""What an astronomer reads out of published files: delays and phases from a calibrator, then where a source is.

Files are read with sdmpy, which is not ours, and only with what stands in them: what was injected is not known here.
Conventions are those of the files: ``V = <X Y*>`` with X the first antenna of the baseline, so that a signal that is
late by ``tau`` at Y has the phase ``+2 pi f tau``; a wavefront from ``s`` is late by ``-(r . s) / c`` at ``r``.

Errors are those of noise alone: a coefficient (cross over own spectra) has the standard deviation ``1 / sqrt(2 B t)`` in
either part, for bandwidth ``B`` and duration ``t`` (the radiometer equation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import erfa
import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from socs_bl.core.clock import UNIX_EPOCH_MJD, unix_to_tai_mjd
from socs_bl.core.errors import Refused

SPEED_OF_LIGHT = 299792458.0  # m/s
HANDS = ("RR", "LL")
FIELD_ARCSEC = 300.0  # a source is looked for within this of the phase centre, in either direction
GRID = 8  # steps of the first look per fringe of the longest baseline
COARSE = 8  # channels taken together in the first look
PADDING = 8  # delay steps per channel-to-channel resolution
_ARCSEC = math.radians(1 / 3600)
_MJD_ZERO, _TT_MINUS_TAI_DAYS = 2400000.5, 32.184 / 86400.0

Float = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Spectrum:
    """One window of a scan, averaged over it.

    Attributes
    ----------
    frequencies : numpy.ndarray
        (channels,), Hz.
    coefficients : numpy.ndarray
        complex (baselines, channels, hands).
    deviation : float
        Standard deviation of either part of a coefficient.
    """

    frequencies: Float
    coefficients: Complex
    deviation: float


@dataclass(frozen=True)
class Observed:
    """A published scan.

    Attributes
    ----------
    scan : int
    source : str
    calibrator : bool
        Its intents say so.
    centre : tuple of float
        Right ascension and declination, radians.
    mjd : float
        UTC of its middle.
    antennas : tuple of str
        In the order of the file.
    positions : numpy.ndarray
        (antennas, 3), geocentric, metres.
    spectra : tuple of Spectrum
    integrations : int
    flagged : float
        Fraction of the cross data.
    """

    scan: int
    source: str
    calibrator: bool
    centre: tuple[float, float]
    mjd: float
    antennas: tuple[str, ...]
    positions: Float
    spectra: tuple[Spectrum, ...]
    integrations: int
    flagged: float


@dataclass(frozen=True)
class Measured:
    """A number and its standard deviation from noise."""

    value: float
    error: float


@dataclass(frozen=True)
class Calibration:
    """What a point source in the phase centre says of the antennas.

    Attributes
    ----------
    delays : tuple of Measured
        Of each antenna after the first, relative to it, seconds.
    phases : tuple of numpy.ndarray
        For each window, radians: (antennas, channels, hands).
    coefficient : Measured
    weight : float
        Square of signal over noise, all data together.
    """

    delays: tuple[Measured, ...]
    phases: tuple[Float, ...]
    coefficient: Measured
    weight: float


@dataclass(frozen=True)
class Located:
    """A point source: its coefficient, and its place east and north of the phase centre, arcseconds."""

    coefficient: Measured
    east: Measured
    north: Measured


def pairs(antennas: int) -> list[tuple[int, int]]:
    """Baselines in the order of a file."""
    return [(first, second) for second in range(antennas) for first in range(second)]


def read_scans(directory: Path) -> list[Observed]:
    """Read the scans of an execution block with sdmpy.

    Parameters
    ----------
    directory : Path
        The SDM.

    Raises
    ------
    Refused
        When sdmpy is not installed.
    """
    try:
        import sdmpy
    except ImportError as error:
        raise Refused(
            "published files are read with sdmpy; install it with: pip install 'socs_bl[observatory]'"
        ) from error
    return [_read_scan(scan) for scan in sdmpy.SDM(str(directory)).scans()]


def _read_scan(scan: Any) -> Observed:
    bdf, spectra, flagged = scan.bdf, [], []
    for window in range(len(scan.spws)):
        flags = np.asarray(bdf.get_meta("flags", window, "cross"))
        durations = np.where(flags == 0, bdf.get_meta("actualDurations", window, "cross"), 0) * 1e-9
        flagged.append(float((flags != 0).mean()))
        names = [str(name) for name in bdf.spws[window].pols("cross")]
        hands = [names.index(hand) for hand in HANDS]
        cross = _average(np.asarray(bdf.get_data(window, "cross")), durations)[..., 0, :, :][..., hands]
        own_flags = np.asarray(bdf.get_meta("flags", window, "auto"))
        # The own spectra of both hands are the first and the last number.
        own = np.asarray(bdf.get_data(window, "auto"))[..., [0, -1]]
        weights = np.where(own_flags == 0, bdf.get_meta("actualDurations", window, "auto"), 0)[..., [0, -1]] * 1e-9
        power = _average(own, weights)[..., 0, :, :].real
        ends = np.array(pairs(len(power)))
        coefficients = cross / np.sqrt(power[ends[:, 0]] * power[ends[:, 1]])
        frequencies = np.asarray(scan.freqs(window))
        seconds = float(durations.sum(axis=0).mean())
        width = abs(float(frequencies[1] - frequencies[0]))
        spectra.append(Spectrum(frequencies, coefficients, 1.0 / math.sqrt(2 * width * seconds)))
    ra, dec = (float(angle) for angle in scan.coordinates)
    return Observed(
        scan=int(scan.idx),
        source=scan.source,
        calibrator=any(str(intent).startswith("CALIBRATE") for intent in scan.intents),
        centre=(ra, dec),
        mjd=float(np.mean(scan.times())),
        antennas=tuple(scan.antennas),
        positions=np.array(scan.positions),
        spectra=tuple(spectra),
        integrations=int(bdf.numIntegration),
        flagged=float(np.mean(flagged)),
    )


def _average(data: npt.NDArray[Any], weights: Float) -> Complex:
    """The mean over time of (times, rows, bins, channels, products), weighted with (times, rows, bins, products)."""
    spread = weights[..., None, :]
    return np.asarray((data * spread).sum(axis=0) / spread.sum(axis=0), np.complex128)


def calibrate(observed: Observed) -> Calibration:
    """Delays, phases and coefficient of a point source in the phase centre.

    Raises
    ------
    Refused
        When a scan has no data.
    """
    antennas, ends = len(observed.antennas), pairs(len(observed.antennas))
    found, weights = [], []
    for spectrum in observed.spectra:
        if not np.isfinite(spectrum.coefficients).all():
            raise Refused(f"scan {observed.scan} ({observed.source}) has baselines without data; look at its flags")
        rough = float(np.abs(spectrum.coefficients.mean(axis=1)).max()) or 1.0
        spread = 2 * math.pi * math.sqrt(float(((spectrum.frequencies - spectrum.frequencies.mean()) ** 2).sum()))
        for hand in range(len(HANDS)):
            found.append([_delay(spectrum.frequencies, row) for row in spectrum.coefficients[..., hand]])
            weights.append((spread * rough / spectrum.deviation) ** 2)
    on_baselines = np.average(found, axis=0, weights=weights)
    # One equation a baseline, the first antenna being late by nothing.
    matrix = np.zeros((len(ends), antennas))
    for row, (first, second) in enumerate(ends):
        matrix[row, first], matrix[row, second] = -1.0, 1.0
    solution = np.linalg.lstsq(matrix[:, 1:], on_baselines, rcond=None)[0]
    delays = np.concatenate([[0.0], solution])
    phases = tuple(_phases(spectrum, delays) for spectrum in observed.spectra)
    values = [_turned(spectrum, phase).real for spectrum, phase in zip(observed.spectra, phases, strict=True)]
    coefficient = _mean(values, observed.spectra)
    # The weights used the largest coefficient; the error that of the fit.
    scatter = np.linalg.inv(matrix[:, 1:].T @ matrix[:, 1:]).diagonal() / sum(
        (2 * math.pi * coefficient.value / spectrum.deviation) ** 2
        * float(((spectrum.frequencies - spectrum.frequencies.mean()) ** 2).sum())
        * len(HANDS)
        for spectrum in observed.spectra
    )
    measured = tuple(Measured(float(delay), math.sqrt(float(v))) for delay, v in zip(solution, scatter, strict=True))
    return Calibration(measured, phases, coefficient, (coefficient.value / coefficient.error) ** 2)


def _delay(frequencies: Float, values: Complex) -> float:
    """The delay (seconds) whose phase slope `values` have: a padded transform, then a straight line through what is left."""
    count, step = len(values), float(frequencies[1] - frequencies[0])
    lags = np.abs(np.fft.fft(values, PADDING * count))
    peak = int(np.argmax(lags))
    coarse = (peak - PADDING * count * (peak > PADDING * count // 2)) / (PADDING * count * step)
    offset = frequencies - frequencies.mean()
    left = values * np.exp(-2j * np.pi * offset * coarse)
    phase = np.angle(left * np.conj(left.mean()))
    return coarse + float((offset @ phase) / (offset @ offset)) / (2 * math.pi)


def _phases(spectrum: Spectrum, delays: Float) -> Float:
    """Phase of each antenna: its delay's, and what is left at the middle of the window: (antennas, channels, hands)."""
    antennas, offset = len(delays), spectrum.frequencies - spectrum.frequencies.mean()
    slope = 2 * np.pi * delays[:, None] * offset
    found = np.zeros((antennas, len(offset), len(HANDS)))
    for hand in range(len(HANDS)):
        matrix = np.zeros((antennas, antennas), np.complex128)
        for row, (first, second) in enumerate(pairs(antennas)):
            turned = spectrum.coefficients[row, :, hand] * np.exp(-1j * (slope[second] - slope[first]))
            matrix[first, second] = turned.mean()
            matrix[second, first] = np.conj(matrix[first, second])
        # Of a point source the matrix is conj(v) v^T; the noise of an eigenvector is spread over all baselines.
        vector = np.linalg.eigh(matrix)[1][:, -1]
        found[..., hand] = slope - np.angle(vector * np.conj(vector[0]))[:, None]
    return found


def _turned(spectrum: Spectrum, phases: Float) -> Complex:
    """Coefficients without the antennas' phases."""
    ends = np.array(pairs(len(phases)))
    return np.asarray(spectrum.coefficients * np.exp(-1j * (phases[ends[:, 1]] - phases[ends[:, 0]])))


def _mean(values: Sequence[Float], spectra: Sequence[Spectrum]) -> Measured:
    weights = np.array([part.size / spectrum.deviation**2 for part, spectrum in zip(values, spectra, strict=True)])
    mean = float(np.average([part.mean() for part in values], weights=weights))
    return Measured(mean, 1.0 / math.sqrt(float(weights.sum())))


def locate(observed: Observed, calibration: Calibration) -> Located:
    """Where the strongest point source of a scan is, and how strong.

    Parameters
    ----------
    observed : Observed
    calibration : Calibration
        Of the same antennas and windows.
    """
    turned = [_turned(*pair) for pair in zip(observed.spectra, calibration.phases, strict=True)]
    plane = baselines(observed)
    start = _first_look(observed, turned, plane)

    def residuals(values: Float) -> Float:
        amplitude, east, north = values
        parts = []
        for spectrum, data in zip(observed.spectra, turned, strict=True):
            model = amplitude * _fringes(plane, spectrum.frequencies, east * _ARCSEC, north * _ARCSEC)[..., None]
            parts.append(((data - model) / spectrum.deviation).ravel())
        together = np.concatenate(parts)
        return np.concatenate([together.real, together.imag])

    fit = least_squares(residuals, start, method="lm", x_scale=[1e-3, 1.0, 1.0])
    jacobian = np.asarray(fit.jac)
    errors = np.sqrt(np.linalg.inv(jacobian.T @ jacobian).diagonal())
    # The calibrator's noise is in the antennas' phases, and so in the place.
    weight = float(fit.x[0] / errors[0]) ** 2
    more = math.sqrt(1.0 + weight / calibration.weight)
    amplitude, east, north = (float(value) for value in fit.x)
    return Located(
        Measured(amplitude, float(errors[0])),
        Measured(east, float(errors[1]) * more),
        Measured(north, float(errors[2]) * more),
    )


def baselines(observed: Observed) -> Float:
    """Baselines, first antenna minus second, along east, north and the phase centre: (baselines, 3), seconds."""
    ra, dec = observed.centre
    axes = np.array([
        [-math.sin(ra), math.cos(ra), 0.0],
        [-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)],
        [math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)],
    ])  # fmt: skip
    tt = unix_to_tai_mjd((observed.mjd - UNIX_EPOCH_MJD) * 86400.0) + _TT_MINUS_TAI_DAYS
    earth = erfa.c2t06a(_MJD_ZERO, tt, _MJD_ZERO, observed.mjd, 0.0, 0.0)
    ends = np.array(pairs(len(observed.antennas)))
    difference = observed.positions[ends[:, 0]] - observed.positions[ends[:, 1]]
    return np.asarray(difference @ earth @ axes.T / SPEED_OF_LIGHT)


def _fringes(plane: Float, frequencies: Float, east: float, north: float) -> Complex:
    """What a source of coefficient 1 at direction cosines (east, north) gives: (baselines, channels)."""
    late = plane @ np.array([east, north, math.sqrt(1 - east**2 - north**2) - 1.0])
    return np.asarray(np.exp(2j * np.pi * late[:, None] * frequencies))


def _first_look(observed: Observed, turned: Sequence[Complex], plane: Float) -> Float:
    """The brightest place of an image of the field: coefficient, east and north (arcseconds)."""
    highest = max(float(spectrum.frequencies.max()) for spectrum in observed.spectra)
    fringe = 1.0 / (highest * float(np.linalg.norm(plane, axis=1).max())) / _ARCSEC
    axis = np.arange(-FIELD_ARCSEC, FIELD_ARCSEC, fringe / GRID)
    east, north = (place.ravel() * _ARCSEC for place in np.meshgrid(axis, axis))
    directions = np.stack([east, north, np.sqrt(1 - east**2 - north**2) - 1.0])
    image, count = np.zeros(east.size), 0
    for spectrum, data in zip(observed.spectra, turned, strict=True):
        edges = range(0, len(spectrum.frequencies) + 1, min(COARSE, len(spectrum.frequencies)))
        late = plane @ directions
        for first, last in pairwise(edges):
            mean = data[:, first:last].mean(axis=(1, 2))
            image += (mean[:, None] * np.exp(-2j * np.pi * spectrum.frequencies[first:last].mean() * late)).real.mean(
                axis=0
            )
            count += 1
    best = int(np.argmax(image))
    return np.array([image[best] / count, east[best] / _ARCSEC, north[best] / _ARCSEC])
