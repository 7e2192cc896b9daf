"""What the last words of programs mean."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from socs_bl.dataflow.classify import of_errno, of_rsync, of_ssh
from socs_bl.dataflow.outcome import FOLLOWS, Cause, Next
from socs_bl.dataflow.programs import run
from socs_bl.dataflow.rsync import Progress, parse_progress

# As the programs print them: rsync 3.2.7, OpenSSH 9.2.
FULL = """rsync: [receiver] write failed on "/sddata/in/x": No space left on device (28)
rsync error: error in file IO (code 11) at receiver.c(381) [receiver=3.2.7]"""
DENIED = """rsync: [receiver] mkstemp "/sddata/in/.x.Ck3fYz" failed: Permission denied (13)
rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338) [sender=3.2.7]"""
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key verification failed."""
BROKEN = """client_loop: send disconnect: Broken pipe
rsync: [sender] write error: Broken pipe (32)
rsync error: error in rsync protocol data stream (code 12) at io.c(848) [sender=3.2.7]"""
NO_RSYNC = """bash: line 1: rsync: command not found
rsync error: error in rsync protocol data stream (code 12) at io.c(231) [sender=3.2.7]"""

RSYNC = [
    (0, "", Cause.DONE, Next.NOTHING),
    (11, FULL, Cause.DISK_FULL, Next.WAIT_FOR_SPACE),
    (11, FULL.replace("No space left on device (28)", "Disk quota exceeded (122)"), Cause.QUOTA, Next.WAIT_FOR_SPACE),
    (11, FULL.replace("No space left on device (28)", "Input/output error (5)"), Cause.MEDIUM, Next.HOLD),
    (23, DENIED, Cause.PERMISSION, Next.HOLD),
    (23, DENIED.replace("Permission denied (13)", "Read-only file system (30)"), Cause.READ_ONLY, Next.HOLD),
    (23, "", Cause.UNKNOWN, Next.RETRY),
    (24, "file has vanished: /x", Cause.VANISHED, Next.EVALUATE),
    (30, "rsync error: timeout in data send/receive (code 30)", Cause.TIMEOUT, Next.RETRY),
    (35, "", Cause.TIMEOUT, Next.RETRY),
    (10, "", Cause.UNREACHABLE, Next.RETRY),
    (12, BROKEN, Cause.UNREACHABLE, Next.RETRY),
    (12, NO_RSYNC, Cause.TOOL_MISSING, Next.TOOL),
    (127, NO_RSYNC, Cause.TOOL_MISSING, Next.TOOL),
    (20, "", Cause.INTERRUPTED, Next.RETRY),
    (-9, "", Cause.INTERRUPTED, Next.RETRY),
    (1, "rsync: --no-such: unknown option", Cause.MISUSE, Next.TOOL),
    (4, "", Cause.MISUSE, Next.TOOL),
    (3, "rsync: change_dir failed", Cause.NO_ROOT, Next.HOLD),
    (2, "protocol version mismatch -- is your shell clean?", Cause.PROTOCOL, Next.RETRY),
    (255, CHANGED, Cause.HOST_KEY, Next.HOLD),
    (99, "", Cause.UNKNOWN, Next.RETRY),
]
SSH = [
    (CHANGED, Cause.HOST_KEY),
    ("No ED25519 host key is known for x and you have requested strict checking.", Cause.HOST_KEY),
    ("u@x: Permission denied (publickey,password).", Cause.AUTHENTICATION),
    ("ssh: connect to host x port 22: Connection timed out", Cause.TIMEOUT),
    ("Timeout, server x not responding.", Cause.TIMEOUT),
    ("ssh: connect to host x port 22: No route to host", Cause.UNREACHABLE),
    ("ssh: Could not resolve hostname x: Name or service not known", Cause.UNREACHABLE),
    ("kex_exchange_identification: Connection closed by remote host", Cause.UNREACHABLE),
    ("/x/config: line 3: Bad configuration option: foo", Cause.MISUSE),
    ("", Cause.UNREACHABLE),
]


@pytest.mark.parametrize(("status", "stderr", "cause", "following"), RSYNC)
def test_rsync_s_last_words(status: int, stderr: str, cause: Cause, following: Next) -> None:
    """Each way to fail has its cause, and what follows; a text is kept for people."""
    outcome = of_rsync(status, stderr)
    assert (outcome.cause, outcome.next) == (cause, following)
    assert not stderr or status <= 0 or outcome.text


@pytest.mark.parametrize(("stderr", "cause"), SSH)
def test_ssh_s_last_words(stderr: str, cause: Cause) -> None:
    """A key or a password that is wrong is not a network that is down."""
    assert of_ssh(255, stderr).cause is cause


def test_every_cause_has_something_that_follows() -> None:
    """No failure is without an answer, and errors of the system that nobody has thought of are tried again."""
    assert set(FOLLOWS) == set(Cause)
    assert of_errno(errno.ENOSPC, "x").next is Next.WAIT_FOR_SPACE
    assert of_errno(errno.EXDEV, "x").next is Next.HOLD
    assert of_errno(errno.EAGAIN, "x").next is Next.RETRY


def test_progress_is_read() -> None:
    """rsync's lines of progress, with and without its counts, and nothing else."""
    assert parse_progress("     1,234,567  12%    1.23MB/s    0:00:12  ") == Progress(1234567, 0)
    assert parse_progress("  8388608 100%  117.99MB/s    0:00:00 (xfr#3, to-chk=0/5)") == Progress(8388608, 3)
    assert parse_progress("          4,096  50%  3.91kB/s  0:00:01 (xfr#1, ir-chk=1000/1002)") == Progress(4096, 1)
    assert parse_progress("deleting 100% of it") is None


def test_a_program_gets_and_says_much_at_once() -> None:
    """Pipes that fill in both directions block nobody; what it says to people is kept to its end."""
    told = b"x" * 3_000_000
    echo = "import sys; d=sys.stdin.buffer.read(); sys.stdout.buffer.write(d); sys.stderr.write('e'*200000 + 'end')"
    done = run(["python3", "-c", echo], told)
    assert (done.status, done.stdout) == (0, told)
    assert done.stderr.endswith("end") and len(done.stderr) < 100_000


def test_a_program_that_does_not_listen_is_no_error() -> None:
    """Who ends without reading is judged by its status."""
    assert run(["false"], b"x" * 1_000_000).status == 1


def test_lines_come_as_they_are_said() -> None:
    """Lines, and what ends with a carriage return, are passed on while the program runs."""
    stop, lines = threading.Event(), []

    def heard(line: str) -> None:
        lines.append(line)
        stop.set()

    done = run(["sh", "-c", r"printf 'a\rb\n'; sleep 600"], stop=stop, on_line=heard)
    assert done.stopped and lines[:2] == ["a", "b"]


def test_a_group_ends_with_its_head() -> None:
    """A child that holds on to the pipes after its parent has ended is ended at the deadline."""
    began = time.monotonic()
    done = run(["sh", "-c", "sleep 600 & exit 3"], timeout=0.5)
    assert done.late and time.monotonic() - began < 300
