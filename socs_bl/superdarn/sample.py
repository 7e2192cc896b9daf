"""Small files that are known to be good, to tell a broken installation from broken data.

Layouts: Borealis documentation, "rawacf" and "antennas_iq" (v0.7 site structure; v1.0). The values are noise; what counts is that
every field which pydarnio asks for is there, with its type.
"""

from __future__ import annotations

import datetime
import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

START = datetime.datetime(2024, 3, 5, 14, tzinfo=datetime.UTC).timestamp() + 0.25
PERIOD_S = 3.5
PULSES = np.array([0, 9, 12, 20, 22, 26, 27], np.uint32)
# Every pair of pulses is a lag; the last one is the alternate lag zero.
LAGS = np.array([(a, b) for i, a in enumerate(PULSES) for b in PULSES[i + 1 :]], np.uint32)
LAGS = np.concatenate([[(0, 0)], LAGS[np.argsort(LAGS[:, 1] - LAGS[:, 0])], [(27, 27)]]).astype(np.uint32)
MAIN, INTF = 4, 2


def site_file(
    path: Path,
    kind: str = "rawacf",
    *,
    records: int = 2,
    sequences: Sequence[int] = (3, 2),
    ranges: int = 5,
    samples: int = 80,
    start: float = START,
    station: str = "sas",
    slice_id: int = 0,
    cpid: int = 151,
) -> Path:
    """Write a site file of Borealis v0.7, a group for each record; `sequences` is repeated over the records."""
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for number in range(records):
            count = sequences[number % len(sequences)]
            time = start + number * PERIOD_S
            group = file.create_group(str(int(time * 1000)))
            for name, value in _scalars(kind, count, number % 16, station, slice_id, cpid, ranges, samples).items():
                group.attrs[name] = np.bytes_(value) if isinstance(value, str) else value
            for name, value in _arrays(kind, random, time, count, number % 16, ranges, samples).items():
                group[name] = value
    return path


def v1_file(
    path: Path,
    kind: str = "rawacf",
    *,
    records: int = 2,
    sequences: Sequence[int] = (3, 2),
    ranges: int = 5,
    samples: int = 80,
    start: float = START,
    station: str = "sas",
    slice_id: int = 0,
    cpid: int = 151,
) -> Path:
    """Write a file of Borealis v1.0: what never changes in ``/metadata``, linked into each record's group."""
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        metadata = file.create_group("metadata")
        for number in range(records):
            count = sequences[number % len(sequences)]
            time = start + number * PERIOD_S
            moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
            group = file.create_group(f"{moment:%Y%m%d-%H%M-%S.%f}")
            fields = _v1_fields(kind, random, time, count, number % 16, ranges, samples)
            scalars = _scalars(kind, count, number % 16, station, slice_id, cpid, ranges, samples)
            scalars["borealis_git_hash"] = "v1.0-0-g0000000"
            changing = {name: scalars.pop(name) for name in _CHANGING}
            if not len(metadata):
                constant = {**scalars, **_v1_constants(kind, ranges, samples)}
                for name, value in constant.items():
                    metadata[name] = np.bytes_(value) if isinstance(value, str) else value
            for name in metadata:
                group[name] = metadata[name]
            for name, value in {**changing, **fields}.items():
                options = {"compression": "gzip"} if np.ndim(value) > 1 else {}
                group.create_dataset(name, data=np.bytes_(value) if isinstance(value, str) else value, **options)
    return path


_CHANGING = ("agc_status_word", "gps_locked", "gps_to_system_time_diff", "int_time", "lp_status_word", "num_sequences",
             "scan_start_marker")  # fmt: skip


def _scalars(
    kind: str, sequences: int, beam: int, station: str, slice_id: int, cpid: int, ranges: int, samples: int
) -> dict[str, Any]:
    scalars: dict[str, Any] = {
        "agc_status_word": np.uint32(0),
        "borealis_git_hash": "v0.7-0-g0000000",
        "data_normalization_factor": np.float64(9144500.0),
        "experiment_comment": "sample",
        "experiment_id": np.int16(cpid),
        "experiment_name": "NormalScan",
        "first_range": np.float32(180.0),
        "first_range_rtt": np.float32(1200.0),
        "freq": np.uint32(10600),
        "gps_locked": np.bool_(True),
        "gps_to_system_time_diff": np.float64(-1e-4),
        "int_time": np.float32(3.49),
        "intf_antenna_count": np.uint32(INTF),
        "lp_status_word": np.uint32(0),
        "main_antenna_count": np.uint32(MAIN),
        "num_sequences": np.int64(sequences),
        "num_slices": np.int64(1),
        "range_sep": np.float32(45.0),
        "rx_sample_rate": np.float64(1e4 / 3),
        "samples_data_type": "complex float",
        "scan_start_marker": np.bool_(beam == 0),
        "scheduling_mode": "common",
        "slice_comment": "sample",
        "slice_id": np.uint32(slice_id),
        "slice_interfacing": "{}",
        "station": station,
        "tau_spacing": np.uint32(2400),
        "tx_pulse_len": np.uint32(300),
    }
    if kind == "rawacf":
        return scalars | {"averaging_method": "mean"}
    return scalars | {"num_ranges": np.uint32(ranges), "num_samps": np.uint32(samples)}


def _noise(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=(*shape, 2)).astype(np.float32).view(np.complex64)[..., 0] * 1e4).astype(np.complex64)


def _arrays(
    kind: str, random: np.random.Generator, time: float, sequences: int, beam: int, ranges: int, samples: int
) -> Mapping[str, Any]:
    arrays: dict[str, Any] = {
        "beam_azms": np.array([3.24 * (beam - 7.5)]),
        "beam_nums": np.array([beam], np.uint32),
        "blanked_samples": PULSES * 8,
        "lags": LAGS,
        "noise_at_freq": np.zeros(sequences),
        "pulses": PULSES,
        "sqn_timestamps": time + 0.1 * np.arange(sequences),
        "tx_antenna_phases": np.ones(MAIN, np.complex64),
    }
    shape: tuple[int, ...]
    if kind == "rawacf":
        shape = (1, ranges, len(LAGS))
        arrays |= {name: _noise(random, *shape) for name in ("main_acfs", "intf_acfs", "xcfs")}
        descriptors = ["num_beams", "num_ranges", "num_lags"]
    elif kind == "antennas_iq":
        shape = (MAIN + INTF, sequences, samples)
        arrays |= {
            "antenna_arrays_order": np.bytes_([f"antenna_{number}" for number in range(MAIN + INTF)]),
            "data": _noise(random, *shape).ravel(),
        }
        descriptors = ["num_antennas", "num_sequences", "num_samps"]
    else:
        shape = (2, sequences, 1, samples)
        arrays |= {"antenna_arrays_order": np.bytes_(["main", "intf"]), "data": _noise(random, *shape).ravel()}
        descriptors = ["num_antenna_arrays", "num_sequences", "num_beams", "num_samps"]
    if kind != "rawacf":
        arrays["pulse_phase_offset"] = np.zeros(0, np.float32)
    return arrays | {"data_dimensions": np.array(shape, np.uint32), "data_descriptors": np.bytes_(descriptors)}


def _v1_constants(kind: str, ranges: int, samples: int) -> dict[str, Any]:
    constants: dict[str, Any] = {
        "lag_pulses": LAGS,
        "lag_numbers": (LAGS[:, 1] - LAGS[:, 0]).astype(np.uint32),
        "pulses": PULSES,
        "blanked_samples": PULSES * 8,
        "range_gates": np.arange(ranges, dtype=np.uint32),
        "rx_antennas": np.bytes_([f"antenna_{number}" for number in range(MAIN + INTF)]),
    }
    return constants if kind == "rawacf" else constants | {"sample_time": np.arange(samples, dtype=np.float32) * 300}


def _v1_fields(
    kind: str, random: np.random.Generator, time: float, sequences: int, beam: int, ranges: int, samples: int
) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "beam_azms": np.array([3.24 * (beam - 7.5)]),
        "beam_nums": np.array([beam], np.uint32),
        "sqn_timestamps": time + 0.1 * np.arange(sequences),
        "tx_excitations": np.ones(MAIN, np.complex64),
    }
    if kind == "rawacf":
        return fields | {name: _noise(random, 1, ranges, len(LAGS)) for name in ("main_acfs", "intf_acfs", "xcfs")}
    return fields | {"antennas_iq_data": _noise(random, MAIN + INTF, sequences, samples)}


@functools.cache
def pydarnio_works() -> str:
    """Convert a sample with pydarnio and read it back; empty when that works, else what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            import pydarnio

            site = site_file(Path(folder) / "20240305.1400.00.sas.0.rawacf.hdf5.site")
            dmap = Path(folder) / "20240305.1400.00.sas.a.rawacf"
            array = Path(folder) / "20240305.1400.00.sas.0.rawacf.hdf5"
            pydarnio.BorealisRestructure(str(site), str(array), "rawacf", "array", hdf5_compression="gzip")
            pydarnio.BorealisConvert(str(array), "rawacf", str(dmap), 0, borealis_file_structure="array")
            if len(pydarnio.read_rawacf(str(dmap), mode="strict")) != 2:
                return "pydarnio lost a record of the sample"
        except Exception as error:  # noqa: BLE001  whatever it is, it is not the fault of anybody's data
            return f"{type(error).__name__}: {error}"
    return ""


@functools.cache
def h5py_works() -> str:
    """Write and read a compressed file; empty when that works, else what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = v1_file(Path(folder) / "sample.h5")
            with h5py.File(path, "r") as file:
                for name in file:
                    file[name]["pulses"][()]
        except Exception as error:  # noqa: BLE001  as above
            return f"{type(error).__name__}: {error}"
    return ""
