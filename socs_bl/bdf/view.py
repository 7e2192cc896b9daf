"""The publisher's state as session data show it."""

from __future__ import annotations

from typing import Any

import msgspec

from socs_bl.bdf.machine import PublisherMachine, why_aborted


def overview(machine: PublisherMachine) -> dict[str, Any]:
    """Files that are not done, and what has been done."""
    tally: dict[str, Any] = msgspec.to_builtins(machine.tally)
    tally.pop("type")
    return {"files": {item.pop("name"): item for item in list_files(machine)}, **tally}


def list_files(machine: PublisherMachine) -> list[dict[str, Any]]:
    """Files that are not published and cleaned up yet, by name."""
    return [
        {
            "name": name,
            "stage": machine.stage(name),
            "nodes": {mark.node: mark.integrations for mark in file.sighting.markers},
            "missing": file.sighting.missing_nodes,
            "stop": file.sighting.end_ns / 1e9 or None,
            "published": file.sighting.linked,
            "aborted": why_aborted(file) if file.integrations >= 0 else "",
            "fault": file.fault or file.sighting.wrong,
        }
        for name, file in sorted(machine.files.items())
    ]
