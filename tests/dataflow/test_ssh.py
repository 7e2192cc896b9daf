"""One connection to another host, by real ssh to a real sshd."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from socs_bl.core.errors import Refused
from socs_bl.dataflow.outcome import Cause, Failure, Next
from socs_bl.dataflow.ssh import Link
from socs_bl.services.process import free_port, signal_exactly
from tests.harness.sshd import Sshd, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd for all tests of this file."""
    with sshd(tmp_path_factory.mktemp("ssh") / "sshd") as running:
        yield running


@pytest.fixture
def link(server: Sshd) -> Iterator[Link]:
    """A link that is up."""
    link = Link(f"{server.user}@127.0.0.1", server.port, server.identity, server.known_hosts, timeout=60.0)
    link.open()
    link.wait()
    yield link
    link.close()


def failure_of(link: Link) -> Failure:
    """How opening it fails."""
    try:
        link.open()
        with pytest.raises(Failure) as caught:
            link.wait()
    finally:
        link.close()
    return caught.value


def test_twenty_commands_are_one_connection(server: Sshd, link: Link) -> None:
    """Twenty blocks at once stay under the limit of a firewall that counts connections: there is one."""
    before = server.connections()
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda number: link.run(["echo", f"a b '{number}\n"]).stdout, range(20)))
    assert answers == [f"a b '{number}\n\n".encode() for number in range(20)]
    assert server.connections() == before


def test_a_host_key_that_changed_is_held(server: Sshd, tmp_path: Path) -> None:
    """Another host key than the known one waits for a person; it is not retried as if the network were down."""
    other = tmp_path / "known_hosts"
    other.write_text(f"[127.0.0.1]:{server.port} {(server.directory / 'user_key.pub').read_text()}")
    outcome = failure_of(Link(f"{server.user}@127.0.0.1", server.port, server.identity, other, timeout=60.0)).outcome
    assert (outcome.cause, outcome.next) == (Cause.HOST_KEY, Next.HOLD)
    assert "has changed" in outcome.text


def test_an_unknown_host_key_is_held(server: Sshd, tmp_path: Path) -> None:
    """A host nobody has vouched for gets nothing."""
    nobody = tmp_path / "known_hosts"
    nobody.write_text("")
    outcome = failure_of(Link(f"{server.user}@127.0.0.1", server.port, server.identity, nobody, timeout=60.0)).outcome
    assert outcome.cause is Cause.HOST_KEY


def test_a_key_that_is_not_accepted_is_held(server: Sshd) -> None:
    """A key the other side does not know waits for a person."""
    wrong = server.directory / "host_key"
    link = Link(f"{server.user}@127.0.0.1", server.port, wrong, server.known_hosts, timeout=60.0)
    outcome = failure_of(link).outcome
    assert (outcome.cause, outcome.next) == (Cause.AUTHENTICATION, Next.HOLD)


def test_nobody_listens_is_retried() -> None:
    """A host that does not answer is tried again later."""
    outcome = failure_of(Link("127.0.0.1", free_port(), timeout=60.0)).outcome
    assert (outcome.cause, outcome.next) == (Cause.UNREACHABLE, Next.RETRY)


def test_a_host_that_never_speaks_is_a_timeout() -> None:
    """A connection that is taken and never answered ends by itself, and is tried again."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        link = Link("127.0.0.1", deaf.getsockname()[1], timeout=1.0)
        outcome = failure_of(link).outcome
    assert (outcome.cause, outcome.next) == (Cause.TIMEOUT, Next.RETRY)


def test_commands_never_connect_by_themselves(server: Sshd, link: Link) -> None:
    """When the master is gone, commands fail as a link that is down, without a connection that nobody counted."""
    assert link._master is not None
    signal_exactly(link._master.identity, signal.SIGKILL)
    before = server.connections()
    with pytest.raises(Failure) as caught:
        link.run(["true"])
    assert caught.value.outcome.cause in (Cause.UNREACHABLE, Cause.INTERRUPTED)
    assert server.connections() == before
    link.open()
    link.wait()
    assert link.run(["echo", "again"]).stdout == b"again\n"


def test_a_program_that_is_missing_is_the_tool(link: Link) -> None:
    """A command that is not installed there says nothing about files."""
    with pytest.raises(Failure) as caught:
        link.run(["no-such-program-here"])
    assert (caught.value.outcome.cause, caught.value.outcome.next) == (Cause.TOOL_MISSING, Next.TOOL)


def test_a_command_that_hangs_is_ended(link: Link) -> None:
    """Every command has a deadline."""
    with pytest.raises(Failure) as caught:
        link.run(["sleep", "600"], timeout=0.5)
    assert caught.value.outcome.cause is Cause.TIMEOUT


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "host\nProxyCommand x", "", "@host", "u@-x"])
def test_hosts_that_are_options_or_lines_are_refused(host: str) -> None:
    """A host name reaches ssh only as a host name."""
    with pytest.raises(Refused):
        Link(host)
