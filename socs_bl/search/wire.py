"""What an analyzer says to others through Redis, and the lists a coordinator keeps for it.

The stream ``socs_bl:results`` keeps every result, so that a coordinator that was down reads it later; the message
``RETURN:<host>/<n>:<code1>:<code2>`` on ``proc_result`` is what existing tools listen for and carries no run.

Source: commensal-automator, ``bluse_analyzer``: its lists, ``RETURN`` (code2 is -1 since its second stage was removed in
August 2024) and the ``UPDATE`` message; targets-minimal, what the target selector makes of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

RESULTS_STREAM = "socs_bl:results"
RESULTS_KEPT = 10_000
PROC_RESULT = "proc_result"
TARGETS_PROCESSING = "target-selector:processing"
NO_SECOND_STAGE = -1
SEGMENTS = 1
UNKNOWN_DIRECTORY = "unknown"
_LONGEST_REASON = 500
_LONGEST_NOTE = 4096

Command = tuple[str, ...]


def result_commands(
    instance: str,
    run: str,
    code: int,
    reason: str,
    hits: int,
    obsid: str,
    *,
    stamps: int = 0,
    freed: int = 0,
    returned: bool = True,
) -> tuple[Command, ...]:
    """The Redis commands that report one result, in their order.

    Parameters
    ----------
    instance : str
        ``host/number``.
    run : str
        The run that was asked for; the receiver drops a second result of the same run and instance.
    code : int
        First result code.
    reason : str
        The code in words.
    hits : int
        Hits found.
    obsid : str
        Observation id from the recorded header; empty when nothing was read.
    stamps : int
        Pieces of voltages that were written.
    freed : int
        Bytes of raw data deleted.
    returned : bool
        Say it as the original does, too; not when one return is given for several runs.
    """
    fields = {
        "run": run, "instance": instance, "code1": str(code), "code2": str(NO_SECOND_STAGE),
        "reason": reason[:_LONGEST_REASON], "hits": str(hits), "obsid": obsid, "stamps": str(stamps),
        "freed": str(freed),
    }  # fmt: skip
    pairs = [word for pair in fields.items() for word in pair]
    added = ("XADD", RESULTS_STREAM, "MAXLEN", "~", str(RESULTS_KEPT), "*", *pairs)
    return (added, return_command(instance, code)) if returned else (added,)


def return_command(instance: str, code: int) -> Command:
    """The original's message about a result."""
    return ("PUBLISH", PROC_RESULT, f"RETURN:{instance}:{code}:{NO_SECOND_STAGE}")


def update_commands(obsid: str, band: str, seconds: float, antennas: int, beams: int) -> tuple[Command, ...]:
    """Tell the target selector that targets were searched: what it adds to their score grows with all of these."""
    facts = {
        "nsegs": SEGMENTS, "band": band, "t": seconds, "nants": antennas, "obsid": obsid, "nbeams": beams,
    }  # fmt: skip
    return (("PUBLISH", TARGETS_PROCESSING, f"UPDATE:{json.dumps(facts)}"),)


def unprocessed_key(instance: str) -> str:
    """The list of data directories to search; the coordinator adds on the left."""
    return f"{instance}:unprocessed"


def preserved_key(instance: str) -> str:
    """The list of data directories that must stay."""
    return f"{instance}:preserved"


def last_key(instance: str) -> str:
    """Where the instance said it recorded last."""
    return f"{instance}:last-datadir"


def metadata_key(datadir: str) -> str:
    """What the coordinator noted about a recording when it began."""
    return f"metadata:{datadir}"


def end_key(datadir: str) -> str:
    """When a recording ended, or was to end, Unix seconds."""
    return f"rec_end:{datadir}"


def settled_commands(instance: str, datadir: str) -> tuple[Command, ...]:
    """Take a directory off the list of those to search: it has been."""
    return (("LREM", unprocessed_key(instance), "0", datadir),)


def preserved_commands(instance: str, datadir: str) -> tuple[Command, ...]:
    """Put a directory on the list of those that stay, once."""
    key = preserved_key(instance)
    return (("LREM", key, "0", datadir), ("LPUSH", key, datadir))


def unpreserved_commands(instance: str, datadir: str) -> tuple[Command, ...]:
    """Take it off that list."""
    return (("LREM", preserved_key(instance), "0", datadir),)


def parse_metadata(text: str | None) -> Mapping[str, str | float | int]:
    """What is noted about a recording: ``band``, ``start_ts``, ``nants`` and ``obsid``, those that are there and sane.

    Nothing here decides whether data are searched or deleted, so that what cannot be read is left out and no more.
    """
    if text is None or len(text) > _LONGEST_NOTE:
        return {}
    try:
        noted = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(noted, dict):
        return {}
    found: dict[str, str | float | int] = {}
    for name in ("band", "obsid"):
        if isinstance(noted.get(name), str):
            found[name] = noted[name][:128]
    antennas, start = noted.get("nants"), parse_seconds(noted.get("start_ts"))
    if isinstance(antennas, int) and not isinstance(antennas, bool) and 0 < antennas < 10_000:
        found["nants"] = antennas
    if start is not None:
        found["start_ts"] = start
    return found


def parse_seconds(value: object) -> float | None:
    """Unix seconds from a number or its text; None when it is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None
