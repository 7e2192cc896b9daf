"""Beamformer recipes: which beams an observation shall be searched in, and the delays that form them (``.bfr5``).

An HDF5 file of six groups. Axes are in C order; what the Julia package that writes them on site calls the first axis is
the last here::

    diminfo    npol nbeams nchan nants ntimes
    telinfo    antenna_positions (antennas, 3) metres east, north, up; antenna_position_frame 'enu'; antenna_names,
               antenna_numbers, antenna_diameters; latitude, longitude (degrees), altitude; telescope_name
    obsinfo    obsid; freq_array (channels) GHz; phase_center_ra, phase_center_dec radians; instrument_name
    calinfo    refant; cal_K (pol, antennas); cal_G (pol, antennas); cal_B, cal_all (channels, pol, antennas) complex64
    beaminfo   ras, decs (beams) radians; src_names (beams)
    delayinfo  delays, rates (times, beams, antennas) ns, ns/s; time_array (times) Unix seconds; jds (times); dut1

Delays are relative to the phase centre, in the sign of `socs_bl.simulators.geometry`: a beam is the sum over antennas of
``cal_all * exp(+2 pi i f tau)`` times the voltage, which is how seticore uses them. The whole band of the F-engines is
described; an instance's first channel is channel ``SCHAN`` of it. Calibration is ideal here: ones.

Source: BeamformerRecipes.jl and BluseBeamformerRecipes.jl (written), seticore ``recipe_file`` (read).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from socs_bl.capture.wire import POLARISATIONS
from socs_bl.core.whole_file import write_whole
from socs_bl.simulators import geometry
from socs_bl.simulators.config import SubarrayConfig
from socs_bl.simulators.field import Position
from socs_bl.simulators.site import Site

TIME_STEP = 1.0  # seconds between the entries of `time_array`
UNIX_EPOCH_JD = 2440587.5
SECONDS_PER_DAY = 86400.0


def recipe_path(directory: Path, obsid: str) -> Path:
    """Where searches look for the recipe of an observation: the id with hyphens in place of colons."""
    return directory / f"{obsid.replace(':', '-')}.bfr5"


def write_recipe(
    path: Path,
    site: Site,
    subarray: SubarrayConfig,
    obsid: str,
    centre: Position,
    beams: Sequence[Position],
    start: float,
    seconds: int,
) -> None:
    """Write a recipe, whole or not at all.

    Parameters
    ----------
    path : Path
    site : Site
    subarray : SubarrayConfig
    obsid : str
        ``<telescope>:<subarray>:<time>``.
    centre : Position
        Where the F-engines track delays.
    beams : sequence of Position
    start : float
        Unix time of the first delays, seconds.
    seconds : int
        How long the delays are given for, one each second.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        for group, values in _contents(site, subarray, obsid, centre, beams, start, seconds).items():
            for name, value in values.items():
                file.create_dataset(f"{group}/{name}", data=value)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, made.getvalue())


def _contents(
    site: Site,
    subarray: SubarrayConfig,
    obsid: str,
    centre: Position,
    beams: Sequence[Position],
    start: float,
    seconds: int,
) -> dict[str, dict[str, Any]]:
    """Datasets by group."""
    nants, nchan, nbeams = len(subarray.antennas), subarray.n_channels, len(beams)
    directions = np.array([beam.radians() for beam in beams])
    times = start + TIME_STEP * np.arange(seconds)
    places, tracked = geometry.positions(site, subarray.antennas), centre.radians()
    tables = [geometry.residual_delays(places, directions, tracked, float(time)) for time in times]
    names = h5py.string_dtype()
    return {
        "diminfo": {"npol": POLARISATIONS, "nbeams": nbeams, "nchan": nchan, "nants": nants, "ntimes": seconds},
        "telinfo": {
            "antenna_positions": np.array([site.antennas[name] for name in subarray.antennas]),
            "antenna_position_frame": np.bytes_("enu"),
            "antenna_names": np.array(subarray.antennas, dtype=names),
            "antenna_numbers": np.array([int(name[1:]) for name in subarray.antennas]),
            "antenna_diameters": np.full(nants, site.diameter_m),
            "latitude": site.latitude_deg,
            "longitude": site.longitude_deg,
            "altitude": site.altitude_m,
            "telescope_name": np.bytes_(site.telescope),
        },
        "obsinfo": {
            # Readers take this one for a string of fixed length.
            "obsid": np.bytes_(obsid),
            "freq_array": np.array([subarray.channel_centre_hz(channel) / 1e9 for channel in range(nchan)]),
            "phase_center_ra": tracked[0],
            "phase_center_dec": tracked[1],
            "instrument_name": np.bytes_("bluse"),
        },
        "calinfo": {
            "refant": np.bytes_(subarray.antennas[0]),
            "cal_K": np.zeros((POLARISATIONS, nants), np.float32),
            "cal_G": np.ones((POLARISATIONS, nants), np.complex64),
            "cal_B": np.ones((nchan, POLARISATIONS, nants), np.complex64),
            "cal_all": np.ones((nchan, POLARISATIONS, nants), np.complex64),
        },
        "beaminfo": {
            "ras": directions[:, 0],
            "decs": directions[:, 1],
            "src_names": np.array([beam.name for beam in beams], dtype=names),
        },
        "delayinfo": {
            "delays": 1e9 * np.array([delays for delays, _ in tables]),
            "rates": 1e9 * np.array([rates for _, rates in tables]),
            "time_array": times,
            "jds": UNIX_EPOCH_JD + times / SECONDS_PER_DAY,
            "dut1": 0.0,
        },
    }
