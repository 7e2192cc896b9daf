"""The original's rules said again, independently of ours, from its documentation and sources alone.

Source: commensal-automator at ``b9c53aa``: multicast split, subscribe, record, early stop and unsubscribe sequences, saved
state and its recovery. What it gets wrong is right here, and marked *fixed*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PKTSTART_MARGIN = 2048


def allocation_order(instance: str) -> tuple[int, int]:
    """Host number, then instance number; a host is four letters and its number."""
    host, number = instance.split("/")
    return int(host[4:]), int(number)


def split(first: str, more: int, free: Sequence[str], streams: int) -> list[tuple[str, str, int]]:
    """Instance, DESTIP and number of streams, for as many of the free instances as are wanted."""
    total = more + 1
    wanted = math.ceil(total / streams)
    taken = sorted(free, key=allocation_order)[:wanted]
    shares = []
    for index, instance in enumerate(taken):
        last = index == wanted - 1
        extra = total - 1 - (wanted - 1) * streams if last else streams - 1
        shares.append((instance, f"{_carried(first, index * streams)}+{extra}", extra + 1))
    return shares


def _carried(address: str, steps: int) -> str:
    """An address some steps further. *Fixed*: octets carry."""
    octets = [int(octet) for octet in address.split(".")]
    octets[3] += steps
    for place in (3, 2, 1):
        octets[place - 1] += octets[place] // 256
        octets[place] %= 256
    return ".".join(map(str, octets))


@dataclass(frozen=True)
class Band:
    """CAM's figures of a subarray."""

    first: str
    more: int
    port: int
    antennas: int
    channels: int
    substream: int
    spectra: int
    between: int
    sync_time: float
    adc_rate: float
    centre_hz: float
    bandwidth_hz: float
    name: str

    @property
    def heap_seconds(self) -> Fraction:
        """Seconds between two packet indices."""
        return Fraction(self.between * self.spectra) / Fraction(self.adc_rate)

    def time_of(self, index: int) -> Fraction:
        """Unix time of a packet index; SYNCTIME is whole seconds."""
        return int(self.sync_time) + index * self.heap_seconds


def subscribe_messages(array: str, band: Band, shares: Sequence[tuple[str, str, int]], streams: int) -> Messages:
    """Channel to payloads in order: joins, the 13 keys of the groups, three keys an instance."""
    group_keys = [
        f"SUBARRAY={array}",
        f"BINDPORT={band.port}",
        f"FENSTRM={band.more + 1}",
        f"SYNCTIME={int(band.sync_time)}",
        f"FECENTER={band.centre_hz / 1e6:.17g}",
        f"FENCHAN={band.channels}",
        f"CHAN_BW={band.adc_rate / 2 / band.channels / 1e6:.17g}",
        f"HNCHAN={band.substream}",
        f"HNTIME={band.spectra}",
        f"HCLOCKS={band.between * band.spectra}",
        f"NANTS={band.antennas}",
        "DWELL=0",
        "PKTSTART=0",
    ]
    messages: Messages = {f"bluse:{array}-{number}///set": group_keys for number in (0, 1)}
    for index, (instance, destip, count) in enumerate(shares):
        number = instance.split("/")[1]
        messages[f"bluse://{instance}/gateway"] = [f"join={array}-{number}"]
        first_channel = index * streams * band.substream
        messages[f"bluse://{instance}/set"] = [f"NSTRM={count}", f"SCHAN={first_channel}", f"DESTIP={destip}"]
    return messages


Messages = dict[str, list[str]]


@dataclass(frozen=True)
class Pointing:
    """What is being observed, as CAM describes it."""

    description: str
    name: str
    ra: str
    dec: str
    schedule_block: str


def compact(unix: Fraction) -> str:
    """``YYYYmmddTHHMMSSZ``."""
    return f"{EPOCH + timedelta(seconds=math.floor(unix)):%Y%m%dT%H%M%SZ}"


def degrees(text: str, unit: int) -> float:
    """Sexagesimal text in hours (unit 15) or degrees (1)."""
    parts = [Fraction(part.lstrip("+-")) for part in text.split(":")]
    size = unit * (parts[0] + parts[1] / 60 + parts[2] / 3600)
    return float(-size if text.startswith("-") else size)


def band_name(name: str, centre_hz: float) -> str:
    """S band by its centre frequency."""
    names = {3062.5: "s4", 2843.75: "s3", 2625.0: "s2", 2406.25: "s1", 2187.5: "s0"}
    return names.get(centre_hz / 1e6, name) if name == "s" else name


@dataclass(frozen=True)
class Recording:
    """What the start of a recording is, worked out from the packet indices."""

    array: str
    band: Band
    pointing: Pointing
    indices: Mapping[str, int]
    dwell: int

    @property
    def pktstart(self) -> int:
        """The largest index and the margin."""
        return max(self.indices.values()) + PKTSTART_MARGIN

    @property
    def started(self) -> Fraction:
        """Unix time of PKTSTART."""
        return self.band.time_of(self.pktstart)

    @property
    def obsid(self) -> str:
        """Observation id."""
        return f"MeerKAT:{self.array}:{compact(self.started)}"

    def datadir(self, number: str) -> str:
        """Directory of the instances of one number."""
        return f"/buf{number}/{compact(self.started)}-{self.pointing.schedule_block}"

    def messages(self) -> Messages:
        """Channel to payloads in order; PKTSTART comes last. RA and DEC are left to the caller: their digits are free."""
        source = [
            f"SRC_NAME={self.pointing.name}",
            f"RA_STR={self.pointing.ra}",
            f"DEC_STR={self.pointing.dec}",
            f"OBSID={self.obsid}",
        ]
        return {
            f"bluse:{self.array}-{number}///set": [
                f"DWELL={self.dwell}",
                f"DATADIR={self.datadir(number)}",
                *source,
                f"PKTSTART={self.pktstart}",
            ]
            for number in "01"
        }

    def pointing_request(self) -> dict[str, object]:
        """What the target selector is asked, without the prefix."""
        return {
            "telescope": "MeerKAT",
            "array": self.array,
            "pktstart_str": compact(self.started),
            "target": self.pointing.name,
            "ra_deg": degrees(self.pointing.ra, 15),
            "dec_deg": degrees(self.pointing.dec, 1),
            "f_max": self.band.centre_hz / 1e6 + self.band.bandwidth_hz / 1e6 / 2,
            "band": band_name(self.band.name, self.band.centre_hz),
        }

    def metadata(self) -> dict[str, object]:
        """Value of ``metadata:<datadir>``."""
        return {
            "band": band_name(self.band.name, self.band.centre_hz),
            "start_ts": float(self.started),
            "nants": self.band.antennas,
            "obsid": self.obsid,
        }


@dataclass(frozen=True)
class Recovered:
    """What the original has in memory after reading a saved state."""

    free: set[str]
    freesub: str
    recproc: str
    subscribed: set[str]
    ready: set[str]
    recording: set[str]
    processing: set[str]


def recover(keys: Mapping[str, str], array: str, every: Sequence[str]) -> Recovered:
    """How the original reads its saved state at start. *Fixed*: an empty free list means none, not all."""
    free = set(json.loads(keys["free_instances"])) if "free_instances" in keys else set(every)
    saved = json.loads(keys[f"{array}:state"])
    sets = {name: set(saved[name]) for name in ("subscribed", "ready", "recording", "processing")}
    freesub = keys.get(f"{array}:freesub_state") or ("SUBSCRIBED" if sets["subscribed"] else "FREE")
    return Recovered(free, freesub, saved["recproc_state"], **sets)
