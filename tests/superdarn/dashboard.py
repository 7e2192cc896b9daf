"""What the operators' dashboard reads out of summaries: rules of the reference, written here anew as its tests' reader."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

_DAY = datetime.timedelta(days=1)


def overview(path: Path) -> dict[str, Any]:
    """Of the last run in a file: host, source, destination and what else its script's head tells."""
    entry: list[str] = []
    for line in path.read_text().splitlines():
        entry = [] if line.startswith("########") else [*entry, line.strip()]
    told: dict[str, Any] = {}
    for line in entry:
        words = line.split()
        if line.startswith("Executing"):
            told["host"] = words[-3]  # "... on HOST for RAD"
        elif line.startswith(("Transferring from:", "Distributing from:")):
            told["source"] = words[-1]
        elif line.startswith("Transferring to:"):
            address, told["directory"] = words[-1].split(":")
            told["destination"] = address.split("@")[1]
        elif line.startswith("Transferring to"):
            told["destination"], told["directory"] = words[2][:-1], words[3]
        elif line.startswith("Conversion"):
            told["directory"] = words[-1]
        elif line.startswith(("NAS:", "Mirror:")):
            told[words[0][:-1]] = words[-1]
        elif line.startswith("Institutions:"):
            told["institutions"] = words[1:3]
    return told


def statistics(path: Path, converting: bool = False) -> dict[str, Any]:
    """Of all runs in a file: files that were moved (or converted), that failed, that were old, runs that did nothing."""
    stats: dict[str, Any] = {"good": [], "failed": [], "old": [], "removed": [], "empty_runs": 0, "runs": 0}
    started, idle = datetime.datetime.min, False
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        name = line.split()[-1] if line.split() else ""
        if line.startswith("Executing"):
            stats["runs"] += 1
            stats["empty_runs"] += idle
            idle = True
            started = datetime.datetime.strptime(" ".join(lines[number + 1].split()[:2]), "%Y%m%d %H:%M:%S")
        elif line.startswith("Successfully converted:") if converting else "successful" in line.lower():
            stats["good"].append(name)
            taken = datetime.datetime.strptime(".".join(name.split("/")[-1].split(".")[:2]), "%Y%m%d.%H%M")
            stats["old"] += [name] if started - _DAY > taken else []
            idle = False
        elif line.startswith("File failed to convert:") if converting else "failed" in line:
            stats["failed"].append(name)
            idle = False
        elif line.startswith("Removed records from"):
            stats["removed"].append(name[:-1])
    stats["empty_runs"] += idle
    return stats
