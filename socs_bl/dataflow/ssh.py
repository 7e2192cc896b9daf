"""One connection to another host that everything shares.

A firewall on the way may count new connections, so there is one, held by a master process, and every command is a session on
it (OpenSSH's multiplexing). Commands cannot connect by themselves: when the master is gone they fail at once. All that ssh is
told stands in a configuration file of the link's own; nothing of the user's or the host's is read.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from socs_bl.core.errors import Refused
from socs_bl.dataflow.classify import of_ssh
from socs_bl.dataflow.outcome import Cause, Failure, Outcome
from socs_bl.dataflow.programs import Finished, run
from socs_bl.services.process import Child

ALIVE_INTERVAL = 5  # seconds without a word from the other side until it is asked
ALIVE_COUNT = 3  # questions without an answer until the link is given up
_LONGEST_SOCKET = 107 - 18  # bytes: sun_path of unix(7) without its NUL, and the suffix that ssh adds meanwhile
_HOST = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_.-]*)@)?([A-Za-z0-9][A-Za-z0-9.:-]*)")
_CONFIG = """\
Host session
    ControlMaster no
    {without}
Host master
    ControlMaster {master}
Host session master
    HostName {host}
    Port {port}
    {user}
    {identity}
    {known_hosts}
    ControlPath {socket}
    StrictHostKeyChecking yes
    UpdateHostKeys no
    BatchMode yes
    ForwardAgent no
    ForwardX11 no
    ClearAllForwardings yes
    RequestTTY no
    Compression no
    Ciphers ^aes128-gcm@openssh.com
    ConnectTimeout {timeout}
    ServerAliveInterval {interval}
    ServerAliveCountMax {count}
"""


class Link:
    """The way to one host.

    Parameters
    ----------
    host : str
        ``user@host`` or ``host``.
    port : int
    identity : Path, optional
        Private key; None: what ssh finds by itself.
    known_hosts : Path, optional
        Host keys that are trusted; None: the user's.
    mux : bool
        False: every command connects by itself, for hosts that allow one session a connection.
    timeout : float
        Seconds that connecting may take.

    Raises
    ------
    Refused
        When a parameter cannot be written into a configuration of ssh.
    """

    def __init__(
        self,
        host: str,
        port: int = 22,
        identity: Path | None = None,
        known_hosts: Path | None = None,
        mux: bool = True,
        timeout: float = 15.0,
    ) -> None:
        match = _HOST.fullmatch(host)
        if match is None:
            raise Refused(f"host {host!r:.80} is not user@host; write it like transfer@campus.example.org")
        self.host = host
        self.mux = mux
        self.timeout = timeout
        self._master: Child | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="socs-bl-ssh-")
        place = Path(self._directory.name)
        self._socket = place / "s"
        self._log = place / "log"
        self._config = place / "config"
        if len(os.fsencode(self._socket)) > _LONGEST_SOCKET:
            self.close()
            raise Refused(f"{place} is too long a path for ssh's socket; set TMPDIR to a shorter one")
        self._config.write_text(
            _CONFIG.format(
                without="ProxyCommand false" if mux else "",
                master="yes" if mux else "no",
                host=match[2],
                port=port,
                user=f"User {match[1]}" if match[1] else "",
                identity=f"IdentityFile {_quoted(identity)}\n    IdentitiesOnly yes" if identity else "",
                known_hosts=f"UserKnownHostsFile {_quoted(known_hosts)}\n    GlobalKnownHostsFile none"
                if known_hosts
                else "",
                socket=_quoted(self._socket),
                timeout=round(timeout),
                interval=ALIVE_INTERVAL,
                count=ALIVE_COUNT,
            )
        )

    @property
    def shell(self) -> str:
        """What rsync calls to reach the host, as it splits it into words."""
        return f"ssh -F {shlex.quote(str(self._config))}"

    def open(self) -> None:
        """Start to connect; main thread only, as all children. One new connection, for who counts them."""
        self.shut()
        if self.mux:
            argv = ["ssh", "-F", str(self._config), "-N", "master"]
            self._log.unlink(missing_ok=True)
            self._master = Child(f"ssh {self.host}", argv, self._log, {"LC_ALL": "C.UTF-8"})

    def up(self) -> bool:
        """Whether commands can be run."""
        return not self.mux or (self._master is not None and self._socket.exists() and self._master.running())

    def wait(self, stop: threading.Event | None = None) -> None:
        """Wait until the link is up.

        Raises
        ------
        Failure
            When it does not come up: what ssh said, classified.
        """
        deadline = time.monotonic() + self.timeout + 1.0
        while not self.up():
            if self._master is None or not self._master.running():
                raise Failure(self.trouble())
            if time.monotonic() > deadline or (stop is not None and stop.is_set()):
                raise Failure(Outcome(Cause.TIMEOUT, f"{self.host} has not let us in within {self.timeout:.0f} s"))
            time.sleep(0.01)

    def trouble(self) -> Outcome:
        """Why the link is down; what its master said last."""
        if self._master is None:
            return Outcome(Cause.UNREACHABLE, f"the link to {self.host} is not open")
        if self._master.running():
            return Outcome(Cause.DONE)
        return of_ssh(255, self._master.log_tail())

    def run(
        self, words: Sequence[str], stdin: bytes = b"", timeout: float = 3600.0, stop: threading.Event | None = None
    ) -> Finished:
        """Run a program on the host; its shell gets the words quoted.

        Raises
        ------
        Failure
            When it could not be run: not when the program itself failed.
        """
        argv = ["ssh", "-F", str(self._config), "session", "--", shlex.join(words)]
        done = run(argv, stdin, timeout, stop)
        if done.late:
            raise Failure(Outcome(Cause.TIMEOUT, f"{words[0]} on {self.host} took more than {timeout:.0f} s"))
        if done.stopped:
            raise Failure(Outcome(Cause.INTERRUPTED, f"{words[0]} on {self.host} was stopped"))
        if done.status in (126, 127, 255) or done.status < 0:
            raise Failure(self.blame(of_ssh(done.status, done.stderr)))
        return done

    def blame(self, outcome: Outcome) -> Outcome:
        """The outcome of a command, or of the link when that is why it failed."""
        if outcome.cause is Cause.UNREACHABLE and self.mux and not self.up():
            return self.trouble()
        return outcome

    def shut(self) -> None:
        """End the connection and every command on it."""
        if self._master is not None:
            self._master.stop()
            self._master = None
        self._socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Shut it for good."""
        self.shut()
        self._directory.cleanup()


def _quoted(path: Path) -> str:
    """A path as a word of ssh_config(5)."""
    text = str(path)
    if '"' in text or "\n" in text:
        raise Refused(f"path {text!r:.200} has a quote or a line break, which a configuration of ssh cannot hold")
    return '"' + text.replace("%", "%%") + '"'
