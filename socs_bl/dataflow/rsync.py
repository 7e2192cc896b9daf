"""rsync over a link: many files a command, into a directory where nobody looks for them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from socs_bl.dataflow.classify import of_rsync
from socs_bl.dataflow.outcome import Cause, Outcome
from socs_bl.dataflow.programs import run
from socs_bl.dataflow.receiver import raw
from socs_bl.dataflow.ssh import Link

PARTIAL = ".socs-bl-partial"
_PROGRESS = re.compile(r"\s*([\d,]+)\s+(\d+)%\s+\S+/s\s+\S+(?:\s+\(xfr#(\d+), (?:ir|to)-chk=(\d+)/(\d+)\))?\s*")


class Progress(NamedTuple):
    """How far a transfer is: bytes sent of all files, and files that are through (0 where rsync has not said)."""

    bytes: int
    files: int


class Options(msgspec.Struct, frozen=True):
    """How rsync sends.

    Attributes
    ----------
    limit : int
        Bytes a second; 0: none.
    idle : float
        Seconds without a byte after which it gives up.
    longest : float
        Seconds it may run at all.
    mode : int or None
        Permissions that the files get; None: those of the source.
    program : str
        rsync of this host.
    remote_program : str
        rsync of the other.
    """

    limit: int = 0
    idle: float = 60.0
    longest: float = 6 * 3600.0
    mode: int | None = None
    program: str = "rsync"
    remote_program: str = "rsync"


def command(link: Link, source: Path, target: str, options: Options) -> list[str]:
    """The arguments; the names come on standard input, each ended by a zero byte.

    Sources: rsync(1). ``--protect-args``: names never meet the remote shell. ``--partial-dir`` and no ``--append``, no
    ``--inplace``: what a broken link leaves is used again only after its blocks were compared, never under a name that counts.
    """
    return [
        options.program,
        "--files-from=-",
        "--from0",
        "--no-implied-dirs",
        "--times",
        "--perms",
        *([f"--chmod=F{options.mode:o}"] if options.mode is not None else []),
        f"--partial-dir={PARTIAL}",
        "--protect-args",
        "--no-human-readable",
        "--info=progress2",
        f"--timeout={max(1, round(options.idle))}",
        *([f"--bwlimit={max(1, options.limit // 1024)}"] if options.limit else []),  # KiB/s
        f"--rsync-path={options.remote_program}",
        f"--rsh={link.shell}",
        "--",
        f"{source}/",
        f"session:{target}/",
    ]


def partial(path: str) -> str:
    """Where rsync keeps what it has of a file that was interrupted."""
    folder, name = os.path.split(path)
    return os.path.join(folder, PARTIAL, name)


def parse_progress(line: str) -> Progress | None:
    """What a line of ``--info=progress2`` says; None for any other line."""
    match = _PROGRESS.fullmatch(line)
    return Progress(int(match[1].replace(",", "")), int(match[3] or 0)) if match else None


def send(
    link: Link,
    source: Path,
    paths: Sequence[str],
    target: str,
    options: Options,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Send files; each arrives at its own path below `target`, which is there.

    Parameters
    ----------
    source : Path
        Directory that `paths` are below.
    paths : sequence of str
        Any bytes but zero, as `os.fsdecode` makes them text.
    target : str
        Absolute, on the other host.
    on_progress : callable, optional
        Called in this thread.
    stop : threading.Event, optional
        Ends it when set; what has come so far is used the next time.

    Returns
    -------
    Outcome
        Of the command. What became of each file only a look at the other side tells.
    """

    def progress(line: str) -> None:
        if on_progress is not None and (parsed := parse_progress(line)) is not None:
            on_progress(parsed)

    # A leading "./": a name that begins with # or ; would be taken for a comment.
    names = b"".join(b"./" + raw(path) + b"\0" for path in paths)
    done = run(command(link, source, target, options), names, options.longest, stop, progress)
    if done.late:
        return Outcome(Cause.TIMEOUT, f"rsync to {link.host} took more than {options.longest:.0f} s")
    if done.stopped:
        return Outcome(Cause.INTERRUPTED, f"rsync to {link.host} was stopped")
    if done.status == 1 and done.stderr.startswith("cannot run "):  # the launcher's words
        return Outcome(Cause.TOOL_MISSING, done.stderr.strip())
    return link.blame(of_rsync(done.status, done.stderr))
