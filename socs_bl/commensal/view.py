"""The commensal machine as people see it: plain data for session, page and commands."""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from socs_bl.commensal import allocation
from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.model import Drain, Duty, Instance, Rules, Subarray

PULSE_FORMAT = "%a %b %d %H:%M:%S %Y"  # C's ctime
FRESH_SECONDS = 60.0  # the original's helper calls an older DAQPULSE broken


def overview(machine: CommensalMachine) -> dict[str, Any]:
    """Subarrays, pool and counters."""
    counts: Counter[Duty] = Counter()
    quarantined: dict[str, str] = {}
    draining: dict[str, str] = {}
    for cell in machine.cells.values():  # once, since it is shown after every commit
        if isinstance(cell, Instance):
            counts[cell.duty] += 1
            if cell.duty is Duty.QUARANTINED:
                quarantined[cell.name] = cell.reason
        elif isinstance(cell, Drain):
            draining[cell.instance] = cell.reason
    ledger = machine.ledger()
    return {
        "arrays": {name: _array(machine, cell) for name, cell in _arrays(machine).items()},
        "pool": {duty.value: counts[duty] for duty in Duty},
        "quarantined": quarantined,
        "draining": draining,
        "completed_runs": ledger.completed,
        "bad_messages": ledger.bad_messages,
        "journal_sequence": machine.sequence,
    }


def _arrays(machine: CommensalMachine) -> dict[str, Subarray]:
    cells = (machine.array(name) for name in machine.config.arrays)
    return {cell.name: cell for cell in cells if cell is not None}


def _array(machine: CommensalMachine, cell: Subarray) -> dict[str, Any]:
    run = machine.run(cell.run)
    return {
        "freesub_state": cell.freesub.value,
        "recproc_state": cell.recproc.value,
        "since": cell.since,
        "requested": cell.requested,
        "subscribed": list(machine.members(cell)),
        "recording": list(machine.members(cell, Duty.RECORDING)),
        "processing": list(machine.members(cell, Duty.PROCESSING)),
        "obsid": cell.run,
        "target": run.target.name if run else "",
        "band": cell.band.band if cell.band else "",
        "antennas": cell.band.antennas if cell.band else 0,
        "ends": run.ended if run else 0.0,
        "tracking": cell.tracking,
        "calibration": cell.calibration,
        "last_event": cell.last_event,
    }


def shares(machine: CommensalMachine, cell: Subarray) -> dict[str, Any]:
    """What each instance of a subarray was told to receive."""
    return {
        share.instance: {
            "destip": share.destip,
            "nstrm": share.streams,
            "schan": share.first_channel,
            "hnchan": cell.band.channels_per_stream if cell.band else 0,
        }
        for share in cell.shares
    }


def plan(
    machine: CommensalMachine,
    streams: allocation.Streams,
    channels_per_stream: int = 1,
    instances: Sequence[str] = (),
    per_instance: int = 0,
) -> dict[str, Any]:
    """What a subarray with these streams would get now, and when that is too little, why.

    Parameters
    ----------
    machine : CommensalMachine
    streams : allocation.Streams
    channels_per_stream : int
        HNCHAN; with 1, first channels count streams.
    instances : sequence of str
        As if only these were there, and free; by default the free ones of the pool.
    per_instance : int
        Streams an instance takes; 0 for as configured.
    """
    index = machine.index
    per_instance = per_instance or machine.config.streams_per_instance
    available = tuple(instances) or index.first_free(allocation.wanted(streams, per_instance))
    found = allocation.plan(streams, available, per_instance, channels_per_stream)
    if instances:
        reason = allocation.shortage(found, len(instances), {}, 0)
    else:
        reason = allocation.shortage(found, len(index.names), index.held, len(index.quarantined), len(index.drained))
    return {
        "streams": streams.count,
        "requested": found.requested,
        "allocated": len(found.shares),
        "uncovered": found.uncovered,
        "reason": reason,
        "shares": [
            {
                "instance": share.instance,
                "first_ip": share.destip.partition("+")[0],
                "count": share.streams,
                "schan": share.first_channel,
            }
            for share in found.shares
        ],
    }


def instance_rows(
    statuses: Mapping[str, Mapping[str, str] | None], lives: Mapping[str, float | None], now: float
) -> dict[str, dict[str, Any]]:
    """What instances say of themselves.

    Parameters
    ----------
    statuses : mapping of str to (mapping or None)
        Status hashes by instance.
    lives : mapping of str to (float or None)
        Seconds for which each hash lives on.
    now : float
        Unix seconds, for the age of DAQPULSE.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, status in statuses.items():
        told = status or {}
        index = told.get("PKTIDX", "")
        rows[name] = {
            "alive": status is not None,
            "netstat": told.get("NETSTAT", ""),
            "daqstate": told.get("DAQSTATE", ""),
            "pktidx": int(index) if index.isascii() and index.isdigit() else None,
            "destip": told.get("DESTIP", ""),
            "pulse_age": pulse_age(told.get("DAQPULSE", ""), now),
            "ttl": lives.get(name),
        }
    return rows


def pulse_age(text: str, now: float) -> float | None:
    """Age of a DAQPULSE (UTC, the form of C's ctime), seconds; None when it cannot be read."""
    try:
        return now - calendar.timegm(time.strptime(text, PULSE_FORMAT))
    except ValueError:
        return None


def instance_counts(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many instances are alive, receive, record, and are silent or stale."""
    return {
        "alive": sum(row["alive"] for row in rows.values()),
        "receiving": sum(row["netstat"] not in ("", "idle") for row in rows.values()),
        "recording": sum(row["daqstate"] == "RECORD" for row in rows.values()),
        "silent": sum(not row["alive"] for row in rows.values()),
        "stale": sum((row["pulse_age"] or 0.0) > FRESH_SECONDS for row in rows.values()),
    }


def mode(rules: Rules, proposal: str) -> str:
    """How a proposal is treated: ``skip``, ``primary`` or ``normal``."""
    if proposal in rules.skip:
        return "skip"
    return "primary" if proposal in rules.primary else "normal"
