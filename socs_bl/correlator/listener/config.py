"""Configuration of the listener to the named pipe."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from socs_bl.core.config import Config
from socs_bl.correlator.observation.config import Nodes


class ListenerConfig(Config):
    """Where the pipe is, who may write, and which nodes are configured.

    Attributes
    ----------
    pipe : Path
        The named pipe, made with mode 660 where there is none.
    group : str
        Group that may write into it; empty: that of the process.
    nodes : tuple of str
        OCS instance-ids of the nodes of the back end.
    first_pause, longest_pause : float
        Seconds before a node that did not answer is asked again: doubled each time, up to the longest.
    give_up : float
        Seconds after which a configuration that a node still has not taken is given up.
    """

    pipe: Path = Path("/tmp/wcbe-dev/config")
    group: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,32}$")
    nodes: Nodes = ("cbe-01",)
    first_pause: float = Field(default=0.5, gt=0)
    longest_pause: float = Field(default=10.0, gt=0)
    give_up: float = Field(default=60.0, gt=0)
