"""Files of a Borealis radar, written as it writes them: opened, one record appended, closed.

Source: Borealis documentation, "Borealis data files" (site files of v0.7, files of v1.0), without the descriptions that v1.0
files carry in attributes; SuperDARN RFC 0008 (rawacf) and the DMAP format of RST for DMAP records.
"""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from socs_bl.core.clock import utc
from socs_bl.simulators.radar_signal import UNIT

Values = Mapping[str, Any]
_TEXT = "S"
_KINDS = {"r": "rawacf", "a": "antennas_iq", "b": "bfiq"}


class _Entry(NamedTuple):
    """A field: its numpy type (`S` is text), the kinds of file that have it, where it lies."""

    name: str
    type: str
    kinds: frozenset[str]
    place: str


def _table(text: str) -> tuple[_Entry, ...]:
    rows = (line.split() for line in text.strip().splitlines())
    return tuple(
        _Entry(name, type, frozenset(_KINDS[letter] for letter in kinds), place) for name, type, kinds, place in rows
    )


SITE = _table("""
agc_status_word           u4 rab attribute
averaging_method          S  r   attribute
borealis_git_hash         S  rab attribute
data_normalization_factor f8 rab attribute
experiment_comment        S  rab attribute
experiment_id             i2 rab attribute
experiment_name           S  rab attribute
first_range               f4 rab attribute
first_range_rtt           f4 rab attribute
freq                      u4 rab attribute
gps_locked                ?  rab attribute
gps_to_system_time_diff   f8 rab attribute
int_time                  f4 rab attribute
intf_antenna_count        u4 rab attribute
lp_status_word            u4 rab attribute
main_antenna_count        u4 rab attribute
num_ranges                u4 ab  attribute
num_samps                 u4 ab  attribute
num_sequences             i8 rab attribute
num_slices                i8 rab attribute
range_sep                 f4 rab attribute
rx_sample_rate            f8 rab attribute
samples_data_type         S  rab attribute
scan_start_marker         ?  rab attribute
scheduling_mode           S  rab attribute
slice_comment             S  rab attribute
slice_id                  u4 rab attribute
slice_interfacing         S  rab attribute
station                   S  rab attribute
tau_spacing               u4 rab attribute
tx_pulse_len              u4 rab attribute
antenna_arrays_order      S  ab  dataset
beam_azms                 f8 rab dataset
beam_nums                 u4 rab dataset
blanked_samples           u4 rab dataset
data                      c8 ab  dataset
data_descriptors          S  rab dataset
data_dimensions           u4 rab dataset
intf_acfs                 c8 r   dataset
lags                      u4 rab dataset
main_acfs                 c8 r   dataset
noise_at_freq             f8 rab dataset
pulse_phase_offset        f4 ab  dataset
pulses                    u4 rab dataset
sqn_timestamps            f8 rab dataset
tx_antenna_phases         c8 rab dataset
xcfs                      c8 r   dataset
""")

# What others are scales of comes first. A `file` field is the same in all records: written once, linked from each.
V1 = _table("""
antenna_arrays            S  b   file
beam_azms                 f8 rab record
beam_nums                 u4 rab record
global_coord              S  rab file
lag_numbers               u4 rab file
lag_pulse_descriptors     S  rab file
lags                      u4 rab file
local_coord               S  rab file
range_gates               u4 rab file
rx_antennas               u4 a   file
rx_intf_antennas          u4 rab file
rx_main_antennas          u4 rab file
sample_time               f4 ab  file
sqn_timestamps            f8 rab record
tx_antennas               u4 rab file
agc_status_word           u4 rab record
antenna_locations         f4 rab file
antennas                  S  rab file
antennas_iq_data          c8 a   record
averaging_method          S  r   file
bfiq_data                 c8 b   record
blanked_samples           u4 rab file
borealis_git_hash         S  rab file
data_normalization_factor f8 rab file
experiment_comment        S  rab file
experiment_id             i2 rab file
experiment_name           S  rab file
first_range               f4 rab file
first_range_rtt           f4 rab file
freq                      u4 rab record
gps_locked                ?  rab record
gps_to_system_time_diff   f8 rab record
int_time                  f4 rab record
intf_acfs                 c8 r   record
lag_pulses                u4 rab file
lp_status_word            u4 rab record
main_acfs                 c8 r   record
num_sequences             i8 rab record
num_slices                i8 rab file
pulses                    u4 rab file
range_sep                 f4 rab file
rx_intf_excitations       c8 rab record
rx_main_excitations       c8 rab record
rx_sample_rate            f8 rab file
samples_data_type         S  rab file
scan_start_marker         ?  rab record
scheduling_mode           S  rab file
slice_comment             S  rab file
slice_id                  u4 rab file
slice_interfacing         S  rab file
station                   S  rab file
station_location          f4 rab file
tau_spacing               u4 rab file
tx_excitations            c8 rab record
tx_pulse_len              u4 rab file
xcfs                      c8 r   record
""")

_BEAM = ("beam", ("beam_azms", "beam_nums"))
_CORRELATION = (_BEAM, ("range", ("range_gates",)), ("lag", ("lag_numbers",)))
_TIMES = (("sequence", ("sqn_timestamps",)), ("time", ("sample_time",)))
# Of fields of v1.0 files: the name of each dimension, and the fields that give its coordinates.
DIMENSIONS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "antenna_locations": (("antenna", ()), ("coordinate", ("local_coord",))),
    "antennas_iq_data": (("antenna", ("rx_antennas",)), *_TIMES),
    "bfiq_data": (("array", ("antenna_arrays",)), _TIMES[0], _BEAM, _TIMES[1]),
    "intf_acfs": _CORRELATION,
    "lag_pulses": (("lag", ("lags",)), ("pulse", ("lag_pulse_descriptors",))),
    "main_acfs": _CORRELATION,
    "rx_intf_excitations": (_BEAM, ("antenna", ("rx_intf_antennas",))),
    "rx_main_excitations": (_BEAM, ("antenna", ("rx_main_antennas",))),
    "station_location": (("coordinate", ("global_coord",)),),
    "tx_excitations": (("antenna", ("tx_antennas",)),),
    "xcfs": _CORRELATION,
}
_SCALES = frozenset(name for dimensions in DIMENSIONS.values() for _, names in dimensions for name in names)


def append_site(path: Path, kind: str, values: Values, part: float = 1.0) -> None:
    """Append a record to a site file of v0.7; the group's name is its time in milliseconds since 1970.

    Parameters
    ----------
    path : Path
        Created when it does not exist.
    kind : str
        ``rawacf``, ``antennas_iq`` or ``bfiq``.
    values : mapping
        Of all fields in `SITE` of that kind.
    part : float
        The fraction of the fields that is written; less than 1 is a radar that stops in the middle.

    Raises
    ------
    OSError, ValueError
        From h5py, when it cannot be written or the record is there already.
    """
    with h5py.File(path, "a") as file:
        group = file.create_group(str(int(values["sqn_timestamps"][0] * 1000)))
        for entry in _some(SITE, kind, part):
            value = _typed(entry, values[entry.name])
            if entry.place == "attribute":
                group.attrs[entry.name] = value
            else:
                group[entry.name] = value


def append_v1(path: Path, kind: str, values: Values, part: float = 1.0) -> None:
    """Append a record to a file of v1.0; the group's name is its time in microseconds.

    What does not change lies in ``/metadata`` and is linked from each record. Arguments and errors as those of `append_site`,
    fields of `V1`. HDF5 keeps what a scale belongs to in one attribute of at most 64 KiB, so that after some 1360 records of
    ``rawacf`` there is an OSError, and an incomplete record in the file; so it is with the radar.
    """
    with h5py.File(path, "a") as file:
        metadata = file.require_group("metadata")
        group = file.create_group(f"{utc(values['sqn_timestamps'][0]):%Y%m%d-%H%M-%S.%f}")
        for entry in _some(V1, kind, part):
            home = metadata if entry.place == "file" else group
            new = entry.name not in home
            if new:
                _write(home, entry, values[entry.name])
            if home is metadata:
                group[entry.name] = metadata[entry.name]
            if new:
                _attach(group, entry.name)


def _write(home: h5py.Group, entry: _Entry, content: Any) -> None:
    value = _typed(entry, content)
    options = {"compression": "gzip", "compression_opts": 9} if np.ndim(value) else {}
    dataset = home.create_dataset(entry.name, data=value, **options)
    if entry.name in _SCALES:
        dataset.make_scale(entry.name)


def _attach(group: h5py.Group, name: str) -> None:
    """Name a field's dimensions and attach what gives their coordinates."""
    for dimension, (label, scales) in zip(group[name].dims, DIMENSIONS.get(name, ()), strict=False):
        dimension.label = label
        for scale in scales:
            dimension.attach_scale(group[scale])


def _some(table: tuple[_Entry, ...], kind: str, part: float) -> list[_Entry]:
    entries = [entry for entry in table if kind in entry.kinds]
    return entries[: math.ceil(part * len(entries))]


def _typed(entry: _Entry, value: Any) -> Any:
    if entry.type == _TEXT:
        return np.bytes_(value)
    return np.asarray(value, entry.type)[()]


# Type codes of RST's dmap.h.
_CODES = {np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.int32): 3, np.dtype(np.float32): 4}
_STRING = 9
_ENCODING = 65537


def append_dmap(path: Path, station_id: int, values: Values, part: float = 1.0) -> None:
    """Append a rawacf record to a DMAP file, as radars of v1.0 do that convert at once.

    Parameters
    ----------
    path : Path
        Created when it does not exist.
    station_id : int
    values : mapping
        Fields of `V1` for ``rawacf``.
    part : float
        The fraction of the record's bytes that is written.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    data = dmap_record(_rawacf(station_id, values))
    with open(path, "ab") as file:
        file.write(data[: math.ceil(part * len(data))])


def dmap_record(fields: Values) -> bytes:
    """A record of scalars (numpy values, text) and arrays, with its header."""
    scalars, arrays = [], []
    for name, value in fields.items():
        head = name.encode() + b"\0"
        if isinstance(value, str):
            scalars.append(head + bytes([_STRING]) + value.encode() + b"\0")
        elif np.ndim(value) == 0:
            scalars.append(head + bytes([_CODES[value.dtype]]) + value.tobytes())
        else:
            # Dimensions are told fastest first.
            shape = struct.pack(f"<{value.ndim + 1}i", value.ndim, *reversed(value.shape))
            arrays.append(head + bytes([_CODES[value.dtype]]) + shape + value.tobytes())
    body = b"".join([*scalars, *arrays])
    return struct.pack("<4i", _ENCODING, len(body) + 16, len(scalars), len(arrays)) + body


def _rawacf(station_id: int, values: Values) -> dict[str, Any]:
    """The fields of RFC 0008 from those of Borealis."""
    start: datetime.datetime = utc(values["sqn_timestamps"][0])
    version = str(values["borealis_git_hash"])
    major, minor = version.lstrip("v").split("-")[0].split(".")
    # The alternate lag zero is not in DMAP.
    main, cross = (np.ascontiguousarray(values[name][0, :, :-1]) / UNIT**2 for name in ("main_acfs", "xcfs"))
    seconds, rest = divmod(float(values["int_time"]), 1)
    sending = sum(1 << number for number, value in enumerate(values["tx_excitations"]) if abs(value))
    beams = len(values["beam_nums"])
    comment = f"{values['experiment_comment']} ; {values['slice_comment']}"
    shorts = {
        "cp": values["experiment_id"], "stid": station_id, "time.yr": start.year, "time.mo": start.month,
        "time.dy": start.day, "time.hr": start.hour, "time.mt": start.minute, "time.sc": start.second,
        "txpow": np.array(sending, np.uint16).view(np.int16), "nave": values["num_sequences"], "atten": 0,
        "lagfr": int(values["first_range_rtt"]), "smsep": round(1e6 / values["rx_sample_rate"]), "ercod": 0,
        "stat.agc": values["agc_status_word"], "stat.lopwr": values["lp_status_word"], "channel": values["slice_id"],
        "bmnum": values["beam_nums"][0], "scan": int(values["scan_start_marker"]), "offset": 0, "rxrise": 0,
        "intt.sc": int(seconds), "txpl": values["tx_pulse_len"], "mpinc": values["tau_spacing"],
        "mppul": len(values["pulses"]), "mplgs": main.shape[1], "nrang": main.shape[0],
        "frang": round(values["first_range"]), "rsep": round(values["range_sep"]), "xcf": 1, "tfreq": values["freq"],
    }  # fmt: skip
    longs = {
        "time.us": start.microsecond, "intt.us": int(rest * 1e6), "mxpwr": -1, "lvmax": 20000,
        "rawacf.revision.major": 1, "rawacf.revision.minor": 0,
    }  # fmt: skip
    floats = {"noise.search": 0, "noise.mean": 0, "bmazm": values["beam_azms"][0], "thr": 0}
    return {
        "radar.revision.major": np.int8(major), "radar.revision.minor": np.int8(minor), "origin.code": np.int8(100),
        "origin.time": f"{start:%c}", "origin.command": f"Borealis {version} {values['experiment_name']}",
        **{name: np.int16(value) for name, value in shorts.items()},
        **{name: np.int32(value) for name, value in longs.items()},
        **{name: np.float32(value) for name, value in floats.items()},
        "combf": f"Converted from Borealis file:  ; Number of beams in record: {beams} ; {comment}",
        "ptab": values["pulses"].astype(np.int16), "ltab": values["lag_pulses"].astype(np.int16),
        "pwr0": np.abs(main[:, 0]).astype(np.float32), "slist": np.arange(main.shape[0], dtype=np.int16),
        "acfd": _pairs(main), "xcfd": _pairs(cross),
    }  # fmt: skip


def _pairs(values: Any) -> Any:
    """Complex numbers as real and imaginary parts in one more dimension."""
    return np.stack([values.real, values.imag], axis=-1).astype(np.float32)
