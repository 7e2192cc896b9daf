"""The hit list as other people's tools read it, and that it appears whole or not at all."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.capture.guppi import Header
from socs_bl.core.errors import Refused
from socs_bl.search.dat import format_dat, read_dat, write_dat
from socs_bl.search.engine import SEARCHED, Hit, SearchResult
from socs_bl.search.voltages import Band

HEADER = Header(
    {"SRC_NAME": "J0408-65", "RA_STR": "04:08:20.4", "DEC_STR": "-65:45:09.1", "STT_IMJD": 61000, "STT_SMJD": 43200,
     "STT_OFFS": 0.5}
)  # fmt: skip
HIT = Hit(1400.0039900031, 1.499473, 288.661194, 1400.0040191771, 12278, 3)
RESULT = SearchResult(
    SEARCHED, (HIT, replace(HIT, drift_hz_s=-0.5, snr=11.0)), HEADER, Band(1400.0, 4000.0, 4, 4096), 19, 1.024, 19.968,
    0.0, (), "", (),
)  # fmt: skip


def test_the_text_is_what_turbo_seti_s_reader_takes_apart(tmp_path: Path) -> None:
    """Line and column numbers, separators and labels are those that `find_event.read_dat` of turbo_seti relies on."""
    lines = format_dat(RESULT, 4.0, "a.0000.raw").splitlines()
    assert lines[1].strip().split(":")[-1].strip() == "a.0000.raw"
    assert lines[3].strip().split(":")[-1].strip() == "J0408-65"
    where = lines[4].strip().split("\t")
    assert float(where[0].split(":")[-1]) == pytest.approx(61000.5 + 0.5 / 86400, abs=1e-11)
    assert [field.split(":")[-1].strip() for field in where[1:]] == ["04h08m20.4s", "-65d45m09.1s"]
    assert where[1].startswith("RA:") and where[2].startswith("DEC:")
    step = lines[5].strip().split("\t")
    assert [float(part.split(":")[-1]) for part in step] == pytest.approx([1.024, 0.976562, 4.0, 19.456], abs=1e-6)
    assert lines[5].startswith("# DELTAT:") and step[1].startswith("DELTAF(Hz):")
    assert all(line.startswith("#") for line in lines[:9]) and len(lines) == 11
    hit = lines[9].strip().split("\t")
    assert len(hit) == 12
    assert (int(hit[0]), int(hit[5]), int(hit[10]), int(hit[11])) == (1, 12278, 3, 1)
    assert [float(value) for value in hit[1:5]] == pytest.approx(
        [1.499473, 288.661194, HIT.frequency_mhz, HIT.frequency_mhz]
    )
    assert abs(float(hit[3]) - HIT.frequency_mhz) * 1e6 < 0.001


HITS = st.builds(
    Hit,
    frequency_mhz=st.floats(100, 20000),
    drift_hz_s=st.floats(-100, 100),
    snr=st.floats(5, 1e7),
    end_frequency_mhz=st.floats(100, 20000),
    fine_channel=st.integers(0, 2**40),
    coarse_channel=st.integers(0, 4096),
)


@given(st.lists(HITS, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, hits: list[Hit]) -> None:
    """Frequencies to a millihertz, drift and S/N to the sixth decimal, everything else exactly."""
    path = tmp_path_factory.mktemp("dat") / "a.dat"
    write_dat(path, replace(RESULT, hits=tuple(hits)), 4.0, "a.0000.raw")
    read = read_dat(path)
    assert (read.file_id, read.source, read.spectrum_s) == ("a.0000.raw", "J0408-65", 1.024)
    assert len(read.hits) == len(hits)
    for ours, theirs in zip(hits, read.hits, strict=True):
        assert abs(ours.frequency_mhz - theirs.frequency_mhz) < 1e-9 + 1e-15 * ours.frequency_mhz
        assert abs(ours.end_frequency_mhz - theirs.end_frequency_mhz) < 1e-9
        assert abs(ours.drift_hz_s - theirs.drift_hz_s) < 1e-6
        assert abs(ours.snr - theirs.snr) < 1e-6
        assert (ours.fine_channel, ours.coarse_channel) == (theirs.fine_channel, theirs.coarse_channel)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """A full disk changes nothing: the list of before stays, no half file appears."""
    path = tmp_path / "a.dat"
    write_dat(path, RESULT, 4.0, "a.0000.raw")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space"):
        write_dat(path, replace(RESULT, hits=()), 4.0, "a.0000.raw")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.dat"]


@pytest.mark.parametrize("text", ["", "# only\n# a\n# few\n# lines\n", "x" * 3000, "é"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """Reading something else says which file, and never gives half a list."""
    path = tmp_path / "a.dat"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=r"a\.dat"):
        read_dat(path)


def test_a_cut_off_list_is_refused(tmp_path: Path) -> None:
    """A list that ends in the middle of a hit is not taken for a shorter list."""
    path = tmp_path / "a.dat"
    path.write_text(format_dat(RESULT, 4.0, "a.0000.raw")[:-60], encoding="ascii")
    with pytest.raises(Refused, match="not a complete hit list"):
        read_dat(path)
