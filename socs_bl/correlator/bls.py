"""Lag sets as files, one a product: the binary lag set format, for people who look into the correlator.

A record is a lag set of one dump and phase bin, in big-endian words; records lie back to back in order of time, all of a
file of one length. Size: ``4 + 8 F + 2 L`` words for F frames and L lags.

==================  ===============================================================================================
words               content
==================  ===============================================================================================
0                   sync
1                   basebands, subbands and stations, as in a lag frame
2                   number of frames F
3 .. 2 + 8 F        for each frame the words 2 to 8 of its header, and its checksum
3 + 8 F             number of lags L of the whole set
4 + 8 F ..          L pairs: in-phase, quadrature
==================  ===============================================================================================

A frame that is missing has all its words and lags zero. The ring between the processes keeps the valid counts, the lags
and whether a frame is suspect; the frame count and the board's number are 0, and the checksum is that of such a frame.
Source: draft WIDAR binary lag set format, tables 1 and 2.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused
from socs_bl.correlator import wire
from socs_bl.correlator.configuration import Product
from socs_bl.correlator.plan import MISSING, SUSPECT, Group, Plan

FRAME_WORDS = 8
MOST_PRODUCTS = 512  # of one pipeline: each has an open file
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HEADER = slice(2, wire.HEADER_WORDS)


def record_words(frames: int, lags: int) -> int:
    """Words of a record."""
    return 4 + FRAME_WORDS * frames + 2 * lags


def build_records(
    product: Product,
    time_ns: int,
    state: npt.NDArray[np.uint8],
    counts: npt.NDArray[np.uint32],
    lags: npt.NDArray[np.int32],
) -> bytes:
    """The records of one product's dump, one a phase bin.

    Parameters
    ----------
    product : Product
    time_ns : int
        Start of the dump, unix ns.
    state : uint8 array, (bins, frames)
        Of `plan`.
    counts : uint32 array, (bins, frames, 2)
    lags : int32 array, (bins, lags, 2)
    """
    bins, frames = state.shape
    chain = max(product.chip, 0) * wire.CELLS + max(product.cell, 0) + np.arange(frames) % product.frames
    header = {
        "bbid_y": product.y.baseband,
        "sbid_y": product.y.subband,
        "sid_y": product.y.station,
        "bbid_x": product.x.baseband,
        "sbid_x": product.x.subband,
        "sid_x": product.x.station,
        "start_block": np.tile(np.arange(frames) % product.frames, bins),
        "nblocks": product.frames,
        "chip": np.tile(chain // wire.CELLS, bins) & wire.FIELD["chip"].maximum,
        "cell": np.tile(chain % wire.CELLS, bins),
        "status": np.where(state.ravel() == SUSPECT, wire.SUSPECT, 0),
        "recirculation_y": product.recirculation // 2,
        "recirculation_x": np.tile(np.arange(frames) // product.frames, bins),
        "seconds": time_ns // 10**9 % 2**32,
        "nanoseconds": time_ns % 10**9,
        "dv_centre": counts[..., 0].ravel(),
        "dv_edge": counts[..., 1].ravel(),
        "bin": np.repeat(np.arange(bins), frames),
    }
    built = wire.build_frames(header, lags.reshape(bins * frames, -1, 2)).view(">u4")
    words = np.zeros((bins, record_words(frames, product.lags)), ">u4")
    words[:, :2] = built[::frames, :2]
    words[:, 2] = frames
    headers = np.concatenate([built[:, _HEADER], built[:, -1:]], axis=1)
    headers[:, 0] |= 1  # CS-Valid: frames with a wrong checksum do not get here
    headers[state.ravel() == MISSING] = 0
    end = 3 + FRAME_WORDS * frames
    words[:, 3:end] = headers.reshape(bins, -1)
    words[:, end] = product.lags
    words[:, end + 1 :] = lags.reshape(bins, -1).astype(">i4").view(">u4")
    return words.tobytes()


class LagSetFiles:
    """The files of a pipeline's bls element, ``<product>.bls`` in one folder. What is there already is gone on with.

    Parameters
    ----------
    directory : Path
        Made when it is missing.
    plan : Plan
    limit : int
        Bytes a file; what comes after is left out.

    Raises
    ------
    Refused
        When there are too many products, or one whose name is no file name.

    Attributes
    ----------
    records, left_out : int
        Written, and left out for the limit or because the disk did not take them.
    error : str
        Why the disk did not take them; nothing more is tried then.
    """

    def __init__(self, directory: Path, plan: Plan, limit: int) -> None:
        products = plan.products
        if len(products) > MOST_PRODUCTS:
            raise Refused(
                f"bls for {len(products)} products; give it a pipeline of its own with at most {MOST_PRODUCTS}"
            )
        for product in products:
            if not _NAME.fullmatch(product.name):
                raise Refused(
                    f"product {product.name!r:.80} is no file name; bls needs letters, digits, '_', '-' and '.'"
                )
        self.records = self.left_out = 0
        self.limit = limit
        self.error = ""
        self._directory = directory
        self._plan = plan
        self._files: dict[str, BinaryIO] = {}

    def write(self, time_ns: int, slot: npt.NDArray[np.uint8]) -> None:
        """Append the lag sets of a dump that starts at `time_ns` (unix ns)."""
        for group in self._plan.groups:
            state, counts, lags = group.state(slot), group.counts(slot), group.lag_pairs(slot)
            for member, product in enumerate(group.products):
                if not self.error and self._append(
                    product, group, time_ns, state[member], counts[member], lags[member]
                ):
                    self.records += group.bins
                else:
                    self.left_out += group.bins

    def _append(self, product: Product, group: Group, time_ns: int, *arrays: Any) -> bool:
        """Append one product's records; False when there is no room for them."""
        size = 4 * group.bins * record_words(group.frames, group.lags)
        try:
            file = self._files.get(product.name) or self._open(product, group)
            end = file.tell()
            if end + size > self.limit:
                return False
            written = file.write(build_records(product, time_ns, *arrays))
            if written < size:
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.error = f"{self._directory / product.name}.bls: {error.strerror}; no more lag sets are written"
            return False
        return True

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _open(self, product: Product, group: Group) -> BinaryIO:
        """The product's file, at its end; half a record of a writer that was killed is cut off."""
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory / f"{product.name}.bls", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        file = self._files[product.name] = os.fdopen(descriptor, "r+b", buffering=0)
        length = 4 * record_words(group.frames, group.lags)
        size = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, size // length * length)
        file.seek(0, os.SEEK_END)
        return file


@dataclass(frozen=True, slots=True)
class LagSet:
    """One record.

    Attributes
    ----------
    headers : tuple of dict
        Of each frame, by the names of `wire.FIELDS`; a missing one has zeros.
    lags : int32 array, (lags, 2)
    """

    headers: tuple[dict[str, int], ...]
    lags: npt.NDArray[np.int32]


def read_lag_sets(path: Path) -> Iterator[LagSet]:
    """The records of a file, one after the other.

    Raises
    ------
    Refused
        When it is damaged; names the byte.
    """
    size = path.stat().st_size
    if size % 4:
        raise Refused(f"{path}: {size} bytes are no whole words; it is cut at byte {size}")
    words = np.memmap(path, ">u4", "r") if size else np.zeros(0, ">u4")
    at = 0
    while at < len(words):
        record = _read_record(words, at, path)
        yield record
        at += record_words(len(record.headers), len(record.lags))


def _read_record(words: npt.NDArray[np.uint32], at: int, path: Path) -> LagSet:
    """The record that begins at word `at`."""
    if words[at] != wire.SYNC:
        raise Refused(f"{path}: byte {4 * at}: {int(words[at]):#010x} is not the sync word {wire.SYNC:#010x}")
    if at + 3 > len(words):
        raise Refused(f"{path}: byte {4 * at}: the last record is cut at byte {4 * len(words)}")
    frames = int(words[at + 2])
    end = at + 3 + FRAME_WORDS * frames
    if frames == 0 or end >= len(words):
        raise Refused(f"{path}: byte {4 * (at + 2)}: {frames} frames; the file has no room for them")
    lags = int(words[end])
    if lags == 0 or end + 1 + 2 * lags > len(words):
        raise Refused(f"{path}: byte {4 * end}: {lags} lags; the file has no room for them")
    headers = words[at + 3 : end].reshape(frames, FRAME_WORDS)
    whole = np.zeros((frames, wire.HEADER_WORDS), np.uint32)
    whole[:, 1] = words[at + 1]
    whole[:, _HEADER] = headers[:, :-1]
    fields = wire.parse_header(whole)
    parsed = tuple({name: int(values[frame]) for name, values in fields.items()} for frame in range(frames))
    pairs = words[end + 1 : end + 1 + 2 * lags].astype(np.uint32).view(np.int32).reshape(lags, 2)
    return LagSet(parsed, pairs)
