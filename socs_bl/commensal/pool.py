"""The pool: every instance has one duty and at most one owner, and only these few methods change either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from socs_bl.commensal.config import CommensalConfig
from socs_bl.commensal.index import Index, index_of
from socs_bl.commensal.model import (
    CELLS,
    EFFECTS,
    EVENTS,
    Drain,
    Duty,
    FreeSub,
    Instance,
    Ledger,
    Notify,
    RecProc,
    Rules,
    Run,
    Settings,
    Severity,
    Subarray,
)
from socs_bl.commensal.projection import Gateway, saved_array, saved_pool
from socs_bl.commensal.upcast import entry_from_1, part_from_1
from socs_bl.commensal.wire import COMPLETED_RUNS, SLACK, format_slack
from socs_bl.core.effect import StoreWrites
from socs_bl.core.machine import Command, Machine
from socs_bl.core.names import parse_instance
from socs_bl.core.notifications import MARKS

_FREE = Duty.FREE


class Pool(Machine):
    """State access, ownership, notifications and the projection of the original's keys."""

    schema = 2
    entry_upcasters = {1: entry_from_1}
    part_upcasters = {1: part_from_1}
    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    def __init__(self) -> None:
        super().__init__()
        self.config = CommensalConfig(hashpipe_instances=("none0/0",))
        self.gateway = Gateway(self.config.domain, self.config.numbers)
        self.index = Index(self.config.hashpipe_instances)
        self._arrays_touched: set[str] = set()
        self._pool_touched = False

    # -- configuration --------------------------------------------------------------------------------------------

    def adopt(self, raw: Mapping[str, Any]) -> None:
        """Take over a configuration: instances that are new join the pool, free ones that are gone leave it."""
        self.put("settings", Settings(config=raw))
        self._configure()
        known = {cell.name: cell for cell in self.instances()}
        wanted = set(self.config.hashpipe_instances)
        for name, cell in known.items():
            if name not in wanted and cell.duty in (Duty.FREE, Duty.QUARANTINED, Duty.DRAINED):
                self._forget(name)
        self.index = index_of(self.config.hashpipe_instances, self.cells.values())
        for name in self.config.hashpipe_instances:
            if name not in known:
                self.set_instance(Instance(name=name))
        for name in self.config.arrays:
            if f"array/{name}" not in self.cells:
                self.set_array(Subarray(name=name, since=self.now.wall))

    def rebuild(self) -> None:
        """Read the configuration from its cell, and make the index."""
        self._configure()
        self.index = index_of(self.config.hashpipe_instances, self.cells.values())
        self._arrays_touched.clear()
        self._pool_touched = False

    def _configure(self) -> None:
        settings = self.get("settings", Settings)
        if settings is not None:
            self.config = CommensalConfig.model_validate(settings.config)
            # An instance that has left the configuration is still spoken to while it works.
            working = {parse_instance(cell.name).number for cell in self.instances()}
            self.gateway = Gateway(self.config.domain, sorted(working.union(self.config.numbers)))

    # -- reading --------------------------------------------------------------------------------------------------

    def array(self, name: str) -> Subarray | None:
        """A subarray we handle."""
        return self.get(f"array/{name}", Subarray)

    def instance(self, name: str) -> Instance | None:
        """An instance of the pool."""
        return self.get(f"instance/{name}", Instance)

    def run(self, identity: str) -> Run | None:
        """A run that has not been completed."""
        return self.get(f"run/{identity}", Run)

    def ledger(self) -> Ledger:
        """The counters of the whole system."""
        return self.get("ledger", Ledger) or Ledger()

    def rules(self) -> Rules:
        """Which proposals are kept or skipped: as set while running, else as configured."""
        rules = self.get("rules", Rules)
        return rules or Rules(primary=self.config.primary_proposals, skip=self.config.skip_proposals)

    def instances(self) -> Iterable[Instance]:
        """All instances, in no order."""
        return (cell for cell in self.cells.values() if isinstance(cell, Instance))

    def members(self, array: Subarray, *duties: Duty) -> tuple[str, ...]:
        """Instances of a subarray, in order; with `duties`, only those."""
        names = []
        cells = self.cells
        for share in array.shares:
            cell = cells.get(f"instance/{share.instance}")
            if isinstance(cell, Instance) and (not duties or cell.duty in duties):
                names.append(cell.name)
        return tuple(names)

    def pending(self, run: Run) -> tuple[str, ...]:
        """Instances that still work for a run, in order."""
        working = self.index.working.get(run.id, ())
        return tuple(name for name in run.instances if name in working)

    # -- writing --------------------------------------------------------------------------------------------------

    def set_instance(self, cell: Instance) -> None:
        """Write an instance; its owner's projection follows."""
        key = f"instance/{cell.name}"
        before = self.get(key, Instance)
        self.put(key, cell)
        self._moved(before, cell)

    def assign(self, name: str, duty: Duty, owner: str = "", run: str = "", reason: str = "", tries: int = 0) -> None:
        """Change what an instance does, and for whom.

        When it would be free, one that has left the configuration goes, and one that is to be drained is drained.
        """
        if duty is _FREE and name not in self.index.place:
            before = self.instance(name)
            self._forget(name)
            self._moved(before, None)
        elif duty is _FREE and (drain := self.get(f"drain/{name}", Drain)) is not None:
            self.set_instance(Instance(name=name, duty=Duty.DRAINED, reason=drain.reason))
        else:
            self.set_instance(Instance(name=name, duty=duty, owner=owner, run=run, reason=reason, tries=tries))

    def _forget(self, name: str) -> None:
        """Remove an instance and all that is remembered of it."""
        for table in ("instance", "drain", "silence"):
            self.drop(f"{table}/{name}")

    def _moved(self, before: Instance | None, after: Instance | None) -> None:
        self.index.moved(before, after)
        for cell in (before, after):
            if cell is not None:
                if cell.duty is _FREE:
                    self._pool_touched = True
                if cell.owner:
                    self._arrays_touched.add(cell.owner)

    def set_array(self, cell: Subarray) -> None:
        """Write a subarray, with the time of the change when a state of it has changed."""
        before = self.array(cell.name)
        if before is not None and (before.freesub is not cell.freesub or before.recproc is not cell.recproc):
            cell = msgspec.structs.replace(cell, since=self.now.wall)
        shares = before.shares if before is not None else ()
        if shares is not cell.shares:
            self.index.shared_out(cell.name, shares, cell.shares)
        self.put(f"array/{cell.name}", cell)
        self._arrays_touched.add(cell.name)

    def change(self, name: str, **changes: Any) -> Subarray:
        """Write some fields of a subarray and return it."""
        before = self.array(name)
        assert before is not None, name
        self.set_array(msgspec.structs.replace(before, **changes))
        after = self.array(name)
        assert after is not None, name
        return after

    def set_run(self, cell: Run) -> None:
        """Write a run."""
        self.put(f"run/{cell.id}", cell)

    def write(self, commands: Iterable[Command]) -> None:
        """Let Redis commands ride in the commit, in order."""
        kept = tuple(commands)
        if kept:
            self.issue(StoreWrites(commands=kept))

    def notify(self, severity: Severity, code: str, text: str, array: str = "") -> None:
        """Tell people, on our feed and where the Slack proxy listens."""
        self.issue(Notify(severity=severity, code=code, text=text, array=array), lane="notify")
        message = format_slack(self.config.slack_channel, "coordinator", MARKS[severity.value] + text, self.now.wall)
        self.write([("PUBLISH", SLACK, message)])

    def quarantine(self, name: str, reason: str) -> None:
        """Put an instance out of use: it leaves its subarray, which goes on without it; its data stay."""
        cell = self.instance(name)
        if cell is None or cell.duty is Duty.QUARANTINED:
            return
        self.part(name)
        self.drop(f"silence/{name}")
        self.assign(name, Duty.QUARANTINED, reason=reason)
        text = f"{name} quarantined: {reason}; release_instance puts it back"
        self.notify(Severity.WARNING, "quarantined", text, cell.owner)

    def part(self, name: str) -> None:
        """Take an instance out of the subarray that holds it; the caller says at once what it does instead."""
        holder = self.array(self.index.holder.get(name, ""))
        if holder is not None:
            self.change(holder.name, shares=tuple(share for share in holder.shares if share.instance != name))
            # It must not hear its group any more: what it records nobody would search, and it may come to another array.
            self.write(self.gateway.rest(name) + self.gateway.leave(holder.name, [name]))

    # -- projection -----------------------------------------------------------------------------------------------

    def touch_everything(self) -> None:
        """Let the next projection be of the whole state, whatever the keys hold now."""
        self._pool_touched = True
        self._arrays_touched.update(cell.name for cell in self.cells.values() if isinstance(cell, Subarray))

    def take_projection(self) -> list[Command]:
        """The original's keys for whatever has been touched; they follow the state, never the other way round."""
        commands: list[Command] = []
        if self._pool_touched:
            commands.append(saved_pool(self.index.all_free()))
        for name in sorted(self._arrays_touched):
            cell = self.array(name)
            if cell is not None:
                members = [self.cells.get(f"instance/{share.instance}") for share in cell.shares]
                commands += saved_array(cell, [cell for cell in members if isinstance(cell, Instance)], self.now.wall)
        self._pool_touched = False
        self._arrays_touched.clear()
        return commands

    def completed(self) -> Command:
        """Count a completed run, where the original counts it."""
        ledger = self.ledger()
        self.put("ledger", msgspec.structs.replace(ledger, completed=ledger.completed + 1))
        return ("SET", COMPLETED_RUNS, str(ledger.completed + 1))

    # -- invariants -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """One duty and one owner an instance; shares, runs and timers agree with them, and so does the index."""
        fresh = index_of(self.config.hashpipe_instances, self.cells.values())
        assert self.index.contents() == fresh.contents(), f"index {self.index.contents()} of {fresh.contents()}"
        shared: dict[str, str] = {}
        for cell in self.cells.values():
            if isinstance(cell, Subarray):
                self._check_array(cell, shared)
        for instance in self.instances():
            owned = instance.duty in (Duty.READY, Duty.RECORDING, Duty.PROCESSING)
            assert owned == bool(instance.owner), f"{instance.name} is {instance.duty.value} of {instance.owner!r}"
            assert (instance.duty in (Duty.RECORDING, Duty.PROCESSING)) == bool(instance.run), instance
            if instance.run:
                run = self.run(instance.run)
                assert run is not None and instance.name in run.instances, f"{instance.name}: {instance.run} is gone"
                assert run.closed == (instance.duty is Duty.PROCESSING), instance
            if instance.duty is Duty.RECORDING:
                owner = self.array(instance.owner)
                assert owner is not None and owner.run == instance.run, f"{instance.name} records what nobody will end"
            if instance.duty is Duty.READY:
                assert instance.name in shared, f"{instance.name} is ready in no subarray"

    def _check_array(self, cell: Subarray, shared: dict[str, str]) -> None:
        assert (cell.freesub is FreeSub.SUBSCRIBED) or not cell.shares, (
            f"{cell.name} holds instances while {cell.freesub}"
        )
        for share in cell.shares:
            assert share.instance not in shared, f"{share.instance} in {cell.name} and {shared[share.instance]}"
            shared[share.instance] = cell.name
            member = self.instance(share.instance)
            assert member is not None and member.owner == cell.name, f"{share.instance} is not of {cell.name}: {member}"
        run = self.run(cell.run)
        assert (cell.recproc in (RecProc.RECORD, RecProc.PROCESS)) == (run is not None), (
            f"{cell.name}: {cell.recproc} {run}"
        )
        if cell.recproc is RecProc.RECORD:
            waits = {f"record/{cell.name}", f"halt/{cell.name}"} & self.timers.keys()
            assert waits or cell.stopping, f"{cell.name} records without an end"
        if run is not None and run.closed:
            assert f"process/{run.id}" in self.timers, f"{run.id} is processed without a deadline"
