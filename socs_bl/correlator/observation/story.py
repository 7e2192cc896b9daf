"""The journal of the executor's listener in words, for `socs_bl.core.explain`."""

from __future__ import annotations

from collections.abc import Callable

from socs_bl.core.clock import iso_utc
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.core.explain import Teller
from socs_bl.core.walk import Change
from socs_bl.correlator.observation.machine import ObservationMachine
from socs_bl.correlator.observation.model import Notify, ObservationHeard, Record, StopRecording


class ObservationTeller(Teller[ObservationMachine]):
    """Knows datasets, uids of recordings, and effects (``118.2``)."""

    def concerns(self, machine: ObservationMachine, subject: str) -> Callable[[Change], bool]:
        """A dataset goes with its recordings that are not over; a recording with its orders and timers."""
        uids = {item.scan.uid for item in machine.recordings() if item.scan.dataset_id == subject}
        keys = {subject, f"dataset/{subject}", f"recording/{subject}", *(f"recording/{uid}" for uid in uids)}
        return lambda change: change.key in keys or change.key.endswith(f"|{subject}")

    def standing(self, machine: ObservationMachine, subject: str) -> list[str]:
        """What is recorded, and who has not been told."""
        found = [item for item in machine.recordings() if subject in (item.scan.uid, item.scan.dataset_id)]
        if not found:
            known = any(dataset.id == subject for dataset in machine.datasets())
            return ["has no scan under way"] if known else super().standing(machine, subject)
        lines = []
        for item in found:
            scan = item.scan
            end = f"ends {iso_utc(scan.stop_ns / 1e9)} ({item.reason})" if scan.stop_ns else "is open"
            lacking = [node for node, order in item.orders.items() if not order.known or order.stop_ns != scan.stop_ns]
            waits = f"; {', '.join(lacking)} still to be told" if lacking else "; every node has been told"
            lines.append(f"{scan.uid}, {scan.source}, began {iso_utc(scan.start_ns / 1e9)} and {end}{waits}")
        return lines

    def event(self, event: Event) -> str:
        """Documents by what they say."""
        if isinstance(event, ObservationHeard):
            said = event.observation
            start = iso_utc(said.start_ns / 1e9)
            return (
                f"a document of {said.dataset_id} said {said.source}, scan {said.scan}.{said.subscan}, from {start} on"
            )
        return super().event(event)

    def effect(self, effect: Effect) -> str:
        """Orders by node."""
        match effect:
            case Record(node=node, scan=scan):
                return f"{node} records {scan.uid}"
            case StopRecording(node=node, uid=uid, stop_ns=stop_ns):
                return f"{node} ends {uid} at {iso_utc(stop_ns / 1e9)}"
        return super().effect(effect)

    def said(self, effect: Effect) -> str:
        """What people were told."""
        return effect.text if isinstance(effect, Notify) else ""
