"""Operations on what is written down: the saved state, the journal, and what can be read from it."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated, Any

import msgspec
from pydantic import Field

from socs_bl.agentkit import Session, operation
from socs_bl.agents.coordinator.base import JOURNAL, Coordinating
from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.statistics import statistics
from socs_bl.commensal.story import CommensalTeller
from socs_bl.core.clock import SystemClock, unix_of_iso
from socs_bl.core.codec import Codec
from socs_bl.core.explain import CHAPTERS, Story, explain
from socs_bl.core.walk import walk

SCHEMA = 1
SLOT = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,40}$")]


class RecordOperations(Coordinating):
    """The saved state and the journal."""

    @operation("task", privs=2)
    async def save_state(self, session: Session, *, slot: SLOT = "state") -> str | None:
        """save_state(slot='state')

        **Task** - Keep the state in the original coordinator's form, so that ``load_state`` or, after ``socs-bl`` has
        ended, the original can go on with it. (The state itself is in the journal at every moment.)

        Parameters:
            slot (str, optional): It is kept in Redis as ``socs_bl:saved:<slot>``, JSON.

        Notes:
            ``findings`` says what the original would not do by itself. The session data are::

                >>> response.session['data']
                {"slot": "state", "key": "socs_bl:saved:state", "schema": 1, "journal_sequence": 118,
                 "timestamp": 1795233610.0, "keys": {"free_instances": "[\\"blpn65/0\\"]"},
                 "findings": ["array_1 searches: the original waits for the returns of blpn64/0"], "sequence": 1}
        """
        machine = self.running().machine
        sequence, timestamp = machine.sequence, machine.now.wall
        keys, findings = await self.in_thread(self.saved.exported)
        record = {"schema": SCHEMA, "timestamp": timestamp, "journal_sequence": sequence, "keys": keys}
        key = f"socs_bl:saved:{slot}"
        await self.in_thread(self.saved.keep, key, json.dumps(record))
        session.data = {"slot": slot, "key": key, **record, "findings": findings}
        return f"Kept as {key}."

    @operation("task", privs=3)
    async def load_state(self, session: Session, *, slot: SLOT = "") -> str | None:
        """load_state(slot='')

        **Task** - Go on with a saved state. Refused unless all subarrays are FREE.

        Parameters:
            slot (str, optional): What ``save_state`` has kept; by default the keys that the original coordinator, or
                this one, has left in Redis.

        Notes:
            What was odd in the state is told as notifications with the code ``imported``. The session data are::

                >>> response.session['data']
                {"journal_sequence": 200, "effects": ["Notify 200.0", "Answer 200.2"],
                 "arrays": {"array_1": {"freesub": "SUBSCRIBED", "recproc": "READY"}}, "sequence": 2}
        """
        keys = await self.in_thread(self.saved.kept, f"socs_bl:saved:{slot}") if slot else None
        read = await self.in_thread(self.saved.read)
        await self.wish(session, "load_state", "", **{**read, **(keys or {})})
        machine = self.running().machine
        cells = [machine.array(name) for name in self.config.arrays]
        states = {cell.name: {"freesub": cell.freesub.value, "recproc": cell.recproc.value} for cell in cells if cell}
        session.update(arrays=states)
        return f"Taken over {len(states)} subarrays."

    @operation("task", privs=2)
    async def reconcile(self, session: Session) -> str | None:
        """reconcile()

        **Task** - Hold what the coordinator knows against what instances and CAM say, as after a restart, and act on
        the differences: tell again, check again, or tell people.

        Notes:
            ``remedy`` is ``rest`` (told to receive nothing), ``tell`` (told again what to receive, if it still differs
            after ``confirm_pause``) or ``check`` (quarantined if it still does not record). The session data are::

                >>> response.session['data']
                {"journal_sequence": 210, "effects": ["ArmTimer 210.0", "Answer 210.1"],
                 "differences": [{"instance": "blpn64/1", "expected": "ready for array_1, DESTIP 239.192.1.4+3",
                                  "found": "no status", "remedy": "tell"}],
                 "cam": {"array_1": {"last_config": "1795233000.1", "target": "Hyd_A, radec, ..."}}, "sequence": 2}
        """
        world = await self.world()
        differences = [item._asdict() for item in self.running().machine.differences(world["statuses"])]
        await self.wish(session, "reconcile", "", **world)
        session.update(differences=differences, cam=world["cam"])
        return f"{len(differences)} instances differ."

    @operation("task", privs=1)
    async def explain(
        self, session: Session, *, subject: str, last: Annotated[int, Field(ge=1, le=20)] = CHAPTERS
    ) -> str | None:
        """explain(subject=None, last=5)

        **Task** - Say why something is as it is: what changed it last, and what that came from, back to the outside.

        Parameters:
            subject (str): An instance (``blpn64/1``), a subarray (``array_1``), an OBSID, or the id of an effect.
            last (int, optional): How many changes are told of.

        Notes:
            The same as text: ``socs-bl explain``. The session data are::

                >>> response.session['data']
                {"subject": "blpn64/1", "standing": ["is quarantined: did not start recording ..."],
                 "chapters": [{"sequence": 131, "time": 1795233602.0, "changes": ["instance/blpn64/1: ..."],
                               "said": ["blpn64/1 quarantined: ..."],
                               "chain": [{"sequence": 131, "time": 1795233602.0, "text": "status hashes ... were read"}]}],
                 "journal_sequence": 140, "first": 1, "unlike": 0, "sequence": 1}
        """
        story = await self.in_thread(self._tell, subject, last)
        told: dict[str, Any] = msgspec.to_builtins(story)
        told["journal_sequence"] = told.pop("sequence")
        session.data = told
        return story.standing[0] if story.standing else ""

    def _tell(self, subject: str, last: int) -> Story:
        with closing(self.open_journal(JOURNAL, riding=True)) as journal:
            return explain(CommensalMachine, journal, subject, CommensalTeller(), last)

    @operation("task", privs=1)
    async def obs_stats(self, session: Session, *, since: str = "", until: str = "") -> str | None:
        """obs_stats(since='', until='')

        **Task** - Say what was recorded in a time: how often, how long, how much of the time, and what went wrong.

        Parameters:
            since (str, optional): ISO 8601, such as ``2026-11-21T04:00:00Z``; by default the oldest entry of the journal
                (older ones are in its archive).
            until (str, optional): Likewise; by default now.

        Notes:
            The figures are explained with `socs_bl.commensal.statistics.Statistics`. The session data are::

                >>> response.session['data']
                {"since": 1795220000.0, "until": 1795233610.0,
                 "all": {"recordings": 12, "seconds": 3480.0, "duty_cycle": 0.12, "short": 1, "kept": 0, "searched": 11,
                         "failed": 0, "zero_hits": 4, "hits": 93, "skipped": 2, "not_recorded": 0},
                 "arrays": {"array_1": {"recordings": 12, "seconds": 3480.0, "duty_cycle": 0.26, "short": 1, "kept": 0,
                                        "searched": 11, "failed": 0, "zero_hits": 4, "hits": 93, "skipped": 2,
                                        "not_recorded": 0}}, "sequence": 1}
        """
        first = unix_of_iso(since) if since else 0.0
        last = unix_of_iso(until) if until else SystemClock().now().wall
        counted = await self.in_thread(self._count, first, last)
        session.data = counted
        figures = counted["all"]
        return f"{figures['recordings']} recordings, {figures['seconds']:.0f} s."

    def _count(self, since: float, until: float) -> dict[str, Any]:
        with closing(self.open_journal(JOURNAL, riding=True)) as journal:
            base, end = journal.base(), journal.load().sequence
            codec = Codec(CommensalMachine)
            steps = walk(CommensalMachine, codec, base, journal.read(base.sequence + 1, end))
            oldest = next(
                (codec.decode(data).envelope.event.at.wall for _, data in journal.read(base.sequence + 1)), until
            )
            since = max(since, oldest)
            found = statistics(steps, self.config.arrays, since, until, self.config.shortest_recording)
        figures: dict[str, Any] = msgspec.to_builtins(found)
        return {"since": since, "until": until, "all": figures.pop(""), "arrays": figures}
