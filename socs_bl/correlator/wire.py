"""Lag frames as baseline boards send them: the order of fields and their widths are here and nowhere else.

A frame is `HEADER_WORDS` 32-bit words, big-endian, then `nlags` pairs (in-phase, quadrature) of signed words, then a
checksum, the sum of all words before it modulo 2**32. `FIELDS` says where each field lies; a site whose boards differ
changes that table. Field names and their order: draft WIDAR binary lag set format; a frame of 128 lags has 266 words:
EVLA correlator backend overview, 2002.

Rules that senders and receivers share
--------------------------------------
* The timestamp is UTC of the dump's start. It counts seconds since 1970 modulo 2**32.
* The recirculation index of a frame is ``recirculation_x - recirculation_y + R // 2`` for a product recirculated R
  times. Senders use ``recirculation_y = R // 2``, so that ``recirculation_x`` is the index.
* Within one recirculation block ``start_block`` counts the frames of the lag chain and ``nblocks`` says how many there
  are; 16 blocks at most. The frame holds the lags of the set from ``first_lag``.
* A chain that starts in cell c of chip p goes on in the next cells: block b lies in cell ``(16 p + c + b) mod 16`` of chip
  ``(16 p + c + b) div 16``.
* The zero lag of a set of L lags is lag L/2. ``dv_centre`` is the valid count at the end of the frame that is nearer to
  it, ``dv_edge`` at the other; in a set of one frame ``dv_centre`` belongs to the middle and ``dv_edge`` to both ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused

SYNC = 0xF83E0F83
SWAPPED_SYNC = 0x830F3EF8  # what a reader sees whose words have the other byte order
HEADER_WORDS = 9
LAG_COUNTS = (128, 64)
LARGEST_FRAME = 1064  # bytes
CELLS = 16  # of a chip
BOARDS = 1 << 16

OVERFLOW, TRUNCATED, SUSPECT = 1, 2, 4  # bits of `status`: lags overflowed, the dump is cut or late, data is suspect


class Field(NamedTuple):
    """A field of the header: bits `high` to `low` of a word."""

    name: str
    word: int
    high: int
    low: int

    @property
    def maximum(self) -> int:
        """The largest value that fits."""
        return (1 << (self.high - self.low + 1)) - 1


FIELDS = (
    Field("bbid_y", 1, 31, 29),
    Field("sbid_y", 1, 28, 24),
    Field("sid_y", 1, 23, 16),
    Field("bbid_x", 1, 15, 13),
    Field("sbid_x", 1, 12, 8),
    Field("sid_x", 1, 7, 0),
    Field("start_block", 2, 31, 28),
    Field("y", 2, 27, 27),
    Field("nblocks", 2, 26, 22),
    Field("nlags", 2, 21, 14),
    Field("chip", 2, 13, 8),
    Field("cell", 2, 7, 4),
    Field("spare", 2, 3, 1),
    Field("cs_valid", 2, 0, 0),
    Field("status", 3, 31, 24),
    Field("frame_count", 3, 23, 16),
    Field("recirculation_y", 3, 15, 8),
    Field("recirculation_x", 3, 7, 0),
    Field("seconds", 4, 31, 0),
    Field("nanoseconds", 5, 31, 0),
    Field("dv_centre", 6, 31, 0),
    Field("dv_edge", 7, 31, 0),
    Field("board", 8, 31, 16),
    Field("bin", 8, 15, 0),
)
FIELD = {field.name: field for field in FIELDS}
HEADER = np.dtype([(field.name, np.uint32) for field in FIELDS])

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes
    ----------
    header : dict
        Value of each field by its name.
    lags : numpy.ndarray
        int32 (lags, 2): in-phase, quadrature.
    """

    header: dict[str, int]
    lags: npt.NDArray[np.int32]

    @property
    def time_ns(self) -> int:
        """Start of the dump, ns since 1970 UTC."""
        return self.header["seconds"] * 10**9 + self.header["nanoseconds"]


def frame_bytes(lags: int) -> int:
    """Bytes of a frame of `lags` complex lags."""
    return 4 * (HEADER_WORDS + 2 * lags + 1)


def first_lag(index: int, nblocks: int, block: int, nlags: int) -> int:
    """The lag of the set that a frame begins with, from its recirculation index and its block of the chain."""
    return (index * nblocks + block) * nlags


def checksum(words: Words) -> Words:
    """Sum of the words along the last axis modulo 2**32."""
    return words.sum(axis=-1, dtype=np.uint32)  # type: ignore[no-any-return]


def build_header(values: Mapping[str, Any] | npt.NDArray[np.void]) -> Words:
    """The first `HEADER_WORDS` words of frames.

    Parameters
    ----------
    values : mapping of arrays, or structured array of type `HEADER`
        By the names of `FIELDS`; they broadcast against each other. What a mapping does not name is 0.

    Returns
    -------
    numpy.ndarray
        uint32 (frames, words) in native byte order.

    Raises
    ------
    Refused
        When a name is no field, or a value does not fit.
    """
    names = values.dtype.names if isinstance(values, np.ndarray) else tuple(values)
    unknown = set(names or ()) - FIELD.keys()
    if unknown:
        raise Refused(f"{', '.join(sorted(unknown))}: no field of a lag frame; fields are {', '.join(FIELD)}")
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(values[name])) for name in names or ()))
    words = np.zeros((len(columns[0]) if columns else 1, HEADER_WORDS), np.uint32)
    words[:, 0] = SYNC
    for name, column in zip(names or (), columns, strict=True):
        field = FIELD[name]
        if column.size and (column.min() < 0 or column.max() > field.maximum):
            raise Refused(f"{name} {column.min()} to {column.max()}: the field holds 0 to {field.maximum}")
        words[:, field.word] |= column.astype(np.uint32) << np.uint32(field.low)
    return words


def parse_header(words: Words) -> dict[str, Words]:
    """The fields of headers.

    Parameters
    ----------
    words : numpy.ndarray
        uint32 (..., at least `HEADER_WORDS`), native byte order.

    Returns
    -------
    dict
        By the names of `FIELDS`, each of the shape (...).

    Raises
    ------
    Refused
        When there are fewer words.
    """
    if words.ndim == 0 or words.shape[-1] < HEADER_WORDS:
        raise Refused(f"a header of {words.shape[-1] if words.ndim else 0} words; it has {HEADER_WORDS}")
    return {field.name: (words[..., field.word] >> np.uint32(field.low)) & np.uint32(field.maximum) for field in FIELDS}


def build_frames(
    headers: Mapping[str, Any] | npt.NDArray[np.void], lags: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Whole frames, with sync word, number of lags and checksum.

    Parameters
    ----------
    headers : mapping of arrays, or structured array of type `HEADER`
        As for `build_header`; ``nlags`` follows from `lags`.
    lags : numpy.ndarray
        int32 (frames, lags, 2).

    Returns
    -------
    numpy.ndarray
        uint8 (frames, bytes of a frame), as sent.

    Raises
    ------
    Refused
        When a value does not fit, or frames of so many lags do not exist.
    """
    if lags.ndim != 3 or lags.shape[1] not in LAG_COUNTS or lags.shape[2] != 2:
        raise Refused(f"lags of shape {lags.shape}; it is (frames, {' or '.join(map(str, LAG_COUNTS))}, 2)")
    count, nlags = lags.shape[:2]
    words = np.empty((count, frame_bytes(nlags) // 4), np.uint32)
    words[:, :HEADER_WORDS] = build_header(headers)
    nlags_field = FIELD["nlags"]
    words[:, nlags_field.word] &= np.uint32(~(nlags_field.maximum << nlags_field.low) & 0xFFFFFFFF)
    words[:, nlags_field.word] |= np.uint32(nlags << nlags_field.low)
    words[:, HEADER_WORDS:-1] = lags.reshape(count, -1).view(np.uint32)
    words[:, -1] = checksum(words[:, :-1])
    return words.astype(">u4").view(np.uint8)


def parse_frame(data: bytes) -> Frame:
    """One whole frame.

    Raises
    ------
    Refused
        When it is not exactly one good frame; the text names the byte where it is wrong.
    """
    if len(data) < frame_bytes(LAG_COUNTS[-1]) or len(data) % 4:
        raise Refused(f"a lag frame of {len(data)} bytes ends at byte {len(data)}; the shortest has {frame_bytes(64)}")
    words = np.frombuffer(data, ">u4").astype(np.uint32)
    if words[0] != SYNC:
        raise Refused(f"byte 0 of a lag frame: {int(words[0]):#010x} is not the sync word {SYNC:#010x}")
    header = {name: int(value) for name, value in parse_header(words).items()}
    nlags = header["nlags"]
    if nlags not in LAG_COUNTS:
        raise Refused(f"byte 8 of a lag frame: it says {nlags} lags; frames have {' or '.join(map(str, LAG_COUNTS))}")
    if len(data) != frame_bytes(nlags):
        raise Refused(f"a lag frame of {nlags} lags ends at byte {frame_bytes(nlags)}, not at byte {len(data)}")
    if checksum(words[:-1]) != words[-1]:
        raise Refused(f"byte {len(data) - 4} of a lag frame: the checksum is wrong; the frame was damaged on its way")
    if header["nanoseconds"] >= 10**9:
        raise Refused(f"byte 20 of a lag frame: {header['nanoseconds']} ns is no part of a second")
    return Frame(header, words[HEADER_WORDS:-1].view(np.int32).reshape(nlags, 2))
