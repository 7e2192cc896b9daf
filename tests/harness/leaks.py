"""What a test may leave behind: nothing."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from socs_bl.services.process import Identity, children, command_line

GRACE = 3.0  # seconds for threads that are ending, sockets that wait for the garbage collector
INTERVAL = 0.02
# The reactor's thread pool lives as long as the reactor.
POOL_THREADS = "PoolThread-twisted.internet.reactor"


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own descriptor
    return found


def _delayed_calls() -> list[Any]:
    reactor = sys.modules.get("twisted.internet.reactor")
    return list(reactor.getDelayedCalls()) if reactor else []


@dataclass
class Snapshot:
    """What this process holds: children, threads, file descriptors, Twisted's delayed calls."""

    children: set[Identity] = field(default_factory=lambda: set(children(os.getpid())))
    threads: set[threading.Thread] = field(default_factory=lambda: set(threading.enumerate()))
    descriptors: dict[int, str] = field(default_factory=_descriptors)
    calls: list[Any] = field(default_factory=_delayed_calls)

    def leaks(self, allow: frozenset[str] = frozenset()) -> list[str]:
        """What is here now and was not then, in words; kinds named in `allow` are left out."""
        now = Snapshot()
        kept = [call for call in now.calls if not any(call is known for known in self.calls)]
        found = {
            "processes": [f"process {c.pid}: {' '.join(command_line(c.pid))}" for c in now.children - self.children],
            "threads": [
                f"thread {t.name}"
                for t in now.threads - self.threads
                if t.is_alive() and not t.name.startswith(POOL_THREADS)
            ],
            "descriptors": [
                f"descriptor {fd}: {target}"
                for fd, target in now.descriptors.items()
                if self.descriptors.get(fd) != target
            ],
            "calls": [f"delayed call {call}" for call in kept],
        }
        return [text for kind, texts in found.items() if kind not in allow for text in texts]

    def wait_clean(self, allow: frozenset[str] = frozenset(), grace: float = GRACE) -> list[str]:
        """Give what is ending the time to end; returns what is left after `grace` seconds."""
        deadline = time.monotonic() + grace
        while leaks := self.leaks(allow):
            gc.collect()
            if time.monotonic() > deadline:
                return self.leaks(allow)
            time.sleep(INTERVAL)
        return leaks
