"""Texts of a file read back: MIME fields, main header, subset headers; of every writer, not only ours.

Nothing is believed: each number is checked against the file's size before anything is done with it, and every error
names the file and the byte.

Source: EVLA/ALMA Binary Data Format, MIME structure, ``sdmDataHeader`` and ``sdmDataSubsetHeader``.
"""

from __future__ import annotations

import math
import mmap
import re
from dataclasses import dataclass
from typing import Any

from lxml import etree

from socs_bl.bdf.framing import INTERVAL_FIELD
from socs_bl.bdf.header import STRUCTURES, Header, SpectralWindow
from socs_bl.core import xml
from socs_bl.core.errors import Faulty, Refused

Buffer = bytes | mmap.mmap
# numpy's names of the numbers of each part, without the byte order; the second character is the size.
KINDS = {
    "flags": "i4",
    "actualTimes": "i8",
    "actualDurations": "i8",
    "zeroLags": "f4",
    "crossData": "f4",
    "autoData": "f4",
}
CROSS_KINDS = {"FLOAT32_TYPE": "f4", "INT32_TYPE": "i4", "INT16_TYPE": "i2"}
_BINARY = ("application/octet-stream", "binary/octet-stream")
_ORDERS = {"Little_Endian": "<", "Big_Endian": ">"}
_HEADER_END = b"sdmDataHeader>"
_MAX_XML = 4 << 20
_MAX_FIELDS = 64 << 10
_MAX_LINES = 32
_BOUNDARY = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=?-]{1,70})"?')
_INTEGER = re.compile(r"\s*[0-9]{1,19}\s*")
_NUMBER = re.compile(r"\s*[+-]?[0-9.]{1,32}([eE][+-]?[0-9]{1,3})?\s*")


@dataclass(frozen=True, slots=True)
class Announced:
    """What the main header says of a part: count of numbers, and axes."""

    size: int
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything before the first integration.

    Attributes
    ----------
    header : Header
    announced : dict of str to Announced
    order : str
        Byte order of the numbers, ``<`` or ``>``.
    boundary : bytes
        Of the outer parts, with ``--``.
    first : int
        Where the first boundary after the main header stands.
    """

    header: Header
    announced: dict[str, Announced]
    order: str
    boundary: bytes
    first: int


@dataclass(frozen=True, slots=True)
class Block:
    """The texts of one integration.

    Attributes
    ----------
    offset, end : int
        First byte of the block and of what follows it.
    path : str
        Its project path; the last number is the integration's, from 1.
    time_ns, interval_ns : int
        Middle (since MJD 0) and length.
    parts : dict of str to (int, int, str)
        Name to first byte, bytes and numpy type.
    aborted : tuple of (int, str) or None
        Time (ns since MJD 0) and reason.
    """

    offset: int
    end: int
    path: str
    time_ns: int
    interval_ns: int
    parts: dict[str, tuple[int, int, str]]
    aborted: tuple[int, str] | None

    @property
    def number(self) -> int:
        """Number of the integration in its path, from 1."""
        return int(self.path.rstrip("/").rpartition("/")[2])


def faulty(name: str, offset: int, text: str) -> Faulty:
    """An error that names the file and the byte."""
    return Faulty(f"{name}: at byte {offset}: {text}; 'socs-bl bdf salvage' recovers the whole integrations", part=name)


def parse_opening(buffer: Buffer, name: str) -> Opening:
    """Read the main header.

    Parameters
    ----------
    buffer : bytes or mmap
        The file, or its start.
    name : str
        For error texts.

    Raises
    ------
    Refused
        When it is no binary data file at all.
    Faulty
        When the header is damaged or cut off.
    """
    if buffer[:13].lower() != b"mime-version:":
        raise Refused(f"{name}: does not begin with 'MIME-Version:'; this is not a binary data file")
    top, position = read_fields(buffer, 0, name)
    boundary = _boundary_of(top, 0, name)
    position = _expect_boundary(buffer, position, boundary, name)
    fields, body = read_fields(buffer, position, name)
    if fields.get("content-location") != "sdmDataHeader.xml":
        raise faulty(name, position, "the first part is not sdmDataHeader.xml")
    # Where a file has only just been created nothing follows, so that the end is found by its tag.
    end = buffer.find(_HEADER_END, body, body + _MAX_XML)
    if end < 0:
        raise faulty(name, body, f"the main header has no end within {_MAX_XML} bytes; the file is cut off or damaged")
    first = end + len(_HEADER_END)
    while buffer[first : first + 1] in (b"\n", b"\r"):
        first += 1
    root = _xml(buffer[body:first], "sdmDataHeader", body, name)
    with _Located(body, name):
        announced = {
            part.tag: Announced(_integer(part.get("size")), tuple((part.get("axes") or "").split()))
            for part in root.iterfind("dataStruct/*")
            if part.tag in KINDS
        }
        header = _header(root, top, _integer(fields.get(INTERVAL_FIELD.lower(), "0")))
        order = _ORDERS[root.get("byteOrder") or ""]
    return Opening(header, announced, order, boundary, first)


def parse_block(buffer: Buffer, offset: int, opening: Opening, name: str) -> Block:
    """Read the texts of the integration whose boundary stands at `offset`.

    Raises
    ------
    Faulty
        When it is damaged or cut off.
    """
    position = _expect_boundary(buffer, offset, opening.boundary, name)
    outer, position = read_fields(buffer, position, name)
    boundary = _boundary_of(outer, offset, name)
    position = _expect_boundary(buffer, position, boundary, name)
    _, body = read_fields(buffer, position, name)
    stop = buffer.find(b"\n" + boundary, body, body + _MAX_XML) + 1
    if not stop:
        raise faulty(name, body, "the header of the integration has no end; the file is cut off or damaged")
    root = _xml(buffer[body:stop], "sdmDataSubsetHeader", body, name)
    with _Located(body, name):
        path = root.get("projectPath") or ""
        if not re.fullmatch(r"([0-9]{1,10}/){3,5}", path) or not path.startswith(opening.header.project_path):
            raise ValueError(f"project path {path!r:.60} does not continue {opening.header.project_path}")
        time_ns = _integer(root.findtext("schedulePeriodTime/time"))
        interval_ns = _integer(root.findtext("schedulePeriodTime/interval"))
        cross_kind = _cross_kind(root)
        aborted = _aborted(root)
    parts: dict[str, tuple[int, int, str]] = {}
    position = stop
    while buffer[position : (after := position + len(boundary))] == boundary and buffer[after : after + 2] != b"--":
        part, begin, nbytes, kind = _binary_part(buffer, position, boundary, opening, cross_kind, name)
        if part in parts:
            raise faulty(name, position, f"the part {part} comes twice")
        parts[part] = (begin, nbytes, kind)
        position = begin + nbytes + 1
    end = position + len(boundary) + 3
    if buffer[position:end] != boundary + b"--\n":
        raise faulty(name, position, f"{_shown(buffer, position)} instead of the boundary that ends the integration")
    return Block(offset, end, path, time_ns, interval_ns, parts, aborted)


def read_fields(buffer: Buffer, offset: int, name: str) -> tuple[dict[str, str], int]:
    """MIME fields up to the empty line: lower-case name to value; and where the body starts.

    Raises
    ------
    Faulty
        When there is no such line, or something else than fields.
    """
    fields: dict[str, str] = {}
    position = offset
    for _ in range(_MAX_LINES):
        end = buffer.find(b"\n", position, position + _MAX_FIELDS)
        if end < 0:
            raise faulty(name, position, "the header has no end; the file is cut off or damaged")
        line = buffer[position:end].decode("latin-1").rstrip("\r")
        if not line:
            return fields, end + 1
        key, colon, value = line.partition(":")
        if not colon:
            raise faulty(name, position, f"{line[:40]!r} is not a header field")
        fields[key.strip().lower()] = value.strip()
        position = end + 1
    raise faulty(name, offset, f"no empty line within {_MAX_LINES} header lines")


def _binary_part(
    buffer: Buffer, offset: int, boundary: bytes, opening: Opening, cross_kind: str, name: str
) -> tuple[str, int, int, str]:
    """Name, first byte, bytes and numpy type of the part whose boundary stands at `offset`."""
    fields, begin = read_fields(buffer, _expect_boundary(buffer, offset, boundary, name), name)
    if fields.get("content-type", "").partition(";")[0].strip().lower() not in _BINARY:
        raise faulty(name, offset, f"content type {fields.get('content-type')!r:.60} where numbers are due")
    part = fields.get("content-location", "").rpartition("/")[2].removesuffix(".bin")
    if part not in opening.announced:
        raise faulty(name, offset, f"part {part!r:.40} was not announced in the main header")
    kind = cross_kind if part == "crossData" else KINDS[part]
    nbytes = opening.announced[part].size * int(kind[1])
    if begin + nbytes >= len(buffer):
        raise faulty(
            name, begin, f"{part} needs {nbytes} bytes, the file has {len(buffer) - begin}; it is cut off here"
        )
    return part, begin, nbytes, opening.order + kind


def _expect_boundary(buffer: Buffer, offset: int, boundary: bytes, name: str) -> int:
    """Check for a boundary line; returns where the next line starts."""
    after = offset + len(boundary)
    if buffer[offset:after] != boundary:
        raise faulty(name, offset, f"{_shown(buffer, offset)} instead of the boundary {boundary.decode('latin-1')}")
    if buffer[after : after + 1] == b"\r":
        after += 1
    if buffer[after : after + 1] != b"\n":
        raise faulty(name, offset, f"{_shown(buffer, offset)} is not a boundary line")
    return after + 1


def _boundary_of(fields: dict[str, str], offset: int, name: str) -> bytes:
    match = _BOUNDARY.search(fields.get("content-type", ""))
    if match is None:
        raise faulty(name, offset, f"content type {fields.get('content-type')!r:.60} names no boundary")
    return b"--" + match[1].encode("latin-1")


def _shown(buffer: Buffer, offset: int) -> str:
    found = bytes(buffer[offset : offset + 32])
    return repr(found.decode("latin-1")) if found else "the end of the file"


class _Located:
    """Turns what a wrong value in XML raises into an error that names the place."""

    def __init__(self, offset: int, name: str) -> None:
        self._offset, self._name = offset, name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeyError | ValueError):
            raise faulty(self._name, self._offset, f"damaged header: {error}") from error


def _xml(text: bytes, root: str, offset: int, name: str) -> etree._Element:
    """The document with namespaces taken off its names; entities and document types are refused."""
    try:
        found = xml.parse(text.strip(), _MAX_XML, "the header")
    except xml.BadXml as error:
        raise faulty(name, offset, str(error)) from error
    for element in found.iter(etree.Element):
        element.tag = str(element.tag).rpartition("}")[2]
        for key, value in element.items():
            local = str(key).rpartition("}")[2]
            if local not in element.attrib:
                element.set(local, value)
    if found.tag != root:
        raise faulty(name, offset, f"<{found.tag!r:.40}> instead of <{root}>")
    return found


def _header(root: etree._Element, top: dict[str, str], interval_ns: int) -> Header:
    windows = []
    for band in root.iterfind("dataStruct/baseband"):
        for window in band.iterfind("spectralWindow"):
            windows.append(
                SpectralWindow(
                    baseband=window.get("swbb") or band.get("name") or "",
                    number=_integer(window.get("sw") or "0"),
                    channels=_integer(window.get("numSpectralPoint")),
                    bins=_integer(window.get("numBin")),
                    cross=tuple((window.get("crossPolProducts") or "").split()),
                    auto=tuple((window.get("sdPolProducts") or "").split()),
                    sideband=window.get("sideband") or "NOSB",
                    scale=_float(window.get("scaleFactor") or "1"),
                )
            )
    mode = (root.findtext("correlationMode") or "").strip()
    if mode not in STRUCTURES:
        raise ValueError(f"correlation mode {mode!r:.40}")
    oid, block = root.find("dataOID"), root.find("execBlock")
    uid = "" if oid is None else oid.get("href") or ""
    location = top.get("content-location", "").removesuffix("/" + uid.removeprefix("uid://").lstrip("/"))
    return Header(
        uid=uid,
        exec_block="" if block is None else block.get("href") or "",
        project_path=root.get("projectPath") or "",
        start_ns=_integer(root.findtext("startTime")),
        interval_ns=interval_ns,
        antennas=_integer(root.findtext("numAntenna")),
        windows=tuple(windows),
        correlation_mode=mode,
        title="" if oid is None else oid.get("title") or "",
        description=top.get("content-description", ""),
        location=location,
    )


def _cross_kind(root: etree._Element) -> str:
    cross = root.find("crossData")
    text = "FLOAT32_TYPE" if cross is None else cross.get("type") or "FLOAT32_TYPE"
    if text not in CROSS_KINDS:
        raise ValueError(f"crossData are of type {text!r:.40}; known are {', '.join(CROSS_KINDS)}")
    return CROSS_KINDS[text]


def _aborted(root: etree._Element) -> tuple[int, str] | None:
    aborted = root.find("abortedObservation")
    if aborted is None:
        return None
    return _integer(aborted.findtext("stopTime")), aborted.findtext("reason") or ""


def _integer(text: str | None) -> int:
    if text is None or not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r:.40} is not a number")
    return int(text)


def _float(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError(f"{text!r:.40} is not a number")
    return value
