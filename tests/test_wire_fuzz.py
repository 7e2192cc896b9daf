"""Whatever comes in from outside is read or refused: every parser of every ``wire.py``, and what it hands its texts to."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import socs_bl
from socs_bl.bdf import wire as bdf
from socs_bl.capture import wire as capture
from socs_bl.commensal import allocation, effects, metadata
from socs_bl.commensal import wire as commensal
from socs_bl.commensal.model import BadMessage, ResultRead
from socs_bl.core import names
from socs_bl.core.errors import Refused
from socs_bl.correlator import wire as correlator
from socs_bl.correlator.listener import wire as listener
from socs_bl.correlator.observation import wire as observation
from socs_bl.hashpipe import wire as hashpipe
from socs_bl.search import wire as search
from tests.commensal.bench import sensors
from tests.correlator.observation.documents import ANTENNAS, OBSERVATION

BDF_INFO = bdf.format_info(
    bdf.BdfInfo(
        id="uid____evla_bdf_1", uid="uid:///evla/bdf/1", dataset_id="A & B", scan_no=1, subscan_no=1, config_id="",
        start_time_ns=5301950400000000000, stop_time_ns=5301950460000000000, num_integration=6, num_antenna=27, size=10**9,
        path="/data/uid____evla_bdf_1", aborted=False, correlation_mode="CROSS_AND_AUTO",
    )
).decode()  # fmt: skip

# Parser to texts it takes. A parser of a wire.py that is not here fails `test_every_parser_is_fuzzed`.
PARSERS: dict[Callable[[str], Any], tuple[str, ...]] = {
    commensal.parse_alert: ("tracking:array_1", "conf_complete:array_2", "rec-timeout:array_4"),
    commensal.parse_return: ("RETURN:blpn64/1:0:-1", "RETURN:blpn0/0:-11:-1"),
    hashpipe.parse_group: ("array_1-0", "array_12-31"),
    hashpipe.parse_value: ("290", "-1.5e3", "239.192.1.0+3", "J0437-4715"),
    hashpipe.parse_command: ("join=array_1-0", "leave=array_1-1", "delay=0.5", "quit"),
    search.parse_metadata: ('{"band": "l", "start_ts": 1795233600.0, "nants": 64, "obsid": "MeerKAT:array_1:x"}', "{}"),
    search.parse_seconds: ("1795233600.5", "-1e3"),
    capture.parse_destination: ("239.9.0.64+3", "224.0.0.1", "0.0.0.0"),
    observation.parse_document: (OBSERVATION, ANTENNAS),
    observation.parse_observation: (OBSERVATION,),
    observation.parse_antenna_table: (ANTENNAS,),
    listener.parse_path: ("/home/wcbe/c1.xml", "/c"),
    observation.parse_mjd: ("57897.87981900463", "40588"),
    bdf.parse_info: (BDF_INFO,),
    bdf.parse_name: ("uid____evla_bdf_1433189755525", "uid____evla_bdf_1433189755525-2"),
    allocation.parse_streams: ("spead://239.9.0.0+63:7148", "spead://239.9.0.0:7148"),
    names.parse_instance: ("blpn64/1", "node-7/999"),
    names.parse_subarray: ("array_1", "x9"),
    names.parse_schedule_block: ("20261121-0001", "Unknown_SB"),
}
# Parsers of more than one text or of bytes, which have tests of their own below or (frames) in tests/correlator.
OTHERS = {hashpipe.parse_pairs, hashpipe.parse_status, correlator.parse_frame, correlator.parse_header}
LONGEST_ANSWER = 2000  # characters of what is said about a text, however long that was
LARGE = 1 << 20

ANYTHING = st.text(st.characters(), max_size=80)


def mutated(valid: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Texts a few changes away from valid ones: cut, doubled, overwritten, with figures that overflow."""

    def change(text: str, at: int, to: int, insert: str) -> str:
        first, last = sorted((at % (len(text) + 1), to % (len(text) + 1)))
        return text[:first] + insert + text[last:]

    inserts = st.sampled_from(["", ":", "/", "=", "+", "-", ".", "\n", "\x00", "9" * 30, "../", "'", '"', "e999", "٣"])
    step = st.tuples(st.integers(0, 60), st.integers(0, 60), inserts | st.text(st.characters(), max_size=3))
    return st.builds(
        lambda text, steps: _fold(change, text, steps), st.sampled_from(valid), st.lists(step, min_size=1, max_size=3)
    )


def _fold(change: Callable[..., str], text: str, steps: list[tuple[int, int, str]]) -> str:
    for step in steps:
        text = change(text, *step)
    return text


def parsers() -> list[Any]:
    """The table, with names that pytest shows."""
    return [pytest.param(parse, valid, id=f"{parse.__module__}.{parse.__name__}") for parse, valid in PARSERS.items()]


def read_or_refused(parse: Callable[[Any], Any], text: Any) -> Any:
    """What a parser makes of a text, or None when it refuses it in a sentence; anything else is a defect."""
    try:
        return parse(text)
    except Refused as refused:
        assert 10 < len(str(refused)) < LONGEST_ANSWER
        return None


def test_every_parser_is_fuzzed() -> None:
    """A new parser in a ``wire.py`` joins the table above."""
    found = set()
    for place in pkgutil.walk_packages(socs_bl.__path__, "socs_bl."):
        if place.name.endswith(".wire"):
            module = importlib.import_module(place.name)
            found |= {
                function
                for name, function in inspect.getmembers(module, inspect.isfunction)
                if name.startswith("parse_") and function.__module__ == module.__name__
            }
    assert len(found) >= 8
    assert found <= PARSERS.keys() | OTHERS


@pytest.mark.parametrize(("parse", "valid"), parsers())
def test_valid_texts_are_read(parse: Callable[[str], Any], valid: tuple[str, ...]) -> None:
    """What the table calls valid is; else the mutations of it would prove little."""
    for text in valid:
        assert parse(text) is not None


@pytest.mark.parametrize(("parse", "valid"), parsers())
def test_anything_is_read_or_refused(parse: Callable[[str], Any], valid: tuple[str, ...]) -> None:
    """Arbitrary text and valid text that was damaged: a value or `Refused`, and no other exception."""

    @settings(max_examples=150)
    @given(ANYTHING | mutated(valid))
    def holds(text: str) -> None:
        read_or_refused(parse, text)

    holds()


@pytest.mark.parametrize(("parse", "valid"), parsers())
def test_size_is_bounded(parse: Callable[[str], Any], valid: tuple[str, ...]) -> None:
    """A megabyte is refused, or costs no more than a value of reasonable size; it is not quoted back in full."""
    for text in valid:
        for large in (text * (LARGE // len(text)), text + "9" * LARGE, text + "\n" * LARGE, "9" * LARGE, "(" * LARGE):
            assert len(repr(read_or_refused(parse, large))) < LONGEST_ANSWER


@given(
    st.binary(max_size=200)
    | mutated(("DWELL=290\nPKTSTART=15907", "A=b=c")).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | ANYTHING
)
def test_pairs(payload: bytes | str) -> None:
    """Whatever a set channel carries: good pairs are taken, bad ones named, and what was taken can be sent on."""
    pairs, rejected = hashpipe.parse_pairs(payload)
    assert all(isinstance(reason, str) and len(reason) < LONGEST_ANSWER for reason in rejected)
    assert hashpipe.parse_pairs(hashpipe.format_pairs(pairs)) == (pairs, [])
    status = hashpipe.format_status(pairs)
    assert hashpipe.parse_status(status) == pairs


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=90), max_size=8))
def test_status_hashes(fields: dict[bytes, bytes]) -> None:
    """A status hash of anything is read; unreadable fields are left out."""
    assert len(hashpipe.parse_status(fields)) <= len(fields)


@given(st.binary(max_size=100))
def test_gateway_commands_as_bytes(payload: bytes) -> None:
    """A gateway takes bytes, which need not be text."""
    read_or_refused(hashpipe.parse_command, payload)


# -- what is built is read back ---------------------------------------------------------------------------------------

INSTANCE = st.builds("blpn{}/{}".format, st.integers(0, 999), st.integers(0, 9))
SUBARRAY = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,30}[0-9]", fullmatch=True)


@given(INSTANCE, st.integers(-255, 255), st.integers(-1, 2))
def test_returns_survive(instance: str, code: int, code2: int) -> None:
    """RETURN messages."""
    assert commensal.parse_return(commensal.format_return(instance, code, code2)) == (instance, code, code2)


@given(SUBARRAY, st.integers(0, 99), st.floats(hashpipe.MINIMUM_DELAY, hashpipe.MAXIMUM_DELAY))
def test_commands_survive(array: str, number: int, seconds: float) -> None:
    """Gateway commands, and the group names in them."""
    group = hashpipe.group_name(array, number)
    for command in (hashpipe.Join(group), hashpipe.Leave(group), hashpipe.Delay(seconds), hashpipe.Quit()):
        assert hashpipe.parse_command(hashpipe.format_command(command)) == command


@given(st.integers(0xE0000000, 0xEFFFFFFF - capture.MAX_GROUPS), st.integers(0, capture.MAX_GROUPS))
def test_destinations_survive(first: int, groups: int) -> None:
    """DESTIP: as many consecutive addresses as asked for, across octets."""
    address = ".".join(str(byte) for byte in first.to_bytes(4, "big"))
    parsed = capture.parse_destination(capture.format_destination(address, groups))
    assert [int.from_bytes(bytes(map(int, one.split("."))), "big") for one in parsed] == list(
        range(first, first + groups)
    )


@given(INSTANCE, st.text(max_size=60), st.integers(-64, 255), st.text(max_size=600), st.integers(0, 10**6))
def test_results_survive(instance: str, run: str, code: int, reason: str, hits: int) -> None:
    """What an analyzer reports is what the coordinator reads, in the stream and on the channel."""
    added, published = search.result_commands(instance, run, code, reason, hits, "obsid")
    fields = dict(zip(added[6::2], added[7::2], strict=True))
    assert effects.result("5-0", fields) == ResultRead(
        cursor="5-0", instance=instance, run=run, code=code, hits=hits, reason=reason[:500]
    )
    assert commensal.parse_return(published[2]) == (instance, code, -1)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(value: float) -> None:
    """17 significant digits are enough for every float."""
    assert float(commensal.format_number(value)) == value


@given(st.text(st.characters()), st.text(max_size=20), st.floats(0, 4e9))
def test_texts_for_others_are_what_they_split(text: str, name: str, now: float) -> None:
    """Slack's proxy splits at the first colon; saved states and pointings are JSON."""
    channel, colon, rest = commensal.format_slack("meerkat-obs-log", "coordinator", text, now).partition(":")
    assert (channel, colon) == ("meerkat-obs-log", ":") and rest.endswith(text)
    state = json.loads(commensal.format_state("READY", [name], [], [], [], now))
    assert state["subscribed"] == [name] and math.isclose(state["timestamp"], now)
    assert json.loads(commensal.format_pointing({"target": name}).removeprefix("POINTING:")) == {"target": name}


# -- what hands texts to the parsers ----------------------------------------------------------------------------------


@given(st.sampled_from(["alerts", "rec_result", "proc_result", "other"]), ANYTHING)
def test_every_message_is_an_event(channel: str, payload: str) -> None:
    """A message of anybody becomes an event, a bad one `BadMessage`."""
    event = effects.heard(channel, payload)
    assert len(repr(event)) < LONGEST_ANSWER


RESULT = {"instance": "blpn64/0", "run": "r", "code1": "0", "code2": "-1", "hits": "3", "reason": ""}


@given(
    st.dictionaries(st.sampled_from(sorted(RESULT)), ANYTHING | st.just("9" * 5000)),
    st.sets(st.sampled_from(sorted(RESULT))),
)
def test_every_result_is_an_event(changes: dict[str, str], missing: set[str]) -> None:
    """An entry of the results stream with any fields wrong or missing becomes an event."""
    fields = {key: value for key, value in {**RESULT, **changes}.items() if key not in missing}
    assert isinstance(effects.result("1-0", fields), ResultRead | BadMessage)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted(sensors())), ANYTHING | mutated(tuple(sensors().values())), max_size=3))
def test_sensors(changes: dict[str, str]) -> None:
    """CAM's keys with anything in them: figures that can be used, or a refusal."""
    values = sensors() | changes
    band = read_or_refused(lambda given: metadata.parse_band("array_1", given, "wide"), values)
    if band is not None:
        assert band.clock.heap_seconds > 0 and math.isfinite(band.centre) and band.streams.count >= 1
    track = read_or_refused(lambda given: metadata.parse_track("array_1", given), values)
    if track is not None:
        assert math.isfinite(track.target.ra_degrees) and math.isfinite(track.target.dec_degrees)


@given(ANYTHING, ANYTHING)
def test_names_of_keys(name: str, prefix: str) -> None:
    """A CBF name or prefix that is no word never becomes part of a key."""
    keys = read_or_refused(lambda given: metadata.keys_of("array_1", *given), (name, prefix))
    assert keys is None or all(key.startswith("array_1:") and key.isprintable() for key in keys.values())
