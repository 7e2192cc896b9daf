"""Configuration files: YAML read safely into strict pydantic models, with errors a person can act on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from socs_bl.core.errors import Refused


class Config(BaseModel):
    """Base of every configuration model: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=Config)


def load(path: Path, model: type[ConfigT]) -> ConfigT:
    """Read `path` into `model`; an empty file gives the defaults.

    Raises
    ------
    Refused
        When the file cannot be read, is not YAML, or does not fit the model. The text names the file, the key,
        the value and what would be right.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}); give the path of an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: is not YAML ({str(error).splitlines()[0]}); correct the file") from error
    return check({} if raw is None else raw, model, str(path))


def check(raw: object, model: type[ConfigT], origin: str) -> ConfigT:
    """Validate already parsed values; `origin` names where they came from in the error."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{origin}: {'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']} (found {item['input']!r:.80})"
            for item in error.errors()
        ]
        raise Refused("\n".join(lines)) from error


def from_arguments(args: Namespace, model: type[ConfigT]) -> ConfigT:
    """A model whose attributes are arguments of the same names; what was not given has the model's default.

    Raises
    ------
    Refused
        When a value is not possible.
    """
    given = {name: value for name in model.model_fields if (value := getattr(args, name)) is not None}
    return check(given, model, "arguments")
