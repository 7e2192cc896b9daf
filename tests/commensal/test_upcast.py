"""Journals of the first version of the room are read by today's. They were written by its code, and trimmed twice."""

from __future__ import annotations

from pathlib import Path

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.model import Duty
from socs_bl.core.archive import read_archive, replay
from socs_bl.core.driver import restored
from tests.commensal.bench import CODEC

SCHEMA_1 = Path(__file__).parent / "schema_1"


def test_a_recording_of_schema_1_replays() -> None:
    """Subscribe, record and the first result: today's machine answers as the record says, save the saved keys."""
    base, entries = read_archive(SCHEMA_1 / "recorded.jsonl")
    machine = replay(CommensalMachine, CODEC, base, entries)
    machine.check()
    (run,) = (cell.run for cell in machine.instances() if cell.duty is Duty.PROCESSING)
    found = machine.run(run)
    assert found is not None and (found.counts, found.hits, machine.pending(found)) == ({"1": 1}, 2, ("blpn64/1",))


def test_a_search_of_schema_1_goes_on() -> None:
    """A state that was stored while a run was processed is taken over, and what came after it replays."""
    base, entries = read_archive(SCHEMA_1 / "processed.jsonl")
    machine = restored(CommensalMachine, CODEC, base)
    machine.check()
    (run,) = machine.index.working
    found = machine.run(run)
    assert found is not None and (found.counts, found.hits) == ({"1": 1}, 2)
    after = replay(CommensalMachine, CODEC, base, entries)
    assert after.ledger().completed == 1 and {cell.duty for cell in after.instances()} == {Duty.FREE}
