"""The WAMP router: an embedded crossbar node for one machine, or a site's own by URL.

Roles: `iocs_agent` (agents, on ``/ws``), `iocs_controller` (operators over HTTP, on ``/call``) and `viewer` (on
``/view``), who may subscribe to everything and call nothing but what ends in ``.view``.
"""

from __future__ import annotations

import json
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services.process import Child, free_port

REALM = "test_realm"  # what OCS's own examples use
ADDRESS_ROOT = "observatory"
MAX_MESSAGE_SIZE = 4 * 1024 * 1024  # bytes; a session is below 100 kB, a feed block far below this
PING_INTERVAL = 10_000  # milliseconds, as all times in a websocket's options
PING_TIMEOUT = 5_000
PING_SIZE = 12  # bytes; crossbar takes 12 to 125
START_TIMEOUT = 180.0  # seconds; it imports for ten on one free core, and starts two processes
PORT_TRIES = 3


def _permission(uri: str, match: str, *allowed: str) -> dict[str, object]:
    actions = ("call", "register", "publish", "subscribe")
    return {
        "uri": uri,
        "match": match,
        "allow": {action: action in allowed for action in actions},
        "disclose": {"caller": False, "publisher": False},
        "cache": True,
    }


def _websocket(role: str) -> dict[str, object]:
    return {
        "type": "websocket",
        "auth": {"anonymous": {"type": "static", "role": role}},
        "options": {
            "auto_ping_interval": PING_INTERVAL,
            "auto_ping_timeout": PING_TIMEOUT,
            "auto_ping_size": PING_SIZE,
            "max_message_size": MAX_MESSAGE_SIZE,
            "max_frame_size": MAX_MESSAGE_SIZE,
        },
    }


def configuration(
    port: int, realm: str = REALM, address_root: str = ADDRESS_ROOT, interface: str = "127.0.0.1"
) -> dict[str, object]:
    """The node's configuration (crossbar configuration version 2).

    Parameters
    ----------
    port : int
    realm, address_root : str
        As in the hub section of the site config.
    interface : str
        Address to listen on. Loopback unless a site decides otherwise: anonymous clients are let in.
    """
    root = f"{address_root}."
    roles = [
        {
            "name": "iocs_agent",
            "permissions": [_permission(root, "prefix", "call", "register", "publish", "subscribe")],
        },
        {"name": "iocs_controller", "permissions": [_permission(root, "prefix", "call", "publish", "subscribe")]},
        {
            "name": "viewer",
            "permissions": [
                _permission(root, "prefix", "subscribe"),
                _permission(f"{address_root}..view", "wildcard", "call", "subscribe"),
            ],
        },
    ]
    transport = {
        "type": "web",
        "endpoint": {"type": "tcp", "port": port, "interface": interface},
        "paths": {
            "ws": _websocket("iocs_agent"),
            "view": _websocket("viewer"),
            "call": {"type": "caller", "realm": realm, "role": "iocs_controller", "options": {}},
            "info": {"type": "nodeinfo"},
        },
    }
    worker = {"type": "router", "realms": [{"name": realm, "roles": roles}], "transports": [transport]}
    return {"version": 2, "controller": {}, "workers": [worker]}


def executable() -> Path:
    """The crossbar program beside this Python, else the one in PATH.

    Raises
    ------
    Refused
        When there is neither.
    """
    beside = Path(sys.executable).parent / "crossbar"
    found = str(beside) if beside.is_file() else shutil.which("crossbar")
    if found is None:
        raise Refused(
            "no crossbar on this machine: install the extra with pip install 'socs_bl[observatory]', "
            "or give the URL of a running router"
        )
    return Path(found)


def check_router(http_url: str, timeout: float = 2.0) -> None:
    """Ask a router of ours for its ``/info`` page.

    Parameters
    ----------
    http_url : str
        Address of the node (``http://127.0.0.1:8001``) or of its caller (``.../call``).

    Raises
    ------
    Retry
        When nothing answers.
    Refused
        When the URL is not one of HTTP.
    """
    if not http_url.startswith(("http://", "https://")):
        raise Refused(f"router address {http_url!r} is not an HTTP URL; write it like http://127.0.0.1:8001/call")
    info = http_url.rstrip("/").removesuffix("/call") + "/info"
    try:
        with urllib.request.urlopen(info, timeout=timeout) as reply:
            reply.read()
    except urllib.error.HTTPError as error:
        raise Retry(f"something answers at {info}, but with {error.code}; is it the router?") from error
    except OSError as error:
        raise Retry(
            f"no router answers at {info} ({error}); start it or correct wamp_http in the site config"
        ) from error


class CrossbarNode:
    """An embedded crossbar node that dies with its parent.

    Parameters
    ----------
    directory : Path
        Configuration, keys and log; made when missing.
    port : int, optional
        A free one is taken when left out.
    realm, address_root : str
        As in the hub section of the site config.
    """

    def __init__(
        self, directory: Path, port: int | None = None, realm: str = REALM, address_root: str = ADDRESS_ROOT
    ) -> None:
        self.directory = directory
        self.realm = realm
        self.address_root = address_root
        self._wanted_port = port
        self.port = port or 0
        self.child: Child | None = None

    @property
    def http_url(self) -> str:
        """The caller for operators."""
        return f"http://127.0.0.1:{self.port}/call"

    @property
    def ws_url(self) -> str:
        """The websocket for agents."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def view_url(self) -> str:
        """The websocket for viewers."""
        return f"ws://127.0.0.1:{self.port}/view"

    @property
    def hub(self) -> dict[str, str]:
        """The hub section of a site config for this node."""
        return {
            "wamp_server": self.ws_url,
            "wamp_http": self.http_url,
            "wamp_realm": self.realm,
            "address_root": self.address_root,
        }

    def launch(self) -> None:
        """Start the node and return at once; `wait_ready` does the rest. After its end, it keeps its port.

        Raises
        ------
        Refused
            When there is no crossbar.
        """
        program = executable()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self._wanted_port or free_port()
        text = json.dumps(configuration(self.port, self.realm, self.address_root), indent=1)
        (self.directory / "config.json").write_text(text, encoding="utf-8")
        # Left by a node that was killed; crossbar would take its pid for a running node if somebody else has it now.
        (self.directory / "node.pid").unlink(missing_ok=True)
        argv = [str(program), "start", "--cbdir", str(self.directory.resolve()), "--loglevel", "warn"]
        self.child = Child("crossbar", argv, self.directory / "crossbar.log", env={"PYTHONWARNINGS": "ignore"})

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until ``/info`` answers.

        Raises
        ------
        Faulty
            When it does not; the node is ended then.
        """
        if self.child is None:
            raise Faulty("crossbar was not launched; call launch first", "crossbar")
        try:
            self.child.wait_ready(self.answers, timeout)
        except BaseException:  # an interrupted wait, too, leaves no router behind
            self.child.kill()
            raise
        self._wanted_port = self.port

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Launch, unless that was done before, and wait; another port is tried when ours was taken in between.

        Raises
        ------
        Faulty
            When it does not come up.
        Refused
            When there is no crossbar.
        """
        for remaining in reversed(range(1 if self._wanted_port else PORT_TRIES)):
            if self.child is None or not self.child.running():
                self.launch()
            try:
                self.wait_ready(timeout)
            except Faulty as error:
                if not remaining or "already in use" not in str(error):
                    raise
            else:
                return

    def answers(self) -> bool:
        """True when the node serves its ``/info`` page."""
        try:
            check_router(self.http_url)
        except Retry:
            return False
        return True

    def stop(self) -> None:
        """End the node in order."""
        if self.child is not None:
            self.child.stop(grace=10.0)

    def kill(self) -> None:
        """SIGKILL to controller and worker, as a crash would."""
        if self.child is not None:
            self.child.kill()
