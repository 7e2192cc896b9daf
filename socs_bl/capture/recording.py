"""A recording: a sequence of GUPPI RAW files that grow under their final names, whole blocks only."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from socs_bl.capture import guppi
from socs_bl.capture.model import Geometry, Plan, Value
from socs_bl.core.clock import unix_to_mjd
from socs_bl.core.errors import Lost


class Recording:
    """The open files of one plan.

    Parameters
    ----------
    plan : Plan
        Directory, name and cards.
    geometry : Geometry
        For the start time.
    root : Path
        Directory below which ``plan.directory`` is placed.
    pktidx : int
        Packet index of the first block that will be written.
    blocks_per_file : int
        Blocks after which the next file begins.
    """

    def __init__(self, plan: Plan, geometry: Geometry, root: Path, pktidx: int, blocks_per_file: int) -> None:
        self.plan = plan
        self.blocks = 0
        self.missing = 0
        self._blocks_per_file = blocks_per_file
        self._directory = root / plan.directory.lstrip("/")
        imjd, seconds = unix_to_mjd(geometry.wall(pktidx))
        self._stem = guppi.file_stem(imjd, int(seconds), pktidx, plan.source, plan.scan)
        self._start: dict[str, Value] = {
            "STT_IMJD": imjd,
            "STT_SMJD": int(seconds),
            "STT_OFFS": seconds - int(seconds),
            "SCANNUM": plan.scan,
        }
        self._file: BinaryIO | None = None
        self.path = self._directory / guppi.file_name(self._stem, 0)

    def write(self, pktidx: int, samples: npt.NDArray[np.int8], missing: int) -> None:
        """Append a block.

        Parameters
        ----------
        pktidx : int
            Packet index of its first samples.
        samples : numpy.ndarray
            int8, contiguous, in GUPPI order, ``BLOCSIZE`` bytes.
        missing : int
            Heaps of this block that are zeros because they did not come.

        Raises
        ------
        Lost
            When the block could not be written; the file ends with the block before.
        """
        header = guppi.encode_header(
            {
                **self.plan.cards,
                **self._start,
                "PKTIDX": pktidx,
                "PKTSTART": self.plan.window.start,
                "PKTSTOP": self.plan.window.stop,
                "NDROP": missing,
            }
        )
        try:
            file = self._file_for_next_block()
            whole = file.tell()
            try:
                _write_all(file, header)
                _write_all(file, samples.data.cast("B"))
            except OSError:
                with contextlib.suppress(OSError):  # the first error is the one to report
                    file.truncate(whole)
                raise
        except OSError as error:
            what = "disk full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
            raise Lost(f"{what}: block {self.blocks} (PKTIDX {pktidx}) of {self.path} is lost") from error
        self.blocks += 1
        self.missing += missing

    def close(self) -> None:
        """Close the current file and see that it is on the disk.

        Raises
        ------
        Lost
            When the system says that it is not.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with file:
                os.fsync(file.fileno())
        except OSError as error:
            raise Lost(f"{error.strerror}: the end of {self.path} may be lost") from error

    def _file_for_next_block(self) -> BinaryIO:
        sequence, place = divmod(self.blocks, self._blocks_per_file)
        if self._file is None or place == 0:
            self.close()
            self._directory.mkdir(parents=True, exist_ok=True)
            self.path = self._directory / guppi.file_name(self._stem, sequence)
            # Never on top of an existing recording; unbuffered: blocks are large and must fail here, not at close.
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 - closed in close()
        return self._file


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write everything; an unbuffered file may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
