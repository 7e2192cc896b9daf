"""Where frames come from: a UDP socket or a BLF file, named by a URI; what both give is a batch."""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused

LONGEST_URI = 4096


@dataclass(frozen=True, slots=True)
class UdpAddress:
    """A UDP source: frames sent to `host`, which may be a multicast group that the `interface` joins."""

    host: str
    port: int
    interface: str = "0.0.0.0"

    @property
    def multicast(self) -> bool:
        """The host is a group."""
        return ipaddress.IPv4Address(self.host).is_multicast


@dataclass(frozen=True, slots=True)
class FilePath:
    """A BLF file."""

    path: Path


@dataclass(slots=True)
class Batch:
    """Messages that came together.

    Attributes
    ----------
    data : numpy.ndarray
        uint8 (bytes,): the bytes of all messages.
    starts, lengths, segments : numpy.ndarray
        int64: where each message begins in `data`, its length, and the length of the datagrams in it,
        the last of which may be shorter.
    count : int
        Messages.
    address : int
        Of `data` in memory.
    """

    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]
    count: int
    address: np.uint64 = field(init=False)

    def __post_init__(self) -> None:
        self.address = np.uint64(self.data.ctypes.data)

    @property
    def datagrams(self) -> int:
        """Datagrams in the messages."""
        lengths, segments = self.lengths[: self.count], self.segments[: self.count]
        return int((-(-np.maximum(lengths, 1) // np.maximum(segments, 1))).sum())


class Source(Protocol):
    """An open source."""

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch; None when nothing comes in time. Good until the next call.

        Raises
        ------
        EOFError
            When a file has ended.
        OSError
            When the source cannot be read.
        """

    def origin(self, message: int) -> str:
        """Where a message of the last batch came from, for people."""

    def close(self) -> None:
        """Give it up."""


def parse_source(uri: str) -> UdpAddress | FilePath:
    """Read a source URI: ``udp://HOST:PORT``, with ``?interface=ADDRESS`` for a group, or ``file:///PATH``.

    Raises
    ------
    Refused
        When it is anything else.
    """
    what = f"source {uri[:80]!r}"
    if len(uri) > LONGEST_URI or not uri.isprintable():
        raise Refused(f"{what}: write it like udp://239.1.2.3:5000?interface=127.0.0.1 or file:///data/x.blf")
    try:
        parts = urllib.parse.urlsplit(uri)
        query = urllib.parse.parse_qs(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True)
        port = parts.port
    except ValueError as error:
        raise Refused(f"{what}: {error}; write it like udp://239.1.2.3:5000 or file:///data/x.blf") from error
    if parts.scheme == "file":
        path = urllib.parse.unquote(parts.path)
        if parts.netloc or query or parts.fragment or not path.startswith("/") or "\0" in path:
            raise Refused(f"{what}: a file is given by its absolute path, such as file:///data/x.blf")
        return FilePath(Path(path))
    if parts.scheme != "udp" or parts.path not in ("", "/") or parts.fragment or set(query) - {"interface"}:
        raise Refused(f"{what}: write it like udp://239.1.2.3:5000?interface=127.0.0.1 or file:///data/x.blf")
    if port is None or port == 0:
        raise Refused(f"{what}: the port is missing; write it like udp://239.1.2.3:5000")
    interface = query.get("interface", ["0.0.0.0"])[-1]
    try:
        host = str(ipaddress.IPv4Address(parts.hostname or ""))
        interface = str(ipaddress.IPv4Address(interface))
    except ValueError as error:
        raise Refused(f"{what}: {error}; host and interface are IPv4 addresses") from error
    return UdpAddress(host, port, interface)


def check_source(uri: str) -> None:
    """Refuse a source that cannot be one on this host, before anything is given up for it; may block.

    Raises
    ------
    Refused
        See `parse_source`; also when a file is not there.
    """
    source = parse_source(uri)
    if isinstance(source, FilePath) and not os.path.isfile(source.path):
        raise Refused(f"source {uri[:80]!r}: {source.path} is no file on this host; give the path of a BLF file")
