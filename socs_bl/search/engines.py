"""The engines: what does the searching, behind one interface.

Each runs in a process of its own, ``python -m socs_bl.search --engine NAME``, that ends with the agent; it tells its
progress and describes its end in the same way whatever the engine (`socs_bl.search.ending`).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from socs_bl.core import config as configuration
from socs_bl.search.analyzer_config import AnalyzerConfig, SeticoreConfig
from socs_bl.search.config import SearchConfig


class Engine(NamedTuple):
    """One engine and how it is set up.

    Attributes
    ----------
    name : str
        As in ``--engine``.
    settings : SearchConfig or SeticoreConfig
        What is configured.
    """

    name: str = "built-in"
    settings: SearchConfig | SeticoreConfig = SearchConfig()

    def arguments(self, min_duration: float | None, snr: float | None) -> list[str]:
        """Arguments of ``python -m socs_bl.search`` besides ``--input`` and ``--output``.

        Parameters
        ----------
        min_duration, snr : float or None
            Instead of what is configured.

        Raises
        ------
        Refused
            When they are not what the engine can do.
        """
        given = {"min_duration_s": min_duration, "snr": snr}
        changes = {name: value for name, value in given.items() if value is not None}
        asked = configuration.check({**self.settings.model_dump(), **changes}, type(self.settings), self.name)
        return ["--engine", self.name, "--settings", asked.model_dump_json()]


def engine_of(config: AnalyzerConfig, recipe_dir: str | None = None) -> Engine:
    """The engine a configuration asks for; `recipe_dir`, when given, is where its recipes are."""
    if config.engine == "seticore":
        return Engine(
            config.engine, config.seticore.model_copy(update={"recipe_dir": recipe_dir} if recipe_dir else {})
        )
    return Engine(
        config.engine, config.search.model_copy(update={"recipe_dir": Path(recipe_dir)} if recipe_dir else {})
    )
