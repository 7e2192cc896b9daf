"""What the simulated target selector offers of a field of view: the target itself and some others around it.

Targets that the array cannot tell apart are not both taken: the beam on one must hear the other with at most
`FieldConfig.max_response` of its power, at the time of the observation and in the middle of the band. Everything is
drawn from a seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
import numpy as np

from socs_bl.core.errors import Refused
from socs_bl.simulators import geometry
from socs_bl.simulators.config import SubarrayConfig
from socs_bl.simulators.site import Site
from socs_bl.simulators.target import Target

# A first target may stand so that no further one can be told apart; then the field is drawn anew.
ATTEMPTS = 10
TRIES = 300


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named direction.

    Attributes
    ----------
    name : str
    ra_deg, dec_deg : float
        ICRS, degrees.
    """

    name: str
    ra_deg: float
    dec_deg: float

    def radians(self) -> geometry.Array:
        """Right ascension and declination, radians: (2,)."""
        return np.radians([self.ra_deg, self.dec_deg])


def boresight(target: Target) -> Position:
    """The phase centre of a track."""
    return Position(target.name, target.ra_degrees, target.dec_degrees)


def draw_field(site: Site, subarray: SubarrayConfig, centre: Position, unix: float, seed: str) -> tuple[Position, ...]:
    """The targets of a field, the phase centre first.

    Parameters
    ----------
    site : Site
    subarray : SubarrayConfig
    centre : Position
        The phase centre.
    unix : float
        When the targets must be told apart, Unix seconds.
    seed : str

    Raises
    ------
    Refused
        When the array cannot tell so many targets apart.
    """
    config, places = subarray.field, geometry.positions(site, subarray.antennas)
    for attempt in range(ATTEMPTS):
        draw = random.Random(f"{seed}/{subarray.name}/{centre.name}/field/{attempt}")
        found = [centre]
        for _ in range(TRIES):
            if len(found) == config.targets:
                return tuple(found)
            candidate = _candidate(draw, centre, config.radius_deg, len(found))
            if told_apart(places, [*found, candidate], unix, subarray.centre_frequency_hz) <= config.max_response:
                found.append(candidate)
    raise Refused(
        f"{subarray.name}: {config.targets} targets within {config.radius_deg:g} degrees cannot be told apart by"
        f" {len(subarray.antennas)} antennas; lower field.targets or raise field.max_response"
    )


def _candidate(draw: random.Random, centre: Position, radius_deg: float, number: int) -> Position:
    """A position evenly over the disc, but for its very middle, which is the phase centre's."""
    radius = math.radians(radius_deg) * math.sqrt(draw.uniform(0.04, 1.0))
    angle = draw.uniform(0.0, 2 * math.pi)
    ra, dec = np.degrees(geometry.offset(centre.radians(), radius * math.sin(angle), radius * math.cos(angle)))
    return Position(f"{centre.name}_{number}", float(ra), float(dec))


def told_apart(places: geometry.Array, targets: Sequence[Position], unix: float, frequency_hz: float) -> float:
    """The largest power with which the beam on the last of `targets` hears one of the others, 0 to 1."""
    directions = np.array([target.radians() for target in targets])
    found = geometry.delays(places, directions, unix)
    return max((geometry.response(row - found[-1], frequency_hz) for row in found[:-1]), default=0.0)
