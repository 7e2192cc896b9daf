"""Stages that look at a file and change nothing: its name and clock, its DMAP records, its HDF5 content.

Each answers what it learnt as metadata and one of four verdicts. A finding that a person should see, but that does not
keep the file from being read, is `suspect`.
"""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import ClassVar

import h5py
from pydantic import BaseModel, ConfigDict, Field

from socs_bl.core.stage import StageResult, Verdict
from socs_bl.superdarn import dmap, hdf5, names
from socs_bl.superdarn.names import BlockName, Form
from socs_bl.superdarn.sample import h5py_works
from socs_bl.superdarn.work import Broken, judged, reading, unchanged

_MODEL = ConfigDict(extra="forbid", frozen=True)


class NameParameters(BaseModel):
    """What a name must be."""

    model_config = _MODEL

    clock_tolerance: float = Field(names.CLOCK_TOLERANCE_S, gt=0)
    """Seconds between the time in the name and the file's own; more means that the radar's clock was wrong."""

    radars: tuple[str, ...] = ()
    """Radars whose files are expected here; empty for any."""


class CheckName:
    """Stage `borealis_name`: the name fits a form, and its time is near the file's."""

    kind: ClassVar[str] = "inspect"
    parameters: ClassVar[type[BaseModel]] = NameParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: NameParameters) -> StageResult:
        """Verdict `bad` for a name of no form, `suspect` for a wrong clock or another site's radar."""
        name = names.parse_block(input.name)
        error = names.clock_error(name, input.stat().st_mtime_ns)
        metadata = name_metadata(name) | {"clock_error_s": error}
        findings = []
        if abs(error) > parameters.clock_tolerance:
            findings.append(
                f"the name says {name.time:%Y-%m-%d %H:%M:%S}, the file was written {error / 86400:+.1f} days from that: "
                "check the radar's clock and GPS"
            )
        if parameters.radars and name.radar not in parameters.radars:
            findings.append(f"radar {name.radar} is not expected here, only {', '.join(parameters.radars)}")
        return _answer(findings, metadata)


class DmapParameters(BaseModel):
    """What a DMAP file is held against."""

    model_config = _MODEL

    records: int | None = Field(None, ge=1)
    """Records that whoever made the file has written; another number is `bad`."""

    last_time: float | None = None
    """Unix seconds of the last record that was written; a file that ends before is `bad`."""

    block: int = Field(7200, ge=0)
    """Seconds of a block, counted from midnight; a file that ends well before its block does is `suspect`. 0 to look away."""

    start_tolerance: float = Field(60.0, ge=0)
    """Seconds that the first record may be after the time in the name."""


class CheckDmap:
    """Stage `check_dmap`: every record read strictly, and none missing that can be missed."""

    kind: ClassVar[str] = "inspect"
    parameters: ClassVar[type[BaseModel]] = DmapParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: DmapParameters) -> StageResult:
        """Read all of it.

        A file that was cut where a record ends reads without an error: only the number of records and the times tell.
        """
        name = names.parse_block(input.name)
        if name.form is not Form.DMAP:
            raise Broken(f"{input.name} is no DMAP file by its name")
        with unchanged(input):
            seen = dmap.survey(dmap.read_strict(dmap.content(input), input))
        if parameters.records is not None and seen.records != parameters.records:
            raise Broken(f"{input.name} has {seen.records} records of the {parameters.records} that were written")
        if parameters.last_time is not None and seen.last < parameters.last_time - 1e-3:
            raise Broken(
                f"{input.name} ends {parameters.last_time - seen.last:.1f} s before the last record that was written"
            )
        findings = [*seen.findings, *_dmap_findings(name, seen)]
        findings += _span_findings(
            name, seen.first, seen.last, seen.period, parameters.block, parameters.start_tolerance
        )
        return _answer(findings, name_metadata(name) | seen.metadata)


def _dmap_findings(name: BlockName, seen: dmap.DmapSurvey) -> list[str]:
    findings = []
    code = dmap.station_code(name.radar)
    if code is not None and code != seen.stid:
        findings.append(f"the name says {name.radar} (station {code}), the records station {seen.stid}")
    if name.slice is not None and seen.origin == dmap.BOREALIS_ORIGIN and seen.channel != name.slice:
        findings.append(f"the name says slice {name.slice}, the records channel {seen.channel}")
    return findings


def _span_findings(
    name: BlockName, first: float, last: float, period: float, block: int, start_tolerance: float
) -> list[str]:
    findings = []
    # Names have whole seconds; the first record is some time later when another slice began first.
    if not -1.0 < first - name.time.timestamp() < start_tolerance + 1.0:
        findings.append(f"the first record is {first - name.time.timestamp():+.1f} s from the time in the name")
    if block:
        end = (math.floor(first / block) + 1) * block
        missing = end - last
        if missing > 2 * max(period, 1.0) + 5.0:
            moment = datetime.datetime.fromtimestamp(last, datetime.UTC)
            findings.append(
                f"the last record is of {moment:%H:%M:%S}, {missing / 60:.1f} minutes before the block ends: "
                "the radar stopped, or the file was cut"
            )
        elif missing < -period - 5.0:
            findings.append(f"the records go on {-missing:.0f} s beyond the end of the block")
    return findings


class Hdf5Parameters(BaseModel):
    """What an HDF5 file is held against."""

    model_config = _MODEL

    records: int | None = Field(None, ge=1)
    """Records that whoever made the file has written; fewer is `bad`."""

    block: int = Field(7200, ge=0)
    """As for `check_dmap`."""

    start_tolerance: float = Field(60.0, ge=0)
    """As for `check_dmap`."""

    gps_lost: float = Field(0.1, ge=0, le=1)
    """Fraction of records without GPS above which a file is `suspect`."""


class CheckHdf5:
    """Stage `check_hdf5`: every chunk read, every record's fields counted."""

    kind: ClassVar[str] = "inspect"
    parameters: ClassVar[type[BaseModel]] = Hdf5Parameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: Hdf5Parameters) -> StageResult:
        """Read all of it, a few megabytes at a time.

        Verdict `bad` when a chunk cannot be read or no record is whole; `suspect` when some records are not whole (stage
        `repair_records` drops them) or the file is not what its name says.
        """
        name = names.parse_block(input.name)
        if name.form is Form.DMAP:
            raise Broken(f"{input.name} is no HDF5 file by its name")
        with unchanged(input), reading(input, h5py_works), h5py.File(input, "r") as file:
            size = hdf5.read_everything(file)
            seen = hdf5.survey(file)
        if parameters.records is not None and seen.records < parameters.records:
            raise Broken(f"{input.name} has {seen.records} whole records of the {parameters.records} that were written")
        period = (seen.last - seen.first) / (seen.records - 1) if seen.records > 1 else 0.0
        findings = [*_hdf5_findings(name, seen, parameters)]
        findings += _span_findings(name, seen.first, seen.last, period, parameters.block, parameters.start_tolerance)
        return _answer(findings, name_metadata(name) | seen.metadata | {"unpacked_bytes": size})


def _hdf5_findings(name: BlockName, seen: hdf5.Survey, parameters: Hdf5Parameters) -> list[str]:
    findings = [f"{text} {_some(odd)}" for text, odd in _odd_records(seen) if odd]
    if seen.unordered:
        findings.append(f"{seen.unordered} records begin before the one in front of them")
    if seen.station not in ("", name.radar):
        findings.append(f"the name says {name.radar}, the records {seen.station}")
    if None not in (name.slice, seen.slice) and seen.slice != name.slice:
        findings.append(f"the name says slice {name.slice}, the records {seen.slice}")
    if seen.gps_lost > parameters.gps_lost * seen.records:
        findings.append(f"{seen.gps_lost} of {seen.records} records were taken without GPS: their times may be wrong")
    return findings


def _odd_records(seen: hdf5.Survey) -> tuple[tuple[str, dict[str, str]], ...]:
    return (("not whole:", seen.incomplete), ("sequences without time, or times without sequence:", seen.mismatched))


def _some(odd: dict[str, str]) -> str:
    shown = "; ".join(f"record {name}: {what}" for name, what in list(odd.items())[:3])
    return shown if len(odd) <= 3 else f"{shown}; and {len(odd) - 3} more"


def name_metadata(name: BlockName) -> dict[str, str | int | float]:
    """What a name says, for the catalogue and for ``when`` expressions."""
    said: dict[str, str | int | float] = {
        "radar": name.radar,
        "type": name.type,
        "form": str(name.form),
        "name_time": name.time.timestamp(),
        "folder": name.folder,
    }
    return said if name.slice is None else said | {"slice": name.slice}


def _answer(findings: list[str], metadata: dict[str, str | int | float]) -> StageResult:
    return StageResult(
        verdict=Verdict.SUSPECT if findings else Verdict.OK, reason="; ".join(findings), metadata=metadata
    )
