"""Directories, modes and groups of SuperDARN Canada, as data: `places.yaml`, which a site replaces by its own of the same form."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from socs_bl.core.errors import Refused
from socs_bl.superdarn.names import BlockName, PlotName

ORIGINAL = Path(__file__).with_name("places.yaml")

_FIELDS = re.compile(r"\{([^{}]*)\}")
_KNOWN = frozenset({"radar", "day", "folder", "home"})
_MODEL = ConfigDict(extra="forbid", frozen=True)


class Place(BaseModel):
    """A directory of files of one kind."""

    model_config = _MODEL

    host: Literal["borealis", "site", "campus", "mirror"]
    path: str
    """With ``{radar}``, ``{day}``, ``{folder}`` and ``{home}`` where a file's name or the user decides."""

    mode: Annotated[str, Field(pattern=r"^[0-7]{3}$")]
    """Of the files, octal."""

    group: bool = False
    """Whether the files are given to the group of those who collect them."""

    generation: Literal["v0", "both"] = "both"
    """Which radars' files go here."""

    @field_validator("path")
    @classmethod
    def _known_fields(cls, path: str) -> str:
        unknown = sorted(set(_FIELDS.findall(path)) - _KNOWN)
        if unknown:
            raise ValueError(f"path {path!r} has {{{unknown[0]}}}; known are {', '.join(sorted(_KNOWN))}")
        return path

    def directory(self, name: BlockName | PlotName, home: Path | None = None) -> Path:
        """The directory that a file belongs into.

        Raises
        ------
        Refused
            When the place is below a home and none is given.
        """
        if home is None and "{home}" in self.path:
            raise Refused(f"place {self.path} is below a user's home; say which")
        fields = {"radar": name.radar, "day": f"{name.time:%Y%m%d}", "folder": name.folder, "home": str(home)}
        return Path(_FIELDS.sub(lambda match: fields[match.group(1)], self.path))

    @property
    def bits(self) -> int:
        """The mode as a number."""
        return int(self.mode, 8)


class Places(BaseModel):
    """All directories of a data flow."""

    model_config = _MODEL

    radars: tuple[Annotated[str, Field(pattern=r"^[a-z]{3}$")], ...]
    group: str
    distributed_cpids: tuple[int, ...]
    places: dict[str, Place]

    def place(self, name: str) -> Place:
        """A place by its name.

        Raises
        ------
        Refused
            When there is none.
        """
        try:
            return self.places[name]
        except KeyError:
            raise Refused(f"there is no place {name!r:.50}; there are {', '.join(sorted(self.places))}") from None


def read_places(path: Path = ORIGINAL) -> Places:
    """Read a file of places.

    Raises
    ------
    OSError
        When it cannot be read.
    yaml.YAMLError, ValueError
        When it is not YAML of this form; says where.
    """
    return Places.model_validate(yaml.safe_load(path.read_text()))
