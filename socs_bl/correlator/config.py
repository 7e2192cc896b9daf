"""Configuration of a node of the correlator's back end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from socs_bl.core.config import Config

MEBIBYTE = 1 << 20


class RestartPolicy(Config):
    """How processes that end by themselves are started again.

    Attributes
    ----------
    first_pause, longest_pause : float
        Seconds before the first restart; the pause doubles with each until it is the longest.
    stable_seconds : float
        A process that ran for so long has not failed before.
    quarantine_after : int
        A lag pipeline that has failed so often in a row is left alone until its configuration is activated again.
    """

    first_pause: float = Field(default=0.2, gt=0)
    longest_pause: float = Field(default=30.0, gt=0)
    stable_seconds: float = Field(default=60.0, gt=0)
    quarantine_after: int = Field(default=5, ge=1)


class NodeConfig(Config):
    """How one node runs its processes, and what they may use.

    Attributes
    ----------
    bdfdir : Path or None
        Directory in which binary files are created, such as ``/data/wcbe/.private``; None: ``.private`` in
        ``$WCBE_BDFDIR``, else none until somebody sets it.
    bls_directory : Path or None
        Where lag set files are written; None: ``<instance-id>.bls`` in the directory for temporary files.
    ring_directory : Path
        A file system in memory, for the rings between the processes.
    ring_bytes : int
        What the rings of all configurations may use together.
    slots : int
        Dumps that a ring holds; 0: as many as are open at the same time, and some for its pipeline to fall behind.
    document_bytes : int
        Size of a configuration document.
    configurations, recordings : int
        How many may exist; how many may be open.
    start_seconds : float
        Time a process may take until it answers; the first time its loops are compiled.
    end_seconds : float
        Time a process may take to end by itself.
    frame_patience : float
        A recording whose stop is over is waited for so long after the last frame came, seconds.
    restart : RestartPolicy
    """

    bdfdir: Path | None = None
    bls_directory: Path | None = None
    ring_directory: Path = Path("/dev/shm")
    ring_bytes: int = Field(default=1024 * MEBIBYTE, ge=MEBIBYTE)
    slots: Literal[0] | Annotated[int, Field(ge=4, le=1024)] = 0
    document_bytes: int = Field(default=32 * MEBIBYTE, ge=1024, le=64 * MEBIBYTE)
    configurations: int = Field(default=64, ge=1, le=1000)
    recordings: int = Field(default=64, ge=1, le=1000)
    start_seconds: float = Field(default=120.0, gt=0)
    end_seconds: float = Field(default=10.0, gt=0)
    frame_patience: float = Field(default=10.0, gt=0)
    restart: RestartPolicy = RestartPolicy()

    def for_machine(self, node: str) -> dict[str, Any]:
        """What the machine must know of it; see `socs_bl.correlator.model.Settings`."""
        known = {name: getattr(self, name) for name in ("ring_bytes", "configurations", "recordings", "frame_patience")}
        return {"node": node, **known, **self.restart.model_dump()}
