"""What can be saved of a file that is cut off or damaged: every integration whose texts and lengths are right.

Nothing in a file vouches for its numbers: a byte that is wrong inside them cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from socs_bl.bdf.parse import Buffer, Opening, parse_block, parse_opening
from socs_bl.bdf.reader import mapped
from socs_bl.core.errors import Faulty, Lost, Refused
from socs_bl.core.whole_file import open_whole

_COPY = 16 << 20


@dataclass(frozen=True, slots=True)
class Skipped:
    """A stretch of the source that was left out: first byte, bytes, and what was wrong with it."""

    offset: int
    nbytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came of it.

    Attributes
    ----------
    integrations : int
        Copied.
    first, last : int
        Numbers of the first and last integration copied, from 1, as the file calls them.
    bytes_kept, bytes_lost : int
    skipped : tuple of Skipped
        In the order of the file.
    closed : bool
        Whether the source had its closing boundary.
    """

    integrations: int
    first: int
    last: int
    bytes_kept: int
    bytes_lost: int
    skipped: tuple[Skipped, ...]
    closed: bool


def salvage(source: Path, target: Path) -> Salvaged:
    """Copy the main header and every whole integration of a file into a new one, as they are, and close it.

    Integrations keep their numbers and times, so that a gap stays one.

    Parameters
    ----------
    source : Path
        Also one that is still written, ``NAME.part``.
    target : Path
        Appears whole or not at all.

    Raises
    ------
    Refused
        When the source is no binary data file, or the target exists.
    Faulty
        When the main header is damaged: without it nothing can be read.
    Lost
        When no integration is whole, or the disk does not take the target.
    """
    if target.exists():
        raise Refused(f"{target}: exists; name a file that does not")
    buffer = mapped(source)
    opening = parse_opening(buffer, str(source))
    kept: list[tuple[int, int, int]] = []
    skipped: list[Skipped] = []
    closed = False
    for offset, end, number, reason in _stretches(buffer, opening, str(source)):
        if number:
            kept.append((offset, end, number))
        elif reason:
            skipped.append(Skipped(offset, end - offset, reason))
        else:
            closed = True
    if not kept:
        raise Lost(f"{source}: not one whole integration in {len(buffer)} bytes; {target} was not written")
    try:
        with open_whole(target) as file:
            file.write(buffer[: opening.first])
            for offset, end, _ in kept:
                for start in range(offset, end, _COPY):
                    file.write(buffer[start : min(start + _COPY, end)])
            file.write(opening.boundary + b"--\n")
    except OSError as error:
        raise Lost(f"{target}: cannot be written: {error.strerror}; {source} is as it was") from error
    lost = sum(gap.nbytes for gap in skipped)
    count = sum(end - offset for offset, end, _ in kept)
    return Salvaged(len(kept), kept[0][2], kept[-1][2], count, lost, tuple(skipped), closed)


def _stretches(buffer: Buffer, opening: Opening, name: str) -> Iterator[tuple[int, int, int, str]]:
    """First byte, end, number and what is wrong of each stretch; number 0 and nothing wrong: the closing boundary."""
    boundary, offset = opening.boundary, opening.first
    closing = boundary + b"--"
    while offset < len(buffer):
        if buffer[offset : offset + len(closing)] == closing:
            end = _line_end(buffer, offset)
            yield offset, end, 0, ""
            offset = end
            continue
        try:
            block = parse_block(buffer, offset, opening, name)
        except Faulty as error:
            following = buffer.find(boundary, offset + 1)
            end = len(buffer) if following < 0 else following
            yield offset, end, 0, str(error)
            offset = end
        else:
            yield offset, block.end, block.number, ""
            offset = block.end


def _line_end(buffer: Buffer, offset: int) -> int:
    end = buffer.find(b"\n", offset)
    return len(buffer) if end < 0 else end + 1
