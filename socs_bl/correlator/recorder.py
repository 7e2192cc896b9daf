"""Recordings of one pipeline: integrations cut to each scan's window and written by a thread that may be slow.

Only integrations wholly inside ``[start, stop)`` are kept. The first that any writer completes fixes the file's start;
others join it. What the disk does not take in time is dropped as whole integrations, counted, and told; a disk that
refuses ends that recording and no other.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from socs_bl.bdf.scan import EDGE_NS, Scan, ScanAntenna, ScanWindow, unix_ns
from socs_bl.bdf.writer import BdfWriter, Piece, part_path
from socs_bl.core.errors import Faulty, Lost, Refused
from socs_bl.correlator.configuration import Configuration, Subarray, Window
from socs_bl.correlator.file_header import make_header
from socs_bl.correlator.integration import Spectra
from socs_bl.correlator.output import WindowOutput
from socs_bl.correlator.stage import Integration

QUEUED = 4  # integrations of a recording that wait for the disk: what bounds the memory
SILENCE_S = 5.0  # a recording whose stop has passed ends when no dump has come for so long
REMEMBERED = 64  # recordings that a fault ended
STOP, SILENCE, FLUSH, TOLD, FAULT = "stop", "silence", "flush", "told", "fault"  # how a recording ends


@dataclass(eq=False)
class Recording:
    """One that is open.

    Attributes
    ----------
    scan : Scan
    directory : Path
        Creation directory.
    subarray : Subarray
    queued, slow : int
        Integrations handed to the thread, and those dropped because too many wait for it.
    handled, integrations, early : int
        Those the thread has done with, has written, and has left out because they came before the file's start.
    error : str
        Why it ended, when the disk or the file refused.
    told : bool
        Somebody has stopped it, or a dump has come since it was opened.
    """

    scan: Scan
    directory: Path
    subarray: Subarray
    queued: int = 0
    slow: int = 0
    handled: int = 0
    integrations: int = 0
    early: int = 0
    error: str = ""
    told: bool = False
    writer: BdfWriter | None = field(default=None, repr=False)
    first: int = 0

    @property
    def waiting(self) -> int:
        """Integrations in the queue."""
        return self.queued - self.handled

    @property
    def dropped(self) -> int:
        """Integrations that were not written."""
        return self.slow + self.early

    @property
    def stop_ns(self) -> int:
        """End of the window, unix ns; 0: open."""
        return self.scan.stop_ns

    def wants(self, done: Integration) -> bool:
        """Whether an integration lies wholly inside the window."""
        return self.scan.holds(done.start_ns, done.end_ns) and not self.error


@dataclass(frozen=True)
class Done:
    """The end of a recording, as it is reported."""

    uid: str
    integrations: int
    dropped: int
    error: str
    ending: str


@dataclass(frozen=True)
class _Job:
    """For the thread: write an integration's pieces, or (without one) end the recording."""

    recording: Recording
    integration: Integration | None = None
    pieces: Sequence[Piece] = ()
    ending: str = ""


class Recorder:
    """The recordings of a pipeline. All methods are for one thread; the disk has its own.

    Parameters
    ----------
    configuration : Configuration
    outputs : sequence of WindowOutput
        Windows that the pipeline makes.
    tell : callable
        Given severity and text of what people must know; called by `poll`.
    open_writer : callable, optional
        Makes a file's writer.
    """

    def __init__(
        self,
        configuration: Configuration,
        outputs: Sequence[WindowOutput],
        tell: Callable[[str, str], None],
        open_writer: Callable[..., BdfWriter] = BdfWriter.open,
    ) -> None:
        self.recordings: dict[str, Recording] = {}
        self._configuration = configuration
        self._outputs = outputs
        self._tell = tell
        self._open_writer = open_writer
        self._failed: dict[str, Done] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[Recording, Done]] = deque()
        self._crash: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="disk", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether an integration would be dropped now, because the disk is behind."""
        return any(recording.waiting >= QUEUED for recording in self.recordings.values())

    def open(self, scan: Scan, directory: Path) -> Done | None:
        """Record a scan; for one that is open already only a new stop counts.

        Returns
        -------
        Done or None
            When there is nothing to record here, or a fault has ended it before.

        Raises
        ------
        Refused
            When it is not clear which subarray the scan is of.
        """
        known = self.recordings.get(scan.uid)
        if known is not None:
            known.scan = msgspec.structs.replace(known.scan, stop_ns=scan.stop_ns)
            return None
        if scan.uid in self._failed:
            return self._failed[scan.uid]
        subarray = choose_subarray(self._configuration, scan)
        if all(output.subarray != subarray for output in self._outputs):
            return Done(scan.uid, 0, 0, "", STOP)
        self.recordings[scan.uid] = Recording(_completed(scan, self._configuration, subarray), directory, subarray)
        return None

    def stop(self, uid: str, stop_ns: int) -> None:
        """Set the end of a window, unix ns; 0 ends the recording now. A uid that is not known is let pass."""
        recording = self.recordings.get(uid)
        if recording is None:
            return
        recording.told = True
        if stop_ns <= recording.scan.start_ns:
            self._finish(recording, TOLD if not stop_ns else STOP)
        else:
            recording.scan = msgspec.structs.replace(recording.scan, stop_ns=stop_ns)

    def deliver(self, done: Integration, spectra: Callable[[], Sequence[Spectra]]) -> None:
        """Hand an integration to the recordings that want it; `spectra` is asked only if there are any."""
        wanting = [recording for recording in self.recordings.values() if recording.wants(done)]
        found = spectra() if wanting else ()
        pieces: dict[str, list[Piece]] = {}
        for recording in wanting:
            if recording.waiting >= QUEUED:
                if not recording.slow:
                    self._tell("warning", f"{recording.scan.uid}: the disk is too slow, integrations are being dropped")
                recording.slow += 1
                continue
            name = recording.subarray.name
            if name not in pieces:
                outputs = [output for output in self._outputs if output.subarray.name == name]
                pieces[name] = [item.piece(found, done.grid, done.start_ns, done.partial) for item in outputs]
            recording.queued += 1
            self._jobs.put(_Job(recording, done, pieces[name]))
        for recording in list(self.recordings.values()):
            if recording.stop_ns and done.end_ns + done.grid.interval_ns > recording.stop_ns + EDGE_NS:
                self._finish(recording, STOP)

    def passed(self, time_ns: int) -> None:
        """A dump that starts at this time (unix ns) has come: windows that end before it are over."""
        for recording in list(self.recordings.values()):
            recording.told = True
            if recording.stop_ns and recording.stop_ns <= time_ns:
                self._finish(recording, STOP)

    def silent(self, seconds: float, now_ns: int) -> None:
        """No dump has come for so long: windows whose stop has passed by the wall clock (unix ns) too are over."""
        for recording in list(self.recordings.values()):
            over = recording.stop_ns and recording.stop_ns + int(SILENCE_S * 1e9) < now_ns
            if over and recording.told and seconds > SILENCE_S:
                self._finish(recording, SILENCE)

    def end_all(self, ending: str) -> None:
        """End every recording, whatever its window."""
        for recording in list(self.recordings.values()):
            self._finish(recording, ending)

    def poll(self) -> list[Done]:
        """The recordings that have ended since the last call: their files are on disk and let go of."""
        if self._crash is not None:
            raise self._crash
        found = []
        while self._done:
            recording, done = self._done.popleft()
            if self.recordings.get(done.uid) is recording:  # it ended by itself
                del self.recordings[done.uid]
            if done.error:
                self._failed[done.uid] = done
                if len(self._failed) > REMEMBERED:
                    del self._failed[next(iter(self._failed))]
            found.append(done)
        return found

    def close(self) -> list[Done]:
        """End all recordings and the thread; what waits is written first."""
        self.end_all(TOLD)
        self._jobs.put(None)
        self._thread.join()
        return self.poll()

    def _finish(self, recording: Recording, ending: str) -> None:
        if self.recordings.get(recording.scan.uid) is recording:
            del self.recordings[recording.scan.uid]
            self._jobs.put(_Job(recording, ending=ending))

    def _work(self) -> None:
        """The thread."""
        try:
            while (job := self._jobs.get()) is not None:
                self._do(job)
        except Exception as error:  # noqa: BLE001 - a fault of the program: `poll` raises it, so that the process ends
            self._crash = error

    def _do(self, job: _Job) -> None:
        recording, ending = job.recording, job.ending
        if recording.error:  # it has been reported
            recording.handled += job.integration is not None
            return
        try:
            if job.integration is not None:
                self._write(recording, job.integration, job.pieces)
                recording.handled += 1
            elif recording.writer is not None:
                recording.writer.close()
        except (Refused, Faulty, Lost) as error:
            recording.error, ending = str(error), FAULT
            _let_go(recording.writer)
        if ending:
            counts = recording.integrations, recording.dropped, recording.error
            self._done.append((recording, Done(recording.scan.uid, *counts, ending)))

    def _write(self, recording: Recording, done: Integration, pieces: Sequence[Piece]) -> None:
        """Write an integration; the first one of all makes the file, unless its own first dumps are missing."""
        scan = recording.scan
        if recording.writer is None:
            if done.partial and not part_path(recording.directory, scan.uid).exists():
                recording.early += 1
                return
            header = make_header(scan, recording.subarray, done.grid.interval_ns, done.start_ns)
            recording.writer = self._open_writer(recording.directory, header, scan)
            recording.first, _ = done.grid.place(unix_ns(recording.writer.header.start_ns))
        if done.number < recording.first:
            recording.early += 1
            return
        recording.writer.write(done.number - recording.first, pieces)
        recording.integrations += 1


def _let_go(writer: BdfWriter | None) -> None:
    """Close the file of a recording that has failed; that the disk refuses once more is no news."""
    try:
        if writer is not None:
            writer.close()
    except Lost:
        return


def choose_subarray(configuration: Configuration, scan: Scan) -> Subarray:
    """The subarray that a scan is of: by its name, else by the scan's config_id, else the only one there is.

    Raises
    ------
    Refused
        When none of these says, or several are meant.
    """
    subarrays = configuration.subarrays
    if scan.subarray:
        meant = [subarray for subarray in subarrays if subarray.name == scan.subarray]
    else:
        meant = [item for item in subarrays if item.config_id and item.config_id == scan.config_id] or [*subarrays]
    if len(meant) == 1:
        return meant[0]
    names = ", ".join(subarray.name for subarray in subarrays) or "none"
    raise Refused(
        f"{scan.uid}: subarray {scan.subarray!r} with config_id {scan.config_id!r:.80} is not one of configuration "
        f"{configuration.name}; it has {names}"
    )


def middle_frequency(configuration: Configuration, window: Window) -> float:
    """Sky frequency in the middle of a window's channels, Hz; 0: unknown.

    Channel m of the transform lies m widths above the edge of the subband in the baseband, so that the channels' middle
    is half a width below the subband's; on the sky it is above with the lower sideband. Averaging channels keeps it.
    """
    products = {
        item.product for entry in configuration.mappings if entry.window == window.name for item in entry.assignments
    }
    lags = next((product.lags for product in configuration.products if product.name in products), 0)
    if not window.centre or not lags:
        return window.centre
    half = window.bandwidth / lags
    return window.centre + (half if window.sideband == "L" else -half)


def _completed(scan: Scan, configuration: Configuration, subarray: Subarray) -> Scan:
    """The scan with what the file has: frequencies of the windows, and its own antennas, in place of the telescope's."""
    windows = tuple(
        ScanWindow(window.baseband, window.number, middle_frequency(configuration, window), window.bandwidth)
        for window in subarray.ordered_windows()
    )
    known = {antenna.station: antenna for antenna in scan.antennas}
    antennas = tuple(
        known.get(antenna.station, ScanAntenna(antenna.name, antenna.station))
        for antenna in subarray.ordered_antennas()
    )
    return msgspec.structs.replace(scan, windows=windows, antennas=antennas)


def status_of(recordings: dict[str, Recording]) -> dict[str, Any]:
    """What people see of the recordings that are open."""
    return {
        uid: {
            "integrations": item.integrations,
            "dropped": item.dropped,
            "waiting": item.waiting,
            "stop_ns": item.stop_ns,
        }
        for uid, item in recordings.items()
    }
