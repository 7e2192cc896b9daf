"""Hits and stamps as seticore writes them: ``.hits`` and ``.stamps``, Cap'n Proto messages one after the other.

Each message is one ``Hit`` (``schema/hit.capnp``) or ``Stamp`` (``schema/stamp.capnp``), unpacked, with the usual frame of
segment count and lengths before it; there is nothing else in the file. A hit's filterbank holds the power of its beam
less the noise level, in units of the noise power; seticore's is the power itself. Beyond `MOST_DATA` hits only the signal
is kept. A hit that starts in another coarse channel than that in which it is half-way is told by the latter.

Source: seticore ``hit.capnp``, ``stamp.capnp``, ``hit_file_writer.cpp`` and ``stamp_extractor.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import capnp
import numpy as np
import numpy.typing as npt

import socs_bl
from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.search.dedoppler import DriftGrid
from socs_bl.search.engine import SearchResult
from socs_bl.search.fbh5 import direction
from socs_bl.search.grouping import Detection
from socs_bl.search.stamp import Stamp, inside
from socs_bl.search.voltages import start_mjd, start_unix

SCHEMA = Path(__file__).with_name("schema")
MOST_DATA = 1000
# Of one message when it is read, in words of 8 bytes.
_LARGEST_MESSAGE = 1 << 30


@cache
def schema(name: str) -> Any:
    """The types of ``schema/<name>.capnp``; the file stays open."""
    capnp.remove_import_hook()
    return capnp.load(str(SCHEMA / f"{name}.capnp"))


def write_hits(path: Path, result: SearchResult, telescope_id: int) -> None:
    """Write all detections of a search, strongest hit first, whole or not at all.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    write_whole(path, b"".join(_hit(d, n < MOST_DATA, result, telescope_id) for n, d in enumerate(result.detections)))


def write_stamps(path: Path, result: SearchResult, stamps: Iterable[Stamp], telescope_id: int) -> None:
    """Write stamps, whole or not at all.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    write_whole(path, b"".join(_stamp(stamp, result, telescope_id) for stamp in stamps))


def read_hits(path: Path) -> list[Any]:
    """The hits in a file, as pycapnp's readers with the field names of the schema.

    Raises
    ------
    Refused
        When the file holds something else, or ends in the middle of a hit.
    """
    return _read(path, schema("hit").Hit)


def read_stamps_file(path: Path) -> list[Any]:
    """The stamps in a file; as `read_hits`."""
    return _read(path, schema("stamp").Stamp)


def _read(path: Path, kind: Any) -> list[Any]:
    try:
        raw = path.read_bytes()
        return list(kind.read_multiple_bytes(raw, traversal_limit_in_words=_LARGEST_MESSAGE))
    except (OSError, capnp.KjException) as error:
        reason = str(error).partition("\n")[0]
        raise Refused(f"{path}: cannot be read as a file of seticore ({reason}); search the recording again") from error


def _fill_signal(signal: Any, detection: Detection, coarse: int, result: SearchResult) -> None:
    band, line = result.band, detection.line
    start = line.start(result.spectra)
    size = DriftGrid(max(2, result.spectra), 1.0).size
    signal.frequency = band.frequency_mhz(start)
    signal.index = int(np.clip(round(start) - coarse * band.fine, 0, band.fine - 1))
    signal.driftSteps = round(line.rate * (size - 1))
    signal.driftRate = line.rate * band.fine_hz / result.spectrum_s
    signal.snr = line.snr
    signal.coarseChannel = coarse
    signal.beam = detection.beam
    signal.numTimesteps = result.spectra
    signal.power = detection.power
    signal.incoherentPower = detection.incoherent_power


def _hit(detection: Detection, with_data: bool, result: SearchResult, telescope_id: int) -> bytes:
    """One hit as a message."""
    message = schema("hit").Hit.new_message()
    coarse, low, high = inside(detection.cutout, result)
    _fill_signal(message.signal, detection, coarse, result)
    if with_data:
        band, header = result.band, result.header
        beam = next(beam for beam in result.beams if beam.number == detection.beam)
        filterbank = message.filterbank
        filterbank.sourceName = beam.name or header.text("SRC_NAME", "")
        filterbank.fch1 = band.frequency_mhz(coarse * band.fine + low)
        filterbank.foff = band.fine_hz * 1e-6
        filterbank.tstart = start_mjd(header)
        filterbank.tsamp = result.spectrum_s
        filterbank.ra, filterbank.dec = direction(header, beam)
        filterbank.telescopeId = telescope_id
        filterbank.numTimesteps = result.spectra
        filterbank.numChannels = high - low
        first = coarse * band.fine + low - detection.cutout.first
        filterbank.data = _values(detection.cutout.power[:, first : first + high - low])
        filterbank.coarseChannel = coarse
        filterbank.startChannel = low
        filterbank.beam = detection.beam
    return bytes(message.to_bytes())


def _stamp(stamp: Stamp, result: SearchResult, telescope_id: int) -> bytes:
    """One stamp as a message."""
    message = schema("stamp").Stamp.new_message()
    band, header = result.band, result.header
    message.seticoreVersion = f"socs_bl {socs_bl.__version__}"
    message.sourceName = header.text("SRC_NAME", "")
    message.ra, message.dec = direction(header, result.beams[-1])
    message.fch1 = band.frequency_mhz(stamp.coarse * band.fine + stamp.first)
    message.foff = band.fine_hz * 1e-6
    message.tstart = start_unix(header)
    message.tsamp = result.spectrum_s
    message.telescopeId = telescope_id
    spectra, channels, polarisations, antennas = stamp.voltages.shape
    message.numTimesteps, message.numChannels = spectra, channels
    message.numPolarizations, message.numAntennas = polarisations, antennas
    message.data = _values(stamp.voltages.view(np.float32))
    message.coarseChannel, message.fftSize, message.startChannel = stamp.coarse, band.fine, stamp.first
    _fill_signal(message.signal, stamp.detection, stamp.coarse, result)
    message.schan = header.integer("SCHAN", 0)
    message.obsid = header.text("OBSID", "")
    return bytes(message.to_bytes())


def _values(array: npt.NDArray[np.float32]) -> Sequence[float]:
    return np.ascontiguousarray(array).reshape(-1).tolist()
