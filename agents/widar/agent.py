"""A simulated correlator and its telescope's Executor: real lag frames, and the documents that say what is observed."""

from __future__ import annotations

import argparse
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from socs_bl.agentkit import Agent, FeedSchema, Session, SiteAgent, operation, run
from socs_bl.core.clock import SystemClock, compact_utc
from socs_bl.core.config import check, load
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.whole_file import write_whole
from socs_bl.services.process import free_port
from socs_bl.simulators import executor
from socs_bl.simulators.boards import Command, Restart, TimedField
from socs_bl.simulators.boards_config import Correlation
from socs_bl.simulators.boards_faults import BoardFaults
from socs_bl.simulators.boards_process import BoardsProcess
from socs_bl.simulators.lags import SkyField
from socs_bl.simulators.sky import inject, sky_of
from socs_bl.simulators.truth_file import write_truth
from socs_bl.simulators.widar_config import vci_document

REPORT_INTERVAL = 0.5  # seconds
START_LEAD = 1.0  # seconds from a request until the first document is said
TRIES = 50


class Widar(Agent):
    """Simulates the correlator's baseline boards and the Executor of the telescope in front of them.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (FeedSchema("boards", {"boards": {"frames": int, "dumps": int, "skipped_dumps": int, "behind_s": float}}),)

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.clock = SystemClock()
        config = load(Path(args.config), Correlation) if args.config else Correlation()
        self.config = config.on_port(free_port()) if args.own_port else config
        self.run_dir = Path(args.run_dir)
        self.process = BoardsProcess(self.run_dir / "boards")
        self.config_id = ""

    def close(self) -> None:
        """Also end the boards."""
        super().close()
        self.process.kill()

    @operation("process", privs=2, hardware="boards")
    async def boards(self, session: Session, *, test_mode: bool = False) -> str | None:
        """boards(test_mode=False)

        **Process** - Run the baseline boards: lag frames of all products, dump after dump, on their multicast group.
        Without an observation they hold noise.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The session fails when the boards' process ends by itself. The session data are::

                >>> response.session['data']
                {"source": "udp://239.192.4.1:53500?interface=127.0.0.1",
                 "dump_ms": 100.0,
                 "counters": {"dump": 17952336014, "behind_s": 0.003, "frames": 19800, "dumps": 120, "lost": 12},
                 "sequence": 12}

            'source' is what a back end listens to. Among the counters are frames sent, dumps left out because the machine
            was too slow ('skipped_dumps'), and one for each fault asked for.
        """
        network = self.config.network
        source = f"udp://{network.lag_group}:{network.lag_port}?interface={network.interface}"
        # The kernel ties a child to the thread that starts it, so this is not done in a worker thread.
        self.process.start(self.config)
        try:
            while True:
                session.update(source=source, dump_ms=self.config.dump_ns / 1e6, counters=self.process.report())
                self._publish()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            session.update(counters=await self.in_thread(self.process.stop))

    @operation("task", privs=2)
    async def configure(self, session: Session) -> str | None:
        """configure()

        **Task** - Write the configuration of the correlator as a VCI document, as its configuration mapper would hand it
        out, under an id of its own. Observations after it name that id.

        Notes:
            The session data are::

                >>> response.session['data']
                {"config_id": "TSIM26.61365.16666667.1",
                 "document": "/data/widar/TSIM26.61365.16666667.1.vci.xml",
                 "edges_hz": {"AC_8BIT": 1000000000.0, "BD_8BIT": 2100000000.0},
                 "sequence": 2}

            'edges_hz' is the sky frequency at the edge of each baseband, which is the telescope's business and in no VCI
            document.
        """
        config_id = f"{executor.dataset_id(self.config, self.clock.now().wall)}.1"
        path = (self.run_dir / f"{config_id}.vci.xml").resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.in_thread(write_whole, path, vci_document(self.config, config_id).encode())
        self.config_id = config_id
        edges = {baseband.name: baseband.edge_hz for baseband in self.config.basebands}
        session.update(config_id=config_id, document=path, edges_hz=edges)
        return f"{path} is written."

    @operation("task", privs=2, hardware="schedule")
    async def observe(self, session: Session, *, seed: int | None = None) -> str | None:
        """observe(seed=None)

        **Task** (abortable) - Play the schedule: one scan after the other, each with its sky in the boards' frames and its
        Observation document on multicast, and FINISH at the end. An abort says FINISH at once. The boards must run.

        Parameters:
            seed (int, optional): Seed of the sources, instead of the configuration's.

        Examples:
            Observe the schedule once::

                client.boards.start()
                client.observe()

        Notes:
            What is injected is written to the file 'truth' before the first document is said. The session data are::

                >>> response.session['data']
                {"progress": {"step": "scan 2 J1347+1217", "done": 9.5, "total": 25.5, "unit": "s", "eta_s": 16.0},
                 "dataset_id": "TSIM26.61365.16670139",
                 "config_id": "TSIM26.61365.16666667.1",
                 "truth": "/data/widar/truth-20261121T040002Z.json",
                 "said": ["antennas", "scan 1 J1331+3030", "scan 2 J1347+1217"],
                 "sequence": 40}
        """
        if not self.process.started:
            raise Refused("observe: the baseline boards do not run; start 'boards' first")
        now = self.clock.now()
        start = float(math.ceil(now.wall + START_LEAD + self.config.lead_s))
        dataset = executor.dataset_id(self.config, start)
        truth = inject(self.config, dataset, start, seed)
        path = (self.run_dir / f"truth-{compact_utc(start)}.json").resolve()
        await self.in_thread(write_truth, path, truth)
        # The boards make a dump when it has ended, so they must know what comes after the last scan as well.
        fields = [
            TimedField(start=scan.start, field=sky_of(self.config, number, seed))
            for number, scan in enumerate(truth.scans)
        ]
        fields.append(TimedField(start=truth.scans[-1].stop, field=SkyField()))
        await self._tell(session, Command(fields=tuple(fields)))
        session.update(dataset_id=dataset, config_id=self.config_id, truth=path, said=[])
        said = executor.plan(self.config, truth, self.config_id)
        end = truth.scans[-1].stop
        try:
            for document in said:
                await self._until(session, document.at, now.wall, end, document.what)
                await self.in_thread(executor.send, self.config, document)
                session.update(said=[*session.data["said"], document.what])
            await self._until(session, end, now.wall, end, said[-1].what)
        finally:
            if len(session.data["said"]) < len(said):
                last = executor.finish(self.config, truth, self.config_id, self.clock.now().wall)
                await self.in_thread(executor.send, self.config, last)
                await self._tell(session, Command(fields=()))
        return f"{len(truth.scans)} scans observed."

    @operation("task", privs=2)
    async def inject(
        self,
        session: Session,
        *,
        lost: float = 0.0,
        duplicated: float = 0.0,
        reordered: float = 0.0,
        corrupted: float = 0.0,
        cut: float = 0.0,
        wrong_clock: float = 0.0,
        silent: int | None = None,
        restart: int | None = None,
        dumps: int = 0,
        sending: bool = True,
    ) -> str | None:
        """inject(lost=0.0, duplicated=0.0, reordered=0.0, corrupted=0.0, cut=0.0, wrong_clock=0.0, silent=None, \
restart=None, dumps=0, sending=True)

        **Task** - Have boards and network do wrong from now on; without parameters: nothing any more.

        Parameters:
            lost (float, optional): Fraction of the frames that are not sent; likewise the next.
            duplicated (float, optional): Fraction sent twice.
            reordered (float, optional): Fraction sent with the next dump.
            corrupted (float, optional): Fraction with a wrong bit.
            cut (float, optional): Fraction that end too early.
            wrong_clock (float, optional): Fraction with the time of another hour.
            silent (int, optional): Number of a board that sends nothing, from 0.
            restart (int, optional): Number of a board that is away for 'dumps' (default 5) and then counts from 0.
            dumps (int, optional): How many dumps it lasts; 0: until the next request.
            sending (bool, optional): False: all boards fall silent.

        Notes:
            What happened is counted in the session data of ``boards``. The session data are::

                >>> response.session['data']
                {"faults": {"seed": 2026, "lost": 0.05, "duplicated": 0.0, "reordered": 0.0, "corrupted": 0.0, "cut": 0.0,
                            "wrong_clock": 0.0, "silent_boards": []},
                 "dumps": 50, "sending": True, "sequence": 1}
        """
        if dumps < 0:
            raise Refused(f"inject: dumps {dumps}; give 0 or more")
        raw = {
            "lost": lost, "duplicated": duplicated, "reordered": reordered, "corrupted": corrupted, "cut": cut,
            "wrong_clock": wrong_clock, "silent_boards": () if silent is None else (silent,), "seed": self.config.seed,
        }  # fmt: skip
        faults = check(raw, BoardFaults, "inject")
        away = None if restart is None else check({"board": restart, "dumps": dumps or 5}, Restart, "inject")
        if not self.process.started:
            raise Refused("inject: the baseline boards do not run; start 'boards' first")
        await self._tell(session, Command(faults=faults, dumps=dumps, restart=away, sending=sending))
        session.update(faults=faults.model_dump(mode="json"), dumps=dumps, sending=sending)
        return "The boards have been told."

    async def _tell(self, session: Session, command: Command) -> None:
        """Tell the boards, and keep trying for a while when they are starting."""
        for left in reversed(range(TRIES)):
            try:
                self.process.tell(command)
            except Retry as error:
                if not left or not self.process.started:
                    raise
                await session.sleep(error.after)
            else:
                return

    async def _until(self, session: Session, at: float, began: float, end: float, step: str) -> None:
        """Wait for a time (Unix seconds), showing how far it is."""
        while (left := at - self.clock.now().wall) > 0:
            session.progress(step, round(at - left - began, 1), round(end - began, 1), "s")
            self.process.report()
            await session.sleep(min(left, REPORT_INTERVAL))

    def _publish(self) -> None:
        counters = self.process.counters
        if counters:
            whole = {name: int(counters.get(name, 0)) for name in ("frames", "dumps", "skipped_dumps")}
            self.feeds["boards"].publish("boards", {**whole, "behind_s": float(counters.get("behind_s", 0.0))})


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of this agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    group.add_argument("--config", help="stations, basebands and schedule (YAML); without it, the demonstration")
    group.add_argument(
        "--own-port",
        action="store_true",
        help="send frames to a UDP port that is free now: correlators on one machine do not mix theirs",
    )
    group.add_argument(
        "--run-dir", default="run/widar", help="where configurations, injected sources and logs are written"
    )
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(Widar, add_agent_args(), args)


if __name__ == "__main__":
    main()
