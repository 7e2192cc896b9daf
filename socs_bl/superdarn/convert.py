"""Borealis files converted with pydarnio: site to array, and either of them or v1 to DMAP."""

from __future__ import annotations

import bz2
import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
from pydantic import BaseModel, ConfigDict

from socs_bl.core.stage import StageResult
from socs_bl.superdarn import dmap, hdf5, names
from socs_bl.superdarn.checks import name_metadata
from socs_bl.superdarn.names import BlockName, Form
from socs_bl.superdarn.sample import h5py_works, pydarnio_works
from socs_bl.superdarn.work import Broken, ToolFailed, judged, like, reading, unchanged, whole

# One value of these stands for a whole array file; where records differ in one, the array file would lie.
MUST_AGREE = frozenset({"data_normalization_factor", "experiment_id", "first_range", "freq", "range_sep", "rx_sample_rate",
                        "slice_id", "station", "tau_spacing"})  # fmt: skip

_VERSION = re.compile(r"v[0-9]+\.[0-9]+")


class ArrayParameters(BaseModel):
    """How arrays are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    compression: Literal["gzip", "lzf"] | None = "gzip"
    """Of the arrays; the radars' sites use gzip."""


class SiteToArray:
    """Stage `site_to_array`: ``NAME.hdf5.site`` becomes ``NAME.hdf5``, record by record."""

    kind: ClassVar[str] = "transform"
    parameters: ClassVar[type[BaseModel]] = ArrayParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: ArrayParameters) -> StageResult:
        """Restructure one file.

        pydarnio takes what is constant from the first record and looks at no other, so the records are looked at before. Memory:
        the arrays once, 1.4 MB for each record of `antennas_iq`; the records only one at a time.

        Verdict `bad` for a file with records that are not whole (stage `repair_records` first) or that differ where the array
        file has one value.
        """
        name = names.parse_block(input.name)
        output = output_directory / str(names.array_name(name))
        with whole(output) as path, unchanged(input) as seen:
            found = _survey(input)
            _restructure(input, path, name.type, parameters.compression)
            with reading(path, h5py_works), h5py.File(path, "r") as file:
                hdf5.read_everything(file)
                made = hdf5.survey(file)
            _compare(input, (found.records, found.beams, found.sequences, found.first, found.last, found.cp),
                     (made.records, made.beams, made.sequences, made.first, made.last, made.cp))  # fmt: skip
            like(path, seen)
        return StageResult(outputs=(output,), metadata=name_metadata(name) | made.metadata)


class DmapOutput(BaseModel):
    """How DMAP is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packed: bool = True
    """Whether it is packed with bzip2, as it is distributed."""


class ToDmap:
    """Stage `borealis_to_dmap`: a `rawacf` file of any structure becomes ``NAME.<letter>.rawacf.bz2``."""

    kind: ClassVar[str] = "transform"
    parameters: ClassVar[type[BaseModel]] = DmapOutput

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: DmapOutput) -> StageResult:
        """Convert one file, read the records back and count them against the Borealis records.

        The records say which file they come from: its name, not its path, so that the same file gives the same bytes wherever it
        is converted.
        """
        name = names.parse_block(input.name)
        if name.form is Form.DMAP:
            raise Broken(f"{input.name} is DMAP already")
        output = output_directory / str(names.dmap_name(name, parameters.packed))
        with whole(output) as path, unchanged(input) as seen:
            plain = path.with_suffix("") if parameters.packed else path
            found = _to_dmap(input, plain, name)
            data = plain.read_bytes()
            made = dmap.survey(dmap.read_strict(data, path))
            # Before v0.5 only the name says the slice.
            channel = name.slice if found.slice is None else found.slice
            _compare(input, (found.beams, found.first, found.last, found.cp, channel),
                     (made.records, made.first, made.last, made.cp, made.channel))  # fmt: skip
            if parameters.packed:
                # Not unpacked again here, a quarter of the time: the input stays, and check_dmap unpacks what is on the disk.
                path.write_bytes(bz2.compress(data))
                plain.unlink()
            like(path, seen)
        return StageResult(outputs=(output,), metadata=name_metadata(name) | made.metadata)


def _survey(input: Path) -> hdf5.Survey:
    """What is in a file of which every record is whole."""
    with reading(input, h5py_works), h5py.File(input, "r") as file:
        return _all_whole(input, hdf5.survey(file, MUST_AGREE))


def _all_whole(input: Path, found: hdf5.Survey) -> hdf5.Survey:
    odd = found.incomplete | found.mismatched
    if odd:
        name, what = next(iter(odd.items()))
        raise Broken(
            f"{input.name}: {len(odd)} records are not whole (repair_records drops them): record {name}: {what}"
        )
    if found.differing:
        raise Broken(f"{input.name}: {', '.join(found.differing)} changes between records; an array file has one value")
    return found


def _compare(input: Path, found: tuple[float | None, ...], made: tuple[float | None, ...]) -> None:
    # DMAP has whole microseconds.
    if any(abs((one or 0) - (other or 0)) > 1e-5 for one, other in zip(found, made, strict=True)):
        raise ToolFailed(
            f"{input.name}: records, times, experiment are {found} in the file but {made} in what pydarnio made"
        )


def _restructure(input: Path, path: Path, kind: str, compression: str | None) -> None:
    import pydarnio

    with reading(input, pydarnio_works, *_pydarnio_errors()), _known_version(input):
        pydarnio.BorealisRestructure(str(input), str(path), kind, "array", hdf5_compression=compression)
    if not path.exists():
        raise ToolFailed(f"pydarnio made no file of {input.name}")


def _to_dmap(input: Path, path: Path, name: BlockName) -> hdf5.Survey:
    """Write a Borealis file's records as plain DMAP; what is in the file comes from the records in memory, so it is read once."""
    path = path.absolute()
    try:
        # The process is this file's own, so its working directory is, too: pydarnio writes into each record the path it was given.
        with contextlib.chdir(input.parent), reading(input, pydarnio_works, *_pydarnio_errors()), _known_version(input):
            found = _v1_to_dmap(input.name, path) if name.form is Form.V1 else _v0_to_dmap(name, path)
    except Broken:
        # pydarnio says that something is wrong; the survey, with which record.
        _survey(input)
        raise
    return _all_whole(input, found)


def _v0_to_dmap(name: BlockName, path: Path) -> hdf5.Survey:
    import pydarnio

    structure = hdf5.Structure.SITE if name.form is Form.SITE else hdf5.Structure.ARRAY
    made = pydarnio.BorealisConvert(str(name), "rawacf", str(path), name.slice, borealis_file_structure=str(structure))
    return _survey_read(made.borealis_records, structure, str(name))


def _survey_read(records: dict[str, Any], structure: hdf5.Structure, name: str) -> hdf5.Survey:
    return hdf5.survey_records(list(records), records.__getitem__, structure, name)


def _v1_to_dmap(name: str, path: Path) -> hdf5.Survey:
    """As `pydarnio.BorealisConvert` does for v1, which reads the file twice."""
    import pydarnio
    from pydarnio.borealis.v1_onwards import BorealisV1Convert, BorealisV1Read

    with h5py.File(name, "r") as file:
        names_of = [group for group in sorted(file) if group != hdf5.METADATA]
    records, metadata = BorealisV1Read.read_records(name)
    whole_records = {group: metadata | record for group, record in zip(names_of, records, strict=True)}
    made = [dmap for record in records for dmap in BorealisV1Convert.convert_rawacf_record(record, metadata, name)]
    pydarnio.write_rawacf(made, str(path))
    return _survey_read(whole_records, hdf5.Structure.V1, name)


@contextlib.contextmanager
def _known_version(input: Path) -> Iterator[None]:
    """A version that pydarnio has no format for is the tool's limit, not the file's fault."""
    from pydarnio import borealis_exceptions

    try:
        yield
    except (borealis_exceptions.BorealisVersionError, KeyError) as error:
        if isinstance(error, KeyError) and not _VERSION.fullmatch(str(error.args[0])):
            raise
        raise ToolFailed(f"{input.name}: this pydarnio does not know that version: {error}") from error


@functools.cache
def _pydarnio_errors() -> tuple[type[Exception], ...]:
    from pydarnio import borealis_exceptions

    found: list[Any] = [getattr(borealis_exceptions, name) for name in dir(borealis_exceptions)]
    return tuple(item for item in found if isinstance(item, type) and issubclass(item, Exception))
