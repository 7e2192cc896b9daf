"""The documentation builds as ``make docs`` builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.live import REPOSITORY


@pytest.mark.timeout(280)
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    """A broken reference, a page that no index names or an example that is refused ends the build."""
    options = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    argv = [sys.executable, "-m", "sphinx", *options, str(REPOSITORY / "docs"), str(tmp_path / "html")]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "agents" / "coordinator.html").is_file()
