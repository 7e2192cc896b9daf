"""Whether a file is a sequence of Cap'n Proto messages, without knowing their schema.

Source: Cap'n Proto encoding specification, "Serialization over a stream" (segment table: number of segments less one,
their sizes in words, padded to a word; all little-endian 32-bit) and "Structs" (the root pointer is the first word: two
bits of kind, thirty of signed offset, sixteen each of data and pointer words). seticore writes one message a hit into
``.hits`` and one a stamp into ``.stamps`` so.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from socs_bl.core.errors import Refused

WORD = 8
MOST_SEGMENTS = 512
_STRUCT, _FAR = 0, 2


def count_messages(path: Path) -> int:
    """Number of messages in a file; 0 when it is empty.

    Raises
    ------
    Refused
        When it is anything but whole messages with a struct at their root; the text says where.
    OSError
        When it cannot be read.
    """
    size, count = path.stat().st_size, 0
    with open(path, "rb") as file:
        while (place := file.tell()) < size:
            try:
                end = _message(file, place)
            except ValueError as error:
                raise Refused(f"{path}: byte {place}: {error}; this is no sequence of Cap'n Proto messages") from None
            if end > size:
                raise Refused(f"{path}: byte {place}: the message ends at {end}, the file at {size}; it is cut off")
            file.seek(end)
            count += 1
    return count


def _message(file: BinaryIO, place: int) -> int:
    """Check one message and return where it ends."""
    segments = _word32(file) + 1
    if segments > MOST_SEGMENTS:
        raise ValueError(f"{segments} segments")
    sizes = [_word32(file) for _ in range(segments)]
    table = 4 * (1 + segments)
    start = place + table + -table % WORD
    if sizes[0] < 1:
        raise ValueError("a first segment without a root pointer")
    file.seek(start)
    low, data, pointers = struct.unpack("<iHH", _exactly(file, WORD))
    kind, offset = low & 3, low >> 2
    if kind not in (_STRUCT, _FAR):
        raise ValueError(f"a root pointer of kind {kind}")
    if kind == _STRUCT and not (offset >= 0 and 1 + offset + data + pointers <= sizes[0]):
        raise ValueError(f"a root of {data + pointers} words at {offset} in a segment of {sizes[0]}")
    return start + WORD * sum(sizes)


def _word32(file: BinaryIO) -> int:
    (value,) = struct.unpack("<I", _exactly(file, 4))
    return int(value)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError(f"{len(data)} of {count} bytes")
    return data
