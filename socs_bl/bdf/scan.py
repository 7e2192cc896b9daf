"""A scan to be recorded: the record that goes from the listener to the nodes, and with the file to the archive.

A binary file has one uid for life. Its name is the uid with every character that is not a letter or a digit replaced by
``_``, so that the parser lets only letters and digits into a uid's parts: two uids never have one name.
"""

from __future__ import annotations

import math
import re

import msgspec

from socs_bl.core.clock import DAY_NS, UNIX_EPOCH_MJD
from socs_bl.core.errors import Refused

_UID = re.compile(r"uid://[A-Za-z0-9]{0,32}(/[A-Za-z0-9]{1,32}){1,4}")
_PROJECT_PATH = re.compile(r"[0-9]{1,9}/[0-9]{1,9}/[0-9]{1,9}/")
_TEXT_LIMIT = 256
_MAX_ANTENNAS = 512
_MAX_NS = 5 * 10**18  # with the epoch of the format added it still fits 64 bits
# Edges of windows are told as Modified Julian Dates in double precision; such texts are wrong by up to 0.8 us.
EDGE_NS = 1_000
BDF_UID = "uid:///evla/bdf/"
UNIX_EPOCH_MJD_NS = UNIX_EPOCH_MJD * DAY_NS


class ScanAntenna(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An antenna of a scan.

    Attributes
    ----------
    name : str
        Such as ``ea01``.
    station : int
        Number of its station at the correlator: the order of antennas in a file.
    pad : str
        Where it stands, such as ``W04``.
    x, y, z : float
        Metres, geocentric.
    """

    name: str
    station: int
    pad: str = ""
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


class ScanWindow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file's header does not say of a spectral window.

    Attributes
    ----------
    baseband, number : str, int
        As in the header.
    centre : float
        Sky frequency in the middle of its channels, the mean of the first's and the last's, Hz; 0: unknown.
    bandwidth : float
        Hz; 0: unknown.
    """

    baseband: str
    number: int
    centre: float = 0.0
    bandwidth: float = 0.0


class Scan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded into one file, and what people and the archive must know of it.

    Attributes
    ----------
    uid : str
        The file's, ``uid:///evla/bdf/<unix ms>``.
    dataset_id, config_id : str
        Execution block and configuration as the telescope's executor calls them.
    scan, subscan : int
        Numbers within the execution block, from 1.
    project_path : str
        ``0/<scan>/<subscan>/``.
    exec_block : str
        Uid of the execution block.
    start_ns, stop_ns : int
        The window, ns since 1970 UTC; only integrations wholly inside are kept, to within `EDGE_NS`. A stop of 0: open.
    subarray : str
        Name of the configuration's subarray; empty: the one with this config_id.
    nodes : tuple of str
        Instances that write the file.
    source : str
    ra, dec : float
        Radians.
    intents : tuple of str
    antennas : tuple of ScanAntenna
        Empty where nothing told of them.
    windows : tuple of ScanWindow
        Filled in by whoever creates the file, from its configuration.
    observer, project : str

    Raises
    ------
    Refused
        When a value cannot be.
    """

    uid: str
    dataset_id: str
    start_ns: int
    stop_ns: int = 0
    config_id: str = ""
    scan: int = 1
    subscan: int = 1
    project_path: str = ""
    exec_block: str = ""
    subarray: str = ""
    nodes: tuple[str, ...] = ()
    source: str = ""
    ra: float = 0.0
    dec: float = 0.0
    intents: tuple[str, ...] = ()
    antennas: tuple[ScanAntenna, ...] = ()
    windows: tuple[ScanWindow, ...] = ()
    observer: str = ""
    project: str = ""

    def __post_init__(self) -> None:
        parse_uid(self.uid)
        if self.exec_block:
            parse_uid(self.exec_block)
        if self.project_path:
            parse_project_path(self.project_path)
        if not self.dataset_id:
            raise Refused(f"scan {self.uid} has no dataset_id; name the execution block it belongs to")
        texts = (self.dataset_id, self.config_id, self.subarray, self.source, self.observer, self.project)
        names = tuple(text for antenna in self.antennas for text in (antenna.name, antenna.pad))
        for text in (*texts, *self.nodes, *self.intents, *names):
            if len(text) > _TEXT_LIMIT or not text.isprintable():
                raise Refused(
                    f"scan {self.uid}: {text!r:.60} is not printable text of at most {_TEXT_LIMIT} characters"
                )
        if not 0 <= self.start_ns < _MAX_NS or not 0 <= self.stop_ns < _MAX_NS or 0 < self.stop_ns <= self.start_ns:
            raise Refused(
                f"scan {self.uid}: window from {self.start_ns} to {self.stop_ns} ns; the stop must lie after the start,"
                " or be 0 while it is open"
            )
        if min(self.scan, self.subscan) < 1 or max(self.scan, self.subscan) > 999_999_999:
            raise Refused(f"scan {self.uid}: scan {self.scan} and subscan {self.subscan} must be numbers from 1")
        if len(self.antennas) > _MAX_ANTENNAS:
            raise Refused(f"scan {self.uid}: {len(self.antennas)} antennas; at most {_MAX_ANTENNAS} are possible")
        if not all(math.isfinite(value) for value in (self.ra, self.dec, *_coordinates(self))):
            raise Refused(f"scan {self.uid}: a position or a frequency is not a finite number")

    @property
    def path(self) -> str:
        """The project path, made from the numbers where none was given."""
        return self.project_path or f"0/{self.scan}/{self.subscan}/"

    @property
    def block(self) -> str:
        """Uid of the execution block; the file's own where none was given."""
        return self.exec_block or self.uid

    def holds(self, start_ns: int, end_ns: int) -> bool:
        """Whether an integration (ns since 1970 UTC) lies wholly inside the window."""
        return self.start_ns - EDGE_NS <= start_ns and (not self.stop_ns or end_ns <= self.stop_ns + EDGE_NS)


def _coordinates(scan: Scan) -> tuple[float, ...]:
    places = (value for antenna in scan.antennas for value in (antenna.x, antenna.y, antenna.z))
    return (*places, *(value for window in scan.windows for value in (window.centre, window.bandwidth)))


def parse_uid(text: str) -> str:
    """Accept a uid such as ``uid:///evla/bdf/1433189755525`` or ``uid://A002/X1/X2``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if not _UID.fullmatch(text):
        raise Refused(
            f"uid {text!r:.80} is not 'uid://' and parts of letters and digits; write it like '{BDF_UID}1433'"
        )
    return text


def make_uid(unix_ms: int) -> str:
    """The uid of a file that was asked for at this time, milliseconds since 1970 UTC."""
    return parse_uid(f"{BDF_UID}{unix_ms}")


def parse_project_path(text: str) -> str:
    """Accept ``<execution block>/<scan>/<subscan>/``: three numbers, each closed by ``/``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if not _PROJECT_PATH.fullmatch(text):
        raise Refused(f"project path {text!r:.60} is not three numbers, each with '/' behind; write it like '0/1/1/'")
    return text


def file_name(uid: str) -> str:
    """Name of a uid's file: ``uid:///evla/bdf/1433`` gives ``uid____evla_bdf_1433``.

    Raises
    ------
    Refused
        When it is no uid.
    """
    return re.sub(r"[^A-Za-z0-9]", "_", parse_uid(uid))


def encode_scan(scan: Scan) -> str:
    """A scan as JSON text, on one line."""
    return msgspec.json.encode(scan).decode()


def decode_scan(text: str | bytes) -> Scan:
    """The scan in a JSON text.

    Raises
    ------
    Refused
        When it is not one.
    """
    try:
        return msgspec.json.decode(text, type=Scan)
    except msgspec.MsgspecError as error:
        raise Refused(f"this is not a scan: {error}") from error


def mjd_ns(unix_ns: int) -> int:
    """Nanoseconds since 1970 UTC as nanoseconds since MJD 0, the time of binary files."""
    return unix_ns + UNIX_EPOCH_MJD_NS


def unix_ns(mjd_ns: int) -> int:
    """Nanoseconds since MJD 0 as nanoseconds since 1970 UTC."""
    return mjd_ns - UNIX_EPOCH_MJD_NS
