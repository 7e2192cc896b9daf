"""The machine of the listener to the pipe: which configuration is made under which name, and in which order.

* a configuration is named ``HH_MM_SS`` after the UTC time of its event, with ``_2``, ``_3``... when that was given;
* each node makes and activates configurations in the order in which they were asked for, one after the other, and
  waits for no other node;
* a node that does not answer is asked again, until the next configuration is there or the time is up: then people are
  told, and the next one has its turn. What a node refuses is not asked again.
"""

from __future__ import annotations

import msgspec

from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Machine
from socs_bl.correlator.listener.model import (
    CELLS,
    EFFECTS,
    EVENTS,
    ActivateConfiguration,
    CreateConfiguration,
    History,
    Job,
    Ledger,
    Notify,
    Past,
    PathGiven,
    Queue,
    Settings,
)

DAY = 86400
MOST_NAMES = 200
MOST_WAITING = 50
MOST_PAST = 20
REFUSED = "refused: "


class ListenerMachine(Machine):
    """Decides names and order. Its `Settings` come with ``Restarted.world``."""

    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    @property
    def ledger(self) -> Ledger:
        """Counts and names."""
        return self.get("ledger", Ledger) or Ledger()

    @property
    def history(self) -> History:
        """How the last configurations have ended."""
        return self.get("history", History) or History()

    def queue(self, node: str) -> Queue:
        """What a node is still to be told."""
        return self.get(f"queue/{node}", Queue) or Queue(node=node)

    def queues(self) -> list[Queue]:
        """All queues that are not empty, by node."""
        return [cell for _, cell in sorted(self.cells.items()) if isinstance(cell, Queue)]

    # -- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Answer an event."""
        if isinstance(event, PathGiven):
            self._given(event)

    def done(self, effect: Effect) -> None:
        """A node has made a configuration, or activated it."""
        if isinstance(effect, CreateConfiguration):
            job = self.queue(effect.node).jobs[0]
            self._set_first(effect.node, msgspec.structs.replace(job, created=True, tries=0))
            self._drive(effect.node)
        elif isinstance(effect, ActivateConfiguration):
            self._end_first(effect.node, "")

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """A node has not: once more later, or never."""
        if not isinstance(effect, CreateConfiguration | ActivateConfiguration):
            return
        node, settings = effect.node, self.settings
        job = self.queue(node).jobs[0]
        if reason.startswith(REFUSED):
            self._end_first(node, reason.removeprefix(REFUSED))
        elif self.now.wall - job.since > settings.give_up or len(self.queue(node).jobs) > 1:
            self._end_first(node, reason)
        else:
            if not job.tries:
                self._tell("warning", f"{node} has not taken configuration {job.name} and is asked again: {reason}")
            self._set_first(node, msgspec.structs.replace(job, tries=job.tries + 1))
            self.arm(f"retry/{node}", min(settings.first_pause * 2.0 ** min(job.tries, 30), settings.longest_pause))

    def fired(self, name: str) -> None:
        """Ask a node again."""
        self._drive(name.removeprefix("retry/"))

    def restarted(self, event: Restarted) -> None:
        """What was under way goes on; what nodes that are not configured any more were to have is given up."""
        self.put("settings", msgspec.convert(dict(event.world), Settings, strict=True))
        for queue in self.queues():
            if queue.node in self.settings.nodes:
                self._drive(queue.node)
                continue
            self.cancel(f"retry/{queue.node}")
            for effect in self.outstanding_of(Effect, queue.node):
                self.withdraw(effect.id)
            self.drop(f"queue/{queue.node}")
            for job in queue.jobs:
                self._record(queue.node, job, "the node is not configured any more")

    # -- inside ---------------------------------------------------------------------------------------------------

    def _given(self, event: PathGiven) -> None:
        """Name a configuration and queue it at every node; whoever waits to be asked again has its turn over."""
        if any(len(queue.jobs) >= MOST_WAITING for queue in self.queues()):
            text = f"{event.path} was not taken: {MOST_WAITING} configurations wait already; look at the nodes"
            self._tell("error", text)
            if event.asked:
                self.issue(Answer(refusal=text))
            return
        name = self._name()
        ledger = self.ledger
        names = (*ledger.names, name)[-MOST_NAMES:]
        self.put("ledger", msgspec.structs.replace(ledger, names=names, given=ledger.given + 1))
        for node in self.settings.nodes:
            jobs = (*self.queue(node).jobs, Job(name, event.path, self.now.wall))
            self.put(f"queue/{node}", Queue(node=node, jobs=jobs))
            if f"retry/{node}" in self.timers:
                self.cancel(f"retry/{node}")
                self._end_first(node, f"the node did not answer until {name} was asked for")
            else:
                self._drive(node)
        if event.asked:
            self.issue(Answer())

    def _name(self) -> str:
        """The time of the event, or that with the next number."""
        minutes, seconds = divmod(int(self.now.wall) % DAY, 60)
        plain = f"{minutes // 60:02d}_{minutes % 60:02d}_{seconds:02d}"
        name, number = plain, 1
        while name in self.ledger.names:
            number += 1
            name = f"{plain}_{number}"
        return name

    def _drive(self, node: str) -> None:
        """Have a node do what is first in its queue, unless it is at it or waits to be asked again."""
        jobs = self.queue(node).jobs
        if not jobs or self.outstanding_of(Effect, node) or f"retry/{node}" in self.timers:
            return
        job = jobs[0]
        if job.created:
            self.issue(ActivateConfiguration(node=node, name=job.name), lane=node)
        else:
            self.issue(CreateConfiguration(node=node, name=job.name, path=job.path), lane=node)

    def _set_first(self, node: str, job: Job) -> None:
        self.put(f"queue/{node}", Queue(node=node, jobs=(job, *self.queue(node).jobs[1:])))

    def _end_first(self, node: str, fault: str) -> None:
        """Done with the first of a queue, for better or worse; the next one begins."""
        job, *rest = self.queue(node).jobs
        if rest:
            following = msgspec.structs.replace(rest[0], since=self.now.wall)
            self.put(f"queue/{node}", Queue(node=node, jobs=(following, *rest[1:])))
        else:
            self.drop(f"queue/{node}")
        self._record(node, job, fault)
        self._drive(node)

    def _record(self, node: str, job: Job, fault: str) -> None:
        """How a configuration has ended at a node."""
        past = Past(node, job.name, job.path, self.now.wall, fault)
        self.put("history", History(jobs=(*self.history.jobs, past)[-MOST_PAST:]))
        ledger = self.ledger
        if fault:
            self._tell("error", f"{node} does not have configuration {job.name} of {job.path}: {fault}")
            self.put("ledger", msgspec.structs.replace(ledger, failed=ledger.failed + 1))
        else:
            self.put("ledger", msgspec.structs.replace(ledger, activated=ledger.activated + 1))

    def _tell(self, level: str, text: str) -> None:
        self.issue(Notify(level=level, text=text))

    # -- what holds -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert the invariants.

        * no name is given twice;
        * a node with something to do is at it or waits to be asked again, one thing at a time; no other node is;
        * only the first of a queue is under way.
        """
        names = self.ledger.names
        assert len(set(names)) == len(names), names
        busy = set()
        for queue in self.queues():
            asked, waits = self.outstanding_of(Effect, queue.node), f"retry/{queue.node}" in self.timers
            assert queue.jobs and len(asked) + waits == 1, f"{queue}: asked {asked}, waits {waits}"
            assert not any(job.created for job in queue.jobs[1:]), f"{queue} is not in order"
            assert not asked or isinstance(asked[0], ActivateConfiguration) == queue.jobs[0].created, (
                f"{queue}: {asked}"
            )
            busy.add(queue.node)
        lanes = {item.effect.lane for item in self.outstanding.values() if not isinstance(item.effect, Notify)}
        assert lanes <= busy and self.timers.keys() <= {f"retry/{node}" for node in busy}
