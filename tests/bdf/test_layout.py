"""The bytes of a file, and where its numbers lie."""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import AUTO_ONLY, CROSS_ONLY, Header, Layout, antenna_pair, baseline, sizes_of
from socs_bl.bdf.writer import BdfWriter, Piece
from socs_bl.core.errors import Refused
from tests.bdf.bdf_files import SECOND, good_pieces, header, scan_of, window, write_file

# Worked out by hand from the Binary Data Format: two antennas, one window of one channel, RR, one integration of a second
# that starts on MJD 59000. The pads, which may have any length, are one star each.
GOLDEN_HEAD = b"""MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=MIME_boundary-1
Content-Description: EVLA/CORRELATOR/WIDAR/FULL_RESOLUTION
Content-Location: http://evla.nrao.edu/wcbe/XSDM/evla/bdf/1433189755525

--MIME_boundary-1
Content-Type: text/xml; charset=utf-8
Content-Location: sdmDataHeader.xml
X-interval-ns: 1000000000
X-pad: *

<?xml version="1.0" encoding="utf-8"?>\
<sdmDataHeader xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xl="http://www.w3.org/1999/xlink"\
 xmlns:xv="http://Alma/XVERSION" xmlns="http://Alma/XASDM/sdmbin"\
 xsi:schemaLocation="http://Alma/XASDM/sdmbin http://almaobservatory.org/XML/XASDM/sdmbin/2/sdmDataObject.xsd"\
 xv:schemaVersion="2" xv:revision="1.1.2.1" xv:release="ALMA-6_1_0-B" mainHeaderId="sdmDataHeader"\
 byteOrder="Little_Endian" projectPath="0/3/1/">\
<startTime>5097600000000000000</startTime>\
<dataOID xl:type="locator" xl:href="uid:///evla/bdf/1433189755525" xl:title="EVLA WIDAR correlator visibility data"/>\
<dimensionality axes="TIM">1</dimensionality>\
<execBlock xl:href="uid:///evla/bdf/1433189000000" xl:type="simple"/>\
<numAntenna>2</numAntenna><correlationMode>CROSS_AND_AUTO</correlationMode>\
<spectralResolution>FULL_RESOLUTION</spectralResolution><processorType>CORRELATOR</processorType>\
<dataStruct xsi:type="CrossAndAutoData" apc="AP_UNCORRECTED">\
<baseband name="AC_8BIT"><spectralWindow sw="1" swbb="AC_8BIT" sdPolProducts="RR" crossPolProducts="RR"\
 numSpectralPoint="1" numBin="1" scaleFactor="1.000000" sideband="NOSB"/></baseband>\
<flags size="3" axes="BAL ANT BAB SPW BIN STO"/>\
<actualTimes size="3" axes="BAL ANT BAB SPW BIN STO"/>\
<actualDurations size="3" axes="BAL ANT BAB SPW BIN STO"/>\
<crossData size="2" axes="BAL BAB SPW BIN SPP STO"/>\
<autoData size="2" axes="ANT BAB SPW BIN SPP STO" normalized="false"/>\
</dataStruct></sdmDataHeader>
"""
GOLDEN_INTEGRATION = b"""--MIME_boundary-1
Content-Type: multipart/related; boundary=MIME_boundary-2
Content-Description: data and metadata subset

--MIME_boundary-2
Content-Type: text/xml; charset=utf-8
Content-Location: 0/3/1/1/desc.xml
X-pad: *

<sdmDataSubsetHeader xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xl="http://www.w3.org/1999/xlink"\
 xmlns="http://Alma/XASDM/sdmbin" xsi:type="BinaryCrossAndAutoDataFXF" projectPath="0/3/1/1/">\
<schedulePeriodTime><time>5097600000500000000</time><interval>1000000000</interval></schedulePeriodTime>\
<dataStruct ref="sdmDataHeader"/>\
<flags xl:href="0/3/1/1/flags.bin"/><actualTimes xl:href="0/3/1/1/actualTimes.bin"/>\
<actualDurations xl:href="0/3/1/1/actualDurations.bin"/>\
<crossData xl:href="0/3/1/1/crossData.bin" type="FLOAT32_TYPE"/><autoData xl:href="0/3/1/1/autoData.bin"/>\
</sdmDataSubsetHeader>
--MIME_boundary-2
Content-Type: application/octet-stream
Content-Location: 0/3/1/1/flags.bin

%b
--MIME_boundary-2
Content-Type: application/octet-stream
Content-Location: 0/3/1/1/actualTimes.bin
X-pad: *

%b
--MIME_boundary-2
Content-Type: application/octet-stream
Content-Location: 0/3/1/1/actualDurations.bin
X-pad: *

%b
--MIME_boundary-2
Content-Type: application/octet-stream
Content-Location: 0/3/1/1/crossData.bin
X-pad: *

%b
--MIME_boundary-2
Content-Type: application/octet-stream
Content-Location: 0/3/1/1/autoData.bin
X-pad: *

%b
--MIME_boundary-2--
""" % (
    struct.pack("<3i", 0, 4, 2),
    struct.pack("<3q", 5097600000500000001, 5097600000500000002, 5097600000500000003),
    struct.pack("<3q", 980000000, 970000000, 960000000),
    struct.pack("<2f", 1.5, -2.25),
    struct.pack("<2f", 10.0, 12.5),
)


def test_golden_bytes(tmp_path: Path) -> None:
    """A whole small file is, byte by byte, what the format's description gives when worked out by hand."""
    made = Header(
        "uid:///evla/bdf/1433189755525", "uid:///evla/bdf/1433189000000", "0/3/1/", 59000 * 86400 * SECOND, SECOND, 2,
        (window(1, 1, 1, ("RR",), ("RR",)),),
    )  # fmt: skip
    middle = 5097600000500000000
    piece = Piece(
        0,
        cross=np.full((1, 1, 1, 1), 1.5 - 2.25j, np.complex64),
        auto=np.array([10.0, 12.5], np.float32).reshape(2, 1, 1, 1),
        cross_flags=np.zeros((1, 1, 1), np.int32),
        auto_flags=np.array([4, 2], np.int32).reshape(2, 1, 1),
        cross_times=np.full((1, 1, 1), middle + 1),
        auto_times=np.array([middle + 2, middle + 3]).reshape(2, 1, 1),
        cross_durations=np.full((1, 1, 1), 980000000),
        auto_durations=np.array([970000000, 960000000]).reshape(2, 1, 1),
    )
    path = write_file(tmp_path / ".private", made, [[piece]])
    finish(path)
    written = re.sub(rb"X-pad: \*+\n", b"X-pad: *\n", path.read_bytes())
    assert written == GOLDEN_HEAD + GOLDEN_INTEGRATION + b"--MIME_boundary-1--\n"
    assert path.name == "uid____evla_bdf_1433189755525.part"


def test_sizes_of_the_published_header() -> None:
    """27 antennas, 64 channels, 40 bins, four products: the sizes that a header of the observatory has."""
    sizes = sizes_of(header((window(1, 64, 40),), 27))
    assert {name: size for name, (size, _) in sizes.items()} == {
        "flags": 59400, "actualTimes": 59400, "actualDurations": 59400, "crossData": 7188480, "autoData": 276480,
    }  # fmt: skip


def test_order_of_baselines() -> None:
    """(0,1), (0,2), (1,2), (0,3)...: the order of the format, either way round and back."""
    pairs = [(a1, a2) for a2 in range(30) for a1 in range(a2)]
    assert [baseline(*pair) for pair in pairs] == list(range(len(pairs)))
    assert [antenna_pair(number) for number in range(len(pairs))] == pairs
    assert baseline(5, 2) == baseline(2, 5) == 12
    layout = Layout(header(antennas=3))
    assert layout.baseline(1, 2) == 2
    for pair in ((1, 1), (-1, 2), (0, 3)):
        with pytest.raises(Refused):
            layout.baseline(*pair)


def test_blocks_have_one_length_and_numbers_lie_aligned(tmp_path: Path) -> None:
    """Whatever the integration's number, and with the longest reason: one length, parts on multiples of 64 bytes."""
    layout = Layout(header((window(1, 3, 1, ("RR",), ("RR",)), window(2, 5, 2)), 3))
    lengths = set()
    for index, reason in itertools.product((0, 8, 9, 98, 99, 12_345, 999_999_999), ("", "disk full", "<&>" * 200)):
        pieces = layout.framing.pieces(index, layout.midpoint(index), reason, layout.midpoint(index))
        lengths.add(tuple((offset, len(text)) for offset, text in pieces))
    assert len(lengths) == 1
    for block in range(3):
        assert all((layout.offset(block) + part.offset) % 64 == 0 for part in layout.parts.values())
    made = header((window(channels=1),), 2)
    data = write_file(tmp_path / ".private", made, [good_pieces(made)] * 12).read_bytes()
    starts = [match.start() for match in re.finditer(rb"--MIME_boundary-1\nContent-Type: multipart", data)]
    assert len(starts) == 12 and len({after - before for before, after in itertools.pairwise(starts)}) == 1


def test_rules_that_readers_depend_on(tmp_path: Path) -> None:
    """XML on one line however many windows; LF only; boundaries unquoted; order of fields; no number padded."""
    windows = tuple(window(number, 1, 1, ("RR",), ("RR",)) for number in range(1, 111))
    made = header(windows, 2)
    path = write_file(tmp_path / ".private", made, [good_pieces(made)] * 10)
    finish(path)
    data = path.read_bytes()
    first = Layout(made).parts["flags"].offset + Layout(made).header_bytes
    head = data[:first]
    assert b"\r" not in head and b'"MIME' not in head and data.endswith(b"\n--MIME_boundary-2--\n--MIME_boundary-1--\n")
    lines = head.split(b"\n")
    (xml,) = [line for line in lines if b"<sdmDataHeader" in line]
    assert xml.endswith(b"</sdmDataHeader>") and xml.count(b"<spectralWindow") == 110
    names = [line.partition(b":")[0] for line in lines[:4]]
    assert names == [b"MIME-Version", b"Content-Type", b"Content-Description", b"Content-Location"]
    for match in re.finditer(rb"--MIME_boundary-2\n(.*?)\n\n", data, re.DOTALL):
        fields = [line.partition(b":")[0] for line in match[1].split(b"\n")]
        assert fields[:2] == [b"Content-Type", b"Content-Location"] and len(fields) <= 10
    assert [f"0/1/1/{number}/desc.xml".encode() in data for number in range(1, 11)] == [True] * 10
    assert b"0/1/1/01/" not in data and b"0/1/1/11/" not in data


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"antennas": 1}, "needs 2"),
        ({"antennas": 9999}, "needs 2 to 512"),
        ({"interval_ns": 0}, "positive"),
        ({"uid": "uid:///../x"}, "uid"),
        ({"project_path": "0/1/1"}, "project path"),
        ({"correlation_mode": "BOTH"}, "correlation mode"),
        ({"windows": ()}, "not in order"),
        ({"windows": (window(2), window(1))}, "not in order"),
        ({"windows": (window(1), window(1))}, "not in order"),
        ({"windows": (window(baseband="<x>"),)}, "baseband"),
        ({"windows": (window(channels=0),)}, "channels"),
        ({"windows": (window(cross=("RR", "RL", "LL")),)}, "products"),
        ({"windows": (window(auto=("QQ",)),)}, "products"),
        ({"windows": (window(cross=(), auto=()),)}, "no products"),
        ({"windows": (replace(window(), sideband="U"),)}, "sideband"),
        ({"windows": (window(auto=()),), "correlation_mode": "AUTO_ONLY"}, "no products"),
        ({"windows": (window(cross=()),)}, "no window has cross"),
        ({"windows": (window(auto=()),)}, "no window has auto"),
        ({"title": "two\nlines"}, "printable"),
    ],
)
def test_what_no_reader_would_read_is_not_written(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    """A header that cannot be is refused with a sentence, and no file is made."""
    made = header()
    with pytest.raises(Refused, match=said):
        BdfWriter.open(tmp_path / ".private", replace(made, **wrong), scan_of(made))  # type: ignore[arg-type]
    assert not (tmp_path / ".private").exists()


def test_products_that_the_mode_leaves_out_are_in_no_window() -> None:
    """Headers of one file are equal, whether or not the configuration names products that are not written."""
    assert header(mode=CROSS_ONLY).windows == (window(auto=()),)
    assert header(mode=AUTO_ONLY).windows == (window(cross=()),)
