"""The core's promises to a machine: ids, timers, outstanding effects, restart, replay, upcasting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core import archive
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver, restored
from socs_bl.core.effect import ArmTimer, CancelTimer, Effect, StoreWrites
from socs_bl.core.errors import Faulty, Refused
from socs_bl.core.event import EffectDone, EffectFailed, Event, Restarted, TimerFired
from socs_bl.core.memory_journal import MemoryJournal, Vault
from tests.harness.toy import Fire, Lamp, LampMachine, Light, Ordered, Seen

CODEC = Codec(LampMachine)


def driver(vault: Vault, now: float = 100.0) -> tuple[Driver[LampMachine], Any]:
    """A driver that has claimed the vault and committed its restart."""
    made = Driver(LampMachine, CODEC, MemoryJournal(vault))
    made.claim("test")
    work = commit(made, made.restart_event({}), now=now)
    return made, work


def commit(shell: Driver[Any], *events: Event, now: float = 100.0) -> Any:
    prepared = shell.prepare([Caused(event) for event in events], Instant(now, now))
    shell.journal.commit(prepared.commit)
    return shell.committed(prepared.entries)


def test_effects_have_ids_lanes_and_order() -> None:
    """An effect's id is sequence.n, and one that waits does not start before what it waits for is acknowledged."""
    shell, _ = driver(Vault())
    work = commit(shell, Ordered(lamp="a"))
    assert [effect.id for effect in work.perform] == ["2.1"]
    assert [type(effect) for effect in work.local] == [ArmTimer]
    work = commit(shell, EffectDone(effect="2.1"))
    assert work.perform == [] and [caused.event.effect for caused in work.events] == ["2.2"]
    work = commit(shell, work.events[0].event)
    assert [type(effect) for effect in work.perform] == [Fire]


def test_one_lane_runs_in_order() -> None:
    """Two effects of one lane never run at the same time; the second starts when the first is acknowledged."""
    shell, _ = driver(Vault())
    work = commit(shell, Ordered(lamp="a"))
    first = work.perform[0]
    timer = work.local[0]
    work = commit(shell, TimerFired(name=timer.name, generation=timer.generation))
    assert work.perform == []
    work = commit(shell, EffectFailed(effect=first.id, reason="no current"))
    assert [(type(effect), effect.lamp) for effect in work.perform] == [(Light, "a")]


def test_writes_ride_in_the_commit() -> None:
    """A riding write takes place with its commit and is never outstanding."""
    vault = Vault()
    shell, _ = driver(vault)
    commit(shell, Ordered(lamp="a"))
    assert vault.writes == [("PUBLISH", "lamps", "a")]
    assert not shell.machine.outstanding_of(StoreWrites)


class Listed(LampMachine):
    """Keeps the names of all lamps under somebody else's key too."""

    def __init__(self) -> None:
        super().__init__()
        self.touched = False

    def handle(self, event: Event) -> None:
        """Note that the list is another one."""
        super().handle(event)
        self.touched = True

    def restarted(self, event: Restarted) -> None:
        """Whatever the key holds now."""
        self.touched = True

    def take_projection(self) -> list[tuple[str, ...]]:
        """The list, when it has been touched."""
        touched, self.touched = self.touched, False
        return [("SET", "list", " ".join(sorted(self.cells)))] if touched else []


def test_a_projection_is_written_once_a_commit() -> None:
    """Keys that follow the state are written behind the events' own writes, once, and anew after a restart."""
    vault = Vault()
    shell: Driver[Listed] = Driver(Listed, Codec(Listed), MemoryJournal(vault))
    shell.claim("test")
    commit(shell, shell.restart_event({}))
    vault.writes.clear()
    commit(shell, Ordered(lamp="a"), Ordered(lamp="b"))
    assert [command[0] for command in vault.writes] == ["PUBLISH", "PUBLISH", "SET"]
    assert vault.writes[-1] == ("SET", "list", "lamp/a lamp/b")
    commit(shell, EffectDone(effect="2.1"))
    assert len(vault.writes) == 3
    assert not any(b"list" in entry for entry in vault.entries.values())
    archive.replay(Listed, Codec(Listed), shell.journal.base(), shell.journal.read())
    again: Driver[Listed] = Driver(Listed, Codec(Listed), MemoryJournal(vault))
    again.claim("again")
    commit(again, again.restart_event({}))
    assert vault.writes[3:] == [("SET", "list", "lamp/a lamp/b")]


def test_restart_repeats_and_tells_unknown() -> None:
    """After a crash a repeatable effect comes again under its id, an attempted once-effect is told unknown."""
    vault = Vault()
    shell, _ = driver(vault)
    light = commit(shell, Ordered(lamp="a")).perform[0]
    again, work = driver(vault, now=103.0)
    assert [effect.id for effect in work.perform] == [light.id]
    attempt = commit(again, EffectDone(effect=light.id), now=103.0).events[0]
    commit(again, attempt.event, now=103.0)
    last, work = driver(vault, now=104.0)
    assert work.perform == []
    assert last.machine.get("salute/a", Lamp) == Lamp(name="a", state="unknown")


class Hasty(LampMachine):
    """One lamp that failed makes it give up everything else."""

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        for identity in list(self.outstanding):
            self.withdraw(identity)


def test_restart_without_what_was_taken_back() -> None:
    """An effect that is taken back because of one of unknown outcome is not repeated, and the restart goes on."""
    vault = Vault()
    shell, _ = driver(vault)
    light = commit(shell, Ordered(lamp="a")).perform[0]
    attempt = commit(shell, EffectDone(effect=light.id)).events[0]
    commit(shell, attempt.event)
    commit(shell, Ordered(lamp="b"))
    again = Driver(Hasty, Codec(Hasty), MemoryJournal(vault))
    again.claim("test")
    work = commit(again, again.restart_event({}), now=104.0)
    assert work.perform == [] and again.machine.outstanding == {}


@pytest.mark.parametrize(("now", "left"), [(100.0, 5.0), (103.0, 2.0), (999.0, 0.0), (-999.0, 5.0)])
def test_timers_survive_restarts(now: float, left: float) -> None:
    """A timer is armed again for the rest of its time, clamped to [0, duration] whatever the wall clock did."""
    vault = Vault()
    shell, _ = driver(vault)
    commit(shell, Ordered(lamp="a"))
    _, work = driver(vault, now=now)
    assert [(effect.name, effect.seconds) for effect in work.local] == [("retry/a", left)]


def test_stale_timers_are_ignored() -> None:
    """A firing of an earlier arming changes nothing."""
    shell, _ = driver(Vault())
    timer = commit(shell, Ordered(lamp="a")).local[0]
    commit(shell, TimerFired(name=timer.name, generation=timer.generation))
    lamp = shell.machine.get("lamp/a", Lamp)
    commit(shell, TimerFired(name=timer.name, generation=timer.generation))
    assert shell.machine.get("lamp/a", Lamp) == lamp == Lamp(name="a", tries=2)


def test_cancelled_timers_are_gone() -> None:
    """A cancelled timer is neither armed nor stored."""
    vault = Vault()
    shell, _ = driver(vault)
    commit(shell, Ordered(lamp="a"))
    work = commit(shell, Seen(lamp="a"))
    assert [type(effect) for effect in work.local] == [CancelTimer]
    _, work = driver(vault)
    assert work.local == []


EVENTS = st.lists(
    st.one_of(
        st.builds(Ordered, lamp=st.sampled_from("abc")),
        st.builds(Seen, lamp=st.sampled_from("abc")),
        st.builds(TimerFired, name=st.sampled_from(["retry/a", "retry/b"]), generation=st.integers(1, 20)),
        st.builds(EffectDone, effect=st.sampled_from(["2.1", "2.2", "3.1", "4.1"])),
    ),
    max_size=15,
)


@given(EVENTS, st.data())
def test_replay_gives_the_same_state(events: list[Event], data: st.DataObject) -> None:
    """Stored state, replayed journal and live machine agree, wherever the batches are cut."""
    vault = Vault()
    shell, _ = driver(vault)
    while events:
        size = data.draw(st.integers(1, len(events)))
        commit(shell, *events[:size])
        events = events[size:]
        shell.machine.check()
    journal = MemoryJournal(vault)
    stored = restored(LampMachine, CODEC, journal.load())
    replayed = archive.replay(LampMachine, CODEC, journal.base(), journal.read())
    for machine in (stored, replayed):
        assert machine.sequence == shell.machine.sequence
        assert machine.cells == shell.machine.cells
        assert machine.timers == shell.machine.timers
        assert machine.outstanding == shell.machine.outstanding


def test_trimmed_entries_are_in_the_archive(tmp_path: Path) -> None:
    """Archive and journal together replay to the same state, and the archive replays alone."""
    vault = Vault()
    shell, _ = driver(vault)
    commit(shell, Ordered(lamp="a"))
    trimmed = archive.trim(shell.journal, "lamps:1/x", tmp_path)
    assert trimmed.path is not None and trimmed.path.parent == tmp_path and trimmed.entries == 2
    assert list(shell.journal.read()) == []
    base, entries = archive.read_archive(trimmed.path)
    assert archive.replay(LampMachine, CODEC, base, entries).cells == shell.machine.cells
    commit(shell, Seen(lamp="a"))
    rest = archive.replay(LampMachine, CODEC, shell.journal.base(), shell.journal.read())
    assert rest.cells == shell.machine.cells
    assert archive.trim(shell.journal, "lamps:1/x", tmp_path).entries == 1
    assert [path.name[0] for path in tmp_path.iterdir()] == ["l", "l"]


def test_replay_finds_a_changed_machine() -> None:
    """A machine that answers differently from the record is found out, with the sequence."""

    class Dark(LampMachine):
        def handle(self, event: Event) -> None:
            """Do nothing."""

    vault = Vault()
    shell, _ = driver(vault)
    commit(shell, Ordered(lamp="a"))
    with pytest.raises(Faulty, match="entry 2"):
        archive.replay(Dark, CODEC, shell.journal.base(), shell.journal.read())


def test_old_schemas_are_upcast() -> None:
    """Entries and state of schema 1 are read by schema 2 through its upcasters, and refused without them."""

    def entry(record: dict[str, Any]) -> dict[str, Any]:
        event = record["event"]
        return {**record, "event": {**event, "lamp": event["lamp"].upper()} if event["type"] == "Ordered" else event}

    def part(record: dict[str, Any]) -> dict[str, Any]:
        inner = record["part"]
        return {**record, "part": {**inner, "name": inner["name"].upper()} if record["table"] == "cell" else inner}

    class Newer(LampMachine):
        schema = 2
        entry_upcasters = {1: entry}
        part_upcasters = {1: part}

    class Forgetful(LampMachine):
        schema = 2

    vault = Vault()
    shell, _ = driver(vault)
    commit(shell, Ordered(lamp="a"))
    newer = Codec(Newer)
    assert newer.decode(vault.entries[2]).envelope.event.lamp == "A"
    machine = restored(Newer, newer, shell.journal.load())
    assert machine.get("lamp/a", Lamp) == Lamp(name="A")
    with pytest.raises(Refused, match="no upcaster"):
        Codec(Forgetful).decode(vault.entries[2])
    with pytest.raises(Refused, match="update the software"):
        CODEC.decode(vault.entries[2].replace(b'"schema":1', b'"schema":9'))


@given(st.binary(max_size=60))
def test_hostile_records_are_refused(data: bytes) -> None:
    """Whatever bytes are in a journal, reading them either works or says Refused."""
    for read in (CODEC.decode, lambda raw: CODEC.decode_part("cell", raw)):
        with pytest.raises(Refused):
            read(data)
