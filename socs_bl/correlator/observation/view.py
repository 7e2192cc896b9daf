"""How scans and datasets are shown: plain data for sessions and pages."""

from __future__ import annotations

from typing import Any

import msgspec

from socs_bl.correlator.observation.machine import ObservationMachine
from socs_bl.correlator.observation.model import Order, Recording

SHOWN_DATASETS = 20


def overview(machine: ObservationMachine) -> dict[str, Any]:
    """Datasets heard of last, their open scans, and the counts."""
    latest = sorted(machine.datasets(), key=lambda dataset: -dataset.heard)[:SHOWN_DATASETS]
    open_scans = {dataset.id: machine.open_scan(dataset.id) for dataset in latest}
    ledger = msgspec.to_builtins(machine.ledger)
    ledger.pop("last_ms")
    return {
        "datasets": {name: None if found is None else recording_view(found) for name, found in open_scans.items()},
        "waiting": {
            recording.scan.uid: lacking
            for recording in machine.recordings()
            if (lacking := [node for node, order in recording.orders.items() if _lacks(order, recording)])
        },
        "documents": ledger,
    }


def recording_view(recording: Recording) -> dict[str, Any]:
    """A scan that is open, or not yet over."""
    scan = recording.scan
    return {
        "uid": scan.uid, "dataset_id": scan.dataset_id, "scan": scan.scan, "subscan": scan.subscan,
        "source": scan.source, "start": scan.start_ns / 1e9, "stop": scan.stop_ns / 1e9 or None,
        "nodes": {node: "waits" if _lacks(order, recording) else "told" for node, order in recording.orders.items()},
    }  # fmt: skip


def scans_view(machine: ObservationMachine) -> dict[str, Any]:
    """Scans under way and the last ones that are over."""
    past = [
        {**msgspec.to_builtins(scan), "start": scan.start_ns / 1e9, "stop": scan.stop_ns / 1e9}
        for scan in machine.history.scans
    ]
    for item in past:
        del item["start_ns"], item["stop_ns"]
    return {"under_way": [recording_view(recording) for recording in machine.recordings()], "over": past}


def _lacks(order: Order, recording: Recording) -> bool:
    return not order.known or order.stop_ns != recording.scan.stop_ns
