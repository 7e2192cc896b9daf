"""How work on files ends, in words that say what is to be done next."""

from __future__ import annotations

import enum

import msgspec


class Next(enum.StrEnum):
    """What follows."""

    NOTHING = "nothing"  # it is done
    RETRY = "retry"  # the same again, later
    WAIT_FOR_SPACE = "paused:space"
    EVALUATE = "re-evaluate"  # the source is not what it was: look again, then decide
    HOLD = "held"  # a person has to do something first
    BAD = "bad"  # the file itself is broken
    TOOL = "tool_error"  # a program is missing or broken; it says nothing about any file


class Cause(enum.StrEnum):
    """Why."""

    DONE = "done"
    ALREADY_THERE = "already there"  # with the same bytes; nothing was sent
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    HOST_KEY = "host key"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    READ_ONLY = "read-only"
    DISK_FULL = "disk full"
    QUOTA = "quota"
    MEDIUM = "input/output error"
    NO_ROOT = "root missing"
    PLACE = "no place for it"  # something on the way to the name is no directory, a link, or another file system
    VANISHED = "source vanished"
    CHANGED = "source changed"
    CORRUPT = "corrupt"  # arrived with other bytes than it had
    AT_SOURCE = "corrupt at source"  # its bytes are not those that were recorded
    CONFLICT = "name taken"  # by a file with other bytes
    TOOL_MISSING = "program missing"
    MISUSE = "misuse"  # the program did not understand its arguments
    PROTOCOL = "protocol"
    UNKNOWN = "unknown"


FOLLOWS = {
    Cause.DONE: Next.NOTHING,
    Cause.ALREADY_THERE: Next.NOTHING,
    Cause.UNREACHABLE: Next.RETRY,
    Cause.TIMEOUT: Next.RETRY,
    Cause.INTERRUPTED: Next.RETRY,
    Cause.HOST_KEY: Next.HOLD,
    Cause.AUTHENTICATION: Next.HOLD,
    Cause.PERMISSION: Next.HOLD,
    Cause.READ_ONLY: Next.HOLD,
    Cause.DISK_FULL: Next.WAIT_FOR_SPACE,
    Cause.QUOTA: Next.WAIT_FOR_SPACE,
    Cause.MEDIUM: Next.HOLD,
    Cause.NO_ROOT: Next.HOLD,
    Cause.PLACE: Next.HOLD,
    Cause.VANISHED: Next.EVALUATE,
    Cause.CHANGED: Next.EVALUATE,
    Cause.CORRUPT: Next.RETRY,
    Cause.AT_SOURCE: Next.BAD,
    Cause.CONFLICT: Next.HOLD,
    Cause.TOOL_MISSING: Next.TOOL,
    Cause.MISUSE: Next.TOOL,
    Cause.PROTOCOL: Next.RETRY,
    Cause.UNKNOWN: Next.RETRY,
}


class Outcome(msgspec.Struct, frozen=True):
    """How it ended for one file, or for all of a command.

    Attributes
    ----------
    cause : Cause
    text : str
        What happened and where, as the programs said it; empty when all is well.
    """

    cause: Cause
    text: str = ""

    @property
    def next(self) -> Next:
        """What follows."""
        return FOLLOWS[self.cause]

    @property
    def good(self) -> bool:
        """The file is where it should be, and verified."""
        return self.next is Next.NOTHING


class Failure(Exception):
    """A command as a whole has failed.

    Parameters
    ----------
    outcome : Outcome
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.cause}: {outcome.text}")
        self.outcome = outcome
