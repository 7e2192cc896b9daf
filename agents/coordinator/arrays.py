"""Operations on subarrays."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from socs_bl.agentkit import Session, operation
from socs_bl.agents.coordinator.base import Coordinating
from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.model import FreeSub, ReadMetadata, RecProc, Subarray, TelescopeEvent
from socs_bl.commensal.view import shares
from socs_bl.core.errors import Refused
from socs_bl.core.names import parse_instance, parse_subarray

ANSWER = 15.0  # seconds a question to Redis may take, and some more


class ArrayOperations(Coordinating):
    """What is done with a subarray."""

    @operation("task", privs=2)
    async def send_event(
        self,
        session: Session,
        *,
        array: str,
        event: Literal["configure", "conf_complete", "tracking", "not-tracking", "rec-timeout", "deconfigure"],
    ) -> str | None:
        """send_event(array=None, event=None)

        **Task** - Hand the coordinator an event as if CAM had sent it.

        Parameters:
            array (str): The subarray.
            event (str): ``configure``, ``conf_complete``, ``tracking``, ``not-tracking``, ``rec-timeout`` or
                ``deconfigure``.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 119, "effects": ["ReadMetadata 119.1"],
                 "from_state": {"freesub": "CONFIGURING", "recproc": "READY"},
                 "to_state": {"freesub": "CONFIGURING", "recproc": "READY"}, "sequence": 2}
        """
        name = parse_subarray(array)
        before = self.running().machine.array(name)
        entry = await self.submit(session, TelescopeEvent(word=event, array=name))
        after = self.array_named(name)
        session.update(from_state=_states(before), to_state=_states(after))
        return f"Taken in as event {entry.envelope.sequence}."

    @operation("task", privs=2)
    async def subscribe(
        self,
        session: Session,
        *,
        array: str,
        max_instances: Annotated[int, Field(ge=0)] = 0,
        instances: list[str] | None = None,
    ) -> str | None:
        """subscribe(array=None, max_instances=0, instances=None)

        **Task** - Claim instances for a subarray that CAM has configured, and tell them what to receive.

        Parameters:
            array (str): The subarray.
            max_instances (int, optional): Claim so many at most; 0 for as many as its streams need.
            instances (list, optional): Claim only from these; they must be free.

        Notes:
            Done when the groups have been told. Whether every instance shows it is looked at ``confirm_pause`` later.
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 120, "effects": ["ReadMetadata 120.2", "Answer 120.3"],
                 "array": "array_1", "requested": 2, "allocated": 2,
                 "instances": {"blpn64/0": {"destip": "239.192.1.0+3", "nstrm": 4, "schan": 0, "hnchan": 16}},
                 "sequence": 2}
        """
        names = [str(parse_instance(name)) for name in instances or ()]
        name = parse_subarray(array)
        self.told.pop(name, None)
        await self.wish(session, "subscribe", name, max_instances=max_instances, instances=names)

        def met(machine: CommensalMachine) -> bool:
            cell = _cell(machine, name)
            if cell.freesub is FreeSub.CONFIGURING:
                return not machine.outstanding_of(ReadMetadata, lane=name)
            return cell.freesub is FreeSub.FREE or cell.announced

        machine = await self.settled(session, met, ANSWER + self.config.join_pause, f"a subscription of {name}")
        cell = _cell(machine, name)
        if cell.freesub is not FreeSub.SUBSCRIBED:
            raise Refused(f"{name} was not subscribed: {self.told.get(name, 'nobody says why')}")
        session.update(
            array=name, requested=cell.requested, allocated=len(cell.shares), instances=shares(machine, cell)
        )
        return f"{name} has {len(cell.shares)} of {cell.requested} instances."

    @operation("task", privs=2)
    async def unsubscribe(
        self,
        session: Session,
        *,
        array: str,
        force: bool = False,
        restart_recorders: bool = False,
        restart_gateways: bool = False,
    ) -> str | None:
        """unsubscribe(array=None, force=False, restart_recorders=False, restart_gateways=False)

        **Task** - Give a subarray's instances back to the pool.

        Parameters:
            array (str): The subarray.
            force (bool, optional): Also while it records or searches: the recording is closed and still searched, and
                each instance is free when its search has ended.
            restart_recorders (bool, optional): Have the supervisor restart the recorders (DAQs), as the original does.
            restart_gateways (bool, optional): Likewise the gateways.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 131, "effects": ["StoreWrites 131.0", "Answer 131.2"],
                 "array": "array_1", "released": ["blpn64/0"], "busy": {"blpn64/1": "processing"}, "sequence": 2}
        """
        name = parse_subarray(array)
        cell = self.running().machine.array(name)
        before = [share.instance for share in cell.shares] if cell else []
        await self.wish(
            session,
            "unsubscribe",
            name,
            force=force,
            restart_recorders=restart_recorders,
            restart_gateways=restart_gateways,
        )
        found = {item: self.running().machine.instance(item) for item in before}
        busy = {item: instance.duty.value for item, instance in found.items() if instance and instance.run}
        session.update(array=name, released=[item for item in before if item not in busy], busy=busy)
        return f"{name} is given up; {len(busy)} instances still search."

    @operation("task", privs=2)
    async def start_recording(
        self,
        session: Session,
        *,
        array: str,
        dwell: Annotated[float, Field(gt=0, le=86400)] | None = None,
        lead_seconds: Annotated[float, Field(gt=0, le=120)] | None = None,
        min_quorum: Annotated[float, Field(ge=0, le=1)] | None = None,
        target: str = "",
    ) -> str | None:
        """start_recording(array=None, dwell=None, lead_seconds=None, min_quorum=None, target='')

        **Task** - Begin a recording now, whether or not CAM says ``tracking``, and whatever the proposal.

        Parameters:
            array (str): The subarray; it must be subscribed and READY.
            dwell (float, optional): Its length, seconds; by default as configured.
            lead_seconds (float, optional): PKTSTART lies so far ahead, seconds; by default as configured.
            min_quorum (float, optional): The fraction of instances that must report a packet index.
            target (str, optional): Description of what is observed, ``name, radec, RA, DEC``; by default CAM's target.

        Notes:
            Done when PKTSTART has been told. Who does not record is found out ``start_check`` seconds after it. The
            session data are::

                >>> response.session['data']
                {"journal_sequence": 125, "effects": ["ReadMetadata 125.0", "Answer 125.1"],
                 "array": "array_1", "obsid": "MeerKAT:array_1:20261121T040000Z", "target": "Hyd_A",
                 "pktstart": 81234, "pktstart_ts": 1795233600.2, "ends": 1795233620.2, "lead": 2.1,
                 "instances": ["blpn64/0", "blpn64/1"], "sequence": 2}
        """
        name = parse_subarray(array)
        options: dict[str, Any] = {
            "dwell": dwell,
            "lead_seconds": lead_seconds,
            "min_quorum": min_quorum,
            "target": target,
        }
        self.told.pop(name, None)
        await self.wish(session, "start_recording", name, **options)
        patience = self.config.target_tries * (self.config.target_pause + ANSWER) + ANSWER
        machine = await self.settled(
            session, lambda machine: machine.preparing(name) is None, patience, f"a recording of {name}"
        )
        cell = _cell(machine, name)
        run = machine.run(cell.run)
        if run is None:
            raise Refused(self.told.get(name, f"{name} does not record"))
        session.update(
            array=name,
            obsid=run.id,
            target=run.target.name,
            pktstart=run.pktstart,
            pktstart_ts=run.started,
            ends=run.ended,
            lead=run.started - self.clock_time(),
            instances=list(run.instances),
        )
        return f"{name} records {run.id}."

    @operation("task", privs=2)
    async def stop_recording(self, session: Session, *, array: str, reason: str = "") -> str | None:
        """stop_recording(array=None, reason='')

        **Task** - End a recording, or the preparation of one, before its time; what was recorded is searched.

        Parameters:
            array (str): The subarray.
            reason (str, optional): Why; it stands in the journal.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 127, "effects": ["StoreWrites 127.0", "Answer 127.4"],
                 "array": "array_1", "obsid": "MeerKAT:array_1:20261121T040000Z", "duration": 91.3, "too_short": true,
                 "datadirs": ["/buf0/20261121T040000Z-20261121-0001"], "sequence": 2}
        """
        name = parse_subarray(array)
        await self.wish(session, "stop_recording", name, reason)
        machine = self.running().machine
        run = machine.run(_cell(machine, name).run)
        if run is None:
            return f"{name} prepares no recording any more."
        session.update(
            array=name,
            obsid=run.id,
            duration=run.ended - run.started,
            too_short=run.ended - run.started < self.config.shortest_recording,
            datadirs=sorted(set(run.datadirs.values())),
        )
        await self.settled(
            session,
            lambda machine: _cell(machine, name).recproc is not RecProc.RECORD,
            self.config.stop_pause + ANSWER,
            f"the end of {run.id}",
        )
        return f"{run.id} ended after {run.ended - run.started:.0f} s."

    @operation("task", privs=2)
    async def start_processing(self, session: Session, *, array: str) -> str | None:
        """start_processing(array=None)

        **Task** - Have a recording searched: one that was kept for people (WAITING), or, while a search runs
        (PROCESS), by those who have not returned yet, who are asked once more.

        Parameters:
            array (str): The subarray.

        Notes:
            An analyzer that has a run already is not disturbed by a second request. The session data are::

                >>> response.session['data']
                {"journal_sequence": 140, "effects": ["StartProcessing 140.1", "Answer 140.3"],
                 "array": "array_1", "run_id": "MeerKAT:array_1:20261121T040000Z",
                 "started": ["blpn64/0", "blpn64/1"], "sequence": 2}
        """
        name = parse_subarray(array)
        await self.wish(session, "start_processing", name)
        machine = self.running().machine
        run = machine.run(_cell(machine, name).run)
        session.update(array=name, run_id=run.id if run else "", started=list(machine.pending(run)) if run else [])
        return f"{name} processes."

    @operation("task", privs=3)
    async def reset_array(
        self,
        session: Session,
        *,
        array: str,
        to_state: Literal["READY", "WAITING"] = "READY",
        release: bool = False,
        keep_raw: bool = True,
    ) -> str | None:
        """reset_array(array=None, to_state='READY', release=False, keep_raw=True)

        **Task** - Take a subarray out of WAITING or ERROR, or make one that is READY wait for people.

        Parameters:
            array (str): The subarray.
            to_state (str, optional): ``READY``; or ``WAITING``, in which nothing is recorded until the next reset.
            release (bool, optional): Also give its instances back to the pool.
            keep_raw (bool, optional): False: a recording that was kept for people need not be any more.

        Notes:
            Raw data are deleted by nobody here: what is not kept any more falls under the analyzers' rules. The session
            data are::

                >>> response.session['data']
                {"journal_sequence": 141, "effects": ["Notify 141.0", "Answer 141.2"], "array": "array_1",
                 "before": {"freesub": "SUBSCRIBED", "recproc": "ERROR"},
                 "after": {"freesub": "FREE", "recproc": "READY"}, "moved": ["blpn64/0", "blpn64/1"], "sequence": 2}
        """
        name = parse_subarray(array)
        before = self.running().machine.array(name)
        await self.wish(session, "reset_array", name, to_state=to_state, release=release, keep_raw=keep_raw)
        after = self.array_named(name)
        left = {share.instance for share in after.shares}
        moved = [share.instance for share in before.shares if share.instance not in left] if before else []
        session.update(array=name, before=_states(before), after=_states(after), moved=moved)
        return f"{name} is {after.recproc.value}."


def _cell(machine: CommensalMachine, name: str) -> Subarray:
    cell = machine.array(name)
    assert cell is not None, name  # a wish about one that is not there is refused
    return cell


def _states(cell: Subarray | None) -> dict[str, Any]:
    return {"freesub": cell.freesub.value, "recproc": cell.recproc.value} if cell else {}
