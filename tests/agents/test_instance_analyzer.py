"""The analyzer agent: a recorded tone found, catalogued and reported through real Redis and a real process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ocs
import pytest
import pytest_twisted
import redis
import yaml

from socs_bl.agentkit import SiteAgent
from socs_bl.agents.instance_analyzer.agent import InstanceAnalyzer, add_agent_args
from socs_bl.capture.guppi import encode_header
from socs_bl.search.catalogue import Catalogue
from socs_bl.search.dat import read_dat
from socs_bl.search.effects import CATALOGUE
from tests.harness import seticore as simulator
from tests.harness.agent_case import (
    AgentCase,
    arguments,
    begun,
    end,
    ended,
    make_site_agent,
    pause,
    run_operation,
    stored,
    until,
)

DATADIR = "/buf0/20261121T040000Z-20261121-0001"
PATIENCE = 120.0
RUN = "MeerKAT:array_1:20261121T040000Z"
CONFIG: dict[str, Any] = {
    "search": {"fine_channels": 1024, "min_duration_s": 5.0, "plots": 0, "max_drift_hz_s": 2.0},
    "least_free_bytes": 0,
    "warm_up": False,
}


def make(site_agent: SiteAgent, directory: Path, redis_url: str, **changes: object) -> InstanceAnalyzer:
    """An analyzer of blpn64/0 whose files are under `directory`."""
    config = directory / "analyzer.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **changes}), encoding="utf-8")
    argv = ["--instance", "blpn64/0", "--redis-url", redis_url, "--root", str(directory / "host")]
    argv += ["--products", str(directory / "products"), "--config", str(config)]
    return InstanceAnalyzer(site_agent, arguments(add_agent_args(), *argv))


def record(directory: Path, channels: int = 2, heaps: int = 40) -> Path:
    """Write what a recorder would have written: noise and one tone, 213 Hz above the lower edge, drifting 1 Hz/s."""
    generator = np.random.default_rng(5)
    count, chan_bw = heaps * 256, 1000.0
    time = np.arange(count) / chan_bw
    noise = generator.standard_normal((2, 1, channels, count, 2, 2))
    data = 8.0 * (noise[0] + noise[1])
    tone = 6.0 * np.exp(2j * np.pi * ((213.0 - 500.0) * time + 0.5 * time**2))
    data[0, 0, :, :, 0] += tone.real[:, None]
    data[0, 0, :, :, 1] += tone.imag[:, None]
    block = np.clip(np.rint(data), -127, 127).astype(np.int8)
    cards: dict[str, str | int | float] = {
        "OBSFREQ": 1400.0, "OBSBW": channels * 1e-3, "CHAN_BW": 1e-3, "TBIN": 1e-3, "OBSNCHAN": channels, "NANTS": 1,
        "NPOL": 4, "NBITS": 8, "DIRECTIO": 0, "BLOCSIZE": block.size, "HNTIME": 256, "PKTIDX": 0, "STT_IMJD": 61365,
        "STT_SMJD": 14400, "STT_OFFS": 0.0, "OBSID": RUN, "INSTANCE": "blpn64/0", "SRC_NAME": "J0918",
    }  # fmt: skip
    path = directory / "host" / DATADIR.lstrip("/") / "guppi_61365_14400_000000_J0918_0001.0000.raw"
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_header(cards) + block.tobytes())
    return path


async def process(agent: InstanceAnalyzer, **parameters: object) -> dict[str, Any]:
    """Run `process` to its end; returns its session. A search has a process of its own, which takes a while to start."""
    await begun(agent, "process", **parameters)
    return await ended(agent, "process", timeout=PATIENCE)


@pytest.mark.live
class TestInstanceAnalyzer(AgentCase):
    """What every agent promises."""

    @pytest.fixture(autouse=True)
    def _redis(self, fresh_redis: str) -> None:
        self.redis_url = fresh_redis

    def make_agent(self, site_agent: SiteAgent, tmp_path: Path) -> InstanceAnalyzer:
        return make(site_agent, tmp_path, self.redis_url)

    def parameters(self, name: str) -> dict[str, object] | None:
        return {"process": {"run": RUN, "datadir": DATADIR}}.get(name, {})

    def state(self, agent: Any) -> object:
        return stored(self.redis_url, "socs_bl:analyzer:blpn64-0")


@pytest.fixture
def make_analyzer(tmp_path: Path, fresh_redis: str) -> Iterator[Callable[..., InstanceAnalyzer]]:
    """``make_analyzer(**config)``: analyzers on an empty Redis, ended after the test."""
    made = []

    def build(**changes: object) -> InstanceAnalyzer:
        made.append(make(make_site_agent("InstanceAnalyzer"), tmp_path, fresh_redis, **changes))
        return made[-1]

    yield build
    for agent in made:
        pytest_twisted.blockon(agent.site_agent.end())
        agent.close()


@pytest.fixture
def client(fresh_redis: str) -> Iterator[redis.Redis]:
    """Somebody who looks at Redis."""
    with redis.Redis.from_url(fresh_redis, decode_responses=True) as client:
        yield client


def results(client: redis.Redis) -> list[dict[str, str]]:
    """The results reported so far."""
    return [fields for _, fields in client.xrange("socs_bl:results")]


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_recording_is_searched_catalogued_and_reported(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis
) -> None:
    """Promise: `process` ends when its run is reported, with the tone in the hit list, and twice is the same run."""
    raw = record(tmp_path)
    agent = make_analyzer()
    await begun(agent, "work_queue")
    with client.pubsub() as listener:
        listener.subscribe("proc_result")
        for _ in range(2):
            session = await process(agent, run=RUN, datadir=DATADIR, duration=10.0)
            assert session["success"], session["messages"]
        messages = [message["data"] for _ in range(5) if (message := listener.get_message(timeout=0.5))]
    assert messages == [1, "RETURN:blpn64/0:0:-1", "RETURN:blpn64/0:0:-1"]
    data = session["data"]
    assert (data["stage"], data["code"], data["reason"], data["hits"]) == ("reported", 0, "searched", 1)
    assert (
        results(client)
        == [
            {
                "run": RUN,
                "instance": "blpn64/0",
                "code1": "0",
                "code2": "-1",
                "reason": "searched",
                "hits": "1",
                "obsid": RUN,
                "stamps": results(client)[0]["stamps"],
                "freed": "0",
            }
        ]
        * 2
    )
    (hits,) = [Path(name) for name in data["products"] if name.endswith(".dat")]
    assert hits.parent == tmp_path / "products" / Path(DATADIR).name / "blpn64-0"
    (hit,) = read_dat(hits).hits
    assert (hit.frequency_mhz - 1399.999) * 1e6 == pytest.approx(213.0, abs=1.0)
    assert hit.drift_hz_s == pytest.approx(1.0, abs=0.15)
    assert raw.exists()
    assert (tmp_path / "products" / CATALOGUE / "context.yaml").exists()
    session = await run_operation(agent, "queue_status")
    assert [run["run"] for run in session["data"]["reported"]] == [RUN]
    assert (session["data"]["searched_runs"], session["data"]["hits"]) == (1, 1)


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_progress_reaches_the_session(tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer]) -> None:
    """Promise: while it searches, `process` tells step, done, total, unit and the time left."""
    record(tmp_path, channels=4)
    agent = make_analyzer()
    await begun(agent, "work_queue")
    seen = []
    progressed = agent.effects._progress
    agent.effects._progress = lambda run, line: (progressed(run, line), seen.append(agent.session("process").data))
    await process(agent, run=RUN, datadir=DATADIR)
    names = {"step", "done", "total", "unit", "eta_s", "percent", "elapsed_s"}
    assert all(set(data["progress"]) == names for data in seen)
    assert all(0 <= data["progress"]["percent"] <= 100 and data["progress"]["elapsed_s"] >= 0 for data in seen)
    assert seen[0]["progress"]["done"] == 0 and seen[0]["stage"] == "searching"
    assert {data["progress"]["step"] for data in seen} == {"search", "write"}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_nothing_recorded_and_wrong_requests(
    make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis
) -> None:
    """Promise: a missing directory is code 1; a path that leads elsewhere, or a run's name used twice, is refused and
    reported to nobody."""
    agent = make_analyzer()
    await begun(agent, "work_queue")
    session = await process(agent, run=RUN, datadir=DATADIR)
    assert session["success"] and (session["data"]["code"], session["data"]["reason"]) == (1, "missing")
    for parameters in (
        {"run": "r2", "datadir": "/buf0/../../etc"},
        {"run": "r2", "datadir": "buf0/x"},
        {"run": "r2", "datadir": "/"},
        {"run": "r 2\n", "datadir": DATADIR},
        {"run": "r2", "datadir": DATADIR, "duration": -1.0},
        {"run": "r2", "datadir": DATADIR, "snr": -1.0},
        {"run": RUN, "datadir": "/buf0/other"},
    ):
        session = await process(agent, **parameters)
        assert not session["success"] and "CRASH" not in str(session["messages"]), parameters
    assert [(result["run"], result["code1"]) for result in results(client)] == [(RUN, "1")]


async def searching(agent: InstanceAnalyzer) -> int:
    """Wait until the search's process runs; returns its pid."""
    while True:
        latest = agent.effects._latest
        if latest is not None and latest.transport is not None and latest.transport.pid:
            return int(latest.transport.pid)
        await pause(0.01)


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_killed_search_is_tried_again(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: a search that is killed is no success; it is repeated, and then found."""
    record(tmp_path)
    monkeypatch.setattr("socs_bl.search.runs.RETRY_PAUSE", 0.05)
    agent = make_analyzer()
    await begun(agent, "work_queue")
    await begun(agent, "process", run=RUN, datadir=DATADIR)
    os.kill(await searching(agent), signal.SIGKILL)
    session = await ended(agent, "process", timeout=PATIENCE)
    assert session["success"] and session["data"]["hits"] == 1
    assert [result["reason"] for result in results(client)] == ["searched"]
    assert any("signal 9" in alert["text"] for alert in agent.health.report()["alerts"])


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_an_aborted_run_is_given_up(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis
) -> None:
    """Promise: an abort ends the search's process and reports code 9; the queue goes on."""
    record(tmp_path)
    agent = make_analyzer()
    await begun(agent, "work_queue")
    await begun(agent, "process", run=RUN, datadir=DATADIR)
    await searching(agent)
    search = agent.effects._latest
    end(agent, "process")
    assert not (await ended(agent, "process"))["success"]
    assert search is not None
    await search.gone
    session = await process(agent, run="again", datadir=DATADIR)
    assert session["success"] and session["data"]["hits"] == 1
    assert [(result["run"], result["code1"]) for result in results(client)] == [(RUN, "9"), ("again", "0")]


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_restart_goes_on_where_it_was(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis
) -> None:
    """Promise: an agent that ends in the middle of a search aborts nothing; the next one searches and reports, once."""
    record(tmp_path)
    first = make_analyzer()
    await begun(first, "work_queue")
    await begun(first, "process", run=RUN, datadir=DATADIR)
    await searching(first)
    await first.site_agent.end()
    assert results(client) == []
    second = make_analyzer()
    await begun(second, "work_queue")
    session = await process(second, run=RUN, datadir=DATADIR)
    assert session["success"] and session["data"]["hits"] == 1
    assert {(result["run"], result["code1"]) for result in results(client)} == {(RUN, "0")}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_raw_data_are_deleted_only_when_told_so(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer]
) -> None:
    """Promise: with keep_raw off a searched recording is deleted and leaves the catalogue; a preserved one stays."""
    raw = record(tmp_path)
    agent = make_analyzer(keep_raw=False)
    await begun(agent, "work_queue")
    session = await process(agent, run="keep", datadir=DATADIR, preserve=True)
    assert session["success"] and raw.exists()
    size = raw.stat().st_size
    assert (await run_operation(agent, "unpreserve", datadir=DATADIR))["success"]
    session = await process(agent, run=RUN, datadir=DATADIR)
    assert session["success"] and not raw.exists() and not raw.parent.exists()
    assert (session["data"]["bytes_freed"], session["data"]["rule"]) == (size, "searched")
    assert all(Path(name).exists() for name in session["data"]["products"])
    Catalogue(tmp_path / "products" / CATALOGUE)


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_told(make_analyzer: Callable[..., InstanceAnalyzer]) -> None:
    """Promise: less free space than wanted degrades `monitor_disk` and alerts once a disk."""
    agent = make_analyzer(least_free_bytes=1e18)
    await begun(agent, "monitor_disk", interval=0.1)
    while len(agent.site_agent.sessions["monitor_disk"].data) < 2 or agent.session("monitor_disk").sequence < 3:
        await pause(0.05)
    status, _, session = agent.site_agent.status("monitor_disk")
    assert status == ocs.OK and session["degraded"]
    assert session["data"]["volumes"]["products"]["free_bytes"] > 0 and "data" in session["data"]["short"]
    assert len([alert for alert in agent.health.report()["alerts"] if "nearly full" in alert["text"]]) == 2
    end(agent, "monitor_disk")
    await ended(agent, "monitor_disk")


def with_seticore(directory: Path, behaviour: str) -> dict[str, Any]:
    """Configuration of an analyzer that calls seticore, whose recipe says how it behaves."""
    recipes = directory / "recipes"
    recipes.mkdir()
    recipe = {"nants": 1, "hits": 3, "stamps": 2, "behaviour": behaviour}
    (recipes / f"{RUN.replace(':', '-')}.bfr5").write_text(json.dumps(recipe), encoding="utf-8")
    seticore = {"program": simulator.__file__, "recipe_dir": str(recipes), "min_duration_s": 1.0, "deadline_s": 60.0}
    return {"engine": "seticore", "seticore": seticore}


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_d03_19_seticore_fails_is_left_alone_and_is_asked_again(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: a seticore without a recipe is called twice, the recording is given up with its raw data; when there is a
    recipe, `requeue` has it searched, also when seticore is killed once on the way, and the same run is reported."""
    raw = record(tmp_path)
    monkeypatch.setattr("socs_bl.search.runs.RETRY_PAUSE", 0.05)
    config = with_seticore(tmp_path, "once")
    recipe = next((tmp_path / "recipes").iterdir())
    recipe.rename(recipe.with_suffix(".hidden"))
    agent = make_analyzer(keep_raw=False, **config)
    await begun(agent, "work_queue")
    session = await process(agent, run=RUN, datadir=DATADIR)
    assert not session["success"]
    assert (session["data"]["code"], session["data"]["reason"], session["data"]["tries"]) == (10, "declined", 2)
    status = (await run_operation(agent, "queue_status"))["data"]
    assert [failed["run"] for failed in status["failed"]] == [RUN] and raw.exists()
    recipe.with_suffix(".hidden").rename(recipe)
    assert (await run_operation(agent, "requeue", datadir=DATADIR))["success"]
    session = await process(agent, run=RUN, datadir=DATADIR)
    data = session["data"]
    assert (data["code"], data["hits"], data["stamps"], data["tries"]) == (0, 3, 2, 2) and not raw.exists()
    assert {Path(name).suffix for name in data["products"]} == {".hits", ".stamps"}
    assert [result["code1"] for result in results(client)][:2] == ["10", "0"]


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_d03_18_a_short_disk_takes_what_was_searched(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis
) -> None:
    """Promise: with `reclaim` a disk that is short loses what was searched, under a rule that is named, and nothing that
    is on the list of those that stay; `clean_raw` says what it did, and refuses by its rule."""
    raw = record(tmp_path)
    client.lpush("blpn64/0:preserved", DATADIR)
    agent = make_analyzer(reclaim=True, buffers=["/buf0"], least_free_bytes=1e18, **with_seticore(tmp_path, ""))
    await begun(agent, "work_queue")
    assert (await process(agent, run=RUN, datadir=DATADIR))["success"]
    session = await run_operation(agent, "monitor_disk", test_mode=True)
    assert [item["files"] for item in session["data"]["raw"]] == [1] and raw.exists()
    for parameters in (
        {"datadir": DATADIR, "force": True},
        {"older_than": 0.001},
        {},
        {"datadir": DATADIR, "older_than": 1.0},
    ):
        session = await run_operation(agent, "clean_raw", **parameters)
        assert not session["success"] and "CRASH" not in str(session["messages"])
    assert raw.exists()
    assert (await run_operation(agent, "unpreserve", datadir=DATADIR))["success"]
    assert client.lrange("blpn64/0:preserved", 0, -1) == []
    await run_operation(agent, "monitor_disk", test_mode=True)
    await until(lambda: not raw.exists(), "the disk is relieved")
    await until(lambda: bool(agent.running().machine.cleanings()[0].ended), "the deletion is noted")
    (cleaned,) = (await run_operation(agent, "queue_status"))["data"]["cleaned"]
    assert (cleaned["datadir"], cleaned["rule"], cleaned["refusal"]) == (DATADIR, "disk_short", "")


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_the_coordinators_list_is_worked_off(
    tmp_path: Path, make_analyzer: Callable[..., InstanceAnalyzer], client: redis.Redis
) -> None:
    """Promise: `process_queue` searches what the original's lists hold, takes it off when done, tells the target selector
    and gives one return; a name on the list that leads elsewhere is left there and told; `clean_raw` deletes by force."""
    raw = record(tmp_path)
    client.lpush("blpn64/0:unprocessed", "/buf0/gone", DATADIR, "../etc")
    client.set(f"metadata:{DATADIR}", json.dumps({"band": "l", "start_ts": 1.0, "nants": 1, "obsid": RUN}))
    client.set(f"rec_end:{DATADIR}", "11.0")
    agent = make_analyzer(**with_seticore(tmp_path, ""))
    await begun(agent, "work_queue")
    with client.pubsub() as listener:
        listener.psubscribe("proc_result", "target-selector:*")
        await begun(agent, "process_queue")
        session = await ended(agent, "process_queue", timeout=PATIENCE)
        messages = [message["data"] for _ in range(6) if (message := listener.get_message(timeout=0.5))]
    assert session["success"] and session["data"]["listed"] == ["/buf0/gone", DATADIR], session
    told, returned = (text for text in messages if isinstance(text, str))
    assert json.loads(told.removeprefix("UPDATE:"))["obsid"] == RUN and returned == "RETURN:blpn64/0:1:-1"
    assert client.lrange("blpn64/0:unprocessed", 0, -1) == ["../etc"]
    assert any("../etc" in alert["text"] for alert in agent.health.report()["alerts"])
    assert [(result["run"], result["code1"]) for result in results(client)] == [("list:/buf0/gone", "1"), (RUN, "0")]
    size = raw.stat().st_size
    session = await run_operation(agent, "clean_raw", datadir=DATADIR, force=True)
    assert session["success"] and (session["data"]["removed"], session["data"]["bytes_freed"]) == (1, size)
    assert not raw.exists()
