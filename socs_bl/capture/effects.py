"""Carry out what the recorder's machine wants, and show in the status buffer what the stream does. All calls block."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import UTC, datetime
from pathlib import Path

from socs_bl.capture.model import Arm, Disarm, JoinGroups, LeaveGroups, Restore, SetStatus, Value
from socs_bl.capture.stream import CaptureStream, Counters
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Refused, Retry
from socs_bl.hashpipe.gateway import Gateway

SLACK_SECONDS = 1.0  # by which an effect's deadline here is shorter than the shell's


class Performer:
    """Carries out effects on a stream and a gateway.

    Parameters
    ----------
    stream : CaptureStream
    gateway : Gateway
    """

    def __init__(self, stream: CaptureStream, gateway: Gateway) -> None:
        self._stream = stream
        self._gateway = gateway

    def perform(self, effect: Effect) -> None:
        """Carry out one effect.

        Raises
        ------
        Retry
            When it could not be done in time, or the system refused.
        Refused
            When the effect is not known.
        """
        match effect:
            case JoinGroups(target=target):
                # The packet index of an earlier subscription must not be taken for one of this.
                self._gateway.discard("PKTIDX")
                self._wait(effect, lambda: self._stream.join(target))
            case LeaveGroups():
                self._wait(effect, self._stream.leave)
            case Arm(plan=plan):
                self._wait(effect, lambda: self._stream.arm(plan))
            case Disarm():
                self._wait(effect, self._stream.disarm)
            case SetStatus(pairs=pairs):
                self._gateway.update(pairs)
            case Restore(pairs=pairs, group=group):
                # What was set since the restart is newer.
                self._gateway.fill(pairs)
                if group:
                    self._rejoin(group, effect.deadline - SLACK_SECONDS)
            case _:
                raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")

    def _rejoin(self, group: str, limit: float) -> None:
        """Join again, and believe it only when Redis has confirmed: what a group is told meanwhile is not repeated."""
        if not self._gateway.rejoin(group, limit):
            raise Retry(f"the channels of {group} were not subscribed again within {limit:g} s; is Redis up?")

    @staticmethod
    def _wait(effect: Effect, order: Callable[[], Future[None]]) -> None:
        limit = effect.deadline - SLACK_SECONDS
        try:
            order().result(limit)
        except FutureTimeout as error:
            raise Retry(
                f"the stream did not {type(effect).__name__} within {limit:g} s; is the disk hanging?"
            ) from error


def stream_status(counters: Counters, listening: bool, wall: float) -> dict[str, Value]:
    """What the stream does, as keys of the status buffer.

    ``DAQPULSE`` is the time of this report, UTC, in the form of C's ctime; ``NDROP`` counts missing heaps.
    """
    status: dict[str, Value] = {
        "DAQPULSE": datetime.fromtimestamp(wall, UTC).strftime("%a %b %d %H:%M:%S %Y"),
        "NETSTAT": ("receiving" if counters.receiving else "waiting") if listening else "idle",
        "NHEAPS": counters.heaps.received,
        "NDROP": counters.heaps.missing,
        "NLATE": counters.heaps.late,
        "NBAD": sum(counters.heaps.rejected.values()),
    }
    if listening and counters.pktidx >= 0:
        status["PKTIDX"] = counters.pktidx
    return status


def free_bytes(root: Path) -> int:
    """Bytes a recording may still use on the file system of `root`, or of the nearest parent that exists."""
    while not root.exists() and root != root.parent:
        root = root.parent
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize
