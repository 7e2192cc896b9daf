"""A simulated telescope: CAM's keys and alerts in Redis, F-engines that send real packets, a schedule to observe."""

from __future__ import annotations

import argparse
import dataclasses
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from socs_bl.agentkit import Agent, FeedSchema, Session, SiteAgent, operation, run
from socs_bl.core.clock import SystemClock, compact_utc
from socs_bl.core.config import check, load
from socs_bl.core.errors import Refused, Retry
from socs_bl.services.process import free_port
from socs_bl.services.redis_server import connect
from socs_bl.services.redis_url import add_redis_arguments
from socs_bl.simulators import cam
from socs_bl.simulators.config import Schedule
from socs_bl.simulators.faults import Faults
from socs_bl.simulators.field import Position, draw_field
from socs_bl.simulators.geometry import separation
from socs_bl.simulators.selector import Pointing, TargetSelector
from socs_bl.simulators.telescope import Control, Step, plan
from socs_bl.simulators.telescope_fengines import FEngines
from socs_bl.simulators.truth import InjectedTone, inject
from socs_bl.simulators.truth_file import write_truth

REPORT_INTERVAL = 1.0  # seconds
START_LEAD = 2.0  # seconds for the F-engines' processes to start
REDIS_TRIES = 10
MOST_TRACKS, MOST_PER_MINUTE = 10_000, 6_000.0
SAME_PLACE = 1e-6  # radians by which a pointing may differ from the schedule's target


class Telescope(Agent):
    """Simulates a telescope and its schedule, as seen by systems that observe commensally.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (FeedSchema("telescope", {"telescope": {"configured": int, "tracking": int, "fengines": int}}),)

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.clock = SystemClock()
        schedule = load(Path(args.config), Schedule) if args.config else Schedule()
        self.schedule = schedule.on_port(free_port()) if args.own_port else schedule
        self.control = Control(self.schedule)
        self.redis = connect(args.redis_url)
        self.run_dir = Path(args.run_dir)
        self.engines = FEngines(self.schedule, self.run_dir / "fengines", args.interface)
        self.fields: dict[str, tuple[Position, ...]] = {}

    def close(self) -> None:
        """Also end the F-engines."""
        super().close()
        self.engines.kill()
        self.redis.close()

    @operation("process", privs=2, startup=True)
    async def select_targets(self, session: Session, *, test_mode: bool = False) -> str | None:
        """select_targets(test_mode=False)

        **Process** - Answer pointings with the targets in the field of view and a beamformer recipe, as the target
        selector and the recipe generator of a site do; starts with the agent.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The recipes are written to the directory ``bfr5`` under ``--run-dir``. The session data are::

                >>> response.session['data']
                {"listening": True, "answered": 4, "failed": 0, "obsid": "MeerKAT:array_1:20261121T040010Z",
                 "fault": "", "recipes": "/data/telescope/bfr5", "sequence": 12}

            'obsid' is that of the last one answered, 'fault' why the last one that failed did.
        """
        directory = self.run_dir / "bfr5"
        selector = TargetSelector(self.args.redis_url, self.schedule, directory, self._field_of)
        selector.start()
        try:
            while True:
                answers = selector.answers
                session.update(listening=selector.listening, recipes=directory, **dataclasses.asdict(answers))
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            await self.in_thread(selector.stop)

    @operation("process", privs=2, hardware="fengines")
    async def fengines(self, session: Session, *, test_mode: bool = False) -> str | None:
        """fengines(test_mode=False)

        **Process** - Run the F-engines of all subarrays without injected tones, for manual observations; ``observe``
        runs its own.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The session fails when an F-engine process ends by itself. The session data are::

                >>> response.session['data']
                {"sync_time": 1795233600.0,
                 "fengines": {"array_1": {"pid": 4711, "running": True},
                              "array_2": {"pid": 4712, "running": True}},
                 "subarrays": {"array_1": {"phase": "idle", "since": 0.0, "target": None},
                               "array_2": {"phase": "idle", "since": 0.0, "target": None}},
                 "sent": {"array_1": {"sent": 79500, "lost": 0, "skipped": 0}},
                 "sequence": 12}

            'sent' is there at the end.
        """
        self._start_engines(self.schedule.seed)
        try:
            while True:
                self._report(session)
                self.engines.check()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            await self._stop_engines(session)

    @operation("task", privs=2, hardware="subarrays")
    async def configure(self, session: Session, *, array: str) -> str | None:
        """configure(array=None)

        **Task** - Build a subarray: write its keys, announce ``configure`` and ``conf_complete``. The F-engines must
        run.

        Parameters:
            array (str): Name of a subarray of the schedule, such as ``array_1``.

        Notes:
            The session data are those of ``observe`` without 'progress' and 'truth'.
        """
        if not self.engines.started:
            raise Refused("configure: the F-engines do not run; start 'fengines' first")
        await self._follow(session, self.control.to_configured(array))
        return f"{array} is configured."

    @operation("task", privs=2, hardware="subarrays")
    async def deconfigure(self, session: Session, *, array: str) -> str | None:
        """deconfigure(array=None)

        **Task** - End whatever a subarray does and take it apart. Also announced when this agent does not know the
        subarray as built, as after its restart.

        Parameters:
            array (str): Name of a subarray of the schedule.

        Notes:
            The session data are those of ``observe`` without 'progress' and 'truth'.
        """
        await self._follow(session, self.control.to_idle(array))
        return f"{array} is deconfigured."

    @operation("task", privs=2, hardware="subarrays")
    async def track(self, session: Session, *, array: str, target: str) -> str | None:
        """track(array=None, target=None)

        **Task** - Point a subarray at a target, leaving the present one; ends when it is on source.

        Parameters:
            array (str): Name of a configured subarray.
            target (str): A name from the schedule's catalogue, or a description like
                ``Hyd A, radec, 9:18:05.28, -12:05:48.9``.

        Notes:
            The session data are those of ``observe`` without 'progress' and 'truth'.
        """
        found = self.schedule.target(target)
        await self._follow(session, self.control.to_tracking(array, found))
        return f"{array} tracks {found.name}."

    @operation("task", privs=2, hardware="subarrays")
    async def stop_track(self, session: Session, *, array: str) -> str | None:
        """stop_track(array=None)

        **Task** - Take a subarray off its target.

        Parameters:
            array (str): Name of a subarray that tracks.

        Notes:
            The session data are those of ``observe`` without 'progress' and 'truth'.
        """
        await self._follow(session, self.control.off_target(array))
        return f"{array} is off target."

    @operation("task", privs=2, hardware="subarrays")
    async def storm(self, session: Session, *, array: str, tracks: int = 100, per_minute: float = 100.0) -> str | None:
        """storm(array=None, tracks=100, per_minute=100.0)

        **Task** (abortable) - Change the target of a configured subarray again and again, faster than anybody can
        record: a test of those who observe commensally.

        Parameters:
            array (str): Name of a configured subarray.
            tracks (int, optional): How many targets are tracked and left, at most 10,000.
            per_minute (float, optional): How fast, at most 6,000.

        Notes:
            The session data are those of ``observe`` without 'progress' and 'truth'.
        """
        if not 1 <= tracks <= MOST_TRACKS or not 0 < per_minute <= MOST_PER_MINUTE:
            raise Refused(
                f"storm: tracks {tracks} and per_minute {per_minute:g}; give 1 to {MOST_TRACKS} and at most {MOST_PER_MINUTE:g}"
            )
        await self._follow(session, self.control.storm(array, tracks, per_minute))
        return f"{array} has tracked {tracks} targets."

    @operation("task", privs=2, hardware="subarrays")
    async def observe(
        self,
        session: Session,
        *,
        cycles: int | None = None,
        seed: int | None = None,
        gap: float | None = None,
        dropped: float | None = None,
        duplicated: float | None = None,
        reordered: float | None = None,
        wrong_timestamps: float | None = None,
        stalled: int | None = None,
    ) -> str | None:
        """observe(cycles=None, seed=None, gap=None, dropped=None, duplicated=None, reordered=None, \
wrong_timestamps=None, stalled=None)

        **Task** (abortable) - Play the schedule with all its subarrays: F-engines with injected tones, then per
        subarray one target a cycle at the schedule's times, whatever others make of it. An abort, or a failure, takes
        the subarrays apart first.

        Parameters:
            cycles (int, optional): Targets per subarray, instead of the schedule's.
            seed (int, optional): Seed of targets and tones, instead of the schedule's.
            gap (float, optional): Seconds between tracks, instead of the schedule's.
            dropped (float, optional): Fraction of the heaps that are not sent, instead of the schedule's; likewise the next.
            duplicated (float, optional): Fraction sent twice.
            reordered (float, optional): Fraction sent with later ones.
            wrong_timestamps (float, optional): Fraction with a wrong timestamp.
            stalled (int, optional): Number of an antenna in each subarray, from 0, that sends nothing.

        Examples:
            Observe two targets with every subarray::

                client.observe.start(cycles=2)
                status, message, session = client.observe.wait()

        Notes:
            What was injected is written to the file 'truth' before the first subarray is built. The session data are::

                >>> response.session['data']
                {"progress": {"step": "cycle 1 of 2", "done": 31.0, "total": 159.0, "unit": "s", "eta_s": 128.0},
                 "subarrays": {"array_1": {"phase": "tracking", "since": 1795233615.1, "target": "J0918-1205"},
                               "array_2": {"phase": "slewing", "since": 1795233616.1, "target": "J1331+3030"}},
                 "started": 1795233602.0,
                 "sync_time": 1795233600.0,
                 "scale_factor": {"array_1": 208.984375, "array_2": 208.984375},
                 "truth": "/data/telescope/truth-20261121T040002Z.json",
                 "fengines": {"array_1": {"pid": 4711, "running": True}},
                 "sent": {"array_1": {"sent": 79500, "lost": 0, "skipped": 0}},
                 "sequence": 40}

            'phase' is idle, configuring, configured, initialised, capturing, slewing, tracking or stopped. 'sent' is
            there at the end: heaps sent, heaps left out on purpose, packet indices skipped because the machine was too
            slow.
        """
        faults = {
            "dropped": dropped, "duplicated": duplicated, "reordered": reordered, "wrong_timestamps": wrong_timestamps,
            "stalls": None if stalled is None else [{"antenna": stalled}],
        }  # fmt: skip
        schedule = self._changed(cycles, seed, gap, faults)
        busy = [name for name, state in self.control.states.items() if state.phase != "idle"]
        if busy:
            raise Refused(f"observe: {', '.join(busy)} not idle; deconfigure first")
        async with self.lock("fengines").held("observe"):
            try:
                await self._play(session, schedule)
            finally:
                await self._end(session)
        return f"{schedule.cycles} cycles observed."

    def _field_of(self, pointing: Pointing) -> tuple[Position, ...]:
        """The targets of a field: those of the schedule's track, or new ones for a track by hand."""
        planned = self.fields.get(pointing.array, ())
        centre = Position(pointing.target, pointing.ra_deg, pointing.dec_deg)
        if planned and separation(planned[0].radians(), centre.radians()) < SAME_PLACE:
            return planned
        subarray = self.schedule.subarray(pointing.array)
        return draw_field(self.schedule.site, subarray, centre, pointing.start, str(self.schedule.seed))

    def _changed(
        self, cycles: int | None, seed: int | None, gap: float | None, faults: Mapping[str, object]
    ) -> Schedule:
        """The schedule with what a request wants otherwise."""
        raw = self.schedule.model_dump()
        raw.update({name: value for name, value in (("cycles", cycles), ("seed", seed)) if value is not None})
        raw["faults"].update({name: value for name, value in faults.items() if value is not None})
        if gap is not None:
            raw["timing"]["gap_s"] = gap
        return check(raw, Schedule, "observe")

    async def _play(self, session: Session, schedule: Schedule) -> None:
        """Start the F-engines and take every step of a schedule at its time."""
        start = self.clock.now().later(START_LEAD)
        truth, steps = await self.in_thread(inject, schedule, start.wall), plan(schedule)
        path = self.run_dir / f"truth-{compact_utc(start.wall)}.json"
        await self.in_thread(write_truth, path, truth)
        self._start_engines(schedule.seed, truth.tones, schedule.faults)
        session.update(truth=path, started=start.wall, scale_factor=truth.scale_factor)
        cycle, total = 1, steps[-1].at
        for step in steps:
            while (left := start.monotonic + step.at - self.clock.now().monotonic) > 0:
                session.progress(f"cycle {cycle} of {schedule.cycles}", max(0.0, round(step.at - left, 1)), total, "s")
                self._report(session)
                self.engines.check()
                await session.sleep(min(left, REPORT_INTERVAL))
            cycle = max(cycle, step.cycle)
            if step.event == "target":
                self.fields[step.subarray] = truth.field(step.subarray, step.cycle)
            await self._say(session, step)
        session.progress(f"cycle {cycle} of {schedule.cycles}", total, total, "s")

    async def _end(self, session: Session) -> None:
        """Take apart what is built and end the F-engines, in this order."""
        try:
            for step in self.control.all_to_idle():
                await self._say(session, step)
        finally:
            await self._stop_engines(session)

    async def _follow(self, session: Session, steps: Iterable[Step]) -> None:
        """Take steps whose times count from now."""
        start = self.clock.now().monotonic
        for step in steps:
            await session.sleep(start + step.at - self.clock.now().monotonic)
            await self._say(session, step)

    async def _say(self, session: Session, step: Step) -> None:
        """Take one step, and keep trying for a while when Redis is away."""
        actions = self.control.step(step, self.clock.now().wall, self.engines.sync_time)
        for left in reversed(range(REDIS_TRIES)):
            try:
                await self.in_thread(cam.carry_out, self.redis, actions)
            except Retry as error:
                if not left:
                    raise
                session.degraded = True
                await session.sleep(error.after)
            else:
                session.degraded = False
                break
        self._report(session)

    def _start_engines(self, seed: int, tones: Sequence[InjectedTone] = (), faults: Faults | None = None) -> None:
        # The kernel ties children to the thread that starts them, so this one is not done in a worker thread.
        self.engines.start(float(math.floor(self.clock.now().wall)), seed, tones, faults)

    async def _stop_engines(self, session: Session) -> None:
        sent = await self.in_thread(self.engines.stop)
        session.update(sent=sent)
        self._report(session)

    def _report(self, session: Session) -> None:
        """Show the subarrays and the F-engines."""
        states, engines = self.control.states, self.engines.report()
        session.update(
            sync_time=self.engines.sync_time,
            fengines=engines,
            subarrays={
                name: {
                    "phase": state.phase,
                    "since": state.since,
                    "target": state.target.name if state.target else None,
                }
                for name, state in states.items()
            },
        )
        self.feeds["telescope"].publish(
            "telescope",
            {
                "configured": sum(state.phase != "idle" for state in states.values()),
                "tracking": sum(state.phase == "tracking" for state in states.values()),
                "fengines": len(engines),
            },
        )


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of this agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    add_redis_arguments(group, "Redis that CAM's keys and alerts go to")
    group.add_argument("--config", help="schedule (YAML); without it, the demonstration")
    group.add_argument("--interface", default="127.0.0.1", help="address of the interface the F-engines send through")
    group.add_argument(
        "--own-port",
        action="store_true",
        help="send to a UDP port that is free now, not the schedule's: telescopes on one machine do not hear each other",
    )
    group.add_argument("--run-dir", default="run/telescope", help="where injected tones and logs are written")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(Telescope, add_agent_args(), args)


if __name__ == "__main__":
    main()
