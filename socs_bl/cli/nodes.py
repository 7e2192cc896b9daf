"""The back end's instances over WAMP, for pipelinefs: look, run tasks, start agents."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ocs
from ocs import site_config
from ocs.client_http import ControlClientError

from socs_bl.client import MatchedClient, NoAnswer
from socs_bl.client.command import why_failed
from socs_bl.client.follower import run_of
from socs_bl.client.matched import read_hub
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.pipelinefs import Address
from socs_bl.correlator.pipelinefs.nodes import INSTANCE_PREFIX, Ended, Session

PROCESS = "run"  # the operation of cbe_pipeline whose session data is read
AGENT = "socs_bl.agents.cbe_pipeline.agent"
SPAWN = "{python} {arguments}"
LOCAL = ("localhost", "127.0.0.1", "::1")
INLINE_LIMIT = 1 << 20  # bytes: routers limit messages, often to 4 MB; longer documents go by file
BUSY_INTERVAL = 0.2
LOG_TAIL = 2000  # bytes
_SAFE = re.compile(r"[A-Za-z0-9_./:@%+=,\[\]-]*")


class WampNodes:
    """Agents of class CBEPipeline, reached through the site's router; see `socs_bl.correlator.pipelinefs.Nodes`.

    Parameters
    ----------
    site : argparse.Namespace
        OCS's site options.
    state : Path
        Directory for logs of agents that are started here, and long documents.
    spawn : str
        How an agent is started: words with {host}, {port}, {name}, {python} and {arguments} (what follows the
        interpreter) in them; no shell sees them.
    privs : int
        OCS's access level; its password is looked up as OCS's clients do.
    """

    def __init__(self, site: argparse.Namespace, state: Path, spawn: str = SPAWN, privs: int = 1) -> None:
        self._hub = read_hub(site)
        self._site = argparse.Namespace(**{**vars(site), "site": None, "site_file": _site_file(site)})
        self._state = state
        self._spawn = spawn
        self._privs = privs
        self._clients: dict[str, MatchedClient] = {}
        check_spawn(spawn)

    def session(self, name: str) -> Session:
        """See `Nodes.session`."""
        client = self._client(name)
        try:
            session = client.request("status", PROCESS).session
            data: dict[str, Any] = dict(session.get("data") or {})
            if session.get("status") != "running" or "name" not in data:
                raise Retry(f"agent {client.instance_id} does not run yet: its operation {PROCESS} has said nothing")
            for key, value in data.items():
                if isinstance(value, Mapping) and value.get("truncated") is True:
                    data[key] = client.page_through(PROCESS, key)
        except NoAnswer:
            raise
        except ControlClientError as error:
            raise Faulty(str(error), name) from error
        return data

    def run(self, name: str, task: str, parameters: Mapping[str, object], timeout: float) -> Session:
        """See `Nodes.run`."""
        document = parameters.get("document")
        if not isinstance(document, str) or len(document) <= INLINE_LIMIT:
            return self._run(name, task, parameters, timeout)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=self._state, suffix=".xml") as file:
            file.write(document)
            file.flush()
            Path(file.name).chmod(0o644)
            return self._run(name, task, {**parameters, "document": "", "path": file.name}, timeout)

    def start(self, name: str, address: Address) -> Ended:
        """See `Nodes.start`. The agent is no child to be ended with us: it outlives the mount."""
        if self._spawn == SPAWN and address.host not in (*LOCAL, socket.gethostname(), socket.getfqdn()):
            raise Refused(
                f"{address.host} is not this machine; say how agents are started there, such as "
                f"--spawn 'ssh {{host}} python3 {{arguments}}', or start {INSTANCE_PREFIX}{name} there and write again"
            )
        argv = spawn_command(self._spawn, name, address, self._arguments(name))
        log = self._state / f"{INSTANCE_PREFIX}{name}.log"
        # Threads of libfuse block the signals that end a process, and what they start would inherit that.
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, [])
        try:
            with log.open("ab") as output:
                begin = output.tell()
                process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            raise Faulty(f"{INSTANCE_PREFIX}{name} cannot be started with {shlex.join(argv)}: {error}", name) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        # Somebody has to reap it when it ends, long after it was started.
        threading.Thread(target=process.wait, name=f"reap-{name}", daemon=True).start()

        def ended() -> str:
            if process.poll() is None:
                return ""
            with log.open("rb") as said:
                said.seek(max(begin, log.stat().st_size - LOG_TAIL))
                tail = said.read().decode("utf-8", "replace").strip()
            return f"exit status {process.returncode}; its log {log} ends: {tail}"

        return ended

    def _client(self, name: str) -> MatchedClient:
        client = self._clients.get(name)
        if client is not None:
            return client
        try:
            client = MatchedClient(INSTANCE_PREFIX + name, args=self._site, privs=self._privs)
        except NoAnswer:
            raise
        except ControlClientError as error:
            raise Faulty(str(error), name) from error
        if not hasattr(client, "create_configuration"):
            raise Refused(f"{client.instance_id} is no pipeline of the back end; give one of the two another name")
        self._clients[name] = client
        return client

    def _run(self, name: str, task: str, parameters: Mapping[str, object], timeout: float) -> Session:
        client = self._client(name)
        deadline = time.monotonic() + timeout
        try:
            while (begun := client.request("start", task, parameters)).status != ocs.OK:
                if not begun.session or time.monotonic() > deadline:  # a session: it runs for somebody else
                    raise Refused(begun.msg)
                time.sleep(BUSY_INTERVAL)
            if timeout == 0:
                return {}
            ended = client.wait(task, timeout)
        except NoAnswer:
            raise
        except ControlClientError as error:
            raise Faulty(str(error), name) from error
        if ended.status == ocs.TIMEOUT:
            raise Retry(
                f"{client.instance_id} still works at {task} after {timeout:.0f} s; look at what it shows later"
            )
        if run_of(ended.session) != run_of(begun.session):
            raise Retry(f"{client.instance_id} was restarted while {task} ran; look at what it shows, and ask again")
        if not ended.session.get("success"):
            raise Refused(why_failed(ended.session.get("messages") or []))
        return dict(ended.session.get("data") or {})

    def _arguments(self, name: str) -> list[str]:
        """The agent's arguments: its entry in the site file, or where there is none how to reach the router."""
        instance = INSTANCE_PREFIX + name
        given = {"site-file": self._site.site_file, "site-host": self._site.site_host}
        if not self._listed(instance):
            # OCS takes no site at all only when everything a site says is given.
            given = {
                "site": "none", "site-file": "none", "crossbar-timeout": "0",
                "site-hub": self._hub["wamp_server"], "site-http": self._hub["wamp_http"],
                "site-realm": self._hub["wamp_realm"], "address-root": self._hub["address_root"],
                "access-policy": self._hub.get("access_policy") or "none",
            }  # fmt: skip
        options = [word for key, value in given.items() if value for word in (f"--{key}", str(value))]
        return ["-m", AGENT, "--instance-id", instance, *options]

    def _listed(self, instance: str) -> bool:
        site = argparse.Namespace(**{**vars(self._site), "instance_id": instance})
        try:
            site_config.get_config(site, "CBEPipeline")
        except (RuntimeError, KeyError):
            return False
        return True


def _site_file(site: argparse.Namespace) -> str:
    """The whole path of the site config, which is read again later, from another working directory."""
    if site.site_file is not None:
        return str(Path(site.site_file).resolve())
    return str((Path(os.environ["OCS_CONFIG_DIR"]) / f"{site.site or 'default'}.yaml").resolve())


def check_spawn(spawn: str) -> None:
    """See that a template for starting agents can be filled in.

    Raises
    ------
    Refused
        When it cannot.
    """
    try:
        words = shlex.split(spawn)
        fields = [field for word in words for _, field, _, _ in string.Formatter().parse(word) if field is not None]
    except ValueError as error:
        raise Refused(f"--spawn {spawn!r:.200}: {error}") from error
    unknown = set(fields) - {"host", "port", "name", "python", "arguments"}
    if unknown or "{arguments}" not in words:
        raise Refused(
            f"--spawn {spawn!r:.200} must have {{arguments}} as a word, and may have {{host}}, {{port}}, {{name}} and {{python}}"
        )


def spawn_command(spawn: str, name: str, address: Address, arguments: Sequence[str]) -> list[str]:
    """The command that starts an agent.

    Raises
    ------
    Refused
        When an argument has characters that a shell at the other end of an ssh might not leave alone.
    """
    words: list[str] = []
    for word in shlex.split(spawn):
        if word == "{arguments}":
            words += arguments
        else:
            words.append(word.format(host=address.host, port=address.port, name=name, python=sys.executable))
    bad = [argument for argument in arguments if not _SAFE.fullmatch(argument)]
    if bad and spawn != SPAWN:
        raise Refused(
            f"argument {bad[0]!r:.80} of {INSTANCE_PREFIX}{name} has characters that a remote shell may change"
        )
    return words
