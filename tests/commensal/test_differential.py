"""What we publish and store against the original's rules, said again independently, for drawn subarrays and pools."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from socs_bl.commensal.allocation import parse_streams, plan
from socs_bl.commensal.model import ReadStatus, StartProcessing
from tests.commensal import original
from tests.commensal.bench import Bench
from tests.commensal.keyspace import Keyspace
from tests.commensal.original import Band, Pointing, Recording

MULTICAST = st.integers(0xEF000000, 0xEFFFF000).map(lambda n: ".".join(str(byte) for byte in n.to_bytes(4, "big")))
POOL = st.lists(
    st.builds("blpn{}/{}".format, st.integers(0, 126), st.integers(0, 1)), min_size=1, max_size=24, unique=True
)
# Receiver, centre and digitiser rate of MeerKAT's bands; channels of its modes.
RECEIVERS = st.sampled_from(
    [("u", 815999755.859375, 1088e6), ("l", 1283895507.8125, 1712e6), ("s", 2406250000.0, 1750e6), ("s", 3.0e9, 1750e6)]
)
TARGETS = [
    Pointing("J0437-4715 | x, radec, 04:37:15.81, -47:15:08.6", "J0437-4715", "04:37:15.81", "-47:15:08.6", ""),
    Pointing("Hyd A* | 3C 218, radec, 9:18:05.28, -12:05:48.9", "Hyd_A_", "9:18:05.28", "-12:05:48.9", ""),
    Pointing("radec, 00:00:01.5, +00:30:00", "NOT_PROVIDED", "00:00:01.5", "+00:30:00", ""),
    Pointing("a name of more than sixteen, radec, 23:59:59, -0:00:01", "a_name_of_more_t", "23:59:59", "-0:00:01", ""),
]


@st.composite
def bands(draw: st.DrawFn) -> Band:
    """A subarray as CAM describes it."""
    name, centre, rate = draw(RECEIVERS)
    channels = draw(st.sampled_from([1024, 4096, 32768]))
    return Band(
        first=draw(MULTICAST),
        more=draw(st.integers(0, 70)),
        port=draw(st.integers(1024, 65535)),
        antennas=draw(st.integers(1, 64)),
        channels=channels,
        substream=channels // 64,
        spectra=256,
        between=2 * channels,
        sync_time=draw(st.floats(1.79e9, 1.8e9 - 10)),
        adc_rate=rate,
        centre_hz=centre,
        bandwidth_hz=rate / 2,
        name=name,
    )


def sensors(array: str, band: Band, pointing: Pointing) -> dict[str, str]:
    """CAM's keys; half of them quoted, as those are that came through its websocket."""
    url = f"spead://{band.first}+{band.more}:{band.port}" if band.more else f"spead://{band.first}:{band.port}"
    return {
        "antennas": str(band.antennas),
        "n_channels": str(band.channels),
        "streams": str({"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": url}}),
        "target": f"'{pointing.description}'",
        "last_target": "1800000000.0",
        "last_track_end": "1800000009.0",
        "schedule": f"'{pointing.schedule_block},20000101-0001'",
        "band": band.name,
        "proposal": "'EXT-1'",
        "centre": repr(band.centre_hz),
        "bandwidth": repr(band.bandwidth_hz),
        "sync_time": repr(band.sync_time),
        "adc_sample_rate": repr(band.adc_rate),
        "hnchan": str(band.substream),
        "hntime": str(band.spectra),
        "samples_between_spectra": str(band.between),
    }


@given(MULTICAST, st.integers(0, 300), POOL, st.integers(1, 8))
def test_the_split(first: str, more: int, pool: list[str], streams: int) -> None:
    """Who takes what, in which order, with which DESTIP, NSTRM and SCHAN; with octet carry, also for one address."""
    url = f"spead://{first}+{more}:7148" if more else f"spead://{first}:7148"
    free = tuple(sorted(pool, key=original.allocation_order))
    shares = plan(parse_streams(url), free, streams, 16).shares
    expected = original.split(first, more, pool, streams)
    assert [(share.instance, share.destip, share.streams) for share in shares] == expected
    assert [share.first_channel for share in shares] == [index * streams * 16 for index in range(len(expected))]


def test_the_examples_of_the_original() -> None:
    """Those that its documentation works out; and where it goes wrong (a base of .250), what is right."""
    assert [f"+{count - 1}" for _, _, count in original.split("239.9.0.64", 13, [f"blpn{n}/0" for n in range(9)], 4)] == [
        "+3", "+3", "+3", "+1",
    ]  # fmt: skip
    assert len(original.split("239.9.0.0", 255, [f"blpn{n}/0" for n in range(99)], 4)) == 64
    assert sum(count for *_, count in original.split("239.9.0.0", 63, [f"blpn{n}/0" for n in range(10)], 4)) == 40
    assert original.split("239.9.0.250", 11, ["blpn0/0", "blpn1/0", "blpn2/0"], 4)[2][1] == "239.9.1.2+3"


class Life:
    """One subarray of a machine, driven through its life; what Redis holds meanwhile."""

    def __init__(self, array: str, band: Band, pool: list[str], pointing: Pointing, dwell: int) -> None:
        self.array, self.band, self.pointing = array, band, pointing
        self.values = sensors(array, band, pointing)
        self.keys = Keyspace()
        self.bench = Bench(
            arrays=["array_1", "array_2", "array_3", "array_4"], hashpipe_instances=pool, lead_seconds=None, dwell=dwell
        )
        self.seen = 0

    def messages(self) -> dict[str, list[str]]:
        """What has been published since the last call; the keys follow."""
        writes = self.bench.vault.writes
        self.keys.apply(writes[self.seen :])
        self.seen = len(writes)
        return self.keys.take_messages()

    def subscribe(self) -> None:
        """To SUBSCRIBED, announced."""
        self.bench.cam("configure", self.array)
        self.bench.cam("conf_complete", self.array)
        self.bench.metadata(self.values)
        self.bench.fire(f"announce/{self.array}")

    def record(self, spread: list[int]) -> dict[str, int]:
        """To RECORD; the packet indices the instances have reported."""
        self.bench.cam("tracking", self.array)
        self.bench.metadata(self.values)
        (read,) = self.bench.wanted(ReadStatus)
        now = int((self.bench.now - int(self.band.sync_time)) / self.band.heap_seconds)
        indices = {name: now - spread[i % len(spread)] for i, name in enumerate(read.instances)}
        self.bench.statuses({name: {"PKTIDX": str(index)} for name, index in indices.items()})
        return indices


ARRAYS = st.sampled_from(["array_1", "array_2", "array_4"])
BLOCKS = st.sampled_from(["20261121-0001", "Unknown_SB"])


@settings(max_examples=40)
@given(
    ARRAYS,
    bands(),
    POOL,
    st.sampled_from(TARGETS),
    BLOCKS,
    st.integers(5, 600),
    st.lists(st.integers(0, 9), min_size=1),
)
def test_a_life(
    array: str, band: Band, pool: list[str], target: Pointing, block: str, dwell: int, spread: list[int]
) -> None:
    """Every message and every key of subscribe, record, early stop and unsubscribe, and a saved state that the original reads."""
    pointing = Pointing(target.description, target.name, target.ra, target.dec, block)
    pool = [*pool, "blpn999/0", "blpn999/1"]  # both groups exist at the original's sites
    life = Life(array, band, pool, pointing, dwell)
    life.messages()
    life.subscribe()
    shares = original.split(band.first, band.more, pool, 4)
    members = [instance for instance, *_ in shares]
    assert life.messages() == original.subscribe_messages(array, band, shares, 4)
    check_subscribed(life, array, members, pool)

    recording = Recording(array, band, pointing, life.record(spread), dwell)
    check_started(life, recording, members, pool)

    life.bench.cam("not-tracking", array)
    stopped = life.bench.now
    assert life.messages() == {f"bluse://{name}/set": ["DWELL=0", "PKTSTART=0"] for name in members}
    life.bench.fire(f"halt/{array}")
    assert life.messages() == {f"bluse://{name}/set": [f"DWELL={dwell}"] for name in members}
    for number in {name.split("/")[1] for name in members}:  # fixed: of every directory
        assert float(life.keys.strings[f"rec_end:{recording.datadir(number)}"]) == approx(
            min(max(stopped, float(recording.started)), float(recording.started) + dwell)
        )
    (read,) = life.bench.wanted(ReadStatus)
    life.bench.statuses({name: {"DATADIR": f"/buf9/{name}"} for name in read.instances})
    life.messages()
    assert {life.keys.strings[f"{name}:last-datadir"] for name in members} == {f"/buf9/{name}" for name in members}
    assert saved(life, array, pool).processing == set(members)
    assert len(life.bench.wanted(StartProcessing)) == len(members)
    for name in members:
        life.bench.result(name, array=array)
    life.messages()
    assert (saved(life, array, pool).recproc, saved(life, array, pool).ready) == ("READY", set(members))
    assert life.keys.strings["automator:n_proc"] == "1"
    assert [life.keys.lists[f"{name}:unprocessed"] for name in members] == [[]] * len(members)

    life.bench.cam("deconfigure", array)
    check_released(life, array, members, pool)


def saved(life: Life, array: str, pool: list[str]) -> original.Recovered:
    """What the original would have in memory if it took over now."""
    return original.recover(life.keys.strings, array, pool)


def check_subscribed(life: Life, array: str, members: list[str], pool: list[str]) -> None:
    """Keys after the subscription."""
    assert life.keys.strings[f"coordinator:cal_ts:{array}"] == "0"
    assert life.keys.lists[f"coordinator:allocated_hosts:{array}"] == members
    state = saved(life, array, pool)
    assert (state.freesub, state.recproc, state.subscribed) == ("SUBSCRIBED", "READY", set(members))
    assert state.free == set(pool) - set(members)
    for number in (0, 1):
        stored = life.keys.hashes[f"bluse:{array}-{number}///set"]
        assert (stored["FENCHAN"], stored["DWELL"]) == (str(life.band.channels), "0")


def check_started(life: Life, recording: Recording, members: list[str], pool: list[str]) -> None:
    """Messages and keys at the start of a recording."""
    messages = life.messages()
    (request,) = messages.pop("target-selector:pointings")
    fields: dict[str, Any] = json.loads(request.removeprefix("POINTING:"))
    expected = recording.pointing_request()
    for key in ("ra_deg", "dec_deg", "f_max"):
        assert fields.pop(key) == approx(expected.pop(key))
    assert fields == expected
    free_digits = ("RA=", "DEC=")
    degrees = {
        text.split("=")[0]: float(text.split("=")[1])
        for text in sum(messages.values(), [])
        if text.startswith(free_digits)
    }
    assert degrees["RA"] == approx(original.degrees(recording.pointing.ra, 15))
    assert degrees["DEC"] == approx(original.degrees(recording.pointing.dec, 1))
    told = {
        channel: [text for text in texts if not text.startswith(free_digits)] for channel, texts in messages.items()
    }
    assert told == recording.messages()
    for channel, texts in messages.items():
        assert life.keys.hashes[channel].items() >= dict(text.split("=", 1) for text in texts).items()
    for name in members:
        directory = recording.datadir(name.split("/")[1])
        assert life.keys.lists[f"{name}:unprocessed"] == [directory]
        facts = json.loads(life.keys.strings[f"metadata:{directory}"])
        assert facts.pop("start_ts") == approx(float(recording.started))
        assert facts == {key: value for key, value in recording.metadata().items() if key != "start_ts"}
        assert float(life.keys.strings[f"rec_end:{directory}"]) == approx(float(recording.started) + recording.dwell)
    assert life.keys.strings[f"{recording.array}:datadir"] in (recording.datadir("0"), recording.datadir("1"))
    state = saved(life, recording.array, pool)
    assert (state.freesub, state.recproc, state.recording) == ("SUBSCRIBED", "RECORD", set(members))


def check_released(life: Life, array: str, members: list[str], pool: list[str]) -> None:
    """Messages and keys of the unsubscription; each instance is told to leave its group as well, which is ours."""
    expected = {f"bluse://{name}/set": ["DESTIP=0.0.0.0", "DWELL=0"] for name in members}
    expected |= {f"bluse:{array}-{number}///gateway": [f"leave={array}-{number}"] for number in (0, 1)}
    ours = {f"bluse://{name}/gateway": [f"leave={array}-{name.split('/')[1]}"] for name in members}
    assert life.messages() == expected | ours
    for name in members:
        assert life.keys.hashes[f"bluse://{name}/set"] == {"DESTIP": "0.0.0.0", "DWELL": "0"}
    assert f"coordinator:allocated_hosts:{array}" not in life.keys.lists
    state = saved(life, array, pool)
    assert (state.freesub, state.recproc, state.subscribed, state.free) == ("FREE", "READY", set(), set(pool))
