"""The words of the data flow: a file's name, where it was seen, and what its bytes hash to."""

from __future__ import annotations

import enum

import msgspec

ALGORITHMS = ("xxh3_128", "sha1", "md5")
DEFAULT_ALGORITHM = "xxh3_128"
_HEX_DIGITS = {"xxh3_128": 32, "sha1": 40, "md5": 32}


class FileName(msgspec.Struct, frozen=True):
    """A name that fits a pattern.

    Attributes
    ----------
    text : str
        The name without its directory.
    fields : dict
        The pattern's named groups; a group that took no part is the empty text.
    """

    text: str
    fields: dict[str, str]


class Seen(msgspec.Struct, frozen=True):
    """A file as a scan saw it.

    Attributes
    ----------
    store : str
    path : str
        Below the store's root; bytes that are not UTF-8 are surrogates, as `os.fsdecode` makes them.
    size : int
        Bytes.
    mtime_ns : int
        Time of its last change by its file system, Unix ns.
    inode : int
        0 where it cannot be known.
    """

    store: str
    path: str
    size: int
    mtime_ns: int
    inode: int = 0

    @property
    def identity(self) -> tuple[int, int, int]:
        """Size, time and inode: one of them differs when a file was changed or replaced."""
        return self.size, self.mtime_ns, self.inode


class Digest(msgspec.Struct, frozen=True):
    """What the bytes of a file hash to.

    Attributes
    ----------
    algorithm : str
        One of `ALGORITHMS`.
    hex : str
        Lower case.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        digits = _HEX_DIGITS.get(self.algorithm)
        if digits is None:
            raise ValueError(f"algorithm {self.algorithm!r:.40} is not one of {', '.join(ALGORITHMS)}")
        if len(self.hex) != digits or not set(self.hex) <= set("0123456789abcdef"):
            raise ValueError(f"{self.hex!r:.80} is not a {self.algorithm}: {digits} hexadecimal digits in lower case")


class CopyState(enum.StrEnum):
    """What is known of one copy of a file."""

    PRESENT = "present"  # it is there; nobody has compared its bytes
    VERIFIED = "verified"  # its bytes hash to the file's digest, at `verified_ns`
    DELIVERED = "delivered"  # was verified in a place that others empty
    SUSPECT = "suspect"  # it changed since it was verified, or could not be read
    CORRUPT = "corrupt"  # its bytes hash to something else
    MISSING = "missing"  # it should be there and is not
    DELETED = "deleted"  # removed under a rule, which is noted


class JobState(enum.StrEnum):
    """How far a job is: what one stage does with one file, for one target."""

    WAITING = "waiting"  # for an earlier stage
    READY = "ready"
    RUNNING = "running"
    VERIFYING = "verifying"
    RETRY = "retry"  # becomes ready again at `due_ns`
    PAUSED_SPACE = "paused:space"  # until there is room
    HELD = "held"  # until a person lets it go
    BAD = "bad"  # the file is broken; no more attempts
    DONE = "done"


ACTIVE = (JobState.RUNNING, JobState.VERIFYING)
ENDED = (JobState.DONE, JobState.BAD)
