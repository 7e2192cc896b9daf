"""Operations on what the telescope says: metadata, proposals, calibration, targets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from socs_bl.agentkit import Session, operation
from socs_bl.agents.coordinator.base import Coordinating
from socs_bl.commensal.calibration_model import FetchCalibration, ReadPhaseup
from socs_bl.commensal.metadata import keys_of, parse_band, parse_track
from socs_bl.commensal.model import MetadataRead, ReadMetadata
from socs_bl.commensal.view import mode
from socs_bl.core.errors import Faulty, Refused
from socs_bl.core.names import parse_subarray

CALIBRATION = ReadPhaseup.deadline + FetchCalibration.deadline + 10.0  # seconds


class TelescopeOperations(Coordinating):
    """What CAM and the telescope state say, and what the target selector is told."""

    @operation("task", privs=2)
    async def set_proposal_rules(
        self, session: Session, *, primary_ids: list[str] | None = None, skip_ids: list[str] | None = None
    ) -> str | None:
        """set_proposal_rules(primary_ids=None, skip_ids=None)

        **Task** - Say which proposals are kept for people and which are not recorded, from the next recording on. It
        holds over restarts, and instead of the configuration.

        Parameters:
            primary_ids (list, optional): Proposals after whose recordings a subarray waits; None leaves them as they are.
            skip_ids (list, optional): Proposals that are not recorded; None leaves them as they are.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 170, "effects": ["Answer 170.0"],
                 "primary_ids": ["EXT-20220504-DM-01"], "skip_ids": ["SCI-20250221-PW-01"],
                 "arrays": {"array_1": {"proposal": "EXT-20220504-DM-01", "mode": "primary"}}, "sequence": 2}
        """
        await self.wish(session, "set_proposal_rules", "", primary_ids=primary_ids, skip_ids=skip_ids)
        rules = self.running().machine.rules()
        traces = await self.in_thread(self.reader.traces, self.config.arrays)
        proposals = {name: found.get("proposal", "").strip("'\"") for name, found in traces.items()}
        arrays = {name: {"proposal": found, "mode": mode(rules, found)} for name, found in proposals.items()}
        session.update(primary_ids=list(rules.primary), skip_ids=list(rules.skip), arrays=arrays)
        return f"{len(rules.primary)} proposals are kept for people, {len(rules.skip)} are not recorded."

    @operation("process", privs=1)
    async def update_metadata(
        self, session: Session, *, interval: Annotated[float, Field(ge=0.1, le=3600)] = 10.0, test_mode: bool = False
    ) -> str | None:
        """update_metadata(interval=10.0, test_mode=False)

        **Process** - Read CAM's keys of all subarrays again and again, and show what they say and what is missing.

        Parameters:
            interval (float, optional): Seconds between two readings.
            test_mode (bool, optional): End after one reading. This is meant only for testing.

        Notes:
            An age counts from when this process first saw the value. ``fault`` is what a subscription, or else a
            recording, would be refused with. The session data are::

                >>> response.session['data']
                {"arrays": {"array_1": {"values": {"antennas": "4", "n_channels": "128", "target": "Hyd_A, radec, ..."},
                                        "ages": {"antennas": 310.2, "n_channels": 310.2, "target": 12.1},
                                        "missing": ["last_track_end"], "fault": ""}},
                 "timestamp": 1795233610.0, "sequence": 7}
        """
        seen: dict[tuple[str, str], tuple[str, float]] = {}

        async def look() -> dict[str, Any]:
            found = {name: await self._metadata(name, seen) for name in self.config.arrays}
            return {"arrays": found, "timestamp": time.time()}

        return await self.shown(session, interval, look, test_mode)

    async def _metadata(self, array: str, seen: dict[tuple[str, str], tuple[str, float]]) -> dict[str, Any]:
        try:
            (read,) = await self.in_thread(self.reader.metadata, ReadMetadata(array=array, purpose="show"))
        except Faulty as faulty:  # CAM has never configured it
            return {"values": {}, "ages": {}, "missing": [], "fault": str(faulty)}
        assert isinstance(read, MetadataRead)
        now = self.reactor.seconds()
        for key, value in read.values.items():
            if seen.get((array, key), ("", 0.0))[0] != value:
                seen[array, key] = value, now
        return {
            "values": dict(read.values),
            "ages": {key: now - seen[array, key][1] for key in read.values},
            "missing": sorted(keys_of(array, "x", "x").keys() - read.values.keys()),
            "fault": _fault(array, read.values, read.prefix),
        }

    @operation("task", privs=2)
    async def fetch_cal(
        self, session: Session, *, array: str, delay: Annotated[float, Field(ge=0, le=3600)] = 0.0
    ) -> str | None:
        """fetch_cal(array=None, delay=0.0)

        **Task** - Fetch the solutions of the last phase-up from the telescope state, if they are news.

        Parameters:
            array (str): The subarray.
            delay (float, optional): Seconds to wait first.

        Notes:
            The figures are there when solutions have been stored. The session data are::

                >>> response.session['data']
                {"journal_sequence": 180, "effects": ["ArmTimer 180.0", "Answer 180.1"], "array": "array_1",
                 "result": "solutions of 20261121T035501Z stored for 4 antennas as array_1:cal_solutions:...",
                 "stored": {"phaseup_ts": 1795233301.0, "age": 310.0, "nants": 4, "flagged": ["m003v"],
                            "key": "array_1:cal_solutions:20261121T035501Z"}, "sequence": 2}
        """
        name = parse_subarray(array)
        self.stored.pop(name, None)
        await self.wish(session, "fetch_cal", name, delay=delay)

        def met(machine: Any) -> bool:
            cell = machine.array(name)
            return cell is not None and bool(cell.calibration) and not machine.fetching(name)

        machine = await self.settled(session, met, delay + CALIBRATION, f"a retrieval for {name}")
        cell, stored = machine.array(name), self.stored.get(name)
        assert cell is not None
        session.update(array=name, result=cell.calibration)
        if stored is not None:
            session.update(
                stored={
                    "phaseup_ts": stored.phaseup,
                    "age": time.time() - stored.phaseup,
                    "nants": stored.antennas,
                    "flagged": list(stored.zeroed),
                    "key": stored.key,
                }
            )
        return cell.calibration

    @operation("task", privs=3)
    async def expire_cals(
        self, session: Session, *, days: Annotated[float, Field(gt=0, le=36500)] | None = None
    ) -> str | None:
        """expire_cals(days=None)

        **Task** - Remove calibration solutions that are too old, and the names of those that are gone.

        Parameters:
            days (float, optional): What is older goes; by default as configured.

        Notes:
            The session data are::

                >>> response.session['data']
                {"removed": {"array_1": 3, "array_2": 0}, "sequence": 1}
        """
        keep = self.config.calibration.keep if days is None else days * 86400
        removed = {name: await self.in_thread(self.calibrator.expire, name, keep) for name in self.config.arrays}
        session.data = {"removed": removed}
        return f"{sum(removed.values())} removed."

    @operation("task", privs=2)
    async def request_targets(self, session: Session, *, array: str) -> str | None:
        """request_targets(array=None)

        **Task** - Ask the target selector again for the targets in the field of view of the current recording.

        Parameters:
            array (str): The subarray.

        Notes:
            The answer comes as ``targets:<obsid>`` in Redis. The session data are::

                >>> response.session['data']
                {"journal_sequence": 190, "effects": ["StoreWrites 190.0", "Answer 190.1"], "array": "array_1",
                 "obsid": "MeerKAT:array_1:20261121T040000Z", "sequence": 2}
        """
        name = parse_subarray(array)
        await self.wish(session, "request_targets", name)
        session.update(array=name, obsid=self.array_named(name).run)
        return "Asked."

    @operation("task", privs=2)
    async def report_completion(
        self,
        session: Session,
        *,
        obsid: str,
        band: str,
        t: Annotated[float, Field(ge=0)],
        nants: Annotated[int, Field(ge=1)],
        nsegs: Annotated[int, Field(ge=1)] = 1,
        nbeams: Annotated[int, Field(ge=1)] = 64,
    ) -> str | None:
        """report_completion(obsid=None, band=None, t=None, nants=None, nsegs=1, nbeams=64)

        **Task** - Tell the target selector that a recording has been searched, as analyzers do.

        Parameters:
            obsid (str): Its id.
            band (str): Its band.
            t (float): Seconds searched.
            nants (int): Antennas.
            nsegs (int, optional): Segments of the band.
            nbeams (int, optional): Beams.

        Notes:
            The session data are::

                >>> response.session['data']
                {"journal_sequence": 191, "effects": ["StoreWrites 191.0", "Answer 191.1"], "sequence": 1}
        """
        fields: dict[str, Any] = {
            "nsegs": nsegs,
            "band": band,
            "t": t,
            "nants": nants,
            "obsid": obsid,
            "nbeams": nbeams,
        }
        await self.wish(session, "report_completion", "", **fields)
        return "Reported."


def _fault(array: str, values: Mapping[str, str], prefix: str) -> str:
    try:
        parse_band(array, values, prefix)
        parse_track(array, values)
    except Refused as refused:
        return str(refused)
    return ""
