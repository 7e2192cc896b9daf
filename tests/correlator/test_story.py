"""What a node's journal says in words."""

from __future__ import annotations

from socs_bl.core.clock import iso_utc
from socs_bl.correlator.model import ActivateAsked, CreateAsked, CreateTables, SourceAsked, StopAsked
from socs_bl.correlator.story import NodeTeller
from tests.correlator.plant import pipes, record_asked, wall_ns
from tests.correlator.test_machine import Bench, flowing
from tests.harness.simulation import EPOCH


def standing(bench: Bench, subject: str) -> str:
    return "; ".join(NodeTeller().standing(bench.machine, subject))


def test_how_a_configuration_stands() -> None:
    """What it waits for, its pipelines, and that it is active; no records of the program."""
    bench = flowing()
    assert not bench.ask(CreateAsked(name="b", document="b", pipes=pipes("P0"), autodestroy=True))
    assert standing(bench, "b") == (
        "configuration b is creating, 1 pipelines, destroyed after use; pipeline b/P0 is waiting, 0 restarts"
    )
    assert not bench.ask(ActivateAsked(name="b"))
    bench.settle(CreateTables)
    assert "pipeline b/P0 is starting" in standing(bench, "b")
    assert standing(bench, "b").endswith(
        "becomes active when its pipelines are up and what was asked before it is done"
    )
    bench.settle()
    assert standing(bench, "b").endswith("becomes active with the next frames")
    assert standing(bench, "a").endswith("is active")
    assert standing(bench, "ingest") == "the ingest process is running, 0 restarts; active: a, then b"
    assert standing(bench, "source") == "frames come from udp://239.192.50.1:5000, the flow is on"
    assert standing(bench, "x") == "is not in the present state"


def test_how_a_recording_stands() -> None:
    """Its window, who writes and who has written."""
    bench = flowing()
    asked = record_asked(1, 100.0)
    assert not bench.ask(asked)
    bench.settle()
    said = standing(bench, asked.uid)
    assert "without an end is open: a/P0 writes" in said
    assert not bench.ask(StopAsked(uid=asked.uid, stop_ns=wall_ns(105.0), reason="by hand"))
    assert " to " in standing(bench, asked.uid)


def test_what_was_asked_is_told_in_words() -> None:
    """Times as dates, since people compare them with the schedule; the document of a scan is not told."""
    tell, asked = NodeTeller().event, record_asked(1, 0.0)
    assert tell(asked) == f"a recording of {asked.uid} from {iso_utc(EPOCH)} on was asked for"
    stop = StopAsked(uid=asked.uid, stop_ns=wall_ns(5.0), reason="FINISH")
    assert tell(stop) == f"the end of {asked.uid} at {iso_utc(EPOCH + 5)} was asked for (FINISH)"
    assert tell(StopAsked(uid=asked.uid, stop_ns=0)) == f"the end of {asked.uid} at once was asked for"
    assert tell(SourceAsked(uri="udp://0.0.0.0:1")) == "frames from udp://0.0.0.0:1 were asked for"
