"""GUPPI RAW: what is written is read back by us, by blimpy and by baseband, sample by sample."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.capture import guppi
from socs_bl.core.errors import Refused

ANTENNAS, CHANNELS, TIMES, POLS = 2, 4, 512, 2
CARDS: dict[str, guppi.Value] = {
    "BACKEND": "GUPPI",
    "TELESCOP": "MeerKAT",
    "SRC_NAME": "J0835-4510",
    "OBSFREQ": 1400.25,
    "OBSBW": 0.016,
    "CHAN_BW": 0.004,
    "TBIN": 1 / 4000.0,
    "OBSNCHAN": ANTENNAS * CHANNELS,
    "NANTS": ANTENNAS,
    "NPOL": 4,
    "NBITS": 8,
    "DIRECTIO": 1,
    "BLOCSIZE": ANTENNAS * CHANNELS * TIMES * POLS * 2,
    "PKTSIZE": 8192,
    "PKTFMT": "1SFA",
    "OVERLAP": 0,
    "STT_IMJD": 60000,
    "STT_SMJD": 3600,
    "STT_OFFS": 0.5,
}


def write(path: Path, blocks: int = 3, **changes: guppi.Value) -> np.ndarray:
    """Write `blocks` blocks of seeded samples; return them, shape (blocks, antennas, channels, times, pols, 2)."""
    rng = np.random.default_rng(7)
    data = rng.integers(-127, 128, (blocks, ANTENNAS, CHANNELS, TIMES, POLS, 2), dtype=np.int8)
    with open(path, "wb") as file:
        for index in range(blocks):
            file.write(guppi.encode_header({**CARDS, "PKTIDX": 2 * index, **changes}))
            file.write(data[index].tobytes())
    return data


def test_golden_card_bytes() -> None:
    """The cards are the bytes GUPPI writes: name in 8, '= ', numbers to column 30, text quoted; END; zeros to 512."""
    encoded = guppi.encode_header({"PKTIDX": 48, "TBIN": 1e-05, "SRC_NAME": "VELA", "DIRECTIO": 1, "BLOCSIZE": 512})
    lines = [encoded[start : start + 80] for start in range(0, 480, 80)]
    assert lines[0] == b"PKTIDX  =                   48" + b" " * 50
    assert lines[1] == b"TBIN    =              1.0E-05" + b" " * 50
    assert lines[2] == b"SRC_NAME= 'VELA    '" + b" " * 60
    assert lines[5] == b"END" + b" " * 77
    assert encoded[480:] == bytes(32)


def test_own_reader_gives_back_blocks(tmp_path: Path) -> None:
    """Headers, samples and offsets come back; a second file continues the first; data are mapped, not copied."""
    first, second = tmp_path / "r.0000.raw", tmp_path / "r.0001.raw"
    data = write(first)
    write(second, 1, PKTIDX=6)
    blocks = list(guppi.iter_blocks([first, second]))
    assert [block.header.integer("PKTIDX") for block in blocks] == [0, 2, 4, 6]
    assert [block.path for block in blocks] == [first] * 3 + [second]
    assert all(not block.data.flags.writeable and block.data.shape == data.shape[1:] for block in blocks)
    for block, expected in zip(blocks, data, strict=False):
        np.testing.assert_array_equal(block.data, expected)
    assert blocks[0].header.number("TBIN") == 1 / 4000.0
    assert blocks[0].header.text("SRC_NAME") == "J0835-4510"


def test_blimpy_reads_the_same_samples(tmp_path: Path) -> None:
    """blimpy finds every block and the same complex samples."""
    from blimpy.guppi import GuppiRaw

    path = tmp_path / "r.0000.raw"
    data = write(path)
    raw = GuppiRaw(str(path))
    try:
        assert raw.n_blocks == 3
        for expected in data:
            header, samples = raw.read_next_data_block()
            values = expected.astype(np.float32).reshape(ANTENNAS * CHANNELS, TIMES, POLS, 2)
            np.testing.assert_array_equal(samples, values[..., 0] + 1j * values[..., 1])
        assert header["OBSFREQ"] == 1400.25 and header["SRC_NAME"] == "J0835-4510" and header["TBIN"] == 1 / 4000.0
    finally:
        raw.file_obj.close()


def test_baseband_reads_the_same_samples(tmp_path: Path) -> None:
    """baseband reads the whole recording as one stream with the right sample rate and a known tone in it."""
    import baseband.guppi
    from astropy import units as u

    path = tmp_path / "r.0000.raw"
    data = write(path)
    with baseband.guppi.open(str(path), "rs") as stream:
        assert stream.sample_rate.to_value(u.Hz) == pytest.approx(4000.0)
        assert stream.sample_shape == (POLS, ANTENNAS * CHANNELS)
        samples = stream.read()
    values = data.reshape(3, ANTENNAS * CHANNELS, TIMES, POLS, 2).astype(np.float32)
    expected = (values[..., 0] + 1j * values[..., 1]).transpose(0, 2, 3, 1).reshape(-1, POLS, ANTENNAS * CHANNELS)
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("cut", [40, 100, 3000])
def test_cut_off_file_gives_what_precedes_and_names_the_place(tmp_path: Path, cut: int) -> None:
    """A recording interrupted in a header or in its samples yields the whole blocks, then says file and offset."""
    path = tmp_path / "r.0000.raw"
    write(path)
    block_size = path.stat().st_size // 3
    with open(path, "r+b") as file:
        file.truncate(2 * block_size + cut)
    blocks = guppi.iter_blocks([path])
    assert [next(blocks).offset, next(blocks).offset] == [0, block_size]
    with pytest.raises(Refused, match=rf"r\.0000\.raw at byte {2 * block_size}.*"):
        next(blocks)


@pytest.mark.parametrize("junk", [b"\xff" * 4096, b"x" * 4096, b"KEY     = 1".ljust(80) * 600])
def test_junk_is_refused(junk: bytes) -> None:
    """Bytes that are not a header are refused, never read without end."""
    with pytest.raises(Refused, match="not a GUPPI RAW header"):
        guppi.read_header(io.BytesIO(junk))


@pytest.mark.parametrize(
    "changes", [{"NBITS": 4}, {"OBSNCHAN": 7}, {"NPOL": 0}, {"BLOCSIZE": -4}, {"NANTS": "x"}, {"NPOL": 4.5}]
)
def test_impossible_geometry_is_refused(changes: dict[str, guppi.Value]) -> None:
    """A header whose numbers do not fit together is refused before any sample is touched."""
    with pytest.raises(Refused):
        guppi.Header({**CARDS, **changes}).shape()


@pytest.mark.parametrize(
    "cards",
    [
        {"lower": 1},
        {"TOOLONGKEY": 1},
        {"A": "it's"},
        {"A": "x=y"},
        {"A": "x" * 69},
        {"A": "ü"},
        {"A": "a\nb"},
        {"A": float("nan")},
        {"DIRECTIO": 1, "BLOCSIZE": 100},
    ],
)
def test_unwritable_cards_are_refused(cards: dict[str, guppi.Value]) -> None:
    """What some reader could not read back is refused when writing."""
    with pytest.raises(Refused):
        guppi.encode_header(cards)


KEYS = st.from_regex(r"[A-Z][A-Z0-9_]{0,7}", fullmatch=True).filter(lambda key: key not in ("END", "DIRECTIO"))
TEXTS = st.text(st.characters(codec="ascii", exclude_characters="'=", exclude_categories=["Cc"]), max_size=68)
VALUES = TEXTS.map(str.rstrip) | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(KEYS, VALUES, max_size=40), st.sampled_from([0, 1]))
def test_any_header_survives_the_round_trip(cards: dict[str, guppi.Value], direct: int) -> None:
    """Whatever may be written is read back equal, with its type, and the file stands at the first sample."""
    cards = {**cards, "DIRECTIO": direct, "BLOCSIZE": 512}
    encoded = guppi.encode_header(cards)
    file = io.BytesIO(encoded + b"S")
    header = guppi.read_header(file)
    assert header is not None and dict(header) == cards
    assert [type(value) for value in header.values()] == [type(value) for value in cards.values()]
    assert header.nbytes == len(encoded) and file.read() == b"S"
    assert guppi.read_header(file) is None


def test_recordings_are_grouped_by_stem_in_sequence(tmp_path: Path) -> None:
    """Files of a recording come in numeric order even past 9999; other files are left alone."""
    stem = guppi.file_stem(60000, 3600, 48, "VELA", 2)
    for sequence in (10000, 9999, 0):
        (tmp_path / guppi.file_name(stem, sequence)).touch()
    (tmp_path / "other.0000.raw").touch()
    (tmp_path / "notes.raw").touch()
    found = guppi.find_recordings(tmp_path)
    assert list(found) == ["guppi_60000_03600_000048_VELA_0002", "other"]
    assert [path.name.split(".")[1] for path in found[stem]] == ["0000", "9999", "10000"]
    assert guppi.find_recordings(tmp_path / "absent") == {}
