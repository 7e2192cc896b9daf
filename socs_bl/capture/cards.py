"""What the keys of a status buffer become in a recording: its directory and its header cards."""

from __future__ import annotations

import re
from collections.abc import Mapping

from socs_bl.capture import wire
from socs_bl.capture.model import Target, Value
from socs_bl.core.errors import Refused
from socs_bl.core.names import source_name

DIRECT_IO_ALIGNMENT = 512  # of a block that a reader may read past the page cache
_COMPONENT = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,99}")
_TEXT_CARDS = ("OBSERVER", "RA_STR", "DEC_STR", "OBSID", "SUBARRAY")
_NUMBER_CARDS = ("RA", "DEC", "DWELL", "FENSTRM")


def directory_of(keys: Mapping[str, Value]) -> str:
    """Directory of a recording: ``<DATADIR>/<PROJID, else Unknown>/<BACKEND, else GUPPI>``.

    Raises
    ------
    Refused
        When ``DATADIR`` is missing or not an absolute path of plain names.
    """
    datadir = str(keys.get("DATADIR", ""))
    parts = datadir.split("/")[1:]
    tail = [str(keys.get("PROJID", "Unknown")), str(keys.get("BACKEND", "GUPPI"))]
    if not datadir.startswith("/") or not parts or not all(_COMPONENT.fullmatch(part) for part in [*parts, *tail]):
        raise Refused(f"DATADIR {datadir!r} is no absolute path of plain names")
    return "/".join(["", *parts, *tail])


def cards_of(keys: Mapping[str, Value], target: Target, instance: str) -> dict[str, Value]:
    """Header cards that are the same in every block of a recording.

    Source of the keywords: hpguppi_daq, MeerKAT mode; ``OBSFREQ`` and ``OBSBW`` are MHz, ``TBIN`` seconds.
    """
    geometry = target.geometry
    cards: dict[str, Value] = {
        "BACKEND": "GUPPI",
        # The telescope's name is the first part of the observation's.
        "TELESCOP": _plain(keys.get("TELESCOP", str(keys.get("OBSID", "Unknown")).partition(":")[0])),
        "PROJID": _plain(keys.get("PROJID", "Unknown")),
        "SRC_NAME": source_name(str(keys.get("SRC_NAME", ""))),
        "INSTANCE": instance,
        "OBSFREQ": geometry.obsfreq,
        "OBSBW": geometry.obsbw,
        "OBSNCHAN": geometry.nants * geometry.channels,
        "NANTS": geometry.nants,
        "NPOL": 2 * wire.POLARISATIONS,
        "NBITS": 8,
        "TBIN": geometry.tbin,
        "CHAN_BW": geometry.chan_bw,
        "BLOCSIZE": target.block_bytes,
        "DIRECTIO": int(target.block_bytes % DIRECT_IO_ALIGNMENT == 0),
        "PKTFMT": "1SFA",
        "PKTSIZE": geometry.heap_bytes,
        "OVERLAP": 0,
        "PIPERBLK": target.piperblk,
        "NSTRM": geometry.nstrm,
        "HNCHAN": geometry.hnchan,
        "HNTIME": geometry.hntime,
        "HCLOCKS": geometry.hclocks,
        "FENCHAN": geometry.fenchan,
        "SCHAN": geometry.schan,
        "SYNCTIME": geometry.synctime,
        "FECENTER": geometry.fecenter,
    }
    cards.update({key: _plain(keys[key]) for key in _TEXT_CARDS if key in keys})
    for key in _NUMBER_CARDS:
        value = keys.get(key)
        if isinstance(value, int | float):
            cards[key] = value
    return cards


def _plain(value: Value) -> str:
    """Text that may stand in a header card."""
    return "".join(char for char in str(value) if char.isascii() and char.isprintable() and char not in "'=")
