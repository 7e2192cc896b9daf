"""A real sshd of the test's own: its own keys, its own port on 127.0.0.1, gone when the test ends."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from socs_bl.services.process import Child, free_port
from tests.harness.programs import missing, need_program

_PRIVILEGE_SEPARATION = Path("/run/sshd")  # where Debian's sshd, when it is root, wants to go
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowAgentForwarding no
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
{extra}"""


@dataclass
class Sshd:
    """A running sshd and what a client needs to reach it.

    Attributes
    ----------
    port : int
    user : str
        Who may log in: who runs the test.
    identity : Path
        The client's private key.
    known_hosts : Path
    log : Path
        One line ``Connection from`` for each connection.
    """

    directory: Path
    port: int
    user: str
    identity: Path
    known_hosts: Path
    log: Path
    child: Child

    def connections(self) -> int:
        """How many connections it has taken."""
        return self.log.read_text().count("Connection from")

    def change_host_key(self) -> None:
        """Let the client know another host key than the one this sshd shows."""
        other = _key(self.directory / "other_host_key")
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {other}\n")


def _key(path: Path) -> str:
    """Make a key pair; returns the public half."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path.with_suffix(".pub").read_text().strip()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@contextmanager
def sshd(directory: Path, path: str = "", extra: str = "") -> Iterator[Sshd]:
    """Run an sshd below `directory`.

    Parameters
    ----------
    path : str
        What its sessions find first on PATH.
    extra : str
        Further lines of its configuration.
    """
    program = need_program("sshd", "/usr/sbin/sshd")
    need_program("ssh")
    if os.geteuid() == 0 and not _PRIVILEGE_SEPARATION.is_dir():
        try:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        except OSError:
            missing(f"directory {_PRIVILEGE_SEPARATION}")
    directory.mkdir(parents=True)
    host_public, user_public = _key(directory / "host_key"), _key(directory / "user_key")
    (directory / "authorized_keys").write_text(f"restrict {user_public}\n")
    port = free_port()
    if path:
        extra += f"SetEnv PATH={shlex.quote(path)}\n"
    config = directory / "sshd_config"
    config.write_text(
        _CONFIG.format(
            port=port, host_key=directory / "host_key", authorized=directory / "authorized_keys", extra=extra
        )
    )
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {host_public}\n")
    log = directory / "sshd.log"
    child = Child("sshd", [program, "-D", "-e", "-o", "LogLevel=VERBOSE", "-f", str(config)], log)
    try:
        child.wait_ready(lambda: _listens(port), 30.0)
        log.write_text("")  # the look itself was a connection
        yield Sshd(directory, port, getpass.getuser(), directory / "user_key", known_hosts, log, child)
    finally:
        child.stop()
