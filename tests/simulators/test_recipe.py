"""Recipes: the layout others read, and the phases they stand for; pointings answered through Redis."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import redis

from socs_bl.core.errors import Refused
from socs_bl.search.bfr5 import read_recipe
from socs_bl.simulators.config import Schedule
from socs_bl.simulators.field import Position, boresight, draw_field
from socs_bl.simulators.recipe import recipe_path, write_recipe
from socs_bl.simulators.selector import TargetSelector, parse_pointing
from tests.harness.live import wait_until
from tests.simulators.test_geometry import independent_delays

SCHEDULE = Schedule()
SUBARRAY = SCHEDULE.subarrays[0].model_copy(update={"antennas": ("m000", "m011", "m063", "m060")})
CENTRE = boresight(SCHEDULE.catalogue[0])
START = 1795233600.0
OBSID = "MeerKAT:array_1:20261121T040000Z"
REQUEST = {
    "telescope": "MeerKAT", "array": "array_1", "pktstart_str": "20261121T040000Z", "target": CENTRE.name,
    "ra_deg": CENTRE.ra_deg, "dec_deg": CENTRE.dec_deg, "f_max": 1420.6, "band": "l",
}  # fmt: skip
PAYLOAD = "POINTING:" + json.dumps(REQUEST)


@pytest.fixture
def recipe(tmp_path: Path) -> tuple[Path, tuple[Position, ...]]:
    """A recipe of five seconds and the beams in it."""
    beams = draw_field(SCHEDULE.site, SUBARRAY, CENTRE, START, "1")
    path = recipe_path(tmp_path, OBSID)
    write_recipe(path, SCHEDULE.site, SUBARRAY, OBSID, CENTRE, beams, START, 5)
    return path, beams


def test_layout_is_the_one_others_read(recipe: tuple[Path, tuple[Position, ...]]) -> None:
    """Names, shapes, types and units of every dataset, as seticore and BeamformerRecipes.jl have them."""
    path, beams = recipe
    assert path.name == "MeerKAT-array_1-20261121T040000Z.bfr5"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    with h5py.File(path) as file:
        sizes = {name: int(value[()]) for name, value in file["diminfo"].items()}
        assert sizes == {"npol": 2, "nbeams": len(beams), "nchan": 128, "nants": 4, "ntimes": 5}
        assert file["delayinfo/delays"].shape == file["delayinfo/rates"].shape == (5, len(beams), 4)
        assert file["delayinfo/time_array"][0] == START and np.diff(file["delayinfo/jds"]) * 86400 == pytest.approx(
            1.0, abs=1e-4
        )
        assert file["calinfo/cal_all"].shape == (128, 2, 4) and file["calinfo/cal_all"].dtype == np.complex64
        # seticore reads this one into a buffer of the type's size: a fixed length, and no pointer.
        assert h5py.check_string_dtype(file["obsinfo/obsid"].dtype).length == len(OBSID)
        assert file["obsinfo/obsid"][()].decode() == OBSID
        assert file["obsinfo/freq_array"][64] == pytest.approx(SUBARRAY.centre_frequency_hz / 1e9, rel=1e-12)
        assert [name.decode() for name in file["beaminfo/src_names"]] == [beam.name for beam in beams]
        np.testing.assert_allclose(np.degrees(file["beaminfo/ras"]), [beam.ra_deg for beam in beams])
        assert np.degrees(file["obsinfo/phase_center_dec"][()]) == pytest.approx(CENTRE.dec_deg)
        assert file["telinfo/antenna_positions"].shape == (4, 3)


def test_delays_are_nanoseconds_of_an_independent_way(recipe: tuple[Path, tuple[Position, ...]]) -> None:
    """What the file says of each beam, antenna and second is what astropy gives, relative to the phase centre."""
    path, beams = recipe
    directions = np.array([beam.radians() for beam in beams])
    with h5py.File(path) as file:
        delays, rates = file["delayinfo/delays"][()], file["delayinfo/rates"][()]
    for second in (0, 4):
        theirs = independent_delays(directions, START + second)
        np.testing.assert_allclose(delays[second], 1e9 * (theirs - theirs[0]), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(delays[4] - delays[0], 4 * rates[2], atol=1e-4)


def test_the_search_reads_it(recipe: tuple[Path, tuple[Position, ...]]) -> None:
    """The search's own reader finds the recipe by the observation's id and agrees on beams, times and delays."""
    path, beams = recipe
    found = read_recipe(path)
    assert found.obsid == OBSID and [beam.name for beam in found.beams] == [beam.name for beam in beams]
    assert found.delays.shape == (5, len(beams), 4) and not found.delays[:, 0].any() and found.delays[:, 1:].any()


@pytest.mark.parametrize(
    "payload",
    [
        "", "POINTING:", "POINTING:{}", "TRACK:" + json.dumps(REQUEST), PAYLOAD[:-5],
        PAYLOAD.replace("20261121T040000Z", "yesterday"), PAYLOAD.replace("array_1", "../etc"),
        PAYLOAD.replace("MeerKAT", "a/b"), PAYLOAD.replace(str(CENTRE.ra_deg), '"east"'),
    ],
)  # fmt: skip
def test_what_is_no_pointing_is_refused(payload: str) -> None:
    """Nothing that is not understood becomes a file name or a key."""
    with pytest.raises(Refused):
        parse_pointing(payload)


@pytest.mark.live
def test_a_pointing_is_answered(fresh_redis: str, tmp_path: Path) -> None:
    """Key, message and recipe come back for a request on Redis; a bad one is counted and the next still answered."""
    targets = (CENTRE, Position("x", CENTRE.ra_deg + 0.1, CENTRE.dec_deg))
    selector = TargetSelector(fresh_redis, SCHEDULE, tmp_path, lambda pointing: targets)
    selector.start()
    try:
        with redis.Redis.from_url(fresh_redis, decode_responses=True) as client, client.pubsub() as listener:
            listener.subscribe("target-selector:targets")
            assert listener.get_message(timeout=10.0)
            wait_until(lambda: selector.listening, what="the selector")
            client.publish("target-selector:pointings", PAYLOAD.replace("array_1", "array_9"))
            client.publish("target-selector:pointings", PAYLOAD)
            wait_until(lambda: selector.answers.answered == 1, what="the answer")
            assert listener.get_message(timeout=10.0)["data"] == f"targets:{OBSID}"
            listed = json.loads(client.get(f"targets:{OBSID}"))
    finally:
        selector.stop()
    assert [entry["source_id"] for entry in listed] == [CENTRE.name, "x"] and listed[0]["ra"] == CENTRE.ra_deg
    assert selector.answers.failed == 1 and selector.answers.obsid == OBSID
    assert recipe_path(tmp_path, OBSID).is_file()
