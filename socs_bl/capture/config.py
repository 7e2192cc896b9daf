"""Configuration of an instance's capture."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field

from socs_bl.core.config import Config

MEBIBYTE = 1 << 20


class CaptureConfig(Config):
    """How one instance receives and writes.

    Attributes
    ----------
    interface : IPv4Address
        Address of the network interface that joins the multicast groups.
    root : Path
        Directory under which ``DATADIR`` is placed, so that several instances can share one machine.
    block_bytes : int
        Upper limit of a block. The default suits a demonstration; hpguppi_daq's is 128 MiB.
    blocks_per_file : int
        Blocks after which the next file begins.
    ring_blocks : int
        Blocks of memory between reception and writing.
    window_blocks : int
        Blocks that are filled at the same time; older heaps are late.
    socket_bytes : int
        Receive buffer asked of the kernel for each group.
    stall_seconds : float
        A recording that gets no block for so long is reported as stalled.
    resync_seconds : float
        When for so long all heaps are older than what was received, time has gone back and the groups are joined anew.
    """

    interface: IPv4Address = IPv4Address("127.0.0.1")
    root: Path = Path("/")
    block_bytes: int = Field(default=4 * MEBIBYTE, ge=4096, le=4096 * MEBIBYTE)
    blocks_per_file: int = Field(default=128, ge=1)
    ring_blocks: int = Field(default=8, ge=4, le=256)
    window_blocks: int = Field(default=2, ge=1, le=16)
    socket_bytes: int = Field(default=4 * MEBIBYTE, ge=65536)
    stall_seconds: float = Field(default=10.0, gt=0)
    resync_seconds: float = Field(default=3.0, gt=0)
