"""A pipeline as a radar site has it, and stages that can be named without any package that offers some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from socs_bl.core.config import Config
from socs_bl.dataflow.check import Loader

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "borealis-site.yaml"


class Nothing(Config):
    """No parameters."""


class Names(Config):
    """Parameters of the look at names."""

    radars: tuple[str, ...] = ()


class Plots(Config):
    """Parameters of the plots."""

    antennas: tuple[int, ...] = ()


def _offered(kind_of: str, model: type[Config]) -> Loader:
    """What an entry point gives: a class of this kind, with these parameters."""
    return lambda: type("Offered", (), {"kind": kind_of, "parameters": model})


def _broken() -> Any:
    raise ImportError("No module named 'darn'")


OFFERED: dict[str, Loader] = {
    "borealis_name": _offered("inspect", Names),
    "check_dmap": _offered("inspect", Nothing),
    "route_cpid": _offered("route", Nothing),
    "bzip2": _offered("transform", Nothing),
    "plot_antennas_iq": _offered("derive", Plots),
    "needs_darn": _broken,
}


def raw() -> Any:
    """The pipeline as YAML gives it, to be changed."""
    return yaml.safe_load(EXAMPLE.read_text())


def stage(config: Any, name: str) -> Any:
    """One stage of it."""
    return next(stage for stage in config["stages"] if stage["id"] == name)


def write(path: Path, config: Any) -> Path:
    """Write it as a file."""
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
