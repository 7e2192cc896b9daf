"""The executor's documents: Observation and AntennaPropertyTable, one XML document a datagram.

Source: the Observation and antenna property schemas of the EVLA, as evla_mcast carries them. Of an Observation are
read: the attributes datasetId, startTime (MJD, UTC), seq, configId and subarrayId; the elements name, ra, dec
(radians), intent, scanNo, subscanNo and correlator. Of the table: configuration, datasetId and of every antenna name,
widarID, pad, X, Y and Z.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from lxml import etree

from socs_bl.bdf.scan import ScanAntenna
from socs_bl.core.clock import DAY_NS, UNIX_EPOCH_MJD
from socs_bl.core.xml import BadXml, parse
from socs_bl.correlator.observation.model import AntennaTable, Observation

MAX_BYTES = 100_000
MAX_INTENTS = 64
MAX_ANTENNAS = 255
MAX_STATION = 255
TEXT_LIMIT = 256
LATEST_NS = 130 * 365 * DAY_NS
_MJD = re.compile(r"[0-9]{1,6}(\.[0-9]{1,30})?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")
_COUNT = re.compile(r"[0-9]{1,9}")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:-]{0,127}")


def parse_document(data: str | bytes) -> Observation | AntennaTable:
    """Read a document of either kind, told by its root.

    Raises
    ------
    BadXml
        With the kinds of `socs_bl.core.xml.BadXml`, ``root`` (another document) or ``content`` (a value that is missing
        or cannot be).
    """
    root = parse(data, MAX_BYTES, "document")
    if root.tag == "Observation":
        return _observation(root)
    if root.tag == "AntennaPropertyTable":
        return _antenna_table(root)
    raise BadXml("root", f"document is a {root.tag!s:.60}; Observation and AntennaPropertyTable are read here")


def parse_observation(data: str | bytes) -> Observation:
    """Read an Observation document; raises as `parse_document`."""
    document = parse_document(data)
    if not isinstance(document, Observation):
        raise BadXml("root", "document is an AntennaPropertyTable; an Observation is expected here")
    return document


def parse_antenna_table(data: str | bytes) -> AntennaTable:
    """Read an AntennaPropertyTable document; raises as `parse_document`."""
    document = parse_document(data)
    if not isinstance(document, AntennaTable):
        raise BadXml("root", "document is an Observation; an AntennaPropertyTable is expected here")
    return document


def parse_mjd(text: str) -> int:
    """A Modified Julian Date, UTC, as ns since 1970, without the loss of a double (0.6 us).

    Raises
    ------
    BadXml
        When it is no date between 1970 and 2100.
    """
    if not _MJD.fullmatch(text):
        raise BadXml("content", f"{text!r:.60} is not a Modified Julian Date; write it like '57897.87981900463'")
    found = round((Decimal(text) - UNIX_EPOCH_MJD) * DAY_NS)
    if not 0 < found < LATEST_NS:
        raise BadXml("content", f"MJD {text:.40} is not between 1970 and 2100; look at the clock of its sender")
    return found


def _observation(root: etree._Element) -> Observation:
    intents = [_text(element) for element in root.iterchildren("intent")]
    if len(intents) > MAX_INTENTS:
        raise BadXml("content", f"Observation has {len(intents)} intents; at most {MAX_INTENTS} are read")
    sequence = root.get("seq")
    return Observation(
        dataset_id=_dataset(root, "datasetId"),
        start_ns=parse_mjd(_attribute(root, "startTime")),
        source=_child(root, "name"),
        scan=_count(root, _child(root, "scanNo"), "scanNo"),
        subscan=_count(root, _child(root, "subscanNo"), "subscanNo"),
        correlator=_child(root, "correlator"),
        config_id=_printable(root, root.get("configId", "")),
        subarray_id=_printable(root, root.get("subarrayId", "")),
        sequence=-1 if sequence is None else _count(root, sequence, "seq", least=0),
        ra=_number(root, _child(root, "ra"), 4 * math.pi),
        dec=_number(root, _child(root, "dec"), math.pi),
        intents=tuple(intents),
    )


def _antenna_table(root: etree._Element) -> AntennaTable:
    found = [_antenna(element) for element in root.iter("AntennaProperties")]
    if len(found) > MAX_ANTENNAS or len({antenna.station for antenna in found}) < len(found):
        raise BadXml(
            "content", f"AntennaPropertyTable has {len(found)} antennas; at most {MAX_ANTENNAS}, one a widarID"
        )
    return AntennaTable(
        dataset_id=_dataset(root, "datasetId"),
        configuration=_printable(root, root.get("configuration", "")),
        antennas=tuple(sorted(found, key=lambda antenna: antenna.station)),
    )


def _antenna(element: etree._Element) -> ScanAntenna:
    station = _count(element, _child(element, "widarID"), "widarID")
    if station > MAX_STATION:
        raise _wrong(element, f"widarID {station} is above {MAX_STATION}")
    x, y, z = (_number(element, _child(element, axis), 1e9) for axis in "XYZ")
    name = _printable(element, _attribute(element, "name"))
    return ScanAntenna(name=name, station=station, pad=_child(element, "pad"), x=x, y=y, z=z)


def _wrong(element: etree._Element, text: str) -> BadXml:
    return BadXml("content", f"{element.tag!s:.60} in line {element.sourceline}: {text}")


def _attribute(element: etree._Element, name: str) -> str:
    found = element.get(name)
    if not found:
        raise _wrong(element, f"has no {name}")
    return found.strip()


def _dataset(element: etree._Element, name: str) -> str:
    text = _attribute(element, name)
    if not _DATASET.fullmatch(text):
        raise _wrong(element, f"{name} {text!r:.60} is not letters, digits and '_.+:-', 128 at most")
    return text


def _child(element: etree._Element, name: str) -> str:
    """The text of the only child of this name."""
    found = list(element.iterchildren(name))
    if len(found) != 1:
        raise _wrong(element, f"has {len(found)} elements {name}; one is expected")
    text = _text(found[0])
    if not text:
        raise _wrong(found[0], "is empty")
    return text


def _text(element: etree._Element) -> str:
    if len(element):
        raise _wrong(element, "has elements inside; text is expected")
    return _printable(element, element.text or "")


def _printable(element: etree._Element, text: str) -> str:
    text = text.strip()
    if len(text) > TEXT_LIMIT or not text.isprintable():
        raise _wrong(element, f"{text!r:.60} is not printable text of at most {TEXT_LIMIT} characters")
    return text


def _count(element: etree._Element, text: str, name: str, least: int = 1) -> int:
    if not _COUNT.fullmatch(text) or int(text) < least:
        raise _wrong(element, f"{name} {text!r:.40} is not a whole number from {least}")
    return int(text)


def _number(element: etree._Element, text: str, limit: float) -> float:
    if not _NUMBER.fullmatch(text) or not abs(float(text)) <= limit:
        raise _wrong(element, f"{text!r:.60} is not a number of at most {limit:.6g}")
    return float(text)
