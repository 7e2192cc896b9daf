"""Faults of the original, and of the list of what must be survived, that no other test shows (page ``faults``)."""

from __future__ import annotations

import json
import re

from socs_bl.commensal.model import ReadMetadata, ReadStatus, Requested
from socs_bl.commensal.view import overview
from socs_bl.core.memory_journal import MemoryJournal
from tests.commensal.bench import CODEC, HEAP, SYNC, Bench, sensors


def now_index(bench: Bench) -> int:
    """The packet index of this moment."""
    return int((bench.now - SYNC) / HEAP)


def answer_indices(bench: Bench, *indices: str | None) -> None:
    """The instances of array_1 report these packet indices; None is a status hash that is not there."""
    (read,) = bench.wanted(ReadStatus)
    found = {
        name: None if text is None else {"PKTIDX": text} for name, text in zip(read.instances, indices, strict=True)
    }
    bench.statuses(found)


def test_w16_packet_indices_that_are_far_apart() -> None:
    """A node more than a minute behind is named before the recording starts, and does not move PKTSTART."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    index = now_index(bench)
    answer_indices(bench, str(index), str(index - int(90 / HEAP)))
    (text,) = [notice.text for notice in bench.notices if notice.code == "spread"]
    assert "blpn64/1" in text and "90 s" in text
    run = bench.machine.run(bench.array().run)
    assert run is not None and run.pktstart >= index


def test_w16_the_lead_is_in_seconds_where_heaps_are_short() -> None:
    """With `lead_seconds` PKTSTART is that far away, however short a heap is."""
    bench = Bench(lead_seconds=4.0)
    bench.subscribe()
    run = bench.machine.run(bench.record())
    assert run is not None
    assert (
        3.0 <= run.started - bench.now + 1.0 <= 5.0
    )  # a status hash is up to a second old, and the bench's step takes one


def test_w18_nothing_of_a_site_is_a_literal() -> None:
    """Domain, streams an instance, volumes, telescope and instance numbers are what the configuration says."""
    bench = Bench(
        hashpipe_instances=["node-a7/0", "node-a7/2", "x9/5"],
        domain="lab",
        streams_per_instance=3,
        data_volume="/mnt/disk{number}",
        telescope="ATA",
        dwell=7,
    )
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.new_writes()
    bench.metadata(sensors(9))
    bench.fire("announce/array_1")
    bench.record()
    writes = bench.new_writes()
    channels = {command[1] for command in writes if command[0] == "PUBLISH" and "://" in command[1]}
    assert channels == {
        f"lab://{name}/{what}" for name in ("node-a7/0", "node-a7/2", "x9/5") for what in ("set", "gateway")
    }
    groups = {command[1] for command in writes if command[0] == "PUBLISH" and command[1].endswith("///set")}
    assert groups == {f"lab:array_1-{number}///set" for number in (0, 2, 5)}
    run = bench.machine.run(bench.array().run)
    assert run is not None and run.id.startswith("ATA:array_1:") and run.ended - run.started == 7
    assert {path.rpartition("/")[0] for path in run.datadirs.values()} == {"/mnt/disk0", "/mnt/disk2", "/mnt/disk5"}
    assert [share.streams for share in bench.array().shares] == [3, 3, 3]


def test_w19_everything_stored_is_plain_text() -> None:
    """No value in Redis is the text of a number type: whatever looks like a figure is one to every reader."""
    bench = Bench()
    bench.subscribe()
    run = bench.process()
    for name in ("blpn64/0", "blpn64/1"):
        bench.result(name, run=run)
    bench.cam("deconfigure")
    words = [word for command in bench.vault.writes for word in command]
    assert all(type(word) is str for word in words)
    assert not any(re.search(r"float64|np\.|\b(None|nan|inf)\b", word) for word in words)
    figures = [
        command[2] for command in bench.vault.writes if command[1].startswith("rec_end:") and command[0] == "SET"
    ]
    assert figures and all(float(text) > 1e9 for text in figures)


def test_d03_07_ten_thousand_instances_are_shown_in_a_session() -> None:
    """What people are shown of a pool of 10,000 stays below 100 kB of finite JSON while nobody is quarantined."""
    names = [f"blpn{host}/{number}" for host in range(5000) for number in (0, 1)]
    bench = Bench(hashpipe_instances=names)
    bench.subscribe()
    shown = json.dumps(overview(bench.machine), allow_nan=False)
    assert len(shown) < 100_000 and overview(bench.machine)["pool"]["free"] == 9998


def test_d03_16_no_packet_index() -> None:
    """Nobody reports one, or it cannot be read: no PKTSTART is sent, it is looked again, and in the end the reason is said."""
    bench = Bench()
    bench.subscribe()
    bench.cam("tracking")
    bench.metadata()
    bench.new_writes()
    for last in (False, False, False, False, True):
        answer_indices(bench, None, "-1")
        if not last:
            bench.fire("target/array_1")
            bench.metadata()
    assert bench.messages() == [] and bench.states() == ("SUBSCRIBED", "READY")
    assert "no instance reports a packet index (blpn64/0, blpn64/1 silent)" in bench.notices[-1].text


def test_d03_16_a_packet_index_that_stands_still_or_has_wrapped() -> None:
    """PKTSTART that would lie minutes in the past or hours ahead is refused with how far it is off."""
    for index in (str(16), str(2**40)):
        bench = Bench()
        bench.subscribe()
        bench.cam("tracking")
        bench.metadata()
        bench.new_writes()
        answer_indices(bench, index, index)
        assert bench.messages() == [] and bench.states() == ("SUBSCRIBED", "READY")
        assert "PKTSTART would be" in bench.notices[-1].text and "SYNCTIME" in bench.notices[-1].text


def test_d03_16_no_synctime() -> None:
    """Without SYNCTIME nothing is subscribed, and the key is named."""
    bench = Bench()
    bench.cam("configure")
    bench.cam("conf_complete")
    bench.metadata(sensors(sync_time=""))
    assert bench.states() == ("CONFIGURING", "READY") and not bench.wanted(ReadMetadata)
    assert "sync_time" in bench.notices[-1].text


def test_d03_20_a_reset_is_in_the_journal() -> None:
    """Out of ERROR only on request, and the journal keeps who was reset, when, and from what."""
    bench = Bench()
    bench.subscribe()
    run = bench.process()
    for name in ("blpn64/0", "blpn64/1"):
        bench.result(name, code=2, run=run)
    assert bench.states() == ("SUBSCRIBED", "ERROR")
    for word in ("tracking", "not-tracking", "rec-timeout", "conf_complete", "configure"):
        bench.cam(word)
        assert bench.states() == ("SUBSCRIBED", "ERROR")
    bench.ask("reset_array", "array_1")
    assert bench.states() == ("SUBSCRIBED", "READY")
    assert bench.notices[-1].code == "reset" and "from ERROR" in bench.notices[-1].text
    entries = [CODEC.decode(data) for _, data in MemoryJournal(bench.vault).read()]
    (audit,) = [entry.envelope for entry in entries if isinstance(entry.envelope.event, Requested)]
    assert isinstance(audit.event, Requested) and audit.event.at.wall > 0
    assert (audit.event.what, audit.event.name) == ("reset_array", "array_1")
