"""Borealis HDF5 files as they lie on disk: which records they have, which of them are whole, whether every byte can be read.

Source: Borealis documentation, "Borealis data files"; three structures are in use: *site* and *array* of v0.x, *v1* from v1.0 on.
"""

from __future__ import annotations

import enum
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h5py
import msgspec
import numpy as np

from socs_bl.superdarn.work import Broken, ToolFailed

METADATA = "metadata"
_SLAB_BYTES = 16 << 20


class Structure(enum.StrEnum):
    """How the records lie in the file."""

    SITE = "site"
    ARRAY = "array"
    V1 = "v1"


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a file.

    Attributes
    ----------
    structure : Structure
    records : int
        Records that are whole.
    beams : int
        Beams in them together: the records of the DMAP file made from this one.
    sequences : int
        Pulse sequences in them together.
    first, last : float
        Unix seconds of the first sequence of the first and of the last whole record.
    cp, slice : int or None
        Experiment and slice; raw samples and files before v0.5 say no slice.
    station : str
        The radar's three letters; empty where the records do not say.
    incomplete : dict of str to str
        Records that lack fields which most have, or have others: name and what is wrong.
    mismatched : dict of str to str
        Records with more or fewer sequence times than sequences: name and the two numbers.
    unordered : int
        Records that begin before the one in front of them.
    differing : tuple of str
        Fields that are one value for the whole array file, but not the same in every record.
    gps_lost : int
        Records that were taken without GPS.
    """

    structure: Structure
    records: int
    beams: int
    sequences: int
    first: float
    last: float
    cp: int | None
    slice: int | None
    station: str
    incomplete: dict[str, str] = {}
    mismatched: dict[str, str] = {}
    unordered: int = 0
    differing: tuple[str, ...] = ()
    gps_lost: int = 0

    @property
    def metadata(self) -> dict[str, str | int | float]:
        """For the catalogue."""
        told: dict[str, str | int | float | None] = {
            "structure": str(self.structure),
            "records": self.records,
            "beams": self.beams,
            "sequences": self.sequences,
            "first_time": self.first,
            "last_time": self.last,
            "cp": self.cp,
            "slice": self.slice,
            "station": self.station,
            "incomplete_records": len(self.incomplete),
            "mismatched_records": len(self.mismatched),
            "gps_lost_records": self.gps_lost,
        }
        return {name: value for name, value in told.items() if value is not None}


def structure_of(file: h5py.File) -> Structure:
    """Which structure a file has.

    Raises
    ------
    Broken
        When it holds nothing that looks like a record.
    """
    if METADATA in file:
        return Structure.V1
    if "sqn_timestamps" in file:
        return Structure.ARRAY
    if any(isinstance(file.get(name), h5py.Group) for name in file):
        return Structure.SITE
    raise Broken(f"{os.path.basename(file.filename)} has no records")


def survey(file: h5py.File, shared: frozenset[str] = frozenset()) -> Survey:
    """Look at every record's fields and times, not at its data.

    Parameters
    ----------
    file : h5py.File
        Open to read.
    shared : set of str
        Attributes of a site file that restructuring takes from the first record alone; those that differ are told.

    Raises
    ------
    Broken
        When there is no whole record.
    """
    structure = structure_of(file)
    if structure is Structure.ARRAY:
        return _survey_array(file)
    names = [name for name in sorted(file) if name != METADATA and isinstance(file[name], h5py.Group)]
    return survey_records(names, file.__getitem__, structure, os.path.basename(file.filename), shared)


def survey_records(
    names: Sequence[str],
    get: Callable[[str], Any],
    structure: Structure,
    title: str,
    shared: frozenset[str] = frozenset(),
) -> Survey:
    """Look at records, groups of a file or dictionaries that were read from it already, as `survey` does.

    Parameters
    ----------
    names : sequence of str
        Of the records, in order.
    get : callable
        A record by its name, h5py.Group or dict. Groups are not kept open: each holds memory.
    structure : Structure
        Of the file that they are from.
    title : str
        Name of that file, for errors.
    shared : set of str
        As for `survey`; groups only.

    Raises
    ------
    Broken
        When there is no whole record.
    """
    fields = {name: _fields(get(name)) for name in names}
    incomplete = _unlike_most(fields)
    mismatched: dict[str, str] = {}
    times: list[float] = []
    beams = sequences = gps_lost = 0
    first: Any = None
    different: set[str] = set()
    for name in names:
        if name in incomplete:
            continue
        record = get(name)
        stamps = record["sqn_timestamps"]
        count = int(_value(record, "num_sequences", stamps.shape[0]))
        if stamps.shape != (count,) or not count:
            mismatched[name] = f"{count} sequences, sequence times of shape {stamps.shape}"
            continue
        times.append(float(stamps[0]))
        beams += record["beam_nums"].shape[0] if "beam_nums" in fields[name] else 0
        sequences += count
        gps_lost += not _value(record, "gps_locked", True)
        if first is None:
            first, constant = record, {field: _raw(record, field) for field in shared & fields[name]}
        else:
            different |= {field for field, value in constant.items() if _raw(record, field) != value}
    if first is None:
        raise Broken(f"{title}: none of its {len(names)} records is whole")
    return Survey(
        structure=structure,
        records=len(times),
        beams=beams,
        sequences=sequences,
        first=times[0],
        last=times[-1],
        cp=_whole_number(_value(first, "experiment_id", None)),
        slice=_whole_number(_value(first, "slice_id", None)),
        station=_string(_value(first, "station", "")),
        incomplete=incomplete,
        mismatched=mismatched,
        unordered=sum(after <= before for before, after in zip(times, times[1:], strict=False)),
        differing=tuple(sorted(different)),
        gps_lost=gps_lost,
    )


def _survey_array(file: h5py.File) -> Survey:
    stamps, counts = file["sqn_timestamps"], file["num_sequences"][()]
    times = stamps[:, 0]
    # Rows are padded with NaN behind the last sequence.
    lengths = np.isfinite(stamps[()]).sum(axis=1)
    odd = np.flatnonzero(lengths != counts)
    if not len(times):
        raise Broken(f"{os.path.basename(file.filename)} has no records")
    return Survey(
        structure=Structure.ARRAY,
        records=len(times) - len(odd),
        beams=int(file["num_beams"][()].sum()),
        sequences=int(counts.sum()),
        first=float(times[0]),
        last=float(times[-1]),
        cp=_whole_number(file.attrs["experiment_id"]),
        slice=_whole_number(file.attrs.get("slice_id")),
        station=_string(file.attrs["station"]),
        mismatched={str(row): f"{counts[row]} sequences, {lengths[row]} sequence times" for row in odd},
        unordered=int((np.diff(times) <= 0).sum()),
        # Before v0.6 nobody asked.
        gps_lost=int((~file["gps_locked"][()].astype(bool)).sum()) if "gps_locked" in file else 0,
    )


def _unlike_most(fields: dict[str, frozenset[str]]) -> dict[str, str]:
    """The records whose set of fields is not the one that most have."""
    if not fields:
        return {}
    usual, _ = Counter(fields.values()).most_common(1)[0]
    return {
        name: "; ".join(
            f"{text} {', '.join(sorted(some)[:5])}"
            for text, some in (("lacks", usual - have), ("has besides", have - usual))
            if some
        )
        for name, have in fields.items()
        if have != usual
    }


def _fields(record: h5py.Group | dict[str, Any]) -> frozenset[str]:
    return frozenset(record) if isinstance(record, dict) else frozenset(record) | frozenset(record.attrs)


def _value(record: h5py.Group | dict[str, Any], name: str, default: Any) -> Any:
    """A scalar, an attribute in site files, a dataset in v1; `default` where that kind or version of file has none."""
    if isinstance(record, dict):
        return record.get(name, default)
    if name in record.attrs:
        return record.attrs[name]
    return record[name][()] if name in record else default


def _whole_number(value: Any) -> int | None:
    return None if value is None else int(value)


def _string(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _raw(group: h5py.Group, name: str) -> bytes:
    """An attribute's bytes: five times as fast as its value, and there are 40,000 of them in two hours."""
    attribute = h5py.h5a.open(group.id, name.encode())
    content = np.empty(attribute.shape, attribute.dtype)
    if attribute.get_space().get_simple_extent_type() != h5py.h5s.NULL:
        attribute.read(content)
    return content.tobytes()


def read_everything(file: h5py.File) -> int:
    """Read every chunk of every dataset once: the compression's checksums are verified by that.

    Returns
    -------
    int
        Bytes read, unpacked.

    Raises
    ------
    ToolFailed
        When a filter is not installed.
    OSError, RuntimeError
        From h5py, when a chunk cannot be read.
    """
    total = 0
    for dataset in _datasets(file):
        filters = dataset.id.get_create_plist()
        for number in range(filters.get_nfilters()):
            code, _, _, name = filters.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                raise ToolFailed(f"{file.filename}: HDF5 filter {code} ({name.decode()}) is not installed here")
        for piece in _pieces(dataset):
            total += dataset[piece].nbytes
    return total


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Every dataset once, however many links it has."""
    seen: set[int] = set()
    waiting: list[h5py.Group] = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            address = h5py.h5o.get_info(group.id, name.encode()).addr
            if address in seen:
                continue
            seen.add(address)
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                yield item


def _pieces(dataset: h5py.Dataset) -> Iterator[Any]:
    """Selections that cover a dataset, each small enough to hold."""
    if dataset.nbytes <= _SLAB_BYTES or not dataset.shape:
        yield ()
    elif dataset.chunks:
        yield from dataset.iter_chunks()
    else:
        rows = max(1, _SLAB_BYTES * dataset.shape[0] // dataset.nbytes)
        for row in range(0, dataset.shape[0], rows):
            yield slice(row, row + rows)
