"""The other engine: seticore, a program for graphics processors, called on one recording directory at a time.

Its command line, and what its exit says (source: lacker/seticore, ``main.cpp``, ``util.cpp``, ``cuda_util.cu``):

====================  ==========================================================================================
0                     done; a recording it finds too short is said on standard output and has no products
1                     an error it has noticed: no recipe, another number of antennas, wrong arguments
2                     CUDA failed, or one of its own checks
anything else         a defect; above 128, a shell's way of telling a signal
a signal              an exception nobody caught (a full disk among them), a defect, or somebody killed it
====================  ==========================================================================================

It writes into a private directory; what it has written is looked at, and appears beside the other products only when
it can be read. Its output is read to the end and kept up to a limit.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from socs_bl.capture.guppi import iter_blocks
from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.search.analyzer_config import SeticoreConfig
from socs_bl.search.ending import SearchFailed
from socs_bl.search.messages import count_messages
from socs_bl.search.model import Outcome
from socs_bl.search.voltages import Recording, start_unix
from socs_bl.services import launch

Progress = Callable[[str, int, int], None]

GRACE_S = 5.0
CHUNK = 1 << 16
LONGEST_LINE = 500
LAST_LINES = 20
# With less room than this a failure is taken for that of the disk.
FULL_BYTES = 1 << 20
SHELL_SIGNALS = range(129, 160)
STEP = "seticore"
_BAND = "beamforming band "
_TOO_SHORT = "too short to process"
_NO_SPACE = "No space left on device"
_PRIVATE = ".seticore-"


def search(found: dict[str, list[Path]], output: Path, config: SeticoreConfig, progress: Progress) -> dict[str, Any]:
    """Search all recordings of a run.

    Parameters
    ----------
    found : dict of str to list of Path
        Recordings by stem: their GUPPI RAW files in sequence order.
    output : Path
        Where the products go.
    config : SeticoreConfig
    progress : callable
        Called with step, bands done and their total.

    Returns
    -------
    dict
        The result line's contents.

    Raises
    ------
    Refused
        When a recording cannot be read.
    SearchFailed
        When seticore has failed; nothing is left of its products.
    OSError
        When the products cannot be put where they belong.
    """
    described = {stem: describe(stem, paths) for stem, paths in found.items()}
    long = {stem: item for stem, item in described.items() if item["duration_s"] >= config.min_duration_s}
    products: list[Path] = []
    stamps, searched = 0, set[str]()
    output.mkdir(parents=True, exist_ok=True)
    for left_over in output.glob(f"{_PRIVATE}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    for folder in sorted({found[stem][0].parent for stem in long}):
        private = output / f"{_PRIVATE}{os.getpid()}"
        try:
            here = [stem for stem in long if found[stem][0].parent == folder]
            said_short = _call(folder, private, config, progress, output / "seticore.log")
            for stem in here:
                hits, stamped = _counted(private, stem, said_short)
                described[stem]["hit_count"] = hits or 0
                stamps += stamped
                searched |= {stem} if hits is not None else set()
            products += _published(private, output)
        finally:
            shutil.rmtree(private, ignore_errors=True)
    early = [f"{item['stem']} ends early: {item['damage']}" for item in described.values() if item["damage"]]
    return {
        "reason": (Outcome.SEARCHED if searched else Outcome.TOO_SHORT).value,
        "text": "; ".join(early),
        "hits": sum(item["hit_count"] for item in described.values()),
        "stamps": stamps,
        "obsid": next(iter(described.values()))["obsid"],
        "recordings": list(described.values()),
        "products": [str(path) for path in products],
        "top": [],
    }


def describe(stem: str, paths: Sequence[Path]) -> dict[str, Any]:
    """A recording as in the result line of a search (`socs_bl.search.child.recordings_of`), from its headers, no hits yet."""
    recording = Recording(iter_blocks(paths))
    header = recording.header
    centre, half = header.number("OBSFREQ") * 1e6, abs(recording.chan_bw_hz) * recording.channels / 2
    return {
        "stem": stem,
        "obsid": header.text("OBSID", ""),
        "instance": header.text("INSTANCE", ""),
        "source": header.text("SRC_NAME", ""),
        "start": start_unix(header),
        "duration_s": recording.duration_s,
        "low_hz": centre - half,
        "high_hz": centre + half,
        "hit_count": 0,
        "files": [path.name for path in paths],
        "paths": [str(path) for path in paths],
        "damage": recording.damage,
    }


def command(program: str, folder: Path, output: Path, config: SeticoreConfig) -> list[str]:
    """The command line."""
    words = [
        program, "--input", str(folder), "--output", str(output), "--max_drift", f"{config.max_drift:g}",
        "--snr", f"{config.snr:g}", "--num_bands", str(config.num_bands), "--fine_channels", str(config.fine_channels),
        "--telescope_id", str(config.telescope_id), "--recipe_dir", config.recipe_dir,
    ]  # fmt: skip
    return words + (["--h5_dir", str(output / config.h5_dir)] if config.h5_dir else []) + list(config.more)


def _call(folder: Path, private: Path, config: SeticoreConfig, progress: Progress, log: Path) -> bool:
    """Run seticore once; returns whether it called a recording too short."""
    program = shutil.which(config.program)
    if program is None:
        raise SearchFailed(Outcome.SETTINGS, f"{config.program} is not an executable; set seticore.program")
    if not config.recipe_dir:
        raise SearchFailed(Outcome.SETTINGS, "seticore.recipe_dir is not set, and seticore needs a recipe")
    (private / config.h5_dir).mkdir(parents=True)
    call = Call(command(program, folder, private, config), config, progress)
    overdue = call.wait(config.deadline_s)
    with contextlib.suppress(OSError):  # it is for people; the disk may be full, which is told below
        write_whole(log, bytes(call.log))
    status = call.status
    if overdue:
        raise SearchFailed(Outcome.OVERDUE, f"seticore was ended after {config.deadline_s:g} s; {call.last_words()}")
    if status == 0:
        return call.said_short
    outcome, text = classified(status)
    if _NO_SPACE in call.last_words() or shutil.disk_usage(private).free < FULL_BYTES:
        outcome = Outcome.DISK
    raise SearchFailed(outcome, f"seticore: {text}; {call.last_words()}")


def classified(status: int) -> tuple[Outcome, str]:
    """What an exit status other than 0 means; negative ones are signals."""
    if status in SHELL_SIGNALS:
        status = 128 - status
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return Outcome.KILLED, f"ended by signal {name}"
    if status == 1:
        return Outcome.DECLINED, "exit status 1, it declines this recording"
    if status == 2:
        return Outcome.DEVICE, "exit status 2, its device failed"
    return Outcome.CRASHED, f"exit status {status}"


class Call:
    """One seticore under way.

    Attributes
    ----------
    status : int
        As `subprocess.Popen.returncode`, once it has ended.
    said_short : bool
        It called a recording too short.
    log : bytearray
        Its output up to the limit.
    """

    def __init__(self, argv: Sequence[str], config: SeticoreConfig, progress: Progress) -> None:
        self.said_short = False
        self.log = bytearray()
        self._limit = config.log_bytes
        self._bands = config.num_bands
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._rest = b""
        # It ends when we do: whoever kills the search must not leave a program on the device.
        tied = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(int(signal.SIGKILL))]
        self._process = subprocess.Popen(
            [*tied, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        progress(STEP, 0, self._bands)

    @property
    def status(self) -> int:
        """The exit status."""
        return int(self._process.wait())

    def last_words(self) -> str:
        """The last line it has said."""
        return self._lines[-1] if self._lines else "it said nothing"

    def wait(self, deadline_s: float) -> bool:
        """Read its output until it has ended; True when it had to be ended."""
        overdue = not self._read_until(time.monotonic() + deadline_s)
        if overdue:
            self._process.terminate()
            if not self._read_until(time.monotonic() + GRACE_S):
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._take(b"\n")
        if not overdue and self.status == 0:
            self._progress(STEP, self._bands, self._bands)
        return overdue

    def _read_until(self, end: float) -> bool:
        """Read; True when the process has ended and everything it said is read."""
        assert self._process.stdout is not None
        pipe, ended = self._process.stdout.fileno(), os.pidfd_open(self._process.pid)
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(ended, select.POLLIN)
        try:
            while (left := end - time.monotonic()) > 0:
                ready = {number for number, _ in poll.poll(left * 1000)}
                if pipe in ready:
                    data = os.read(pipe, CHUNK)
                    if data:
                        self._take(data)
                        continue
                    # A process that closed its output is waited for all the same.
                    poll.unregister(pipe)
                if ended in ready:
                    return True
            return False
        finally:
            os.close(ended)

    def _take(self, data: bytes) -> None:
        self.log += data[: max(0, self._limit - len(self.log))]
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:LONGEST_LINE]
        for line in lines:
            text = line[:LONGEST_LINE].decode("utf-8", "replace").strip()
            if not text:
                continue
            self._lines.append(text)
            self.said_short |= _TOO_SHORT in text
            word = text.removeprefix(_BAND).rstrip(".")
            if text.startswith(_BAND) and word.isascii() and word.isdigit() and int(word) < self._bands:
                self._progress(STEP, int(word), self._bands)


def _counted(private: Path, stem: str, said_short: bool) -> tuple[int | None, int]:
    """Hits and stamps of one recording; no number of hits when it was called too short."""
    hits, stamps = private / f"{stem}.hits", private / f"{stem}.stamps"
    if not hits.exists():
        if said_short:
            return None, 0
        raise SearchFailed(Outcome.GARBAGE, f"seticore ended well, and there is no {hits.name}")
    try:
        return count_messages(hits), count_messages(stamps) if stamps.exists() else 0
    except Refused as refusal:
        raise SearchFailed(Outcome.GARBAGE, f"seticore ended well, but {refusal}") from refusal


def _published(private: Path, output: Path) -> list[Path]:
    """Move what was written to where products belong, each file whole."""
    moved = []
    for path in sorted(item for item in private.rglob("*") if item.is_file() and item.suffix != ".tmp"):
        target = output / path.relative_to(private)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(path, target)
        moved.append(target)
    return moved
