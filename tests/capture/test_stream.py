"""The stream between reception and disk: gaps, failing disks, silence, orders in between."""

from __future__ import annotations

import queue
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from socs_bl.capture import guppi
from socs_bl.capture.cards import cards_of
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Plan, RecordingEnded, RecordingStarted, StreamStalled, Target, Window
from socs_bl.capture.recording import Recording
from socs_bl.capture.stream import CaptureStream
from socs_bl.core.errors import Lost, Retry
from socs_bl.core.event import Event
from socs_bl.services.process import free_port
from socs_bl.simulators.fengine import FEngineConfig, FEngines
from tests.capture.test_end_to_end import GEOMETRY, PIPERBLK

TIMEOUT = 30.0
# A port of this run's own: multicast on loopback is heard by every process of the machine.
PORT = free_port()
FOUR = tuple(f"239.192.81.{number}" for number in range(4))
TARGET = Target(groups=FOUR, port=PORT, geometry=GEOMETRY, piperblk=PIPERBLK)
HEAPS = PIPERBLK * 16


def plan(start: int, blocks: int, directory: str = "/buf0/x") -> Plan:
    """A plan for `blocks` blocks."""
    window = Window(start, start + blocks * PIPERBLK)
    return Plan(window=window, directory=directory, source="X", scan=1, cards=cards_of({}, TARGET, "blpn64/0"))


class World:
    """A stream that has joined, and F-engines that send when told."""

    def __init__(self, root: Path, **config: object) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.stream = CaptureStream(CaptureConfig.model_validate({"root": root, **config}), self.events.put)
        self.stream.start()
        self.stream.join(TARGET).result(TIMEOUT)
        # The instance's band is the upper half of the F-engines'.
        self.engines = FEngines(
            FEngineConfig(sync_time=0, first_group="239.192.80.252", n_channels=128, n_groups=8, port=PORT, seed=1)
        )

    def send(self, first: int, last: int) -> None:
        for pktidx in range(first, last):
            self.engines.send(pktidx)

    def event(self) -> Event:
        return self.events.get(timeout=TIMEOUT)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A stream that is stopped after the test."""
    made = World(tmp_path, stall_seconds=0.7)
    yield made
    assert made.stream.stop()
    del made.engines


def blocks_of(root: Path, directory: str = "buf0/x") -> list[guppi.Block]:
    """The blocks of the only recording in a directory."""
    (files,) = guppi.find_recordings(root / directory).values()
    return list(guppi.iter_blocks(files))


@pytest.mark.live
@pytest.mark.network
def test_whole_blocks_that_do_not_come_are_zeros(world: World, tmp_path: Path) -> None:
    """A silence of several blocks in a recording leaves no hole in time: zeros, all counted, nothing else missing."""
    world.stream.arm(plan(16, 12)).result(TIMEOUT)
    world.send(8, 32)
    world.send(48, 80)
    assert isinstance(world.event(), RecordingStarted)
    ended = world.event()
    blocks = blocks_of(tmp_path)
    assert [block.header.integer("PKTIDX") for block in blocks] == list(range(16, 64, 4))
    empty = [block.header.integer("PKTIDX") for block in blocks if not block.data.any()]
    assert empty == [32, 36, 40, 44]
    assert ended == RecordingEnded(start=16, blocks=12, missing=4 * HEAPS)
    # Block 8 is the first: the heaps before its streams were believed are not missing.
    assert world.stream.counters().heaps.missing == 4 * HEAPS


@pytest.mark.live
@pytest.mark.network
def test_orders_between_blocks(world: World, tmp_path: Path) -> None:
    """A shorter stop ends an open recording there; disarming ends it at once; a window that is over stays over."""
    world.stream.arm(plan(16, 1000)).result(TIMEOUT)
    world.send(8, 32)
    assert isinstance(world.event(), RecordingStarted)
    world.stream.arm(plan(16, 6, "/elsewhere")).result(TIMEOUT)
    world.send(32, 60)
    assert world.event() == RecordingEnded(start=16, blocks=6, missing=0)
    assert not (tmp_path / "elsewhere").exists(), "an open recording does not move"
    world.stream.arm(plan(16, 1000, "/again")).result(TIMEOUT)
    world.send(60, 72)
    world.stream.arm(plan(72, 1000, "/next")).result(TIMEOUT)
    world.send(72, 92)
    assert isinstance(world.event(), RecordingStarted)
    world.stream.disarm().result(TIMEOUT)
    ended = world.event()
    assert isinstance(ended, RecordingEnded) and ended.start == 72 and ended.blocks >= 1
    assert not (tmp_path / "again").exists()
    assert len(blocks_of(tmp_path, "next")) == ended.blocks


@pytest.mark.live
@pytest.mark.network
def test_silence_in_a_recording_is_reported_once(world: World) -> None:
    """When no block comes any more the stream says so; it does not decide what to do."""
    world.stream.arm(plan(16, 1000)).result(TIMEOUT)
    world.send(8, 32)
    assert isinstance(world.event(), RecordingStarted)
    stalled = world.event()
    assert isinstance(stalled, StreamStalled) and stalled.seconds >= 0.7
    world.stream.leave().result(TIMEOUT)
    ended = world.event()
    assert isinstance(ended, RecordingEnded) and ended.fault == ""
    assert world.events.empty()


@pytest.mark.live
@pytest.mark.network
def test_a_failing_disk_ends_the_recording_only(world: World, tmp_path: Path) -> None:
    """A directory that cannot be made ends the recording with the reason; reception goes on and so does the next."""
    (tmp_path / "buf0").write_text("in the way")
    world.stream.arm(plan(16, 4)).result(TIMEOUT)
    world.send(8, 40)
    ended = world.event()
    assert isinstance(ended, RecordingEnded) and ended.blocks == 0 and "buf0" in ended.fault
    world.stream.arm(plan(48, 4, "/good")).result(TIMEOUT)
    world.send(40, 80)
    assert isinstance(world.event(), RecordingStarted)
    assert world.event() == RecordingEnded(start=48, blocks=4, missing=0)


@pytest.mark.live
@pytest.mark.network
def test_groups_that_cannot_be_joined_are_retried_by_the_caller(tmp_path: Path) -> None:
    """An interface this machine does not have gives Retry with the address; the stream lives on."""
    stream = CaptureStream(CaptureConfig(root=tmp_path, interface="203.0.113.5"), lambda event: None)
    stream.start()
    try:
        with pytest.raises(Retry, match=r"203\.0\.113\.5"):
            stream.join(TARGET).result(TIMEOUT)
        stream.leave().result(TIMEOUT)
        assert stream.alive
    finally:
        assert stream.stop()


def test_a_full_disk_leaves_whole_blocks(tmp_path: Path) -> None:
    """When a block does not fit, the file ends with the block before, and the error says which is lost."""
    recording = Recording(plan(16, 100), GEOMETRY, tmp_path, 16, 128)
    samples = np.ones(TARGET.block_bytes, np.int8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # A limit on file sizes stands for the limit of a disk: the write is cut short, then refused.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * TARGET.block_bytes // 2, hard))
    try:
        recording.write(16, samples, 0)
        recording.write(20, samples, 3)
        with pytest.raises(Lost, match=r"block 2 \(PKTIDX 24\) of .* is lost"):
            recording.write(24, samples, 0)
        recording.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [block.header.integer("NDROP") for block in blocks_of(tmp_path)] == [0, 3]
    assert (recording.blocks, recording.missing) == (2, 3)


def test_files_follow_each_other_and_nothing_is_overwritten(tmp_path: Path) -> None:
    """After `blocks_per_file` blocks the next file begins; an existing file of the same name is an error."""
    samples = np.ones(TARGET.block_bytes, np.int8)
    for attempt in range(2):
        recording = Recording(plan(16, 100), GEOMETRY, tmp_path, 16, 2)
        if attempt:
            with pytest.raises(Lost, match="File exists"):
                recording.write(16, samples, 0)
            continue
        for number in range(5):
            recording.write(16 + 4 * number, samples, 0)
        recording.close()
    (files,) = guppi.find_recordings(tmp_path / "buf0/x").values()
    assert [path.name[-8:] for path in files] == ["0000.raw", "0001.raw", "0002.raw"]
    assert [block.header.integer("PKTIDX") for block in guppi.iter_blocks(files)] == [16, 20, 24, 28, 32]
