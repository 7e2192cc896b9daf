"""What the exit status and the last words of rsync and ssh, and the numbers of system errors, mean.

Sources: rsync(1) "EXIT VALUES"; ssh(1) "EXIT STATUS"; the messages of OpenSSH's and rsync's own source text; errno(3).
"""

from __future__ import annotations

import errno
import re

from socs_bl.dataflow.outcome import Cause, Outcome

SSH_FAILED = 255
COMMAND_NOT_FOUND = (126, 127)  # what a POSIX shell answers for a program that is missing or cannot be run
_KEPT = 600  # characters of the last words that an outcome carries

_ERRNO = {
    errno.ENOSPC: Cause.DISK_FULL,
    errno.EDQUOT: Cause.QUOTA,
    errno.EACCES: Cause.PERMISSION,
    errno.EPERM: Cause.PERMISSION,
    errno.EROFS: Cause.READ_ONLY,
    errno.EIO: Cause.MEDIUM,
    errno.ETIMEDOUT: Cause.TIMEOUT,
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EXDEV, errno.ENAMETOOLONG), Cause.PLACE),
}
_SSH = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Cause.HOST_KEY),
    ("Host key verification failed", Cause.HOST_KEY),
    ("No ED25519 host key is known", Cause.HOST_KEY),
    ("Permission denied (", Cause.AUTHENTICATION),
    ("Too many authentication failures", Cause.AUTHENTICATION),
    ("UNPROTECTED PRIVATE KEY", Cause.AUTHENTICATION),
    ("Bad configuration option", Cause.MISUSE),
    ("Bad owner or permissions", Cause.MISUSE),
    ("timed out", Cause.TIMEOUT),
    ("Timeout, server", Cause.TIMEOUT),
)
_RSYNC = {
    1: Cause.MISUSE,  # syntax or usage
    2: Cause.PROTOCOL,  # protocol incompatibility: two versions, or a login script that prints
    3: Cause.NO_ROOT,  # errors selecting input/output files, dirs
    4: Cause.MISUSE,  # requested action not supported
    5: Cause.UNREACHABLE,
    10: Cause.UNREACHABLE,
    12: Cause.UNREACHABLE,  # the data stream broke off
    13: Cause.PROTOCOL,
    14: Cause.PROTOCOL,
    20: Cause.INTERRUPTED,
    22: Cause.PROTOCOL,
    24: Cause.VANISHED,
    25: Cause.MISUSE,
    30: Cause.TIMEOUT,
    35: Cause.TIMEOUT,
}
_NUMBER = re.compile(r"\((\d+)\)\s*$", re.MULTILINE)


def of_errno(number: int, text: str) -> Outcome:
    """The meaning of a system error."""
    return Outcome(_ERRNO.get(number, Cause.UNKNOWN), text[:_KEPT])


def of_ssh(status: int, stderr: str) -> Outcome:
    """The meaning of ssh's own failure, or of a remote shell that found no program.

    A key that has changed is not a network that is down: nothing that is repeated helps.
    """
    if status in COMMAND_NOT_FOUND:
        return Outcome(Cause.TOOL_MISSING, _end(stderr))
    if status < 0:
        return Outcome(Cause.INTERRUPTED, f"killed by signal {-status}")
    for words, cause in _SSH:
        if words in stderr:
            return Outcome(cause, _end(stderr))
    return Outcome(Cause.UNREACHABLE, _end(stderr))


def of_rsync(status: int, stderr: str) -> Outcome:
    """The meaning of rsync's exit status, which alone tells too little: 11 and 23 are a full disk or a wrong mode."""
    if status == 0:
        return Outcome(Cause.DONE)
    if status == SSH_FAILED or status in COMMAND_NOT_FOUND:
        return of_ssh(status, stderr)
    if status < 0:
        return Outcome(Cause.INTERRUPTED, f"killed by signal {-status}")
    if "command not found" in stderr or re.search(r"rsync: (not found|No such file)", stderr):
        return Outcome(
            Cause.TOOL_MISSING, _end(stderr)
        )  # the remote shell's 127 arrives as a stream that broke off: 12
    found = [_ERRNO[number] for text in _NUMBER.findall(stderr) if (number := int(text)) in _ERRNO]
    if found:
        return Outcome(found[0], _end(stderr))
    if status == 12 and any(words in stderr for words, _ in _SSH):
        return of_ssh(SSH_FAILED, stderr)
    return Outcome(_RSYNC.get(status, Cause.UNKNOWN), _end(stderr))


def _end(stderr: str) -> str:
    """The last words, without decoration."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip().strip("@")]
    return "; ".join(lines)[-_KEPT:]
