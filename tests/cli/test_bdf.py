"""``socs-bl bdf``: what it says of a file, its pictures, what it saves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.plot import course
from socs_bl.bdf.writer import BdfWriter, Piece
from socs_bl.cli.bdf import EXIT_DAMAGED
from socs_bl.cli.main import EXIT_FAILED, main
from tests.bdf.bdf_files import FULL, SECOND, check_sdmpy, good_pieces, header, scan_of, window

Output = pytest.CaptureFixture[str]
MADE = header((window(1, 16), window(1, 4, 2, ("RR", "LL"), ("RR",), "BD_8BIT")))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three integrations: whole, one window only, whole; aborted. Baseline 2 turns its phase by channel."""
    pieces = good_pieces(MADE, SECOND * 0.5)
    cross = np.ones((3, 1, 16, 4), np.complex64) * np.exp(2j * np.pi * np.arange(16) / 16)[:, None].astype(np.complex64)
    auto = np.array([1.0, 2.0, 3.0, 4.0], np.float32) * np.ones((3, 1, 16, 4), np.float32)
    first = Piece(0, cross=cross, auto=auto, **{
        field: getattr(pieces[0], field)
        for kind in ("cross", "auto") for field in (f"{kind}_flags", f"{kind}_times", f"{kind}_durations")
    })  # fmt: skip
    with BdfWriter.open(tmp_path / ".private", MADE, scan_of(MADE)) as writer:
        for index in range(3):
            writer.write(index, [first, pieces[1]] if index != 1 else [first])
    finish(writer.path, None, "the dish fell off")
    return writer.path


def test_info(file: Path, capsys: Output) -> None:
    """The header, that it is whole, and of each window its shape, what is flagged, and how much was integrated."""
    assert main(["bdf", "info", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["uid"], found["antennas"], found["mode"]) == (MADE.uid, 3, "CROSS_AND_AUTO")
    assert (found["integrations"], found["first"], found["last"], found["missing"]) == (3, 1, 3, 0)
    assert found["damage"] == "" and found["interval_ns"] == SECOND and found["start"] == "2020-05-31T00:00:00.000Z"
    assert found["aborted"]["reason"] == "the dish fell off" and found["bytes"] == file.stat().st_size
    first, second = found["windows"]
    assert (first["cross_shape"], first["auto_shape"]) == ([3, 1, 16, 4], [3, 1, 16, 4]) and first["cross"] == list(
        FULL
    )
    assert (second["cross_shape"], second["auto_shape"]) == ([3, 2, 4, 2], [3, 2, 4, 1])
    assert (first["cross_flagged"], first["auto_integrated"]) == (0.0, 0.5)
    assert second["cross_flagged"] == pytest.approx(1 / 3) and second["auto_integrated"] == pytest.approx(1 / 3)
    assert main(["bdf", "info", str(file)]) == 0
    said = capsys.readouterr().out
    assert "BD_8BIT-1" in said and "33.33%" in said and "the dish fell off" in said and "whole" in said


def test_a_damaged_file_is_described_and_salvaged(file: Path, tmp_path: Path, capsys: Output) -> None:
    """Its whole integrations are told, where the damage is too, with an exit status of its own; they can be saved."""
    data = file.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(data[: Layout(MADE).offset(2) + 100])
    assert main(["bdf", "info", str(cut), "--json"]) == EXIT_DAMAGED
    found = json.loads(capsys.readouterr().out)
    assert found["integrations"] == 2 and f"{cut}: at byte" in found["damage"]
    assert main(["bdf", "salvage", str(cut), str(tmp_path / "saved")]) == 0
    said = capsys.readouterr().out
    assert "2 integrations, numbers 1 to 2" in said and "skipped 100 bytes" in said and "not closed" in said
    assert main(["bdf", "info", str(tmp_path / "saved")]) == 0
    assert main(["bdf", "salvage", str(cut), str(tmp_path / "saved")]) == EXIT_FAILED
    assert main(["bdf", "info", str(tmp_path / "none")]) == EXIT_FAILED
    assert "cannot be read" in " ".join(capsys.readouterr().err.split())


@pytest.mark.may_leave("descriptors")  # matplotlib keeps its fonts open
def test_plot(file: Path, tmp_path: Path, capsys: Output) -> None:
    """A picture of a baseline and of an antenna; what the file does not have is refused with what it has."""
    picture = tmp_path / "x.png"
    assert main(["bdf", "plot", str(file), str(picture), "--antennas", "2-1", "--product", "LR"]) == 0
    assert imread(picture).shape == (600, 1000, 4)
    assert main(["bdf", "plot", str(file), "--antennas", "2-2", "--window", "BD_8BIT-1", "--bin", "1"]) == 0
    assert file.with_name(file.name + ".png").exists()
    for wrong, said in (
        (["--window", "7"], "it has 2"),
        (["--window", "XX-1"], "AC_8BIT-1, BD_8BIT-1"),
        (["--antennas", "0-3"], "it has 3"),
        (["--antennas", "0"], "0-1"),
        (["--product", "YY"], "'RR'"),
        (["--bin", "1"], "bin 1"),
    ):
        capsys.readouterr()
        assert main(["bdf", "plot", str(file), str(tmp_path / "no.png"), *wrong]) == EXIT_FAILED
        assert said in " ".join(capsys.readouterr().err.split()), wrong
    assert not (tmp_path / "no.png").exists()


def test_what_is_drawn_is_what_is_in_the_file(file: Path) -> None:
    """The turning phase of a baseline, flagged integrations left out, the complex middle one of three auto products."""
    seconds, spectra, title = course(file, 0, (0, 2), "LR", 0)
    assert seconds.tolist() == [0.5, 1.5, 2.5] and "antennas 0 and 2, LR" in title
    assert np.allclose(spectra, np.exp(2j * np.pi * np.arange(16) / 16), atol=1e-6)
    assert np.all(course(file, 0, (1, 1), "RL", 0)[1] == 2 + 3j) and np.all(course(file, 0, (1, 1), "LL", 0)[1] == 4)
    _, other, title = course(file, 1, (0, 1), "", 1)
    assert np.isnan(other[1]).all() and np.isfinite(other[[0, 2]]).all() and title.endswith("RR, bin 1")


def test_a_file_that_is_still_written_can_be_looked_into(tmp_path: Path, capsys: Output) -> None:
    """``NAME.part`` too, and without anything in it."""
    with BdfWriter.open(tmp_path / ".private", MADE, scan_of(MADE)) as writer:
        assert main(["bdf", "info", str(writer.path), "--json"]) == EXIT_DAMAGED
        assert json.loads(capsys.readouterr().out)["integrations"] == 0
        assert main(["bdf", "plot", str(writer.path), str(tmp_path / "no.png")]) == EXIT_FAILED
        writer.write(0, good_pieces(MADE))
        assert main(["bdf", "info", str(writer.path), "--json"]) == EXIT_DAMAGED
        assert json.loads(capsys.readouterr().out)["integrations"] == 1
    finish(writer.path)
    check_sdmpy(writer.path, MADE, [good_pieces(MADE)])
