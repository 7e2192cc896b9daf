"""Reading what older versions of the room have journaled.

Schema 1 kept codes, returns and tries of all instances in the run, and had the original's keys as the last effect of
every event. Since schema 2 an instance has its own tries and its own return, a run counts codes, and the keys are
written once a commit (`socs_bl.commensal.projection.saved_array`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any


def entry_from_1(record: dict[str, Any]) -> dict[str, Any]:
    """An entry of schema 1 without the projection that was its last effect."""
    effects = record["effects"]
    if effects and effects[-1]["type"] == "StoreWrites" and all(map(_is_projection, effects[-1]["commands"])):
        effects = effects[:-1]
    return {**record, "effects": effects}


def part_from_1(record: dict[str, Any]) -> dict[str, Any]:
    """A part of schema 1; of a run that is being processed, who was asked how often is forgotten."""
    part = record["part"]
    if record["table"] != "cell" or part["type"] != "Run":
        return record
    kept = {key: value for key, value in part.items() if key not in ("codes", "heard", "tries")}
    counts = Counter(str(codes[0]) for codes in part["codes"].values())
    return {**record, "part": {**kept, "counts": dict(counts)}}


def _is_projection(command: list[str]) -> bool:
    key = command[1]
    return command[0] == "SET" and (key == "free_instances" or key.endswith((":freesub_state", ":state")))
