"""The machine of the executor's listener: where scans begin and end, and what nodes are told."""

from __future__ import annotations

import pytest

from socs_bl.bdf.scan import ScanAntenna
from socs_bl.correlator.observation.machine import MOST_DATASETS, MOST_TABLES
from socs_bl.correlator.observation.model import AntennasHeard, AntennaTable, CloseAsked, Record, StopRecording
from tests.correlator.observation.bench import NODES, SECOND, START, Bench, finish, observation, window


def windows(bench: Bench) -> list[tuple[str, int, int]]:
    """What both nodes know, which is the same."""
    first, second = (bench.nodes.windows(node) for node in NODES)
    assert first == second
    return first


def test_one_recording_a_scan_from_start_to_start() -> None:
    """A document opens, the next closes at its start and opens; FINISH, also twice, only closes."""
    bench = Bench()
    bench.hear(observation(10, 1))
    bench.settle()
    assert windows(bench) == [window(10, 0)]
    bench.hear(observation(40, 2), observation(70, 2, 2))
    bench.later(75)
    assert windows(bench) == [window(10, 40), window(40, 70), window(70, 0)]
    bench.hear(finish(100), finish(100), finish(101))
    bench.later(120)
    assert windows(bench) == [window(10, 40), window(40, 70), window(70, 100)]
    assert not bench.machine.recordings() and not bench.machine.outstanding and not bench.machine.timers
    ledger = bench.machine.ledger
    assert (ledger.opened, ledger.closed, ledger.repeated) == (3, 3, 1)
    assert [(past.scan, past.subscan) for past in bench.machine.history.scans] == [(1, 1), (2, 1), (2, 2)]


def test_what_a_scan_says() -> None:
    """The fields of the document, the antennas of its dataset, a uid of the event's time, all nodes."""
    bench = Bench()
    antennas = (ScanAntenna("ea01", 1, "W04", 1.0, 2.0, 3.0), ScanAntenna("ea02", 7, "E01"))
    bench.say(AntennasHeard(table=AntennaTable(dataset_id="eb", antennas=antennas)))
    bench.say(AntennasHeard(table=AntennaTable(dataset_id="other")))
    intents = ('ScanIntent="OBSERVE_TARGET"', 'ObserverName="A. Person"', "ProjectID=TST1")
    bench.hear(observation(10, 3, 2, ra=1.5, dec=-0.5, intents=intents))
    record = next(effect for effect in bench.to_do.values() if isinstance(effect, Record))
    scan = record.scan
    assert (scan.scan, scan.subscan, scan.project_path, scan.config_id) == (3, 2, "0/3/2/", "eb.2")
    assert (scan.source, scan.ra, scan.dec, scan.intents) == ("3C3", 1.5, -0.5, intents)
    assert (scan.observer, scan.project) == ("A. Person", "TST1")
    assert scan.antennas == antennas and scan.nodes == NODES and scan.stop_ns == 0
    assert 0 <= int(scan.uid.rpartition("/")[2]) - START * 1000 < 5
    assert scan.exec_block.startswith("uid:///evla/execblock/")


@pytest.mark.parametrize(
    "quiet",
    [
        {"correlator": "dbe"},
        {"intents": ("SuppressData=True",)},
        {"intents": ('suppress_data="true"',)},
        {"source": "FINISH"},
    ],
)
def test_what_asks_for_no_data_ends_and_opens_nothing(quiet: dict[str, object]) -> None:
    """Another correlator's scan, a suppressed one and FINISH end the scan before them, and have no file."""
    bench = Bench()
    bench.hear(observation(10), observation(20, 2, **quiet))
    bench.later(30)
    assert windows(bench) == [window(10, 20)]
    bench.hear(observation(50, 3))
    bench.later(60)
    assert windows(bench) == [window(10, 20), window(50, 0)]


def test_repeated_documents_change_nothing() -> None:
    """The same content again, with the same number or a new one, before and after its start."""
    bench = Bench()
    bench.hear(observation(10, sequence=1), observation(10, sequence=1), observation(40, 2))
    bench.later(50)
    cells = {key: cell for key, cell in bench.machine.cells.items() if key.startswith("recording/")}
    bench.hear(observation(10, sequence=7), observation(40, 2), observation(40, 2, sequence=3))
    assert {key: cell for key, cell in bench.machine.cells.items() if key.startswith("recording/")} == cells
    assert bench.machine.ledger.repeated == 4 and bench.machine.ledger.opened == 2 and not bench.to_do


def test_out_of_order_documents_cut_where_they_belong() -> None:
    """A document that others have overtaken cuts the scan it belongs into, told and settled already or not."""
    bench = Bench()
    bench.hear(observation(10), observation(100, 3))
    bench.later(5)
    assert windows(bench) == [window(10, 100), window(100, 0)]
    bench.hear(observation(60, 2))
    bench.later(6)
    assert windows(bench) == [window(10, 60), window(60, 100), window(100, 0)]
    bench.later(70)  # the first is over, and forgotten; the second goes on and can still be cut
    bench.hear(observation(80, 2, 2))
    bench.later(71)
    assert windows(bench) == [window(10, 60), window(60, 80), window(80, 100), window(100, 0)]
    assert bench.machine.ledger.outdated == 0


def test_outdated_documents_are_told_and_not_acted_on() -> None:
    """What describes a time that is over, or would change what has begun, is counted; a person reads of it."""
    bench = Bench()
    bench.hear(observation(10), observation(20, 2))
    bench.later(25)
    bench.hear(observation(15, 7), observation(20, 3), observation(10, 4))
    bench.later(26)
    assert windows(bench) == [window(10, 20), window(20, 0)]
    assert bench.machine.ledger.outdated == 3 and len(bench.told("warning")) == 3


def test_a_correction_replaces_what_has_not_begun() -> None:
    """Of two documents with one start the later one counts, the first is left with nothing; its repetition is nothing."""
    bench = Bench()
    bench.hear(observation(10), observation(20, 2, sequence=5), observation(20, 3, sequence=6))
    bench.hear(observation(20, 2, sequence=5), observation(20, 9, sequence=4))
    bench.later(19)
    assert windows(bench) == [window(10, 20), window(20, 0)]
    open_scan = bench.machine.open_scan("eb")
    assert open_scan is not None and open_scan.scan.scan == 3
    assert (bench.machine.ledger.repeated, bench.machine.ledger.outdated) == (1, 1)
    replaced = [uid for (_, uid), stop in bench.nodes.stops.items() if stop == round((START + 20) * SECOND) + 1]
    assert len(replaced) == len(NODES)


def test_a_document_that_comes_late_opens_from_its_start() -> None:
    """The nodes cut by the frames' time, so the window is the document's, however late it comes."""
    bench = Bench()
    bench.later(500)
    bench.hear(observation(10), observation(300, 2))
    bench.later(501)
    assert windows(bench) == [window(10, 300), window(300, 0)]


def test_datasets_do_not_disturb_each_other() -> None:
    """Two subarrays at once, with documents between one another; each closes its own."""
    bench = Bench()
    bench.hear(
        observation(10, dataset="a"), observation(20, dataset="b"), finish(30, "a"), observation(40, 2, dataset="b")
    )
    bench.later(50)
    assert windows(bench) == [window(10, 30, "a"), window(20, 40, "b"), window(40, 0, "b")]
    assert bench.machine.open_scan("a") is None


def test_no_two_uids_are_equal() -> None:
    """Documents of one millisecond, and after the clock has gone back."""
    bench = Bench()
    bench.hear(*(observation(10 * number, number) for number in range(1, 6)))
    bench.now -= 3600.0
    bench.hear(*(observation(10 * number, number) for number in range(6, 9)))
    uids = {effect.scan.uid for effect in bench.to_do.values() if isinstance(effect, Record)}
    assert len(uids) == 8


def test_one_node_that_does_not_answer_holds_up_nobody() -> None:
    """The others have scan and end at once; it is asked with growing pauses, gets the whole window, people are told."""
    bench = Bench()
    bench.nodes.away.add("cbe-02")
    bench.hear(observation(1))
    bench.settle()
    assert bench.nodes.windows("cbe-01") == [window(1, 0)] and bench.nodes.windows("cbe-02") == []
    (name,) = bench.timers
    pauses = []
    for _ in range(6):
        pauses.append(bench.machine.timers[name].duration)
        bench.fire(name)
        bench.settle()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert len(bench.told("warning")) == 1 and "cbe-02" in bench.told("warning")[0]
    bench.hear(observation(90, 2))
    bench.nodes.away.clear()
    bench.later(100)
    assert windows(bench) == [window(1, 90), window(90, 0)]
    assert any("after 7 failures" in text for text in bench.told("info"))


def test_a_node_is_given_up_long_after_the_end() -> None:
    """A node that never came back is not asked for ever; what it lacks is told as an error and counted."""
    bench = Bench(give_up=60.0)
    bench.nodes.away.add("cbe-02")
    bench.hear(observation(1), finish(30))
    bench.later(200)
    assert not bench.timers and not bench.machine.recordings()
    assert bench.machine.ledger.lost == 1 and "cbe-02 was never told" in bench.told("error")[0]


def test_a_restart_forgets_nothing_that_is_open() -> None:
    """Killed with a scan open and orders unanswered: they are repeated, and the end is told after another restart."""
    bench = Bench()
    bench.hear(observation(10))
    bench.restart()
    assert len([effect for effect in bench.to_do.values() if isinstance(effect, Record)]) == len(NODES)
    bench.settle()
    bench.hear(observation(40, 2))
    bench.restart()
    assert any(isinstance(effect, StopRecording) for effect in bench.to_do.values())
    bench.later(50)
    assert windows(bench) == [window(10, 40), window(40, 0)]
    assert bench.replayed().cells == bench.machine.cells


def test_a_node_that_is_not_configured_any_more_is_not_asked() -> None:
    """After a restart with other nodes: the gone one is given up and told, the new one has the next scan."""
    bench = Bench()
    bench.nodes.away.add("cbe-02")
    bench.hear(observation(10))
    bench.settle()
    bench.restart(nodes=["cbe-01", "cbe-03"])
    bench.hear(observation(20, 2))
    bench.settle()
    assert "not configured" in bench.told("error")[0]
    assert bench.nodes.windows("cbe-03") == [window(20, 0)] and bench.nodes.windows("cbe-02") == []


def test_a_person_ends_a_scan() -> None:
    """close_scan ends it now; where nothing is open the refusal names what is, and nothing changes."""
    bench = Bench()
    bench.hear(observation(10), observation(12, dataset="b"))
    bench.later(20)
    refusal = bench.ask(CloseAsked(dataset_id="nobody"))
    assert "'nobody'" in refusal and "b, eb" in refusal
    assert bench.ask(CloseAsked(dataset_id="eb")) == ""
    bench.later(21)
    assert windows(bench) == [window(12, 0, "b"), window(10, 20)]
    bench.hear(observation(30, 2))
    bench.later(31)
    assert windows(bench)[-1] == window(30, 0)


def test_no_timer_is_longer_than_a_day() -> None:
    """A document of the year 2090, which is no error by itself, arms no timer that a reactor cannot wait for."""
    bench = Bench()
    bench.hear(observation(10), observation(2e9, 2), observation(10, 1, dataset="b"))
    bench.later(20)
    assert [timer.duration for timer in bench.machine.timers.values()] == [86400.0]
    bench.hear(observation(30, 3))
    bench.later(40)
    assert windows(bench)[1:3] == [window(10, 30), window(30, 2e9)]


def test_what_is_remembered_is_bounded() -> None:
    """Datasets, cuts and tables of others do not fill the state; with too many open ones people are asked."""
    bench = Bench()
    for number in range(MOST_DATASETS + 5):
        name = f"d{number}"
        bench.say(AntennasHeard(table=AntennaTable(dataset_id=name)))
        bench.hear(observation(1, dataset=name), finish(2, name))
        bench.later(3)
    assert len(bench.machine.datasets()) == MOST_DATASETS
    assert len([key for key in bench.machine.cells if key.startswith("antennas/")]) == MOST_TABLES
    bench.hear(*(observation(10, dataset=f"e{number}") for number in range(MOST_DATASETS + 1)))
    assert bench.machine.ledger.crowded == 1 and "close_scan" in bench.told("error")[-1]
    bench.hear(*(observation(20 + number, 1 + number, dataset="e0") for number in range(60)))
    assert len(bench.machine.cells["dataset/e0"].boundaries) == 16  # type: ignore[attr-defined]
