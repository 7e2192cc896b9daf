"""Dynamic spectra from filterbank files: FBH5 (``.h5``) and SIGPROC (``.fil``), 32-bit power of one beam.

What has no recording behind it has no counted noise powers either: how many there are in each value is estimated from
the noise itself. A gamma variable of shape ``c`` has mean ``c`` and variance ``c``; median and quartiles in the middle of
each coarse channel give both.

Source: SIGPROC's header format (Lorimer, SIGPROC manual, appendix: keywords with their lengths before them, between
``HEADER_START`` and ``HEADER_END``) as blimpy ``io/sigproc.py`` reads it; FBH5 as in `socs_bl.search.fbh5`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that FBH5 files are compressed with)
import numpy as np
import numpy.typing as npt

from socs_bl.capture.guppi import Header
from socs_bl.core.errors import Refused
from socs_bl.search.beamform import BeamPower
from socs_bl.search.bfr5 import INCOHERENT, Beam
from socs_bl.search.upchannelise import replace_dc
from socs_bl.search.voltages import Band

_INTEGERS = frozenset(
    ("telescope_id", "machine_id", "data_type", "barycentric", "pulsarcentric", "nbits", "nsamples", "nchans", "nifs",
     "nbeams", "ibeam")
)  # fmt: skip
_DOUBLES = frozenset(
    ("az_start", "za_start", "src_raj", "src_dej", "tstart", "tsamp", "fch1", "foff", "refdm", "period")
)
_TEXTS = frozenset(("rawdatafile", "source_name"))
_MAX_KEYWORDS = 256
_LONGEST = 256
_IQR_TO_SIGMA = 1.349

Columns = Callable[[int, int], npt.NDArray[np.float32]]


class FilterbankBeams:
    """One beam's dynamic spectrum, read coarse channel by coarse channel.

    Attributes
    ----------
    beams : tuple[Beam, ...]
        One, numbered as "no beam".
    band : Band
        Frequency axis.
    spectra : int
        Spectra in the file.
    spectrum_s : float
        Length of one, seconds.
    header : Header
        Source, start and direction as the cards of a recording.
    """

    def __init__(
        self,
        path: Path,
        cards: dict[str, Any],
        spectra: int,
        columns: Columns,
        close: Callable[[], None],
        fine: int | None,
    ) -> None:
        self._columns, self._close = columns, close
        self.beams: tuple[Beam, ...] = (INCOHERENT,)
        self.spectra = spectra
        try:
            total, foff, fch1 = int(cards["nchans"]), float(cards["foff"]), float(cards["fch1"])
            self.spectrum_s = float(cards["tsamp"])
            start, known = float(cards.get("tstart", 0.0)), int(cards.get("nfpc", 0)) or fine
            if not all(map(math.isfinite, (foff, fch1, self.spectrum_s, start))) or not self.spectrum_s > 0 or not foff:
                raise ValueError(f"foff {foff}, fch1 {fch1}, tsamp {self.spectrum_s}, tstart {start}")
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(f"{path}: its header has no sound frequency and time axes ({error})") from error
        self._dc = known is not None
        per_coarse = known or total
        if total < 1 or total % per_coarse or per_coarse % 2:
            raise Refused(f"{path}: {total} channels are not coarse channels of {per_coarse}; set fine_channels right")
        self.band = Band(fch1 + total / 2 * foff, foff * 1e6 * per_coarse, total // per_coarse, per_coarse)
        days, seconds = divmod(start * 86400.0, 86400.0)
        self.header = Header(
            {"SRC_NAME": str(cards.get("source_name", "unknown")), "STT_IMJD": int(days), "STT_SMJD": int(seconds),
             "STT_OFFS": seconds % 1.0}, str(path),
        )  # fmt: skip

    @classmethod
    def open(cls, path: Path, fine: int | None) -> FilterbankBeams:
        """Open a file; `fine` is used when it does not say how many channels make a coarse channel.

        Raises
        ------
        Refused
            When it is not a filterbank file of 32-bit power.
        """
        try:
            with open(path, "rb") as file:
                if file.read(8) == b"\x89HDF\r\n\x1a\n":
                    return _open_h5(path, fine)
                file.seek(0)
                return _open_sigproc(path, file, fine)
        except (OSError, KeyError, ValueError, AttributeError, struct.error) as error:
            # h5py says with these that the file is damaged or lacks a data set.
            raise Refused(f"{path}: cannot be read as a filterbank file ({error})") from error

    def load(self, channel: int) -> list[BeamPower]:
        """The dynamic spectrum of a coarse channel."""
        fine = self.band.fine
        power = np.ascontiguousarray(self._columns(channel * fine, (channel + 1) * fine), np.float32)
        if not np.isfinite(power).all():
            raise Refused(f"{self.header.origin}: coarse channel {channel} holds values that are not finite")
        if self._dc:
            replace_dc(power)
        return [BeamPower(power, np.full(self.spectra, noise_powers(power)), 0.0, 0.0)]

    def __enter__(self) -> FilterbankBeams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


def noise_powers(power: npt.NDArray[np.float32]) -> int:
    """Independent noise powers in each value of (spectra, fine), at least 1."""
    middle, width = power.shape[1] // 2, min(power.shape[1] // 4, 4096)
    lower, median, upper = np.percentile(power[:, middle - width // 2 : middle + width // 2], (25, 50, 75))
    if not upper > lower or median <= 0:
        return 1
    # The median of a gamma variable is its mean less a third, nearly.
    return max(1, round(float((median * _IQR_TO_SIGMA / (upper - lower)) ** 2) + 1 / 3))


def _open_h5(path: Path, fine: int | None) -> FilterbankBeams:
    file = h5py.File(path, "r")
    try:
        data = file["data"]
        if len(data.shape) != 3 or data.shape[1] != 1 or data.dtype != np.float32:
            raise Refused(f"{path}: data are {data.dtype} {data.shape}; float32 (spectra, 1, channels) is needed")
        cards = {**dict(data.attrs), "nchans": data.shape[2]}
        cards["source_name"] = _text(cards.get("source_name", "unknown"))
        return FilterbankBeams(path, cards, data.shape[0], lambda low, high: data[:, 0, low:high], file.close, fine)
    except BaseException:
        file.close()
        raise


def _open_sigproc(path: Path, file: BinaryIO, fine: int | None) -> FilterbankBeams:
    cards = read_sigproc_header(path, file)
    if cards.get("nbits") != 32 or cards.get("nifs", 1) != 1 or cards.get("nchans", 0) < 1:
        raise Refused(
            f"{path}: nbits {cards.get('nbits')}, nifs {cards.get('nifs')}; 32-bit power of one beam is needed"
        )
    offset, row = file.tell(), 4 * cards["nchans"]
    spectra = (path.stat().st_size - offset) // row
    if spectra < 1:
        raise Refused(f"{path}: holds no complete spectrum")
    data = np.memmap(path, "<f4", "r", offset, (spectra, cards["nchans"]))
    return FilterbankBeams(path, cards, spectra, lambda low, high: data[:, low:high], lambda: None, fine)


def read_sigproc_header(path: Path, file: BinaryIO) -> dict[str, Any]:
    """Read a SIGPROC header and leave the file at the first value.

    Raises
    ------
    Refused
        When there is something else.
    """
    if _keyword(path, file) != "HEADER_START":
        raise Refused(f"{path}: is neither FBH5 nor SIGPROC")
    cards: dict[str, Any] = {}
    for _ in range(_MAX_KEYWORDS):
        key = _keyword(path, file)
        if key == "HEADER_END":
            return cards
        if key in _INTEGERS:
            (cards[key],) = struct.unpack("<i", file.read(4))
        elif key in _DOUBLES:
            (cards[key],) = struct.unpack("<d", file.read(8))
        elif key in _TEXTS:
            cards[key] = _keyword(path, file)
        else:
            raise Refused(f"{path}: unknown keyword {key!r:.80} in the SIGPROC header")
    raise Refused(f"{path}: no HEADER_END within {_MAX_KEYWORDS} keywords")


def _keyword(path: Path, file: BinaryIO) -> str:
    (length,) = struct.unpack("<i", file.read(4))
    if not 0 <= length <= _LONGEST:
        raise Refused(f"{path}: is not a filterbank file (a word of {length} bytes)")
    return file.read(length).decode("ascii", errors="replace")


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
