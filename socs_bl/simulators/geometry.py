"""How much later a wavefront arrives at one antenna than at another.

Conventions. The delay of antenna ``a`` for direction ``s`` is ``tau_a(s) = -(r_a . s) / c``: `r_a` its position relative
to the reference point, `s` the unit vector towards the source. It is negative for an antenna nearer to the source, which
the wavefront meets earlier, and the voltage of a signal of frequency ``f`` carries ``exp(-2 pi i f tau_a(s))``. F-engines
that track delays at the phase centre ``s0`` take ``tau_a(s0)`` off, so what is left is ``tau_a(s) - tau_a(s0)``: nothing
for a signal at the phase centre. A beamformer undoes it with ``exp(+2 pi i f tau)``.

Directions are ICRS. They are turned into the Earth-fixed frame with the IAU 2006/2000A model (erfa, ``c2t06a``); UT1 is
taken to be UTC (wrong by less than 0.9 s, 13.5 arcseconds), polar motion, aberration, parallax and the atmosphere are
left out: all of them move every direction of a field alike. Nothing asks whether a source is above the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import erfa
import numpy as np
import numpy.typing as npt

from socs_bl.core.clock import unix_to_mjd, unix_to_tai_mjd
from socs_bl.simulators.site import Site

SPEED_OF_LIGHT = 299792458.0  # m/s
_MJD_ZERO = 2400000.5
_TT_MINUS_TAI_DAYS = 32.184 / 86400.0

Array = npt.NDArray[np.float64]


def positions(site: Site, antennas: Sequence[str]) -> Array:
    """Positions of antennas relative to the site's reference point, Earth-fixed axes (ITRS), metres: (antennas, 3)."""
    latitude, longitude = math.radians(site.latitude_deg), math.radians(site.longitude_deg)
    sin_lat, cos_lat = math.sin(latitude), math.cos(latitude)
    sin_lon, cos_lon = math.sin(longitude), math.cos(longitude)
    east = (-sin_lon, cos_lon, 0.0)
    north = (-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat)
    up = (cos_lat * cos_lon, cos_lat * sin_lon, sin_lat)
    axes: Array = np.array([east, north, up])
    return np.asarray(np.array([site.antennas[name] for name in antennas]) @ axes)


def unit_vectors(directions: Array) -> Array:
    """Unit vectors of ICRS directions.

    Parameters
    ----------
    directions : numpy.ndarray
        (n, 2): right ascension and declination, radians.

    Returns
    -------
    numpy.ndarray
        (n, 3).
    """
    ra, dec = directions[:, 0], directions[:, 1]
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def delays(places: Array, directions: Array, unix: float) -> Array:
    """Delays of antennas for directions.

    Parameters
    ----------
    places : numpy.ndarray
        (antennas, 3), as `positions` gives them.
    directions : numpy.ndarray
        (n, 2): ICRS right ascension and declination, radians.
    unix : float
        Unix time, seconds.

    Returns
    -------
    numpy.ndarray
        (n, antennas), seconds; see the module for the sign.
    """
    terrestrial = unit_vectors(directions) @ _celestial_to_terrestrial(unix).T
    return np.asarray(-(terrestrial @ places.T) / SPEED_OF_LIGHT)


def residual_delays(places: Array, directions: Array, phase_centre: Array, unix: float) -> tuple[Array, Array]:
    """What delay tracking at the phase centre leaves, and how fast it changes.

    Parameters
    ----------
    places, directions, unix :
        As of `delays`.
    phase_centre : numpy.ndarray
        (2,): right ascension and declination, radians.

    Returns
    -------
    delays, rates : numpy.ndarray
        (n, antennas), seconds and seconds per second. The rate is that over the second around `unix`; over a minute the
        delay departs from the line by less than 1e-5 of itself.
    """
    both = np.vstack([directions, phase_centre])

    def residual(at: float) -> Array:
        found = delays(places, both, at)
        return np.asarray(found[:-1] - found[-1:])

    return residual(unix), residual(unix + 0.5) - residual(unix - 0.5)


def offset(direction: Array, east: float, north: float) -> Array:
    """The direction that lies `east` and `north` (radians) of `direction` in the plane of the sky.

    The plane is that of the direction cosines (SIN projection): ``l = east``, ``m = north``.
    """
    ra, dec = float(direction[0]), float(direction[1])
    depth = math.sqrt(1.0 - east * east - north * north)
    new_dec = math.asin(north * math.cos(dec) + depth * math.sin(dec))
    new_ra = ra + math.atan2(east, depth * math.cos(dec) - north * math.sin(dec))
    return np.array([new_ra % (2 * math.pi), new_dec])


def separation(one: Array, other: Array) -> float:
    """Angle between two directions, radians."""
    a, b = unit_vectors(np.array([one, other]))
    return math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def response(difference: Array, frequency_hz: float) -> float:
    """Power, from 0 to 1, with which a beam of equal weights hears a signal whose delays differ by `difference` (s)."""
    return float(np.abs(np.exp(2j * np.pi * frequency_hz * difference).mean()) ** 2)


@lru_cache(maxsize=64)
def _celestial_to_terrestrial(unix: float) -> Array:
    """Rotation from ICRS to the Earth-fixed frame."""
    day, seconds = unix_to_mjd(unix)
    tai = unix_to_tai_mjd(unix)
    return np.asarray(erfa.c2t06a(_MJD_ZERO, tai + _TT_MINUS_TAI_DAYS, _MJD_ZERO + day, seconds / 86400.0, 0.0, 0.0))
