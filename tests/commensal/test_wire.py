"""Texts of others, parsed strictly, and our own, byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.commensal import effects, wire
from socs_bl.commensal.model import BadMessage, LegacyReturn, ResultRead, TelescopeEvent
from socs_bl.core.errors import Refused

WORDS = ["configure", "conf_complete", "tracking", "not-tracking", "deconfigure", "rec-timeout", "capture-init"]


@pytest.mark.parametrize("word", WORDS)
def test_alerts(word: str) -> None:
    """The words of the telescope."""
    assert wire.parse_alert(f"{word}:array_1") == (word, "array_1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tracking",
        "tracking:",
        ":array_1",
        "TRACKING:array_1",
        "tracking:array_1:x",
        "tracking:../x1",
        "a:b:c:d:e:1",
    ],
)
def test_bad_alerts(text: str) -> None:
    """What is not a known word and a subarray is refused."""
    with pytest.raises(Refused):
        wire.parse_alert(text)


def test_returns() -> None:
    """The return of the original analyzer, both ways; a code can be the number of a signal."""
    assert wire.format_return("blpn64/1", 2, -1) == "RETURN:blpn64/1:2:-1"
    assert wire.parse_return("RETURN:blpn64/1:2:-1") == ("blpn64/1", 2, -1)
    assert wire.parse_return("RETURN:blpn64/1:-11:-1") == ("blpn64/1", -11, -1)


@pytest.mark.parametrize(
    "text",
    [
        "RETURN:blpn64/1:2",
        "RETURN:blpn64:2:-1",
        "RETURN:blpn64/1:x:-1",
        "RETURN:blpn64/1:1_0:-1",
        "RETURN:blpn64/1:" + "9" * 40 + ":-1",
        "RETURN:blpn64/1:٣:-1",
        "return:blpn64/1:2:-1",
        "RETURN:blpn64/1:2:-1:0",
    ],
)
def test_bad_returns(text: str) -> None:
    """A return with a code that no journal could hold, or with anything else wrong, is refused."""
    with pytest.raises(Refused):
        wire.parse_return(text)


@given(st.sampled_from(wire.CHANNELS), st.text(max_size=300) | st.from_regex(r"RETURN(:[a-z0-9/-]{0,12}){0,4}"))
def test_any_message_is_an_event(channel: str, payload: str) -> None:
    """Whatever is heard becomes one event, and a bad one says where it was heard."""
    event = effects.heard(channel, payload)
    assert isinstance(event, TelescopeEvent | LegacyReturn | BadMessage)
    if isinstance(event, BadMessage):
        assert event.channel == channel and event.reason


def test_results() -> None:
    """An entry of the results stream; one without a run is bad and named by its place."""
    fields = {"instance": "blpn64/1", "run": "MeerKAT:array_1:x", "code1": "1", "hits": "3", "reason": "late"}
    expected = ResultRead(cursor="7-0", instance="blpn64/1", run="MeerKAT:array_1:x", code=1, hits=3, reason="late")
    assert effects.result("7-0", fields) == expected
    del fields["run"]
    bad = effects.result("7-0", fields)
    assert isinstance(bad, BadMessage) and "7-0" in bad.reason


def test_saved_state() -> None:
    """``<array>:state`` has the keys of the original, in its order, and the timestamp."""
    text = wire.format_state("RECORD", ["a/0"], [], ["a/0"], [], 5.0)
    assert text == (
        '{"recproc_state": "RECORD", "subscribed": ["a/0"], "ready": [], "recording": ["a/0"], "processing": [],'
        ' "timestamp": 5.0}'
    )


def test_pointing() -> None:
    """The request to the target selector."""
    text = wire.format_pointing({"telescope": "MeerKAT", "ra_deg": 1.5})
    assert text.startswith("POINTING:") and json.loads(text[9:]) == {"telescope": "MeerKAT", "ra_deg": 1.5}


def test_slack() -> None:
    """The proxy splits at the first colon: the channel comes before it."""
    text = wire.format_slack("meerkat-obs-log", "coordinator", "x: y", 1_700_000_000.0)
    assert text == "meerkat-obs-log:[2023-11-14 22:13:20 UTC - coordinator] x: y"


def test_numbers() -> None:
    """17 significant digits, so that the value is read back exactly."""
    assert wire.format_number(1420.0) == "1420"
    assert wire.format_number(0.1) == "0.10000000000000001"
