"""The main header of a subarray's files: the same for all pipelines and nodes, but for the start."""

from __future__ import annotations

from socs_bl.bdf.header import AUTO_ONLY, CROSS_AND_AUTO, CROSS_ONLY, Header, SpectralWindow
from socs_bl.bdf.scan import BDF_UID, Scan, mjd_ns
from socs_bl.correlator.configuration import Subarray, Window

SIDEBANDS = {"U": "USB", "L": "LSB"}


def make_header(scan: Scan, subarray: Subarray, interval_ns: int, start_ns: int) -> Header:
    """The header of a scan's file.

    Parameters
    ----------
    scan : Scan
    subarray : Subarray
    interval_ns : int
        Length of an integration.
    start_ns : int
        Of the first integration, unix ns.
    """
    windows = subarray.ordered_windows()
    cross = len(subarray.antennas) > 1 and any(window.cross for window in windows)
    auto = any(window.auto for window in windows)
    return Header(
        uid=scan.uid,
        exec_block=scan.block,
        project_path=scan.path,
        start_ns=mjd_ns(start_ns),
        interval_ns=interval_ns,
        antennas=len(subarray.antennas),
        windows=tuple(_spectral_window(window) for window in windows),
        correlation_mode=CROSS_AND_AUTO if cross and auto else CROSS_ONLY if cross else AUTO_ONLY,
    )


def check_subarray(subarray: Subarray) -> None:
    """Whether files of this subarray can be written, whatever is recorded.

    Raises
    ------
    Refused
        When not; the text says what would be right.
    """
    make_header(Scan(uid=f"{BDF_UID}1", dataset_id="any", start_ns=0), subarray, 1, 0).check()


def _spectral_window(window: Window) -> SpectralWindow:
    names = window.baseband, window.number
    return SpectralWindow(*names, window.channels, window.bins, window.cross, window.auto, SIDEBANDS[window.sideband])
