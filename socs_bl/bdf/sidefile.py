"""The side file of a published file, ``NAME.json``: what BdfInfo says, and all that the SDM is made from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from socs_bl.bdf.header import Header
from socs_bl.bdf.model import Marker
from socs_bl.bdf.scan import EDGE_NS, Scan, ScanAntenna, file_name, unix_ns
from socs_bl.bdf.wire import BdfInfo
from socs_bl.core.errors import Refused

SUFFIX = ".json"


class SideWindow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A spectral window, in the order of the file.

    Attributes
    ----------
    baseband, number, channels, bins, cross, auto, sideband
        As in the file's header.
    centre, bandwidth : float
        Sky frequencies, Hz; 0: unknown.
    """

    baseband: str
    number: int
    channels: int
    bins: int
    cross: tuple[str, ...]
    auto: tuple[str, ...]
    sideband: str = "NOSB"
    centre: float = 0.0
    bandwidth: float = 0.0


class NodeCount(msgspec.Struct, frozen=True):
    """Integrations that a node has written to and left out."""

    integrations: int
    dropped: int
    reason: str = ""


class SideFile(BdfInfo, frozen=True, kw_only=True, rename="camel"):
    """A side file.

    Attributes
    ----------
    reason : str
        Why the recording was aborted.
    interval_ns : int
        Length of an integration.
    expected_integrations : int
        Integrations that fit into the scan's time; 0: nobody has said when it ends.
    antennas : tuple of ScanAntenna
        In the order of the file: by station.
    windows : tuple of SideWindow
        In the order of the file.
    nodes : dict of str to NodeCount
    exec_block : str
        Uid of the execution block.
    scan : Scan
        What was asked for.
    """

    reason: str
    interval_ns: int
    antennas: tuple[ScanAntenna, ...]
    windows: tuple[SideWindow, ...]
    nodes: dict[str, NodeCount]
    exec_block: str
    scan: Scan
    expected_integrations: int = 0


def make_side_file(
    name: str,
    path: str,
    size: int,
    integrations: int,
    header: Header,
    scan: Scan,
    markers: Sequence[Marker],
    reason: str,
    stop_ns: int = 0,
) -> SideFile:
    """The side file of a file.

    Parameters
    ----------
    name, path : str
        Published name, and where it is.
    size, integrations : int
        Bytes and integrations of the file.
    header : Header
        The file's own.
    scan : Scan
        What was asked for; see `scan_of` for a file whose scan is lost.
    markers : sequence of Marker
        Of the nodes.
    reason : str
        Why the recording was aborted; empty when it was not.
    stop_ns : int
        End of the recording, Unix ns; 0: nobody has said.
    """
    return SideFile(
        id=name,
        uid=header.uid,
        dataset_id=scan.dataset_id,
        scan_no=scan.scan,
        subscan_no=scan.subscan,
        config_id=scan.config_id,
        start_time_ns=header.start_ns,
        stop_time_ns=header.start_ns + integrations * header.interval_ns,
        num_integration=integrations,
        num_antenna=header.antennas,
        size=size,
        path=path,
        aborted=bool(reason),
        correlation_mode=header.correlation_mode,
        reason=reason,
        interval_ns=header.interval_ns,
        antennas=_antennas(header, scan),
        windows=_windows(header, scan),
        nodes={mark.node: NodeCount(mark.integrations, mark.dropped, mark.reason) for mark in markers},
        exec_block=header.exec_block,
        scan=scan,
        expected_integrations=fitting(header, scan, stop_ns),
    )


def fitting(header: Header, scan: Scan, stop_ns: int) -> int:
    """Integrations on the file's grid that lie wholly between the scan's start and `stop_ns`, Unix ns; 0: no stop."""
    start_ns, interval_ns = unix_ns(header.start_ns), header.interval_ns
    if not stop_ns:
        return 0
    before = max(start_ns - scan.start_ns + EDGE_NS, 0) // interval_ns
    return before + max(stop_ns - start_ns + EDGE_NS, 0) // interval_ns


def scan_of(header: Header) -> Scan:
    """What a file says of its scan, for one whose own record is lost; the execution block's name stands for the dataset."""
    _, scan, subscan, _ = header.project_path.split("/")
    return Scan(
        uid=header.uid,
        dataset_id=file_name(header.exec_block),
        scan=max(int(scan), 1),
        subscan=max(int(subscan), 1),
        exec_block=header.exec_block,
        start_ns=unix_ns(header.start_ns),
    )


def encode_side_file(info: SideFile) -> bytes:
    """As JSON, for people to read too."""
    return msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n"


def decode_side_file(data: bytes, path: str) -> SideFile:
    """Read a side file.

    Raises
    ------
    Refused
        When it is not one.
    """
    try:
        return msgspec.json.decode(data, type=SideFile)
    except msgspec.MsgspecError as error:
        raise Refused(f"{path} is not a side file: {error}; delete it and its .sent, then resend") from error


def _antennas(header: Header, scan: Scan) -> tuple[ScanAntenna, ...]:
    """The antennas in the order of the file; numbered ones when the scan does not know as many as the file has."""
    if len(scan.antennas) == header.antennas:
        return tuple(sorted(scan.antennas, key=lambda antenna: antenna.station))
    return tuple(ScanAntenna(f"antenna{number}", number) for number in range(1, header.antennas + 1))


def _windows(header: Header, scan: Scan) -> tuple[SideWindow, ...]:
    asked = {(window.baseband, window.number): window for window in scan.windows}
    windows = []
    for window in header.windows:
        known = asked.get((window.baseband, window.number))
        windows.append(
            SideWindow(
                baseband=window.baseband,
                number=window.number,
                channels=window.channels,
                bins=window.bins,
                cross=window.cross,
                auto=window.auto,
                sideband=window.sideband,
                centre=known.centre if known else 0.0,
                bandwidth=known.bandwidth if known else 0.0,
            )
        )
    return tuple(windows)
