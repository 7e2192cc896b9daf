"""The executor's documents: golden texts, and whatever else may come in a datagram."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.core.xml import BadXml
from socs_bl.correlator.observation import wire
from socs_bl.correlator.observation.model import Observation
from tests.correlator.observation.bench import Bench
from tests.correlator.observation.documents import ANTENNAS, OBSERVATION

ANY = st.text(max_size=260)
PLAIN = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=250)


def test_a_golden_observation() -> None:
    """Every field, from a text as the executor sends it; the start is exact to the nanosecond.

    57897.87981900463 days: 17310 days after 1970 and 0.87981900463 * 86400 = 76016.362000032 s.
    """
    found = wire.parse_observation(OBSERVATION)
    assert found == Observation(
        dataset_id="L_realfast.57897.87981900463",
        config_id="L_realfast.57897.87981900463.2",
        subarray_id="1",
        start_ns=(17310 * 86400 + 76016) * 10**9 + 362000032,
        sequence=3,
        source="J1041+0610",
        ra=2.8004,
        dec=0.1077,
        intents=('ObsProject="realfast"', 'ScanIntent="CALIBRATE_COMPLEX_GAIN"'),
        scan=2,
        subscan=1,
        correlator="widar",
    )
    assert found.records("widar") and not found.records("dbe") and not found.suppressed


def test_a_golden_table() -> None:
    """Antennas by station, with pads and positions."""
    table = wire.parse_antenna_table(ANTENNAS)
    assert (table.dataset_id, table.configuration) == ("L_realfast.57897.87981900463", "D")
    assert [(one.name, one.station, one.pad) for one in table.antennas] == [("ea02", 2, "E01"), ("ea05", 14, "W04")]
    assert (table.antennas[1].x, table.antennas[1].y, table.antennas[1].z) == (-1601173.3, -5041985.2, 3554876.4)


@pytest.mark.parametrize(
    "intent", ['suppress_data="True"', "suppress_data=True", 'SuppressData="true"', "SuppressData = 't'"]
)
def test_suppressed_data(intent: str) -> None:
    """All spellings of the intent that asks for no data."""
    text = OBSERVATION.replace('ObsProject="realfast"', intent)
    assert wire.parse_observation(text).suppressed


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("</Observation>", "", "malformed"),
        ("<Observation ", "<!DOCTYPE Observation><Observation ", "doctype"),
        ("</Observation>", " " * wire.MAX_BYTES + "</Observation>", "oversized"),
        ("Observation", "Reservation", "root"),
        ("57897.87981900463", "57897.8798190046x", "content"),
        ('startTime="57897.87981900463"', 'startTime="40000.5"', "content"),
        ('startTime="57897.87981900463"', 'startTime="999999.5"', "content"),
        ('startTime="57897.87981900463"', 'startTime="100000"', "content"),
        ('startTime="57897.87981900463"', 'startTime="-5"', "content"),
        ('startTime="57897.87981900463"', 'startTime="nan"', "content"),
        ("datasetId", "dataset", "content"),
        ('datasetId="', 'datasetId="../', "content"),
        ("<scanNo>2</scanNo>", "", "content"),
        ("<scanNo>2</scanNo>", "<scanNo>2</scanNo><scanNo>3</scanNo>", "content"),
        ("<scanNo>2</scanNo>", "<scanNo>0</scanNo>", "content"),
        ("<scanNo>2</scanNo>", "<scanNo>٢</scanNo>", "content"),
        ("<scanNo>2</scanNo>", f"<scanNo>{'9' * 60}</scanNo>", "content"),
        ("<correlator>widar</correlator>", "<correlator><b/></correlator>", "content"),
        ("J1041+0610", "J" * 300, "content"),
        ("<ra>2.8004</ra>", "<ra>1e999</ra>", "content"),
        ("<ra>2.8004</ra>", "<ra>nan</ra>", "content"),
        ("<intent>", "<intent>x</intent>" * 80 + "<intent>", "content"),
    ],
)
def test_what_is_wrong_is_named_by_kind(old: str, new: str, kind: str) -> None:
    """Each refusal has its kind for the counts and a sentence for people; nothing else is raised."""
    text = OBSERVATION.replace(old, new)
    assert text != OBSERVATION
    with pytest.raises(BadXml) as caught:
        wire.parse_document(text)
    assert caught.value.kind == kind and 10 < len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<widarID>14</widarID>", "<widarID>2</widarID>"),
        ("<widarID>14</widarID>", "<widarID>900</widarID>"),
        ("<X>-1601173.3</X>", "<X>far</X>"),
        ('name="ea05"', ""),
    ],
)
def test_a_table_that_cannot_be_is_refused(old: str, new: str) -> None:
    """Two antennas of one station, a station that cannot be, a position that is no number."""
    with pytest.raises(BadXml):
        wire.parse_antenna_table(ANTENNAS.replace(old, new))


def test_each_parser_takes_its_own_document() -> None:
    """One is not taken for the other."""
    for parse, text in ((wire.parse_observation, ANTENNAS), (wire.parse_antenna_table, OBSERVATION)):
        with pytest.raises(BadXml) as caught:
            parse(text)
        assert caught.value.kind == "root"


@given(st.binary(max_size=300))
def test_any_datagram_is_read_or_refused(data: bytes) -> None:
    """A document, or `Refused`."""
    with pytest.raises(Refused):
        wire.parse_document(data)


@given(PLAIN | ANY, PLAIN | ANY, PLAIN | ANY, st.integers(0, 2 * 10**9), st.floats(-7.0, 7.0) | st.floats())
def test_what_is_read_can_be_recorded(source: str, intent: str, config: str, scan: int, ra: float) -> None:
    """Whatever texts and numbers a document has: it is refused, or the machine makes a scan of it."""
    texts = {"J1041+0610": escape(source), 'ObsProject="realfast"': escape(intent), "<scanNo>2<": f"<scanNo>{scan}<"}
    text = OBSERVATION.replace("<ra>2.8004<", f"<ra>{ra}<").replace(
        'configId="', f'configId={quoteattr(config)} x="', 1
    )
    for old, new in texts.items():
        text = text.replace(old, new)
    try:
        document = wire.parse_observation(text)
    except BadXml:
        return
    bench = Bench()
    bench.hear(document)
    assert len(bench.machine.recordings()) == int(document.records("widar"))


@given(st.integers(1, wire.LATEST_NS - 1))
def test_dates_are_exact(when: int) -> None:
    """Every nanosecond of 1970 to 2100 that is written with enough digits is read back."""
    days, rest = divmod(when, wire.DAY_NS)
    # 86400e9 ns a day: 1/86400e9 is no finite decimal, 20 digits are far below half a nanosecond.
    fraction = f"{rest * 10**20 // wire.DAY_NS:020d}"
    assert wire.parse_mjd(f"{days + 40587}.{fraction}") == when
