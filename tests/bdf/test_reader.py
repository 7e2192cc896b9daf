"""Files of others, cut off files and damaged ones."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sdmpy.bdf

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import AUTO_ONLY, CROSS_ONLY, Header, Layout
from socs_bl.bdf.parse import parse_block, parse_opening
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.writer import Piece
from socs_bl.core.errors import Faulty, Refused, SocsError
from tests.bdf.bdf_files import (
    PARTS,
    START,
    flat_part,
    good_pieces,
    header,
    random_pieces,
    window,
    write_file,
)


def finished(directory: Path, made: Header, integrations: list[list[Piece]]) -> Path:
    path = write_file(directory / ".private", made, integrations)
    finish(path)
    return path


def foreign(made: Header, integrations: list[list[Piece]], parts: tuple[str, ...] = PARTS, order: str = "<") -> bytes:
    """A file of another writer: no pads, the header over several lines, blocks of any length, any byte order."""
    xml = Layout(made).framing.head.partition(b"X-pad")[2].partition(b"\n\n")[2].decode().replace("><", ">\n<")
    xml = xml.replace("Little_Endian", "Little_Endian" if order == "<" else "Big_Endian")
    top = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B1\nContent-Description: Correlator\n"
    top += "Content-Location: somewhere\n\n--B1\nContent-Type: text/xml; charset=utf-8\n"
    data = f"{top}Content-Location: sdmDataHeader.xml\n\n{xml}".encode()
    for number, pieces in enumerate(integrations, 1):
        path = f"0/1/1/{number}/"
        listed = "".join(f'<{part} xl:href="{path}{part}.bin" type="FLOAT32_TYPE"/>' for part in parts)
        data += (
            "--B1\nContent-Type: multipart/related; boundary=B2\nContent-Description: data and metadata subset\n\n"
            f"--B2\nContent-Type: text/xml; charset=utf-8\nContent-Location: {path}desc.xml\n\n"
            '<sdmDataSubsetHeader xmlns:xl="http://www.w3.org/1999/xlink" xmlns="http://Alma/XASDM/sdmbin"'
            f' projectPath="{path}"><schedulePeriodTime><time>{START + number}</time><interval>7</interval>'
            f"</schedulePeriodTime>{listed}</sdmDataSubsetHeader>\n"
        ).encode()
        for part in parts:
            numbers = flat_part(made, pieces, part)
            assert numbers is not None
            data += f"--B2\nContent-Type: binary/octet-stream\nContent-Location: {path}{part}.bin\n\n".encode()
            data += numbers.astype(numbers.dtype.newbyteorder(order)).tobytes() + b"\n"
        data += b"--B2--\n"
    return data + b"--B1--\n"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("parts", [PARTS, ("crossData", "autoData"), ("autoData",)])
def test_files_of_other_writers(tmp_path: Path, order: str, parts: tuple[str, ...]) -> None:
    """Parts that the header announces may be missing; no pads; ALMA's content type; both byte orders."""
    made = header((window(1, 4, 2), window(2, 3, 1, ("RR",), ("RR", "LL"))))
    generator = np.random.default_rng(3)
    integrations = [random_pieces(made, generator) for _ in range(11)]
    path = tmp_path / "foreign"
    path.write_bytes(foreign(made, integrations, parts, order))
    with BdfReader(path) as reader:
        assert len(reader) == 11 and reader.header.interval_ns == 7 and reader.header.windows == made.windows
        for index, pieces in enumerate(integrations):
            integration = reader[index]
            assert (integration.time_ns, integration.number, integration.parts) == (START + index + 1, index + 1, parts)
            for piece in pieces:
                assert np.array_equal(integration.auto[piece.window], piece.auto)  # type: ignore[index]
                if "crossData" in parts:
                    assert np.array_equal(integration.cross[piece.window], piece.cross)  # type: ignore[index]
                if "flags" in parts:
                    assert np.array_equal(integration.auto_flags[piece.window], piece.auto_flags)  # type: ignore[index]
            assert (integration.cross is None) == ("crossData" not in parts)
            assert (integration.cross_times is None) == ("actualTimes" not in parts)


def test_a_file_that_sdmpy_wrote(tmp_path: Path) -> None:
    """The one writer of others that there is: cross and auto data only."""
    made = header((window(1, 4),))
    ours = finished(tmp_path, made, [good_pieces(made, 2.5)])
    spws = [sdmpy.bdf.BDFSpectralWindow(None, numBin=1, numSpectralPoint=4, sw=1, swbb="AC_8BIT", npol=4)]
    writer = sdmpy.bdf.BDFWriter(
        str(tmp_path), "theirs", start_mjd=59000, uid=made.uid, num_antenna=3, spws=spws, scan_idx=1, corr_mode="ca"
    )
    writer.write_header()
    with BdfReader(ours) as reader:
        data = {part: reader[0].raw(part).tobytes() for part in ("crossData", "autoData")}
        for number in range(3):
            writer.write_integration(mjd=59000 + number, interval=1.0, data=data)
    writer.close()
    with BdfReader(tmp_path / "theirs") as reader:
        assert len(reader) == 3 and reader[2].time_ns == 59002 * 86400 * 10**9
        assert np.all(reader[2].cross[0] == 2.5) and reader[2].auto[0].shape == (3, 1, 4, 4)  # type: ignore[index]


def test_integer_cross_data_are_scaled(tmp_path: Path) -> None:
    """INT16 and INT32 cross data are divided by the window's scale factor."""
    made = header((window(1, 4, 1, ("RR",), ()),), mode=CROSS_ONLY)
    pieces = good_pieces(made, 3.0)
    data = foreign(made, [pieces], ("crossData",)).replace(b'scaleFactor="1.000000"', b'scaleFactor="2.000000"')
    numbers = flat_part(made, pieces, "crossData")
    assert numbers is not None
    for kind in ("i2", "i4"):
        name = {"i2": b"INT16_TYPE", "i4": b"INT32_TYPE"}[kind]
        swapped = data.replace(numbers.tobytes(), numbers.astype(kind).tobytes()).replace(b"FLOAT32_TYPE", name)
        path = tmp_path / kind
        path.write_bytes(swapped)
        with BdfReader(path) as reader:
            cross = reader[0].cross
            assert cross is not None and cross[0].dtype == np.complex64 and np.all(cross[0] == 1.5)


def test_parts_divided_in_another_way_are_given_raw(tmp_path: Path) -> None:
    """Axes that EVLA does not use: the numbers can be had, a guess at their shape cannot."""
    made = header((window(1, 4, 1, (), ("RR",)),), mode=AUTO_ONLY)
    data = foreign(made, [good_pieces(made)], ("autoData",)).replace(b"ANT BAB SPW BIN SPP STO", b"TIM ANT SPP")
    path = tmp_path / "other"
    path.write_bytes(data)
    with BdfReader(path) as reader:
        assert reader[0].raw("autoData").shape == (12,)
        with pytest.raises(Refused, match="only raw"):
            _ = reader[0].auto
        with pytest.raises(Refused, match="has no crossData"):
            reader[0].raw("crossData")


def test_a_growing_file_is_read_up_to_its_last_whole_integration(tmp_path: Path) -> None:
    """Without its closing boundary a file is refused, unless a part is asked for; `damage` names the byte."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)] * 3)
    size = path.stat().st_size
    with pytest.raises(Faulty, match=f"at byte {size}: the end of the file"):
        BdfReader(path)
    with BdfReader(path, partial=True) as reader:
        assert len(reader) == 3 and f"at byte {size}" in reader.damage
        assert [integration.number for integration in reader] == [1, 2, 3] and reader[-1].number == 3
        with pytest.raises(IndexError):
            reader[3]


def test_an_array_outlives_its_reader(tmp_path: Path) -> None:
    """Arrays that are kept keep the file mapped after `close`; the last one lets it go."""
    made = header()
    path = finished(tmp_path, made, [good_pieces(made, 2.0)])
    with BdfReader(path) as reader:
        kept, raw = reader[0].cross, reader[0].raw("autoData")
    path.unlink()
    assert kept is not None and np.all(kept[0] == 2.0) and np.all(raw == 2.0)
    with pytest.raises(Faulty):
        reader[0]


def test_a_file_with_only_its_header(tmp_path: Path) -> None:
    """Just created: no integrations, and it says so."""
    made = header()
    path = write_file(tmp_path / ".private", made, [])
    with BdfReader(path, partial=True) as reader:
        assert len(reader) == 0 and reader.header == made
    finish(path)
    with BdfReader(path) as reader:
        assert len(reader) == 0 and not reader.damage


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """A file that grows may lose its last block under a reader: what was there when it was opened can be read."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made, 1.0)] * 2)
    with BdfReader(path, partial=True) as reader:
        os.truncate(path, 0)
        assert np.all(reader[1].cross[0] == 1.0)  # type: ignore[index]


def test_the_place_of_a_cut_is_named_wherever_it_is(tmp_path: Path) -> None:
    """Truncated anywhere: the error names the file and a byte that is not beyond its end."""
    made = header((window(1, 2, 1, ("RR",), ("RR",)),), 2)
    data = finished(tmp_path, made, [good_pieces(made)] * 2).read_bytes()
    path = tmp_path / "cut"
    for size in [*range(1, len(data) - 1, 97), len(data) - 2]:
        path.write_bytes(data[:size])
        with pytest.raises((Faulty, Refused)) as caught:
            BdfReader(path)
        said = re.search(r"cut: at byte (\d+): ", str(caught.value))
        assert said is None and size < 13 or said is not None and int(said[1]) <= size


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"MIME-Version", b"Mime_Version", "not a binary data file"),
        (b"sdmDataHeader.xml", b"somethingElse.xml", "first part is not"),
        (b"</sdmDataHeader>", b"</sdmDataHeadex>", "no end"),
        (b"<sdmDataHeader ", b'<!DOCTYPE a [<!ENTITY b "c">]><sdmDataHeader ', "document type"),
        (b"<numAntenna>3<", b"<numAntenna>x<", "'x' is not a number"),
        (b'numSpectralPoint="8"', b'numSpectralPoint="-"', "not a number"),
        (b"CROSS_AND_AUTO</", b"CROSS_XND_AUTO</", "correlation mode"),
        (b"Little_Endian", b"Middle_Endian", "Middle_Endian"),
        (b"<time>", b"<tixe>", "not well-formed"),
        (b"autoData.bin\nX", b"autoDatx.bin\nX", "not announced"),
        (b"application/octet-stream", b"application/octet-strexm", "where numbers are due"),
        (b"FLOAT32_TYPE", b"FLOAT16_TYPE", "FLOAT16_TYPE"),
        (b'projectPath="0/1/1/1/"', b'projectPath="0/2/1/1/"', "does not continue"),
        (b"--MIME_boundary-2--", b"--MIME_boundary-2-x", "not a boundary line"),
        (b'crossData size="', b'crossData size="9999999', "it is cut off here"),
    ],
)
def test_damage_is_named(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    """What is wrong, in words, and where."""
    made = header()
    data = finished(tmp_path, made, [good_pieces(made)]).read_bytes()
    assert old in data
    path = tmp_path / "damaged"
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises((Faulty, Refused), match=said) as caught, BdfReader(path) as reader:
        _ = reader[0].cross
    assert "at byte" in str(caught.value) or said == "not a binary data file"


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    """A sentence instead of a traceback."""
    (tmp_path / "empty").touch()
    for name, said in (("empty", "is empty"), ("missing", "No such file"), (".", "directory")):
        with pytest.raises(Refused, match=said):
            BdfReader(tmp_path / name)


def flip(data: bytes, generator: random.Random, texts: list[tuple[int, int]]) -> bytes:
    first, end = generator.choice(texts)
    place = generator.randrange(first, end)
    return data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, generator: random.Random, texts: list[tuple[int, int]]) -> bytes:
    return data[: generator.randrange(len(data))]


def drop(data: bytes, generator: random.Random, texts: list[tuple[int, int]]) -> bytes:
    place = generator.randrange(len(data))
    return data[:place] + data[place + generator.randrange(1, 300) :]


def digits(data: bytes, generator: random.Random, texts: list[tuple[int, int]]) -> bytes:
    """A number of a text becomes another one, perhaps a huge one."""
    found = generator.choice(list(re.finditer(rb"[0-9]+", data[: texts[1][1]])))
    return data[: found.start()] + str(generator.choice((0, 1, 10**9, 10**18, 10**30))).encode() + data[found.end() :]


def read_all(path: Path, partial: bool) -> None:
    with BdfReader(path, partial) as reader:
        for integration in reader:
            for arrays in (integration.cross, integration.auto_flags, integration.auto):
                for array in arrays or ():
                    assert array.nbytes < path.stat().st_size
                    array.sum()


def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    """Flipped bits in texts, cuts, lost bytes, absurd numbers: an error of ours with the file's name, or arrays that fit.

    One of eight is a file that is read to the end, of the others the texts are parsed.
    """
    made = header((window(1, 2, 1, ("RR",), ("RR",)),), 2)
    path = finished(tmp_path, made, [good_pieces(made)] * 2)
    data = path.read_bytes()
    layout = Layout(made)
    texts = [(0, layout.header_bytes), (layout.header_bytes, layout.header_bytes + layout.parts["flags"].offset)]
    generator = random.Random(11)
    damages: list[Callable[[bytes, random.Random, list[tuple[int, int]]], bytes]] = [flip, flip, cut, drop, digits]
    outcomes = {"read": 0, "refused": 0}
    for turn in range(10_000):
        damaged = generator.choice(damages)(data, generator, texts)
        try:
            if turn % 8:
                opening = parse_opening(damaged, str(path))
                parse_block(damaged, opening.first, opening, str(path))
            else:
                path.write_bytes(damaged)
                read_all(path, partial=bool(turn % 16))
            outcomes["read"] += 1
        except SocsError as error:
            assert str(path) in str(error), error
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 500, outcomes
