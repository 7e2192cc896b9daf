"""Dropping the records that keep a whole file from being read.

A radar that stops in the middle of a record leaves some of its fields; a driver that stumbles leaves fewer times than sequences.
Restructuring fails on either, and with it two hours of good records.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import h5py
from pydantic import BaseModel, ConfigDict, Field

from socs_bl.core.stage import StageResult
from socs_bl.superdarn import hdf5
from socs_bl.superdarn.hdf5 import Structure
from socs_bl.superdarn.sample import h5py_works
from socs_bl.superdarn.work import Broken, judged, like, reading, unchanged, whole


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

        There is an output even when nothing has to be dropped. `reason` names what was dropped, `removed_records` counts it.
        Verdict `bad` when too little is left, or for an array file: its records cannot be taken out one by one.
        """
        output = output_directory / input.name
        if output == input:
            raise Broken(f"{input.name} would be repaired onto itself; give another output directory")
        with whole(output) as path, unchanged(input) as seen:
            with reading(input, h5py_works), h5py.File(input, "r") as file:
                found = hdf5.survey(file)
            odd = found.incomplete | found.mismatched
            if odd and found.structure is Structure.ARRAY:
                raise Broken(f"{input.name}: {len(odd)} rows are not whole; restructure its site file again")
            if len(odd) > parameters.most * (len(odd) + found.records):
                raise Broken(f"{input.name}: {len(odd)} of {len(odd) + found.records} records are not whole")
            shutil.copyfile(input, path)
            with reading(input, h5py_works), h5py.File(path, "r+") as file:
                for name in odd:
                    del file[name]
            with h5py.File(path, "r") as file:
                left = hdf5.survey(file)
            like(path, seen)
        reason = "; ".join(f"dropped record {name}: {what}" for name, what in odd.items())
        return StageResult(outputs=(output,), reason=reason, metadata=left.metadata | {"removed_records": len(odd)})
