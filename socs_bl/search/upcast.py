"""Reading what older versions of the room have journaled.

Schema 1 had one rule for deletions, which were of a run, and said in the run that its raw data must stay. Since schema 2 a
deletion names its directory, rule and proof, and what must stay is `Preserved`: the machine makes that of such a run when
it is restarted. Records of either form were written under schema 1, so only what is missing is added.
"""

from __future__ import annotations

from typing import Any

from socs_bl.search.model import Proof, Stage
from socs_bl.search.rules import AFTER_SEARCH

_NOT_CATALOGUED = "not catalogued"


def entry_from_1(record: dict[str, Any]) -> dict[str, Any]:
    """An entry of schema 1, the deletions among its effects as they are asked for today."""
    return {**record, "effects": [_effect(effect) for effect in record["effects"]]}


def part_from_1(record: dict[str, Any]) -> dict[str, Any]:
    """A part of schema 1: of a run, what is known of its raw data; an outstanding deletion as it is asked for today."""
    table, part = record["table"], record["part"]
    if table == "effect":
        part = {**part, "effect": _effect(part["effect"])}
    elif table == "cell" and part["type"] == "Run" and "rule" not in part:
        deleting = part["stage"] == Stage.DELETING.value
        searched = part["stage"] == Stage.REPORTED.value and part["outcome"] == "searched"
        part = {
            **part,
            "rule": AFTER_SEARCH.name if deleting else "",
            # Nothing was reported as searched, or deleted, before it was in the catalogue, else it says so.
            "catalogued": deleting or (searched and _NOT_CATALOGUED not in part["text"]),
        }
    return {**record, "part": part}


def _effect(effect: dict[str, Any]) -> dict[str, Any]:
    if effect["type"] != "DeleteRaw" or "proof" in effect:
        return effect
    return {**effect, "datadir": effect["run"], "rule": AFTER_SEARCH.name, "proof": Proof.SEARCHED.value}
