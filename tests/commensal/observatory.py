"""A simulated observatory on virtual time: CAM's keys, gateways with their DAQs, and analyzers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.effects import heard
from socs_bl.commensal.model import (
    LegacyReturn,
    MetadataRead,
    Notify,
    ReadMetadata,
    ReadStatus,
    ResultRead,
    StartProcessing,
    StatusRead,
)
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from tests.commensal.bench import CONFIG, HEAP, SYNC, sensors
from tests.harness.simulation import EPOCH, Failed, Simulation

SEARCH_SECONDS = 6.0


class Daq:
    """One instance: the keys it was told, the groups it has joined, and what it does by the packet clock."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.groups: set[str] = set()

    def status(self, now: float) -> dict[str, str]:
        """The status hash at virtual time `now`."""
        index = int((EPOCH + now - SYNC) / HEAP)
        start, dwell = int(self.keys.get("PKTSTART", "0")), float(self.keys.get("DWELL", "0"))
        receiving = self.keys.get("DESTIP", "0.0.0.0") != "0.0.0.0"
        recording = receiving and 0 < start <= index < start + dwell / HEAP
        return {
            **self.keys,
            "PKTIDX": str(index),
            "NETSTAT": "receiving" if receiving else "idle",
            "DAQSTATE": "RECORD" if recording else "LISTEN",
        }


class Observatory:
    """The world of the commensal machine.

    Attributes
    ----------
    wrongs : list of str
        What must never happen and did: two subarrays command an instance, or one that is being searched records.
    gateway : list of tuple of str
        Channel and payload of every message to gateways, in order.
    searched : dict of (instance, run) to float
        Every run an analyzer has taken, with its duration in seconds.
    refuses, dead : set of str
        Instances whose analyzer takes no run; instances without a status hash.
    traces : dict of str to str
        What CAM's keys of every subarray say to a coordinator that starts.
    calibrated : list of str
        Subarrays whose solutions were fetched, in order.
    """

    def __init__(self, config: Mapping[str, Any] = CONFIG) -> None:
        self.config = config
        self.daqs = {name: Daq() for name in config["hashpipe_instances"]}
        self.simulation: Simulation[Any] | None = None
        self.wrongs: list[str] = []
        self.gateway: list[tuple[str, str]] = []
        self.searched: dict[tuple[str, str], float] = {}
        self.busy: dict[str, float] = {}
        self.notices: list[Notify] = []
        self.refuses: set[str] = set()
        self.dead: set[str] = set()
        self.traces: dict[str, str] = {}
        self.calibrated: list[str] = []

    def perform(self, effect: Effect, now: float) -> Sequence[tuple[float, Event]]:
        """Answer questions, take runs, hear notifications."""
        match effect:
            case ReadMetadata(array=array, purpose=purpose):
                return [(0.01, MetadataRead(array=array, purpose=purpose, prefix="wide", values=sensors()))]
            case ReadStatus(array=array, purpose=purpose, run=run, instances=instances):
                statuses = {name: None if name in self.dead else self.daqs[name].status(now) for name in instances}
                return [(0.01, StatusRead(array=array, purpose=purpose, run=run, statuses=statuses))]
            case StartProcessing():
                self._search(effect, now)
            case ReadPhaseup(array=array):
                return [(0.01, PhaseupRead(array=array, phaseup=900.0, last_config=100.0, last_stored=0.0))]
            case FetchCalibration(array=array, phaseup=phaseup):
                self.calibrated.append(array)
                return [(0.01, CalibrationFetched(array=array, phaseup=phaseup, key="k", antennas=4))]
            case Notify():
                self.notices.append(effect)
        return []

    def _search(self, effect: StartProcessing, now: float) -> None:
        if effect.instance in self.refuses:
            raise Failed(f"{effect.instance} is out of order")
        if (effect.instance, effect.run) in self.searched:
            return  # it has this run already
        assert self.simulation is not None
        self.searched[effect.instance, effect.run] = effect.duration
        self.busy[effect.instance] = now + SEARCH_SECONDS
        cursor = f"{len(self.searched)}-0"
        result = ResultRead(cursor=cursor, instance=effect.instance, run=effect.run, code=0, hits=1)
        self.simulation.say(now + SEARCH_SECONDS, result, droppable=False)
        legacy = LegacyReturn(instance=effect.instance, code=0, code2=-1)
        self.simulation.say(now + SEARCH_SECONDS, legacy)

    def write(self, command: tuple[str, ...], now: float) -> Sequence[tuple[float, Event]]:
        """Messages reach gateways; our own on ``rec_result`` reach us."""
        if command[0] != "PUBLISH":
            return []
        channel, payload = command[1], command[2]
        if channel == "rec_result":
            return [(0.01, heard(channel, payload))]
        if not channel.startswith("bluse:"):
            return []
        self.gateway.append((channel, payload))
        key, _, value = payload.partition("=")
        if channel.startswith("bluse://"):
            name, _, kind = channel.removeprefix("bluse://").rpartition("/")
            self._hear(name, kind, key, value, now)
        elif channel.endswith("///set"):
            group = channel.removeprefix("bluse:").removesuffix("///set")
            for name, daq in self.daqs.items():
                if group in daq.groups:
                    self._hear(name, "set", key, value, now)
        return []

    def _hear(self, name: str, kind: str, key: str, value: str, now: float) -> None:
        daq = self.daqs[name]
        if kind == "gateway" and key == "join":
            daq.groups.add(value)
        elif kind == "gateway":
            daq.groups.discard(value)
        else:
            daq.keys[key] = value
        arrays = {group.partition("-")[0] for group in daq.groups}
        if len(arrays) > 1:
            self.wrongs.append(f"{now:.3f}: {name} is commanded by {sorted(arrays)}")
        if key == "PKTSTART" and value != "0" and self.busy.get(name, 0.0) > now:
            self.wrongs.append(f"{now:.3f}: {name} is to record while it is searched")

    def snapshot(self, now: float) -> Mapping[str, Any]:
        """What the coordinator sees when it starts."""
        statuses = {name: None if name in self.dead else daq.status(now) for name, daq in self.daqs.items()}
        return {"config": self.config, "statuses": statuses, "cam": dict.fromkeys(self.config["arrays"], self.traces)}
