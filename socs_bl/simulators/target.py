"""Directions on the sky, as CAM's target sensor describes them (katpoint description, ``radec`` targets only)."""

from __future__ import annotations

import re

from pydantic import field_validator

from socs_bl.core.config import Config, check
from socs_bl.core.errors import Refused

_HOURS = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?")
_DEGREES = re.compile(r"[+-]?([0-8]?[0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]+)?|90:00:00(\.0+)?)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 +\-.]{0,40}")


class Target(Config):
    """A direction on the sky.

    Attributes
    ----------
    name : str
    aliases : tuple of str
        Further names.
    ra, dec : str
        J2000, sexagesimal hours and degrees.
    """

    name: str
    aliases: tuple[str, ...] = ()
    ra: str
    dec: str

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a target name is letters, digits, blanks, '+', '-' and '.', at most 41 characters")
        return value

    @field_validator("aliases")
    @classmethod
    def _aliases(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cls._name(alias) for alias in value)

    @field_validator("ra")
    @classmethod
    def _ra(cls, value: str) -> str:
        if not _HOURS.fullmatch(value):
            raise ValueError("write a right ascension like 9:18:05.28")
        return value

    @field_validator("dec")
    @classmethod
    def _dec(cls, value: str) -> str:
        if not _DEGREES.fullmatch(value):
            raise ValueError("write a declination like -12:05:48.9")
        return value

    @property
    def description(self) -> str:
        """The katpoint description CAM's target sensor holds: ``name | alias, radec, RA, DEC``."""
        return f"{' | '.join((self.name, *self.aliases))}, radec, {self.ra}, {self.dec}"

    @property
    def ra_degrees(self) -> float:
        """Right ascension, degrees."""
        return 15.0 * _sexagesimal(self.ra)

    @property
    def dec_degrees(self) -> float:
        """Declination, degrees."""
        return _sexagesimal(self.dec)


def _sexagesimal(text: str) -> float:
    """``[+-]a:b:c`` in units of a."""
    whole, minutes, seconds = text.lstrip("+-").split(":")
    value = int(whole) + int(minutes) / 60.0 + float(seconds) / 3600.0
    return -value if text.startswith("-") else value


def parse_target(description: str) -> Target:
    """Parse ``name | alias, radec, RA, DEC``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    parts = [part.strip() for part in description.split(",")]
    if len(parts) != 4 or parts[1] != "radec":
        raise Refused(
            f"target {description!r:.80} is not in the catalogue; write it like 'Hyd A, radec, 9:18:05.28, -12:05:48.9'"
        )
    name, *aliases = (name.strip() for name in parts[0].split("|"))
    return check(
        {"name": name, "aliases": tuple(aliases), "ra": parts[2], "dec": parts[3]}, Target, f"target {name!r:.80}"
    )


CATALOGUE = (
    Target(name="J0918-1205", aliases=("Hyd A", "3C 218"), ra="9:18:05.28", dec="-12:05:48.9"),
    Target(name="J1939-6342", aliases=("PKS 1934-63",), ra="19:39:25.03", dec="-63:42:45.6"),
    Target(name="J0408-6545", aliases=("PKS 0408-65",), ra="4:08:20.38", dec="-65:45:09.1"),
    Target(name="J1331+3030", aliases=("3C 286",), ra="13:31:08.29", dec="+30:30:33.0"),
    Target(name="J0521+1638", aliases=("3C 138",), ra="5:21:09.89", dec="+16:38:22.1"),
    Target(name="J0025-2602", aliases=("OB-238",), ra="0:25:49.16", dec="-26:02:12.6"),
)
