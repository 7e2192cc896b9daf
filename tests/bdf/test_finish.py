"""Closing files that have grown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyasdm.bdf import BDFReader as PyasdmReader

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import Layout
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import EDGE_NS, unix_ns
from socs_bl.bdf.writer import BdfWriter
from socs_bl.core.errors import Refused
from tests.bdf.bdf_files import (
    SECOND,
    START,
    check_pyasdm,
    check_sdmpy,
    good_pieces,
    header,
    random_pieces,
    scan_of,
    write_file,
)


def test_a_file_is_cut_to_the_scan(tmp_path: Path) -> None:
    """Only integrations wholly inside the window stay, as exactly as dates tell it; to do it again changes nothing."""
    made = header()
    generator = np.random.default_rng(5)
    integrations = [random_pieces(made, generator) for _ in range(6)]
    path = write_file(tmp_path / ".private", made, integrations)
    stop = unix_ns(START) + 5 * SECOND - EDGE_NS - 1
    finished = finish(path, stop)
    assert (finished.integrations, finished.cut, finished.repaired) == (4, 2, 0)
    assert finished.size == path.stat().st_size and finished.stop_ns == START + 4 * SECOND
    data = path.read_bytes()
    assert finish(path, stop).integrations == 4 and path.read_bytes() == data
    check_sdmpy(path, made, integrations[:4])
    check_pyasdm(path, made, integrations[:4])
    assert finish(path, unix_ns(START)).integrations == 0
    other = write_file(tmp_path / "b" / ".private", made, integrations)
    assert finish(other, stop + 1).integrations == 5


def test_an_interrupted_finish_is_done_again(tmp_path: Path) -> None:
    """Killed between cutting and closing, or in the middle of the closing boundary: the next one gives the same file."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)] * 3)
    finish(path, None, "told to")
    data = path.read_bytes()
    for size in (len(data) - 20, len(data) - 7):
        path.write_bytes(data[:size])
        finish(path, None, "told to")
        assert path.read_bytes() == data


def test_why_an_observation_was_aborted_stands_in_its_last_integration(tmp_path: Path) -> None:
    """Both readers find time and reason; the block keeps its length, however long the reason is."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)] * 2)
    size = path.stat().st_size
    reason = "disk <full> & node \N{SNOWMAN} lost\n" * 40
    finish(path, unix_ns(START) + 2 * SECOND, reason)
    assert path.stat().st_size == size + 20
    reader = PyasdmReader()
    reader.open(str(path))
    first, last = reader.getSubset(), reader.getSubset()
    reader.close()
    assert not first["aborted"] and last["aborted"] and last["stopTime"] == START + 2 * SECOND
    assert last["abortReason"].startswith("disk <full> & node ? lost disk") and len(last["abortReason"]) > 100
    with BdfReader(path) as ours:
        assert ours[0].aborted is None and ours[1].aborted == (START + 2 * SECOND, last["abortReason"])
    check_sdmpy(path, made, [good_pieces(made)] * 2)


def test_integrations_that_nobody_wrote_anything_of_go_from_the_end_only(tmp_path: Path) -> None:
    """A gap stays one, flagged; what was only set up when its writer was killed is no integration."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)])
    with BdfWriter.open(path.parent, made, scan_of(made)) as writer:
        writer.write(3, good_pieces(made, 4.0))
        writer.write(5, [])
    finished = finish(path)
    assert (finished.integrations, finished.cut) == (4, 2)
    with BdfReader(path) as reader:
        for index in (1, 2):
            integration = reader[index]
            assert np.all(integration.cross_flags[0] == 1) and np.all(integration.auto_flags[0] == 1)  # type: ignore[index]
            assert not np.any(integration.cross_durations[0]) and not np.any(integration.cross[0])  # type: ignore[index]
            assert np.all(integration.cross_times[0] == integration.time_ns)  # type: ignore[index]
        assert np.all(reader[3].cross[0] == 4.0) and not np.any(reader[3].cross_flags[0])  # type: ignore[index]


def test_what_a_power_cut_leaves_is_repaired(tmp_path: Path) -> None:
    """A block whose texts did not reach the disk, between others that did: it is there again, flagged."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)] * 3)
    layout = Layout(made)
    with open(path, "r+b") as file:
        file.seek(layout.offset(1))
        file.write(bytes(layout.block_bytes))
    finished = finish(path)
    assert (finished.integrations, finished.repaired) == (3, 1)
    with BdfReader(path) as reader:
        assert np.all(reader[1].cross_flags[0] == 1) and np.all(reader[2].cross[0] == 1.0)  # type: ignore[index]


def test_a_file_of_another_program_is_not_finished(tmp_path: Path) -> None:
    """Its blocks would be looked for in the wrong places."""
    made = header()
    path = write_file(tmp_path / ".private", made, [good_pieces(made)])
    path.write_bytes(path.read_bytes().replace(b"X-interval-ns", b"X-interval-xx", 1))
    before = path.read_bytes()
    with pytest.raises(Refused, match="another program"):
        finish(path)
    assert path.read_bytes() == before
    with pytest.raises(Refused, match="No such file"):
        finish(tmp_path / "none")
