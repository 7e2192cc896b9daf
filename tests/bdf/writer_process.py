"""A process that writes one window, or all, of a file: ``writer_process.py DIRECTORY WINDOW|all FIRST COUNT CHANNELS``.

Prints the number of each integration when it has been written. Every number of integration ``i`` is ``i + 1``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from socs_bl.bdf.layout import Header, SpectralWindow
from socs_bl.bdf.scan import Scan
from socs_bl.bdf.writer import BdfWriter, Piece

UID = "uid:///evla/bdf/1700000000000"
SECOND = 10**9


def shape(channels: int) -> Header:
    windows = tuple(SpectralWindow("AC_8BIT", number, channels, 1, ("RR", "LL"), ("RR", "LL")) for number in (1, 2, 3))
    return Header(UID, UID, "0/1/1/", 59000 * 86400 * SECOND, SECOND, 4, windows)


def piece(made: Header, window: int, index: int) -> Piece:
    value, one = index + 1, made.windows[window]
    cross, auto = (made.baselines, 1), (made.antennas, 1)
    return Piece(
        window,
        cross=np.full((*cross, one.channels, 2), value, np.complex64),
        auto=np.full((*auto, one.channels, 2), value, np.float32),
        cross_flags=np.zeros((*cross, 2), np.int32),
        auto_flags=np.zeros((*auto, 2), np.int32),
        cross_times=np.full((*cross, 2), value, np.int64),
        auto_times=np.full((*auto, 2), value, np.int64),
        cross_durations=np.full((*cross, 2), value, np.int64),
        auto_durations=np.full((*auto, 2), value, np.int64),
    )


def main() -> None:
    directory, which, first, count, channels = sys.argv[1:]
    made = shape(int(channels))
    windows = range(3) if which == "all" else [int(which)]
    with BdfWriter.open(Path(directory), made, Scan(uid=UID, dataset_id="test", start_ns=1)) as writer:
        for index in range(int(first), int(first) + int(count)):
            writer.write(index, [piece(made, window, index) for window in windows])
            print(index, flush=True)


if __name__ == "__main__":
    main()
