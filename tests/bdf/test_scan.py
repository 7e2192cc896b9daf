"""The record of a scan, uids and names of files."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.bdf.scan import (
    Scan,
    ScanAntenna,
    decode_scan,
    encode_scan,
    file_name,
    make_uid,
    mjd_ns,
    parse_project_path,
    parse_uid,
    unix_ns,
)
from socs_bl.core.errors import Refused

UIDS = st.from_regex(r"uid://[A-Za-z0-9]{0,8}(/[A-Za-z0-9]{1,8}){1,4}", fullmatch=True)


def test_the_name_of_a_file_is_its_uid() -> None:
    """As the archive has it: everything but letters and digits becomes '_'; the number is in milliseconds."""
    assert make_uid(1433189755525) == "uid:///evla/bdf/1433189755525"
    assert file_name("uid:///evla/bdf/1433189755525") == "uid____evla_bdf_1433189755525"


@given(UIDS, UIDS)
def test_two_uids_never_have_one_name(one: str, other: str) -> None:
    """No two files can meet under one name."""
    assert (file_name(one) == file_name(other)) == (one == other)


@given(st.text(max_size=40) | st.from_regex(r"uid://.{0,20}"))
def test_nothing_else_becomes_a_name(text: str) -> None:
    """A uid from outside is one, or it is refused: no name has anything but letters, digits and '_'."""
    try:
        name = file_name(text)
    except Refused:
        return
    assert name.replace("_", "a").isalnum() and name.isascii() and parse_uid(text) == text


@pytest.mark.parametrize(
    "text", ["", "0/1/1", "0/1/1//", "0/1/-1/", "0/1/1/1/", "../1/1/", "0/1/1/\n", "0/1/1234567890/"]
)
def test_a_project_path_is_three_numbers(text: str) -> None:
    """What readers split at '/' and turn into numbers is exactly that."""
    assert parse_project_path("0/12/3/") == "0/12/3/"
    with pytest.raises(Refused, match="0/1/1/"):
        parse_project_path(text)


def test_a_scan_survives_the_way_as_text() -> None:
    """Listener, nodes, writer and publisher have the same record."""
    scan = Scan(
        uid=make_uid(1), dataset_id="L_realfast.57897.87", config_id="L.2", start_ns=10, stop_ns=20, scan=4, subscan=2,
        nodes=("cbe-01", "cbe-02"), source="3C286", ra=1.5, dec=-0.25, intents=('Intent="x"',),
        antennas=(ScanAntenna("ea01", 1, "W04", 1.0, 2.0, 3.0),),
    )  # fmt: skip
    assert decode_scan(encode_scan(scan)) == scan
    assert scan.path == "0/4/2/" and scan.block == scan.uid


@pytest.mark.parametrize(
    "wrong",
    [
        {"uid": "x"},
        {"exec_block": "x"},
        {"project_path": "x"},
        {"dataset_id": ""},
        {"source": "a\nb"},
        {"source": "x" * 300},
        {"nodes": ("a\0",)},
        {"start_ns": -1},
        {"stop_ns": 5},
        {"stop_ns": 1 << 63},
        {"scan": 0},
        {"ra": math.nan},
        {"antennas": (ScanAntenna("ea01", 1, x=math.inf),)},
        {"antennas": tuple(ScanAntenna(str(number), number) for number in range(513))},
    ],
)
def test_a_scan_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    """Nothing wrong gets as far as a path, a header or an archive."""
    good = {"uid": make_uid(1), "dataset_id": "d", "start_ns": 5, "stop_ns": 6}
    with pytest.raises(Refused):
        Scan(**(good | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"uid": 1}', '{"uid":"uid:///a/b","dataset_id":"d","start_ns":1,"x":1}']
)
def test_text_that_is_no_scan_is_refused(text: str) -> None:
    """Missing, wrong and unknown fields."""
    with pytest.raises(Refused):
        decode_scan(text)


def test_times_of_files_count_from_mjd_0() -> None:
    """MJD 40587 is the first of January 1970."""
    assert mjd_ns(0) == 40587 * 86400 * 10**9 and unix_ns(mjd_ns(123)) == 123
