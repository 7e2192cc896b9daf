"""The coordinator's journal answers people's questions in their words, and gives the timeline of a night."""

from __future__ import annotations

import msgspec
import pytest

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.model import Duty, Notify, Severity
from socs_bl.commensal.story import CommensalTeller
from socs_bl.commensal.timeline import Row, timeline
from socs_bl.core.errors import Refused
from socs_bl.core.event import Event
from socs_bl.core.explain import Story, explain
from socs_bl.core.memory_journal import MemoryJournal
from tests.commensal.bench import CODEC, START, Bench, sensors


def why(bench: Bench, subject: str) -> Story:
    """Ask the journal."""
    return explain(CommensalMachine, MemoryJournal(bench.vault), subject, CommensalTeller())


def rows(bench: Bench) -> list[Row]:
    """The timeline so far."""
    return timeline(CODEC.decode(data) for _, data in MemoryJournal(bench.vault).read())


def test_why_a_dead_node_does_not_record() -> None:
    """A node that did not start: the chain goes from its status over the check's timer to CAM's tracking."""
    bench = Bench()
    bench.subscribe()
    bench.record()
    bench.fire("start/array_1")
    bench.statuses({"blpn64/0": {}, "blpn64/1": {"DAQSTATE": "LISTEN"}})
    story = why(bench, "blpn64/1")
    assert story.standing[0].startswith("is quarantined: did not start recording")
    chapter = story.chapters[0]
    assert chapter.changes[0].startswith("instance/blpn64/1: recording -> quarantined: did not start recording")
    assert any("quarantined" in text for text in chapter.said)
    status, check, decision, *_, origin = [link.text for link in chapter.chain]
    assert "blpn64/1 DAQSTATE=LISTEN" in status
    assert "read status hashes of array_1 (started), asked for when timer start/array_1 ran out" in check
    assert decision.startswith("was set when status hashes of array_1 were read (record)")
    assert origin.endswith("asked for when tracking was said for array_1, from outside")


def test_why_a_subscribed_node_does_not_record() -> None:
    """Ready but not recording: it is said that the telescope is not on source, or why nothing was prepared."""
    bench = Bench()
    bench.subscribe()
    assert "array_1 is not on source; it records when CAM says tracking" in why(bench, "blpn64/0").standing
    bench.cam("tracking")
    assert any("waits for effect" in text and "read CAM's keys" in text for text in why(bench, "blpn64/0").standing)
    bench.metadata(sensors(proposal="'SCI-SKIP'"))
    story = why(bench, "blpn64/0")
    assert any("prepares no recording" in text for text in story.standing)
    assert story.chapters[0].said == ("array_1: pointing of proposal SCI-SKIP skipped",)
    assert "blpn65/0: is free: no subarray holds it" in why(bench, "blpn65/0").lines()


def test_operators_and_runs_are_told_of() -> None:
    """What an operator did is named as such; a run tells who still works for it."""
    bench = Bench()
    bench.ask("quarantine_instance", "blpn65/1")
    assert why(bench, "blpn65/1").chapters[0].chain[-1].text.startswith("an operator asked for quarantine_instance")
    bench.subscribe()
    run = bench.process()
    assert why(bench, run).standing == ("is searched for array_1; blpn64/0, blpn64/1 still work for it",)
    bench.result("blpn64/0")
    bench.result("blpn64/1")
    assert "completed" in why(bench, run).standing[0]
    assert "recproc PROCESS -> READY" in why(bench, "array_1").chapters[0].changes[0]


@pytest.mark.parametrize("subject", ["blpn99/0", "array_9", "nonsense", ""])
def test_what_is_not_there_is_said(subject: str) -> None:
    """An unknown name is refused with a sentence, also when it could be nothing at all."""
    with pytest.raises(Refused, match="there are|write blpn64/1"):
        why(Bench(), subject)


def test_the_timeline_of_a_cycle() -> None:
    """Configure to ready, each with its time and subarray; PKTSTART stands where the recording begins."""
    bench = Bench()
    bench.subscribe()
    run = bench.process()
    begun = bench.machine.run(run)
    assert begun is not None
    started = begun.started
    bench.result("blpn64/0", hits=3)
    bench.result("blpn64/1", code=137)
    bench.cam("deconfigure")
    told = rows(bench)
    words = [row.what for row in told if row.array == "array_1"]
    assert words == [
        "configure", "conf_complete", "subscribed", "tracking", "record", "PKTSTART", "end", "process", "result",
        "result", "quarantined", "ready", "deconfigure", "unsubscribed",
    ]  # fmt: skip
    assert [row.time for row in told] == sorted(row.time for row in told) and told[0].time == START + 1
    by_word = {row.what: row for row in told}
    assert (by_word["PKTSTART"].time, by_word["PKTSTART"].detail) == (started, run)
    assert by_word["record"].time < started < by_word["end"].time
    assert [row.detail for row in told if row.what == "result"] == [
        "blpn64/0 code 0, 3 hits", "blpn64/1 code 137, 0 hits"
    ]  # fmt: skip
    assert by_word["ready"].detail.startswith("array_1: ")


def test_two_subarrays_keep_apart() -> None:
    """Each row stands under its subarray; a refused request is not told as if it had happened."""
    bench = Bench()
    bench.subscribe("array_1")
    bench.subscribe("array_2")
    bench.ask("reset_array", "array_1")
    told = rows(bench)
    assert [row.array for row in told if row.what == "subscribed"] == ["array_1", "array_2"]
    assert "reset_array" not in [row.what for row in told]


def test_every_event_and_effect_has_words() -> None:
    """Nothing of the commensal room is shown as a bare record, so that a new event is not forgotten here."""
    words = CommensalTeller()
    defaults = {str: "x", float: START, int: 1}
    for kind in (*CommensalMachine.event_types, *CommensalMachine.effect_types):
        given = {}
        for field in msgspec.structs.fields(kind):
            if field.required:
                given[field.name] = defaults.get(field.type, {} if "Mapping" in str(field.type) else ())
        if kind is Notify:
            given["severity"] = Severity.INFO
        record = kind(**given)
        told = words.event(record) if isinstance(record, Event) else words.effect(record)
        assert told and kind.__name__ not in told, told
    assert set(Duty) == {
        Duty.FREE, Duty.READY, Duty.RECORDING, Duty.PROCESSING, Duty.QUARANTINED, Duty.DRAINED
    }, "a new duty wants words in `CommensalTeller`"  # fmt: skip


def test_a_drained_instance_says_so() -> None:
    """Why people took it out of service, and how it comes back."""
    bench = Bench()
    bench.ask("drain", "blpn65/1")
    story = why(bench, "blpn65/1")
    assert story.standing[0].startswith("is drained") and "undrain" in story.standing[0]
    assert story.chapters[0].chain[-1].text.startswith("an operator asked for drain blpn65/1")
    assert "drained" in [row.what for row in rows(bench)]
