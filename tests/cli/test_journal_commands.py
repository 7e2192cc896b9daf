"""``socs-bl journal``, ``explain`` and ``replay``: on a coordinator's night, in a file and on a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from socs_bl.cli import replay
from socs_bl.cli.main import main
from socs_bl.cli.replay import follow
from socs_bl.core.clock import iso_utc
from socs_bl.core.journal import Commit, Journal
from socs_bl.core.memory_journal import MemoryJournal
from socs_bl.services.journals import open_journal
from socs_bl.services.redis_url import VARIABLE
from tests.commensal.bench import Bench

NAME = "socs_bl:commensal"
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def night() -> MemoryJournal:
    """A cycle in which one of two instances fails its search."""
    bench = Bench()
    bench.subscribe()
    bench.process()
    bench.result("blpn64/0")
    bench.result("blpn64/1", code=137)
    return MemoryJournal(bench.vault)


def fill(url: str, night: MemoryJournal) -> None:
    """Put the night where the commands look for it."""
    journal = open_journal(url, NAME)
    journal.refill(night.base(), night.load(), night.read())
    journal.close()


@pytest.fixture
def url(tmp_path: Path, night: MemoryJournal) -> str:
    """The night in a file."""
    url = f"sqlite://{tmp_path}/night.db"
    fill(url, night)
    return url


def test_backup_restore_and_verify(url: str, tmp_path: Path, capsys: Output) -> None:
    """A backup restores into an empty place, not over something unless told so, and both verify."""
    backup, other = str(tmp_path / "x.backup"), f"sqlite://{tmp_path}/other.db"
    assert main(["journal", "--url", url, "backup", "commensal", backup]) == 0
    assert main(["journal", "verify", "commensal", backup]) == 0
    assert main(["journal", "restore", "--url", other, "commensal", backup]) == 0
    assert main(["journal", "restore", "--url", other, "commensal", backup]) == 1
    assert main(["journal", "restore", "--url", other, "commensal", backup, "--replace"]) == 0
    assert main(["journal", "verify", "--url", other, "commensal"]) == 0
    said = capsys.readouterr()
    assert "fenced off: restart it" in said.out and "replay to the stored state" in said.out
    assert "--replace" in said.err and "Traceback" not in said.err
    data = bytearray(Path(backup).read_bytes())
    data[len(data) // 2] ^= 1
    Path(backup).write_bytes(data)
    assert main(["journal", "restore", "--url", other, "commensal", backup, "--replace"]) == 1
    assert "at byte" in capsys.readouterr().err
    assert main(["journal", "verify", "--url", other, "commensal"]) == 0


def test_a_state_that_does_not_follow_is_found(url: str, capsys: Output) -> None:
    """Verify fails when the stored state is not what the entries give, and names the part."""
    journal = open_journal(url, NAME)
    state = journal.load()
    fields = {**state.fields, "cell:instance/blpn65/0": state.fields["cell:instance/blpn64/1"]}
    epoch = journal.claim("test").epoch
    assert epoch == state.epoch + 1
    journal.refill(journal.base(), type(state)(epoch, state.sequence, fields), list(journal.read()))
    journal.close()
    assert main(["journal", "verify", "--url", url, "commensal"]) == 1
    assert "cell instance/blpn65/0 differs" in " ".join(capsys.readouterr().err.split())


def test_archive_and_list(url: str, tmp_path: Path, capsys: Output, night: MemoryJournal) -> None:
    """Archived entries are in a file that replays by itself; the list says where the journal begins now."""
    directory = tmp_path / "archive"
    assert main(["journal", "archive", "--url", url, "commensal", str(directory)]) == 0
    (path,) = directory.iterdir()
    assert main(["journal", "archive", "--url", url, "commensal", str(directory), "--megabytes", "1e-6"]) == 0
    said = capsys.readouterr().out
    assert "nothing to archive" in said and "removed: more than 1e-06 MB" in said and not path.exists()
    assert main(["journal", "list", "--url", url]) == 0
    last = night.load().sequence
    assert [NAME, str(last), str(last + 1)] == capsys.readouterr().out.splitlines()[1].split()[:3]


def test_replay_shows_each_event(url: str, tmp_path: Path, capsys: Output, night: MemoryJournal) -> None:
    """A line an event with what it changed; until an entry or a time; from an archive; exit status 0 when faithful."""
    last = night.load().sequence
    assert main(["replay", "--url", url]) == 0
    text = capsys.readouterr().out
    assert "instance/blpn64/1: processing -> quarantined: code 137" in text
    assert text.splitlines()[-1] == f"{last} entries, all answered as recorded"
    assert main(["replay", "--url", url, "--until", "5", "--from", "4"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:8].strip()] == ["4", "5", "5"]
    when = iso_utc(1_800_000_003.5)
    assert main(["replay", "--url", url, "--until", when]) == 0
    shown = capsys.readouterr().out
    assert "conf_complete was said" in shown and "read (subscribe)" not in shown
    assert main(["replay", "--url", url, "--until", "soon"]) == 1
    directory = tmp_path / "archive"
    assert main(["journal", "archive", "--url", url, "commensal", str(directory)]) == 0
    capsys.readouterr()
    assert main(["replay", "--archive", str(next(directory.iterdir()))]) == 0
    assert f"{last} entries" in capsys.readouterr().out


def test_replay_tells_what_today_would_be_different(tmp_path: Path, capsys: Output, night: MemoryJournal) -> None:
    """An entry that the software answers differently is marked, and the exit status says so."""
    url = f"sqlite://{tmp_path}/x.db"
    journal = open_journal(url, NAME)
    entries = [(number, data.replace(b":magic_wand:", b":wand:")) for number, data in night.read()]
    journal.refill(night.base(), night.load(), entries)
    journal.close()
    assert main(["replay", "--url", url]) == 1
    text = capsys.readouterr().out
    assert "(answered differently today)" in text and "1 of which today's software answers differently" in text


def test_following_goes_on_with_new_entries(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed later is read later, each entry once."""
    monkeypatch.setattr(replay, "FOLLOW_INTERVAL", 0.01)
    journal: Journal = open_journal(url, NAME)
    stored = journal.claim("test")
    entries = follow(journal, stored.sequence - 1)
    assert next(entries)[0] == stored.sequence
    journal.commit(Commit(stored.epoch, stored.sequence + 1, (b"new",), {}))
    assert next(entries) == (stored.sequence + 1, b"new")
    journal.close()


def test_explain_tells_people_and_programs(url: str, capsys: Output) -> None:
    """The story as text and as JSON; an unknown name and a missing observatory are sentences."""
    assert main(["explain", "--url", url, "blpn64/1", "--last", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("blpn64/1: is quarantined: code 137") and text.count("\nentry ") == 1
    assert main(["explain", "--url", url, "array_1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"] == "array_1"
    assert main(["explain", "--url", url, "blpn99/0"]) == 1
    assert "not in the pool" in capsys.readouterr().err
    assert main(["explain", "--url", url, "--journal", "node:cbe-01", "c0"]) == 1
    assert "journal node:cbe-01 is empty" in capsys.readouterr().err, "and not that c0 is nothing"


def test_where_the_journals_are(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Command line, file, observatory or environment; without any it is said what to give."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["explain", "--run-dir", str(tmp_path), "array_1"]) == 1
    assert "no observatory runs in" in capsys.readouterr().err
    secret = tmp_path / "url"
    secret.write_text(url)
    secret.chmod(0o600)
    assert main(["explain", "--url-file", str(secret), "array_1"]) == 0
    monkeypatch.setenv(VARIABLE, url)
    assert main(["explain", "--run-dir", str(tmp_path), "array_1"]) == 0
    assert main(["journal", "list", "--url", f"sqlite://{tmp_path}/absent.db"]) == 1
    assert main(["journal", "verify", "--url", url, "toaster"]) == 1
    assert "not a journal of ours" in capsys.readouterr().err


@pytest.mark.live
def test_on_a_server(fresh_redis: str, night: MemoryJournal, tmp_path: Path, capsys: Output) -> None:
    """The same on Redis."""
    fill(fresh_redis, night)
    assert main(["journal", "list", "--url", fresh_redis]) == 0
    assert NAME in capsys.readouterr().out
    assert main(["journal", "verify", "--url", fresh_redis, "commensal"]) == 0
    assert main(["journal", "archive", "--url", fresh_redis, "commensal", str(tmp_path)]) == 0
    assert main(["journal", "verify", "--url", fresh_redis, "commensal"]) == 0
    assert main(["explain", "--url", fresh_redis, "blpn64/1"]) == 0
    assert "look into the archives" in capsys.readouterr().out
