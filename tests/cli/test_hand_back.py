"""``socs-bl hand-back``: back to the original coordinator."""

from __future__ import annotations

import json

import pytest
import redis

from socs_bl.cli.hand_back import EXIT_FINDINGS
from socs_bl.cli.main import main
from socs_bl.core.errors import Refused
from tests.cli.test_plan import fill
from tests.commensal.bench import CONFIG

Output = pytest.CaptureFixture[str]


@pytest.mark.live
def test_the_saved_state_is_handed_back(fresh_redis: str, capsys: Output) -> None:
    """Nothing is written unless asked, nor while a coordinator listens; then every subarray that is subscribed can record
    by the original's rule, and who is out of service is named."""
    assert main(["hand-back", "--url", fresh_redis]) == 1
    assert "is empty" in capsys.readouterr().err
    subscribed = list(CONFIG["hashpipe_instances"][:2])
    ours = {"recproc_state": "READY", "subscribed": subscribed, "ready": [], "recording": [], "processing": []}
    saved = {"free_instances": '["blpn65/1"]', "array_1:freesub_state": "SUBSCRIBED", "array_1:state": json.dumps(ours)}
    fill(fresh_redis)
    with redis.Redis.from_url(fresh_redis, decode_responses=True) as client, client.pubsub() as coordinator:
        client.mset({**saved})
        assert main(["hand-back", "--url", fresh_redis]) == EXIT_FINDINGS
        assert "blpn65/0: out of service" in capsys.readouterr().out
        assert client.get("array_1:state") == saved["array_1:state"]
        coordinator.subscribe("proc_result")
        coordinator.get_message(timeout=10)
        assert main(["hand-back", "--url", fresh_redis, "--write"]) == 1
        assert f"{Refused.__name__}: somebody listens" in capsys.readouterr().err
        assert client.get("array_1:state") == saved["array_1:state"]
        coordinator.close()
        assert main(["hand-back", "--url", fresh_redis, "--write"]) == EXIT_FINDINGS
        assert set(subscribed) <= set(json.loads(client.get("array_1:state") or "")["ready"])
        assert client.get("free_instances") == saved["free_instances"]
