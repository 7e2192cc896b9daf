"""A thread with a connection to Redis of its own, opened again with growing pauses whenever it breaks."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import redis

from socs_bl.core.errors import Retry
from socs_bl.services.redis_server import connect

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 5.0


class Link:
    """Keeps calling a function with a fresh connection until it is stopped.

    Parameters
    ----------
    url : str
    name : str
        Of the thread.
    run : callable
        Called in the thread with a client; works until `stopping` is set. When it raises an error of Redis, `OSError` or
        `Retry` the connection is taken for broken.
    broken : callable, optional
        Told the error, in the thread.
    stopping : threading.Event, optional
        Of several links that stop together.
    """

    def __init__(
        self,
        url: str,
        name: str,
        run: Callable[[redis.Redis], None],
        broken: Callable[[Exception], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.stopping = stopping or threading.Event()
        self._url = url
        self._run = run
        self._broken = broken or (lambda error: None)
        self._pause = FIRST_PAUSE
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop and wait for the thread; True when it ended within `timeout` seconds."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def healthy(self) -> None:
        """Called by what runs in it when the server has answered: the next pause is a short one again."""
        self._pause = FIRST_PAUSE

    def _keep(self) -> None:
        while not self.stopping.is_set():
            client = connect(self._url)
            try:
                self._run(client)
            except (redis.RedisError, OSError, Retry) as error:
                self._broken(error)
                # Spread, so that all who lost the same server do not come back in the same moment.
                self.stopping.wait(self._pause * random.uniform(0.5, 1.0))
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            finally:
                client.close()
