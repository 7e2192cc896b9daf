"""CAM's texts become typed values, or a sentence that names the key."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.commensal.metadata import Target, first_keys, keys_of, parse_band, parse_target, parse_track
from socs_bl.core.errors import Refused
from tests.commensal.bench import sensors

URL = "spead://239.192.1.0+7:7148"
NEEDED = (
    "antennas",
    "n_channels",
    "streams",
    "centre",
    "bandwidth",
    "sync_time",
    "adc_sample_rate",
    "hnchan",
    "hntime",
    "samples_between_spectra",
)


def test_band() -> None:
    """Every figure of a subscription, with its unit, against numbers worked out by hand."""
    band = parse_band("array_1", sensors(), "wide")
    assert (band.streams.first, band.streams.count, band.streams.port) == ("239.192.1.0", 8, 7148)
    assert (band.antennas, band.channels, band.channels_per_stream, band.spectra_per_heap) == (4, 128, 16, 256)
    assert (band.hclocks, band.synctime) == (65536, 1799999000)
    assert (band.centre, band.channel_width, band.bandwidth, band.band) == (1420.0, 0.004, 0.512, "l")


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named(key: str) -> None:
    """Without a value the text says which one, and of which subarray; the original publishes KEY=None."""
    values = sensors()
    del values[key]
    with pytest.raises(Refused, match=f"array_2: {key}"):
        parse_band("array_2", values, "wide")


@pytest.mark.parametrize("quote", ["'{}'", '"{}"', " {} "])
def test_quoted_numbers(quote: str) -> None:
    """Values that came through the websocket are stored with quotes."""
    plain = sensors()
    quoted = {key: value if key == "streams" else quote.format(value) for key, value in plain.items()}
    assert parse_band("array_1", quoted, "wide") == parse_band("array_1", plain, "wide")
    assert parse_track("array_1", quoted) == parse_track("array_1", plain)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": URL}}),
        str({"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": URL}}),
        f"{{u'cbf.antenna_channelised_voltage': {{u'wide.antenna-channelised-voltage': u'{URL}'}}, u'tug': u'u'}}",
    ],
)
def test_streams_in_json_and_python_text(text: str) -> None:
    """JSON, a Python dictionary and one with u'' strings; names with a u keep it."""
    assert parse_band("array_1", sensors() | {"streams": text}, "wide").streams.count == 8


def test_streams_of_another_prefix() -> None:
    """The stream of the prefix in use is taken, no other."""
    with pytest.raises(Refused, match=r"narrow\.antenna"):
        parse_band("array_1", sensors(), "narrow")


@pytest.mark.parametrize(
    ("centre", "band"),
    [("3062.5", "s4"), ("2843.75", "s3"), ("2625", "s2"), ("2406.25", "s1"), ("2187.5", "s0"), ("2200", "s")],
)
def test_s_bands(centre: str, band: str) -> None:
    """The five settings of the S-band receiver are told apart by the centre frequency; other bands are left alone."""
    hertz = str(float(centre) * 1e6)
    assert parse_band("array_1", sensors(band="s", centre=hertz), "wide").band == band
    assert parse_band("array_1", sensors(band="u", centre=hertz), "wide").band == "u"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("J0437-4715 | PSR, radec, 04:37:15.8, -47:15:09", Target("J0437-4715", "04:37:15.8", "-47:15:09")),
        ("radec, 1:2:3, 4:5:6", Target("NOT_PROVIDED", "1:2:3", "4:5:6")),
        ("a b/c*d, radec target, 10, 20", Target("a_b_c_d", "10", "20")),
        ("NGC 1234567890123456, radec, 1:2:3, 4:5:6, extra", Target("NGC_123456789012", "1:2:3", "4:5:6")),
        ("../../etc, radec, 1:2:3, 4:5:6", Target("______etc", "1:2:3", "4:5:6")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    """Names are made safe and cut to 16 characters; coordinates stay text."""
    assert parse_target("array_1", text) == target


@pytest.mark.parametrize("text", ["", "moon, special", "x, azel, 1, 2", "x, radec, 1", "x, radec, a, b", "radec, , "])
def test_targets_without_coordinates(text: str) -> None:
    """What has no radec coordinates is refused, by name."""
    with pytest.raises(Refused, match="array_1: target"):
        parse_target("array_1", text)


def test_degrees() -> None:
    """Hours and degrees of arc; the sign of -0 degrees is kept."""
    target = Target("x", "04:30:00", "-00:30:36")
    assert (target.ra_degrees, target.dec_degrees) == pytest.approx((67.5, -0.51))
    assert (Target("x", "69.3", "-47.2").ra_degrees, Target("x", "69.3", "-47.2").dec_degrees) == (69.3, -47.2)


def test_track() -> None:
    """The first schedule block of the list, the proposal without quotes; a track that never ended is 0."""
    track = parse_track("array_1", sensors(last_track_end=""))
    assert (track.schedule_block, track.proposal) == ("20261121-0001", "EXT-1")
    assert (track.last_target, track.last_track_end) == (1.8e9, 0.0)
    assert parse_track("array_1", sensors(schedule="Unknown_SB")).schedule_block == "Unknown_SB"


@pytest.mark.parametrize(
    ("key", "text"),
    [("schedule", ""), ("schedule", "../x"), ("last_target", ""), ("last_target", "nan"), ("last_track_end", "soon")],
)
def test_unreadable_tracks(key: str, text: str) -> None:
    """A bad value is refused; NaN, which compares false with everything, is one."""
    with pytest.raises(Refused):
        parse_track("array_1", sensors() | {key: text})


def test_keys() -> None:
    """Key names, against the list of the interface."""
    assert first_keys("array_1") == ("array_1:cbf_name", "array_1:cbf_prefix")
    keys = keys_of("array_1", "cbf_1", "wide")
    assert keys["centre"] == "array_1:subarray_1_streams_wide_antenna_channelised_voltage_centre_frequency"
    assert keys["hntime"] == "array_1:cbf_1_wide_antenna_channelised_voltage_spectra_per_heap"
    assert keys["proposal"] == "array_1:subarray_1_script_proposal_id"
    assert keys["last_track_end"] == "array_1:last-track-end"
    with pytest.raises(Refused, match="cbf_name"):
        keys_of("array_1", "cbf:1\n", "wide")


HOSTILE = (
    st.text(max_size=40)
    | st.sampled_from(
        ["nan", "inf", "-inf", "1e999", "0", "-1", "9" * 400, "9" * 5000, "1e-320", "٣", "1_0", "[" * 9999]
    )
    | st.floats().map(str)
    | st.integers().map(str)
)


@given(st.dictionaries(st.sampled_from(sorted(sensors())), HOSTILE))
def test_hostile_values_are_refused_or_harmless(changes: dict[str, str]) -> None:
    """Whatever stands in CAM's keys, it is refused or gives figures that can be stored and reckoned with."""
    values = sensors() | changes
    try:
        band = parse_band("array_1", values, "wide")
    except Refused:
        pass
    else:
        assert msgspec.json.decode(msgspec.json.encode(band), type=type(band)) == band
        assert 0 < band.clock.heap_seconds < 1e12
        assert band.clock.time_of(10**18) < float("inf")
    try:
        track = parse_track("array_1", values)
    except Refused:
        pass
    else:
        assert -1000 <= track.target.dec_degrees <= 1000 and track.last_target >= 0
