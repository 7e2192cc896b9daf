"""Configuration of the listener to the executor's documents."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated

from pydantic import BeforeValidator, Field

from socs_bl.core.config import Config

Node = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


Nodes = Annotated[tuple[Node, ...], BeforeValidator(_split), Field(min_length=1, max_length=64)]  # also as ``a,b``


class ObservationConfig(Config):
    """Where documents come from, whose scans are recorded, and how long nodes are asked.

    Attributes
    ----------
    observation_group, antenna_group : IPv4Address
        Multicast groups of the Observation documents and of the antenna tables.
    observation_port, antenna_port : int
    interface : IPv4Address
        Address of the network interface that joins the groups.
    correlator : str
        Scans of this correlator are recorded; others only end the one before.
    nodes : tuple of str
        OCS instance-ids of the nodes of the back end.
    first_pause, longest_pause : float
        Seconds before a node that did not take an order is asked again: doubled each time, up to the longest.
    give_up : float
        Seconds after the end of a scan at which a node that still has not taken it is given up.
    """

    observation_group: IPv4Address = IPv4Address("239.192.3.2")
    observation_port: int = Field(default=53001, ge=1, le=65535)
    antenna_group: IPv4Address = IPv4Address("239.192.3.1")
    antenna_port: int = Field(default=53000, ge=1, le=65535)
    interface: IPv4Address = IPv4Address("127.0.0.1")
    correlator: str = Field(default="widar", min_length=1, max_length=40)
    nodes: Nodes = ("cbe-01",)
    first_pause: float = Field(default=0.5, gt=0)
    longest_pause: float = Field(default=30.0, gt=0)
    give_up: float = Field(default=600.0, gt=0)
