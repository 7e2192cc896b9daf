"""The original's saved keys worked out from the cells alone, to be held against what was written to Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.model import Duty, Subarray
from socs_bl.core.names import instance_order

SUFFIXES = ("free_instances", ":freesub_state", ":state")


def saved_keys(machine: CommensalMachine) -> dict[str, Any]:
    """What the saved keys must say of a machine's state, parsed and without the time."""
    duties = {cell.name: cell.duty for cell in machine.instances()}
    free = [name for name, duty in duties.items() if duty is Duty.FREE]
    keys: dict[str, Any] = {"free_instances": sorted(free, key=instance_order)}
    for cell in machine.cells.values():
        if isinstance(cell, Subarray):
            names = [share.instance for share in cell.shares]
            lists = {
                duty.value: [name for name in names if duties[name] is duty]
                for duty in (Duty.READY, Duty.RECORDING, Duty.PROCESSING)
            }
            keys[f"{cell.name}:freesub_state"] = cell.freesub.value
            keys[f"{cell.name}:state"] = {"recproc_state": cell.recproc.value, "subscribed": names, **lists}
    return keys


def keys_written(commands: Iterable[tuple[str, ...]], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the saved keys hold after some commands, parsed and without the time."""
    keys = dict(before or {})
    for command in commands:
        key = command[1]
        if command[0] == "SET" and key.endswith(SUFFIXES):
            keys[key] = command[2] if key.endswith(":freesub_state") else json.loads(command[2])
            if key.endswith(":state"):
                assert keys[key].pop("timestamp") > 0
    return keys
