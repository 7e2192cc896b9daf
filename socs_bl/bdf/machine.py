"""The publisher's machine: which file is finished, published, announced, or left for people, and when.

The file system is the state: what lies in the directories under a name (a `Sighting`) says which step comes next, and
the journal only adds what a listing does not show (measurements, wishes of people, failures). The steps of one file,
each of them harmless twice:

==========  ===========================================================================================================
step        taken when
==========  ===========================================================================================================
`Measure`   the end of the recording has passed, or nobody has said when it ends: does the file still change?
`Finish`    all nodes have left their markers, or the file has not changed for long, or a person asks for it
`Link`      it is finished and holds something; a name that is taken gets a number behind
`Inform`    it has its name and no side file
`Describe`  it has a side file and BdfInfo has not been sent: the SDM and the catalogue first
`Announce`  likewise
`CleanUp`   BdfInfo has been sent and something is left in the creation directory; the private name goes last
`Discard`   it is finished and holds nothing, or a person asks for it
`Unsend`    a person asks to announce a published file again: without that record it is described and announced
==========  ===========================================================================================================

A step that fails is tried again, with growing pauses; the other files go on meanwhile.
"""

from __future__ import annotations

import msgspec

from socs_bl.bdf.model import (
    ASKED,
    CELLS,
    EFFECTS,
    EMPTY,
    EVENTS,
    Announce,
    Announced,
    CleanUp,
    Damaged,
    Describe,
    Discard,
    DiscardNow,
    Done,
    File,
    Finish,
    Finished,
    Inform,
    Link,
    Looked,
    Measure,
    Measured,
    NameTaken,
    PublishNow,
    Resend,
    Settings,
    Sighting,
    Size,
    Step,
    Tally,
    Tell,
    Unsend,
)
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Machine, Outstanding

QUIET, RETRY = "quiet/", "retry/"
RETRY_SECONDS, LONGEST_RETRY = 60.0, 3600.0
LONGEST_WAIT = 86400.0  # seconds; a scan may end in years, and no timer of a reactor lasts so long
LATEST = 20  # published files that are remembered for people


class PublisherMachine(Machine):
    """Decides what becomes of each file. ``Restarted.world`` holds the `Settings` and all sightings."""

    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    @property
    def tally(self) -> Tally:
        """What has been done."""
        return self.get("tally", Tally) or Tally()

    @property
    def files(self) -> dict[str, File]:
        """Files that are not done, by name."""
        return {name: cell for name, cell in self.cells.items() if isinstance(cell, File)}

    def stage(self, name: str) -> str:
        """Where a file stands, in a word: waiting, faulty, damaged, or the step that is under way."""
        file = self.cells[name]
        assert isinstance(file, File)
        steps = self.outstanding_of(Step, name)
        if file.damaged or file.fault:
            return "damaged" if file.damaged else "faulty"
        return type(steps[0]).__name__.lower() if steps else "waiting"

    # -- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Answer an event."""
        match event:
            case Looked(sightings=sightings):
                for sighting in sightings:
                    self._see(sighting)
            case Measured():
                self._measured(event)
            case Finished():
                self._finished(event)
            case Damaged(name=name, reason=reason):
                self._change(name, damaged=True)
                self._fault(name, f"{reason}; salvage it, then publish_now, or discard it")
            case NameTaken(name=name, target=target):
                self._take_next(name, target)
            case Announced():
                self._count(event)
            case PublishNow(name=name):
                self._publish_now(name)
            case DiscardNow(name=name):
                self._discard_now(name)
            case Resend(name=name):
                self._resend(name)

    def done(self, effect: Effect) -> None:
        """After each step comes the next one."""
        if not isinstance(effect, Step):
            return
        file = self.files.get(effect.name)
        if isinstance(effect, Discard):
            self.put("tally", msgspec.structs.replace(self.tally, discarded=self.tally.discarded + 1))
            self._tell("warning", f"{effect.name} has been discarded: {effect.rule}", effect.name)
        if file is None:
            return
        if isinstance(effect, Describe):
            self._change(effect.name, described=True)
        if file.fault and not file.damaged:
            self._clear(effect.name)
            self._tell("info", f"{effect.name} goes on: {type(effect).__name__} was done", effect.name)
        self._advance(effect.name)

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """A file waits and is tried again; without SDM or catalogue it is announced all the same."""
        if not isinstance(effect, Step) or effect.name not in self.files:
            return
        name = effect.name
        if isinstance(effect, Describe):
            self._change(name, described=True)
            self._tell("error", f"{effect.target} is published and not described: {reason}; then resend it", name)
            self._advance(name)
            return
        tries = self.files[name].tries + 1
        self._fault(name, reason)
        self._change(name, tries=tries)
        self.arm(RETRY + name, min(RETRY_SECONDS * 2 ** (tries - 1), LONGEST_RETRY))

    def fired(self, name: str) -> None:
        """A file has rested for as long as was asked for, or a failed step is due again."""
        kind, _, file_name = name.partition("/")
        if kind + "/" == RETRY:
            self._advance(file_name, again=True)
            return
        file = self.files.get(file_name)
        if file is None or file.damaged or self.outstanding_of(Step, file_name) or RETRY + file_name in self.timers:
            return  # what comes after that measures it again
        if file.size is None:
            self._advance(file_name, again=True)
        else:
            self.issue(Measure(name=file_name, rested=self._patience(file)), lane=file_name)

    def keep(self, outstanding: Outstanding, event: Restarted) -> Effect | None:
        """Nothing but what people are told: `restarted` sees from the directories which step comes next."""
        return outstanding.effect if isinstance(outstanding.effect, Tell) else None

    def restarted(self, event: Restarted) -> None:
        """Begin from what lies there."""
        if "settings" in event.world:
            self.put("settings", msgspec.convert(event.world["settings"], Settings))
        sightings = msgspec.convert(event.world.get("sightings", []), list[Sighting])
        for name in self.files.keys() - {sighting.name for sighting in sightings}:
            self._forget(name)
        for sighting in sightings:
            if (file := self.files.get(sighting.name)) is not None:
                self._clear(sighting.name)
                integrations = file.integrations if sighting.linked else -1
                size = file.size if QUIET + sighting.name in self.timers else None
                self._change(sighting.name, integrations=integrations, described=False, size=size, tries=file.tries)
            self._see(sighting)

    # -- what comes next ------------------------------------------------------------------------------------------

    def _see(self, sighting: Sighting) -> None:
        """Take in what lies under a name."""
        name, file = sighting.name, self.files.get(sighting.name)
        if not sighting.leftovers and (not sighting.linked or sighting.sent):
            self._forget(name)
            return
        if sighting.wrong and (file is None or file.sighting.wrong != sighting.wrong):
            self._tell("warning", f"{name}: {sighting.wrong}; it is published without that", name)
        if file is None:
            self.put(name, File(sighting=sighting, target=name))
        else:
            if file.sighting.end_ns != sighting.end_ns:  # the end has become known, or another one
                self.cancel(QUIET + name)
                file = msgspec.structs.replace(file, size=None)
            self.put(name, msgspec.structs.replace(file, sighting=sighting))
        self._advance(name)

    def _advance(self, name: str, again: bool = False) -> None:
        """Issue the next step of a file, if it can go on."""
        file = self.files.get(name)
        if file is None or self.outstanding_of(Step, name) or (file.fault and not again):
            return
        step = self._after_link(file) if file.sighting.linked else self._before_link(file)
        if step is not None:
            self.cancel(QUIET + name)
            self.issue(step, lane=name)

    def _before_link(self, file: File) -> Step | None:
        seen = file.sighting
        if not (file.asked or file.ended or (seen.nodes and not seen.missing_nodes)):
            return self._wait(file)
        if not seen.part or file.integrations == 0:
            return Discard(name=seen.name, rule=EMPTY)
        if file.integrations < 0:
            return Finish(name=seen.name, stop_ns=seen.end_ns, reason=why_aborted(file))
        return Link(name=seen.name, target=file.target)

    def _after_link(self, file: File) -> Step | None:
        seen = file.sighting
        if not seen.informed:
            return Inform(name=seen.name, target=seen.linked, reason=why_aborted(file))
        if seen.sent:
            return CleanUp(name=seen.name)
        if not file.described:
            return Describe(name=seen.name, target=seen.linked)
        return Announce(name=seen.name, target=seen.linked)

    # -- files that nobody has finished ---------------------------------------------------------------------------

    def _wait(self, file: File) -> Step | None:
        """Measure the file once the recording is over, and again when it has rested for long enough."""
        timer = QUIET + file.sighting.name
        if timer in self.timers:
            return None
        left = file.sighting.end_ns / 1e9 - self.now.wall
        if left > 0:
            self.arm(timer, min(left, LONGEST_WAIT))
            return None
        return Measure(name=file.sighting.name, rested=0.0)

    def _measured(self, event: Measured) -> None:
        file, asked = self.files.get(event.name), self.outstanding_of(Measure, event.name)
        if file is None or not asked:
            return
        rested = asked[0].rested
        if rested and event.size == file.size:
            self._change(event.name, ended=f"unchanged for {rested:g} s")
        else:
            self._change(event.name, size=event.size)
            self.arm(QUIET + event.name, self._patience(self.files[event.name]))

    def _patience(self, file: File) -> float:
        """Seconds without a change after which a file is taken for finished."""
        size: Size | None = file.size
        long = self.settings.grace_integrations * (size.interval_s if size is not None else 0.0)
        limit = self.settings.grace_seconds if file.sighting.end_ns else self.settings.abandoned_seconds
        return max(limit, long)

    # -- failures and names ---------------------------------------------------------------------------------------

    def _fault(self, name: str, reason: str) -> None:
        if name in self.files and self.files[name].fault != reason:
            self._change(name, fault=reason)
            self._tell("error", f"{name}: {reason}", name)

    def _clear(self, name: str) -> None:
        self.cancel(RETRY + name)
        self._change(name, fault="", damaged=False, tries=0)

    def _finished(self, event: Finished) -> None:
        """Who finds fewer integrations than the scan's time holds need not have been told why by anybody."""
        name, count, expected = event.name, event.integrations, event.expected
        self._change(name, integrations=count)
        if 0 < count < expected and name in self.files:
            self._tell("warning", f"{name} has {count} of the {expected} integrations of its time", name)

    def _take_next(self, name: str, target: str) -> None:
        """The next name of a second copy."""
        file = self.files.get(name)
        if file is None or file.target != target:
            return
        number = int(target.removeprefix(f"{name}-") or 1) if target != name else 1
        self._change(name, target=f"{name}-{number + 1}")
        self._tell("warning", f"{target} is published already; this copy becomes {name}-{number + 1}", name)

    def _forget(self, name: str) -> None:
        self.cancel(QUIET + name)
        self.cancel(RETRY + name)
        for step in self.outstanding_of(Step, name):
            if isinstance(step, Measure):
                self.withdraw(step.id)
        self.drop(name)

    def _count(self, event: Announced) -> None:
        file, tally = self.files.get(event.name), self.tally
        changes: dict[str, object] = {"announced": tally.announced + 1}
        if file is not None and file.sighting.leftovers:
            done = Done(event.target, event.integrations, event.bytes, self.now.wall)
            changes |= {
                "published": tally.published + 1,
                "integrations": tally.integrations + event.integrations,
                "bytes": tally.bytes + event.bytes,
                "latest": (done, *tally.latest)[:LATEST],
            }
        self.put("tally", msgspec.structs.replace(tally, **changes))

    # -- people ---------------------------------------------------------------------------------------------------

    def _publish_now(self, name: str) -> None:
        if name not in self.files:
            self.issue(Answer(refusal=f"{name} does not lie in the creation directory; see list_files"))
            return
        self._clear(name)
        self._change(name, asked=True)
        self.issue(Answer())
        self._advance(name)

    def _discard_now(self, name: str) -> None:
        file = self.files.get(name)
        if file is None:
            refusal = f"{name} does not lie in the creation directory; see list_files"
        elif file.sighting.linked:
            refusal = f"{name} is published as {file.sighting.linked}; the archive deletes it, not the publisher"
        elif self.outstanding_of(Step, name):
            refusal = f"{name}: {self.stage(name)} is under way; ask again when it is over"
        else:
            self._clear(name)
            self.cancel(QUIET + name)
            self.issue(Answer())
            self.issue(Discard(name=name, rule=ASKED), lane=name)
            return
        self.issue(Answer(refusal=refusal))

    def _resend(self, name: str) -> None:
        """The shell has seen that it is published."""
        if name in self.files:
            self.issue(Answer(refusal=f"{name} is being published; it will be announced then"))
            return
        self.issue(Answer())
        self.put(name, File(sighting=Sighting(name=name, linked=name, informed=True), target=name))
        self.issue(Unsend(name=name), lane=name)

    # -- writing --------------------------------------------------------------------------------------------------

    def _change(self, name: str, **changes: object) -> None:
        if name in self.files:
            self.put(name, msgspec.structs.replace(self.files[name], **changes))

    def _tell(self, level: str, text: str, name: str) -> None:
        self.issue(Tell(level=level, text=text, file=name), lane="tell")

    def check(self) -> None:
        """What must hold after every event."""
        for name, file in self.files.items():
            seen, steps = file.sighting, self.outstanding_of(Step, name)
            assert len(steps) <= 1, f"{name}: {len(steps)} steps at once"
            assert seen.leftovers or (seen.linked and not seen.sent), f"{name}: nothing is left to be done"
            for step in steps:
                self._check_step(file, step)
            timers = {QUIET + name, RETRY + name} & self.timers.keys()
            assert steps or timers or file.damaged, f"{name}: forgotten at {seen}"
        for timer in self.timers:
            assert timer.partition("/")[2] in self.files, f"{timer}: a timer of nothing"

    @staticmethod
    def _check_step(file: File, step: Step) -> None:
        seen = file.sighting
        match step:
            case Discard(rule=rule):
                assert not seen.linked, f"{seen.name}: discarded and published"
                assert rule == ASKED or not seen.part or file.integrations == 0, f"{seen.name}: discarded without proof"
            case Link():
                assert file.integrations > 0, f"{seen.name}: published without being finished, or empty"
            case Announce() | Describe():
                assert seen.linked and seen.informed, f"{seen.name}: announced before it is published"
            case CleanUp():
                assert seen.linked and seen.informed and seen.sent, f"{seen.name}: cleaned up before it was announced"


def why_aborted(file: File) -> str:
    """Why a recording ended otherwise than it should; empty when it did not."""
    seen = file.sighting
    reasons = [f"{marker.node}: {marker.reason or 'aborted'}" for marker in seen.markers if marker.aborted]
    if seen.missing_nodes:
        reasons.append(f"no end from {', '.join(seen.missing_nodes)}")
    if (seen.missing_nodes or not seen.nodes) and (file.asked or file.ended):
        reasons.append("published by hand" if file.asked else file.ended)
    return "; ".join(reasons)
