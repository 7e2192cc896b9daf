"""Where the URL of Redis comes from, and that its secrets are not shown."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from socs_bl.services.redis_url import DEFAULT, VARIABLE, add_redis_arguments, conceal, redact, reveal

SECRET = "rediss://me:s3cret@h:1/0?ssl_password=k3y&ssl_ca_certs=/ca.pem"


def parsed(*words: str) -> str:
    """What a command line makes of it."""
    parser = argparse.ArgumentParser()
    add_redis_arguments(parser, "Redis")
    return str(parser.parse_args(words).redis_url)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SECRET, "rediss://me:***@h:1/0?ssl_password=***&ssl_ca_certs=/ca.pem"),
        ("at redis://:x@h/0, and redis://u:p@ss@h/0", "at redis://:***@h/0, and redis://u:***@h/0"),
        ("redis://h:1/0?password=x&db=2", "redis://h:1/0?password=***&db=2"),
        (DEFAULT, DEFAULT),
        ("", ""),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    """Every password in a text is replaced; what is not secret stays readable."""
    assert redact(text) == shown


def test_the_environment_serves_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command line before environment before the server of this host; the help shows the variable's name only."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert parsed() == DEFAULT
    monkeypatch.setenv(VARIABLE, SECRET)
    assert parsed() == SECRET
    assert parsed("--redis-url", "redis://other:1/0") == "redis://other:1/0"
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_redis_arguments(parser, "Redis")
    assert "s3cret" not in parser.format_help() and VARIABLE in parser.format_help()


def test_a_file_keeps_the_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that only its users can read gives the URL; an open, empty or absent one is refused with a sentence."""
    path = tmp_path / "redis.url"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    assert parsed("--redis-url-file", str(path)) == SECRET
    path.chmod(0o644)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    for name, word in ((path, "chmod 640"), (empty, "not a URL"), (tmp_path / "absent", "cannot be read")):
        with pytest.raises(SystemExit):
            parsed("--redis-url-file", str(name))
        error = capsys.readouterr().err
        assert word in error and "s3cret" not in error
    with pytest.raises(SystemExit):
        parsed("--redis-url", DEFAULT, "--redis-url-file", str(path))


def test_what_is_stored_holds_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run directory's state has the environment's URL without its password, and it is found again."""
    monkeypatch.setenv(VARIABLE, SECRET)
    assert "s3cret" not in conceal(SECRET) and reveal(conceal(SECRET)) == SECRET
    assert conceal(DEFAULT) == reveal(DEFAULT) == DEFAULT
