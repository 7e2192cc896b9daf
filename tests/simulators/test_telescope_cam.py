"""What CAM's interface leaves in Redis, word for word."""

from __future__ import annotations

import pytest
import redis

from socs_bl.commensal.effects import Reader
from socs_bl.commensal.metadata import parse_band, parse_track
from socs_bl.commensal.model import ReadMetadata
from socs_bl.core.errors import Retry
from socs_bl.simulators import cam
from socs_bl.simulators.config import Schedule, SubarrayConfig
from socs_bl.simulators.target import Target
from socs_bl.simulators.telescope import Control, Step

HYDRA = Target(name="J0918-1205", aliases=("Hyd A", "3C 218"), ra="9:18:05.28", dec="-12:05:48.9")
NOW = 1795233600.25
SYNC = 1795233000.0

# Written by hand from what the backend interface of MeerKAT stores; nothing here comes from the code under test.
AFTER_TRACKING = {
    "array_1:timestamp": "1795233600.25",
    "array_1:antennas": ["m000", "m001", "m002", "m003"],
    "array_1:n_channels": "128",
    "array_1:proxy_name": "BLUSE_1",
    "array_1:streams": '{"cam.http": {"camdata": "http://portal.simulated/api/client/1"}, "cbf.antenna_channelised_voltage": '
    '{"wide.antenna-channelised-voltage": "spead://239.192.1.0+7:7148"}}',
    "array_1:cam:url": "http://portal.simulated/api/client/1",
    "current:obs:id": "array_1",
    "array_1:cbf_prefix": "wide",
    "array_1:last-config": "1795233600.25",
    "array_1:subarray_1_pool_resources": "cbf_1,sdp_1,m000,m001,m002,m003",
    "array_1:subarray_1_band": "l",
    "array_1:subarray_1_script_proposal_id": "'SCI-20261121-SB-01'",
    "array_1:cbf_name": "cbf_1",
    "array_1:cbf_1_wide_antenna_channelised_voltage_n_chans_per_substream": "16",
    "array_1:cbf_1_wide_antenna_channelised_voltage_spectra_per_heap": "256",
    "array_1:cbf_1_wide_antenna_channelised_voltage_n_samples_between_spectra": "256",
    "array_1:cbf_1_wide_sync_time": "1795233000.0",
    "array_1:cbf_1_wide_adc_sample_rate": "1024000.0",
    "array_1:cbf_1_wide_bandwidth": "512000.0",
    "array_1:cbf_1_wide_input_labelling": "[('m000h', 0), ('m000v', 1), ('m001h', 2), ('m001v', 3), "
    "('m002h', 4), ('m002v', 5), ('m003h', 6), ('m003v', 7)]",
    "array_1:subarray_1_streams_wide_antenna_channelised_voltage_centre_frequency": "1420400000.0",
    "array_1:telstate_sensor": "sdp_1_spmc_array_1_wide_0_telstate_telstate",
    "sdp_1_spmc_array_1_wide_0_telstate_telstate": "('127.0.0.1', 31029)",
    "array_1:sched_observation_schedule_1": "20261121-0001,20261121-0002",
    "array_1:last-capture-start": "1795233600.25",
    "array_1:m000_target": "'J0918-1205 | Hyd A | 3C 218, radec, 9:18:05.28, -12:05:48.9'",
    "array_1:target": "J0918-1205 | Hyd A | 3C 218, radec, 9:18:05.28, -12:05:48.9",
    "array_1:last-target": "1795233600.25",
    "array_1:last-track-end": "0",
    "array_1:subarray_1_observation_activity": "'track'",
}


def observe(client: redis.Redis, events: list[Step], subarray: SubarrayConfig | None = None) -> None:
    """Take a subarray through events at one moment."""
    control = Control(Schedule(subarrays=(subarray or SubarrayConfig(),)))
    for step in events:
        cam.carry_out(client, control.step(step, NOW, SYNC))


def stored(client: redis.Redis) -> dict[str, str | list[str]]:
    """Everything in the database."""
    found: dict[str, str | list[str]] = {}
    for key in client.scan_iter():
        if client.type(key) == b"list":
            found[key.decode()] = [item.decode() for item in client.lrange(key, 0, -1)]
        else:
            found[key.decode()] = client.get(key).decode()
    return found


TO_TRACKING = [
    Step(0, "array_1", "configure"),
    Step(0, "array_1", "configured"),
    Step(0, "array_1", "capture_init"),
    Step(0, "array_1", "capture_start"),
    Step(0, "array_1", "target", HYDRA),
    Step(0, "array_1", "tracking"),
]
TO_IDLE = [
    Step(0, "array_1", "not_tracking"),
    Step(0, "array_1", "capture_stop"),
    Step(0, "array_1", "capture_done"),
    Step(0, "array_1", "deconfigure"),
]


@pytest.mark.live
def test_keys_of_a_tracking_subarray_are_those_of_the_real_interface(fresh_redis: str) -> None:
    """Promise: every key a coordinator reads is there, in the real one's text, quotes included where it quotes."""
    with redis.Redis.from_url(fresh_redis) as client:
        observe(client, TO_TRACKING)
        assert stored(client) == AFTER_TRACKING


@pytest.mark.live
def test_coordinators_understand_the_keys(fresh_redis: str) -> None:
    """Promise: what is written is enough to subscribe and to record."""
    with redis.Redis.from_url(fresh_redis) as client:
        observe(client, TO_TRACKING)
        (read,) = Reader(client, "bluse").metadata(ReadMetadata(array="array_1", purpose="record"))
    band = parse_band("array_1", read.values, read.prefix)
    assert (band.antennas, band.channels, band.channels_per_stream, band.hclocks) == (4, 128, 16, 65536)
    assert (band.streams.first, band.streams.count, band.streams.port) == ("239.192.1.0", 8, 7148)
    assert (band.centre, band.channel_width, band.bandwidth, band.band) == (1420.4, 0.004, 0.512, "l")
    track = parse_track("array_1", read.values)
    assert (track.target.name, track.schedule_block) == ("J0918-1205", "20261121-0001")
    assert (track.proposal, track.last_target - track.last_track_end) == ("SCI-20261121-SB-01", NOW)
    assert track.target.ra_degrees == pytest.approx(139.522, abs=1e-9)


@pytest.mark.live
def test_keys_after_the_end_of_an_observation(fresh_redis: str) -> None:
    """Promise: the end of a track, the lost schedule block and the activity are left behind as the real one does."""
    with redis.Redis.from_url(fresh_redis) as client:
        observe(client, TO_TRACKING + TO_IDLE)
        assert stored(client) == AFTER_TRACKING | {
            "array_1:last-track-end": "1795233600.25",
            "array_1:subarray_1_observation_activity": "'slew'",
            "array_1:sched_observation_schedule_1": "Unknown_SB",
        }


@pytest.mark.live
def test_messages_of_an_observation(fresh_redis: str) -> None:
    """Promise: the alerts of an observation come in CAM's order, and each is sent after the keys it announces."""
    with redis.Redis.from_url(fresh_redis) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("alerts", "sensor_alerts", "slack-messages")
        listener.get_message(timeout=5.0)
        observe(client, TO_TRACKING + TO_IDLE)
        client.publish("alerts", "end")
        heard = []
        for message in iter(lambda: next(listener.listen()), None):
            if message["data"] == b"end":
                break
            heard.append((message["channel"].decode(), message["data"].decode()))
    assert heard == [
        ("alerts", "configure:array_1"),
        ("alerts", "conf_complete:array_1"),
        ("slack-messages", "meerkat-obs-log:*Successful subarray configuration for array_1*"),
        ("alerts", "capture-init:array_1"),
        ("alerts", "capture-start:array_1"),
        ("sensor_alerts", "array_1:m000_target:J0918-1205 | Hyd A | 3C 218, radec, 9:18:05.28, -12:05:48.9"),
        ("alerts", "tracking:array_1"),
        ("alerts", "not-tracking:array_1"),
        ("alerts", "capture-stop:array_1"),
        ("alerts", "capture-done:array_1"),
        ("alerts", "deconfigure:array_1"),
        ("slack-messages", "meerkat-obs-log:array_1 deconfigured"),
    ]


@pytest.mark.parametrize(
    ("actions", "alert", "needed"),
    [
        (cam.configure(SubarrayConfig(), NOW), "configure:array_1", {"array_1:antennas", "array_1:streams"}),
        (
            cam.configured(SubarrayConfig(), NOW, SYNC),
            "conf_complete:array_1",
            {"array_1:cbf_1_wide_sync_time", "array_1:cbf_name"},
        ),
        (cam.tracking(SubarrayConfig()), "tracking:array_1", {"array_1:subarray_1_observation_activity"}),
        (cam.not_tracking(SubarrayConfig(), NOW), "not-tracking:array_1", {"array_1:last-track-end"}),
    ],
)
def test_keys_are_written_before_the_alert_that_announces_them(
    actions: tuple[cam.Action, ...], alert: str, needed: set[str]
) -> None:
    """Promise: who reads the keys when he hears the alert reads the new ones."""
    place = actions.index(cam.Publish("alerts", alert))
    before = {action.key for action in actions[:place] if not isinstance(action, cam.Publish)}
    assert needed <= before


@pytest.mark.live
def test_antennas_of_an_earlier_subarray_are_replaced(fresh_redis: str) -> None:
    """Promise: a subarray built anew has its own antennas only."""
    with redis.Redis.from_url(fresh_redis) as client:
        observe(client, TO_TRACKING + TO_IDLE)
        observe(client, TO_TRACKING, SubarrayConfig(antennas=("m050", "m051")))
        assert client.lrange("array_1:antennas", 0, -1) == [b"m050", b"m051"]


def test_silent_redis_is_a_retry() -> None:
    """Promise: a server that is away is an error that says to try again."""
    with (
        redis.Redis.from_url("redis://127.0.0.1:1/0") as client,
        pytest.raises(Retry, match="try again"),
    ):
        cam.carry_out(client, cam.tracking(SubarrayConfig()))
