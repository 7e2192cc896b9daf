"""The analyzer's queue: one run at a time is searched, catalogued and reported; its raw data are `Deletion`'s matter."""

from __future__ import annotations

import msgspec

from socs_bl.core.effect import StoreWrites
from socs_bl.core.machine import Machine
from socs_bl.search.model import (
    CODES,
    MOST_TRIES,
    WORST_GOOD_CODE,
    WORTH_ANOTHER_TRY,
    Batch,
    Notify,
    Outcome,
    Preserved,
    ProcessRequested,
    RegisterProducts,
    Run,
    RunSearch,
    SearchEnded,
    Settings,
    Stage,
)
from socs_bl.search.wire import result_commands, return_command, settled_commands, update_commands

REPORTED_KEPT = 200
CATALOGUE_TRIES = 4
RETRY_PAUSE = 5.0
# A search that found less than this part of what was to be recorded is worth a word.
SHORT_FRACTION = 0.9
UNDER_WAY = frozenset({Stage.SEARCHING, Stage.CATALOGUING, Stage.DELETING})


class Runs(Machine):
    """The searching half of the analyzer's machine."""

    # -- reading the state

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    @property
    def ready(self) -> bool:
        """Whether it has been told its settings, as with every restart."""
        return "settings" in self.cells

    def run(self, name: str) -> Run | None:
        """A run by its name."""
        return self.get(f"run/{name}", Run)

    def runs(self) -> list[Run]:
        """All remembered runs in the order of their requests."""
        return sorted((cell for cell in self.cells.values() if isinstance(cell, Run)), key=_order)

    def queued(self) -> list[Run]:
        """The runs that wait, in their order."""
        return [run for run in self.runs() if run.stage is Stage.QUEUED]

    def under_way(self) -> Run | None:
        """The run that is being worked on."""
        return next((run for run in self.runs() if run.stage in UNDER_WAY), None)

    def runs_of(self, datadir: str) -> list[Run]:
        """The remembered runs of one directory, in the order of their requests."""
        wanted = plain(datadir)
        return [run for run in self.runs() if run.datadir == wanted]

    def given_up(self) -> list[Run]:
        """Runs that ended badly and whose directories nobody has searched since: they wait for a person."""
        latest = {run.datadir: run for run in self.runs() if run.stage is Stage.REPORTED}
        return [run for run in latest.values() if run.code > CODES[Outcome.NOT_DELETED]]

    def preserved(self) -> list[Preserved]:
        """The directories whose raw data stay, in the order in which that was said."""
        return sorted(
            (cell for cell in self.cells.values() if isinstance(cell, Preserved)),
            key=lambda kept: (kept.since, kept.datadir),
        )

    def is_preserved(self, datadir: str) -> bool:
        """Whether the raw data of a directory must stay."""
        return f"preserved/{plain(datadir)}" in self.cells

    # -- what deletion adds

    def can_begin(self, run: Run) -> bool:
        """Whether nothing stands in the way of searching `run`."""
        return True

    def dispose(self, run: Run) -> None:
        """A run has been searched and catalogued: delete its raw data or not, then report it."""
        self.report(run)

    # -- decisions

    def begin_next(self) -> None:
        """Begin the oldest waiting run when nothing is under way."""
        if self.under_way() is None:
            waiting = [run for run in self.queued() if self.can_begin(run)]
            if waiting:
                self.search(changed(waiting[0], began=self.now.wall))

    def on_request(self, event: ProcessRequested) -> None:
        """A run is asked for: a new one, or the result of one that is known."""
        known = self.run(event.run)
        if known is None:
            self.put_run(
                Run(
                    name=event.run, number=self.sequence, datadir=event.datadir, duration=event.duration,
                    min_duration=event.min_duration, snr=event.snr, keep_raw=event.keep_raw, band=event.band,
                    antennas=event.antennas, asked=self.now.wall,
                )
            )  # fmt: skip
            self.begin_next()
        elif known.stage is Stage.REPORTED:
            self.tell(known, returned=True)

    def on_abort(self, run: Run, reason: str) -> None:
        """A run that waits or is searched is given up."""
        self.stop_search(run)
        self.cancel(f"search/{run.name}")
        self.report(changed(run, outcome=Outcome.ABORTED, text=reason))

    def search(self, run: Run) -> None:
        """Begin a search, or begin it again."""
        self.put_run(changed(run, stage=Stage.SEARCHING, tries=run.tries + 1))
        effect = RunSearch(
            run=run.name, attempt=run.tries + 1, datadir=run.datadir, min_duration=run.min_duration, snr=run.snr
        )
        self.issue(effect, lane="search")

    def stop_search(self, run: Run) -> bool:
        """Take back the search of a run; False when there is none."""
        searches = [effect.id for effect in self.outstanding_of(RunSearch) if effect.run == run.name]
        for identity in searches:
            self.withdraw(identity)
        return bool(searches)

    def on_searched(self, run: Run, event: SearchEnded) -> None:
        """The search of this attempt has said how it ended."""
        if event.outcome in WORTH_ANOTHER_TRY:
            self.on_search_failed(run, event.outcome, event.text)
            return
        text = event.text
        if event.outcome is Outcome.SEARCHED:
            recorded = sum(recording.duration_s for recording in event.recordings)
            if recorded < SHORT_FRACTION * run.duration:
                text = joined(text, f"{recorded:.1f} s of {run.duration:.1f} s were recorded")
            if not event.hits:
                text = joined(text, "no hits")
        run = changed(
            run, outcome=event.outcome, text=text, hits=event.hits, stamps=event.stamps, obsid=event.obsid,
            recordings=event.recordings, products=event.products,
        )  # fmt: skip
        if event.recordings:
            self.catalogue(run)
        else:
            self.report(run)

    def on_search_failed(self, run: Run, outcome: Outcome, text: str) -> None:
        """Try again, or give the run up with its raw data kept."""
        if run.tries < MOST_TRIES:
            self.issue(Notify(level="warning", text=f"search of {run.name} {outcome.value}: {text}; trying again"))
            self.arm(f"search/{run.name}", RETRY_PAUSE)
            return
        text = f"search of {run.name} {outcome.value}: {text}"
        self.issue(Notify(level="error", text=f"{text}; raw data are kept, requeue {run.datadir} when it is mended"))
        self.report(changed(run, outcome=outcome, text=text.partition(": ")[2]))

    def catalogue(self, run: Run) -> None:
        """Have recordings and products catalogued."""
        run = changed(run, stage=Stage.CATALOGUING, catalogue_tries=run.catalogue_tries + 1)
        self.put_run(run)
        searched = run.outcome is Outcome.SEARCHED
        effect = RegisterProducts(
            run=run.name, recordings=run.recordings, products=run.products, searched=searched
        )  # fmt: skip
        self.issue(effect, lane="catalogue")

    def on_not_catalogued(self, run: Run, reason: str) -> None:
        """Try again; after that the result counts all the same, but no rule allows to delete anything."""
        if run.catalogue_tries < CATALOGUE_TRIES:
            self.arm(f"catalogue/{run.name}", RETRY_PAUSE)
            return
        self.issue(Notify(level="error", text=f"{run.name} is not in the catalogue: {reason}; register it by hand"))
        self.report(changed(run, text=joined(run.text, f"not catalogued: {reason}")))

    # -- reporting

    def report(self, run: Run) -> None:
        """The run has ended: say so in this commit, and begin the next."""
        run = changed(run, stage=Stage.REPORTED, ended=self.now.wall)
        self.put_run(run)
        self.tell(run, returned=not run.listed)
        if run.code <= CODES[Outcome.NOT_DELETED]:
            self.issue(StoreWrites(commands=settled_commands(self.settings.instance, run.datadir)))
        if run.outcome is Outcome.SEARCHED and run.antennas and run.obsid:
            seconds = sum(recording.duration_s for recording in run.recordings)
            commands = update_commands(run.obsid, run.band, seconds, run.antennas, self.settings.beams)
            self.issue(StoreWrites(commands=commands))
        if run.listed:
            self.count_in_batch(run)
        reported = sorted((old for old in self.runs() if old.stage is Stage.REPORTED), key=lambda old: old.ended)
        for old in reported[:-REPORTED_KEPT]:
            self.drop(f"run/{old.name}")
        self.begin_next()

    def tell(self, run: Run, returned: bool) -> None:
        """Put the result into the stream, and say it as the original does when `returned`."""
        assert run.outcome is not None
        reason = run.outcome.value + (f": {run.text}" if run.text else "")
        commands = result_commands(
            self.settings.instance, run.name, run.code, reason, run.hits, run.obsid,
            stamps=run.stamps, freed=run.freed, returned=returned,
        )  # fmt: skip
        self.issue(StoreWrites(commands=commands))

    def count_in_batch(self, run: Run) -> None:
        """One of the runs of the coordinator's list has ended; after the last, one return for all."""
        batch = self.get("batch", Batch)
        if batch is not None and run.name in batch.runs:
            left = tuple(name for name in batch.runs if name != run.name)
            self.close_batch(Batch(runs=left, worst=max(batch.worst, run.code)))

    def close_batch(self, batch: Batch) -> None:
        """Note what is left of a batch; return its worst code when nothing is."""
        if batch.runs:
            self.put("batch", batch)
            return
        self.drop("batch")
        if batch.worst > WORST_GOOD_CODE:
            text = f"the coordinator's list is processed, the worst code is {batch.worst}; see queue_status"
            self.issue(Notify(level="warning", text=text))
        self.issue(StoreWrites(commands=(return_command(self.settings.instance, batch.worst),)))

    # -- what several of these need

    def run_at(self, name: str, stage: Stage) -> Run | None:
        """A run by its name, when it is at this stage."""
        run = self.run(name)
        return run if run is not None and run.stage is stage else None

    def put_run(self, run: Run) -> None:
        """Write a run."""
        self.put(f"run/{run.name}", run)


def _order(run: Run) -> tuple[int, int]:
    return run.number, run.place


def changed(run: Run, **changes: object) -> Run:
    """`run` with other values."""
    return msgspec.structs.replace(run, **changes)


def plain(datadir: str) -> str:
    """The one way a data directory is written here, so that ``/buf0//x/`` is not taken for another than ``/buf0/x``."""
    parts = [part for part in datadir.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts) if datadir.startswith("/") else datadir


def joined(*texts: str) -> str:
    """Those that are not empty, one after the other."""
    return "; ".join(filter(None, texts))
