"""Operations on the pool and its instances."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import Field

from socs_bl.agentkit import Session, operation
from socs_bl.agents.coordinator.base import Coordinating
from socs_bl.commensal.allocation import parse_streams
from socs_bl.commensal.metadata import parse_band
from socs_bl.commensal.model import MetadataRead, ReadMetadata, RestartPart
from socs_bl.commensal.view import instance_counts, instance_rows, plan
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.names import parse_instance, parse_subarray

SUPERVISION = RestartPart.deadline + 10.0  # seconds


class PoolOperations(Coordinating):
    """Who is in service, and what a subarray would get."""

    @operation("task", privs=1)
    async def plan_allocation(
        self,
        session: Session,
        *,
        array: str = "",
        streams: str = "",
        instances: list[str] | None = None,
        streams_per_instance: Annotated[int, Field(ge=0, le=256)] = 0,
    ) -> str | None:
        """plan_allocation(array='', streams='', instances=None, streams_per_instance=0)

        **Task** - Say what a subarray would get if it were subscribed now, and when that is too little, why. Nothing is
        claimed.

        Parameters:
            array (str, optional): A subarray that CAM has configured.
            streams (str, optional): Instead of one, its streams: ``spead://239.9.0.0+63:7148``.
            instances (list, optional): As if just these were free.
            streams_per_instance (int, optional): Other than configured; 0 for as configured.

        Notes:
            The session data are::

                >>> response.session['data']
                {"streams": 64, "requested": 16, "allocated": 12, "uncovered": 16,
                 "reason": "12 of 16 instances: of 16 there are, 4 held by array_2, 0 quarantined; 16 streams ...",
                 "shares": [{"instance": "blpn64/0", "first_ip": "239.9.0.0", "count": 4, "schan": 0}], "sequence": 1}
        """
        if bool(array) == bool(streams):
            raise Refused("give either a subarray or its streams, such as spead://239.9.0.0+63:7148")
        channels = 1
        if streams:
            found = parse_streams(streams)
        else:
            name = parse_subarray(array)
            (read,) = await self.in_thread(self.reader.metadata, ReadMetadata(array=name, purpose="plan"))
            assert isinstance(read, MetadataRead)
            band = parse_band(name, read.values, read.prefix)
            found, channels = band.streams, band.channels_per_stream
        names = [str(parse_instance(item)) for item in instances or ()]
        planned = plan(self.running().machine, found, channels, names, streams_per_instance)
        session.data = planned
        return planned["reason"] or f"{planned['allocated']} instances take all {planned['streams']} streams."

    @operation("task", privs=2)
    async def release_instance(self, session: Session, *, instance: str) -> str | None:
        """release_instance(instance=None)

        **Task** - Take an instance out of quarantine, into the pool.

        Parameters:
            instance (str): Its name, such as ``blpn64/1``.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 119, "effects": ["Notify 119.0", "StoreWrites 119.1", "Answer 119.2"],
                 "sequence": 1}
        """
        entry = await self.wish(session, "release_instance", str(parse_instance(instance)))
        return f"Taken in as event {entry.envelope.sequence}."

    @operation("task", privs=2)
    async def quarantine_instance(self, session: Session, *, instance: str, reason: str = "") -> str | None:
        """quarantine_instance(instance=None, reason='')

        **Task** - Keep a free instance from being allocated.

        Parameters:
            instance (str): Its name, such as ``blpn64/1``.
            reason (str, optional): Why; it is shown to whoever asks.

        Notes:
            The session data are those of ``release_instance``.
        """
        entry = await self.wish(session, "quarantine_instance", str(parse_instance(instance)), reason)
        return f"Taken in as event {entry.envelope.sequence}."

    @operation("task", privs=2)
    async def drain(self, session: Session, *, instance: str, reason: str = "") -> str | None:
        """drain(instance=None, reason='')

        **Task** - Take an instance, or all of a host, out of service for maintenance: a free one at once, one that
        records or searches when its run has ended. It is not allocated until ``undrain``.

        Parameters:
            instance (str): An instance, such as ``blpn64/1``, or a host, such as ``blpn64``.
            reason (str, optional): Why; it is shown to whoever asks.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 151, "effects": ["Notify 151.0", "Answer 151.2"],
                 "duties": {"blpn64/0": "drained", "blpn64/1": "processing"}, "sequence": 2}
        """
        await self.wish(session, "drain", instance, reason)
        return self._show_duties(session, instance)

    @operation("task", privs=2)
    async def undrain(self, session: Session, *, instance: str) -> str | None:
        """undrain(instance=None)

        **Task** - Put an instance, or all of a host, back into service.

        Parameters:
            instance (str): An instance or a host.

        Notes:
            The session data are those of ``drain``.
        """
        await self.wish(session, "undrain", instance)
        return self._show_duties(session, instance)

    def _show_duties(self, session: Session, name: str) -> str:
        duties = {cell.name: cell.duty.value for cell in self.running().machine.named(name)}
        session.update(duties=duties)
        return ", ".join(f"{instance} is {duty}" for instance, duty in duties.items())

    @operation("task", privs=2)
    async def supervise(
        self, session: Session, *, instance: str, part: Literal["recorder", "gateway"], force: bool = False
    ) -> str | None:
        """supervise(instance=None, part=None, force=False)

        **Task** - Have the site's supervisor restart the recorder (DAQ) or the gateway of an instance. One restart of
        an instance runs at a time.

        Parameters:
            instance (str): Its name, such as ``blpn64/1``.
            part (str): ``recorder`` or ``gateway``.
            force (bool, optional): Also while it records.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 160, "effects": ["RestartPart 160.0", "Answer 160.1"], "instance": "blpn64/1",
                 "part": "recorder", "ok": true, "reply": "", "seconds": 2.4, "sequence": 2}
        """
        began = self.reactor.seconds()
        name = str(parse_instance(instance))
        entry = await self.wish(session, "restart_part", name, part=part, force=force)
        (effect,) = [item.id for item in entry.effects if isinstance(item, RestartPart)]
        failure = await self.carried_out(session, effect, SUPERVISION)
        seconds = self.reactor.seconds() - began
        session.update(instance=name, part=part, ok=not failure, reply=failure, seconds=seconds)
        if failure:
            raise Retry(f"the {part} of {name} was not restarted: {failure}")
        return f"The {part} of {name} was restarted."

    @operation("process", privs=1)
    async def monitor_instances(
        self, session: Session, *, interval: Annotated[float, Field(ge=0.1, le=3600)] = 10.0, test_mode: bool = False
    ) -> str | None:
        """monitor_instances(interval=10.0, test_mode=False)

        **Process** - Read the status hashes of all instances again and again, and show and publish what they say.

        Parameters:
            interval (float, optional): Seconds between two readings.
            test_mode (bool, optional): End after one reading. This is meant only for testing.

        Notes:
            Feed ``instances``, block ``count``, has the counts. ``pulse_age`` is the age of DAQPULSE, ``ttl`` how much
            longer the hash lives, seconds. The process is degraded while Redis does not answer. The session data are::

                >>> response.session['data']
                {"instances": {"blpn64/0": {"alive": true, "netstat": "receiving", "daqstate": "RECORD",
                                            "pktidx": 81234, "destip": "239.192.1.0+3", "pulse_age": 0.7, "ttl": 2.4}},
                 "count": {"alive": 4, "receiving": 2, "recording": 2, "silent": 0, "stale": 0},
                 "timestamp": 1795233610.0, "sequence": 12}
        """
        return await self.shown(session, interval, self._instances, test_mode)

    async def _instances(self) -> dict[str, Any]:
        names = self.config.hashpipe_instances
        statuses = await self.in_thread(self.reader.statuses, names)
        lives = await self.in_thread(self.reader.lives, names)
        now = time.time()
        rows = instance_rows(statuses, lives, now)
        counts = instance_counts(rows)
        self.feeds["instances"].publish("count", counts)
        return {"instances": rows, "count": counts, "timestamp": now}
