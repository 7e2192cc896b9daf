"""Where an agent's journal is: on the server of its Redis, or in a file where the machine allows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from socs_bl.agents.coordinator.agent import add_agent_args as coordinator_args
from socs_bl.agents.instance_recorder.agent import InstanceRecorder, add_agent_args
from socs_bl.core.errors import Refused
from socs_bl.services.sqlite_journal import SqliteJournal
from tests.harness.agent_case import arguments, begun, make_site_agent, until

pytestmark = pytest.mark.live
NAME = "socs_bl:recorder:blpn64/0"


@pytest_twisted.ensureDeferred
async def test_a_recorder_keeps_its_journal_in_a_file(fresh_redis: str, tmp_path: Path) -> None:
    """Its events are in the file that ``--journal`` names, the archive is kept as told, and a restart goes on there."""
    path = tmp_path / "journals.db"
    argv = [
        "--instance",
        "blpn64/0",
        "--redis-url",
        fresh_redis,
        "--root",
        str(tmp_path),
        "--block-bytes",
        str(1 << 20),
    ]
    argv += ["--journal", f"sqlite://{path}", "--journal-archive", str(tmp_path / "archive"), "--journal-keep", "2"]
    for epoch in (1, 2):
        site_agent = make_site_agent("InstanceRecorder")
        agent = InstanceRecorder(site_agent, arguments(add_agent_args(), *argv))
        try:
            await begun(agent, "record")
            await until(lambda agent=agent: agent.runner is not None and agent.runner.machine.sequence > 0, "it runs")  # type: ignore[misc]
            journal = SqliteJournal(path, NAME)
            await until(lambda journal=journal, epoch=epoch: journal.load().epoch == epoch, "claimed")  # type: ignore[misc]
            assert journal.load().sequence >= epoch
            journal.close()
            story = await agent.story_of("no such cell")
            assert story.sequence >= epoch and story.standing == ("is not in the present state",)
        finally:
            await site_agent.end()
            agent.close()


def test_retention_is_checked_where_it_is_given(tmp_path: Path) -> None:
    """What makes no sense is refused with the name of the option."""
    argv = ["--instance", "blpn64/0", "--journal-archive", str(tmp_path), "--archive-days", "-1"]
    agent = InstanceRecorder(make_site_agent("InstanceRecorder"), arguments(add_agent_args(), *argv))
    with pytest.raises(Refused, match="--journal-archive: days"):
        agent._recorder(None, agent.open_journal(NAME))  # type: ignore[arg-type]
    agent.close()


def test_a_coordinators_journal_stays_where_its_keys_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Redis commands ride in its commits, so it cannot be given a file."""
    with pytest.raises(SystemExit):
        coordinator_args().parse_args(["--config", "x", "--journal", "sqlite:///x.db"])
    assert "--journal" in capsys.readouterr().err
