"""Dropping the records that keep a whole file from being read.

A radar that stops in the middle of a record leaves some of its fields; a driver that stumbles leaves fewer times than
sequences. Restructuring fails on either, and with it two hours of good records. A DMAP file that is cut or damaged is good up
to there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import h5py
from pydantic import BaseModel, ConfigDict, Field

from socs_bl.core.stage import StageResult
from socs_bl.superdarn import dmap, hdf5, names
from socs_bl.superdarn.hdf5 import Structure
from socs_bl.superdarn.names import Form
from socs_bl.superdarn.pack import compress, unpack
from socs_bl.superdarn.sample import h5py_works, pydarnio_works
from socs_bl.superdarn.work import READ_BYTES, Broken, judged, like, reading, unchanged, whole

Metadata = dict[str, str | int | float]


class RepairParameters(BaseModel):
    """How much may be dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most: float = Field(0.5, gt=0, lt=1)
    """Fraction of a file's records; where more are broken a person should look."""


class Repair:
    """Stage `repair_records`: a copy under the same name without the records that are not whole."""

    kind: ClassVar[str] = "transform"
    parameters: ClassVar[type[BaseModel]] = RepairParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: RepairParameters) -> StageResult:
        """Copy, and drop from the copy; the input is not touched.

        There is an output even when nothing has to be dropped. `reason` names what was dropped, `removed_records` counts it;
        of DMAP everything behind the first broken record goes, and `removed_bytes` counts that.
        Verdict `bad` when too little is left, or for an array file: its records cannot be taken out one by one.
        """
        output = output_directory / input.name
        if output == input:
            raise Broken(f"{input.name} would be repaired onto itself; give another output directory")
        repair = _repair_dmap if names.parse_block(input.name).form is Form.DMAP else _repair_hdf5
        with whole(output) as path, unchanged(input) as seen:
            reason, metadata = repair(input, path, parameters.most)
            like(path, seen)
        return StageResult(outputs=(output,), reason=reason, metadata=metadata)


def _repair_hdf5(input: Path, path: Path, most: float) -> tuple[str, Metadata]:
    with reading(input, h5py_works), h5py.File(input, "r") as file:
        found = hdf5.survey(file)
    odd = found.incomplete | found.mismatched
    if odd and found.structure is Structure.ARRAY:
        raise Broken(f"{input.name}: {len(odd)} rows are not whole; restructure its site file again")
    if len(odd) > most * (len(odd) + found.records):
        raise Broken(f"{input.name}: {len(odd)} of {len(odd) + found.records} records are not whole")
    shutil.copyfile(input, path)
    with reading(input, h5py_works), h5py.File(path, "r+") as file:
        for name in odd:
            del file[name]
    with h5py.File(path, "r") as file:
        left = hdf5.survey(file)
    reason = "; ".join(f"dropped record {name}: {what}" for name, what in odd.items())
    return reason, left.metadata | {"removed_records": len(odd)}


def _repair_dmap(input: Path, path: Path, most: float) -> tuple[str, Metadata]:
    import pydarnio

    data, fault = _unpack_what_can(input)
    with reading(input, pydarnio_works):
        records, place = pydarnio.read_rawacf(data, mode="lax")
    good = len(data) if place is None else int(place)
    if not records or (len(data) - good) > most * len(data):
        raise Broken(f"{input.name}: only {good} of {len(data)} bytes are good records")
    kept = dmap.survey(dmap.read_strict(data[:good], path))
    if path.suffix == ".bz2":
        compress((data[at : min(at + READ_BYTES, good)] for at in range(0, good, READ_BYTES)), path)
    else:
        path.write_bytes(data[:good])
    removed = len(data) - good
    reason = [fault] if fault else []
    reason += [f"dropped {removed} bytes behind record {len(records)}"] if removed else []
    return "; ".join(reason), kept.metadata | {"removed_bytes": removed}


def _unpack_what_can(input: Path) -> tuple[bytes, str]:
    """A DMAP file's bytes as far as they unpack, and what ended that."""
    if input.suffix != ".bz2":
        return input.read_bytes(), ""
    pieces: list[bytes] = []
    with open(input, "rb") as file:
        try:
            pieces.extend(unpack(file, input.name))
        except Broken as error:
            return b"".join(pieces), str(error)
    return b"".join(pieces), ""
