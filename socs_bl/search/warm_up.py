"""Compile the loops before the first recording, so that its search does not wait for the compiler."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np

from socs_bl.capture.guppi import Value, encode_header
from socs_bl.search.bfr5 import recipe_path
from socs_bl.search.config import SearchConfig
from socs_bl.search.engine import search_recording

HEAP, CHANNELS, HEAPS, OBSID = 16, 2, 40, "warm-up"
CONFIG = SearchConfig(fine_channels=64, max_drift_hz_s=1e-4, min_duration_s=0.0, max_missing=0.9, plots=0)


def warm_up(cache: Path) -> None:
    """Search a few kilobytes of made-up noise with a gap and a tone, in two beams: that goes through every compiled loop.

    Several analyzers start together: one compiles, the others wait for it and load the result.

    Parameters
    ----------
    cache : Path
        Directory of the compiled loops.
    """
    cache.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1).integers(-40, 40, (1, CHANNELS, HEAPS * HEAP, 2, 2))
    tone = 60 * np.exp(2j * np.pi * 0.3 * np.arange(HEAPS * HEAP))
    samples = (noise + np.stack([tone.real, tone.imag], -1)[None, None, :, None]).astype(np.int8)
    samples[:, :, HEAP : 2 * HEAP] = 0
    cards: dict[str, Value] = {
        "OBSFREQ": 1400.0, "OBSBW": CHANNELS * 1e-6, "CHAN_BW": 1e-6, "TBIN": 1.0, "OBSNCHAN": CHANNELS, "NANTS": 1,
        "NPOL": 4, "NBITS": 8, "DIRECTIO": 0, "BLOCSIZE": samples.size, "HNTIME": HEAP, "PKTIDX": 0, "OBSID": OBSID,
    }  # fmt: skip
    lock = os.open(cache / ".compiling", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(prefix="socs_bl-warm-up-") as directory:
            path = Path(directory) / "noise.0000.raw"
            path.write_bytes(encode_header(cards) + samples.tobytes())
            _write_recipe(recipe_path(Path(directory), OBSID))
            config = CONFIG.model_copy(update={"recipe_dir": Path(directory)})
            search_recording([path], config, lambda step, done, total: None)
    finally:
        os.close(lock)


def _write_recipe(path: Path) -> None:
    """A recipe of one beam for one antenna."""
    with h5py.File(path, "w") as file:
        for name, value in {
            "diminfo/nants": 1, "diminfo/nbeams": 1, "diminfo/nchan": CHANNELS, "diminfo/npol": 2,
            "obsinfo/obsid": OBSID, "calinfo/cal_all": np.ones((CHANNELS, 2, 1), np.complex64),
            "beaminfo/ras": [0.0], "beaminfo/decs": [0.0], "beaminfo/src_names": [b"none"],
            "delayinfo/delays": np.zeros((1, 1, 1)), "delayinfo/time_array": [0.0],
        }.items():  # fmt: skip
            file[name] = value
