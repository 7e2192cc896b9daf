"""The telescope's Executor: what it says on multicast while a schedule is observed.

One Observation document before each scan says when that one starts, and so when the one before ends; a document of the
source ``FINISH`` ends the last. The antenna property table comes first.

Source: the Observation and antenna property schemas of the EVLA, as evla_mcast carries them.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address
from xml.sax.saxutils import escape, quoteattr

import erfa
import numpy as np

from socs_bl.core.errors import Retry
from socs_bl.simulators import geometry
from socs_bl.simulators.boards_config import Correlation, ScanConfig
from socs_bl.simulators.sky import CorrelatorTruth

WGS84 = 1  # erfa's number of it
UNIX_EPOCH_MJD, DAY_S = 40587, 86400
SUBARRAY = "subarray1"
CORRELATOR = "widar"
_IFS = {
    "AC_8BIT": "AC", "BD_8BIT": "BD", "A1C1_3BIT": "AC1", "A2C2_3BIT": "AC2", "B1D1_3BIT": "BD1", "B2D2_3BIT": "BD2",
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """One document.

    Attributes
    ----------
    at : float
        When it is sent, Unix seconds.
    what : str
        For people.
    antennas : bool
        It goes to the group of the antenna tables.
    text : str
    """

    at: float
    what: str
    antennas: bool
    text: str


def mjd(unix: float) -> str:
    """A time as the documents have it: MJD, to the nanosecond."""
    return f"{UNIX_EPOCH_MJD + Decimal(round(unix * 1e6)) / (DAY_S * 10**6):.14f}"


def dataset_id(config: Correlation, unix: float) -> str:
    """The id of an execution block that begins then: project and MJD."""
    return f"{config.project}.{float(mjd(unix)):.8f}"


def observation(
    config: Correlation, dataset: str, config_id: str, number: int, start: float, scan: ScanConfig | None
) -> str:
    """An Observation document.

    Parameters
    ----------
    config : Correlation
    dataset, config_id : str
    number : int
        Of the scan, from 1.
    start : float
        Unix seconds.
    scan : ScanConfig or None
        None: the end, ``FINISH``.
    """
    name, ra, dec = ("FINISH", 0.0, 0.0) if scan is None else (scan.source, scan.ra_deg, scan.dec_deg)
    intents = ["suppress_data=True"] if scan is None else [f'ScanIntent="{intent}"' for intent in scan.intents]
    intents += ['ObserverName="A. Simulator"', f'ProjectID="{config.project}"']
    sslo = [
        f'<sslo Receiver="L-band 1 2" IFid={quoteattr(_IFS[baseband.name])} Sideband="{-1 if baseband.lower else 1}">'
        f"<freq>{baseband.edge_hz / 1e6:.6f}</freq></sslo>"
        for baseband in config.basebands
    ]
    sidereal = float(erfa.gmst06(2400000.5, float(mjd(start)), 2400000.5, float(mjd(start)))) / (2 * math.pi)
    lst = (sidereal + config.site.longitude_deg / 360) % 1.0
    head = {
        "subarrayId": SUBARRAY, "datasetId": dataset, "configId": config_id, "startTime": mjd(start), "seq": number - 1
    }  # fmt: skip
    attributes = "".join(f" {key}={quoteattr(str(value))}" for key, value in head.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Observation{attributes}>\n<name>{escape(name)}</name>\n'
        f"<ra>{math.radians(ra):.12f}</ra>\n<dec>{math.radians(dec):.12f}</dec>\n<azoffs>0.0</azoffs>\n<eloffs>0.0</eloffs>\n"
        f"<startLST>{lst:.9f}</startLST>\n"
        + "".join(f"<intent>{escape(intent)}</intent>\n" for intent in intents)
        + f"<scanNo>{number}</scanNo>\n<subscanNo>1</subscanNo>\n<correlator>{CORRELATOR}</correlator>\n"
        + "\n".join(sslo)
        + "\n</Observation>\n"
    )


def antenna_table(config: Correlation, dataset: str, unix: float) -> str:
    """The AntennaPropertyTable document: where every station stands, geocentric, metres."""
    site = config.site
    centre = erfa.gd2gc(WGS84, math.radians(site.longitude_deg), math.radians(site.latitude_deg), site.altitude_m)
    places = np.asarray(centre) + geometry.positions(site, [station.pad for station in config.ordered])
    rows = [
        f"<AntennaProperties name={quoteattr(station.name)}><widarID>{station.station}</widarID><pad>{escape(station.pad)}</pad>"
        f"<X>{x:.6f}</X><Y>{y:.6f}</Y><Z>{z:.6f}</Z><offset>0.0</offset></AntennaProperties>"
        for station, (x, y, z) in zip(config.ordered, places, strict=True)
    ]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<AntennaPropertyTable configuration="D" datasetId={quoteattr(dataset)} '
        f'creation="{mjd(unix)}">\n' + "\n".join(rows) + "\n</AntennaPropertyTable>\n"
    )


def plan(config: Correlation, truth: CorrelatorTruth, config_id: str) -> tuple[Said, ...]:
    """Everything that is said during an observation, in order."""
    dataset, lead = truth.dataset_id, config.lead_s
    first, last = truth.scans[0], truth.scans[-1]
    said = [Said(first.start - lead, "antennas", True, antenna_table(config, dataset, first.start))]
    for scan, injected in zip(config.scans, truth.scans, strict=True):
        text = observation(config, dataset, config_id, injected.scan, injected.start, scan)
        said.append(Said(injected.start - lead, f"scan {injected.scan} {scan.source}", False, text))
    return (*said, finish(config, truth, config_id, last.stop))


def finish(config: Correlation, truth: CorrelatorTruth, config_id: str, stop: float) -> Said:
    """The document that ends the observation at `stop` (Unix seconds)."""
    text = observation(config, truth.dataset_id, config_id, truth.scans[-1].scan + 1, stop, None)
    return Said(stop - config.lead_s, "FINISH", False, text)


def send(config: Correlation, said: Said) -> None:
    """Send one document on its multicast group.

    Raises
    ------
    Retry
        When the network does not take it.
    """
    network = config.network
    group, port = network.observation_group, network.observation_port
    if said.antennas:
        group, port = network.antenna_group, network.antenna_port
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, IPv4Address(network.interface).packed)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sender.sendto(said.text.encode(), (str(group), port))
    except OSError as error:
        raise Retry(f"{said.what}: {group}:{port} takes nothing from {network.interface} ({error.strerror})") from error
