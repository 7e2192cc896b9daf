"""The leak check sees what a test leaves behind."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from tests.harness.leaks import Snapshot


def test_each_kind_is_seen_named_and_forgiven(tmp_path: Path) -> None:
    """A child, a thread, a descriptor and a delayed call are named while they are there, and not after they are gone."""
    from twisted.internet import reactor

    before = Snapshot()
    assert before.leaks() == []
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="straggler")
    thread.start()
    call = reactor.callLater(3600, print)  # type: ignore[attr-defined]
    with subprocess.Popen(["sleep", "600"]) as child, (tmp_path / "file").open("w"):
        leaks = "\n".join(before.wait_clean(grace=0.0))
        for text in ("thread straggler", "delayed call", f"process {child.pid}: sleep 600", str(tmp_path / "file")):
            assert text in leaks
        assert "delayed call" not in "\n".join(before.leaks(frozenset({"calls"})))
        child.kill()
    done.set()
    thread.join()
    call.cancel()
    assert before.wait_clean() == []


def test_a_replaced_descriptor_is_a_leak(tmp_path: Path) -> None:
    """The same number for another file does not hide that the first was closed and a new one left open."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    before = Snapshot()
    os.close(descriptor)
    again = os.open("/dev/null", os.O_RDONLY)
    assert again == descriptor
    assert before.leaks() == [f"descriptor {again}: /dev/null"]
    os.close(again)
