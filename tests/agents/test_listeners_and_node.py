"""Both listeners and a real node, each in a process of its own: a pipe, documents on the wire, a SIGKILL in between."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.document import write_configuration
from socs_bl.services.process import free_port
from tests.agents.test_executor_listener import DATASET, Executor, mjd
from tests.correlator.observation.documents import OBSERVATION
from tests.harness.live import Agents, wait_until

pytestmark = [pytest.mark.live, pytest.mark.network]
GROUP, PORT = "239.192.61.2", free_port()
PATIENCE = 60.0


def document(scan: int, start: float) -> str:
    """An Observation of a scan that begins at this Unix time."""
    text = OBSERVATION.replace('startTime="57897.87981900463"', f'startTime="{mjd(start)}"')
    return text.replace("<scanNo>2<", f"<scanNo>{scan}<")


def entries(directory: Path) -> list[dict[str, Any]]:
    """The site config's agents."""
    journal = f"sqlite://{directory}/journals.db"
    groups = ["--observation-group", GROUP, "--observation-port", str(PORT), "--antenna-port", str(free_port())]
    node = ["--bdfdir", str(directory / "bdf" / ".private"), "--journal", journal, "--state-dir", str(directory)]
    return [
        {"agent-class": "CBEPipeline", "instance-id": "cbe-01", "arguments": node},
        {
            "agent-class": "ExecutorListener",
            "instance-id": "executor-listener",
            "arguments": [*groups, "--journal", journal],
        },
        {
            "agent-class": "ConfigListener",
            "instance-id": "config-listener",
            "arguments": ["--pipe", str(directory / "pipe"), "--journal", journal],
        },
    ]


@pytest.mark.timeout(240)
def test_a_listener_that_is_killed_forgets_no_scan(
    make_site: Callable[..., Path], run_agents: Callable[[Path], Agents], tmp_path: Path
) -> None:
    """A path in the pipe becomes a configuration of the node, a document a recording; after SIGKILL its end is told."""
    agents = run_agents(make_site(entries(tmp_path)))
    executor = Executor()
    try:
        node = agents.start("cbe-01", timeout=PATIENCE)
        listener = agents.start("executor-listener", timeout=PATIENCE)
        agents.start("config-listener", timeout=PATIENCE)

        def of_node(key: str) -> Any:
            return (node.run.status().session.get("data") or {}).get(key) or {}

        path = tmp_path / "c.xml"
        path.write_text(write_configuration(Configuration("c")))
        wait_until((tmp_path / "pipe").exists, PATIENCE, what="the pipe is there")
        descriptor = os.open(tmp_path / "pipe", os.O_WRONLY)
        os.write(descriptor, f"{path}\n".encode())
        os.close(descriptor)
        wait_until(lambda: of_node("configurations"), PATIENCE, what="the configuration is there")
        ((name, made),) = of_node("configurations").items()
        assert re.fullmatch(r"\d\d_\d\d_\d\d", name) and made["autodestroy"] is True
        wait_until(lambda: ["activate", name] in of_node("pending"), PATIENCE, what="it is to be activated")

        wait_until(
            lambda: listener.listen.status().session["data"].get("listening"), PATIENCE, what="groups are joined"
        )
        start = time.time()
        executor.send(document(1, start), GROUP, PORT)
        wait_until(lambda: of_node("recordings"), PATIENCE, what="the node records")
        ((uid, recording),) = of_node("recordings").items()
        assert recording["start_ns"] / 1e9 == pytest.approx(start, abs=0.001) and recording["stop_ns"] == 0

        agents.children["executor-listener"].kill()
        listener = agents.start("executor-listener", timeout=PATIENCE)
        wait_until(
            lambda: listener.listen.status().session["data"].get("listening"), PATIENCE, what="groups are joined"
        )
        assert listener.listen.status().session["data"]["datasets"][DATASET]["uid"] == uid
        stop = time.time() + 0.5
        executor.send(document(2, stop), GROUP, PORT)
        wait_until(lambda: len(of_node("recordings")) == 2, PATIENCE, what="the second scan")
        wait_until(lambda: of_node("recordings")[uid]["stop_ns"], PATIENCE, what="the end of the first")
        assert of_node("recordings")[uid]["stop_ns"] / 1e9 == pytest.approx(stop, abs=0.001)
    finally:
        executor.socket.close()
