"""Dynamic spectra of the beams as FBH5 files, one a beam.

An FBH5 file is HDF5 with root attributes ``CLASS`` ``FILTERBANK`` and ``VERSION`` ``1.0`` and a data set ``data``, float32
(spectra, 1, channels), whose attributes are the header: ``fch1`` (centre of the first channel, MHz), ``foff`` (MHz, with
the sign of the axis), ``tstart`` (MJD), ``tsamp`` (s), ``src_raj`` (hours), ``src_dej`` (degrees) and so on. ``nfpc`` is
the number of fine channels per coarse channel. Chunks are compressed with bitshuffle and LZ4.

Source: blimpy ``io/hdf_writer.py`` and ``hdf_reader.py``; ``nfpc`` as rawspec writes it.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from socs_bl.capture.guppi import Header
from socs_bl.search.bfr5 import INCOHERENT, Beam
from socs_bl.search.voltages import Band, start_mjd

_CHUNK_CHANNELS = 1 << 16


def sexagesimal(text: str) -> float:
    """``[-]dd:mm:ss.s`` in units of its first part; not a number when it is something else."""
    try:
        parts = [abs(float(part)) for part in text.split(":")]
    except ValueError:
        return math.nan
    if len(parts) != 3 or not all(map(math.isfinite, parts)):
        return math.nan
    size = parts[0] + parts[1] / 60 + parts[2] / 3600
    return -size if text.strip().startswith("-") else size


def direction(header: Header, beam: Beam) -> tuple[float, float]:
    """Right ascension (hours) and declination (degrees) of a beam; the incoherent one is where the antennas point.

    Not known is 0, 0, which is what readers of these formats expect.
    """
    ra, dec = beam.ra_hours, beam.dec_degrees
    if beam.number == INCOHERENT.number:
        ra, dec = sexagesimal(header.text("RA_STR", "")), sexagesimal(header.text("DEC_STR", ""))
    return (ra, dec) if math.isfinite(ra) and math.isfinite(dec) else (0.0, 0.0)


def band_attributes(header: Header, band: Band, spectrum_s: float, telescope_id: int) -> dict[str, Any]:
    """What the headers of all beams have in common."""
    return {
        "fch1": band.frequency_mhz(0), "foff": band.fine_hz * 1e-6, "nchans": band.channels * band.fine, "nifs": 1,
        "nbits": 32, "nfpc": band.fine, "tstart": start_mjd(header), "tsamp": spectrum_s, "telescope_id": telescope_id,
        "machine_id": 0, "data_type": 1, "ibeam": 0, "nbeams": 1, "az_start": 0.0, "za_start": 0.0,
        "source_name": header.text("SRC_NAME", "unknown"), "rawdatafile": Path(header.origin).name,
    }  # fmt: skip


def beam_file(prefix: Path, beam: Beam) -> Path:
    """Name of a beam's file."""
    name = "incoherent" if beam.number == INCOHERENT.number else f"beam{beam.number:02d}"
    return prefix.with_name(f"{prefix.name}.{name}.h5")


class FilterbankWriter:
    """Writes the files of all beams, coarse channel by coarse channel; they appear when it is left without an error.

    Parameters
    ----------
    prefix : Path
        ``<directory>/<stem>``; the directory is made.
    beams : Sequence[Beam]
        Their files are ``<prefix>.beamNN.h5`` and ``<prefix>.incoherent.h5``.
    band : Band
    spectra : int
    header : Header
        Of the recording.
    attributes : Mapping[str, Any]
        As `band_attributes` makes them.

    Raises
    ------
    OSError
        When a file cannot be written.
    """

    def __init__(
        self,
        prefix: Path,
        beams: Sequence[Beam],
        band: Band,
        spectra: int,
        header: Header,
        attributes: Mapping[str, Any],
    ) -> None:
        self.paths = tuple(beam_file(prefix, beam) for beam in beams)
        self._fine = band.fine
        self._files: list[h5py.File] = []
        private = f"{os.getpid()}-{threading.get_ident()}.part"
        self._private = [path.with_name(f".{path.name}.{private}") for path in self.paths]
        prefix.parent.mkdir(parents=True, exist_ok=True)
        shape = (spectra, 1, band.channels * band.fine)
        for path, beam in zip(self._private, beams, strict=True):
            file = h5py.File(path, "w")
            self._files.append(file)
            file.attrs["CLASS"], file.attrs["VERSION"] = "FILTERBANK", "1.0"
            data = file.create_dataset(
                "data", shape, np.float32, chunks=(1, 1, min(band.fine, _CHUNK_CHANNELS)), **hdf5plugin.Bitshuffle()
            )
            for axis, label in enumerate(("time", "feed_id", "frequency")):
                data.dims[axis].label = label
            ra, dec = direction(header, beam)
            named = {"source_name": beam.name} if beam.name else {}
            data.attrs.update({**attributes, "src_raj": ra, "src_dej": dec, "ibeam": beam.number, **named})

    def __enter__(self) -> FilterbankWriter:
        return self

    def write(self, beam: int, channel: int, power: npt.NDArray[np.float32]) -> None:
        """Write one coarse channel, float32 (spectra, fine), of the beam in place `beam`."""
        self._files[beam]["data"][:, 0, channel * self._fine : (channel + 1) * self._fine] = power

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for file in self._files:
                file.close()
            if kind is None:
                for private, path in zip(self._private, self.paths, strict=True):
                    with open(private, "rb") as written:
                        os.fsync(written.fileno())
                    os.replace(private, path)
        finally:
            for private in self._private:
                private.unlink(missing_ok=True)
