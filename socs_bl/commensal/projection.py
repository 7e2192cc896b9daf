"""What the decisions of the machine look like in Redis: commands that ride in the commit.

Gateway messages and the keys of the original, name for name and value for value. The saved state (`saved_pool`,
`saved_array`) is written once a commit, the rest by the event that asks for it. Source: commensal-automator, Redis
interface and subscribe, record, unsubscribe sequences.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from socs_bl.commensal.allocation import Share
from socs_bl.commensal.metadata import BandMetadata, Target
from socs_bl.commensal.model import Duty, Instance, Subarray
from socs_bl.commensal.wire import FREE_INSTANCES, POINTINGS, format_number, format_pointing, format_state
from socs_bl.core.clock import compact_utc
from socs_bl.core.machine import Command
from socs_bl.core.names import parse_instance
from socs_bl.hashpipe import wire

KEPT_SECONDS = 30 * 86400  # as long as the original keeps calibrations


_AT_REST = (("DESTIP", "0.0.0.0"), ("DWELL", "0"))
_READY, _RECORDING, _PROCESSING = Duty.READY, Duty.RECORDING, Duty.PROCESSING


class _Names(NamedTuple):
    """The names of an instance in the gateway protocol: its number, its set channel, its gateway channel."""

    number: int
    set: str
    gateway: str


class Gateway:
    """Messages to instances of one domain.

    Parameters
    ----------
    domain : str
    numbers : sequence of int
        Instance numbers there are; each subarray has one group a number.
    """

    def __init__(self, domain: str, numbers: Sequence[int]) -> None:
        self.domain = domain
        self.numbers = tuple(numbers)
        self._instances: dict[str, _Names] = {}
        self._groups: dict[str, dict[int, str]] = {}

    def tell(self, instance: str, pairs: Iterable[tuple[str, str]]) -> list[Command]:
        """Keys to one instance, one message each."""
        channel = self._names(instance).set
        return [("PUBLISH", channel, f"{key}={value}") for key, value in pairs]

    def tell_group(self, array: str, number: int, pairs: Iterable[tuple[str, str]]) -> list[Command]:
        """Keys to one group, remembered in the hash of the channel's name."""
        channel = wire.group_set_channel(self._group(array, number), self.domain)
        commands: list[Command] = []
        for key, value in pairs:
            commands += [("PUBLISH", channel, f"{key}={value}"), ("HSET", channel, key, value)]
        return commands

    def tell_array(self, array: str, pairs: Sequence[tuple[str, str]]) -> list[Command]:
        """Keys to all groups of a subarray, key by key."""
        channels = [wire.group_set_channel(self._group(array, number), self.domain) for number in self.numbers]
        commands: list[Command] = []
        for key, value in pairs:
            text = f"{key}={value}"
            for channel in channels:
                commands += [("PUBLISH", channel, text), ("HSET", channel, key, value)]
        return commands

    def number(self, instance: str) -> int:
        """The number of an instance on its host."""
        return self._names(instance).number

    def join(self, array: str, instance: str) -> Command:
        """Tell an instance to join its group."""
        names = self._names(instance)
        return ("PUBLISH", names.gateway, f"join={self._group(array, names.number)}")

    def leave(self, array: str, instances: Sequence[str]) -> list[Command]:
        """Tell instances to leave their groups, each by itself."""
        commands: list[Command] = []
        for instance in instances:
            names = self._names(instance)
            commands.append(("PUBLISH", names.gateway, f"leave={self._group(array, names.number)}"))
        return commands

    def disband(self, array: str) -> list[Command]:
        """Tell whole groups to leave, as the original does."""
        groups = [self._group(array, number) for number in self.numbers]
        return [("PUBLISH", wire.group_gateway_channel(group, self.domain), f"leave={group}") for group in groups]

    def rest(self, instance: str) -> list[Command]:
        """Tell an instance to receive and record nothing, and remember it."""
        return self.tell(instance, _AT_REST) + self.remember(instance, _AT_REST)

    def remember(self, instance: str, pairs: Iterable[tuple[str, str]]) -> list[Command]:
        """Keep keys in the hash named like the instance's channel."""
        channel = self._names(instance).set
        return [("HSET", channel, key, value) for key, value in pairs]

    def _names(self, instance: str) -> _Names:
        """Parsing a name costs more than all that is said to its instance, so it is done once."""
        names = self._instances.get(instance)
        if names is None:
            parsed = parse_instance(instance)
            set_channel, gateway = wire.set_channel(parsed, self.domain), wire.gateway_channel(parsed, self.domain)
            names = self._instances[instance] = _Names(parsed.number, set_channel, gateway)
        return names

    def _group(self, array: str, number: int) -> str:
        groups = self._groups.setdefault(array, {})
        if number not in groups:
            groups[number] = wire.group_name(array, number)
        return groups[number]


def saved_pool(free: Sequence[str]) -> Command:
    """The free instances as the original saves them, in the order in which they are taken."""
    return ("SET", FREE_INSTANCES, msgspec.json.encode(free).decode())


def saved_array(array: Subarray, members: Iterable[Instance], now: float) -> list[Command]:
    """Both states of a subarray as the original saves them.

    Parameters
    ----------
    array : Subarray
    members : iterable of Instance
        The instances of its shares, in order.
    now : float
        Unix time of the state, seconds.
    """
    subscribed: list[str] = []
    ready: list[str] = []
    recording: list[str] = []
    processing: list[str] = []
    for cell in members:
        subscribed.append(cell.name)
        duty = cell.duty
        if duty is _READY:
            ready.append(cell.name)
        elif duty is _RECORDING:
            recording.append(cell.name)
        elif duty is _PROCESSING:
            processing.append(cell.name)
    state = format_state(array.recproc.value, subscribed, ready, recording, processing, now)
    return [("SET", f"{array.name}:freesub_state", array.freesub.value), ("SET", f"{array.name}:state", state)]


def band_keys(array: str, band: BandMetadata) -> list[tuple[str, str]]:
    """The keys of a subarray that do not command anything."""
    return [
        ("SUBARRAY", array),
        ("BINDPORT", str(band.streams.port)),
        ("FENSTRM", str(band.streams.count)),
        ("SYNCTIME", str(band.synctime)),
        ("FECENTER", format_number(band.centre)),
        ("FENCHAN", str(band.channels)),
        ("CHAN_BW", format_number(band.channel_width)),
        ("HNCHAN", str(band.channels_per_stream)),
        ("HNTIME", str(band.spectra_per_heap)),
        ("HCLOCKS", str(band.hclocks)),
        ("NANTS", str(band.antennas)),
    ]


# Published last, so that nothing records on configure.
REST_KEYS = [("DWELL", "0"), ("PKTSTART", "0")]


def share_keys(share: Share) -> list[tuple[str, str]]:
    """The keys of one instance."""
    return [("NSTRM", str(share.streams)), ("SCHAN", str(share.first_channel)), ("DESTIP", share.destip)]


def source_keys(target: Target, obsid: str) -> list[tuple[str, str]]:
    """What is being observed."""
    return [
        ("SRC_NAME", target.name),
        ("RA", format_number(target.ra_degrees)),
        ("RA_STR", target.ra),
        ("DEC", format_number(target.dec_degrees)),
        ("DEC_STR", target.dec),
        ("OBSID", obsid),
    ]


def recording_records(
    instances: Mapping[str, str], band: str, antennas: int, started: float, ended: float, obsid: str, primary: bool
) -> list[Command]:
    """What the analyzers look up: work lists, metadata and end by directory."""
    commands: list[Command] = []
    for instance, datadir in instances.items():
        commands.append(("LPUSH", f"{instance}:{'preserved' if primary else 'unprocessed'}", datadir))
    facts = json.dumps({"band": band, "start_ts": started, "nants": antennas, "obsid": obsid})
    for datadir in sorted(set(instances.values())):
        commands.append(("SET", f"metadata:{datadir}", facts))
    return commands + recording_end(instances, ended)


def recording_end(instances: Mapping[str, str], ended: float) -> list[Command]:
    """When the recording in each directory ends, Unix seconds."""
    return [("SET", f"rec_end:{datadir}", str(ended)) for datadir in sorted(set(instances.values()))]


def records_to_search(datadirs: Mapping[str, str]) -> list[Command]:
    """Directories, by instance, go on the work lists of the analyzers."""
    return [("LPUSH", f"{instance}:unprocessed", datadir) for instance, datadir in datadirs.items()]


def records_unpreserved(datadirs: Mapping[str, str]) -> list[Command]:
    """Directories, by instance, need not be kept for people any more."""
    return [("LREM", f"{instance}:preserved", "0", datadir) for instance, datadir in datadirs.items()]


def records_settled(instance: str, datadir: str) -> list[Command]:
    """A recording has been searched: nobody shall be handed it again."""
    return [("LREM", f"{instance}:unprocessed", "0", datadir)]


def records_expire(datadirs: Iterable[str]) -> list[Command]:
    """What was noted about the directories of a completed run goes after `KEPT_SECONDS`."""
    keys = [f"{kind}:{datadir}" for datadir in sorted(set(datadirs)) for kind in ("metadata", "rec_end")]
    return [("EXPIRE", key, str(KEPT_SECONDS)) for key in keys]


def pointing(telescope: str, array: str, started: float, target: Target, band: BandMetadata) -> Command:
    """The request for targets in the field of view."""
    text = format_pointing(
        {
            "telescope": telescope,
            "array": array,
            "pktstart_str": compact_utc(started),
            "target": target.name,
            "ra_deg": target.ra_degrees,
            "dec_deg": target.dec_degrees,
            "f_max": band.centre + band.bandwidth / 2,
            "band": band.band,
        }
    )
    return ("PUBLISH", POINTINGS, text)
