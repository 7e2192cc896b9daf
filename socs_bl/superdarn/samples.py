"""Samples of every antenna, reduced to what a picture shows, in one pass over a file and in a memory that hardly grows with it.

A block of two hours has 60,000 sequences of 20 antennas, 3 GB; a picture is a thousand pixels wide. So the power of neighbouring
sequences is averaged while the file is read, record by record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import h5py
import msgspec
import numpy as np
from numpy.typing import NDArray

from socs_bl.superdarn import hdf5
from socs_bl.superdarn.hdf5 import Structure
from socs_bl.superdarn.work import Broken

COLUMNS = 4096
NOISE_SAMPLES = 10
_BLOCK_BYTES = 16 << 20
_SMALLEST = 1e-6
_NUMBER = re.compile(r"[0-9]+$")


class Antennas(msgspec.Struct, frozen=True, kw_only=True):
    """The reduced samples of a file.

    Attributes
    ----------
    power : float32 array, antennas x columns x samples
        20 log10 of the voltage, averaged over the sequences of a column.
    snr : float32 array, antennas x sequences
        20 log10 of a sequence's largest voltage over the mean of its ten smallest; the first two samples, in which the
        transmitter is heard, do not count as largest.
    counts : int array, records
        Sequences of each averaging period.
    numbers : tuple of int
        Of the antennas.
    zero : tuple of int
        Numbers of antennas that have no signal at all: every sample is 0.
    first, last : float
        Unix seconds of the first and the last sequence.
    station, experiment : str
    """

    power: NDArray[np.float32]
    snr: NDArray[np.float32]
    counts: NDArray[np.int64]
    numbers: tuple[int, ...]
    zero: tuple[int, ...]
    first: float
    last: float
    station: str
    experiment: str


def read_antennas(file: h5py.File, first_sample: int, last_sample: int) -> Antennas:
    """Read samples `first_sample` to `last_sample` (exclusive) of every sequence of every whole record.

    Raises
    ------
    Broken
        When the file holds no antennas' samples in that range.
    OSError, KeyError and other errors of h5py
        When it cannot be read.
    """
    seen = hdf5.survey(file)
    odd = seen.incomplete.keys() | seen.mismatched.keys()
    stamps, counts = _times(file, seen.structure, odd)
    total = int(counts.sum())
    columns = min(total, COLUMNS)
    numbers = _numbers(file, seen.structure, odd)
    power: NDArray[np.float32] | None = None
    snr = np.empty((len(numbers), total), np.float32)
    silent = np.ones(len(numbers), bool)
    weights = np.bincount(np.arange(total) * columns // total, minlength=columns)
    at = 0
    for voltage in _voltages(file, seen.structure, odd, first_sample, last_sample):
        if power is None:
            if not voltage.shape[2]:
                raise Broken(f"there are no samples {first_sample} to {last_sample} in its records")
            power = np.zeros((len(numbers), columns, voltage.shape[2]), np.float32)
        count = voltage.shape[1]
        snr[:, at : at + count] = _snr(voltage)
        silent &= ~voltage.any(axis=(1, 2))
        columns_of = np.arange(at, at + count) * columns // total
        starts = np.flatnonzero(np.diff(columns_of, prepend=-1))
        decibel = 20 * np.log10(np.maximum(voltage, _SMALLEST))
        power[:, columns_of[starts]] += np.add.reduceat(decibel, starts, axis=1)
        at += count
    if power is None:
        raise Broken("there are no samples of antennas in it")
    power /= weights[:, None]
    return Antennas(
        power=power,
        snr=snr,
        counts=counts,
        numbers=numbers,
        zero=tuple(number for number, quiet in zip(numbers, silent, strict=True) if quiet),
        first=float(stamps[0]),
        last=float(stamps[-1]),
        station=seen.station,
        experiment=_experiment(file, seen.structure, odd),
    )


def _snr(voltage: NDArray[np.float32]) -> NDArray[np.float32]:
    weakest = min(NOISE_SAMPLES, voltage.shape[2])
    noise = np.partition(voltage, weakest - 1, axis=2)[:, :, :weakest].mean(axis=2)
    signal = voltage[:, :, 2:].max(axis=2) if voltage.shape[2] > 2 else voltage.max(axis=2)
    ratio: NDArray[np.float32] = 20 * np.log10(np.maximum(signal, _SMALLEST) / np.maximum(noise, _SMALLEST))
    return ratio


def _whole(file: h5py.File, odd: set[str]) -> Iterator[h5py.Group]:
    for name in sorted(file):
        if name != hdf5.METADATA and name not in odd:
            yield file[name]


def _times(file: h5py.File, structure: Structure, odd: set[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times of the first sequence of the first and the last of the last record; sequences of each record."""
    if structure is Structure.ARRAY:
        counts = np.asarray(file["num_sequences"][()], np.int64)
        ends = file["sqn_timestamps"]
        return np.array([ends[0, 0], ends[-1, counts[-1] - 1]]), counts
    stamps = [group["sqn_timestamps"][()] for group in _whole(file, odd)]
    return np.array([stamps[0][0], stamps[-1][-1]]), np.array([len(some) for some in stamps], np.int64)


def _voltages(
    file: h5py.File, structure: Structure, odd: set[str], first: int, last: int
) -> Iterator[NDArray[np.float32]]:
    """Voltages, antennas x sequences x samples, a record or a few at a time."""
    if structure is Structure.V1:
        for group in _whole(file, odd):
            yield np.abs(group["antennas_iq_data"][:, :, first:last])
        return
    if structure is Structure.SITE:
        for group in _whole(file, odd):
            yield np.abs(group["data"][()].reshape(group["data_dimensions"][()])[:, :, first:last])
        return
    data, counts = file["data"], file["num_sequences"][()]
    rows = data.chunks[0] if data.chunks else 1
    width = int(np.prod(data.shape[1:3])) * (last - first) * 8
    rows = max(1, min(rows, _BLOCK_BYTES // max(1, width)))
    for row in range(0, data.shape[0], rows):
        block = np.abs(data[row : row + rows, :, :, first:last])
        for one, count in zip(block, counts[row : row + rows], strict=True):
            # Behind a record's own sequences is padding.
            yield one[:, :count]


def _numbers(file: h5py.File, structure: Structure, odd: set[str]) -> tuple[int, ...]:
    where: Any = file if structure is Structure.ARRAY else next(_whole(file, odd))
    field = "rx_antennas" if structure is Structure.V1 else "antenna_arrays_order"
    names = where[field]
    if "itemsize" in names.attrs:  # v0.5 and before: characters as numbers
        values: list[Any] = names[()].view((np.str_, names.attrs["itemsize"])).ravel().tolist()
    else:
        values = names[()].tolist()
    found = [_NUMBER.search(value.decode() if isinstance(value, bytes) else str(value)) for value in values]
    if not found or None in found:
        raise Broken(f"its antennas are called {values[:3]}; their names end in a number")
    return tuple(int(match.group()) for match in found if match)


def _experiment(file: h5py.File, structure: Structure, odd: set[str]) -> str:
    where: Any = file if structure is Structure.ARRAY else next(_whole(file, odd))
    value = where.attrs["experiment_name"] if "experiment_name" in where.attrs else where["experiment_name"][()]
    return value.decode() if isinstance(value, bytes) else str(value)
