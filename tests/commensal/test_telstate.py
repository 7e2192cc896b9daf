"""Calibration from a telescope state that SARAO's own package has written into a real Redis."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import katsdptelstate
import msgspec
import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from katsdptelstate.encoding import encode_value
from katsdptelstate.redis import RedisBackend

from socs_bl.commensal.calibration import calibrate, index_key, solutions_key
from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.calibrator import Calibrator
from socs_bl.commensal.config import CalibrationConfig
from socs_bl.commensal.telstate import TelescopeState, decode, parse_endpoint
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services.process import free_port
from tests.commensal.test_calibration import ANTENNAS, CHANNELS, products

BLOCK, OTHER = "1800000000", "1800005000"
START = 1_800_000_000.0
PHASEUP = START + 610.0
PARTS = 4


def write_telstate(url: str, **changes: Any) -> katsdptelstate.TelescopeState:
    """A telescope state with a phase-up block and a later one, products split as the pipeline splits them."""
    state = katsdptelstate.TelescopeState(RedisBackend.from_url(url))
    made = products()
    for block, start, script in ((BLOCK, START, "/home/kat/bf_phaseup.py"), (OTHER, START + 5000, "image.py")):
        state.add("sdp_capture_block_id", block, ts=start)
        state.set_indexed(f"{block}_obs_params", b"script_name", script.encode())
        state.set_indexed(f"{block}_obs_params", "observer", {"name": "x", "odd": (1, 2.5, None)})
    cal, solved = state.view("cal"), state.view(f"{BLOCK}_cal")
    cal["antlist"], cal["pol_ordering"] = list(ANTENNAS), ["v", "h"]
    cal["bandwidth"], cal["center_freq"], cal["n_chans"] = made.bandwidth, np.float64(made.centre), CHANNELS
    cal["product_B_parts"], cal["refant"] = PARTS, "m002"
    first, second = START + 300, START + 600
    for name, values in (("K", made.delays), ("KCROSS_DIODE", made.cross_delays), ("G", made.gains)):
        solved.add(f"product_{name}", np.asarray(values) * 3, ts=first)
        solved.add(f"product_{name}", np.asarray(values), ts=second)
    for name, split in (("B", made.bandpass), ("BCROSS_DIODE", made.cross_phases)):
        for part, values in enumerate(np.split(split.astype(np.complex64), PARTS)):
            if (name, part) != changes.get("missing"):
                solved.add(f"product_{name}{part}", values, ts=second)
    # After the phase-up: what an observation finds later is not of it.
    solved.add("product_K", np.zeros((2, 4)), ts=PHASEUP + 1)
    state.view(f"{OTHER}_cal").add("product_G", made.gains, ts=START + 5100)
    return state


@pytest.fixture
def site(fresh_redis: str) -> Iterator[redis.Redis]:
    """CAM's keys and the telescope state, which here are in one Redis."""
    with redis.Redis.from_url(fresh_redis) as client, contextlib.closing(write_telstate(fresh_redis).backend.client):
        port = fresh_redis.rsplit(":", 1)[1].split("/")[0]
        client.set("array_1:telstate_sensor", "array_1:sdp_1_telstate_address")
        client.set("array_1:sdp_1_telstate_address", f"('127.0.0.1', {port})")
        client.rpush("array_1:antennas", *ANTENNAS)
        client.set("array_1:n_channels", str(CHANNELS))
        client.set("array_1:last-config", str(START - 1000))
        yield client


@pytest.fixture
def calibrator(site: redis.Redis) -> Calibrator:
    return Calibrator(site, CalibrationConfig())


def fetch(calibrator: Calibrator) -> CalibrationFetched:
    (event,) = calibrator.fetch(FetchCalibration(array="array_1", phaseup=PHASEUP))
    assert isinstance(event, CalibrationFetched)
    return event


@pytest.mark.live
def test_the_phaseup_is_found(calibrator: Calibrator) -> None:
    """The phase-up time is ten seconds after the second gain solution of the block whose script phases up."""
    (event,) = calibrator.phaseup(ReadPhaseup(array="array_1"))
    assert event == PhaseupRead(array="array_1", phaseup=PHASEUP, last_config=START - 1000, last_stored=0.0)


@pytest.mark.live
def test_solutions_are_stored(calibrator: Calibrator, site: redis.Redis) -> None:
    """What is stored is what was solved before the phase-up; it expires, is in the index, and is known as stored."""
    before = time.time()
    event = fetch(calibrator)
    key = solutions_key("array_1", PHASEUP)
    assert event == CalibrationFetched(array="array_1", phaseup=PHASEUP, key=key, antennas=4)
    fields = {name.decode(): value for name, value in site.hgetall(key).items()}
    wanted = calibrate(products(), ANTENNAS)
    for name, values in (("cal_K", wanted.delays), ("cal_G", wanted.gains)):
        np.testing.assert_array_equal(np.frombuffer(fields[name], values.dtype).reshape(values.shape), values)
    for name, values in (("cal_B", wanted.bandpass), ("cal_all", wanted.corrections)):
        stored = np.frombuffer(fields[name], np.complex128).reshape(CHANNELS, 2, 4)
        np.testing.assert_allclose(stored, values, rtol=1e-5)
    assert fields["antenna_list"] == b'["m001", "m002", "m010", "m063"]' and fields["refant"] == b"m002"
    assert 2_591_000 < site.ttl(key) <= 2_592_000
    assert int(before) <= site.zscore(index_key("array_1"), key) <= time.time()
    (again,) = calibrator.phaseup(ReadPhaseup(array="array_1"))
    assert isinstance(again, PhaseupRead) and again.last_stored == PHASEUP


@pytest.mark.live
def test_the_index_forgets_what_is_gone(calibrator: Calibrator, site: redis.Redis) -> None:
    """Members whose hash has expired or which are too old leave the index when new solutions are stored."""
    index = index_key("array_1")
    site.zadd(index, {"array_1:cal_solutions:gone": int(time.time()), "array_1:cal_solutions:old": 1})
    site.hset("array_1:cal_solutions:old", "nants", "1")
    fetch(calibrator)
    assert site.zrange(index, 0, -1) == [solutions_key("array_1", PHASEUP).encode()]
    site.delete(solutions_key("array_1", PHASEUP))
    assert calibrator.expire("array_1") == 1 and not site.exists(index)


@pytest.mark.live
def test_a_missing_part_is_a_gap(fresh_redis: str) -> None:
    """A part of the bandpass that the pipeline has not written is flagged, as its own reader does."""
    write_telstate(fresh_redis, missing=("B", 1)).backend.client.close()
    port = int(fresh_redis.rsplit(":", 1)[1].split("/")[0])
    with TelescopeState("127.0.0.1", port, 30.0) as state:
        read = state.products(PHASEUP)
    assert np.isnan(read.bandpass[8:16]).all() and np.isfinite(read.bandpass[:8]).all()
    np.testing.assert_allclose(read.bandpass[16:], products().bandpass[16:], rtol=1e-6)


@pytest.mark.live
def test_what_does_not_fit_is_told(calibrator: Calibrator, site: redis.Redis) -> None:
    """Other channels or antennas than CAM's are in the notes; a subarray's antenna without solutions is zeroed."""
    site.set("array_1:n_channels", "4096")
    site.delete("array_1:antennas")
    site.rpush("array_1:antennas", "m001", "m063", "m042")
    event = fetch(calibrator)
    assert event.zeroed == ("m042h", "m042v") and event.antennas == 3
    assert event.notes == (
        "the solutions have 32 channels, CAM says 4096",
        "m002, m010 have solutions and are not in the subarray",
    )


@pytest.mark.live
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("array_1:telstate_sensor", None, "names no telescope state"),
        ("array_1:sdp_1_telstate_address", "nonsense", "is not \\('host', port\\)"),
        ("array_1:last-config", "yesterday", "not a time in seconds"),
        (f"{BLOCK}_obs_params", b"\x80\x02}q\x00.", "pickled values are not read"),
        ("sdp_capture_block_id", b"\xff\xa1x", "WRONGTYPE"),
    ],
)
def test_what_is_missing_or_unreadable_is_named(
    calibrator: Calibrator, site: redis.Redis, key: str, value: Any, says: str
) -> None:
    """Whatever is wrong with a key, the error says so; a pickle is never loaded."""
    site.delete(key)
    if value is not None:
        site.set(key, value)
    with pytest.raises(Faulty, match=says):
        calibrator.phaseup(ReadPhaseup(array="array_1"))


@pytest.mark.live
def test_no_products_are_told(calibrator: Calibrator, site: redis.Redis) -> None:
    """Without solutions in time, without pipeline, or without capture block, the error says what is missing."""
    for key, says in (
        (f"{BLOCK}_cal_product_G", "no .*product_G of this phase-up"),
        ("cal_antlist", "no .*antlist; is the calibration pipeline running"),
        ("sdp_capture_block_id", "no capture block"),
    ):
        site.delete(key)
        with pytest.raises(Faulty, match=says):
            fetch(calibrator)
    assert not site.exists(index_key("array_1"))


@pytest.mark.live
def test_a_dead_and_a_mute_telescope_state() -> None:
    """Nobody there, or somebody who never answers: Retry within the patience, and never a hang."""
    mute = socket.create_server(("127.0.0.1", 0))
    try:
        for port in (mute.getsockname()[1], free_port()):
            with (
                TelescopeState("127.0.0.1", port, 0.3) as state,
                pytest.raises(Retry, match=r"does not answer .*is the subarray still configured"),
            ):
                state.capture_blocks()
    finally:
        mute.close()


def equal(one: Any, other: Any) -> bool:
    """Equality of values and types, NaN equal to NaN."""
    if isinstance(one, np.ndarray | np.generic):
        return type(one) is type(other) and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    return bool(one == other or (one != one and other != other)) and type(one) is type(other)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from([np.float32(1.5), np.int64(-3), np.complex64(1 + 2j), np.bool_(True), np.str_("abc")]),
    st.sampled_from(
        [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)), np.array(["a", "bc"]), np.zeros((0, 2))]
    ),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(values)
def test_values_are_those_of_the_package(value: Any) -> None:
    """Whatever the package encodes is decoded to the same value of the same type."""
    assert equal(value, decode(encode_value(value)))


@given(
    st.binary(max_size=60)
    | st.tuples(values, st.integers(0, 80), st.binary(max_size=3)).map(
        lambda parts: encode_value(parts[0])[: parts[1]] + parts[2]
    )
)
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes that are no value are refused, whatever they are."""
    for raw in (data, b"\xff" + data):
        with contextlib.suppress(Refused):
            decode(raw)


def test_an_array_larger_than_its_bytes_is_refused() -> None:
    """A header that claims a terabyte allocates nothing."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (137438953472,), }"
    header += b" " * (117 - len(header)) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"12345678"
    with pytest.raises(Refused, match="reshape"):
        decode(b"\xff" + msgspec.msgpack.encode(msgspec.msgpack.Ext(3, npy)))


def test_endpoints() -> None:
    """CAM's text of the endpoint, and plain host:port, are read; anything else is refused."""
    assert parse_endpoint("('10.98.2.128', 31029)") == ("10.98.2.128", 31029)
    assert parse_endpoint("telstate.cluster:6379") == ("telstate.cluster", 6379)
    for text in ("", "host", "host:0", "host:99999", "redis://a:1", "a b:1"):
        with pytest.raises(Refused):
            parse_endpoint(text)
