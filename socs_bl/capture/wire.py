"""What the F-engines send and how it is addressed: SPEAD heaps, ``DESTIP``, packet index, frequency axis.

A channelised voltage heap is SPEAD-64-48 with four items: ``timestamp`` (samples since the synchronisation time of the
digitisers), ``feng_id`` (antenna, from 0), ``frequency`` (first channel of the heap) and ``feng_raw``, 8-bit samples in
the order [channel][time][polarisation][re, im].

Source: MeerKAT F-engine data streams, item identifiers as in katsdp and katgpucbf; ``DESTIP`` and ``PKTIDX`` as in
hpguppi_daq.
"""

from __future__ import annotations

import ipaddress
import re

from socs_bl.core.errors import Refused

TIMESTAMP_ID = 0x1600
FENG_ID = 0x4101
FREQUENCY_ID = 0x4103
FENG_RAW_ID = 0x4300
HEAP_ADDRESS_BITS = 48
POLARISATIONS = 2
SAMPLE_BYTES = 2
DEFAULT_PORT = 7148
MAX_GROUPS = 64
LEAVE_ALL = "0.0.0.0"
_DESTINATION = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?:\+([0-9]{1,4}))?")


def heap_bytes(channels: int, times: int) -> int:
    """Bytes of ``feng_raw``."""
    return channels * times * POLARISATIONS * SAMPLE_BYTES


def packet_index(timestamp: int, clocks_per_heap: int) -> int:
    """``PKTIDX`` of a heap: its timestamp in heap times (``HCLOCKS`` samples).

    Raises
    ------
    Refused
        When the timestamp is not the start of a heap time.
    """
    index, rest = divmod(timestamp, clocks_per_heap)
    if rest:
        raise Refused(
            f"timestamp {timestamp} is not a multiple of HCLOCKS {clocks_per_heap}; the sender is out of step"
        )
    return index


def parse_destination(text: str) -> tuple[str, ...]:
    """The multicast groups of a ``DESTIP``: ``A.B.C.D+n`` is n + 1 consecutive addresses, ``0.0.0.0`` none.

    Raises
    ------
    Refused
        When the text has another form, names more than `MAX_GROUPS`, or an address is not a multicast one.
    """
    match = _DESTINATION.fullmatch(text)
    if match is None:
        raise Refused(f"DESTIP {text!r:.40} is not A.B.C.D+n; write it like '239.9.0.64+3', or 0.0.0.0 for none")
    more = int(match[2] or 0)
    try:
        first = ipaddress.IPv4Address(match[1])
        if str(first) == LEAVE_ALL:
            return ()
        last = first + more
    except ValueError as error:
        raise Refused(f"DESTIP {text!r}: {error}") from error
    if more >= MAX_GROUPS:
        raise Refused(f"DESTIP {text!r} names {more + 1} groups; an instance takes at most {MAX_GROUPS}")
    if not (first.is_multicast and last.is_multicast):
        raise Refused(f"DESTIP {text!r} is not within the multicast addresses 224.0.0.0 to 239.255.255.255")
    return tuple(str(first + step) for step in range(more + 1))


def format_destination(first: str, groups: int) -> str:
    """``DESTIP`` of `groups` consecutive addresses from `first`; none gives ``0.0.0.0``.

    Raises
    ------
    Refused
        When they are not multicast addresses.
    """
    if groups == 0:
        return LEAVE_ALL
    text = f"{first}+{groups - 1}"
    parse_destination(text)
    return text


def channel_frequency(channel: float, centre: float, channels: int, width: float) -> float:
    """Centre frequency of an F-engine channel: ``FECENTER + (channel - FENCHAN / 2) * CHAN_BW``, in the unit given.

    Parameters
    ----------
    channel : float
        Channel number, from 0.
    centre, width : float
        ``FECENTER`` and ``CHAN_BW``.
    channels : int
        ``FENCHAN``.
    """
    return centre + (channel - channels / 2) * width


def observing_frequency(first: int, count: int, centre: float, channels: int, width: float) -> float:
    """``OBSFREQ``, the centre of a band of `count` channels from `first`, edge to edge.

    Channel i of the band is centred at ``OBSFREQ - OBSBW / 2 + (i + 0.5) * CHAN_BW`` with ``OBSBW = count * CHAN_BW``.
    """
    return channel_frequency(first + count / 2, centre, channels, width) - width / 2
