"""The analyzer's machine: one run at a time, in the order of the first request, none forgotten.

A run stays queued until it is reported; nothing is taken off a list before it is done. Its stages are
QUEUED, SEARCHING, CATALOGUING, DELETING (only where a rule allows it), REPORTED. A run is reported in the commit that
ends it (stream and message ride in the commit), and again whenever it is asked for again.

Invariants (`check`): at most one run is under way; none waits while nothing is under way; a run under way has exactly
one outstanding effect of its stage, or the timer for its next attempt; a reported run has an outcome and nothing
outstanding; raw data are deleted only under `DELETE_RULE`.
"""

from __future__ import annotations

import msgspec

from socs_bl.core.effect import Effect, StoreWrites
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Machine
from socs_bl.search.model import (
    CELLS,
    EFFECTS,
    EVENTS,
    MOST_TRIES,
    WORTH_ANOTHER_TRY,
    AbortRequested,
    DeleteRaw,
    Notify,
    Outcome,
    ProcessRequested,
    RegisterProducts,
    Run,
    RunSearch,
    SearchEnded,
    Settings,
    Stage,
)
from socs_bl.search.wire import result_commands

DELETE_RULE = "searched completely, unchanged since, products written and catalogued, not preserved"
REPORTED_KEPT = 200
CATALOGUE_TRIES = 4
DELETE_TRIES = 4
RETRY_PAUSE = 5.0
# A search that found less than this part of what was to be recorded is worth a word.
SHORT_FRACTION = 0.9
UNDER_WAY = frozenset({Stage.SEARCHING, Stage.CATALOGUING, Stage.DELETING})


class AnalyzerMachine(Machine):
    """Decides which run is searched next, what becomes of its data, and what is reported."""

    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    # -- reading the state

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    def run(self, name: str) -> Run | None:
        """A run by its name."""
        return self.get(f"run/{name}", Run)

    def runs(self) -> list[Run]:
        """All remembered runs in the order of their requests."""
        return sorted((cell for cell in self.cells.values() if isinstance(cell, Run)), key=lambda run: run.number)

    @property
    def ready(self) -> bool:
        """Whether it has been told its settings, as with every restart."""
        return "settings" in self.cells

    def queued(self) -> list[Run]:
        """The runs that wait, in their order."""
        return [run for run in self.runs() if run.stage is Stage.QUEUED]

    def under_way(self) -> Run | None:
        """The run that is being worked on."""
        return next((run for run in self.runs() if run.stage in UNDER_WAY), None)

    # -- events

    def handle(self, event: Event) -> None:
        """A request, an abort, or the end of a search."""
        match event:
            case ProcessRequested():
                self._requested(event)
            case AbortRequested():
                self._aborted(event)
            case SearchEnded():
                run = self._at(event.run, Stage.SEARCHING)
                if run is not None and run.tries == event.attempt and self._stop_search(run):
                    self._searched(run, event)

    def restarted(self, event: Restarted) -> None:
        """Take over the settings and go on; a search under way is repeated, since its process ended with us."""
        world = event.world
        self.put("settings", Settings(instance=str(world["instance"]), keep_raw=bool(world["keep_raw"])))
        self._next()

    def done(self, effect: Effect) -> None:
        """The catalogue has its entries, or the raw data are gone."""
        match effect:
            case RunSearch():
                run = self._at(effect.run, Stage.SEARCHING)
                # Its answer comes before the receipt; without one nobody knows what it did.
                if run is not None:
                    self._search_failed(run, Outcome.CRASHED, "the search ended without saying how")
            case RegisterProducts():
                run = self._at(effect.run, Stage.CATALOGUING)
                if run is not None:
                    self._catalogued(run)
            case DeleteRaw():
                run = self._at(effect.run, Stage.DELETING)
                if run is not None:
                    self._report(run)

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """Something could not be done."""
        match effect:
            case RunSearch():
                run = self._at(effect.run, Stage.SEARCHING)
                if run is not None:
                    outcome = Outcome.OVERDUE if unknown else Outcome.KILLED
                    self._search_failed(run, outcome, reason)
            case RegisterProducts():
                run = self._at(effect.run, Stage.CATALOGUING)
                if run is not None:
                    self._not_catalogued(run, reason)
            case DeleteRaw():
                run = self._at(effect.run, Stage.DELETING)
                if run is not None:
                    self._not_deleted(run, reason)

    def fired(self, name: str) -> None:
        """Time for another attempt."""
        kind, _, run_name = name.partition("/")
        if kind == "catalogue" and (run := self._at(run_name, Stage.CATALOGUING)) is not None:
            self._catalogue(run)
        elif kind == "search" and (run := self._at(run_name, Stage.SEARCHING)) is not None:
            self._search(run)
        elif kind == "delete" and (run := self._at(run_name, Stage.DELETING)) is not None:
            self._delete(run)

    # -- decisions

    def _requested(self, event: ProcessRequested) -> None:
        known = self.run(event.run)
        if known is None:
            self._put(
                Run(
                    name=event.run, number=self.sequence, datadir=event.datadir, duration=event.duration,
                    preserve=event.preserve, asked=self.now.wall,
                )
            )  # fmt: skip
            self._next()
        elif known.stage is Stage.REPORTED:
            self._tell(known)
        elif event.preserve and not known.preserve and known.stage is not Stage.DELETING:
            self._put(_changed(known, preserve=True))

    def _aborted(self, event: AbortRequested) -> None:
        run = self.run(event.run)
        if run is None or run.stage not in (Stage.QUEUED, Stage.SEARCHING):
            return
        self._stop_search(run)
        self.cancel(f"search/{run.name}")
        self._report(_changed(run, outcome=Outcome.ABORTED, text=event.reason))

    def _next(self) -> None:
        """Begin the oldest waiting run when nothing is under way."""
        if self.under_way() is None:
            waiting = self.queued()
            if waiting:
                self._search(waiting[0])

    def _search(self, run: Run) -> None:
        self._put(_changed(run, stage=Stage.SEARCHING, tries=run.tries + 1))
        self.issue(RunSearch(run=run.name, attempt=run.tries + 1, datadir=run.datadir), lane="search")

    def _stop_search(self, run: Run) -> bool:
        """Take back the search of a run; False when there is none."""
        searches = [effect.id for effect in self.outstanding_of(RunSearch) if effect.run == run.name]
        for identity in searches:
            self.withdraw(identity)
        return bool(searches)

    def _searched(self, run: Run, event: SearchEnded) -> None:
        """The search of this attempt has said how it ended."""
        if event.outcome in WORTH_ANOTHER_TRY:
            self._search_failed(run, event.outcome, event.text)
            return
        recorded = sum(recording.duration_s for recording in event.recordings)
        text = event.text
        if event.outcome is Outcome.SEARCHED and recorded < SHORT_FRACTION * run.duration:
            text = _joined(text, f"{recorded:.1f} s of {run.duration:.1f} s were recorded")
        run = _changed(
            run, outcome=event.outcome, text=text, hits=event.hits, obsid=event.obsid, recordings=event.recordings,
            products=event.products,
        )  # fmt: skip
        if event.recordings:
            self._catalogue(run)
        else:
            self._report(run)

    def _search_failed(self, run: Run, outcome: Outcome, text: str) -> None:
        """Try again, or give the run up with its raw data kept."""
        if outcome in WORTH_ANOTHER_TRY and run.tries < MOST_TRIES:
            self.issue(Notify(level="warning", text=f"search of {run.name} {outcome.value}: {text}; trying again"))
            self.arm(f"search/{run.name}", RETRY_PAUSE)
            return
        self.issue(Notify(level="error", text=f"search of {run.name} {outcome.value}: {text}; raw data are kept"))
        self._report(_changed(run, outcome=outcome, text=text))

    def _catalogue(self, run: Run) -> None:
        run = _changed(run, stage=Stage.CATALOGUING, catalogue_tries=run.catalogue_tries + 1)
        self._put(run)
        self.issue(
            RegisterProducts(
                run=run.name,
                recordings=run.recordings,
                products=run.products,
                searched=run.outcome is Outcome.SEARCHED,
            ),
            lane="catalogue",
        )

    def _not_catalogued(self, run: Run, reason: str) -> None:
        """Try again; after that the result counts all the same, but no rule allows to delete anything."""
        if run.catalogue_tries < CATALOGUE_TRIES:
            self.arm(f"catalogue/{run.name}", RETRY_PAUSE)
            return
        self.issue(Notify(level="error", text=f"{run.name} is not in the catalogue: {reason}; register it by hand"))
        self._report(_changed(run, text=_joined(run.text, f"not catalogued: {reason}")))

    def _catalogued(self, run: Run) -> None:
        """Searched and catalogued: delete the raw data if the rule holds."""
        if run.outcome is not Outcome.SEARCHED or run.preserve or self.settings.keep_raw:
            self._report(run)
        elif not _complete(run):
            text = _joined(run.text, "not all of it was searched, so raw data are kept")
            self._report(_changed(run, text=text))
        else:
            self._delete(run)

    def _delete(self, run: Run) -> None:
        self._put(_changed(run, stage=Stage.DELETING, delete_tries=run.delete_tries + 1))
        self.issue(
            DeleteRaw(run=run.name, rule=DELETE_RULE, recordings=run.recordings, products=run.products), lane="delete"
        )

    def _not_deleted(self, run: Run, reason: str) -> None:
        """Try again: a catalogue or a disk that is busy for a while is no fault. After that somebody must look."""
        if run.delete_tries < DELETE_TRIES:
            self.arm(f"delete/{run.name}", RETRY_PAUSE)
            return
        self.issue(Notify(level="error", text=f"raw data of {run.name} could not be deleted: {reason}"))
        self._report(_changed(run, outcome=Outcome.NOT_DELETED, text=_joined(run.text, reason)))

    def _report(self, run: Run) -> None:
        """The run has ended: say so in this commit, and begin the next."""
        run = _changed(run, stage=Stage.REPORTED, ended=self.now.wall)
        self._put(run)
        self._tell(run)
        reported = [old for old in self.runs() if old.stage is Stage.REPORTED]
        for old in reported[:-REPORTED_KEPT]:
            self.drop(f"run/{old.name}")
        self._next()

    def _tell(self, run: Run) -> None:
        assert run.outcome is not None
        reason = run.outcome.value + (f": {run.text}" if run.text else "")
        commands = result_commands(self.settings.instance, run.name, run.code, reason, run.hits, run.obsid)
        self.issue(StoreWrites(commands=commands))

    def _at(self, name: str, stage: Stage) -> Run | None:
        run = self.run(name)
        return run if run is not None and run.stage is stage else None

    def _put(self, run: Run) -> None:
        self.put(f"run/{run.name}", run)

    # -- invariants

    def check(self) -> None:
        """Raise AssertionError, saying what is wrong, when an invariant of the module's text does not hold."""
        runs = self.runs()
        busy = [run for run in runs if run.stage in UNDER_WAY]
        assert len(busy) <= 1, f"{[run.name for run in busy]} are under way together"
        waiting = [run.name for run in self.queued()]
        assert busy or not waiting or not self.ready, f"{waiting} wait for nothing"
        work: dict[str, list[str]] = {run.name: [] for run in runs}
        for item in self.outstanding.values():
            effect = item.effect
            if isinstance(effect, RunSearch | RegisterProducts | DeleteRaw):
                work.setdefault(effect.run, []).append(type(effect).__name__)
        for timer in self.timers:
            work.setdefault(timer.partition("/")[2], []).append(f"timer {timer}")
        for run in runs:
            assert len(work[run.name]) == (run.stage in UNDER_WAY), f"{run.name} {run.stage}: {work[run.name]}"
            assert (run.stage in (Stage.QUEUED, Stage.SEARCHING)) == (run.outcome is None), f"{run.name}: {run.outcome}"
            assert run.tries <= MOST_TRIES, f"{run.name} was searched {run.tries} times"
            assert run.delete_tries <= DELETE_TRIES, f"{run.name} was to be deleted {run.delete_tries} times"
            if run.stage is Stage.DELETING:
                allowed = run.outcome is Outcome.SEARCHED and _complete(run) and not run.preserve
                assert allowed, f"{run.name}: nothing allows to delete its raw data"
        assert set(work) <= {run.name for run in runs}, f"work for unknown runs: {work}"


def _changed(run: Run, **changes: object) -> Run:
    return msgspec.structs.replace(run, **changes)


def _complete(run: Run) -> bool:
    """Whether each of its recordings was read to its end and has a hit list; one that is too short has none."""
    lists = {name.rpartition("/")[2] for name in run.products}
    return all(not recording.damage and f"{recording.stem}.dat" in lists for recording in run.recordings)


def _joined(*texts: str) -> str:
    """Those that are not empty, one after the other."""
    return "; ".join(filter(None, texts))
