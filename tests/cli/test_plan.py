"""``socs-bl plan``: the planner on the pool as the journal has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from socs_bl.cli.main import main
from socs_bl.cli.plan import EXIT_SHORT
from socs_bl.commensal.metadata import keys_of
from socs_bl.core.memory_journal import MemoryJournal
from socs_bl.services.journals import open_journal
from tests.commensal.bench import Bench, sensors

Output = pytest.CaptureFixture[str]


def fill(url: str) -> None:
    """A coordinator's journal: blpn64 works for array_1, one of blpn65 is drained."""
    bench = Bench()
    bench.subscribe()
    bench.ask("drain", "blpn65/0")
    held = MemoryJournal(bench.vault)
    journal = open_journal(url, "socs_bl:commensal")
    journal.refill(held.base(), held.load(), held.read())
    journal.close()


def test_streams_are_planned(tmp_path: Path, capsys: Output) -> None:
    """What is free is divided; what is missing is explained, with an exit status of its own; nothing is claimed."""
    url = f"sqlite://{tmp_path}/night.db"
    fill(url)
    assert main(["plan", "--url", url, "spead://239.192.40.0+3:7148"]) == 0
    assert "blpn65/1" in capsys.readouterr().out
    assert main(["plan", "--url", url, "spead://239.192.40.0+11:7148", "--json"]) == EXIT_SHORT
    planned = json.loads(capsys.readouterr().out)
    assert [share["instance"] for share in planned["shares"]] == ["blpn65/1"] and planned["uncovered"] == 8
    assert "2 held by array_1" in planned["reason"] and "1 drained" in planned["reason"]
    names = ["blpn64/0", "blpn64/1", "blpn65/0"]
    assert main(["plan", "--url", url, "spead://239.192.40.0+11:7148", "--instances", *names]) == 0
    assert main(["plan", "--url", url, "--streams-per-instance", "12", "spead://239.192.40.0+11:7148"]) == 0
    for wrong in ("spead://10.0.0.1:7148", "../array_1"):
        assert main(["plan", "--url", url, wrong]) == 1
    assert main(["plan", "--url", f"sqlite://{tmp_path}/empty.db", "spead://239.192.40.0+3:7148"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.live
def test_a_subarray_is_planned(fresh_redis: str, capsys: Output) -> None:
    """CAM's keys say which streams; a subarray that CAM has not configured is refused with the missing key."""
    fill(fresh_redis)
    assert main(["plan", "--url", fresh_redis, "array_1"]) == 1
    assert "array_1:cbf_name" in capsys.readouterr().err
    with redis.Redis.from_url(fresh_redis) as client:
        keys = keys_of("array_1", "cbf_1", "wide")
        values = {keys[short]: text for short, text in sensors(4).items() if short != "antennas"}
        client.mset({"array_1:cbf_name": "cbf_1", "array_1:cbf_prefix": "wide", **values})
        client.rpush("array_1:antennas", "m000")
    assert main(["plan", "--url", fresh_redis, "array_1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shares"] == [
        {"instance": "blpn65/1", "first_ip": "239.192.1.0", "count": 4, "schan": 0}
    ]
