"""Packing with bzip2: one stream, verified while it is written, never appended to an older one."""

from __future__ import annotations

import bz2
import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import BaseModel

from socs_bl.core.stage import StageResult
from socs_bl.superdarn.work import READ_BYTES, Broken, NoParameters, ToolFailed, judged, like, unchanged, whole

EMPTY_BYTES = 14
"""Size of a bzip2 stream of nothing."""


class Pack:
    """Stage `bzip2`: ``NAME`` becomes ``NAME.bz2`` with the same time and mode."""

    kind: ClassVar[str] = "transform"
    parameters: ClassVar[type[BaseModel]] = NoParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: NoParameters) -> StageResult:
        """Pack one file.

        Verdict `bad` for an empty file and one that is packed already.
        """
        if input.suffix == ".bz2":
            raise Broken(f"{input.name} is packed already")
        output = output_directory / f"{input.name}.bz2"
        with whole(output) as path, unchanged(input) as seen, open(input, "rb") as source:
            if seen.st_size == 0:
                raise Broken(f"{input.name} is empty")
            packed = compress(iter(lambda: source.read(READ_BYTES), b""), path)
            like(path, seen)
        return StageResult(outputs=(output,), metadata={"packed_bytes": packed, "unpacked_bytes": seen.st_size})


def compress(chunks: Iterable[bytes], path: Path) -> int:
    """Write `chunks` as one bzip2 stream and unpack it again beside, so that what is on its way to disk is known to be right.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    ToolFailed
        When what unpacks is not what was packed.
    OSError
        When it cannot be written.
    """
    compressor, check = bz2.BZ2Compressor(), _Unpacking()
    given = hashlib.sha1(usedforsecurity=False)
    # bz2 works outside the interpreter's lock: unpacking runs on a second core, at most one piece behind.
    with open(path, "xb") as file, ThreadPoolExecutor(max_workers=1) as beside:
        pending: Future[None] | None = None
        for chunk in _with_end(chunks):
            if chunk is not None:
                given.update(chunk)
            piece = compressor.flush() if chunk is None else compressor.compress(chunk)
            if pending:
                pending.result()
            pending = beside.submit(check.feed, piece)
            file.write(piece)
        if pending:
            pending.result()
        size = file.tell()
    if not check.ended or check.digest != given.digest():
        raise ToolFailed(
            f"what bzip2 wrote for {path.name} does not unpack to what it was given; check this host's memory"
        )
    return size


class _Unpacking:
    """Unpacks piece by piece and keeps the hash only."""

    def __init__(self) -> None:
        self._decompressor = bz2.BZ2Decompressor()
        self._hash = hashlib.sha1(usedforsecurity=False)

    def feed(self, piece: bytes) -> None:
        if piece:
            self._hash.update(self._decompressor.decompress(piece))

    @property
    def ended(self) -> bool:
        return self._decompressor.eof and not self._decompressor.unused_data

    @property
    def digest(self) -> bytes:
        return self._hash.digest()


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    yield from chunks
    yield None


def unpack(source: BinaryIO, name: str) -> Iterator[bytes]:
    """The content of a file of exactly one bzip2 stream, piece by piece.

    Raises
    ------
    Broken
        When it is not packed, cut short, or something follows the stream: readers of DMAP read the first stream only, so a second
        one is data that nobody sees.
    """
    decompressor = bz2.BZ2Decompressor()
    read = 0
    while not decompressor.eof:
        chunk = source.read(READ_BYTES)
        if not chunk:
            raise Broken(f"{name}: the bzip2 stream is cut after {read} bytes")
        try:
            content = decompressor.decompress(chunk)
        except OSError as error:  # bz2 says so when the data are wrong, too
            if error.errno:
                raise
            raise Broken(f"{name}: bytes {read} to {read + len(chunk)} are no bzip2 data ({error})") from error
        read += len(chunk)
        if content:
            yield content
    rest = len(decompressor.unused_data)
    if rest or source.read(1):
        raise Broken(f"{name}: something follows the bzip2 stream at byte {read - rest}; it was appended to")
