"""``socs-bl correlator``: configurations from VCI documents, checked, with what is wrong in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from socs_bl.cli.main import main
from tests.correlator.test_vci import document, subband


def test_from_vci_to_a_checked_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is made of a VCI document passes the check, and the check says what is in it."""
    vci, made = tmp_path / "vci.xml", tmp_path / "made.xml"
    vci.write_text(document(subband(0), subband(1), listed=""))
    options = ["--stations", "1=ea01,2=ea02", "--edges", "AC_8BIT=1e9", "--share", "--name", "k_band"]
    assert main(["correlator", "configuration", str(vci), *options]) == 0
    made.write_text(capsys.readouterr().out)
    assert 'centre="1032000000.0"' in made.read_text()
    assert main(["correlator", "check", str(made)]) == 0
    said = capsys.readouterr().out
    assert "20 products, dump 1000000000 ns" in said and "2 antennas, 2 windows" in said
    assert "pipeline P0: 2 windows, 20 frames" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "{0}/none.xml"], "cannot be read"),
        (["check", "{0}/vci.xml"], "line 1: Expecting element config"),
        (["configuration", "{0}/vci.xml", "--edges", "AC"], "write AC_8BIT=1e9"),
        (["configuration", "{0}/vci.xml", "--stations", "one"], "write 1=ea01,2=ea02"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """A sentence on the error output, and an exit status other than 0."""
    (tmp_path / "vci.xml").write_text(document(subband(0)))
    assert main(["correlator", *(text.format(tmp_path) for text in arguments)]) == 1
    assert words in " ".join(capsys.readouterr().err.split())
