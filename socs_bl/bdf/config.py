"""Configuration of the publisher."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from pydantic import Field

from socs_bl.core.config import Config

PRIVATE = ".private"  # the creation directory, below the publication directory
SDM = "sdm"  # below the publication directory


class PublisherConfig(Config):
    """What is published from where to where, and who is told.

    Attributes
    ----------
    bdfdir : Path
        The publication directory; nodes create files in ``.private`` below it. One file system, with hard links.
    poll_seconds : float
        Time between two looks into the creation directory.
    grace_seconds : float
        A file that has not changed for so long after the end of its recording is finished without waiting for its nodes.
    grace_integrations : int
        The same in integrations; the longer of both counts.
    abandoned_seconds : float
        A file that has not changed for so long is finished although nobody has said when its recording ends.
    group, port : IPv4Address, int
        Where BdfInfo goes.
    interface : IPv4Address
        Address of the network interface that sends it.
    hops : int
        Time to live of the datagrams.
    telescope : str
        Name in the SDM's ExecBlock table.
    dish_diameter : float
        Metres, for the SDM's Antenna table.
    catalogue : Path or None
        Directory of the catalogue that published files are entered into; None: no catalogue.
    """

    bdfdir: Path
    poll_seconds: float = Field(default=1.0, gt=0)
    grace_seconds: float = Field(default=30.0, gt=0, le=1_000_000)
    grace_integrations: int = Field(default=5, ge=1)
    abandoned_seconds: float = Field(default=3600.0, gt=0, le=1_000_000)
    group: IPv4Address = IPv4Address("239.192.3.3")
    port: int = Field(default=53002, ge=1, le=65535)
    interface: IPv4Address = IPv4Address("127.0.0.1")
    hops: int = Field(default=1, ge=0, le=255)
    telescope: str = Field(default="EVLA", pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")
    dish_diameter: float = Field(default=25.0, gt=0)
    catalogue: Path | None = None

    @property
    def private(self) -> Path:
        """The creation directory."""
        return self.bdfdir / PRIVATE
