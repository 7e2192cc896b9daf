"""The flags and summaries of the shell scripts that moved SuperDARN's data before, for as long as some of them still run.

A flag is an empty file that appears by a rename in a directory that the next host's daemon watches. A summary is a text that a
dashboard takes apart: a head, a line for each file, an end; one file a day and script. Both are honoured and written on request.
Source: SuperDARN Canada `data_flow`, its documentation and the summaries that it wrote.
"""

from __future__ import annotations

import datetime
import enum
import os
import re
from pathlib import Path

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole

RULE = "#" * 80
_RADAR = re.compile(r"[a-z]{3}")
_FLAG = re.compile(r"\.(?:(?P<borealis>borealis_flag)|(?P<other>site-linux|campus_dataflow)_flag_(?P<radar>[a-z]{3}))")
_UNPRINTABLE = re.compile(r"[^!-~]")
_TIME = "%Y%m%d %H:%M:%S UTC"


class Sender(enum.StrEnum):
    """Who raises a flag."""

    BOREALIS = "borealis"
    SITE = "site-linux"
    CAMPUS = "campus_dataflow"


def flag_name(sender: Sender, radar: str) -> str:
    """The name of the flag that a host raises when it has done its part.

    Raises
    ------
    Refused
        When the radar is not three letters.
    """
    if not _RADAR.fullmatch(radar):
        raise Refused(f"radar {radar!r:.20} is not three letters, such as 'sas'")
    return ".borealis_flag" if sender is Sender.BOREALIS else f".{sender}_flag_{radar}"


def parse_flag(name: str) -> tuple[Sender, str]:
    """Who raised a flag, and for which radar; the one at the site names none (empty).

    Raises
    ------
    Refused
        When the name is no flag's.
    """
    match = _FLAG.fullmatch(name)
    if not match:
        raise Refused(
            f"{name!r:.100} is no flag; they are .borealis_flag, .site-linux_flag_RAD and .campus_dataflow_flag_RAD"
        )
    return (Sender.BOREALIS, "") if match["borealis"] else (Sender(match["other"]), match["radar"])


def raise_flag(directory: Path, sender: Sender, radar: str) -> Path:
    """Put a flag into the directory that the next daemon watches; it looks for renames only.

    Raises
    ------
    OSError
        When the directory is not there or cannot be written.
    """
    path = directory / flag_name(sender, radar)
    write_whole(path, b"")
    return path


def take_flags(directory: Path) -> tuple[tuple[Sender, str], ...]:
    """The flags that were raised, taken down; what they ask for is to be done after this, so a second flag is not lost.

    Raises
    ------
    OSError
        When one cannot be removed.
    """
    found = []
    for name in sorted(os.listdir(directory)):
        if _FLAG.fullmatch(name):
            (directory / name).unlink(missing_ok=True)
            found.append(parse_flag(name))
    return tuple(found)


class Script(enum.StrEnum):
    """The scripts that wrote summaries."""

    TO_NAS = "rsync_to_nas"
    RESTRUCTURE = "convert_and_restructure"
    PLOT = "plot_antennas_iq"
    TO_CAMPUS = "rsync_to_campus"
    CONVERT = "convert_on_campus"
    DISTRIBUTE = "distribute_borealis_data"


# Scripts of which one instance runs for each radar on one host.
_PER_RADAR = frozenset({Script.CONVERT, Script.DISTRIBUTE})


class Line(enum.StrEnum):
    """What is said about a file."""

    TRANSFERRED = "Successfully transferred: {path}"
    TRANSFER_FAILED = "Transfer failed: {path}"
    UNKNOWN_TYPE = "unknown file type: {path}"
    WRONG_CLOCK = "check_timestamp failed: {path}"
    CONVERTED = "Successfully converted: {path}"
    RESTRUCTURE_FAILED = "File failed to convert from rawacf from site to array and/or dmap: {path}"
    CONVERT_FAILED = "File failed to convert to dmap: {path}"
    RECORDS_REMOVED = "Removed records from {path}:"
    NOT_CONVERTING = "Not converting: {path}"
    PLOT_FAILED = "Failed to generate iq plot from: {path}"
    RESIZED = "Resizing file: {path}"
    DISTRIBUTED = "File distribution successful: {path}"
    DISTRIBUTION_FAILED = "File distribution failed: {path}"
    BZIP2_FAILED = "DMAP file failed bzip2 test: {path}"
    DMAP_FAILED = "DMAP integrity test failed: {path}"
    HDF5_FAILED = "HDF5 file failed h5stat test: {path}"
    NOT_DISTRIBUTED = "File with CPID {cp} will not be distributed: {path}"


# The dashboard looks for a wording that the scripts did not write, so that it never showed a failed conversion.
_SHOWN = "File failed to convert: {path}"
_NOT_SHOWN = frozenset({Line.RESTRUCTURE_FAILED, Line.CONVERT_FAILED})

_EMPTY = {
    Script.TO_NAS: ("No files to be transferred.",),
    Script.RESTRUCTURE: (),
    Script.PLOT: ("No antenna iq files found to plot.",),
    Script.TO_CAMPUS: ("No dmap files found to be transferred.", "", "No array files found to be transferred."),
    Script.CONVERT: ("No files to be converted.", "No dmap files to be moved."),
    Script.DISTRIBUTE: ("No dmap files found to be distributed.", "", "No HDF5 files found to be distributed."),
}


class Event(msgspec.Struct, frozen=True):
    """One file's line; `cp` where the line has one."""

    line: Line
    path: str
    cp: int = 0

    def text(self) -> str:
        """The lines as they are written; a path with a space or a line's end in it would be another line or another file."""
        path = _UNPRINTABLE.sub("?", self.path)
        written = self.line.value.format(path=path, cp=self.cp) + "\n"
        return written + _SHOWN.format(path=path) + "\n" if self.line in _NOT_SHOWN else written


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a script, as its summary tells it.

    Attributes
    ----------
    script : Script
    program : str
        Path of what ran.
    host, radar : str
    started, ended : datetime.datetime
        UTC.
    versions : tuple of (str, str, str)
        Name, branch, and last commit with its date: ``("data_flow", "main", "e19dd42 2026-08-06 10:00:00 -0600")``.
    source : str
        Directory that files were taken from.
    destination : str
        Where they went: a directory; for `rsync_to_campus` ``user@host:directory``.
    to_nas : bool
        `rsync_to_nas` only: whether the site has a NAS.
    mirror, institutions : str, tuple of str
        `distribute_borealis_data` only: staging directories.
    events : tuple of Event
        In order; empty for a run that found nothing to do.
    """

    script: Script
    program: str
    host: str
    radar: str
    started: datetime.datetime
    ended: datetime.datetime
    versions: tuple[tuple[str, str, str], ...] = ()
    source: str = ""
    destination: str = ""
    to_nas: bool = True
    mirror: str = ""
    institutions: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


def summary(run: Run) -> str:
    """The text of one run."""
    lines = [
        RULE,
        "",
        f"Executing {run.program} on {run.host} for {run.radar}",
        f"{_utc(run.started):{_TIME}}",
        *(f"{name}: On branch {branch}, last commit: \t\t{commit}" for name, branch, commit in run.versions),
        *_where(run),
    ]
    text = "".join(f"{line}\n" for line in lines)
    text += "".join(event.text() for event in run.events) or "".join(f"{line}\n" for line in _EMPTY[run.script])
    return f"{text}\nFinished {run.script}. End time: {_utc(run.ended):{_TIME}}\n\n"


def _where(run: Run) -> list[str]:
    """From where to where, in the words of each script."""
    match run.script:
        case Script.TO_NAS:
            return [
                f"Transferring from: {run.source}",
                f"Transferring to {'NAS' if run.to_nas else 'Site-Linux'}: {run.destination}",
                "",
            ]
        case Script.TO_CAMPUS:
            return [f"Transferring from: {run.source}", f"Transferring to: {run.destination}", ""]
        case Script.RESTRUCTURE:
            return [f"Conversion directory: {run.source}", ""]
        case Script.PLOT:
            return [f"IQ plot directory: {run.destination}", ""]
        case Script.DISTRIBUTE:
            staging = "\t".join(run.institutions)
            return [
                f"Distributing from: {run.source}",
                "Distributing to: ",
                *(
                    f"        \t{what}: {place}"
                    for what, place in (("NAS", run.destination), ("Mirror", run.mirror), ("Institutions", staging))
                ),
                "",
            ]
        case Script.CONVERT:
            return []


def summary_path(logs: Path, run: Run) -> Path:
    """Where a run's summary goes: one file a day, by UTC (the scripts took the month from local time)."""
    day = _utc(run.started)
    radar = f"{run.radar}." if run.script in _PER_RADAR else ""
    return logs / run.script / "summary" / f"{day:%Y/%m}" / f"{radar}{day:%Y%m%d}.{run.script}_summary.log"


def append_summary(logs: Path, run: Run) -> Path:
    """Add a run to its day's summary, in one write, so that runs of two processes do not mix.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    path = summary_path(logs, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o664)
    try:
        text = summary(run).encode()
        if os.write(descriptor, text) != len(text):
            raise OSError(28, "No space left for all of the summary", str(path))
    finally:
        os.close(descriptor)
    return path


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC)
