"""Instance recorder: receives the voltages of an instance's channels and writes them as GUPPI RAW."""

from __future__ import annotations

import argparse
import dataclasses
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from socs_bl.agentkit import FeedSchema, MachineAgent, Session, SiteAgent, add_journal_argument, operation, run
from socs_bl.agentkit.runner import MachineRunner
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.effects import Performer, free_bytes, stream_status
from socs_bl.capture.machine import RecorderMachine
from socs_bl.capture.model import KeysChanged, ManualStart, ManualStop
from socs_bl.capture.stream import CaptureStream
from socs_bl.core.clock import SystemClock
from socs_bl.core.config import from_arguments
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Faulty, Refused
from socs_bl.core.event import Event
from socs_bl.core.journal import Journal
from socs_bl.core.names import parse_instance
from socs_bl.hashpipe.gateway import Gateway
from socs_bl.hashpipe.wire import DOMAIN
from socs_bl.services.redis_url import add_redis_arguments

REPORT_INTERVAL = 0.5  # seconds
READY_TIMEOUT = 5.0


class InstanceRecorder(MachineAgent[RecorderMachine]):
    """Records for one instance, as the keys of its hashpipe gateway say.

    Parameters
    ----------
    site_agent : SiteAgent
    args : argparse.Namespace
        See `add_agent_args`.
    """

    FEEDS = (
        FeedSchema(
            "recorder",
            {
                "stream": {
                    "pktidx": int, "recording": int, "heaps": int, "missing": int, "late": int, "bad": int,
                    "recorded_bytes": int, "disk_free": int,
                }
            },
        ),
    )  # fmt: skip

    def __init__(self, site_agent: SiteAgent, args: Namespace) -> None:
        super().__init__(site_agent, args)
        self.instance = parse_instance(args.instance)
        self.config = from_arguments(args, CaptureConfig)
        self.clock = SystemClock()
        self.capture: CaptureStream | None = None

    @operation("process", privs=2, startup=True, hardware="daq")
    async def record(self, session: Session, *, test_mode: bool = False) -> str | None:
        """record(test_mode=False)

        **Process** - Keep the gateway, receive and record as its keys say; starts with the agent. After a restart it
        goes on with what was being received and recorded.

        Parameters:
            test_mode (bool, optional): End after one report. This is meant only for testing.

        Notes:
            The process is degraded while Redis does not answer or the keys ask for what cannot be done ('fault'). The
            session data are::

                >>> response.session['data']
                {"instance": "blpn64/0", "state": "recording", "allocated": "array_1", "groups": "239.192.1.0+3",
                 "pktidx": 1640, "window": {"start": 1616, "stop": 1920},
                 "file": "/buf0/20261121T040000Z-20261121-0001/Unknown/GUPPI/guppi_61000_14400_001616_Hyd_A_0001.0000.raw",
                 "blocks": 2, "recorded_missing": 0, "recorded_bytes": 8388608,
                 "heaps": {"received": 8192, "missing": 0, "late": 0, "incomplete": 0,
                           "rejected": {"metadata": 0, "bad_timestamp": 0, "bad_antenna": 0, "bad_frequency": 0,
                                        "unconfirmed": 12, "duplicate": 0},
                           "antennas": {"missing": [0, 0, 0, 0], "wrong_timestamp": [0, 0, 0, 0], "duplicate": [0, 0, 0, 0]},
                           "last_wrong": {}},
                 "gateway": {"connected": True, "groups": ["array_1-0"], "messages": 31, "rejected": 0},
                 "disk_free": 512000000000, "fault": "", "timestamp": 1795233610.0, "sequence": 12}

            'state' is idle, listening or recording; 'allocated' the subarray the instance works for. 'antennas' counts by
            antenna; 'last_wrong' holds stream, antenna and timestamp of the last heap whose timestamp was wrong.
        """
        stream = CaptureStream(self.config, self.feed_from_thread)
        gateway = Gateway(self.args.redis_url, self.instance, self._keys_changed, domain=self.args.domain)
        performer = Performer(stream, gateway)
        journal = self.open_journal(f"socs_bl:recorder:{self.instance}")
        runner = self._recorder(performer, journal)
        self.capture = stream
        stream.start()
        gateway.start()
        try:
            # Subscribed before the journal is read, so that nothing is said in between unheard.
            await self.in_thread(gateway.wait_ready, READY_TIMEOUT)
            await runner.start()
            while True:
                await self._show(session, runner.machine, stream, gateway)
                self.check_writer()
                if test_mode or not await session.sleep(REPORT_INTERVAL):
                    return "Stopped."
        finally:
            self.runner = self.capture = None
            await runner.stop()
            await self.in_thread(stream.stop)
            await self.in_thread(gateway.stop)
            journal.close()

    @operation("task", privs=2)
    async def start_recording(self, session: Session, *, destip: str, datadir: str, dwell: float = 290.0) -> str | None:
        """start_recording(destip=None, datadir=None, dwell=290.0)

        **Task** - Record by hand, from some seconds from now on. Refused while the instance is allocated to a subarray:
        then it is the coordinator's. The band is taken from the keys the gateway has heard.

        Parameters:
            destip (str): The multicast groups, such as ``239.192.1.0+3``.
            datadir (str): Directory of the recording, such as ``/buf0/test``.
            dwell (float, optional): Length, seconds.

        Notes:
            The session data are::

                >>> response.session['data']
                {"window": {"start": 1616, "stop": 1920}, "sequence": 1}
        """
        await self.ask(ManualStart(destip=destip, datadir=datadir, dwell=dwell))
        plan = self._machine().daq.plan
        session.data = {"window": None if plan is None else {"start": plan.window.start, "stop": plan.window.stop}}
        return f"{self.instance} will record into {datadir}."

    @operation("task", privs=2)
    async def stop_recording(self, session: Session) -> str | None:
        """stop_recording()

        **Task** - End what `start_recording` has started. Refused while the instance is allocated to a subarray.

        Notes:
            There are no session data.
        """
        await self.ask(ManualStop())
        return f"{self.instance} has left its groups."

    @operation("task", privs=3)
    async def reset_counters(self, session: Session) -> str | None:
        """reset_counters()

        **Task** - Count heaps, blocks and bytes from zero. Late, incomplete and rejected heaps are counted from when the
        groups were joined.

        Notes:
            There are no session data.
        """
        if self.capture is None:
            raise Refused("reset_counters: nothing is counted; start 'record' first")
        await self.in_thread(self.capture.reset_counters().result, READY_TIMEOUT)
        return "Counters reset."

    # -- how it works ---------------------------------------------------------------------------------------------

    def _recorder(self, performer: Performer, journal: Journal) -> MachineRunner[RecorderMachine]:
        async def perform(effect: Effect) -> Sequence[Event]:
            await self.in_thread(performer.perform, effect)
            return []

        async def look() -> Mapping[str, Any]:
            return {"instance": str(self.instance), "block_bytes": self.config.block_bytes}

        return self.make_runner(RecorderMachine, journal, perform, look)

    def _keys_changed(self, pairs: Mapping[str, str | int | float]) -> None:
        self.feed_from_thread(KeysChanged(pairs=pairs))

    def _machine(self) -> RecorderMachine:
        return self.running().machine

    async def _show(self, session: Session, machine: RecorderMachine, stream: CaptureStream, gateway: Gateway) -> None:
        """Status buffer, session data and feed."""
        if not stream.alive:
            raise Faulty(
                f"the stream of {self.instance} has ended; see the agent's log and start 'record' again", "daq"
            )
        counters, heard = stream.counters(), gateway.counters
        wall, daq = self.clock.now().wall, machine.daq
        gateway.update(stream_status(counters, machine.state != "idle", wall))
        free = await self.in_thread(free_bytes, self.config.root)
        session.degraded = bool(self.fault or daq.fault or not gateway.connected)
        session.data = {
            "instance": str(self.instance),
            "state": machine.state,
            "allocated": str(machine.keys.get("SUBARRAY", "")) if machine.allocated else "",
            "groups": str(machine.keys.get("DESTIP", "")),
            "pktidx": counters.pktidx,
            "window": None if daq.plan is None else {"start": daq.plan.window.start, "stop": daq.plan.window.stop},
            "file": counters.path,
            "blocks": counters.recorded_blocks,
            "recorded_missing": counters.recorded_missing,
            "recorded_bytes": counters.recorded_bytes,
            "heaps": dataclasses.asdict(counters.heaps),
            "gateway": {
                "connected": gateway.connected,
                "groups": sorted(gateway.groups),
                "messages": heard.messages,
                "rejected": heard.rejected,
            },
            "disk_free": free,
            "fault": self.fault or daq.fault,
            "timestamp": wall,
        }
        self.feeds["recorder"].publish(
            "stream",
            {
                "pktidx": counters.pktidx,
                "recording": int(machine.state == "recording"),
                "heaps": counters.heaps.received,
                "missing": counters.heaps.missing,
                "late": counters.heaps.late,
                "bad": sum(counters.heaps.rejected.values()),
                "recorded_bytes": counters.recorded_bytes,
                "disk_free": free,
            },
        )


def add_agent_args(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The arguments of the agent."""
    parser = parser or argparse.ArgumentParser()
    group = parser.add_argument_group("Agent Options")
    group.add_argument("--instance", required=True, help="name of the instance, host/number, such as blpn64/0")
    add_redis_arguments(group, "Redis of the gateway")
    group.add_argument("--domain", default=DOMAIN, help="gateway domain (default: %(default)s)")
    group.add_argument("--interface", help="address of the interface that joins the groups (default: 127.0.0.1)")
    group.add_argument("--root", help="directory under which DATADIR is placed (default: /)")
    group.add_argument(
        "--block-bytes", type=int, help="upper limit of a block (default: 4194304; hpguppi_daq: 134217728)"
    )
    group.add_argument("--blocks-per-file", type=int, help="blocks after which the next file begins (default: 128)")
    group.add_argument("--ring-blocks", type=int, help="blocks of memory between reception and disk (default: 8)")
    group.add_argument("--window-blocks", type=int, help="blocks that are filled at the same time (default: 2)")
    group.add_argument("--socket-bytes", type=int, help="receive buffer of each group (default: 4194304)")
    group.add_argument(
        "--stall-seconds", type=float, help="a recording without blocks for so long is ended (default: 10)"
    )
    group.add_argument(
        "--resync-seconds", type=float, help="so long after time has gone back the groups are joined anew (default: 3)"
    )
    add_journal_argument(group, movable=True)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the agent."""
    run(InstanceRecorder, add_agent_args(), args)


if __name__ == "__main__":
    main()
