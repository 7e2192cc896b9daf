"""Who gets which multicast groups: a pure planner.

The F-engine streams of a subarray are N+1 consecutive multicast addresses. Instances take them in order, each
`streams_per_instance` of them; the last takes the rest. Source: commensal-automator, multicast split; unlike it, octets
carry, a stream of one address works, and NSTRM is right when instances are short.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import msgspec

from socs_bl.core.errors import Refused

_STREAM = re.compile(r"spead://(?P<first>[0-9.]{7,15})(\+(?P<more>[0-9]{1,4}))?:(?P<port>[0-9]{1,5})")


class Streams(msgspec.Struct, frozen=True):
    """The F-engine streams of a subarray: first address, number of addresses, port."""

    first: str
    count: int
    port: int


class Share(msgspec.Struct, frozen=True):
    """What one instance takes: its groups and where its band begins (channels from the start of the band)."""

    instance: str
    destip: str
    streams: int
    first_channel: int


class Plan(msgspec.Struct, frozen=True):
    """An allocation: the shares, how many instances would be needed, and how many streams nobody takes."""

    shares: tuple[Share, ...]
    requested: int
    uncovered: int


def parse_streams(url: str) -> Streams:
    """Parse ``spead://<ip>+<N>:<port>`` (N+1 addresses) or ``spead://<ip>:<port>`` (one).

    Raises
    ------
    Refused
        When it is anything else, or the addresses are not all multicast.
    """
    match = _STREAM.fullmatch(url)
    if match is None:
        raise Refused(f"stream {url[:80]!r} is not spead://ADDRESS+N:PORT; look at the subarray's streams")
    count, port = int(match["more"] or 0) + 1, int(match["port"])
    try:
        first = ipaddress.IPv4Address(match["first"])
        last = first + (count - 1)
    except ValueError as error:
        raise Refused(f"stream {url[:80]!r}: {error}") from error
    if not (first.is_multicast and last.is_multicast) or not 0 < port < 65536:
        raise Refused(f"stream {url[:80]!r}: {first} to {last}, port {port} is not a range of multicast addresses")
    return Streams(str(first), count, port)


def wanted(streams: Streams, per_instance: int) -> int:
    """How many instances it takes to take all streams."""
    return -(-streams.count // per_instance)


def plan(streams: Streams, available: tuple[str, ...], per_instance: int, channels_per_stream: int) -> Plan:
    """Divide the streams among instances.

    Parameters
    ----------
    streams : Streams
    available : tuple of str
        Instances that may be taken, in the order in which they are taken.
    per_instance : int
        Streams one instance can take.
    channels_per_stream : int
        HNCHAN.

    Returns
    -------
    Plan
        Shares are disjoint, consecutive and ordered; together they cover the streams from the first on.
    """
    requested = wanted(streams, per_instance)
    first = int(ipaddress.IPv4Address(streams.first))
    shares = []
    for index, instance in enumerate(available[:requested]):
        offset = index * per_instance
        count = min(per_instance, streams.count - offset)
        destip = f"{_dotted(first + offset)}+{count - 1}"
        shares.append(Share(instance, destip, count, offset * channels_per_stream))
    covered = sum(share.streams for share in shares)
    return Plan(tuple(shares), requested, streams.count - covered)


def shortage(plan: Plan, pool: int, taken: Mapping[str, int], quarantined: int, drained: int = 0) -> str:
    """Why an allocation is short, in a sentence; empty when it is not.

    Parameters
    ----------
    plan : Plan
    pool : int
        Instances there are.
    taken : mapping of str to int
        How many each subarray holds.
    quarantined, drained : int
        How many are out of use, and out of service.
    """
    if len(plan.shares) >= plan.requested:
        return ""
    holders = ", ".join(f"{count} held by {array}" for array, count in sorted(taken.items()) if count) or "none held"
    out = f"{quarantined} quarantined" + (f", {drained} drained" if drained else "")
    return (
        f"{len(plan.shares)} of {plan.requested} instances: of {pool} there are, {holders}, {out};"
        f" {plan.uncovered} streams at the end of the band are not recorded"
    )


def _dotted(address: int) -> str:
    """An IPv4 address as text; `ipaddress` takes several times as long."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"
