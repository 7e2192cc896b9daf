"""The hit list as a ``.dat`` file, as turbo_seti writes it and its tools read it.

Nine lines of header, then one tab-separated line per hit. "Uncorrected" and "corrected" frequency are both the
topocentric frequency at the first sample of the recording (no barycentric correction is made); ``freq_start`` and
``freq_end`` are where the signal is at the first sample and at the end of the last spectrum; the SEFD columns are zero.
Frequencies have nine decimals (mHz) where turbo_seti has six.

Source: turbo_seti 2, ``find_doppler/file_writers.py`` (columns) and ``find_event/find_event.py`` (``read_dat``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.search.engine import Hit, SearchResult
from socs_bl.search.voltages import start_mjd

COLUMNS = (
    "Top_Hit_#", "Drift_Rate", "SNR", "Uncorrected_Frequency", "Corrected_Frequency", "Index", "freq_start", "freq_end",
    "SEFD", "SEFD_freq", "Coarse_Channel_Number", "Full_number_of_hits",
)  # fmt: skip
_RULER = "# --------------------------"
_LONG_RULER = f"{_RULER} o --------------------------"
HEADER_LINES = 9


@dataclass(frozen=True)
class DatFile:
    """What a ``.dat`` file holds.

    Attributes
    ----------
    file_id, source : str
        Name of the data searched, and of the target.
    mjd : float
        UTC of the first sample, MJD.
    spectrum_s, fine_hz : float
        ``DELTAT`` (s) and ``DELTAF`` (Hz, with the sign of the axis).
    hits : tuple[Hit, ...]
        In the order of the file.
    """

    file_id: str
    source: str
    mjd: float
    spectrum_s: float
    fine_hz: float
    hits: tuple[Hit, ...]


def format_dat(result: SearchResult, max_drift_hz_s: float, file_id: str) -> str:
    """The text of a ``.dat`` file."""
    header = result.header
    source, ra, dec = (header.text(key, "unknown") for key in ("SRC_NAME", "RA_STR", "DEC_STR"))
    # Readers take what is behind the last colon of a field.
    ra, dec = _with_units(ra, "h"), _with_units(dec, "d")
    lines = [
        _LONG_RULER,
        f"# File ID: {file_id} ",
        _LONG_RULER,
        f"# Source:{source}",
        f"# MJD: {start_mjd(header):18.12f}\tRA: {ra}\tDEC: {dec}",
        f"# DELTAT: {result.spectrum_s:10.6f}\tDELTAF(Hz): {result.band.fine_hz:10.6f}"
        f"\tmax_drift_rate: {max_drift_hz_s:10.6f}\tobs_length: {result.spectra * result.spectrum_s:10.6f}",
        _RULER,
        "# " + " \t".join(COLUMNS) + " \t",
        _RULER,
        *(_hit_line(number, hit) for number, hit in enumerate(result.hits, 1)),
    ]
    return "\n".join(lines) + "\n"


def write_dat(path: Path, result: SearchResult, max_drift_hz_s: float, file_id: str) -> None:
    """Write the hit list, whole or not at all.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    write_whole(path, format_dat(result, max_drift_hz_s, file_id).encode("ascii", errors="replace"))


def read_dat(path: Path) -> DatFile:
    """Read a hit list back.

    Raises
    ------
    Refused
        When the file is not one.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: cannot be read as a hit list ({error})") from error
    try:
        times = dict(_fields(lines[4])) | dict(_fields(lines[5]))
        hits = tuple(_parse_hit(line.split("\t")) for line in lines[HEADER_LINES:] if line.strip())
        return DatFile(
            lines[1].partition(":")[2].strip(), lines[3].partition(":")[2].strip(),
            float(times["MJD"]), float(times["DELTAT"]), float(times["DELTAF(Hz)"]), hits,
        )  # fmt: skip
    except (IndexError, KeyError, ValueError) as error:
        raise Refused(f"{path}: is not a complete hit list ({error}); search the recording again") from error


def _fields(line: str) -> Sequence[tuple[str, str]]:
    """``# KEY: value<TAB>KEY: value`` as pairs."""
    parts = (part.partition(":") for part in line.lstrip("# ").split("\t"))
    return [(key.strip(), value.strip()) for key, _, value in parts]


def _with_units(text: str, unit: str) -> str:
    """``17:10:03.9`` as ``17h10m03.9s``; other text as it is."""
    parts = text.split(":")
    return f"{parts[0]}{unit}{parts[1]}m{parts[2]}s" if len(parts) == 3 else text


def _hit_line(number: int, hit: Hit) -> str:
    return (
        f"{number:03d}\t{hit.drift_hz_s:10.6f}\t{hit.snr:10.6f}\t{hit.frequency_mhz:17.9f}\t{hit.frequency_mhz:17.9f}"
        f"\t{hit.fine_channel}\t{hit.frequency_mhz:17.9f}\t{hit.end_frequency_mhz:17.9f}\t0.0\t{0.0:14.6f}"
        f"\t{hit.coarse_channel}\t1\t"
    )


def _parse_hit(columns: Sequence[str]) -> Hit:
    return Hit(
        frequency_mhz=float(columns[3]),
        drift_hz_s=float(columns[1]),
        snr=float(columns[2]),
        end_frequency_mhz=float(columns[7]),
        fine_channel=int(columns[5]),
        coarse_channel=int(columns[10]),
    )
