"""The analyzer's machine: one run at a time, in the order of the first request, none forgotten.

A run stays queued until it is reported; nothing is taken off a list before it is done. Its stages are
QUEUED, SEARCHING, CATALOGUING, DELETING (only where a rule allows it), REPORTED. A run is reported in the commit that
ends it (stream and message ride in the commit), and again whenever it is asked for again. A search that fails is tried
once more; then the recording is left alone, with its raw data, until somebody asks for it again.

Raw data go under a named rule only (`socs_bl.search.rules`): after the search, or later because somebody asks or the
disk runs short; never while the directory is preserved or a run waits for it.

Invariants (`check`): at most one run is under way; none waits while nothing is under way, but for one whose directory
is being deleted; a run under way has exactly one outstanding effect of its stage, or the timer for its next attempt, and
so has a deletion after the fact; a reported run has an outcome and nothing outstanding of its own; what is being deleted
is not preserved, not waited for, and allowed by the rule it names.
"""

from __future__ import annotations

import msgspec

from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import Event, Restarted
from socs_bl.search.deletion import DELETE_TRIES, Deletion, standing
from socs_bl.search.model import (
    CELLS,
    EFFECTS,
    EVENTS,
    MOST_TRIES,
    WORST_GOOD_CODE,
    AbortRequested,
    Batch,
    CleanRequested,
    DeleteRaw,
    DeletionEnded,
    DiskShort,
    Listed,
    ListRead,
    Notify,
    Outcome,
    PreserveRequested,
    ProcessRequested,
    RegisterProducts,
    RequeueRequested,
    Run,
    RunSearch,
    SearchEnded,
    Settings,
    Stage,
    UnpreserveRequested,
)
from socs_bl.search.rules import RULES, objection
from socs_bl.search.runs import UNDER_WAY, changed, plain
from socs_bl.search.upcast import entry_from_1, part_from_1

LISTED = "on the coordinator's list"


class AnalyzerMachine(Deletion):
    """Decides which run is searched next, what becomes of its data, and what is reported."""

    schema = 2
    entry_upcasters = {1: entry_from_1}
    part_upcasters = {1: part_from_1}
    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    # -- events

    def handle(self, event: Event) -> None:
        """A request, or the end of something."""
        event = _plainly(event)
        match event:
            case ProcessRequested():
                self._requested(event)
            case ListRead():
                self._list_read(event)
            case AbortRequested():
                run = self.run(event.run)
                if run is not None and run.stage in (Stage.QUEUED, Stage.SEARCHING):
                    self.on_abort(run, event.reason)
            case RequeueRequested():
                self._requeue(event.datadir)
            case PreserveRequested():
                self.issue(Answer(refusal=self.preserve(event.datadir, event.reason)))
            case UnpreserveRequested():
                self.issue(Answer(refusal=self.unpreserve(event.datadir)))
            case CleanRequested():
                self.on_clean_request(event)
            case DiskShort():
                self.on_disk_short(event)
            case DeletionEnded():
                self.on_deletion_ended(event)
            case SearchEnded():
                run = self.run_at(event.run, Stage.SEARCHING)
                if run is not None and run.tries == event.attempt and self.stop_search(run):
                    self.on_searched(run, event)

    def restarted(self, event: Restarted) -> None:
        """Take over the settings and go on; a search under way is repeated, since its process ended with us."""
        world = event.world
        known = {name: world[name] for name in Settings.__struct_fields__ if name in world}
        self.put("settings", Settings(**known))
        for run in self.runs():
            if run.preserve:
                self.preserve(run.datadir, f"asked for with {run.name}")
                self.put_run(changed(run, preserve=False))
        for datadir in world.get("preserved", ()):
            self.preserve(plain(str(datadir)), LISTED)
        self.begin_next()

    def done(self, effect: Effect) -> None:
        """The catalogue has its entries, or an answer has not come."""
        match effect:
            case RunSearch():
                run = self.run_at(effect.run, Stage.SEARCHING)
                # Its answer comes before the receipt; without one nobody knows what it did.
                if run is not None:
                    self.on_search_failed(run, Outcome.CRASHED, "the search ended without saying how")
            case RegisterProducts():
                run = self.run_at(effect.run, Stage.CATALOGUING)
                if run is not None:
                    self.dispose(changed(run, catalogued=True))
            case DeleteRaw():
                self.on_deleted(effect, 0)

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """Something could not be done."""
        match effect:
            case RunSearch():
                run = self.run_at(effect.run, Stage.SEARCHING)
                if run is not None:
                    self.on_search_failed(run, Outcome.OVERDUE if unknown else Outcome.KILLED, reason)
            case RegisterProducts():
                run = self.run_at(effect.run, Stage.CATALOGUING)
                if run is not None:
                    self.on_not_catalogued(run, reason)
            case DeleteRaw():
                self.on_not_deleted(effect, reason)

    def fired(self, name: str) -> None:
        """Time for another attempt."""
        kind, _, rest = name.partition("/")
        if kind == "catalogue" and (run := self.run_at(rest, Stage.CATALOGUING)) is not None:
            self.catalogue(run)
        elif kind == "search" and (run := self.run_at(rest, Stage.SEARCHING)) is not None:
            self.search(run)
        elif kind == "delete" and (run := self.run_at(rest, Stage.DELETING)) is not None:
            self.delete(run)
        elif kind == "clean":
            self.on_clean_timer(rest)

    # -- requests

    def _requested(self, event: ProcessRequested) -> None:
        if event.preserve and (late := self.preserve(event.datadir, f"asked for with {event.run}")):
            self.issue(Notify(level="warning", text=late))
        self.on_request(event)

    def _requeue(self, datadir: str) -> None:
        """Search the directory of a run that has ended once more, under the same name."""
        runs = self.runs_of(datadir)
        run = runs[-1] if runs else None
        refusal = ""
        if run is None:
            refusal = f"no run of {datadir} is known; ask for one with process"
        elif any(other.stage is not Stage.REPORTED for other in runs):
            refusal = f"{datadir} is waited for or worked on already"
        elif self.is_cleaned(datadir):
            refusal = f"raw data of {datadir} are being deleted"
        elif not run.raw:
            refusal = f"raw data of {datadir} are deleted"
        self.issue(Answer(refusal=refusal and f"{refusal}; nothing was changed"))
        if run is not None and not refusal:
            self.put_run(
                Run(
                    name=run.name, number=self.sequence, datadir=datadir, duration=run.duration, band=run.band,
                    min_duration=run.min_duration, snr=run.snr, keep_raw=run.keep_raw, antennas=run.antennas,
                    asked=self.now.wall,
                )
            )  # fmt: skip
            self.begin_next()

    def _list_read(self, event: ListRead) -> None:
        """The coordinator's list: what has not been searched is queued, and one return is given when all is done.

        The directory in which the instance says it has recorded last should be on the list. If it is not, something was
        recorded in the wrong place: it is searched like the others and people are told, and the return is at least 1.
        """
        if self.get("batch", Batch) is not None:
            self.issue(Answer(refusal="the list is being processed already; nothing was changed"))
            return
        self.issue(Answer())
        for datadir in event.preserved:
            self.preserve(datadir, LISTED)
        entries, worst = list(event.listed), 0
        last = event.last
        if entries and last is not None and all(last.datadir != entry.datadir for entry in entries):
            known = self.searcher(last.datadir)
            if known is None or known.code > WORST_GOOD_CODE:
                entries.append(last)
                worst = WORST_GOOD_CODE
                text = (
                    f"recorded in {last.datadir}, which is not on the coordinator's list; it is searched all the same"
                )
                self.issue(Notify(level="warning", text=text))
        waiting: list[str] = []
        for entry in entries:
            runs = self.runs_of(entry.datadir)
            if not runs:
                waiting.append(self._queue_listed(entry, len(waiting)))
            elif runs[-1].stage is Stage.REPORTED:
                worst = max(worst, runs[-1].code)
            else:
                self.put_run(changed(runs[-1], listed=True))
                waiting.append(runs[-1].name)
        self.close_batch(Batch(runs=tuple(waiting), worst=worst))
        self.begin_next()

    def _queue_listed(self, entry: Listed, place: int) -> str:
        name = entry.run if self.run(entry.run) is None else f"{entry.run}@{entry.datadir}"
        self.put_run(
            Run(
                name=name, number=self.sequence, place=place, datadir=entry.datadir, duration=entry.duration,
                band=entry.band, antennas=entry.antennas, listed=True, asked=self.now.wall,
            )
        )  # fmt: skip
        return name

    # -- invariants

    def check(self) -> None:
        """Raise AssertionError, saying what is wrong, when an invariant of the module's text does not hold."""
        runs = self.runs()
        busy = [run for run in runs if run.stage in UNDER_WAY]
        assert len(busy) <= 1, f"{[run.name for run in busy]} are under way together"
        waiting = [run.name for run in self.queued() if self.can_begin(run)]
        assert busy or not waiting or not self.ready, f"{waiting} wait for nothing"
        work = self._work()
        for run in runs:
            own = work.pop(f"run/{run.name}", [])
            assert len(own) == (run.stage in UNDER_WAY), f"{run.name} {run.stage}: {own}"
            assert (run.stage in (Stage.QUEUED, Stage.SEARCHING)) == (run.outcome is None), f"{run.name}: {run.outcome}"
            assert run.tries <= MOST_TRIES, f"{run.name} was searched {run.tries} times"
            assert run.delete_tries <= DELETE_TRIES, f"{run.name} was to be deleted {run.delete_tries} times"
            if run.stage is Stage.DELETING:
                why = objection(RULES[run.rule], standing(run), self.bars(run.datadir, apart_from=run.name))
                assert not why, f"{run.name} is being deleted: {why}"
        for cleaning in self.cleanings():
            own = work.pop(f"clean/{cleaning.datadir}", [])
            assert len(own) == (not cleaning.ended), f"{cleaning}: {own}"
            if not cleaning.ended:
                assert not self.is_preserved(cleaning.datadir), f"{cleaning.datadir} is preserved and being deleted"
                at_work = [run.name for run in self.runs_of(cleaning.datadir) if run.stage in UNDER_WAY]
                assert not at_work, f"{cleaning.datadir} is being deleted under {at_work}"
        assert not work, f"work for unknown runs: {work}"
        batch = self.get("batch", Batch)
        for name in batch.runs if batch else ():
            member = self.run(name)
            assert member is not None and member.stage is not Stage.REPORTED, f"the batch waits for {name}"

    def _work(self) -> dict[str, list[str]]:
        """Outstanding effects and timers by the key of the run or deletion they belong to."""
        work: dict[str, list[str]] = {}
        for item in self.outstanding.values():
            effect = item.effect
            if isinstance(effect, RunSearch | RegisterProducts):
                work.setdefault(f"run/{effect.run}", []).append(type(effect).__name__)
            elif isinstance(effect, DeleteRaw):
                after_search = self.run_at(effect.run, Stage.DELETING)
                mine = after_search is not None and after_search.rule == effect.rule
                key = f"run/{effect.run}" if mine else f"clean/{effect.datadir}"
                work.setdefault(key, []).append("DeleteRaw")
        for timer in self.timers:
            kind, _, rest = timer.partition("/")
            work.setdefault(f"{'clean' if kind == 'clean' else 'run'}/{rest}", []).append(f"timer {timer}")
        return work


def _plainly(event: Event) -> Event:
    """An event whose data directories are written in the one way that they are compared in."""
    match event:
        case ListRead():
            return msgspec.structs.replace(
                event,
                listed=tuple(_plainly_listed(entry) for entry in event.listed),
                preserved=tuple(plain(datadir) for datadir in event.preserved),
                last=event.last and _plainly_listed(event.last),
            )
        case (
            ProcessRequested()
            | RequeueRequested()
            | PreserveRequested()
            | UnpreserveRequested()
            | CleanRequested()
            | DeletionEnded()
        ):
            return msgspec.structs.replace(event, datadir=plain(event.datadir))
    return event


def _plainly_listed(entry: Listed) -> Listed:
    return msgspec.structs.replace(entry, datadir=plain(entry.datadir))
