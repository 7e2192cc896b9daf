"""The table of faults names tests that there are."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.harness.examples import DOCS
from tests.harness.live import REPOSITORY

NAMED = re.compile(r"``(tests/[\w/]+\.py)::([\w:]+)``")
PAGE = (DOCS / "faults.rst").read_text(encoding="utf-8")


def test_every_fault_has_its_row() -> None:
    """W1 to W21 and D1 to D31, in order, each with at least one test."""
    rows = re.split(r"\n    \* - ", PAGE)[1:]
    wanted = [f"W{number}" for number in range(1, 22)] + [f"D{number}" for number in range(1, 32)]
    named = {row.split("\n")[0]: NAMED.findall(row) for row in rows if row.split("\n")[0] in wanted}
    assert list(named) == wanted
    assert [number for number, tests in named.items() if not tests] == []


def test_every_named_test_is_collected(request: pytest.FixtureRequest) -> None:
    """A test that was renamed or dropped does not stay in the table."""
    named = {f"{path}::{name}" for path, name in NAMED.findall(PAGE)}
    collected = {item.nodeid.partition("[")[0] for item in request.session.items}
    files = {name.partition("::")[0] for name in named - collected}
    if files:  # a run of this file alone
        argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *sorted(files)]
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
        collected |= {line.partition("[")[0] for line in done.stdout.splitlines()}
    assert sorted(named - collected) == []
