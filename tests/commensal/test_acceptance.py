"""What a commensal system must survive, each scenario by its name, on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from socs_bl.commensal import CommensalMachine
from socs_bl.commensal.effects import heard
from socs_bl.commensal.model import (
    Duty,
    MetadataRead,
    Notify,
    ReadMetadata,
    ReadStatus,
    Requested,
    StartProcessing,
    StatusRead,
    TelescopeEvent,
)
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from tests.commensal.bench import CODEC, CONFIG, INSTANCES, sensors
from tests.commensal.observatory import Observatory
from tests.commensal.saved import keys_written, saved_keys
from tests.harness.simulation import Crash, Failed, Simulation


class World(Observatory):
    """The observatory with what the scenarios break.

    Attributes
    ----------
    values : dict of str to mapping
        CAM's keys of a subarray, where they are not the usual ones.
    stuck, hanging : set of str
        Instances that receive and never record; whose analyzer takes a run and never returns.
    deaf : bool
        Nobody takes notifications.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.values: dict[str, Mapping[str, str]] = {}
        self.stuck: set[str] = set()
        self.hanging: set[str] = set()
        self.deaf = False

    def perform(self, effect: Effect, now: float) -> Sequence[tuple[float, Event]]:
        """As the observatory, save what is broken."""
        match effect:
            case ReadMetadata(array=array, purpose=purpose):
                values = self.values.get(array, sensors())
                return [(0.01, MetadataRead(array=array, purpose=purpose, prefix="wide", values=values))]
            case ReadStatus(array=array, purpose=purpose, run=run, instances=instances):
                statuses: dict[str, Mapping[str, str] | None] = {
                    name: None if name in self.dead else self.daqs[name].status(now) for name in instances
                }
                for name in self.stuck & statuses.keys():
                    statuses[name] = {**(statuses[name] or {}), "DAQSTATE": "LISTEN"}
                return [(0.01, StatusRead(array=array, purpose=purpose, run=run, statuses=statuses))]
            case StartProcessing(instance=name) if name in self.hanging:
                return []
            case Notify() if self.deaf:
                raise Failed("nobody listens")
        return super().perform(effect, now)


class Night:
    """A coordinator in its world, from one second to another."""

    def __init__(self, **config: Any) -> None:
        self.world = World({**CONFIG, "processing_deadline": 60, **config})
        self.simulation: Simulation[CommensalMachine] = Simulation(CommensalMachine, CODEC, self.world)
        self.world.simulation = self.simulation

    def say(self, at: float, *words: str, array: str = "array_1") -> None:
        """CAM says this, a word a tenth of a second."""
        for number, word in enumerate(words):
            self.simulation.say(at + number / 10, TelescopeEvent(word=word, array=array))

    def ask(self, at: float, what: str, name: str) -> None:
        """An operator wants this."""
        self.simulation.say(at, Requested(what=what, name=name), droppable=False)

    def kill(self, at: float) -> None:
        """The coordinator dies; it is back two seconds later."""

        def crash() -> None:
            raise Crash("killed")

        self.simulation.call(at, crash)

    def run(self, until: float) -> None:
        """Go on; invariants are checked at every step, the saved keys and what must never happen now."""
        self.simulation.run(until)
        assert self.world.wrongs == []
        assert keys_written(self.simulation.vault.writes) == saved_keys(self.simulation.machine)

    def states(self, array: str = "array_1") -> tuple[str, str]:
        """Both states of a subarray."""
        cell = self.simulation.machine.array(array)
        assert cell is not None
        return cell.freesub.value, cell.recproc.value

    def members(self, array: str = "array_1") -> list[str]:
        """Instances of a subarray."""
        cell = self.simulation.machine.array(array)
        assert cell is not None
        return [share.instance for share in cell.shares]

    def who(self, duty: Duty) -> set[str]:
        """Instances with a duty."""
        return {cell.name for cell in self.simulation.machine.instances() if cell.duty is duty}

    def searched(self, array: str = "array_1") -> dict[str, float]:
        """Seconds that each instance has searched for a subarray."""
        return {name: seconds for (name, run), seconds in self.world.searched.items() if f":{array}:" in run}

    def codes(self) -> list[str]:
        """Codes of what people were told."""
        return [notice.code for notice in self.world.notices]


SUBSCRIBED = ("SUBSCRIBED", "READY")


def subscribed(night: Night, array: str = "array_1", at: float = 1.0) -> None:
    """A subarray is built; it has its instances two seconds later."""
    night.say(at, "configure", "conf_complete", array=array)


def test_one_cycle() -> None:
    """Configure, complete, track, timeout, process, ready: two instances record and search 20 s."""
    night = Night()
    subscribed(night)
    night.say(8.0, "tracking")
    for until, states in ((1.05, ("CONFIGURING", "READY")), (7.0, SUBSCRIBED), (39.0, ("SUBSCRIBED", "RECORD"))):
        night.run(until)
        assert night.states() == states
    night.run(44.0)
    assert night.states() == ("SUBSCRIBED", "PROCESS") and night.who(Duty.PROCESSING) == set(INSTANCES[:2])
    night.run(60.0)
    assert night.states() == SUBSCRIBED
    assert night.searched() == pytest.approx(dict.fromkeys(INSTANCES[:2], 20.0))
    assert night.simulation.machine.ledger().completed == 1


def test_rapid_configure_and_deconfigure() -> None:
    """Twenty times in four seconds, also between the questions and their answers: everything is free, nothing waits."""
    night = Night()
    for number in range(20):
        at = 1.0 + number / 5
        night.say(at, "configure")
        night.say(at + 0.01, "conf_complete")
        night.say(at + 0.01 + number / 150, "deconfigure")
    night.run(60.0)
    assert night.states() == ("FREE", "READY") and night.who(Duty.FREE) == set(INSTANCES)
    machine = night.simulation.machine
    assert not machine.timers and not machine.outstanding
    assert not any(daq.groups for daq in night.world.daqs.values())


def test_short_pool() -> None:
    """Six instances are wanted and four are there: they record, and people are told how much of the band is not."""
    night = Night()
    night.world.values["array_1"] = sensors(24)
    subscribed(night)
    night.say(8.0, "tracking")
    night.run(60.0)
    assert night.members() == list(INSTANCES) and set(night.searched()) == set(INSTANCES)
    (text,) = [notice.text for notice in night.world.notices if notice.code == "short"]
    assert "4 of 6 instances" in text and "8 streams" in text


def test_early_stop_on_hosts_with_two_instances() -> None:
    """Both instances of the host search what was recorded, not the whole dwell, and both directories have the true end."""
    night = Night()
    subscribed(night)
    night.say(8.0, "tracking")
    night.say(20.0, "not-tracking")
    night.run(60.0)
    assert night.searched() == pytest.approx(dict.fromkeys(INSTANCES[:2], 10.0), abs=0.2)
    ends = {command[1]: command[2] for command in night.simulation.vault.writes if command[1].startswith("rec_end:")}
    assert {key.split("/")[1] for key in ends} == {"buf0", "buf1"} and len(set(ends.values())) == 1


def test_deconfigure_while_recording() -> None:
    """The recording is closed and searched; its instances are nobody else's until they have returned."""
    night = Night()
    subscribed(night)
    night.say(8.0, "tracking")
    night.say(20.0, "deconfigure")
    night.world.values["array_2"] = sensors(16)
    subscribed(night, "array_2", at=21.0)
    night.run(25.0)
    assert night.states() == ("FREE", "READY") and night.members("array_2") == list(INSTANCES[2:])
    night.run(60.0)
    assert set(night.searched()) == set(INSTANCES[:2]) and night.who(Duty.FREE) == set(INSTANCES[:2])


def test_second_subarray_while_the_first_processes() -> None:
    """It records with the other instances, and results of one never end the search of the other."""
    night = Night()
    subscribed(night)
    night.say(8.0, "tracking")
    subscribed(night, "array_2", at=41.0)
    night.say(43.0, "tracking", array="array_2")
    night.run(45.0)
    assert (night.states(), night.states("array_2")) == (("SUBSCRIBED", "PROCESS"), ("SUBSCRIBED", "RECORD"))
    night.run(47.0)
    assert (night.states(), night.states("array_2")) == (SUBSCRIBED, ("SUBSCRIBED", "RECORD"))
    night.run(90.0)
    assert set(night.searched("array_2")) == set(INSTANCES[2:]) and night.states("array_2") == SUBSCRIBED


@pytest.mark.parametrize(
    ("at", "state"),
    [
        (1.05, ("CONFIGURING", "READY")),
        (6.0, SUBSCRIBED),
        (20.0, ("SUBSCRIBED", "RECORD")),
        (38.0, ("SUBSCRIBED", "RECORD")),
        (44.0, ("SUBSCRIBED", "PROCESS")),
        (62.0, SUBSCRIBED),
        (105.0, ("SUBSCRIBED", "WAITING")),
        (120.0, ("SUBSCRIBED", "ERROR")),
    ],
)
def test_restart_in_each_state(at: float, state: tuple[str, str]) -> None:
    """The state comes back, timers go on where they were, and the night ends as it would have."""
    night = Night()

    def proposal(text: str) -> None:
        night.world.values["array_1"] = sensors(proposal=text)

    night.say(1.0, "configure")
    night.simulation.say(4.0, TelescopeEvent(word="conf_complete", array="array_1"), droppable=False)
    night.say(10.0, "tracking")
    night.simulation.call(70.0, lambda: proposal("SCI-PRIMARY"))
    night.say(70.0, "tracking")
    night.ask(108.0, "reset_array", "array_1")
    night.simulation.call(109.0, lambda: proposal("EXT-1"))
    night.say(110.0, "tracking")
    night.simulation.call(111.0, lambda: night.world.stuck.update(INSTANCES))
    for name in INSTANCES[:2]:
        night.ask(130.0, "release_instance", name)
    night.ask(131.0, "reset_array", "array_1")
    night.run(at)
    assert night.states() == state
    night.kill(at)
    night.run(at + 2.5)
    assert night.states() == state
    night.run(200.0)
    assert night.states() == SUBSCRIBED and night.who(Duty.FREE) == set(INSTANCES)
    codes = night.codes()
    assert (codes.count("processed"), codes.count("primary"), codes.count("nobody-records")) == (1, 1, 1)
    assert codes.count("recording") == 3 and codes.count("restarted") == 1
    assert night.searched() == pytest.approx(dict.fromkeys(INSTANCES[:2], 20.0))


def test_a_node_that_never_starts() -> None:
    """It is out five seconds after PKTSTART; the other records and is searched as if nothing had been."""
    night = Night()
    night.world.stuck.add("blpn64/1")
    subscribed(night)
    night.say(8.0, "tracking")
    night.run(20.0)
    assert night.who(Duty.QUARANTINED) == {"blpn64/1"} and night.who(Duty.RECORDING) == {"blpn64/0"}
    assert night.world.daqs["blpn64/1"].groups == set()
    night.run(60.0)
    assert night.searched() == pytest.approx({"blpn64/0": 20.0}) and night.states() == SUBSCRIBED


def test_a_node_that_never_returns() -> None:
    """It is out at the deadline; the subarray records again with the other."""
    night = Night()
    night.world.hanging.add("blpn64/0")
    subscribed(night)
    night.say(8.0, "tracking")
    night.run(90.0)
    assert night.states() == ("SUBSCRIBED", "PROCESS")
    night.say(101.0, "tracking")
    night.run(104.0)
    assert night.who(Duty.QUARANTINED) == {"blpn64/0"}
    assert night.states() == ("SUBSCRIBED", "RECORD") and night.who(Duty.RECORDING) == {"blpn64/1"}


def test_sinks_and_a_host_down() -> None:
    """Nobody takes notifications and a host is dead: the rest of its subarray, and the other one, go on."""
    night = Night()
    night.world.deaf = True
    night.world.dead.add("blpn64/0")
    night.world.refuses.add("blpn64/0")
    subscribed(night)
    subscribed(night, "array_2", at=1.5)
    for array in ("array_1", "array_2"):
        night.say(8.0, "tracking", array=array)
    night.run(80.0)
    assert set(night.searched()) == {"blpn64/1"} and set(night.searched("array_2")) == set(INSTANCES[2:])
    assert night.states() == night.states("array_2") == SUBSCRIBED
    assert night.who(Duty.QUARANTINED) == {"blpn64/0"}


@pytest.mark.parametrize(
    "payload", ["", "tracking", "tracking:array_1:x:y:z", ":", "tracking:array_9", "\ud800:array_1", "RETURN:"]
)
def test_a_malformed_message(payload: str) -> None:
    """On any channel, in the middle of a recording: it is counted or named, and the recording ends as it should."""
    night = Night()
    subscribed(night)
    night.say(8.0, "tracking")
    for channel in ("alerts", "proc_result", "rec_result"):
        night.simulation.say(20.0, heard(channel, payload))
    night.run(60.0)
    assert night.states() == SUBSCRIBED and night.simulation.machine.ledger().completed == 1
    assert night.simulation.machine.ledger().bad_messages + night.codes().count("unknown-array") == 3


def test_pool_empty_at_restart() -> None:
    """A restart with nothing free frees nothing: the next subarray gets nobody and is told who has them."""
    night = Night()
    night.world.values["array_1"] = sensors(16)
    subscribed(night)
    night.kill(6.0)
    subscribed(night, "array_2", at=9.0)
    night.run(12.0)
    assert night.members() == list(INSTANCES) and night.states("array_2") == ("FREE", "READY")
    (text,) = [notice.text for notice in night.world.notices if notice.code == "nothing-free"]
    assert "4 held by array_1" in text


def test_changed_instance_list() -> None:
    """At a restart new instances join the pool and serve; one that is gone works to the end of its subarray."""
    night = Night()
    subscribed(night)
    night.say(8.0, "tracking")
    names = [*INSTANCES[1:], "blpn66/0"]
    night.world.daqs["blpn66/0"] = type(night.world.daqs["blpn64/0"])()
    night.simulation.call(
        20.0, lambda: setattr(night.world, "config", {**night.world.config, "hashpipe_instances": names})
    )
    night.kill(20.0)
    night.run(60.0)
    assert set(night.searched()) == set(INSTANCES[:2])
    night.say(61.0, "tracking")
    night.run(64.0)
    assert night.states() == ("SUBSCRIBED", "RECORD")
    night.say(65.0, "deconfigure")
    night.world.values["array_2"] = sensors(20)
    subscribed(night, "array_2", at=90.0)
    night.run(95.0)
    assert night.members("array_2") == names


@pytest.mark.parametrize(
    ("url", "destips"),
    [
        ("spead://239.192.1.7:7148", ["239.192.1.7+0"]),
        ("spead://239.192.1.250+9:7148", ["239.192.1.250+3", "239.192.1.254+3", "239.192.2.2+1"]),
    ],
    ids=["single-address stream", "octet carry"],
)
def test_streams(url: str, destips: list[str]) -> None:
    """A stream of one address, and one whose addresses go on in the next octet, are received and recorded."""
    night = Night()
    streams = {"cbf.antenna_channelised_voltage": {"wide.antenna-channelised-voltage": url}}
    night.world.values["array_1"] = {**sensors(), "streams": json.dumps(streams)}
    subscribed(night)
    night.say(8.0, "tracking")
    night.run(60.0)
    told = [night.world.daqs[name].keys["DESTIP"] for name in night.members()]
    assert told == destips and len(night.searched()) == len(destips)
