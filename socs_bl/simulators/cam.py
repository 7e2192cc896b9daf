"""CAM's side of the telescope: the keys and messages MeerKAT's backend interface puts into Redis.

The first half says, as data, what each event of an observation writes and publishes, in order; `carry_out` does it.
Values that reach the real interface through its sensor subscriptions are stored as the ``repr`` of a Python string,
quotes included (per-antenna targets, observation activity, proposal id); those it fetches once on configure are not.

Source: meerkat-backend-interface, KATCP server (configure, capture-*, deconfigure) and katportal client (sensors,
``conf_complete``, ``tracking``, ``not-tracking``); commensal-automator for the keys that are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import redis

from socs_bl.core.errors import Retry
from socs_bl.core.names import UNKNOWN_SCHEDULE_BLOCK, subarray_number
from socs_bl.simulators.config import SubarrayConfig
from socs_bl.simulators.target import Target

ALERTS = "alerts"
SENSOR_ALERTS = "sensor_alerts"
SLACK = "slack-messages"
SLACK_CHANNEL = "meerkat-obs-log"
STREAM_TYPE = "cbf.antenna_channelised_voltage"
PREFIX = "wide"

Alert = Literal[
    "configure",
    "conf_complete",
    "capture-init",
    "capture-start",
    "tracking",
    "not-tracking",
    "capture-stop",
    "capture-done",
    "deconfigure",
]


@dataclass(frozen=True)
class SetText:
    """SET `key` `text`."""

    key: str
    text: str


@dataclass(frozen=True)
class SetList:
    """DEL `key`, then RPUSH `items`."""

    key: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Publish:
    """PUBLISH `text` on `channel`."""

    channel: str
    text: str


Action = SetText | SetList | Publish


def configure(subarray: SubarrayConfig, now: float) -> tuple[Action, ...]:
    """``?configure``: a subarray product is built.

    Parameters
    ----------
    subarray : SubarrayConfig
    now : float
        Unix time, seconds.
    """
    name, number = subarray.name, subarray_number(subarray.name)
    cam_url = f"http://portal.simulated/api/client/{number}"
    streams = {
        "cam.http": {"camdata": cam_url},
        STREAM_TYPE: {f"{PREFIX}.antenna-channelised-voltage": subarray.stream_url},
    }
    return (
        SetText(f"{name}:timestamp", str(now)),
        SetList(f"{name}:antennas", subarray.antennas),
        SetText(f"{name}:n_channels", str(subarray.n_channels)),
        SetText(f"{name}:proxy_name", f"BLUSE_{number}"),
        SetText(f"{name}:streams", json.dumps(streams)),
        SetText(f"{name}:cam:url", cam_url),
        SetText("current:obs:id", name),
        SetText(f"{name}:cbf_prefix", PREFIX),
        _alert("configure", name),
    )


def configured(subarray: SubarrayConfig, now: float, sync_time: float) -> tuple[Action, ...]:
    """The once-off sensors have been read; ends with ``conf_complete``.

    Parameters
    ----------
    subarray : SubarrayConfig
    now : float
        Unix time, seconds.
    sync_time : float
        Unix time of ADC sample 0, seconds.
    """
    name, number = subarray.name, subarray_number(subarray.name)
    cbf_name = f"cbf_{number}"
    voltage = f"{name}:{cbf_name}_{PREFIX}_antenna_channelised_voltage"
    labelling = [
        (f"{antenna}{polarisation}", 2 * index + offset)
        for index, antenna in enumerate(subarray.antennas)
        for offset, polarisation in enumerate("hv")
    ]
    telstate_sensor = f"sdp_{number}_spmc_{name}_{PREFIX}_0_telstate_telstate"
    return (
        SetText(f"{name}:last-config", str(now)),
        SetText(f"{name}:subarray_{number}_pool_resources", ",".join((cbf_name, f"sdp_{number}", *subarray.antennas))),
        SetText(f"{name}:subarray_{number}_band", subarray.band),
        SetText(f"{name}:subarray_{number}_script_proposal_id", repr(subarray.proposal_id)),
        SetText(f"{name}:cbf_name", cbf_name),
        SetText(f"{voltage}_n_chans_per_substream", str(subarray.channels_per_group)),
        SetText(f"{voltage}_spectra_per_heap", str(subarray.spectra_per_heap)),
        SetText(f"{voltage}_n_samples_between_spectra", str(subarray.samples_between_spectra)),
        SetText(f"{name}:{cbf_name}_{PREFIX}_sync_time", str(sync_time)),
        SetText(f"{name}:{cbf_name}_{PREFIX}_adc_sample_rate", str(subarray.adc_sample_rate_hz)),
        SetText(f"{name}:{cbf_name}_{PREFIX}_bandwidth", str(subarray.bandwidth_hz)),
        SetText(f"{name}:{cbf_name}_{PREFIX}_input_labelling", str(labelling)),
        SetText(
            f"{name}:subarray_{number}_streams_{PREFIX}_antenna_channelised_voltage_centre_frequency",
            str(subarray.centre_frequency_hz),
        ),
        SetText(f"{name}:telstate_sensor", telstate_sensor),
        SetText(telstate_sensor, str(subarray.telstate)),
        # What was true of the last subarray of this name is not true of this one.
        SetText(f"{name}:last-target", "0"),
        SetText(f"{name}:last-track-end", "0"),
        _alert("conf_complete", name),
        Publish(SLACK, f"{SLACK_CHANNEL}:*Successful subarray configuration for {name}*"),
    )


def capture_init(subarray: SubarrayConfig) -> tuple[Action, ...]:
    """``?capture-init``: an observation will start; its schedule blocks are known."""
    name = subarray.name
    return (
        _alert("capture-init", name),
        SetText(f"{name}:sched_observation_schedule_1", ",".join(subarray.schedule_blocks)),
    )


def capture_start(subarray: SubarrayConfig, now: float) -> tuple[Action, ...]:
    """``?capture-start``: the observation starts, sensors are subscribed to (`now`: Unix time, seconds)."""
    name = subarray.name
    return _alert("capture-start", name), SetText(f"{name}:last-capture-start", str(now))


def target_changed(subarray: SubarrayConfig, target: Target, now: float) -> tuple[Action, ...]:
    """A new target is requested of the antennas; the first of them speaks for all (`now`: Unix time, seconds)."""
    name, text = subarray.name, target.description
    sensor = f"{subarray.antennas[0]}_target"
    return (
        SetText(f"{name}:{sensor}", repr(text)),
        Publish(SENSOR_ALERTS, f"{name}:{sensor}:{text}"),
        SetText(f"{name}:target", text),
        SetText(f"{name}:last-target", str(now)),
    )


def tracking(subarray: SubarrayConfig) -> tuple[Action, ...]:
    """The antennas are on source."""
    return _activity(subarray, "track"), _alert("tracking", subarray.name)


def not_tracking(subarray: SubarrayConfig, now: float, activity: str = "slew") -> tuple[Action, ...]:
    """The antennas do something else than track (`now`: Unix time, seconds)."""
    name = subarray.name
    return (
        _activity(subarray, activity),
        SetText(f"{name}:last-track-end", str(now)),
        _alert("not-tracking", name),
    )


def capture_stop(subarray: SubarrayConfig) -> tuple[Action, ...]:
    """``?capture-stop``: the observation stops."""
    return (_alert("capture-stop", subarray.name),)


def capture_done(subarray: SubarrayConfig) -> tuple[Action, ...]:
    """``?capture-done``: the observation has ended; there is no schedule block any more."""
    name = subarray.name
    return (
        _alert("capture-done", name),
        SetText(f"{name}:sched_observation_schedule_1", UNKNOWN_SCHEDULE_BLOCK),
    )


def deconfigure(subarray: SubarrayConfig) -> tuple[Action, ...]:
    """``?deconfigure``: the subarray is taken apart."""
    name = subarray.name
    return _alert("deconfigure", name), Publish(SLACK, f"{SLACK_CHANNEL}:{name} deconfigured")


def carry_out(client: redis.Redis, actions: Iterable[Action]) -> None:
    """Do `actions` in order, in one round trip and without interleaving, as somebody who writes before he speaks.

    Raises
    ------
    Retry
        When Redis does not answer. Doing all of it again is harmless to keys; a message may then be heard twice.
    """
    pipeline = client.pipeline(transaction=True)
    for action in actions:
        match action:
            case SetText(key, text):
                pipeline.set(key, text)
            case SetList(key, items):
                pipeline.delete(key)
                pipeline.rpush(key, *items)
            case Publish(channel, text):
                pipeline.publish(channel, text)
    try:
        pipeline.execute()
    except redis.RedisError as error:
        raise Retry(f"Redis did not take the telescope's keys ({error}); try again when it answers") from error


def _alert(event: Alert, name: str) -> Publish:
    return Publish(ALERTS, f"{event}:{name}")


def _activity(subarray: SubarrayConfig, activity: str) -> SetText:
    number = subarray_number(subarray.name)
    return SetText(f"{subarray.name}:subarray_{number}_observation_activity", repr(activity))
