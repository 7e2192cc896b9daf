"""GUPPI RAW: the file format of recorded voltages, written and read.

A file is a sequence of blocks. A block is a header of 80-character cards (``KEY     = value``) closed by ``END``,
padded with zeros to a multiple of 512 bytes when ``DIRECTIO`` is 1, and then ``BLOCSIZE`` bytes of samples.

Samples are 8-bit complex in the order [antenna-channel][time][polarisation][re, im]; row ``a * NCHAN + c`` of the
``OBSNCHAN`` rows is channel ``c`` of antenna ``a``. ``NPOL`` counts real and imaginary parts, so it is 4 for two
complex polarisations. Coarse channel ``c`` of the instance's band is centred at
``OBSFREQ - OBSBW / 2 + (c + 0.5) * CHAN_BW`` (MHz). ``STT_IMJD``, ``STT_SMJD`` and ``STT_OFFS`` give the UTC of the
first sample of the recording; any block's first sample is at
``SYNCTIME + PKTIDX * HCLOCKS / (2e6 * FENCHAN * |CHAN_BW|)``.

Source: GUPPI RAW as written by hpguppi_daq and read by blimpy (``blimpy.guppi``), baseband (``baseband.guppi``) and
rawspec.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused

Value = str | int | float

CARD_LENGTH = 80
DIRECT_IO_ALIGNMENT = 512
MAX_CARDS = 512
_MAX_TEXT = 68
_KEY = re.compile(r"[A-Z0-9_-]{1,8}")
_CARD = re.compile(r"([A-Z0-9_-]{1,8}) *=(.*)")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FILE = re.compile(r"(.+)\.([0-9]{4,})\.raw")


class Header(Mapping[str, Value]):
    """The cards of one block, in file order.

    Parameters
    ----------
    cards : Mapping[str, str | int | float]
        Keyword to value.
    origin : str
        File and offset for error texts.
    nbytes : int
        Length on disk with ``END`` and padding; 0 when the header was not read from a file.
    """

    def __init__(self, cards: Mapping[str, Value], origin: str = "header", nbytes: int = 0) -> None:
        self._cards = dict(cards)
        self.origin = origin
        self.nbytes = nbytes

    def __getitem__(self, key: str) -> Value:
        return self._cards[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def __repr__(self) -> str:
        return f"Header({self._cards!r}, origin={self.origin!r})"

    def text(self, key: str, default: str | None = None) -> str:
        """The value as text.

        Raises
        ------
        Refused
            When the card is missing and there is no default.
        """
        value = self._cards.get(key, default)
        if value is None:
            raise Refused(f"{self.origin}: card {key} is missing; the file is not a complete GUPPI RAW recording")
        return str(value)

    def integer(self, key: str, default: int | None = None) -> int:
        """The value as an integer; text that spells one (``PKTIDX  = '12'``) is accepted.

        Raises
        ------
        Refused
            When the card is missing without a default, or holds anything else.
        """
        value = self._cards.get(key, default)
        if isinstance(value, int):
            return value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            return int(value)
        raise Refused(f"{self.origin}: card {key} is {value!r}; an integer is needed")

    def number(self, key: str, default: float | None = None) -> float:
        """The value as a float.

        Raises
        ------
        Refused
            When the card is missing without a default, or is not a number.
        """
        value = self._cards.get(key, default)
        try:
            return float(value)  # type: ignore[arg-type]  # None and odd text are what the except is for
        except (TypeError, ValueError) as error:
            raise Refused(f"{self.origin}: card {key} is {value!r}; a number is needed") from error

    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of the block's samples: (antennas, channels per antenna, times, polarisations, 2).

        Raises
        ------
        Refused
            When the cards do not describe 8-bit complex samples that fill ``BLOCSIZE`` exactly.
        """
        rows, pol_parts, size = self.integer("OBSNCHAN"), self.integer("NPOL"), self.integer("BLOCSIZE")
        antennas, bits = self.integer("NANTS", 1), self.integer("NBITS", 8)
        if bits != 8:
            raise Refused(f"{self.origin}: NBITS is {bits}; only 8-bit samples are supported")
        if min(rows, pol_parts, size, antennas) < 1 or rows % antennas or pol_parts % 2 or size % (rows * pol_parts):
            raise Refused(
                f"{self.origin}: OBSNCHAN {rows}, NPOL {pol_parts}, NANTS {antennas} do not divide BLOCSIZE {size};"
                " the header is damaged"
            )
        return antennas, rows // antennas, size // (rows * pol_parts), pol_parts // 2, 2


@dataclass(frozen=True)
class Block:
    """One block of a recording.

    Attributes
    ----------
    header : Header
        Its cards.
    data : numpy.ndarray
        int8, shape (antennas, channels, times, polarisations, 2), mapped from the file, read-only.
    path : Path
        File it is in.
    offset : int
        Position of its header in the file, bytes.
    """

    header: Header
    data: npt.NDArray[np.int8]
    path: Path
    offset: int


def encode_header(cards: Mapping[str, Value]) -> bytes:
    """Format `cards` as a GUPPI RAW header.

    Parameters
    ----------
    cards : Mapping[str, str | int | float]
        Keywords of at most 8 characters (A-Z, 0-9, ``_``, ``-``). With ``DIRECTIO`` 1 the result is padded with zeros
        to a multiple of 512 bytes and ``BLOCSIZE`` must be one too, otherwise readers disagree on where a block starts.

    Returns
    -------
    bytes
        The cards, ``END``, and the padding.

    Raises
    ------
    Refused
        When a keyword or a value cannot be written so that every known reader gets it back.
    """
    lines = [_encode_card(key, value) for key, value in cards.items()]
    if len(lines) > MAX_CARDS:
        raise Refused(f"{len(lines)} header cards; at most {MAX_CARDS} fit, drop some keywords")
    encoded = "".join([*lines, "END".ljust(CARD_LENGTH)]).encode("ascii")
    if cards.get("DIRECTIO") == 1:
        size = cards.get("BLOCSIZE", 0)
        if not isinstance(size, int) or size % DIRECT_IO_ALIGNMENT:
            raise Refused(f"BLOCSIZE {size!r} is not a multiple of {DIRECT_IO_ALIGNMENT}; use DIRECTIO 0 for this size")
        encoded += bytes(-len(encoded) % DIRECT_IO_ALIGNMENT)
    return encoded


def read_header(file: BinaryIO) -> Header | None:
    """Read the header at the current position and leave the file at the first sample.

    Parameters
    ----------
    file : BinaryIO
        An open file, positioned at a header or at its end.

    Returns
    -------
    Header or None
        None at the end of the file.

    Raises
    ------
    Refused
        When there is something else than a complete header; the text names file and offset.
    """
    start = file.tell()
    origin = f"{getattr(file, 'name', 'file')} at byte {start}"
    cards: dict[str, Value] = {}
    for number in range(MAX_CARDS + 1):
        raw = file.read(CARD_LENGTH)
        if not raw and number == 0:
            return None
        if len(raw) < CARD_LENGTH:
            raise Refused(f"{origin}: the header is cut off after {number} cards; the recording was interrupted here")
        try:
            line = raw.decode("ascii")
        except UnicodeDecodeError as error:
            raise Refused(f"{origin}: card {number} is not text; this is not a GUPPI RAW header") from error
        if line.startswith("END") and not line[3:].strip():
            break
        match = _CARD.fullmatch(line)
        if match is None:
            raise Refused(f"{origin}: card {number} is {line[:24]!r}...; this is not a GUPPI RAW header")
        cards[match[1]] = _decode_value(match[2])
    else:
        raise Refused(f"{origin}: no END within {MAX_CARDS} cards; this is not a GUPPI RAW header")
    length = file.tell() - start
    if str(cards.get("DIRECTIO", 0)) == "1":
        length += -length % DIRECT_IO_ALIGNMENT
        file.seek(start + length)
    return Header(cards, origin, length)


def iter_blocks(paths: Iterable[Path]) -> Iterator[Block]:
    """Read the blocks of `paths` in order, without loading their samples.

    Parameters
    ----------
    paths : Iterable[Path]
        Files of one recording in sequence order (`find_recordings`).

    Yields
    ------
    Block
        Samples mapped from the file, int8 (antennas, channels, times, polarisations, 2).

    Raises
    ------
    Refused
        At the first damaged or cut-off block, after everything before it was given out.
    """
    for path in paths:
        with open(path, "rb") as file:
            size = path.stat().st_size
            if size == 0:
                continue
            mapped = np.memmap(path, dtype=np.int8, mode="r", shape=(size,))
            while True:
                offset = file.tell()
                header = read_header(file)
                if header is None:
                    break
                shape = header.shape()
                start, stop = file.tell(), file.tell() + header.integer("BLOCSIZE")
                if stop > size:
                    raise Refused(
                        f"{header.origin}: the block needs {stop - start} bytes, the file holds {max(size - start, 0)};"
                        " the recording was interrupted here"
                    )
                yield Block(header, mapped[start:stop].reshape(shape), path, offset)
                file.seek(stop)


def file_stem(imjd: int, smjd: int, packet: int, source: str, scan: int) -> str:
    """Name of a recording without sequence number and suffix: ``guppi_<MJD>_<sec>_<packet index>_<source>_<scan>``.

    `source` has passed `socs_bl.core.names.source_name`.
    """
    return f"guppi_{imjd:05d}_{smjd:05d}_{packet:06d}_{source}_{scan:04d}"


def file_name(stem: str, sequence: int) -> str:
    """Name of file number `sequence` of a recording: ``<stem>.NNNN.raw``."""
    return f"{stem}.{sequence:04d}.raw"


def find_recordings(directory: Path) -> dict[str, list[Path]]:
    """Group the RAW files of `directory` by recording.

    Returns
    -------
    dict[str, list[Path]]
        Stem to its files in sequence order; stems sorted. Empty when the directory does not exist.
    """
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in directory.glob("*.raw"):
        match = _FILE.fullmatch(path.name)
        if match is not None:
            found.setdefault(match[1], []).append((int(match[2]), path))
    return {stem: [path for _, path in sorted(files)] for stem, files in sorted(found.items())}


def _encode_card(key: str, value: Value) -> str:
    """One card of 80 characters. Text is quoted and padded to 8, numbers end in column 30, as GUPPI writes them."""
    if not _KEY.fullmatch(key):
        raise Refused(f"header keyword {key!r} is not 1-8 of A-Z, 0-9, '_' and '-'")
    if isinstance(value, str):
        # Readers split a card at '=' and strip quotes, so neither may stand in a value.
        if not value.isascii() or not value.isprintable() or set(value) & {"'", "="} or len(value) > _MAX_TEXT:
            raise Refused(
                f"header value {key}={value[:80]!r} is not at most {_MAX_TEXT} printable characters without ' and ="
            )
        field = f"'{value:<8}'"
    elif isinstance(value, float):
        field = f"{_encode_float(key, value):>20}"
    else:
        field = f"{int(value):>20d}"
    return f"{key:<8}= {field}".ljust(CARD_LENGTH)


def _encode_float(key: str, value: float) -> str:
    """Shortest text that reads back exactly. Always with a point: blimpy takes a number without one for an integer."""
    text = repr(float(value)).upper()
    if text.strip("-") in ("NAN", "INF"):
        raise Refused(f"header value {key}={value!r} is not a finite number")
    mantissa, exponent, power = text.partition("E")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"


def _decode_value(field: str) -> Value:
    """The value of a card: quoted text, integer, float, or bare text."""
    text = field.strip()
    if text.startswith("'"):
        return text[1:].partition("'")[0].rstrip()
    text = text.partition("/")[0].strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        return float(text.replace("D", "E"))
    except ValueError:
        return text
