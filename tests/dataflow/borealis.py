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


class Plots(Config):
    """Parameters of the plots."""

    antennas: int = 16


class DmapCheck:
    """Looks at files."""

    kind = "inspect"
    parameters = Nothing


class Bzip2:
    """Makes smaller files."""

    kind = "transform"
    parameters = Nothing


class IqPlot:
    """Makes pictures."""

    kind = "derive"
    parameters = Plots


def _broken() -> Any:
    raise ImportError("No module named 'darn'")


OFFERED: dict[str, Loader] = {
    "dmap_check": lambda: DmapCheck,
    "bzip2": lambda: Bzip2,
    "iq_plot": lambda: IqPlot,
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
