"""Configuration of an instance's analyzer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from socs_bl.core.config import Config
from socs_bl.search.config import SearchConfig


class SeticoreConfig(Config):
    """How seticore is called (`socs_bl.search.seticore`); names and meanings are those of its command line.

    Attributes
    ----------
    program : str
        The executable: a path, or a name that is found in PATH.
    snr : float
        Smallest signal-to-noise ratio of a hit.
    max_drift : float
        Hz/s.
    num_bands : int
        Parts the band is searched in, one after the other; more of them take less memory on the device.
    fine_channels : int
        Of the whole recording.
    telescope_id : int
        SIGPROC's number; 64 is MeerKAT.
    recipe_dir : str
        Directory with the beamformer recipes.
    h5_dir : str
        Directory below that of the products for the beams as filterbank files; empty: none are written.
    more : tuple of str
        Further arguments, as they are.
    min_duration_s : float
        Recordings shorter than this are not searched, seconds.
    deadline_s : float
        After this it is ended and counts as overdue, seconds.
    log_bytes : int
        Of its output so much is kept beside the products.
    """

    program: str = "seticore"
    snr: float = Field(default=6.0, gt=0)
    max_drift: float = Field(default=10.0, gt=0)
    num_bands: int = Field(default=16, ge=1)
    fine_channels: int = Field(default=8_388_608, ge=1)
    telescope_id: int = 64
    recipe_dir: str = ""
    h5_dir: str = ""
    more: tuple[str, ...] = ()
    min_duration_s: float = Field(default=150.0, ge=0)
    deadline_s: float = Field(default=3 * 3600.0, gt=0)
    log_bytes: int = Field(default=1 << 20, ge=0)


class AnalyzerConfig(Config):
    """How an analyzer searches and what it keeps.

    Attributes
    ----------
    engine : str
        ``built-in`` searches on the processor, ``seticore`` calls that program.
    search : SearchConfig
        What the built-in engine looks for.
    seticore : SeticoreConfig
        How the other one is called.
    keep_raw : bool
        False: delete raw data once they are searched completely, their products written and catalogued, and the
        directory is not preserved.
    delete_short : bool
        Where raw data are not kept: delete those too that are too short to be searched.
    reclaim : bool
        Whatever `keep_raw` says: when the disk with the recordings is fuller than `monitor_disk` allows, delete those
        searched completely, the oldest first, until it is not.
    buffers : tuple of str
        Directories, as the instance calls them, that the data directories lie in; `monitor_disk` looks there, and where
        it was asked to search. The first one's disk is the one that may run short.
    least_free_bytes : float
        Below this much free space the agent is degraded, bytes.
    beams : int
        What the target selector is told about the number of beams.
    longest_queue : int
        Runs that may wait.
    warm_up : bool
        Compile the loops of the built-in search when the agent starts, not at the first recording.
    """

    engine: Literal["built-in", "seticore"] = "built-in"
    search: SearchConfig = SearchConfig()
    seticore: SeticoreConfig = SeticoreConfig()
    keep_raw: bool = True
    delete_short: bool = False
    reclaim: bool = False
    buffers: tuple[str, ...] = ()
    least_free_bytes: float = Field(default=1 << 30, ge=0)
    beams: int = Field(default=64, ge=1)
    longest_queue: int = Field(default=1000, ge=1)
    warm_up: bool = True
