"""DMAP files of `rawacf`: read strictly, and told apart from files that were cut where a record ends.

Source: SuperDARN RST documentation, "DMAP data" and "rawacf files".
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from socs_bl.superdarn.pack import unpack
from socs_bl.superdarn.sample import pydarnio_works
from socs_bl.superdarn.work import Broken, reading

BOREALIS_ORIGIN = 100
"""`origin.code` of records that Borealis made: their channel is the slice's number."""

_CONSTANT = ("cp", "stid", "channel", "mppul", "mplgs", "nrang")
_HEAD_BYTES = 8 << 20


class DmapSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a file.

    Attributes
    ----------
    records : int
        One for each beam of each averaging period.
    first, last : float
        Unix seconds of the first and the last record.
    period : float
        Median seconds between averaging periods; 0 when there is only one.
    gaps : int
        Where more than three periods are missing.
    cp, stid, channel, origin : int
        As in the first record: experiment, station, channel, `origin.code`.
    findings : tuple of str
        What should not be: times that go back, fields that change, values that are not finite.
    """

    records: int
    first: float
    last: float
    period: float
    gaps: int
    cp: int
    stid: int
    channel: int
    origin: int
    findings: tuple[str, ...] = ()

    @property
    def metadata(self) -> dict[str, str | int | float]:
        """For the catalogue."""
        return {
            "records": self.records,
            "first_time": self.first,
            "last_time": self.last,
            "period_s": self.period,
            "gaps": self.gaps,
            "cp": self.cp,
            "stid": self.stid,
            "channel": self.channel,
        }


def content(path: Path) -> bytes:
    """A DMAP file's bytes, unpacked when its name ends in ``.bz2``.

    Raises
    ------
    Broken
        When it is packed, and not as one whole stream.
    OSError
        When it cannot be read.
    """
    with open(path, "rb") as file:
        return b"".join(unpack(file, path.name)) if path.suffix == ".bz2" else file.read()


def read_strict(data: bytes, path: Path) -> list[dict[str, Any]]:
    """All records; any fault in any of them is an error.

    Parameters
    ----------
    data : bytes
        Unpacked.
    path : Path
        Named in errors.

    Raises
    ------
    Broken
        When it holds no records or a broken one; says how many are good before it, and at which byte it begins.
    ToolFailed
        When pydarnio fails on good records too.
    """
    import pydarnio

    if not data:
        raise Broken(f"{path.name} is empty")
    try:
        with reading(path, pydarnio_works):
            records: list[dict[str, Any]] = pydarnio.read_rawacf(data, mode="strict")
    except Broken as error:
        good, place = pydarnio.read_rawacf(data, mode="lax")
        raise Broken(f"{error}; {len(good)} good records before byte {place}") from error
    if not records:
        raise Broken(f"{path.name} has no records")
    return records


def first_record(path: Path) -> dict[str, Any]:
    """The first record, without unpacking the rest.

    Raises
    ------
    Broken, ToolFailed, OSError
        As `read_strict`.
    """
    import pydarnio

    head, whole = b"", True
    with open(path, "rb") as file:
        for piece in unpack(file, path.name) if path.suffix == ".bz2" else iter(lambda: file.read(_HEAD_BYTES), b""):
            head += piece
            if len(head) >= _HEAD_BYTES:
                whole = False
                break
    if whole:
        return read_strict(head, path)[0]
    with reading(path, pydarnio_works):
        records, _ = pydarnio.read_rawacf(head, mode="lax")
        found: dict[str, Any] = records[0]
    return found


def survey(records: Sequence[dict[str, Any]]) -> DmapSurvey:
    """Look through the records of a file, at least one."""
    times = np.array([record_time(record) for record in records])
    steps = np.diff(times)
    findings = []
    if (back := np.flatnonzero(steps < 0)).size:
        findings.append(f"{back.size} times go back, the first at record {back[0] + 1}")
    for name in _CONSTANT:
        if len(values := {int(record[name]) for record in records}) > 1:
            findings.append(f"{name} changes: {sorted(values)[:5]}")
    for name in ("acfd", "xcfd", "pwr0"):
        odd = [number for number, record in enumerate(records) if name in record and not _finite(record[name])]
        if odd:
            findings.append(f"{name} is not finite in {len(odd)} records, the first {odd[0]}")
    # Beams of one averaging period share its time.
    periods = steps[steps > 0]
    period = float(np.median(periods)) if periods.size else 0.0
    first = records[0]
    return DmapSurvey(
        records=len(records),
        first=float(times[0]),
        last=float(times[-1]),
        period=period,
        gaps=int((periods > 4 * period).sum()),
        cp=int(first["cp"]),
        stid=int(first["stid"]),
        channel=int(first["channel"]),
        origin=int(first["origin.code"]),
        findings=tuple(findings),
    )


def _finite(values: np.ndarray) -> bool:
    # A sum is finite only where all its terms are, and costs no array of flags.
    return bool(np.isfinite(np.sum(values, dtype=np.float64)))


def record_time(record: dict[str, Any]) -> float:
    """Unix seconds of a record.

    Raises
    ------
    Broken
        When its fields are no time.
    """
    parts = [int(record[f"time.{name}"]) for name in ("yr", "mo", "dy", "hr", "mt", "sc", "us")]
    try:
        return datetime.datetime(*parts, tzinfo=datetime.UTC).timestamp()  # type: ignore[arg-type,misc]
    except ValueError as error:
        raise Broken(f"a record's time is {parts}: {error}") from error


def station_code(radar: str) -> int | None:
    """The station id of a radar's three letters; None for a radar that pydarnio does not know."""
    from pydarnio.borealis.borealis_utilities import code_to_stid

    code = code_to_stid.get(radar)
    return None if code is None else int(code)
