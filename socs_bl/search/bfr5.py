"""Beamformer recipes: where the beams of an observation point, and the phases that point them.

A recipe is an HDF5 file ``<OBSID with ':' as '-'>.bfr5``. What a search needs of it, with shapes in C order:

=========================  =======================  ==========================================================
``/diminfo/nants`` ...     integers                 also ``nbeams``, ``nchan``, ``npol``; ``ntimes`` is not always there
``/obsinfo/obsid``         text
``/calinfo/cal_all``       complex (nchan, npol,    gain to apply to each input; compound of ``r`` and ``i``
                           nants)
``/beaminfo/ras decs``     float64 (nbeams,)        radians
``/beaminfo/src_names``    text (nbeams,)
``/delayinfo/delays``      float64 (ntimes,         nanoseconds, relative to the phase centre of the recording
                           nbeams, nants)
``/delayinfo/time_array``  float64 (ntimes,)        Unix seconds
=========================  =======================  ==========================================================

The weight of antenna ``a`` for beam ``b`` at frequency ``f`` is ``cal_all * exp(+2 pi i f delay)``; a beam's voltage is
the sum of weight x voltage over antennas. Row 0 of ``cal_all`` is channel 0 of the F-engines; a recording's first
coarse channel is its card ``SCHAN``.

Source: seticore ``recipe_file.cpp`` (what is read, units, look-up by OBSID, nearest time) and BluseBeamformerRecipes.jl
(what is written; Julia's axes are the reverse of these).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused

_MAX_BEAMS = 4096


@dataclass(frozen=True)
class Beam:
    """Where a beam points.

    Attributes
    ----------
    number : int
        From 0; -1 is the incoherent beam, which sees all that the antennas see.
    name : str
        Of the target; empty for the incoherent beam.
    ra_hours, dec_degrees : float
        J2000; not finite when nobody has said.
    """

    number: int
    name: str
    ra_hours: float = math.nan
    dec_degrees: float = math.nan


INCOHERENT = Beam(-1, "")


@dataclass(frozen=True)
class Recipe:
    """A beamformer recipe.

    Attributes
    ----------
    path : Path
    obsid : str
    beams : tuple[Beam, ...]
    gains : numpy.ndarray
        complex64 (nchan, npol, nants).
    delays : numpy.ndarray
        float64 (ntimes, nbeams, nants), nanoseconds.
    times : numpy.ndarray
        float64 (ntimes,), Unix seconds, ascending.
    """

    path: Path
    obsid: str
    beams: tuple[Beam, ...]
    gains: npt.NDArray[np.complex64]
    delays: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]

    @property
    def antennas(self) -> int:
        """Antennas that the recipe has weights for."""
        return int(self.gains.shape[2])

    def check(self, antennas: int, polarisations: int, first_channel: int, channels: int) -> None:
        """Raise Refused unless a recording of this shape can be beamformed with the recipe."""
        known, has, _ = self.gains.shape
        if antennas != self.antennas or polarisations != has:
            raise Refused(
                f"{self.path} is for {self.antennas} antennas of {has} polarisations, the recording has {antennas} of"
                f" {polarisations} (NANTS, NPOL); use the recipe of this observation"
            )
        if first_channel < 0 or first_channel + channels > known:
            raise Refused(
                f"{self.path} has gains for channels 0 to {known - 1}, the recording has {first_channel} to"
                f" {first_channel + channels - 1} (SCHAN); use the recipe of this observation"
            )

    def time_index(self, unix: float) -> int:
        """Place of the delays nearest in time."""
        right = int(np.searchsorted(self.times, unix))
        if right in (0, self.times.size):
            return min(right, self.times.size - 1)
        return right if self.times[right] - unix < unix - self.times[right - 1] else right - 1

    def weights(self, channel: int, centre_hz: float, time_index: int) -> npt.NDArray[np.complex64]:
        """Weights of one coarse channel at one time.

        Parameters
        ----------
        channel : int
            F-engine channel: row of `gains`.
        centre_hz : float
            Its centre on the sky.
        time_index : int
            Row of `delays`.

        Returns
        -------
        numpy.ndarray
            complex64 (npol, nbeams, nants).
        """
        phase = np.exp(2j * np.pi * ((centre_hz * 1e-9) * self.delays[time_index]))
        return np.asarray(self.gains[channel][:, None, :] * phase[None], np.complex64)


def recipe_path(directory: Path, obsid: str) -> Path:
    """Where the recipe of an observation is."""
    return directory / f"{obsid.replace(':', '-')}.bfr5"


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    Refused
        When the file is not a recipe, or its parts contradict each other.
    """
    try:
        with h5py.File(path, "r") as file:
            return _checked(path, file)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        # h5py and numpy say with these that a data set is missing, is a group, or holds another type.
        raise Refused(f"{path}: cannot be read as a beamformer recipe ({error}); make it again") from error


def _checked(path: Path, file: Any) -> Recipe:
    """The recipe in an open file."""
    sizes = {name: int(file[f"diminfo/{name}"][()]) for name in ("nants", "nbeams", "nchan", "npol")}
    if not all(size > 0 for size in sizes.values()) or sizes["nbeams"] > _MAX_BEAMS:
        raise Refused(f"{path}: dimensions {sizes} make no sense; make the recipe again")
    times = np.asarray(file["delayinfo/time_array"][()], np.float64).reshape(-1)
    shapes = {
        "calinfo/cal_all": (sizes["nchan"], sizes["npol"], sizes["nants"]),
        "delayinfo/delays": (times.size, sizes["nbeams"], sizes["nants"]),
        "beaminfo/ras": (sizes["nbeams"],),
        "beaminfo/decs": (sizes["nbeams"],),
        "beaminfo/src_names": (sizes["nbeams"],),
    }
    for name, shape in shapes.items():
        if file[name].shape != shape:
            raise Refused(f"{path}: {name} has shape {file[name].shape}, {shape} is right; make the recipe again")
    gains, delays = _complex(file["calinfo/cal_all"][()]), np.asarray(file["delayinfo/delays"][()], np.float64)
    ras, decs = (np.asarray(file[f"beaminfo/{name}"][()], np.float64) for name in ("ras", "decs"))
    if not all(np.isfinite(values).all() for values in (gains, delays, times, ras, decs)):
        raise Refused(f"{path}: holds numbers that are not finite; make the recipe again")
    if times.size == 0 or np.any(np.diff(times) <= 0):
        raise Refused(f"{path}: its times do not ascend; make the recipe again")
    names = [_text(name) for name in file["beaminfo/src_names"][()]]
    beams = tuple(
        Beam(number, name, math.degrees(ra) / 15, math.degrees(dec))
        for number, (name, ra, dec) in enumerate(zip(names, ras, decs, strict=True))
    )
    return Recipe(path, _text(file["obsinfo/obsid"][()]), beams, gains, delays, times)


def _complex(values: npt.NDArray[Any]) -> npt.NDArray[np.complex64]:
    """Complex numbers, which some libraries write as a compound of ``r`` and ``i``, others of ``re`` and ``im``."""
    for real, imaginary in (("r", "i"), ("re", "im")):
        if values.dtype.names == (real, imaginary):
            return np.asarray(values[real] + 1j * values[imaginary], np.complex64)
    return np.asarray(values, np.complex64)


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace").rstrip("\0") if isinstance(value, bytes) else str(value)
