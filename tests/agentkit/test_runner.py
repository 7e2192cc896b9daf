"""The runner's promises: commit before effect, one receipt an effect, timers, deadlines, fencing, lost answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from socs_bl.agentkit.runner import BATCH, MachineRunner
from socs_bl.core.archive import read_archive, replay
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Driver
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.event import Event, TimerFired
from socs_bl.core.journal import Commit, Fenced
from socs_bl.core.memory_journal import MemoryJournal, Vault
from socs_bl.core.retention import Retention
from tests.harness.toy import Lamp, LampMachine, Light, Ordered, Seen


class Bench:
    """A lamp machine in a runner, and a list of what it was made to do."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.performed: list[Effect] = []
        self.faults: list[str] = []
        self.answer: Callable[[Effect], Any] = lambda effect: []
        self.idle: list[tuple[Callable[[LampMachine], bool], Deferred[None]]] = []
        self.runner = MachineRunner(
            Driver(LampMachine, Codec(LampMachine), MemoryJournal(vault)),
            self.perform,
            self.look,
            "bench",
            on_commit=self.watch,
            on_fault=self.faults.append,
        )

    async def perform(self, effect: Effect) -> Sequence[Event]:
        assert self.vault.sequence >= int(effect.id.partition(".")[0]), "carried out before its commit"
        self.performed.append(effect)
        answer = self.answer(effect)
        return (await answer) if isinstance(answer, Deferred) else answer

    async def look(self) -> Mapping[str, Any]:
        return {"sun": "up"}

    def watch(self, entries: object) -> None:
        for wish, waiter in list(self.idle):
            if wish(self.runner.machine):
                self.idle.remove((wish, waiter))
                waiter.callback(None)

    def until(self, wish: Callable[[LampMachine], bool]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self.idle.append((wish, waiter))
        self.watch(())
        return waiter.addTimeout(10, self.runner._reactor)


@pytest_twisted.ensureDeferred
async def test_effects_follow_their_commit_and_are_acknowledged() -> None:
    """Every effect is carried out after its commit, in order, and leaves no outstanding effect behind."""
    bench = Bench(Vault())
    bench.answer = lambda effect: [Seen(lamp=effect.lamp)] if isinstance(effect, Light) else []
    await bench.runner.start()
    bench.runner.feed(Ordered(lamp="a"), Ordered(lamp="b"))
    await bench.until(lambda machine: len(machine.cells) == 2 and not machine.outstanding)
    assert [(type(effect).__name__, effect.lamp) for effect in bench.performed] == [
        ("Light", "a"),
        ("Light", "b"),
        ("Fire", "a"),
        ("Fire", "b"),
    ]
    assert {cell.state for cell in bench.runner.machine.cells.values() if isinstance(cell, Lamp)} == {"lit"}
    assert bench.runner.machine.timers == {}
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_submit_returns_what_was_decided() -> None:
    """An operation that submits an event learns the effects, after the commit."""
    bench = Bench(Vault())
    await bench.runner.start()
    (entry,) = await bench.runner.submit(Ordered(lamp="a"), cause="operator")
    assert entry.envelope.cause == "operator" and entry.envelope.sequence == bench.vault.sequence
    assert any(isinstance(effect, Light) for effect in entry.effects)
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_failed_effect_is_told_to_the_machine() -> None:
    """A refusal reaches the machine as EffectFailed with its text, a crash as unknown and as a fault."""
    bench = Bench(Vault())

    def answer(effect: Effect) -> list[Event]:
        raise Faulty("no bulb in b") if effect.lamp == "b" else ZeroDivisionError

    bench.answer = answer
    failures: list[tuple[str, bool]] = []
    bench.runner.driver.factory = LampMachine
    await bench.runner.start()
    bench.runner.machine.failed = lambda effect, reason, unknown: failures.append((reason, unknown))  # type: ignore
    bench.runner.feed(Ordered(lamp="b"))
    bench.runner.feed(Ordered(lamp="a"))
    await bench.until(lambda machine: len(failures) == 4)
    assert failures[0] == ("no bulb in b", False) and failures[1][1] is True
    assert any("ZeroDivisionError" in fault for fault in bench.faults)
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_lost_answer_is_not_a_second_commit() -> None:
    """When the answer of a commit is lost, the journal is asked; the event is there once and its effects follow."""
    bench = Bench(Vault())
    await bench.runner.start()
    bench.vault.lose_answer = True
    await bench.runner.submit(Ordered(lamp="a"))
    await bench.until(lambda machine: not machine.outstanding)
    ordered = [n for n, entry in bench.vault.entries.items() if b'"Ordered"' in entry]
    assert len(ordered) == 1 and bench.vault.writes == [("PUBLISH", "lamps", "a")]
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_second_writer_fences_the_first() -> None:
    """After another writer's claim the first refuses events and says so; the second carries on."""
    vault = Vault()
    old, new = Bench(vault), Bench(vault)
    await old.runner.start()
    await new.runner.start()
    with pytest.raises(Fenced):
        await old.runner.submit(Ordered(lamp="a"))
    with pytest.raises(Refused):
        old.runner.feed(Ordered(lamp="b"))
    assert "fenced" in old.faults[0]
    old.runner._timers["retry/a"] = pending = old.runner._reactor.callLater(60, lambda: None)
    pending.cancel()
    old.runner._fire(TimerFired(name="retry/a", generation=1))  # a timer that was armed before the fence
    await new.runner.submit(Ordered(lamp="c"))
    assert set(new.runner.machine.cells) == {"lamp/c"}
    await old.runner.stop()
    await new.runner.stop()


@pytest_twisted.ensureDeferred
async def test_stop_and_start_again() -> None:
    """An effect under way at the stop is outstanding, and is repeated by the next runner."""
    vault = Vault()
    first = Bench(vault)
    started: Deferred[None] = Deferred()
    never: Deferred[list[Event]] = Deferred()

    def hang(effect: Effect) -> Deferred[list[Event]]:
        started.callback(None)
        return never

    first.answer = hang
    await first.runner.start()
    first.runner.feed(Ordered(lamp="a"))
    await started
    await first.runner.stop()
    second = Bench(vault)
    await second.runner.start()
    await second.until(lambda machine: not machine.outstanding)
    assert [effect.id for effect in second.performed if isinstance(effect, Light)] == [first.performed[0].id]
    await second.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_poisonous_event_costs_only_itself() -> None:
    """An event that makes the machine raise is refused; what stands beside it in the batch is stepped."""
    bench = Bench(Vault())
    await bench.runner.start()
    bench.runner.feed(Ordered(lamp="a"))
    poison = bench.runner.submit(Ordered(lamp=object()))  # type: ignore[arg-type]
    failed = Deferred.fromCoroutine(poison)
    bench.runner.feed(Ordered(lamp="b"))
    with pytest.raises(TypeError):
        await failed
    await bench.until(lambda machine: {"lamp/a", "lamp/b"} <= set(machine.cells))
    assert "left out" in bench.faults[0]
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_crash_of_the_shell_is_told_to_who_waits() -> None:
    """A defect beside the machine ends the start, and whoever waits for a decision, with its text; nobody waits on."""
    bench = Bench(Vault())
    bench.runner._on_commit = lambda entries: {}["no such field"]
    with pytest.raises(Retry, match="no such field"):
        await bench.runner.start()
    assert bench.runner.fenced and "no such field" in bench.faults[-1]
    await bench.runner.stop()

    bench = Bench(Vault())
    await bench.runner.start()
    bench.runner._on_commit = lambda entries: {}["no such field"]
    first, second = (Deferred.fromCoroutine(bench.runner.submit(Ordered(lamp=lamp))) for lamp in "ab")
    for waiting in (first, second):
        with pytest.raises(Retry, match="no such field"):
            await waiting
    with pytest.raises(Refused, match="no such field"):
        bench.runner.feed(Ordered(lamp="c"))
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_long_journal_is_moved_into_the_archive(tmp_path: Path) -> None:
    """When the journal has grown as far as it may its entries lie in archive files, and what is left still replays."""
    bench = Bench(Vault())
    bench.runner._archive, bench.runner._retention = tmp_path, Retention(entries=5)
    await bench.runner.start()
    for name in "abc":
        await bench.runner.submit(Ordered(lamp=name))
    await bench.until(lambda machine: not machine.outstanding)
    await bench.runner.stop()
    journal = MemoryJournal(bench.vault)
    assert len(bench.vault.entries) <= 5 + BATCH
    files = sorted(tmp_path.glob("*.jsonl"))
    assert files
    replayed = replay(LampMachine, Codec(LampMachine), journal.base(), journal.read())
    assert replayed.cells == bench.runner.machine.cells
    first, entries = read_archive(files[0])
    assert first.sequence == 0 and next(iter(entries))[0] == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_that_cannot_be_stepped_fails_its_effect() -> None:
    """The lane of an effect with a poisonous answer goes on, now and after a restart."""
    bench = Bench(Vault())
    bench.answer = lambda effect: [Ordered(lamp=object())] if effect.lamp == "a" else []  # type: ignore[arg-type]
    await bench.runner.start()
    bench.runner.feed(Ordered(lamp="a"))
    await bench.until(lambda machine: "lamp/a" in machine.cells and not machine.outstanding)
    assert any("could not be stepped" in fault for fault in bench.faults)
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_journal_that_only_reads_is_a_fault_and_no_busy_loop() -> None:
    """While commits are refused the shell is degraded and pauses; afterwards nothing is lost."""
    bench = Bench(Vault())
    recovered: list[bool] = []
    bench.runner._on_recovery = lambda: recovered.append(True)
    await bench.runner.start()
    journal, tries = bench.runner.driver.journal, 0
    real = journal.commit

    def refuse(commit: Commit) -> None:
        nonlocal tries
        tries += 1
        if tries > 2:
            journal.commit = real  # type: ignore[method-assign]
        raise Retry("MISCONF: the disk is full")

    journal.commit = refuse  # type: ignore[method-assign]
    await bench.runner.submit(Ordered(lamp="a"))
    assert tries == 3 and recovered == [True]
    assert [fault for fault in bench.faults if "MISCONF" in fault]
    await bench.runner.stop()


@pytest_twisted.ensureDeferred
async def test_a_deadline_is_kept_whatever_the_effect_does() -> None:
    """An effect that ignores its cancellation fails at its deadline; a late answer changes nothing."""
    bench = Bench(Vault())
    late: Deferred[list[Event]] = Deferred(lambda deferred: None)
    bench.answer = lambda effect: late if isinstance(effect, Light) else []
    failures: list[tuple[str, bool]] = []
    await bench.runner.start()
    bench.runner.machine.failed = lambda effect, reason, unknown: failures.append((reason, unknown))  # type: ignore
    deadline, Light.deadline = Light.deadline, 0.05
    try:
        bench.runner.feed(Ordered(lamp="a"))
        await bench.until(lambda machine: len(failures) == 1)
    finally:
        Light.deadline = deadline
    assert failures == [("no answer within 0.05 s", True)]
    await bench.until(lambda machine: not machine.outstanding)
    before = bench.vault.sequence
    if not late.called:
        late.callback([])
    assert bench.vault.sequence == before
    await bench.runner.stop()
