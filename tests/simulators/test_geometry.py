"""Delays, checked against astropy's own way from the sky to the horizon; fields that an array can tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.simulators import geometry
from socs_bl.simulators.config import FieldConfig, Schedule, SubarrayConfig
from socs_bl.simulators.field import Position, boresight, draw_field, told_apart
from socs_bl.simulators.site import Site

UNIX = 1795233600.0
SITE = Site()
ANTENNAS = ("m000", "m011", "m063", "m060")


def independent_delays(directions: np.ndarray, unix: float) -> np.ndarray:
    """Delays (directions, antennas) by azimuth and elevation from astropy and the antennas' own east, north, up."""
    import astropy.units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    with iers.conf.set_temp("auto_download", False):
        location = EarthLocation.from_geodetic(SITE.longitude_deg, SITE.latitude_deg, SITE.altitude_m)
        frame = AltAz(obstime=Time(unix, format="unix"), location=location)
        seen = SkyCoord(directions[:, 0] * u.rad, directions[:, 1] * u.rad).transform_to(frame)
    elevation, azimuth = seen.alt.rad, seen.az.rad
    towards = [np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)]
    return -(np.array([SITE.antennas[name] for name in ANTENNAS]) @ np.array(towards)).T / 299792458.0


def test_delays_are_those_of_an_independent_way() -> None:
    """Whole delays agree with astropy's to the aberration it knows and we leave out; residual ones to 1e-3 of them."""
    directions = np.radians([[139.5, -12.1], [139.8, -12.1], [139.5, -11.8], [10.0, -60.0]])
    places = geometry.positions(SITE, ANTENNAS)
    ours, theirs = geometry.delays(places, directions, UNIX), independent_delays(directions, UNIX)
    lengths = np.linalg.norm(places, axis=1) / geometry.SPEED_OF_LIGHT
    assert (np.abs(ours - theirs) < 2e-4 * lengths).all()
    residual, _ = geometry.residual_delays(places, directions[:3], directions[0], UNIX)
    assert (residual[0] == 0).all()
    np.testing.assert_allclose(residual[1:], (theirs - theirs[0])[1:3], rtol=1e-3, atol=1e-13)


def test_rates_carry_delays_through_a_recording() -> None:
    """Half a minute later the delay is where delay and rate say, to a thousandth of a cycle."""
    places, field = geometry.positions(SITE, ANTENNAS), np.radians([[139.8, -12.0]])
    delay, rate = geometry.residual_delays(places, field, np.radians([139.5, -12.1]), UNIX)
    for later in (-30.0, 30.0):
        there, _ = geometry.residual_delays(places, field, np.radians([139.5, -12.1]), UNIX + later)
        assert (np.abs(there - (delay + rate * later)) * 1.4e9 < 1e-3).all()
        assert np.abs(there - delay).max() * 1.4e9 > 0.01, "the sky does turn"


@given(
    ra=st.floats(0, 2 * math.pi), dec=st.floats(-1.4, 1.4), east=st.floats(-0.02, 0.02), north=st.floats(-0.02, 0.02)
)
def test_an_offset_is_where_it_says(ra: float, dec: float, east: float, north: float) -> None:
    """The direction cosines of the offset direction, seen from the first one, are what was asked."""
    centre = np.array([ra, dec])
    there = geometry.unit_vectors(geometry.offset(centre, east, north)[None])[0]
    to_east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    to_north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    assert there @ to_east == pytest.approx(east, abs=1e-12) and there @ to_north == pytest.approx(north, abs=1e-12)
    assert geometry.separation(centre, geometry.offset(centre, east, north)) == pytest.approx(
        math.asin(math.hypot(east, north)), abs=1e-9
    )


@given(seed=st.integers(0, 10**6), hours=st.floats(0, 24))
@settings(max_examples=20)
def test_a_field_can_be_told_apart(seed: int, hours: float) -> None:
    """Targets come from the seed, the phase centre first, within the radius, each dim in the beams of the others."""
    subarray, centre = SubarrayConfig(), boresight(Schedule().catalogue[0])
    unix = UNIX + 3600 * hours
    field = draw_field(SITE, subarray, centre, unix, str(seed))
    assert field == draw_field(SITE, subarray, centre, unix, str(seed)) and field[0] == centre
    assert len({target.name for target in field}) == len(field) == subarray.field.targets
    places = geometry.positions(SITE, subarray.antennas)
    for count in range(2, len(field) + 1):
        assert told_apart(places, field[:count], unix, subarray.centre_frequency_hz) <= subarray.field.max_response
        away = geometry.separation(centre.radians(), field[count - 1].radians())
        assert 0.05 < math.degrees(away) <= subarray.field.radius_deg + 1e-9


def test_a_field_too_rich_for_the_array_is_refused() -> None:
    """Two antennas cannot tell many targets apart; the refusal says what to change."""
    subarray = SubarrayConfig(antennas=("m000", "m001"), field=FieldConfig(targets=30, max_response=0.01))
    with pytest.raises(Refused, match=r"lower field.targets"):
        draw_field(SITE, subarray, Position("x", 139.5, -12.1), UNIX, "1")


def test_antennas_need_a_position() -> None:
    """A schedule with an antenna that the site does not have is refused by name."""
    with pytest.raises(ValueError, match="m099"):
        Schedule(subarrays=(SubarrayConfig(antennas=("m000", "m099")),))
