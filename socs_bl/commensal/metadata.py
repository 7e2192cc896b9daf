"""What CAM says of a subarray, from Redis text to typed values.

Source: meerkat-backend-interface, key names (`keys_of`); commensal-automator, what they are used for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from socs_bl.commensal.allocation import Streams, parse_streams
from socs_bl.commensal.timing import PacketClock
from socs_bl.core.errors import Refused
from socs_bl.core.names import parse_schedule_block, source_name, subarray_number

STREAM_TYPE = "cbf.antenna_channelised_voltage"
_WORD = re.compile(r"[A-Za-z0-9_]{1,32}")
_ANGLE = re.compile(r"[+-]?[0-9]{1,3}(:[0-9]{1,2}){0,2}(\.[0-9]{1,12})?")
# S band is one receiver and five digitiser settings, told apart by the centre frequency.
_S_BANDS = {"3062.5": "s4", "2843.75": "s3", "2625": "s2", "2406.25": "s1", "2187.5": "s0"}

_LARGEST_COUNT = 1 << 24
_LARGEST_FIGURE = 1e12

T = TypeVar("T")


class Target(msgspec.Struct, frozen=True):
    """Where the telescope points: name and text coordinates as CAM gives them."""

    name: str
    ra: str
    dec: str

    @property
    def ra_degrees(self) -> float:
        """Right ascension, degrees."""
        return _degrees(self.ra, 15.0)

    @property
    def dec_degrees(self) -> float:
        """Declination, degrees."""
        return _degrees(self.dec, 1.0)


class BandMetadata(msgspec.Struct, frozen=True):
    """What a subscription needs: the streams and the F-engine's figures.

    Attributes
    ----------
    streams : Streams
    antennas : int
    channels : int
        FENCHAN.
    channels_per_stream : int
        HNCHAN.
    spectra_per_heap : int
        HNTIME.
    hclocks : int
    synctime : int
        Unix seconds.
    centre : float
        MHz.
    channel_width : float
        MHz.
    bandwidth : float
        MHz.
    band : str
        ``u``, ``l``, ``s0`` ... ``s4``.
    """

    streams: Streams
    antennas: int
    channels: int
    channels_per_stream: int
    spectra_per_heap: int
    hclocks: int
    synctime: int
    centre: float
    channel_width: float
    bandwidth: float
    band: str

    @property
    def clock(self) -> PacketClock:
        """How the packet index runs."""
        return PacketClock(float(self.synctime), self.hclocks, self.channels, self.channel_width)


class TrackMetadata(msgspec.Struct, frozen=True):
    """What a recording needs: target, how fresh it is, schedule block, proposal."""

    target: Target
    last_target: float
    last_track_end: float
    schedule_block: str
    proposal: str


def first_keys(array: str) -> tuple[str, ...]:
    """Keys whose values name further keys."""
    return f"{array}:cbf_name", f"{array}:cbf_prefix"


def trace_keys(array: str) -> dict[str, str]:
    """Short name to Redis key of what tells what CAM has said of a subarray."""
    return {
        "last_config": f"{array}:last-config",
        "last_target": f"{array}:last-target",
        "last_track_end": f"{array}:last-track-end",
        "target": f"{array}:target",
        "proposal": f"{array}:subarray_{subarray_number(array)}_script_proposal_id",
    }


def keys_of(array: str, cbf_name: str, prefix: str) -> dict[str, str]:
    """Short name to Redis key, for one subarray. ``antennas`` is a list, the rest are strings."""
    k = subarray_number(array)
    for word in (cbf_name, prefix):
        if not _WORD.fullmatch(word):
            raise Refused(
                f"{array}: {word[:40]!r} is not a CBF name or prefix; look at {array}:cbf_name and :cbf_prefix"
            )
    voltage = f"{array}:{cbf_name}_{prefix}_antenna_channelised_voltage"
    return {
        "antennas": f"{array}:antennas",
        "n_channels": f"{array}:n_channels",
        "streams": f"{array}:streams",
        "target": f"{array}:target",
        "last_target": f"{array}:last-target",
        "last_track_end": f"{array}:last-track-end",
        "last_config": f"{array}:last-config",
        "schedule": f"{array}:sched_observation_schedule_1",
        "band": f"{array}:subarray_{k}_band",
        "proposal": f"{array}:subarray_{k}_script_proposal_id",
        "centre": f"{array}:subarray_{k}_streams_{prefix}_antenna_channelised_voltage_centre_frequency",
        "bandwidth": f"{array}:{cbf_name}_{prefix}_bandwidth",
        "sync_time": f"{array}:{cbf_name}_{prefix}_sync_time",
        "adc_sample_rate": f"{array}:{cbf_name}_{prefix}_adc_sample_rate",
        "hnchan": f"{voltage}_n_chans_per_substream",
        "hntime": f"{voltage}_spectra_per_heap",
        "samples_between_spectra": f"{voltage}_n_samples_between_spectra",
    }


def parse_band(array: str, values: Mapping[str, str], prefix: str) -> BandMetadata:
    """Type the values of `keys_of` that a subscription needs; ``antennas`` is the number of antennas as text.

    Raises
    ------
    Refused
        When one is missing or unreadable; the text names the key.
    """
    number = _reader(array, values)
    channels = number("n_channels", _count)
    spectra = number("hntime", _count)
    centre = number("centre", _figure) / 1e6
    streams = _streams(array, values.get("streams", ""), prefix)
    width = number("adc_sample_rate", _rate) / 2 / channels / 1e6
    hclocks = number("samples_between_spectra", _count) * spectra
    return BandMetadata(
        streams=streams,
        antennas=number("antennas", _count),
        channels=channels,
        channels_per_stream=number("hnchan", _count),
        spectra_per_heap=spectra,
        hclocks=hclocks,
        synctime=int(number("sync_time", _figure)),
        centre=centre,
        channel_width=width,
        bandwidth=number("bandwidth", _figure) / 1e6,
        band=_band(_unquoted(values.get("band", "")), centre),
    )


def read_time(text: str) -> float:
    """A Unix time in seconds that CAM may have left out or written badly: 0 then."""
    try:
        return _figure(_unquoted(text))
    except ValueError:
        return 0.0


def parse_track(array: str, values: Mapping[str, str]) -> TrackMetadata:
    """Type the values of `keys_of` that a recording needs.

    Raises
    ------
    Refused
        When one is missing or unreadable; the text names the key.
    """
    number = _reader(array, values)
    blocks = _unquoted(values.get("schedule", ""))
    return TrackMetadata(
        target=parse_target(array, _unquoted(values.get("target", ""))),
        last_target=number("last_target", _figure),
        last_track_end=number("last_track_end", _figure) if values.get("last_track_end") else 0.0,
        schedule_block=parse_schedule_block(blocks.split(",")[0].strip()),
        proposal=_unquoted(values.get("proposal", "")),
    )


def parse_target(array: str, text: str) -> Target:
    """Parse a katpoint description: ``name | alias, radec, RA, DEC`` or ``radec, RA, DEC``.

    Raises
    ------
    Refused
        When there is no ``radec`` in it or coordinates are missing.
    """
    fields = [field.strip() for field in text.split(",")]
    if not any(field.split(" ")[0] == "radec" for field in fields) or len(fields) < 3:
        raise Refused(f"{array}: target {text[:80]!r} has no radec coordinates")
    if len(fields) < 4:
        target = Target("NOT_PROVIDED", fields[1], fields[2])
    else:
        target = Target(source_name(fields[0].split("|")[0]), fields[2], fields[3])
    if not (_ANGLE.fullmatch(target.ra) and _ANGLE.fullmatch(target.dec)):
        raise Refused(f"{array}: target {text[:80]!r} has unreadable coordinates")
    return target


def _degrees(text: str, unit: float) -> float:
    """Sexagesimal text in hours (unit 15) or degrees (unit 1), or plain degrees, as degrees."""
    parts = [abs(float(part)) for part in text.split(":")]
    if len(parts) == 1:
        return float(text)
    size = unit * sum(part / weight for part, weight in zip(parts, (1.0, 60.0, 3600.0), strict=False))
    return -size if text.startswith("-") else size


def _count(text: str) -> int:
    """A whole number that can be a count of something."""
    number = int(text)
    if not 0 < number <= _LARGEST_COUNT:
        raise ValueError("out of range")
    return number


def _figure(text: str) -> float:
    """A number that can be a time, a rate or a frequency: not negative, not NaN."""
    number = float(text)
    if not 0 <= number <= _LARGEST_FIGURE:
        raise ValueError("out of range")
    return number


def _rate(text: str) -> float:
    """A rate, at least one in a second."""
    number = _figure(text)
    if number < 1:
        raise ValueError("out of range")
    return number


def _reader(array: str, values: Mapping[str, str]) -> Callable[[str, Callable[[str], T]], T]:
    def read(name: str, kind: Callable[[str], T]) -> T:
        text = _unquoted(values.get(name, ""))
        try:
            return kind(text)
        except ValueError as error:
            found = repr(text[:40]) if text else "missing"
            raise Refused(f"{array}: {name} is {found}; look at CAM's sensors for this subarray") from error

    return read


def _streams(array: str, text: str, prefix: str) -> Streams:
    """The stream URL, from JSON or from the text of a Python dictionary with u'' strings."""
    for candidate in (text, re.sub(r"\bu'", "'", text).replace("'", '"')):
        try:
            url = json.loads(candidate)[STREAM_TYPE][f"{prefix}.antenna-channelised-voltage"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(url, str):
            return parse_streams(url)
    raise Refused(
        f"{array}: streams {text[:80]!r} name no {prefix}.antenna-channelised-voltage; look at {array}:streams"
    )


def _band(band: str, centre: float) -> str:
    return _S_BANDS.get(f"{centre:.10g}", band) if band == "s" else band


def _unquoted(text: str) -> str:
    """Sensor values that came through CAM's websocket are stored with their quotes."""
    return text.strip().strip("'\"").strip()
