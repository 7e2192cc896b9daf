"""What boards and network do wrong is what the input stage counts, frame for frame."""

from __future__ import annotations

from pathlib import Path

from socs_bl.correlator.assembly import Assembler, Assembly, Timing
from socs_bl.correlator.counters import summary
from socs_bl.correlator.plan import make_plan
from socs_bl.correlator.ring import RingWriter
from socs_bl.correlator.vci import parse_vci
from socs_bl.simulators.boards import Boards, BoardsConfig, Command, Restart
from socs_bl.simulators.boards_config import Correlation
from socs_bl.simulators.boards_faults import BoardFaults
from socs_bl.simulators.widar_config import vci_document
from tests.correlator.frames import batch_of

NUMBER = 17_952_336_005  # of a dump of 100 ms
FAULTS = {"lost": 0.05, "duplicated": 0.05, "reordered": 0.05, "corrupted": 0.02, "cut": 0.02, "wrong_clock": 0.02}
BAD, CLEAN = 40, 10  # dumps


def test_every_injected_fault_is_counted_as_what_it_is(tmp_path: Path) -> None:
    """Lost, repeated, late, damaged, short and wrongly timed frames, a silent and a restarted board: counters are exact."""
    config = Correlation.model_validate({"basebands": [{}]})
    configuration = parse_vci(vci_document(config, "some.1"))
    pipe = configuration.pipes[0]
    ring = RingWriter(tmp_path / "ring", make_plan(configuration.pipe_products(pipe.name)), 8)
    assembler = Assembler(Timing())
    assembler.activate(Assembly(configuration, {pipe.name: ring}), NUMBER * config.dump_ns - 1)
    boards = Boards(BoardsConfig(correlation=config, delays_ns=(0.0,) * len(config.stations)))
    # A board that must be known before its clock can be found wrong.
    for dump in range(NUMBER, NUMBER + CLEAN):
        assembler.take(batch_of(frame for frames in boards.dump(dump) for frame in frames))
    boards.tell(Command(faults=BoardFaults(**FAULTS, silent_boards=(3,)), restart=Restart(board=1, dumps=3)))
    for dump in range(NUMBER + CLEAN, NUMBER + CLEAN + BAD):
        assembler.take(batch_of(frame for frames in boards.dump(dump) for frame in frames))
    boards.tell(Command(faults=BoardFaults()))
    for dump in range(NUMBER + CLEAN + BAD, NUMBER + 2 * CLEAN + BAD):
        assembler.take(batch_of(frame for frames in boards.dump(dump) for frame in frames))
    assembler.flush("the end")
    found, did = summary(assembler.counters), boards.counters
    ring.close()
    expected = (2 * CLEAN + BAD) * boards.frames_per_dump
    assert all(did[name] > 10 for name in (*FAULTS, "silent"))
    assert found["frames"] == did["frames"] == expected - did["lost"] - did["silent"] + did["duplicated"]
    assert found["duplicate"] == did["duplicated"]
    assert found["checksum"] == did["corrupted"] and found["short"] == did["cut"]
    assert found["implausible"] == did["wrong_clock"]
    spoilt = sum(did[name] for name in ("lost", "silent", "corrupted", "cut", "wrong_clock"))
    assert found["missing"] == spoilt and found["good"] == expected - spoilt
    assert found["late"] == found["stale"] == found["unknown"] == found["overrun"] == 0
