"""The ``socs-bl`` command: exit statuses, help, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from socs_bl.cli.main import COMMANDS, main, make_parser
from socs_bl.cli.status import EXIT_NOT_RUNNING, _word, started
from socs_bl.cli.up import interruptible


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each subcommand explains itself and its options."""
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: socs-bl {command}" in capsys.readouterr().out


def test_nothing_running_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status says so with an exit status of its own; down finds nothing to do and is content."""
    assert main(["status", "--run-dir", str(tmp_path)]) == EXIT_NOT_RUNNING
    assert "nothing runs" in capsys.readouterr().out
    assert main(["status", "--json", "--run-dir", str(tmp_path)]) == EXIT_NOT_RUNNING
    assert capsys.readouterr().out.strip() == "null"
    assert main(["down", "--run-dir", str(tmp_path)]) == 0


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_wrong_file_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], detach: list[str]) -> None:
    """No traceback reaches people; the text names the file."""
    path = tmp_path / "[bold]absent.yaml"
    assert main(["up", *detach, "--run-dir", str(tmp_path / "run"), "--site-config", str(path)]) == 1
    error = "".join(capsys.readouterr().err.split())
    assert "[bold]absent.yaml:cannotberead" in error
    assert "Traceback" not in error


def test_doctor_is_sick_when_a_check_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status tells scripts what the lines tell people."""
    assert main(["doctor", "--run-dir", str(tmp_path), "--site-config", str(tmp_path / "absent.yaml")]) == 1
    assert "bad  site config" in capsys.readouterr().out


def test_only_the_first_signal_interrupts() -> None:
    """SIGTERM acts like Ctrl-C; whatever comes while stopping does not interrupt the stopping; then all is as before."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(
    ("session", "word"),
    [
        ({"status": "done", "success": True}, "done"),
        ({"status": "done", "success": False}, "failed"),
        ({"status": "running", "degraded": True}, "degraded"),
        ({"status": "starting"}, "starting"),
    ],
)
def test_one_word_for_an_operation(session: dict[str, object], word: str) -> None:
    """What an operator must not overlook has a word of its own; what was never started has none."""
    assert _word(session) == word
    assert started(session)
    assert not started({"status": "no_history"})
    assert not started({})


def test_a_demo_that_cannot_run_leaves_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when nothing could be started, the summary says that it is not well, and why."""
    argv = ["demo", "--run-dir", str(tmp_path / "run"), "--summary", str(tmp_path / "summary.json")]
    assert main([*argv, "--site-config", str(tmp_path / "none.yaml")]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ok"] is False and "none.yaml" in summary["error"]
    assert "none.yaml" in capsys.readouterr().err
