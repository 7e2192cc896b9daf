"""A saved state of the original becomes ours, whatever is wrong with it, and ours can be read by the original."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.commensal.config import CommensalConfig
from socs_bl.commensal.machine import CommensalMachine
from socs_bl.commensal.migration import export_state, import_state
from socs_bl.commensal.model import (
    EVENTS,
    Duty,
    LegacyReturn,
    Notify,
    ReadMetadata,
    ReadStatus,
    StartProcessing,
    StatusRead,
    TelescopeEvent,
)
from socs_bl.commensal.saved_state import SavedState
from socs_bl.commensal.takeover import Takeover
from socs_bl.core.clock import Instant
from socs_bl.core.effect import Effect
from socs_bl.core.event import EffectDone, Event, Restarted, TimerFired
from socs_bl.core.names import instance_order
from tests.commensal.bench import CONFIG, INSTANCES, START, Bench, sensors

NOW = START + 100.0
ARRAYS = CONFIG["arrays"]
SETTINGS = CommensalConfig.model_validate(CONFIG)
OBSID = "MeerKAT:array_1:20270115T080018Z"
DATADIR = "/buf1/20270115T080018Z-20261121-0001"


@dataclass
class Original:
    """What the original has in memory after a start, by its own rules, faults included."""

    free: set[str]
    freesub: dict[str, str]
    recproc: dict[str, str]
    sets: dict[str, dict[str, set[str]]]

    def records(self, array: str) -> bool:
        """Whether the subarray would record when told so."""
        subscribed = self.sets[array]["subscribed"]
        return self.recproc[array] == "READY" and bool(subscribed) and subscribed <= self.sets[array]["ready"]

    def subscribe(self, array: str, count: int) -> None:
        """Take instances from the free ones in order."""
        for name in sorted(self.free, key=instance_order)[:count]:
            self.free.remove(name)
            self.sets[array]["subscribed"].add(name)
        self.freesub[array] = "SUBSCRIBED"


def original_reads(keys: Mapping[str, str], every: Sequence[str], arrays: Sequence[str]) -> Original:
    """The original's recovery: an empty free list counts as none, ``ready`` begins with every instance."""
    free = set(json.loads(keys.get("free_instances", "[]"))) or set(every)
    found = Original(free, {}, {}, {})
    for array in arrays:
        sets: dict[str, set[str]] = {"subscribed": set(), "ready": set(every), "recording": set(), "processing": set()}
        found.recproc[array] = "READY"
        if f"{array}:state" in keys:
            saved = json.loads(keys[f"{array}:state"])
            sets = {name: set(saved[name]) for name in sets}
            found.recproc[array] = saved["recproc_state"]
        found.sets[array] = sets
        found.freesub[array] = keys.get(f"{array}:freesub_state") or ("SUBSCRIBED" if sets["subscribed"] else "FREE")
    return found


def state(recproc: str, subscribed: Sequence[str] = (), **sets: Sequence[str]) -> str:
    """A state as the original writes it: no timestamp, all ready, in no order."""
    lists = {"subscribed": subscribed, "ready": INSTANCES, "recording": (), "processing": (), **sets}
    return json.dumps({"recproc_state": recproc, **{name: list(reversed(names)) for name, names in lists.items()}})


def cam(array: str) -> dict[str, str]:
    """CAM's keys of a subarray, as they are in Redis."""
    redis_names = {
        "band": f"subarray_{array[-1]}_band",
        "centre": f"subarray_{array[-1]}_streams_wide_antenna_channelised_voltage_centre_frequency",
        "bandwidth": "cbf_1_wide_bandwidth",
        "sync_time": "cbf_1_wide_sync_time",
        "adc_sample_rate": "cbf_1_wide_adc_sample_rate",
        "hnchan": "cbf_1_wide_antenna_channelised_voltage_n_chans_per_substream",
        "hntime": "cbf_1_wide_antenna_channelised_voltage_spectra_per_heap",
        "samples_between_spectra": "cbf_1_wide_antenna_channelised_voltage_n_samples_between_spectra",
    }
    plain = ("antennas", "n_channels", "streams", "target")
    values = {
        redis_names.get(short, short): text for short, text in sensors().items() if short in (*redis_names, *plain)
    }
    values |= {"cbf_name": "cbf_1", "cbf_prefix": "wide"}
    return {f"{array}:{key}": value for key, value in values.items()}


def run_keys(array: str = "array_1") -> dict[str, str]:
    """What the original keeps of a recording."""
    facts = {"band": "l", "start_ts": START + 18, "nants": 4, "obsid": OBSID.replace("array_1", array)}
    return {
        f"{array}:datadir": DATADIR,
        f"metadata:{DATADIR}": json.dumps(facts),
        f"rec_end:{DATADIR}": str(START + 38),
    }


class Began(Event, frozen=True):
    """The first start, with what the original has left."""

    keys: Mapping[str, str]


class Machine(CommensalMachine, Takeover):
    """Ours, with the way in."""

    event_types = (*EVENTS, Began)

    def handle(self, event: Event) -> None:
        if isinstance(event, Began):
            self.take_over(event.keys)
        else:
            super().handle(event)


class Site:
    """A machine that has taken over."""

    def __init__(self, keys: Mapping[str, str], config: Mapping[str, Any] = CONFIG) -> None:
        self.machine, self.now = Machine(), NOW
        self.say(Restarted(epoch=1, world={"config": config}))
        self.findings = [effect.text for effect in self.say(Began(keys=keys)) if isinstance(effect, Notify)]
        self.written = {command[1]: command[2] for command in self.machine.take_projection() if command[0] == "SET"}

    def say(self, event: Event) -> list[Effect]:
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        effects = self.machine.step(type(event)(**{**fields, "at": Instant(self.now, self.now)}))
        self.machine.check()
        for effect in effects:
            if isinstance(effect, Notify):
                self.machine.step(EffectDone(effect=effect.id, at=Instant(self.now, self.now)))
        return effects

    def fire(self, name: str) -> list[Effect]:
        timer = self.machine.timers[name]
        self.now = max(self.now, timer.deadline)
        return self.say(TimerFired(name=name, generation=timer.generation))

    def duties(self) -> dict[str, str]:
        cells = sorted(self.machine.instances(), key=lambda cell: instance_order(cell.name))
        return {cell.name: f"{cell.duty.value} {cell.owner}".strip() for cell in cells}

    def states(self, array: str = "array_1") -> tuple[str, str]:
        cell = self.machine.array(array)
        assert cell is not None
        return cell.freesub.value, cell.recproc.value


def only(effects: Sequence[Effect], kind: type[Any]) -> Any:
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def test_a_quiet_site() -> None:
    """Free and subscribed instances stay so, with the shares the original gave them; what they were told is read back."""
    keys = {
        "free_instances": json.dumps(["blpn65/1", "blpn65/0"]),
        "array_1:freesub_state": "SUBSCRIBED",
        "array_1:state": state("READY", INSTANCES[:2]),
        "array_2:freesub_state": "CONFIGURING",
        "array_2:state": state("READY"),
        "automator:n_proc": "41",
        **cam("array_1"),
    }
    site = Site(keys)
    assert site.duties() == {
        "blpn64/0": "ready array_1",
        "blpn64/1": "ready array_1",
        "blpn65/0": "free",
        "blpn65/1": "free",
    }
    assert site.states() == ("SUBSCRIBED", "READY") and site.states("array_2") == ("CONFIGURING", "READY")
    array = site.machine.array("array_1")
    assert array is not None
    assert [(share.instance, share.destip) for share in array.shares] == [
        ("blpn64/0", "239.192.1.0+3"),
        ("blpn64/1", "239.192.1.4+3"),
    ]
    assert site.findings == ["array_2 was being configured; publish conf_complete:array_2 again if it has been"]
    assert site.machine.ledger().completed == 41
    assert only(site.fire("confirm/array_1"), ReadStatus).instances == ("blpn64/0", "blpn64/1")
    assert only(site.say(TelescopeEvent(word="tracking", array="array_1")), ReadMetadata).purpose == "record"
    assert only(site.say(TelescopeEvent(word="conf_complete", array="array_2")), ReadMetadata).array == "array_2"


def test_a_recording_without_a_timer() -> None:
    """W5: RECORD is taken over with an end; it ends, is searched by run id, and the subarray is ready again."""
    busy = INSTANCES[:2]
    keys = {
        "free_instances": json.dumps(INSTANCES[2:]),
        "array_1:freesub_state": "SUBSCRIBED",
        "array_1:state": state("RECORD", busy, recording=busy),
        **cam("array_1"),
        **run_keys(),
    }
    site = Site(keys)
    assert site.states() == ("SUBSCRIBED", "RECORD")
    assert "nothing had kept its end, it ends in 10 s" in site.findings[0]
    read = only(site.fire("record/array_1"), ReadStatus)
    statuses = {name: {"DATADIR": "/x"} for name in busy}
    asked = [
        effect
        for effect in site.say(StatusRead(array="array_1", purpose="ended", run=read.run, statuses=statuses))
        if isinstance(effect, StartProcessing)
    ]
    assert [(ask.instance, ask.run, ask.datadir, ask.duration) for ask in asked] == [
        ("blpn64/0", OBSID, DATADIR.replace("buf1", "buf0"), 20.0),
        ("blpn64/1", OBSID, DATADIR, 20.0),
    ]


def test_a_search_without_run_ids() -> None:
    """PROCESS is taken over: analyzers are asked again, returns without a run count, and the deadline ends it."""
    busy = INSTANCES[:2]
    keys = {
        "free_instances": "[]",
        "array_1:freesub_state": "SUBSCRIBED",
        "array_1:state": state("PROCESS", busy, processing=busy),
        **cam("array_1"),
        "blpn64/0:last-datadir": "/buf0/old",
    }
    site = Site(keys)
    assert site.states() == ("SUBSCRIBED", "PROCESS")
    assert any("nothing says what" in text for text in site.findings)
    ask = only(site.fire("ask/blpn64/0"), StartProcessing)
    assert ask.datadir == "/buf0/old" and ask.run.startswith("MeerKAT:array_1:")
    site.say(EffectDone(effect=ask.id))
    site.say(LegacyReturn(instance="blpn64/0", code=0, code2=-1))
    assert "legacy/blpn64/0" in site.machine.timers
    site.fire(f"process/{ask.run}")
    assert set(site.duties().values()) == {"quarantined", "free"}


@pytest.mark.parametrize("word", ["WAITING", "ERROR"])
def test_waiting_and_error(word: str) -> None:
    """They are taken over as they are, with their instances; reset_array leads out."""
    keys = {"array_1:freesub_state": "SUBSCRIBED", "array_1:state": state(word, INSTANCES[:2]), **cam("array_1")}
    site = Site(keys)
    assert site.states() == ("SUBSCRIBED", word) and site.duties()["blpn64/1"] == "ready array_1"


def test_double_use() -> None:
    """W1: an instance that processes for a subarray that was given up, is free, and is subscribed elsewhere has one
    owner: who searches with it; it is free when that has ended."""
    keys = {
        "free_instances": json.dumps(["blpn64/0", "blpn65/1"]),
        "array_1:freesub_state": "FREE",
        "array_1:state": state("PROCESS", processing=["blpn64/0"]),
        "array_2:freesub_state": "SUBSCRIBED",
        "array_2:state": state("READY", ["blpn64/0", "blpn64/1"]),
        "array_3:freesub_state": "SUBSCRIBED",
        "array_3:state": state("RECORD", ["blpn64/1", "blpn65/0"], recording=["blpn64/0", "blpn65/0"]),
        **cam("array_2"),
        **cam("array_3"),
        **run_keys("array_3"),
    }
    site = Site(keys)
    assert site.duties() == {
        "blpn64/0": "processing array_1",
        "blpn64/1": "ready array_2",
        "blpn65/0": "recording array_3",
        "blpn65/1": "free",
    }
    told = " | ".join(site.findings)
    for text in (
        "blpn64/0 was saved as working for array_1 and for array_3; it stays with the first",
        "blpn64/0 was saved as array_1's and array_2's; array_2 goes on without it",
        "blpn64/1 was saved as array_2's and array_3's; array_3 goes on without it",
        "blpn64/0 was saved as free and as array_1's; it is not free",
    ):
        assert text in told
    assert site.states() == ("FREE", "READY")


@pytest.mark.parametrize(
    ("keys", "finding", "duties"),
    [
        ({"free_instances": "[]"}, "is in no saved list; it is taken as new, and free", "free"),
        ({"free_instances": "{"}, "free_instances is unreadable", "free"),
        ({"free_instances": '["blpn99/0"]'}, "blpn99/0 was saved as free and is not configured", "free"),
        ({"free_instances": '["../x"]'}, "names no instance", "free"),
        ({"array_1:state": "[]"}, "the saved state is unreadable", "free"),
        ({"array_9:state": state("READY")}, "array_9 was saved and is not configured", "free"),
        ({"array_1:freesub_state": "ODD"}, "allocation state 'ODD' is unknown", "free"),
        ({"array_1:state": state("ODD")}, "recording state 'ODD' is unknown; taken as ERROR", "free"),
        ({"array_1:state": state("READY", ["blpn64/0"])}, "look at array_1:cbf_name", "free"),
        ({"array_1:state": state("READY", processing=["blpn64/0"])}, "quarantined, release_instance", "quarantined"),
        (
            {"array_1:state": state("RECORD", ["blpn64/0"], recording=["blpn64/0"]), **cam("array_1")},
            "leads to no metadata; it is taken as READY",
            "ready array_1",
        ),
        (
            {"array_1:state": state("RECORD", ["blpn64/0"], recording=["blpn64/0"]), **run_keys()},
            "cannot be taken over as SUBSCRIBED",
            "processing array_1",
        ),
    ],
)
def test_what_is_odd_is_told(keys: dict[str, str], finding: str, duties: str) -> None:
    """Every oddity is a finding, and costs no more than what it is about."""
    site = Site(keys)
    assert any(finding in text for text in site.findings), site.findings
    assert site.duties()["blpn64/0"] == duties
    assert set(list(site.duties().values())[2:]) == {"free"}


def test_a_first_start_without_the_original() -> None:
    """Where nothing was saved all is free and nothing is told."""
    site = Site({})
    assert set(site.duties().values()) == {"free"} and site.findings == []


names = st.lists(st.sampled_from([*INSTANCES, "blpn99/0", "odd", "blpn64/0"]), max_size=4)


def _saved(word: str, *sets: list[str]) -> str:
    kinds = ("subscribed", "ready", "recording", "processing")
    return json.dumps({"recproc_state": word, **dict(zip(kinds, sets, strict=True))})


words = st.sampled_from(["READY", "RECORD", "PROCESS", "WAITING", "ERROR", "ODD"])
states = st.builds(_saved, words, names, names, names, names)
junk = st.sampled_from(["", "[]", "{}", "null", "3", '{"recproc_state": 1, "subscribed": "x", "recording": [1, null]}'])
saved = st.fixed_dictionaries(
    {},
    optional={
        "free_instances": names.map(json.dumps) | junk,
        **{f"{array}:state": states | junk for array in ARRAYS},
        **{f"{array}:freesub_state": st.sampled_from(["FREE", "CONFIGURING", "SUBSCRIBED", "ODD"]) for array in ARRAYS},
    },
)
surroundings = st.lists(st.sampled_from([cam("array_1"), cam("array_2"), run_keys(), run_keys("array_2")]), max_size=4)


@given(saved, surroundings)
def test_any_saved_state_is_taken_over(keys: dict[str, str], around: list[dict[str, str]]) -> None:
    """Whatever was saved, the invariants hold afterwards (one owner each, every recording has an end) and every timer can
    run out; what is then written can be read by the original, which sees the same."""
    for more in around:
        keys |= more
    site = Site(keys)
    configured = {name for name, duty in site.duties().items() if duty}
    assert configured >= set(INSTANCES)
    read = original_reads(site.written, INSTANCES, ARRAYS)
    for array in ARRAYS:
        cell = site.machine.array(array)
        assert cell is not None
        assert (read.freesub[array], read.recproc[array]) == (cell.freesub.value, cell.recproc.value)
        assert read.sets[array]["subscribed"] == set(site.machine.members(cell))
        assert read.sets[array]["recording"] == set(site.machine.members(cell, Duty.RECORDING))
    for name in sorted(site.machine.timers):
        if name in site.machine.timers:
            site.fire(name)


def lives() -> dict[str, dict[str, str]]:
    """What our machine has saved in each of its states."""
    found = {}
    for name in ("free", "subscribed", "recording", "processing"):
        bench = Bench()
        if name != "free":
            bench.subscribe()
        if name == "recording":
            bench.record()
        if name == "processing":
            bench.process()
        bench.machine.touch_everything()
        found[name] = {command[1]: command[2] for command in bench.machine.take_projection() if command[0] == "SET"}
    return found


LIVES = lives()


@pytest.mark.parametrize("name", LIVES)
def test_the_original_goes_on_with_what_we_hand_back(name: str) -> None:
    """Written back for the original, every subarray it has or subscribes anew can record; what it cannot do by itself is
    told. Without that its rule (all subscribed must be ready) would refuse every recording."""
    keys = LIVES[name]
    changed, findings = export_state(keys, SETTINGS)
    read = original_reads({**keys, **changed}, INSTANCES, ARRAYS)
    before = original_reads(keys, INSTANCES, ARRAYS)
    assert (read.free, read.freesub, read.recproc) == (before.free, before.freesub, before.recproc)
    for array in ARRAYS:
        for kind in ("subscribed", "recording", "processing"):
            assert read.sets[array][kind] == before.sets[array][kind]
    assert read.records("array_1") == (name == "subscribed")
    read.subscribe("array_2", 2)
    assert read.records("array_2")
    before.subscribe("array_2", 2)
    assert not before.records("array_2")
    wanted = {"recording": "publish rec-timeout:array_1", "processing": "waits for the returns of blpn64/0, blpn64/1"}
    assert any(wanted[name] in text for text in findings) if name in wanted else findings == []


def test_what_cannot_be_handed_back_is_told() -> None:
    """W3: an empty free list, states the original does not get out of, who is quarantined or drained."""
    keys = {"free_instances": "[]", "array_1:state": state("ERROR", INSTANCES[:3]), "array_2:state": "{"}
    changed, findings = export_state(keys, SETTINGS)
    assert list(changed) == ["array_1:state"]
    assert ["all free" in findings[0], "reset_array first" in findings[1]] == [True, True]
    assert findings[2] == "blpn65/1: out of service, in no list; the original uses none that is not free"


@pytest.mark.parametrize("name", LIVES)
def test_ours_is_taken_over_again(name: str) -> None:
    """What we have written, taken over, is written the same: nothing is lost on the way through the original's keys."""
    again = Site({**LIVES[name], **cam("array_1"), **run_keys()})
    for key, text in LIVES[name].items():
        written, wanted = again.written[key], text
        if key.endswith(":state"):
            written, wanted = ({**json.loads(each), "timestamp": 0} for each in (written, text))
        assert written == wanted, key


@pytest.mark.live
def test_keys_in_a_real_redis(fresh_redis: str) -> None:
    """Everything the import asks for is read from Redis; handing back writes what the original reads."""
    busy = list(INSTANCES[:2])
    keys = {
        "free_instances": json.dumps(INSTANCES[2:]),
        "array_1:freesub_state": "SUBSCRIBED",
        "array_1:state": state("RECORD", busy, recording=busy),
        "blpn64/0:last-datadir": "/buf0/old",
        **cam("array_1"),
        **run_keys(),
    }
    with redis.Redis.from_url(fresh_redis) as client:
        for key, value in keys.items():
            if key == "array_1:antennas":
                client.rpush(key, *(f"m00{n}" for n in range(int(value))))
            else:
                client.set(key, value)
        shell = SavedState(client, SETTINGS)
        assert shell.read() == keys
        assert import_state(shell.read(), SETTINGS, NOW).cells[f"run/{OBSID}"]
        assert shell.hand_back() == [
            "array_1 records: the original has no timer for its end; publish rec-timeout:array_1"
        ]
        stored = json.loads(client.get("array_1:state") or b"")
        assert stored["ready"] == list(INSTANCES[2:]) and stored["recproc_state"] == "RECORD"
