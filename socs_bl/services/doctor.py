"""Can this machine run an observatory? Each check says what it found and, where needed, what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from socs_bl.core.errors import Refused, SocsError
from socs_bl.services import crossbar_node, redis_server
from socs_bl.services.operators import Operator
from socs_bl.services.process import free_port
from socs_bl.services.run_dir import MARK, read_state
from socs_bl.services.site import SiteFile

MULTICAST_GROUP = "239.192.255.254"  # organisation-local scope (RFC 2365), used for one packet on loopback
MULTICAST_TIMEOUT = 2.0
PYTHON = (3, 11)
DISK_WANTED = 4e9  # bytes: two cycles of the demo write about 700 MB, with room for logs and hits
MEMORY_WANTED = 3e9  # bytes: fifteen agents of 90 MB, router 230 MB, searches
SOCKET_BUFFER_WANTED = 4 << 20  # bytes for a burst of heaps

# Module, what needs it, the extra that brings it.
MODULES = (
    ("ocs", "all agents", ""),
    ("sotodlib", "the catalogue of products", ""),
    ("numba", "search and capture", ""),
    ("crossbar", "the embedded router", "observatory"),
    ("spead2", "instance recorder and simulated F-engines", "observatory"),
    ("matplotlib", "waterfall pictures", "observatory"),
)


class Finding(NamedTuple):
    """One line of the doctor's report.

    Attributes
    ----------
    name : str
    good : bool
    text : str
        What was found; what to do when it is not good.
    fatal : bool
        False for what only makes things slower or limits what works.
    """

    name: str
    good: bool
    text: str
    fatal: bool = True


def examine(run_dir: Path, site_config: Path) -> Iterator[Finding]:
    """All findings, one after the other."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _modules,
        _redis,
        _router,
        _loopback,
        _multicast,
        _socket_buffer,
        lambda: _disk(run_dir),
        _memory,
        lambda: _site(site_config),
        lambda: _running(run_dir),
    )
    for check in checks:
        yield from check()


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    wanted = ".".join(str(part) for part in PYTHON)
    yield Finding("Python", sys.version_info >= PYTHON, f"{version} (at least {wanted})")


def _modules() -> Iterator[Finding]:
    for module, needed_by, extra in MODULES:
        found = importlib.util.find_spec(module) is not None
        package = f"socs_bl[{extra}]" if extra else "socs_bl"
        advice = "" if found else f" is missing, needed for {needed_by}; pip install '{package}'"
        yield Finding(module, found, f"installed, for {needed_by}" if found else advice.strip())


def _redis() -> Iterator[Finding]:
    try:
        program = redis_server.executable()
        answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (Refused, OSError, subprocess.SubprocessError) as error:
        yield Finding("redis-server", False, str(error))
        return
    words = dict(word.split("=", 1) for word in answer.stdout.split() if "=" in word)
    version = words.get("v", "0")
    good = tuple(int(part) for part in version.split(".")[:2]) >= redis_server.MINIMUM_VERSION
    wanted = ".".join(str(part) for part in redis_server.MINIMUM_VERSION)
    yield Finding("redis-server", good, f"version {version} (at least {wanted})")


def _router() -> Iterator[Finding]:
    try:
        yield Finding("crossbar", True, f"program found: {crossbar_node.executable().name}")
    except Refused as error:
        yield Finding("crossbar", False, str(error))


def _loopback() -> Iterator[Finding]:
    try:
        yield Finding("TCP on loopback", True, f"a free port can be had ({free_port()})")
    except OSError as error:
        yield Finding("TCP on loopback", False, f"cannot listen on 127.0.0.1: {error}; bring the interface lo up")


def _multicast() -> Iterator[Finding]:
    try:
        send_multicast(os.urandom(16))
    except OSError as error:
        advice = "bring lo up and allow multicast on it: ip link set lo up multicast on; in a container use the host's network"
        yield Finding("multicast on loopback", False, f"a packet sent was not received ({error}); {advice}")
    else:
        yield Finding("multicast on loopback", True, "a packet sent was received")


def send_multicast(payload: bytes, interface: str = "127.0.0.1") -> None:
    """Send one packet to a group on an interface and receive it there.

    Raises
    ------
    OSError
        When it does not come back.
    """
    local = socket.inet_aton(interface)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.settimeout(MULTICAST_TIMEOUT)
        receiver.bind((MULTICAST_GROUP, 0))
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(MULTICAST_GROUP) + local)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, local)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        sender.sendto(payload, (MULTICAST_GROUP, receiver.getsockname()[1]))
        if receiver.recv(len(payload) + 1) != payload:
            raise OSError("another packet arrived")


def _socket_buffer() -> Iterator[Finding]:
    try:
        size = int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    good = size >= SOCKET_BUFFER_WANTED
    advice = "" if good else f"; bursts may be lost: sysctl -w net.core.rmem_max={SOCKET_BUFFER_WANTED}"
    yield Finding("receive buffers", good, f"net.core.rmem_max is {size}{advice}", fatal=False)


def _disk(run_dir: Path) -> Iterator[Finding]:
    place = run_dir.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    good = free >= DISK_WANTED and writable
    advice = "" if good else f"; {DISK_WANTED / 1e9:.0f} GB are wanted: use another --run-dir"
    yield Finding(
        "disk", good, f"{free / 1e9:.1f} GB free{'' if writable else ', but not writable'} at {place}{advice}"
    )


def _memory() -> Iterator[Finding]:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    good = available >= MEMORY_WANTED
    advice = "" if good else f"; {MEMORY_WANTED / 1e9:.0f} GB are wanted: close something"
    yield Finding("memory", good, f"{available / 1e9:.1f} GB available{advice}")


def _site(site_config: Path) -> Iterator[Finding]:
    try:
        file = SiteFile(site_config)
        file.check_classes()
        file.host_manager()
    except SocsError as error:
        yield Finding("site config", False, str(error))
    else:
        yield Finding("site config", True, f"{site_config}: {len(file.agents())} agents for host {file.host_name()}")


def _running(run_dir: Path) -> Iterator[Finding]:
    state = read_state(run_dir)
    if state is None:
        left = (run_dir / "pids").exists() and any((run_dir / "pids").glob("[!.]*.json"))
        text = "none in this run directory"
        if left:
            text = (
                f"the one of {run_dir} was killed; 'socs-bl up' or 'socs-bl down' ends what it left ({MARK} marks it)"
            )
        yield Finding("running observatory", True, text)
        return
    operator = Operator(state.wamp_http, state.address_root)
    silent = [name for name in (*state.agents, state.host_manager) if not operator.answers(name)]
    text = f"pid {state.supervisor.pid}, {len(state.agents) + 1} agents"
    if silent:
        text += f", of which {', '.join(silent)} do not answer; see 'socs-bl status' and the logs in {run_dir / 'logs'}"
    yield Finding("running observatory", not silent, text)
