"""Binary files for tests: shapes, numbers, and other people's readers."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import sdmpy.bdf
from pyasdm.bdf import BDFReader as PyasdmReader

from socs_bl.bdf.layout import CROSS_AND_AUTO, Header, SpectralWindow
from socs_bl.bdf.scan import Scan, make_uid
from socs_bl.bdf.writer import BdfWriter, Piece

START = 59000 * 86400 * 10**9  # ns since MJD 0
SECOND = 10**9
PARTS = ("flags", "actualTimes", "actualDurations", "crossData", "autoData")
FIELDS = tuple(f"{kind}{part}" for kind in ("cross", "auto") for part in ("", "_flags", "_times", "_durations"))
FULL, FULL_AUTO = ("RR", "RL", "LR", "LL"), ("RR", "RL", "LL")
_numbers = itertools.count(1_700_000_000_000)


def window(
    number: int = 1,
    channels: int = 8,
    bins: int = 1,
    cross: tuple[str, ...] = FULL,
    auto: tuple[str, ...] = FULL_AUTO,
    baseband: str = "AC_8BIT",
) -> SpectralWindow:
    return SpectralWindow(baseband, number, channels, bins, cross, auto)


def header(
    windows: tuple[SpectralWindow, ...] = (window(),), antennas: int = 3, mode: str = CROSS_AND_AUTO, **more: Any
) -> Header:
    uid = make_uid(next(_numbers))
    return Header(uid, uid, "0/1/1/", START, SECOND, antennas, windows, mode, **more)


def scan_of(made: Header, **more: Any) -> Scan:
    return Scan(uid=made.uid, dataset_id="test", start_ns=1, **more)


def random_pieces(made: Header, generator: np.random.Generator) -> list[Piece]:
    """A piece of each window, all rows, of numbers that cannot be mistaken for each other."""
    found = []
    for number, one in enumerate(made.windows):
        arrays: dict[str, Any] = {}
        for kind, rows, products, values, there in (
            ("cross", made.baselines, len(one.cross), len(one.cross), made.has_cross),
            ("auto", made.antennas, len(one.auto), one.auto_values, made.has_auto),
        ):
            if not there:
                continue
            shape, meta = (rows, one.bins, one.channels, values), (rows, one.bins, products)
            data = generator.standard_normal(shape).astype(np.float32)
            arrays[kind] = (data + 1j * data[::-1]).astype(np.complex64) if kind == "cross" else data
            arrays[f"{kind}_flags"] = generator.integers(0, 1 << 20, meta, np.int32)
            arrays[f"{kind}_times"] = generator.integers(1 << 60, 1 << 62, meta, np.int64)
            arrays[f"{kind}_durations"] = generator.integers(0, 1 << 40, meta, np.int64)
        found.append(Piece(number, **arrays))
    return found


def good_pieces(made: Header, value: float = 1.0) -> list[Piece]:
    """A piece of each window, all rows, of one value, not flagged."""
    generator = np.random.default_rng(0)
    found = []
    for piece in random_pieces(made, generator):
        arrays = {name: getattr(piece, name) for name in FIELDS}
        filled = {
            name: None if array is None else np.full_like(array, 0 if name.endswith("_flags") else value)
            for name, array in arrays.items()
        }
        found.append(Piece(piece.window, **filled))
    return found


def write_file(directory: Path, made: Header, integrations: list[list[Piece]]) -> Path:
    """``NAME.part`` of these integrations, by one writer."""
    with BdfWriter.open(directory, made, scan_of(made)) as writer:
        for index, pieces in enumerate(integrations):
            writer.write(index, pieces)
    return writer.path


def check_sdmpy(path: Path, made: Header, integrations: list[list[Piece]]) -> None:
    """sdmpy reads back what was put in."""
    read = sdmpy.bdf.BDF(str(path))
    read.fp.close()  # it has read everything, and never closes
    read.fp = io.BytesIO(read.mmdata)
    assert read.numIntegration == len(integrations) and read.numAntenna == made.antennas
    for index, pieces in enumerate(integrations):
        integration = read[index]
        middle = made.start_ns + index * made.interval_ns + made.interval_ns // 2
        assert int(integration.sdmDataSubsetHeader.schedulePeriodTime.time) == middle
        assert integration.interval == made.interval_ns * 1e-9
        for number, piece in enumerate(pieces):
            for kind in ("cross", "auto"):
                data = getattr(piece, kind)
                if data is None or not data.size:
                    continue  # sdmpy has no empty arrays
                assert np.array_equal(integration.get_data(number, kind), data)
                for name, ours in (("flags", "flags"), ("actualTimes", "times"), ("actualDurations", "durations")):
                    assert np.array_equal(integration.get_meta(name, number, kind), getattr(piece, f"{kind}_{ours}")), (
                        index,
                        number,
                        kind,
                        name,
                    )


def check_pyasdm(path: Path, made: Header, integrations: list[list[Piece]]) -> None:
    """pyasdm reads back what was put in; it leaves the division into windows to its user."""
    reader = PyasdmReader()
    reader.open(str(path))
    try:
        windows = [one for band in reader.getHeader().getBasebandsList() for one in band["spectralWindows"]]
        assert [int(one["sw"]) for one in windows] == [one.number for one in made.windows]
        assert [one["numSpectralPoint"] for one in windows] == [one.channels for one in made.windows]
        for index, pieces in enumerate(integrations):
            assert reader.hasSubset()
            subset = reader.getSubset()
            assert subset["integrationNumber"] == index + 1 and subset["intervalInNanoSeconds"] == made.interval_ns
            for name in PARTS:
                expected = flat_part(made, pieces, name)
                assert subset[name]["present"] == (expected is not None), name
                if expected is not None:
                    assert np.array_equal(subset[name]["arr"], expected), (index, name)
        assert not reader.hasSubset()
    finally:
        reader.close()


def flat_part(made: Header, pieces: list[Piece], name: str) -> np.ndarray | None:
    """All numbers of a part in the order of the format, put together by row."""
    field = {"flags": "_flags", "actualTimes": "_times", "actualDurations": "_durations"}.get(name, "")
    numbers = []
    for kind, rows in (("cross", made.baselines), ("auto", made.antennas)):
        if (kind, name) in (("cross", "autoData"), ("auto", "crossData")):
            continue
        arrays = [getattr(piece, kind + field) for piece in pieces]
        if any(array is None for array in arrays):
            continue
        for row in range(rows):
            numbers += [array[row].ravel() for array in arrays]
    if not numbers:
        return None
    flat = np.concatenate(numbers)
    return flat.view(np.float32) if name == "crossData" else flat
