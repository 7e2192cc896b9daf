"""Configuration documents: written and read back, and refused with the line and what would be right."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from socs_bl.core.errors import Refused
from socs_bl.correlator.configuration import (
    Antenna,
    Assignment,
    Configuration,
    Mapping,
    Pipe,
    Product,
    Stream,
    Subarray,
    Window,
)
from socs_bl.correlator.document import parse_configuration, write_configuration
from tests.harness.live import REPOSITORY

DOCUMENT = """<config name="x" version="1">
 <inputConfig dump="100000">
  <strm id="s1a" stn="1" bb="0" sb="3"/>
  <strm id="s2a" stn="2" bb="0" sb="3"/>
  <product4 id="p1" x="s1a" y="s2a" lags="128"/>
  <product4 id="a1" x="s1a" y="s1a" lags="128"/>
 </inputConfig>
 <outputConfig>
  <sub id="sa0" cfg="c.2">
   <ant stn="1" name="ea01"/>
   <ant stn="2" name="ea02"/>
   <sw id="w1" swbb="AC_8BIT" sw="1" nchan="64" bw="64e6" sb="U" cross="RR" sd="RR"/>
  </sub>
 </outputConfig>
 <pipelineConfig>
  <pipe id="P0" desc="flag ! integrate n=5 ! dvnorm ! fft ! bdf"/>
  <map sw="w1" pipe="P0">
   <p id="p1" pol="RR"/>
   <p id="a1" pol="RR"/>
  </map>
 </pipelineConfig>
</config>
"""


def test_a_document_is_read() -> None:
    """Every value of a small document arrives where the records say."""
    configuration = parse_configuration(DOCUMENT.encode())
    one, two = Stream("s1a", 1, 0, 3), Stream("s2a", 2, 0, 3)
    window = Window("w1", "AC_8BIT", 1, 64, 64e6, "U", ("RR",), ("RR",))
    assert configuration == Configuration(
        name="x",
        dump_ns=100_000_000,
        streams=(one, two),
        products=(Product("p1", one, two), Product("a1", one, one)),
        subarrays=(Subarray("sa0", "c.2", (Antenna(1, "ea01"), Antenna(2, "ea02")), (window,)),),
        pipes=(Pipe("P0", "flag ! integrate n=5 ! dvnorm ! fft ! bdf"),),
        mappings=(Mapping("w1", "P0", (Assignment("p1", "RR"), Assignment("a1", "RR"))),),
    )
    assert parse_configuration(DOCUMENT, "04_12_59").name == "04_12_59", "who brings it names it"
    empty = "<config><inputConfig/><outputConfig/><pipelineConfig/></config>"
    assert parse_configuration(empty) == Configuration("")


def change(old: str, new: str) -> str:
    assert old in DOCUMENT
    return DOCUMENT.replace(old, new)


@pytest.mark.parametrize(
    ("document", "line", "words"),
    [
        (change('id="s2a"', 'id="s1a"'), 4, "id s1a is there twice"),
        (change('id="P0" desc', 'id="w1" desc'), 16, "id w1 is there twice"),
        (change('stn="2" bb="0"', 'stn="1" bb="0"'), 4, "same signal as s1a"),
        (change('x="s1a" y="s2a"', 'x="s9" y="s2a"'), 5, "x='s9' is no strm"),
        (change('x="s1a" y="s2a"', 'x="s2a" y="s1a"'), 5, "write x='s1a' y='s2a'"),
        (change('y="s2a" lags="128"', 'y="s2a" lags="96"'), 5, "lags=96 of p1 is no power of two"),
        (change('y="s2a" lags="128"', 'y="s2a" lags="256"'), 5, "1 frames x 1 recirculation blocks x 128 lags are 128"),
        (change('y="s2a" lags="128"', 'y="s2a" lags="128" half="1"'), 5, "are 64 lags, not 128"),
        (change('y="s2a" lags="128"', 'y="s2a" lags="128" frames="17"'), 5, "frames (1-16)"),
        (change('stn="2" bb="0"', 'stn="256" bb="0"'), 4, "stn (1-255)"),
        (change('sb="3"/>\n  <strm', 'sb="3" colour="red"/>\n  <strm'), 3, "a strm has id, stn"),
        (change("<product4 id=\"a1\"", "<product7 id=\"a1\""), 6, "7-bit products"),
        (change('id="a1" x="s1a" y="s1a"', 'id="a1" x="s1a" y="s2a"'), 6, "give each of them its chip and ccc"),
        (
            change('id="a1" x="s1a" y="s1a"', 'id="a1" chip="2" x="s1a" y="s2a"').replace('id="p1"', 'id="p1" chip="1"', 1),
            6, "give each of them its chip and ccc",
        ),
        (change('stn="2" name="ea02"', 'stn="1" name="ea02"'), 11, "is there twice"),
        (change('stn="2" name="ea02"', 'stn="3" name="ea02"'), 18, "station 2 of p1 is no ant of sa0"),
        (change('cross="RR"', 'cross="RR RR"'), 12, "lists a polarisation twice"),
        (change('cross="RR"', 'cross="QQ"'), 12, "a sw has id, swbb"),
        (change('pol="RR"/>\n   <p id="a1"', 'pol="LL"/>\n   <p id="a1"'), 18, "is none of cross='RR' of window w1"),
        (change('map sw="w1"', 'map sw="w2"'), 17, "sw='w2' is no window"),
        (change('pipe="P0"', 'pipe="P9"'), 17, "pipe='P9' is no pipe"),
        (change('p id="a1"', 'p id="p9"'), 19, "id='p9' is no product"),
        (change('p id="a1"', 'p id="p1"'), 19, "product p1 is mapped twice"),
        (change('nchan="64"', 'nchan="32"'), 18, "gives 64 channels with pipe P0, window w1 has nchan=32; write nchan='64'"),
        (change("! fft ! bdf", "! bdf"), 18, "gives 128 channels"),
        (change("! fft ! bdf", "! fft ! boxcar span=3 ! bdf"), 18, "span=3 of pipe P0 does not divide 64"),
        (change("! fft ! bdf", "! ffft ! bdf"), 16, "pipe P0: position"),
        (change('cross="RR"', 'cross="RR RL LL"'), 17, "the files of sa0, which pipe P0 writes, cannot be: window 'AC_8BIT' 1"),
        (change('sd="RR"', 'sd="RR RL LR"'), 17, "of three auto products one is mixed"),
        (change('swbb="AC_8BIT"', 'swbb="AC-8"'), 17, "a baseband is 1-32 letters"),
        (change('sd="RR"/>', 'sd="RR" nbin="2"/>'), 18, "has bins=1, window w1 nbin=2"),
        (change('dump="100000"', 'dump="0.0001"'), 2, "no whole number of nanoseconds"),
        (change("</sub>", '<sub id="sb"/></sub>'), 13, "a sub has id"),
        (change(' name="x"', ' name="../x"'), 1, "config has inputConfig"),
        (change('name="x" version="1"', 'name="x" version="2"'), 1, "version='1'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(document: str, line: int, words: str) -> None:
    """Duplicate ids, unknown references, impossible shapes, a product mapped twice: the line, and what would be right."""
    with pytest.raises(Refused) as refused:
        parse_configuration(document, "c1")
    text = str(refused.value)
    assert f"configuration c1, line {line}:" in text and words in text, text


def two_pipes(second: str) -> str:
    """The document with its auto product in a window of its own, through a second pipe."""
    window = '<sw id="w2" swbb="AC_8BIT" sw="2" nchan="64" bw="64e6" sb="U" cross="RR" sd="RR"/>'
    parts = {
        "  </sub>": f"   {window}\n  </sub>",
        "  <map ": f'  <pipe id="P1" desc="{second}"/>\n  <map ',
        '   <p id="a1" pol="RR"/>\n': "",
        " </pipelineConfig>": '  <map sw="w2" pipe="P1"><p id="a1" pol="RR"/></map>\n </pipelineConfig>',
    }
    document = DOCUMENT
    for old, new in parts.items():
        document = document.replace(old, new)
    return document


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("flag ! integrate n=4 ! dvnorm ! fft ! bdf", "integrates 4 dumps, P0 5"),
        ("flag ! dvnorm ! fft ! bdf", "integrates 1 dumps, P0 5"),
        ("flag ! integrate n=5 ! dvnorm ! bdf", "spectra or lags"),
    ],
)
def test_pipes_that_write_one_file_agree(second: str, words: str) -> None:
    """A file has one length of integrations, and spectra or lags: refused when made, not when a scan is recorded."""
    with pytest.raises(Refused, match=words) as refused:
        parse_configuration(two_pipes(second))
    assert "line 22:" in str(refused.value)
    for other in ("flag ! dvnorm ! fft ! integrate n=5 ! accnorm ! bdf", "flag ! integrate n=4 ! dvnorm ! fft ! null"):
        assert len(parse_configuration(two_pipes(other)).pipes) == 2, (
            "the order of steps may differ; null writes nothing"
        )


@pytest.mark.parametrize("pipe", ["P0", "P1"])
def test_polarisations_of_a_baseline_go_together(pipe: str) -> None:
    """What one map writes of a baseline another would overwrite, in one pipeline or two: refused."""
    parts = {
        'cross="RR"': 'cross="RR LL"',
        '  <strm id="s2a"': '  <strm id="s1b" stn="1" bb="1" sb="3"/>\n  <strm id="s2b" stn="2" bb="1" sb="3"/>\n  <strm id="s2a"',
        '  <product4 id="a1"': '  <product4 id="q1" x="s1b" y="s2b" lags="128"/>\n  <product4 id="a1"',
        "  <map ": '  <pipe id="P1" desc="flag ! integrate n=5 ! dvnorm ! fft ! bdf"/>\n  <map ',
        " </pipelineConfig>": f'  <map sw="w1" pipe="{pipe}"><p id="q1" pol="LL"/></map>\n </pipelineConfig>',
    }
    document = DOCUMENT
    for old, new in parts.items():
        document = document.replace(old, new)
    with pytest.raises(Refused, match=r"line 25: q1: other polarisations of stations 1 and 2 of w1 are in another map"):
        parse_configuration(document)
    assert len(parse_configuration(document.replace("dvnorm ! fft ! bdf", "dvnorm ! fft ! null", 1)).mappings) == 2


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE config [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + DOCUMENT,
        '<!DOCTYPE config SYSTEM "http://127.0.0.1:1/x.dtd">' + DOCUMENT,
        DOCUMENT.replace("</config>", ""),
        DOCUMENT.replace("config", "konfig"),
        "",
        DOCUMENT.encode("utf-16"),
        "<config>" * 300,
    ],
)
def test_hostile_documents_are_refused(document: str | bytes) -> None:
    """Entities, document types, broken and deep XML, another encoding: refused, and nothing is fetched."""
    with pytest.raises(Refused):
        parse_configuration(document)


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Valid configurations of mixed shapes."""
    stations = draw(st.lists(st.integers(1, 255), min_size=1, max_size=4, unique=True).map(sorted))
    antennas = tuple(Antenna(station, f"ea{station:02d}") for station in stations)
    streams, products, windows, pipes, mappings = [], [], [], [], []
    for number in range(draw(st.integers(0, 3))):
        half, frames = draw(st.booleans()), draw(st.sampled_from([1, 2, 16]))
        recirculation, bins = draw(st.sampled_from([1, 4])), draw(st.integers(1, 3))
        lags, span = (64 if half else 128) * frames * recirculation, draw(st.sampled_from([1, 2, 8]))
        own = [Stream(f"s{number}.{station}", station, number, number) for station in stations]
        streams += own
        made = [
            Product(f"p{number}.{x.station}.{y.station}", x, y, lags, frames, recirculation, bins, half=half)
            for index, y in enumerate(own)
            for x in own[: index + 1]
        ]
        products += [replace(item, chip=number) if draw(st.booleans()) else item for item in made]
        centre = draw(st.sampled_from([0.0, 1.0 / 3 * 1e9]))
        window = Window(
            f"w{number}", "AC_8BIT", number + 1, lags // 2 // span, 64e6 / 3, "L", ("RR",), ("RR",), bins, centre
        )
        windows.append(window)
        pipes.append(Pipe(f"P{number}", f"flag ! integrate n=2 ! dvnorm ! fft ! boxcar span={span} ! bdf"))
        mappings.append(Mapping(window.name, pipes[-1].name, tuple(Assignment(item.name, "RR") for item in made)))
    subarrays = (Subarray("sa0", draw(st.sampled_from(["", "c.2"])), antennas, tuple(windows)),)
    return Configuration(
        draw(st.sampled_from(["", "c1"])), draw(st.integers(0, 10**10)), tuple(streams), tuple(products), subarrays,
        tuple(pipes), tuple(mappings),
    )  # fmt: skip


@given(configurations())
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_back(configuration: Configuration) -> None:
    """A configuration and its document say the same, whatever the shapes."""
    assert parse_configuration(write_configuration(configuration)) == configuration


def test_the_example_of_the_page_is_a_document() -> None:
    """What the documentation shows is read without complaint."""
    page = (REPOSITORY / "docs/configuration-documents.rst").read_text(encoding="utf-8")
    block = page.split(".. code-block:: xml\n", 1)[1].split("\nWhat comes in", 1)[0]
    assert [pipe.name for pipe in parse_configuration(textwrap.dedent(block).strip()).pipes] == ["P0"]
