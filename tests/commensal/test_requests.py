"""What operators want, in every state: carried out, or refused with a reason and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from socs_bl.commensal.model import ReadMetadata, RestartPart, StartProcessing
from socs_bl.commensal.requests import WISHES
from tests.commensal.bench import Bench, sensors

PRIMARY = "'SCI-PRIMARY'"


def free() -> Bench:
    return Bench()


def configuring() -> Bench:
    bench = Bench()
    bench.cam("configure")
    return bench


def ready() -> Bench:
    bench = Bench()
    bench.subscribe()
    return bench


def preparing() -> Bench:
    bench = ready()
    bench.cam("tracking")
    return bench


def recording() -> Bench:
    bench = ready()
    bench.record()
    return bench


def processing() -> Bench:
    bench = ready()
    bench.process()
    return bench


def waiting() -> Bench:
    bench = ready()
    bench.record(proposal=PRIMARY)
    bench.fire("start/array_1")
    bench.status()
    bench.fire("record/array_1")
    bench.status(DATADIR="/buf0/x")
    assert bench.states() == ("SUBSCRIBED", "WAITING")
    return bench


def error() -> Bench:
    bench = ready()
    bench.record()
    bench.fire("start/array_1")
    bench.status(DAQSTATE="LISTEN")
    assert bench.states() == ("SUBSCRIBED", "ERROR")
    return bench


STATES: tuple[Callable[[], Bench], ...] = (
    free,
    configuring,
    ready,
    preparing,
    recording,
    processing,
    waiting,
    error,
)
# Which wishes about a subarray, or about blpn64/0 of its two instances, are carried out in which states.
ACCEPTED: dict[str, set[str]] = {
    "subscribe": {"free", "configuring"},
    "unsubscribe": {"configuring", "ready", "preparing", "waiting", "error"},
    "start_recording": {"ready"},
    "stop_recording": {"preparing", "recording"},
    "start_processing": {"processing", "waiting"},
    "reset_array": {"waiting", "error"},
    "fetch_cal": {state.__name__ for state in STATES},
    "request_targets": {"recording", "processing"},
    "release_instance": {"error"},
    "quarantine_instance": {"free", "configuring"},
    "restart_part": {state.__name__ for state in STATES} - {"recording"},
    "drain": {state.__name__ for state in STATES},
    "undrain": set(),
}
OPTIONS: dict[str, dict[str, Any]] = {"restart_part": {"part": "recorder"}}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("what", ACCEPTED)
def test_every_wish_in_every_state(what: str, state: Callable[[], Bench]) -> None:
    """A wish is carried out in just the states it makes sense in; a refusal is a sentence and changes nothing."""
    bench = state()
    about_instance = what in ("release_instance", "quarantine_instance", "restart_part", "drain", "undrain")
    machine = bench.machine
    before = (dict(machine.cells), dict(machine.timers), set(machine.outstanding))
    refusal = bench.ask(what, "blpn64/0" if about_instance else "array_1", **OPTIONS.get(what, {}))
    assert (not refusal) == (state.__name__ in ACCEPTED[what]), refusal
    if refusal:
        assert len(refusal.split()) > 3 and (machine.cells, machine.timers, set(machine.outstanding)) == before


def test_a_wish_about_nothing() -> None:
    """What or who is not there is refused by name, for every wish there is."""
    bench = ready()
    for what in WISHES.keys() - {"set_proposal_rules", "report_completion", "reconcile", "load_state"}:
        for name in ("array_9", "blpn99/0", ""):
            assert name in bench.ask(what, name)
    assert "explode" in bench.ask("explode", "array_1")
    assert "no saved state" in free().ask("load_state", "")


def test_subscribe_with_wishes() -> None:
    """Only the instances named, and no more than wanted; taken or unknown ones are refused by name."""
    bench = Bench()
    assert "blpn99/0" in bench.ask("subscribe", "array_1", instances=["blpn99/0"])
    assert not bench.ask("subscribe", "array_1", instances=["blpn65/1", "blpn65/0"], max_instances=1)
    bench.metadata(sensors(8))
    assert [share.instance for share in bench.array().shares] == ["blpn65/0"]
    assert bench.codes() == ["started", "configuring", "short"]
    assert "blpn65/0 is ready of array_1" in bench.ask("subscribe", "array_2", instances=["blpn65/0"])
    assert not bench.ask("subscribe", "array_2", max_instances=2)
    bench.metadata(sensors(12))
    assert [share.instance for share in bench.array("array_2").shares] == ["blpn64/0", "blpn64/1"]
    bench.cam("deconfigure", "array_2")
    bench.subscribe("array_2", 12)
    assert len(bench.array("array_2").shares) == 3, "a wish holds for one subscription"


def test_instances_must_know_what_to_receive() -> None:
    """Between the claim and the messages to the groups nothing is recorded."""
    bench = Bench()
    bench.ask("subscribe", "array_1")
    bench.metadata()
    assert "not told its instances" in bench.ask("start_recording", "array_1")
    bench.fire("announce/array_1")
    assert not bench.ask("start_recording", "array_1")


def test_unsubscribe_by_force() -> None:
    """Busy subarrays are given up only by force: the recording is closed and searched; restarts are asked for."""
    bench = recording()
    run = bench.array().run
    assert "force" in bench.ask("unsubscribe", "array_1")
    assert not bench.ask("unsubscribe", "array_1", force=True, restart_recorders=True)
    assert bench.states() == ("FREE", "READY") and bench.machine.run(run).closed
    assert [effect.instance for effect in bench.wanted(RestartPart)] == ["blpn64/0", "blpn64/1"]
    assert {effect.part for effect in bench.wanted(RestartPart)} == {"recorder"}
    assert "being restarted already" in bench.ask("restart_part", "blpn64/0", part="gateway", force=True)
    bench.codes()
    bench.fail(bench.wanted(RestartPart)[0], "no circusd")
    assert bench.codes() == ["not-restarted"] and not bench.ask("restart_part", "blpn64/0", part="gateway")


def test_a_recording_as_wished() -> None:
    """Off source, of another target, of a proposal that is skipped, with its own length, lead and quorum."""
    bench = ready()
    bench.messages()
    wish = {"dwell": 7.0, "lead_seconds": 5.0, "target": "Vega, radec, 18:36:56, 38:47:01"}
    assert not bench.ask("start_recording", "array_1", **wish)
    bench.metadata(sensors(proposal="SCI-SKIP", last_track_end="1900000000"))
    bench.status()
    run = bench.machine.run(bench.array().run)
    assert run.ended - run.started == 7.0 and run.target.name == "Vega" and not bench.array().tracking
    assert run.started - bench.now == pytest.approx(5.0, abs=1.1)
    assert ("bluse:array_1-0///set", "DWELL=7") in bench.messages()
    assert bench.machine.timers["record/array_1"].deadline == pytest.approx(run.ended + 10)
    assert "radec" in ready().ask("start_recording", "array_1", target="Vega")


def test_quorum() -> None:
    """With a quorum, a recording waits for packet indices of enough instances, and says who is silent."""
    bench = Bench(min_quorum=0.9, target_tries=2)
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    bench.fire("target/array_1")
    bench.metadata()
    bench.codes()
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    assert bench.states()[1] == "READY" and not bench.to_do
    bench.ask("start_recording", "array_1", min_quorum=0.5)
    bench.metadata()
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    assert bench.states()[1] == "RECORD"


def test_quorum_says_who() -> None:
    """The notification names the quorum and the silent instance."""
    bench = Bench(min_quorum=1.0, target_tries=1)
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    bench.statuses({"blpn64/0": {}, "blpn64/1": None})
    assert "1 of 2" in bench.notices[-1].text and "blpn64/1 silent" in bench.notices[-1].text


def test_stop_recording_stays_on_source() -> None:
    """A stop by hand ends the recording as an early end, and does not make us think the telescope has left."""
    bench = recording()
    assert not bench.ask("stop_recording", "array_1", reason="interference")
    bench.fire("halt/array_1")
    bench.status(DATADIR="/buf0/x")
    assert bench.states()[1] == "PROCESS" and bench.array().tracking
    bench = preparing()
    assert not bench.ask("stop_recording", "array_1", reason="interference")
    assert "interference" in bench.notices[-1].text and not bench.wanted(ReadMetadata)


def test_a_kept_recording_is_searched() -> None:
    """After primary time: reminded, searched when somebody asks, and out of the preserved list; counted as any."""
    bench = waiting()
    run = next(cell.run for key, cell in bench.machine.cells.items() if key == "kept/array_1")
    assert [("LPUSH", f"blpn64/{n}:preserved", run.datadirs[f"blpn64/{n}"]) for n in (0, 1)] == [
        command for command in bench.new_writes() if command[1].endswith(":preserved")
    ]
    bench.codes()
    bench.fire("remind/array_1")
    bench.fire("remind/array_1")
    assert bench.codes() == ["waiting", "waiting"]
    assert not bench.ask("start_processing", "array_1")
    lists = [command[:2] for command in bench.new_writes() if command[0] in ("LREM", "LPUSH")]
    assert ("LREM", "blpn64/0:preserved") in lists and ("LPUSH", "blpn64/0:unprocessed") in lists
    assert {asked.instance for asked in bench.wanted(StartProcessing)} == {"blpn64/0", "blpn64/1"}
    assert "remind/array_1" not in bench.timers
    for name in run.instances:
        bench.result(name)
    assert bench.states()[1] == "READY" and bench.machine.ledger().completed == 1


@pytest.mark.parametrize("keep_raw", [True, False])
def test_reset_out_of_waiting(keep_raw: bool) -> None:
    """The kept recording stays preserved unless people say that it need not be; nothing reminds any more."""
    bench = waiting()
    bench.new_writes()
    assert not bench.ask("reset_array", "array_1", keep_raw=keep_raw)
    unpreserved = [command[1] for command in bench.new_writes() if command[0] == "LREM"]
    assert unpreserved == ([] if keep_raw else ["blpn64/0:preserved", "blpn64/1:preserved"])
    assert bench.states() == ("SUBSCRIBED", "READY") and not bench.timers and "kept/array_1" not in bench.machine.cells


def test_reset_and_release() -> None:
    """One wish leads out of ERROR and gives the instances back."""
    bench = error()
    assert not bench.ask("reset_array", "array_1", release=True)
    assert bench.states() == ("FREE", "READY") and not bench.array().shares


def test_a_subarray_made_to_wait() -> None:
    """In WAITING by an operator nothing is recorded; a reset leads out, and a restart keeps both."""
    bench = ready()
    assert not bench.ask("reset_array", "array_1", to_state="WAITING")
    bench.restart()
    bench.cam("tracking")
    assert bench.states() == ("SUBSCRIBED", "WAITING") and not bench.wanted(ReadMetadata)
    assert "WAITING" in bench.ask("start_recording", "array_1")
    assert not bench.ask("reset_array", "array_1")
    assert bench.states() == ("SUBSCRIBED", "READY")


@pytest.mark.parametrize("again", [True, False])
def test_recording_again(again: bool) -> None:
    """Ready while still on source: the original waits for the next ``tracking``; with `record_again` it records on."""
    bench = Bench(record_again=again)
    bench.subscribe()
    bench.process()
    bench.result("blpn64/0")
    bench.result("blpn64/1")
    assert bench.states()[1] == "READY" and bool(bench.wanted(ReadMetadata)) == again


def test_proposal_rules() -> None:
    """Rules set while running hold for the next recording and over a restart; what is not given stays."""
    bench = ready()
    assert not bench.ask("set_proposal_rules", skip_ids=["EXT-1"])
    assert bench.machine.rules().primary == ("SCI-PRIMARY",)
    bench.restart()
    bench.cam("tracking")
    bench.metadata()
    assert bench.notices[-1].code == "skipped" and bench.states()[1] == "READY"
    assert "EXT-1" in bench.ask("set_proposal_rules", primary_ids=["EXT-1"])
    assert not bench.ask("set_proposal_rules", primary_ids=["EXT-1"], skip_ids=[])
    bench.record()
    assert bench.machine.run(bench.array().run).primary


@pytest.mark.parametrize(
    ("policy", "quarantined", "state"),
    [("quarantine", ["blpn64/0"], "READY"), ("continue", [], "READY"), ("wait", [], "WAITING")],
)
def test_bad_codes_by_policy(policy: str, quarantined: list[str], state: str) -> None:
    """`on_error` says what becomes of an instance that returns a bad code."""
    bench = Bench(on_error=policy)
    bench.subscribe()
    bench.process()
    bench.result("blpn64/0", code=2)
    bench.result("blpn64/1")
    assert (bench.quarantined(), bench.states()[1]) == (quarantined, state)


@pytest.mark.parametrize(("most", "state"), [(None, "READY"), (1, "READY"), (0, "ERROR")])
def test_too_many_bad_instances(most: int | None, state: str) -> None:
    """`max_bad_instances` says from how many on the subarray stops."""
    bench = Bench(max_bad_instances=most)
    bench.subscribe()
    bench.process()
    bench.result("blpn64/0", code=2)
    bench.result("blpn64/1")
    assert bench.states()[1] == state


def test_targets_and_completion() -> None:
    """Both are told to the target selector as the original and its analyzers do."""
    bench = recording()
    asked = [text for channel, text in bench.messages() if channel == "target-selector:pointings"]
    assert not bench.ask("request_targets", "array_1")
    assert [text for channel, text in bench.messages() if channel == "target-selector:pointings"] == asked
    fields = {"nsegs": 1, "band": "l", "t": 290.0, "nants": 4, "obsid": bench.array().run, "nbeams": 64}
    assert not bench.ask("report_completion", **fields)
    ((channel, text),) = bench.messages()
    assert channel == "target-selector:processing" and text.startswith('UPDATE:{"nsegs": 1, "band": "l", "t": 290.0')


def test_a_saved_state_is_loaded() -> None:
    """The original's keys become ours only while all is free, and the journal replays to the same."""
    keys = {
        "free_instances": '["blpn65/1"]',
        "array_2:freesub_state": "FREE",
        "array_2:state": '{"recproc_state": "WAITING", "subscribed": [], "ready": [], "recording": [], "processing": []}',
    }
    bench = ready()
    assert "blpn64/0 is ready of array_1" in bench.ask("load_state", **keys)
    bench.cam("deconfigure")
    assert not bench.ask("load_state", **keys)
    assert bench.states("array_2") == ("FREE", "WAITING") and "remind/array_2" in bench.timers
    assert "array_2" in bench.ask("load_state", **keys)
    assert bench.replayed().cells == bench.machine.cells
    fresh = Bench()
    fresh.vault.__init__()  # type: ignore[misc]  # an empty journal, and what the shell sees at its first start
    fresh.restart(world={"saved": keys})
    assert fresh.states("array_2") == ("FREE", "WAITING") and "imported" in fresh.codes()
