"""A real browser: Chromium without a screen, one page at a time.

A page says what it has seen by a POST to an address of ours, so that nobody guesses how long its network takes: the
browser's virtual time runs out while a busy router still answers.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlencode

from tests.harness.programs import need_program

TIMEOUT = 120.0
LARGEST_REPORT = 1 << 20  # bytes
# Without these it looks up and connects to hosts of its maker at every start.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class _Ear(HTTPServer):
    """Takes what a page posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.heard: queue.Queue[str] = queue.Queue()


class _Post(BaseHTTPRequestHandler):
    server: _Ear

    def do_POST(self) -> None:
        """Take one report."""
        length = min(int(self.headers.get("Content-Length", 0)), LARGEST_REPORT)
        text = self.rfile.read(length).decode()
        self.send_response(204)
        self.end_headers()
        self.server.heard.put(text)

    def log_message(self, *_: object) -> None:
        """Requests are not worth a line."""


def report(page: Path, wishes: dict[str, str], profile: Path) -> str:
    """Open a page and return what it posts.

    Parameters
    ----------
    page : Path
        A local HTML file. Its address carries `wishes` after ``#``, and under ``report`` where to post.
    wishes : dict of str to str
    profile : Path
        An empty directory for the browser's own files.

    Raises
    ------
    AssertionError
        When nothing is posted within two minutes; with what the browser printed.
    """
    program = need_program("chromium", "chromium-browser")
    ear = _Ear()
    listener = threading.Thread(target=ear.serve_forever, args=(0.05,))
    listener.start()
    address = f"{page.as_uri()}#{urlencode({**wishes, 'report': f'http://127.0.0.1:{ear.server_port}/'})}"
    printed = profile.with_suffix(".log")
    with printed.open("wb") as log:
        argv = [program, *QUIET, f"--user-data-dir={profile}", address]
        browser = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        return ear.heard.get(timeout=TIMEOUT)
    except queue.Empty:
        raise AssertionError(f"{page.name} reported nothing:\n{printed.read_text()[-4000:]}") from None
    finally:
        os.killpg(browser.pid, signal.SIGKILL)  # the group is of our making
        browser.wait()
        ear.shutdown()
        ear.server_close()
        listener.join()
