"""The commensal machine as people see it: plain data for session, page and commands."""

from __future__ import annotations

from collections import Counter
from typing import Any

from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.model import Duty, Subarray


def overview(machine: CommensalMachine) -> dict[str, Any]:
    """Subarrays, pool and counters."""
    counts = Counter(cell.duty for cell in machine.instances())
    ledger = machine.ledger()
    return {
        "arrays": {name: _array(machine, cell) for name, cell in _arrays(machine).items()},
        "pool": {duty.value: counts[duty] for duty in Duty},
        "quarantined": {cell.name: cell.reason for cell in machine.instances() if cell.duty is Duty.QUARANTINED},
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
        "ends": run.ended if run else 0.0,
        "last_event": cell.last_event,
    }
