"""The stream of an instance: a thread that takes blocks from reception to disk and obeys between two blocks."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import numpy.typing as npt

from socs_bl.capture.block import arrange
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Plan, RecordingEnded, RecordingStarted, StreamStalled, Target, TimestampsWentBack
from socs_bl.capture.receive import Heaps, Received, Receiver
from socs_bl.capture.recording import Recording
from socs_bl.core.errors import Lost, Retry
from socs_bl.core.event import Event

TICK_SECONDS = 0.5
WENT_BACK_HEAPS = 16  # late in a row, without any in time, before time is believed to have gone back


@dataclass(frozen=True)
class Counters:
    """What the stream has done.

    Attributes
    ----------
    pktidx : int
        Highest packet index seen, -1 before the first.
    receiving : bool
        Whether the last block had any heap in it.
    heaps : Heaps
        Since the groups were joined; missing ones from the second block on.
    blocks : int
        Blocks received since then.
    recorded_blocks : int
        Blocks written since then.
    recorded_missing : int
        Heaps missing from those.
    recorded_bytes : int
        Bytes of samples written.
    path : str
        File of the open recording.
    """

    pktidx: int = -1
    receiving: bool = False
    heaps: Heaps = field(default_factory=Heaps)
    blocks: int = 0
    recorded_blocks: int = 0
    recorded_missing: int = 0
    recorded_bytes: int = 0
    path: str = ""


class CaptureStream:
    """Receives a target and records plans, in a thread of its own.

    Parameters
    ----------
    config : CaptureConfig
        Interface, memory, root directory.
    on_event : Callable[[Event], None]
        Told, in the stream's thread, what happened: `RecordingStarted`, `RecordingEnded`, `StreamStalled`,
        `TimestampsWentBack`.
    """

    def __init__(self, config: CaptureConfig, on_event: Callable[[Event], None]) -> None:
        self._config = config
        self._on_event = on_event
        self._commands: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._receiver: Receiver | None = None
        self._out: npt.NDArray[np.int8] | None = None
        self._plan: Plan | None = None
        self._recording: Recording | None = None
        self._ended_start = 0
        self._next_block = -1
        self._last_block = 0.0
        self._stalled = False
        self._late = 0
        self._went_back = False
        self._lock = threading.Lock()
        self._counters = Counters()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="capture-stream", daemon=True)

    # -- called from other threads --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Close an open recording, leave the groups, end the thread. True when it ended in time."""
        if not self._thread.is_alive():
            return True
        self._submit(self._stop)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        os.close(self._wake_read)
        os.close(self._wake_write)
        return True

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def join(self, target: Target) -> Future[None]:
        """Receive `target`; done at once when it is received already. Fails with Retry when the sockets cannot be made."""
        return self._submit(lambda: self._join(target))

    def leave(self) -> Future[None]:
        """Close an open recording and receive nothing."""
        return self._submit(self._leave)

    def arm(self, plan: Plan) -> Future[None]:
        """From the next block on record `plan`. An open recording of the same start only gets the new stop."""
        return self._submit(lambda: self._arm(plan))

    def disarm(self) -> Future[None]:
        """Close an open recording and record nothing from the next block on."""
        return self._submit(self._disarm)

    def reset_counters(self) -> Future[None]:
        """Count from zero; the kinds that spead2 counts go on until the groups are left."""
        return self._submit(self._reset)

    def counters(self) -> Counters:
        """What has been counted so far."""
        with self._lock:
            counters, receiver = self._counters, self._receiver
            if receiver is None:
                return counters
            known, own = receiver.heaps(), counters.heaps
            antennas = {**own.antennas, **known.antennas}
            heaps = replace(known, received=own.received, missing=own.missing, antennas=antennas)
            return replace(counters, heaps=heaps, pktidx=receiver.newest_packet)

    def _submit(self, action: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        self._commands.put((action, done))
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wake_write, b"\0")
        return done

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._obey()
            receiver = self._receiver
            if receiver is None:
                self._wait(None, TICK_SECONDS)
                continue
            block = receiver.get(0)
            if block is not None:
                self._take(receiver, block)
                receiver.release(block)
            else:
                self._check_stall()
                self._check_time(receiver)
                self._wait(receiver, TICK_SECONDS)

    def _wait(self, receiver: Receiver | None, timeout: float) -> None:
        """Sleep until a command or a block comes."""
        waiting = select.poll()
        waiting.register(self._wake_read, select.POLLIN)
        if receiver is not None:
            waiting.register(receiver.fileno(), select.POLLIN)
        waiting.poll(timeout * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _obey(self) -> None:
        """Carry out the commands that have come in."""
        while True:
            try:
                action, done = self._commands.get_nowait()
            except queue.Empty:
                return
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whoever gave the command gets whatever it raised
                done.set_exception(error)
            else:
                done.set_result(None)

    def _take(self, receiver: Receiver, block: Received) -> None:
        """Count a block and record it when the plan says so."""
        self._last_block, self._stalled = time.monotonic(), False
        missing = int(block.present.size - np.count_nonzero(block.present))
        begun = self._next_block >= 0
        if not begun and missing == block.present.size:
            return  # filled in by spead2 before the first heap of all
        piperblk = receiver.target.piperblk
        gap = (block.pktidx - self._next_block) // piperblk if begun else 0
        self._next_block = block.pktidx + piperblk
        # The groups were joined somewhere in the first block: what came before that is not missing.
        lost = np.count_nonzero(~block.present, axis=(0, 2)) + gap * piperblk * block.present.shape[2]
        self._count(block.present.size - missing, lost if begun else np.zeros_like(lost), missing < block.present.size)
        self._late = receiver.late
        self._record(receiver, block, gap)

    def _record(self, receiver: Receiver, block: Received, gap: int) -> None:
        """Write a block if it is in the window; begin before the first and end after the last of the window."""
        plan = self._plan
        if plan is None:
            return
        window = plan.window
        if self._recording is not None:
            self._fill_gap(receiver, block.pktidx, gap)
        if block.pktidx >= window.stop:
            self._end()
        elif block.pktidx >= window.start:
            assert self._out is not None
            if self._recording is None:
                self._begin(plan, receiver.target, block.pktidx)
            lost = arrange(block.data, block.present, self._out)
            if self._write(block.pktidx, lost) and block.pktidx + receiver.target.piperblk >= window.stop:
                self._end()

    def _fill_gap(self, receiver: Receiver, until: int, gap: int) -> None:
        """Zeros in place of whole blocks that did not come, so that time in the file has no holes."""
        assert self._out is not None and self._plan is not None
        piperblk, heaps = receiver.target.piperblk, receiver.target.piperblk * receiver.target.geometry.heaps_per_time
        self._out[...] = 0
        for pktidx in range(until - gap * piperblk, min(until, self._plan.window.stop), piperblk):
            if self._recording is None or not self._write(pktidx, heaps):
                return

    def _begin(self, plan: Plan, target: Target, pktidx: int) -> None:
        self._recording = Recording(plan, target.geometry, self._config.root, pktidx, self._config.blocks_per_file)
        # The event follows the first write, so that the path it names exists.

    def _write(self, pktidx: int, missing: int) -> bool:
        """Append the arranged block; False when that failed and the recording is over."""
        recording = self._recording
        assert recording is not None and self._out is not None
        try:
            recording.write(pktidx, self._out, missing)
        except Lost as error:
            self._end(str(error))
            return False
        if recording.blocks == 1:
            self._on_event(RecordingStarted(start=recording.plan.window.start, pktidx=pktidx, path=str(recording.path)))
        with self._lock:
            self._counters = replace(
                self._counters,
                recorded_blocks=self._counters.recorded_blocks + 1,
                recorded_missing=self._counters.recorded_missing + missing,
                recorded_bytes=self._counters.recorded_bytes + self._out.nbytes,
                path=str(recording.path),
            )
        return True

    def _end(self, fault: str = "") -> None:
        """Close the recording, if one is open, and forget the plan."""
        recording, self._recording, self._plan = self._recording, None, None
        if recording is None:
            return
        self._ended_start = recording.plan.window.start
        try:
            recording.close()
        except Lost as error:
            fault = fault or str(error)
        with self._lock:
            self._counters = replace(self._counters, path="")
        self._on_event(
            RecordingEnded(
                start=recording.plan.window.start, blocks=recording.blocks, missing=recording.missing, fault=fault
            )
        )

    def _check_stall(self) -> None:
        """Report once that an open recording gets nothing any more."""
        silent = time.monotonic() - self._last_block
        if self._recording is not None and not self._stalled and silent > self._config.stall_seconds:
            self._stalled = True
            self._on_event(StreamStalled(seconds=round(silent, 3)))

    def _check_time(self, receiver: Receiver) -> None:
        """Report once that all that comes is older than what was received: time went back, and would stay too old."""
        silent = time.monotonic() - self._last_block
        late = receiver.late - self._late
        if (
            self._next_block >= 0
            and not self._went_back
            and silent > self._config.resync_seconds
            and late >= WENT_BACK_HEAPS
        ):
            self._went_back = True
            self._on_event(TimestampsWentBack(heaps=late))

    # -- commands -------------------------------------------------------------------------------------------------

    def _join(self, target: Target) -> None:
        if self._receiver is not None:
            if self._receiver.target == target:
                return
            self._leave()
        geometry = target.geometry
        shape = (geometry.nants, geometry.nstrm, geometry.hnchan, target.piperblk, -1)
        self._out = np.zeros(target.block_bytes, np.int8).reshape(shape)
        self._next_block, self._ended_start = -1, 0
        self._late, self._went_back = 0, False
        try:
            receiver = Receiver(target, self._config)
        except (OSError, RuntimeError) as error:
            raise Retry(
                f"cannot join {target.groups[0]}+{len(target.groups) - 1} port {target.port} on interface"
                f" {self._config.interface}: {error}; is the interface up?"
            ) from error
        with self._lock:
            self._receiver, self._counters = receiver, Counters()

    def _leave(self) -> None:
        self._end()
        receiver = self._receiver
        if receiver is None:
            return
        final = self.counters()
        with self._lock:
            self._receiver = None
            self._counters = replace(final, pktidx=-1, receiving=False)
        receiver.stop()
        self._out = None

    def _arm(self, plan: Plan) -> None:
        if self._recording is not None:
            if self._recording.plan.window.start != plan.window.start:
                self._end()
            else:
                # The open recording keeps its names and cards; only its end may move.
                plan = self._recording.plan = msgspec.structs.replace(self._recording.plan, window=plan.window)
        # The end of a window and an order to move it may cross; a window that is over stays over.
        self._plan = None if plan.window.start == self._ended_start else plan

    def _disarm(self) -> None:
        self._end()

    def _reset(self) -> None:
        with self._lock:
            self._counters = Counters(receiving=self._counters.receiving, path=self._counters.path)

    def _stop(self) -> None:
        self._leave()
        self._stopping = True

    def _count(self, received: int, missing: npt.NDArray[np.intp], receiving: bool) -> None:
        """Count heaps received, and missing ones by antenna."""
        with self._lock:
            counters = self._counters
            before = counters.heaps.antennas.get("missing", [0] * len(missing))
            heaps = replace(
                counters.heaps,
                received=counters.heaps.received + received,
                missing=counters.heaps.missing + int(missing.sum()),
                antennas={"missing": (np.array(before) + missing).tolist()},
            )
            self._counters = replace(counters, heaps=heaps, blocks=counters.blocks + 1, receiving=receiving)
