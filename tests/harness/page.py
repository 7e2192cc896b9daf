"""A real browser: Chromium without a screen, one page at a time."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness.programs import need_program

TIMEOUT = 60.0
# Without these it looks up and connects to hosts of its maker at every start.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def dom(url: str, profile: Path, patience_ms: int = 10_000) -> str:
    """The document of a page as the browser has it when its scripts have come to rest.

    Parameters
    ----------
    url : str
    profile : Path
        An empty directory for the browser's own files.
    patience_ms : int
        Virtual time scripts are given; waiting for the network does not count.
    """
    program = need_program("chromium", "chromium-browser")
    argv = [program, *QUIET, f"--user-data-dir={profile}", f"--virtual-time-budget={patience_ms}", "--dump-dom", url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
