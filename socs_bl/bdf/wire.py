"""BdfInfo: the datagram that says that a file is published.

An XML element ``BdfInfo`` without children, one a datagram. Times are UTC, as MJD with 11 decimals (under a microsecond)
and as whole nanoseconds since MJD 0. It is sent at least once; whoever receives it drops a second one by its ``id``.

Source: EVLA monitor and control software, metadata capture: what the SDM's Main table needs of a file. The transport is
our own, since no public text has it.
"""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec

from socs_bl.bdf.header import STRUCTURES
from socs_bl.bdf.scan import file_name, parse_uid
from socs_bl.core.clock import DAY_NS
from socs_bl.core.errors import Refused
from socs_bl.core.xml import parse

LARGEST_DATAGRAM = 60_000  # bytes
_NUMBER = re.compile(r"[0-9]{1,19}")
_BDF_NAME = re.compile(r"uid_[A-Za-z0-9_]{1,200}(-[1-9][0-9]{0,3})?")
_LONGEST_TEXT = 1024


class BdfInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is said of a published file. Attributes in XML and JSON have the same names in camel case.

    Attributes
    ----------
    id : str
        The published file's name: once for all.
    uid : str
        The file's uid; a second copy has the same.
    dataset_id, config_id : str
    scan_no, subscan_no : int
    start_time_ns, stop_time_ns : int
        Begin of the first and end of the last integration, ns since MJD 0 UTC.
    num_integration, num_antenna, size : int
        The size in bytes.
    path : str
        Where the file is.
    aborted : bool
        The recording ended otherwise than it should.
    correlation_mode : str
        CROSS_AND_AUTO, CROSS_ONLY or AUTO_ONLY.
    """

    id: str
    uid: str
    dataset_id: str
    scan_no: int
    subscan_no: int
    config_id: str
    start_time_ns: int
    stop_time_ns: int
    num_integration: int
    num_antenna: int
    size: int
    path: str
    aborted: bool
    correlation_mode: str


def parse_name(text: str) -> str:
    """Accept the name of a binary file, such as ``uid____evla_bdf_1433189755525`` (of a second copy with ``-2`` behind).

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if not _BDF_NAME.fullmatch(text):
        raise Refused(
            f"file name {text!r:.80} is not that of a uid; write it like {file_name('uid:///evla/bdf/1433')!r}"
        )
    return text


def format_info(info: BdfInfo) -> bytes:
    """The datagram.

    Raises
    ------
    Refused
        When it is too large for one.
    """
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(BdfInfo):
        value = getattr(info, field.name)
        if field.name.endswith("_ns"):
            values[field.encode_name.removesuffix("Ns")] = mjd_text(value)
        values[field.encode_name] = str(value).lower() if isinstance(value, bool) else value
    text = " ".join(f"{name}={quoteattr(str(value))}" for name, value in values.items())
    data = f"<BdfInfo {text}/>\n".encode()
    if len(data) > LARGEST_DATAGRAM:
        raise Refused(f"BdfInfo of {info.id} has {len(data)} bytes; shorten the path of the publication directory")
    return data


def parse_info(data: str | bytes) -> BdfInfo:
    """What a datagram says.

    Raises
    ------
    Refused
        When it is not BdfInfo.
    """
    root = parse(data, LARGEST_DATAGRAM, "BdfInfo")
    if root.tag != "BdfInfo" or len(root):
        raise Refused(f"a datagram of {str(root.tag)!r:.40} is not BdfInfo: one element without children")
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(BdfInfo):
        text = root.get(field.encode_name)
        if text is None or len(text) > _LONGEST_TEXT:
            raise Refused(
                f"BdfInfo: attribute {field.encode_name} is missing, or longer than {_LONGEST_TEXT} characters"
            )
        values[field.name] = _value(field.encode_name, field.type, text)
    info = BdfInfo(**values)  # type: ignore[arg-type]  # the names are those of the fields, the types are checked
    parse_uid(info.uid)
    parse_name(info.id)
    if info.correlation_mode not in STRUCTURES:
        raise Refused(f"BdfInfo of {info.id}: correlationMode {info.correlation_mode!r:.40} is not one of the format")
    return info


def mjd_text(ns: int) -> str:
    """Nanoseconds since MJD 0 as MJD with 11 decimals, cut off."""
    days, rest = divmod(ns, DAY_NS)
    return f"{days}.{rest * 10**11 // DAY_NS:011d}"


def _value(name: str, kind: object, text: str) -> object:
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is int and _NUMBER.fullmatch(text) and text.isascii():
        return int(text)
    if kind is str:
        return text
    raise Refused(f"BdfInfo: {name} {text!r:.40} is not {'true or false' if kind is bool else 'a whole number'}")
