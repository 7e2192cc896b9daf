"""Gateway protocol texts: names as the existing tools use them, values typed as the gateway types them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.core.names import Instance
from socs_bl.hashpipe import wire

INSTANCE = Instance("blpn64", 1)


def test_names_are_those_of_the_existing_tools() -> None:
    """Channels and keys, letter by letter."""
    assert wire.set_channel(INSTANCE) == "bluse://blpn64/1/set"
    assert wire.gateway_channel(INSTANCE) == "bluse://blpn64/1/gateway"
    assert wire.status_key(INSTANCE) == "bluse://blpn64/1/status"
    assert wire.broadcast_set_channel() == "bluse:///set"
    assert wire.group_name("array_1", 0) == "array_1-0"
    assert wire.group_set_channel("array_1-0") == "bluse:array_1-0///set"
    assert wire.group_gateway_channel("array_1-0", "lab") == "lab:array_1-0///gateway"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("007", 7),
        ("-3", -3.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("239.9.0.64+3", "239.9.0.64+3"),
        ("nan", "nan"),
        ("1e999", "1e999"),
        ("0.0.0.0", "0.0.0.0"),
        ("20260101T000000Z", "20260101T000000Z"),
        ("1_000", "1_000"),
    ],
)
def test_values_are_typed(text: str, value: wire.Value) -> None:
    """All digits are an integer, decimal numbers floats, everything else (nan, inf, dotted quads) text."""
    parsed = wire.parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_bad_pairs_cost_the_good_ones_nothing() -> None:
    """Each bad pair of a payload is named; the good ones beside it count, also when the value holds '='."""
    pairs, rejected = wire.parse_pairs(b"DWELL=290\nnonsense\nEMPTY=\n9BAD=1\nTOOLONGKEY=1\nA=b=c\nCTRL=a\x07b\n")
    assert pairs == {"DWELL": 290, "A": "b=c"}
    assert len(rejected) == 5
    for hostile in (b"\xff\xfe=1", b"A=" + b"x" * 20000, "K=" + "y" * 100):
        pairs, rejected = wire.parse_pairs(hostile)
        assert not pairs and len(rejected) == 1


VALUES = (
    st.integers(0, 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.from_regex(r"[!-~]{1,68}", fullmatch=True)
)


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,7}", fullmatch=True), VALUES.map(str), max_size=20))
def test_pairs_survive_the_round_trip(texts: dict[str, str]) -> None:
    """What is formatted is parsed back to the same values."""
    pairs = {key: wire.parse_value(text) for key, text in texts.items()}
    assert wire.parse_pairs(wire.format_pairs(pairs).encode()) == (pairs, [])
    fields = {key.encode(): text.encode() for key, text in wire.format_status(pairs).items()}
    assert wire.parse_status(fields) == pairs


def test_unsendable_pairs_are_refused() -> None:
    """A publisher cannot send what a gateway would reject, nor smuggle a second pair into a value."""
    for pairs in ({"A": ""}, {"A": "x\nB=1"}, {"a b": 1}, {"A": "x" * 69}):
        with pytest.raises(Refused):
            wire.format_pairs(pairs)


@pytest.mark.parametrize("command", [wire.Join("array_1-0"), wire.Leave("array_2-1"), wire.Delay(0.5), wire.Quit()])
def test_commands_survive_the_round_trip(command: wire.Command) -> None:
    """Every command is parsed from what is published for it."""
    assert wire.parse_command(wire.format_command(command).encode()) == command


@pytest.mark.parametrize(
    "text", ["", "join", "join=", "join=a b-0", "join=../x-0", "delay=0.1", "delay=61", "delay=x", "quit=1", "rm"]
)
def test_bad_commands_are_refused(text: str) -> None:
    """Unknown words, bad groups and delays outside 0.25-60 s are refused with the grammar in the text."""
    with pytest.raises(Refused):
        wire.parse_command(text)
