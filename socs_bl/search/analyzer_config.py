"""Configuration of an instance's analyzer."""

from __future__ import annotations

from pydantic import Field

from socs_bl.core.config import Config
from socs_bl.search.config import SearchConfig


class AnalyzerConfig(Config):
    """How an analyzer searches and what it keeps.

    Attributes
    ----------
    search : SearchConfig
        What to look for.
    keep_raw : bool
        False: delete raw data once they are searched completely, their products written and catalogued, and the run is
        not to be preserved.
    least_free_bytes : float
        Below this much free space the agent is degraded, bytes.
    longest_queue : int
        Runs that may wait.
    warm_up : bool
        Compile the loops of the search when the agent starts, not at the first recording.
    """

    search: SearchConfig = SearchConfig()
    keep_raw: bool = True
    least_free_bytes: float = Field(default=1 << 30, ge=0)
    longest_queue: int = Field(default=1000, ge=1)
    warm_up: bool = True
