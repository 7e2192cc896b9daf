"""The analyzer's raw data: what is preserved, what goes under which rule, and in which order when the disk is short."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from socs_bl.core.effect import Answer, StoreWrites
from socs_bl.search.model import (
    Cleaning,
    CleanRequested,
    DeleteRaw,
    DeletionEnded,
    DiskShort,
    Notify,
    Outcome,
    Preserved,
    Run,
    Stage,
)
from socs_bl.search.rules import (
    AFTER_SEARCH,
    ASKED,
    DISK_SHORT,
    FORCED,
    RULES,
    TOO_SHORT,
    Bar,
    Rule,
    Standing,
    objection,
)
from socs_bl.search.runs import RETRY_PAUSE, Runs, changed, joined
from socs_bl.search.wire import preserved_commands, unpreserved_commands

DELETE_TRIES = 4
CLEANINGS_KEPT = 100
_SEARCHED = frozenset({Outcome.SEARCHED, Outcome.NOT_DELETED, Outcome.UNPROVEN})


class Deletion(Runs):
    """The deleting half of the analyzer's machine."""

    # -- reading the state

    def cleanings(self) -> list[Cleaning]:
        """Deletions that were asked for after the fact, in their order, the latest of each directory."""
        found = [cell for cell in self.cells.values() if isinstance(cell, Cleaning)]
        return sorted(found, key=lambda cleaning: cleaning.number)

    def cleaning(self, datadir: str) -> Cleaning | None:
        """The latest of one directory."""
        return self.get(f"clean/{datadir}", Cleaning)

    def is_cleaned(self, datadir: str) -> bool:
        """Whether such a deletion is under way."""
        cleaning = self.cleaning(datadir)
        return cleaning is not None and not cleaning.ended

    def searcher(self, datadir: str) -> Run | None:
        """The run that speaks for a directory: the latest that searched it completely, else the latest that ended."""
        reported = [run for run in self.runs_of(datadir) if run.stage is Stage.REPORTED]
        reported.sort(key=lambda run: (run.outcome in _SEARCHED and run.complete, run.ended))
        return reported[-1] if reported else None

    def bars(self, datadir: str, apart_from: str = "") -> set[Bar]:
        """What forbids to delete a directory, `apart_from` the run that is about to do it."""
        others = [run for run in self.runs_of(datadir) if run.name != apart_from]
        found = {
            Bar.PRESERVED: self.is_preserved(datadir),
            Bar.WANTED: any(run.stage is not Stage.REPORTED for run in others),
            Bar.GOING: self.is_cleaned(datadir),
        }
        return {bar for bar, holds in found.items() if holds}

    def is_reclaimable(self) -> bool:
        """Whether a disk that runs short would get room by `DiskShort`."""
        going = any(not cleaning.ended for cleaning in self.cleanings())
        return self.settings.reclaim and not going and next(self._disposable(DISK_SHORT), None) is not None

    def can_begin(self, run: Run) -> bool:
        """Not while its raw data are being deleted."""
        return not self.is_cleaned(run.datadir)

    # -- after a search

    def dispose(self, run: Run) -> None:
        """Delete the raw data of a run where a rule allows it, then report it."""
        keep = self.settings.keep_raw if run.keep_raw is None else run.keep_raw
        short = run.outcome is Outcome.TOO_SHORT
        wanted = run.outcome is Outcome.SEARCHED or (short and self.settings.delete_short)
        if keep or not wanted or self.is_preserved(run.datadir):
            self.report(run)
            return
        rule = TOO_SHORT if short else AFTER_SEARCH
        refusal = objection(rule, standing(run), self.bars(run.datadir, apart_from=run.name))
        if refusal and not (short or run.complete):
            refusal = "not all of it was searched"
        if refusal:
            self.report(changed(run, text=joined(run.text, f"{refusal}, so raw data are kept")))
        else:
            self.delete(changed(run, rule=rule.name))

    def delete(self, run: Run) -> None:
        """Have the raw data of a run deleted before it is reported."""
        self.put_run(changed(run, stage=Stage.DELETING, delete_tries=run.delete_tries + 1))
        self._issue_deletion(run.datadir, RULES[run.rule], run)

    def _issue_deletion(self, datadir: str, rule: Rule, run: Run | None) -> None:
        effect = DeleteRaw(
            datadir=datadir, run=run.name if run else "", rule=rule.name, proof=rule.proof,
            recordings=run.recordings if run else (), products=run.products if run else (),
        )  # fmt: skip
        self.issue(effect, lane="delete")

    def on_deletion_ended(self, event: DeletionEnded) -> None:
        """The shell has deleted, or has seen that the rule does not hold; a repeated answer changes nothing."""
        effects = [
            effect for effect in self.outstanding_of(DeleteRaw)
            if (effect.datadir, effect.run, effect.rule) == (event.datadir, event.run, event.rule)
        ]  # fmt: skip
        for effect in effects:
            self.withdraw(effect.id)
            self.on_deleted(effect, event.freed, event.refusal)

    def on_deleted(self, effect: DeleteRaw, freed: int, refusal: str = "") -> None:
        """A deletion has ended."""
        run, cleaning = self.run_at(effect.run, Stage.DELETING), self.cleaning(effect.datadir)
        if run is not None and run.rule == effect.rule:
            if refusal:
                self.issue(Notify(level="error", text=f"raw data of {run.name} stay: {refusal}"))
                self.report(changed(run, outcome=Outcome.UNPROVEN, text=joined(run.text, refusal)))
            else:
                self.report(changed(run, raw=False, freed=freed))
        elif cleaning is not None and not cleaning.ended:
            self._cleaned(cleaning, freed, refusal)

    def on_not_deleted(self, effect: DeleteRaw, reason: str) -> None:
        """Try again: a catalogue or a disk that is busy for a while is no fault. After that somebody must look."""
        run, cleaning = self.run_at(effect.run, Stage.DELETING), self.cleaning(effect.datadir)
        if run is not None and run.rule == effect.rule:
            if run.delete_tries < DELETE_TRIES:
                self.arm(f"delete/{run.name}", RETRY_PAUSE)
                return
            self.issue(Notify(level="error", text=f"raw data of {run.name} could not be deleted: {reason}"))
            self.report(changed(run, outcome=Outcome.NOT_DELETED, text=joined(run.text, reason)))
        elif cleaning is not None and not cleaning.ended:
            if cleaning.tries < DELETE_TRIES:
                self.arm(f"clean/{cleaning.datadir}", RETRY_PAUSE)
            else:
                self._cleaned(cleaning, 0, reason)

    # -- after the fact

    def on_clean_request(self, event: CleanRequested) -> None:
        """Somebody wants raw data gone."""
        if event.datadir:
            rule = FORCED if event.force else ASKED
            refusal = self._objection(event.datadir, rule)
            found = [] if refusal else [event.datadir]
        else:
            refusal = "nothing that old may be deleted"
            found = [run.datadir for run in self._disposable(ASKED) if run.ended < event.before]
            rule = ASKED
        self.issue(Answer(refusal="" if found else f"{refusal}; nothing was changed"))
        for datadir in found:
            self._clean(datadir, rule)

    def on_disk_short(self, event: DiskShort) -> None:
        """Make room, when that is wanted: one directory at a time, the one first that was processed first."""
        if self.is_reclaimable():
            oldest = next(self._disposable(DISK_SHORT))
            text = f"{event.text}: raw data of {oldest.datadir} go (rule {DISK_SHORT.name}: {DISK_SHORT.text})"
            self.issue(Notify(level="warning", text=text))
            self._clean(oldest.datadir, DISK_SHORT)

    def _disposable(self, rule: Rule) -> Iterator[Run]:
        """The runs whose directories `rule` allows to delete, the one first that ended first."""
        speaking = {run.datadir: self.searcher(run.datadir) for run in self.runs() if run.stage is Stage.REPORTED}
        for run in sorted(filter(None, speaking.values()), key=lambda run: run.ended):
            latest = self.cleaning(run.datadir)
            # What could not be proven once is not asked for again by itself.
            stuck = latest is not None and latest.refusal and latest.ended >= run.ended
            if not stuck and not self._objection(run.datadir, rule):
                yield run

    def _objection(self, datadir: str, rule: Rule) -> str:
        run = self.searcher(datadir)
        if run is not None and not run.raw and rule is not FORCED:
            return f"raw data of {datadir} are deleted already"
        text = objection(rule, standing(run), self.bars(datadir))
        return text and f"raw data of {datadir} stay: {text}"

    def _clean(self, datadir: str, rule: Rule) -> None:
        run = None if rule is FORCED else self.searcher(datadir)
        cleaning = Cleaning(
            datadir=datadir, number=self.sequence, rule=rule.name, run=run.name if run else "", asked=self.now.wall
        )
        self.put(f"clean/{datadir}", cleaning)
        self._issue_deletion(datadir, rule, run)

    def on_clean_timer(self, datadir: str) -> None:
        """Another attempt at a deletion."""
        cleaning = self.cleaning(datadir)
        if cleaning is not None and not cleaning.ended:
            run, rule = self.run(cleaning.run), RULES[cleaning.rule]
            if rule.needs - standing(run):
                self._cleaned(cleaning, 0, "the run that searched it is not remembered any more")
                return
            self.put(f"clean/{datadir}", msgspec.structs.replace(cleaning, tries=cleaning.tries + 1))
            self._issue_deletion(datadir, rule, run)

    def _cleaned(self, cleaning: Cleaning, freed: int, refusal: str) -> None:
        ended = msgspec.structs.replace(cleaning, ended=self.now.wall, freed=freed, refusal=refusal)
        self.put(f"clean/{cleaning.datadir}", ended)
        if refusal:
            text = f"raw data of {cleaning.datadir} stay (rule {cleaning.rule}): {refusal}"
            self.issue(Notify(level="error", text=text))
        else:
            for run in self.runs_of(cleaning.datadir):
                mine = freed if run.name == cleaning.run else 0
                self.put_run(changed(run, raw=False, freed=run.freed + mine))
        for old in [item for item in self.cleanings() if item.ended][:-CLEANINGS_KEPT]:
            self.drop(f"clean/{old.datadir}")
        self.begin_next()

    # -- preserving

    def preserve(self, datadir: str, reason: str) -> str:
        """Have the raw data of a directory stay; returns why that is too late, if it is."""
        if self.is_cleaned(datadir) or any(run.stage is Stage.DELETING for run in self.runs_of(datadir)):
            return f"raw data of {datadir} are being deleted already"
        if not self.is_preserved(datadir):
            self.put(f"preserved/{datadir}", Preserved(datadir=datadir, reason=reason, since=self.now.wall))
            self.issue(StoreWrites(commands=preserved_commands(self.settings.instance, datadir)))
        return ""

    def unpreserve(self, datadir: str) -> str:
        """Take that back; returns why there is nothing to take back."""
        if not self.is_preserved(datadir):
            return f"{datadir} is not preserved"
        self.drop(f"preserved/{datadir}")
        self.issue(StoreWrites(commands=unpreserved_commands(self.settings.instance, datadir)))
        return ""


def standing(run: Run | None) -> set[Standing]:
    """What is known of the directory that `run` has searched."""
    if run is None:
        return set()
    found = {
        Standing.SEARCHED: run.outcome in _SEARCHED and run.complete,
        Standing.CATALOGUED: run.catalogued,
        Standing.MEASURED: run.outcome is Outcome.TOO_SHORT and run.whole,
    }
    return {word for word, holds in found.items() if holds}
