"""BdfInfo: bytes worked out by hand, and what is sent is what is heard."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from socs_bl.bdf.wire import BdfInfo, format_info, mjd_text, parse_info
from socs_bl.core.errors import Refused

# 2026-11-21T04:00:00Z is day 61365 and a sixth: 61365 * 86400 s + 14400 s. A minute is 1/1440 = 0.000694444... days.
INFO = BdfInfo(
    id="uid____evla_bdf_1433189755525", uid="uid:///evla/bdf/1433189755525", dataset_id='X_osro "A" & B', scan_no=2,
    subscan_no=1, config_id="X_osro.2", start_time_ns=5301950400000000000, stop_time_ns=5301950460000000000,
    num_integration=60, num_antenna=27, size=714000000, path="/data/uid____evla_bdf_1433189755525", aborted=False,
    correlation_mode="CROSS_AND_AUTO",
)  # fmt: skip
GOLDEN = (
    b'<BdfInfo id="uid____evla_bdf_1433189755525" uid="uid:///evla/bdf/1433189755525" '
    b'datasetId=\'X_osro "A" &amp; B\' scanNo="2" subscanNo="1" configId="X_osro.2" '
    b'startTime="61365.16666666666" startTimeNs="5301950400000000000" '
    b'stopTime="61365.16736111111" stopTimeNs="5301950460000000000" numIntegration="60" numAntenna="27" '
    b'size="714000000" path="/data/uid____evla_bdf_1433189755525" aborted="false" correlationMode="CROSS_AND_AUTO"/>\n'
)


def test_golden_bytes() -> None:
    """The datagram, byte by byte, and back."""
    assert format_info(INFO) == GOLDEN
    assert parse_info(GOLDEN) == INFO


@given(st.integers(0, 9 * 10**18))
def test_mjd_is_cut_to_eleven_decimals(ns: int) -> None:
    """The text is the exact time, at most one unit of its last place too early."""
    exact = Decimal(ns) / Decimal(86400 * 10**9)
    assert Decimal(0) <= exact - Decimal(mjd_text(ns)) < Decimal("1e-11") and len(mjd_text(ns).partition(".")[2]) == 11


@given(
    st.text(st.characters(exclude_categories=["C"]), max_size=80),
    st.booleans(),
    st.integers(0, 10**15),
    st.integers(0, 10**9),
)
def test_what_is_sent_is_heard(text: str, aborted: bool, size: int, count: int) -> None:
    """Whatever stands in texts and numbers."""
    info = replace(INFO, dataset_id=text, path=text, aborted=aborted, size=size, num_integration=count)
    assert parse_info(format_info(info)) == info


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'uid="uid:', b'uid="udi:', "uid"),
        (b'size="7', b'size="-7', "whole number"),
        (b'aborted="false"', b'aborted="no"', "true or false"),
        (b' scanNo="2"', b"", "scanNo"),
        (b"<BdfInfo ", b"<Info ", "not BdfInfo"),
        (b"<BdfInfo ", b'<!DOCTYPE x [<!ENTITY a "b">]><BdfInfo ', "document type"),
        (b'id="uid_', b'id="../uid_', "file name"),
        (b"CROSS_AND_AUTO", b"BOTH", "correlationMode"),
    ],
)
def test_what_is_wrong_is_refused(old: bytes, new: bytes, words: str) -> None:
    """In a sentence that names it."""
    assert GOLDEN.count(old) >= 1
    with pytest.raises(Refused, match=words):
        parse_info(GOLDEN.replace(old, new, 1))


def test_a_datagram_has_a_limit() -> None:
    """What does not fit into one is refused before it is sent."""
    with pytest.raises(Refused, match="shorten"):
        format_info(replace(INFO, path="/x" * 40_000))
