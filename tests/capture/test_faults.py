"""What F-engines and networks do wrong, drawn from a seed, against what a recording counts and holds: exactly."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from socs_bl.capture import guppi
from socs_bl.capture.cards import cards_of
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Plan, RecordingEnded, RecordingStarted, Target, TimestampsWentBack, Window
from socs_bl.capture.stream import CaptureStream
from socs_bl.core.event import Event
from socs_bl.services.process import free_port
from socs_bl.simulators.faults import Fault
from socs_bl.simulators.fengine import FEngineConfig, FEngines
from tests.capture.test_end_to_end import GEOMETRY, PIPERBLK
from tests.harness import disk

pytestmark = [pytest.mark.live, pytest.mark.network]
TIMEOUT = 60.0
PORT = free_port()
TARGET = Target(
    groups=tuple(f"239.192.41.{number}" for number in range(4)), port=PORT, geometry=GEOMETRY, piperblk=PIPERBLK
)
FIRST, START, BLOCKS = 200, 208, 8
STOP = START + BLOCKS * PIPERBLK
INSTANCE = slice(4, 8)  # streams of the F-engines that the instance receives


class World:
    """A stream that has joined, and F-engines with faults that send when told."""

    def __init__(self, root: Path, **config: object) -> None:
        self.root = root
        self.events: queue.Queue[Event] = queue.Queue()
        self.stream = CaptureStream(CaptureConfig.model_validate({"root": root, **config}), self.events.put)
        self.stream.start()
        self.stream.join(TARGET).result(TIMEOUT)
        self.engines: FEngines | None = None

    def engine(self, **faults: object) -> FEngines:
        """F-engines; the faults begin with the recording, so that the heaps by which a stream is believed are good."""
        config = {"sync_time": 0, "first_group": "239.192.40.252", "port": PORT, "seed": 1}
        limits = {"first": START, "last": STOP - 1, "seed": 11}
        self.engines = FEngines(FEngineConfig.model_validate({**config, "faults": {**limits, **faults}}))
        return self.engines

    def record(self, **faults: object) -> FEngines:
        """Record a window with faults in it, and wait for its end."""
        engines = self.engine(**faults)
        self.arm(START, BLOCKS)
        for pktidx in range(FIRST, STOP + 3 * PIPERBLK):
            engines.send(pktidx)
        assert isinstance(self.event(), RecordingStarted)
        return engines

    def arm(self, start: int, blocks: int, directory: str = "/buf0/x") -> None:
        window = Window(start, start + blocks * PIPERBLK)
        cards = cards_of({}, TARGET, "blpn64/0")
        self.stream.arm(Plan(window=window, directory=directory, source="X", scan=1, cards=cards)).result(TIMEOUT)

    def event(self) -> Event:
        return self.events.get(timeout=TIMEOUT)

    def samples(self, directory: str = "buf0/x") -> npt.NDArray[np.int8]:
        """What was written: (packet indices, antennas, streams, channels, bytes)."""
        (files,) = guppi.find_recordings(self.root / directory).values()
        blocks = [block.data.reshape(4, 4, 16, PIPERBLK, -1) for block in guppi.iter_blocks(files)]
        return np.concatenate([block.transpose(3, 0, 1, 2, 4) for block in blocks])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A stream that is stopped after the test."""
    made = World(tmp_path, resync_seconds=0.5)
    yield made
    assert made.stream.stop()
    made.engines = None  # its sockets with it


def sent(engines: FEngines) -> npt.NDArray[np.int8]:
    """The samples of the window as they were before anything went wrong, in the order of `World.samples`."""
    sky = engines.config.sky()
    heaps = [sky.samples(pktidx)[:, 64:] for pktidx in range(FIRST, STOP)][START - FIRST :]
    return np.array(heaps).reshape(STOP - START, 4, 4, 16, -1)


def faults_of(engines: FEngines) -> npt.NDArray[np.int8]:
    """What was drawn for the instance's heaps in the window: (packet indices, antennas, streams)."""
    return np.array([engines.config.faults.of(pktidx, 4, 8)[:, INSTANCE] for pktidx in range(START, STOP)])


def test_every_fault_is_counted_and_zeroed_exactly(world: World) -> None:
    """Dropped, stalled and wrongly stamped heaps are zeros and are counted, antenna by antenna and kind by kind;
    duplicates and reordered heaps change nothing in the samples. All other samples are those sent."""
    engines = world.record(
        dropped=0.03, duplicated=0.05, reordered=0.05, wrong_timestamps=0.06,
        stalls=[{"antenna": 2, "first": START + 5, "last": START + 9}],
    )  # fmt: skip
    drawn = faults_of(engines)
    wrong = np.isin(drawn, (Fault.MISALIGNED, Fault.FUTURE, Fault.PAST))
    absent = np.isin(drawn, (Fault.DROPPED, Fault.STALLED)) | wrong
    assert all((drawn == fault).any() for fault in Fault), "each fault happens"
    assert world.event() == RecordingEnded(start=START, blocks=BLOCKS, missing=int(absent.sum()))
    np.testing.assert_array_equal(world.samples(), np.where(absent[..., None, None], 0, sent(engines)))

    heaps = world.stream.counters().heaps
    by_antenna = {name: mask.sum(axis=(0, 2)).tolist() for name, mask in (
        ("missing", absent), ("wrong_timestamp", wrong), ("duplicate", drawn == Fault.DUPLICATED)
    )}  # fmt: skip
    assert heaps.antennas == by_antenna and heaps.missing == absent.sum()
    warming_up = 3 * 4  # heaps of each stream before it is believed
    assert {kind: count for kind, count in heaps.rejected.items() if count} == {
        "bad_timestamp": (drawn == Fault.MISALIGNED).sum(),
        "unconfirmed": (drawn == Fault.FUTURE).sum() + warming_up,
        "duplicate": (drawn == Fault.DUPLICATED).sum(),
    }
    assert heaps.late == (drawn == Fault.PAST).sum() and heaps.incomplete == 0
    assert heaps.last_wrong["antenna"] in range(4) and heaps.last_wrong["timestamp"] != 0


def test_reordered_and_repeated_heaps_change_nothing(world: World) -> None:
    """Nearly half of all heaps repeated, and nearly half come later: every sample is in its place, none is missing."""
    engines = world.record(duplicated=0.45, reordered=0.45, reorder_depth=3)
    assert world.event() == RecordingEnded(start=START, blocks=BLOCKS, missing=0)
    np.testing.assert_array_equal(world.samples(), sent(engines))


def test_a_clock_that_is_wrong_harms_its_antenna_only(world: World) -> None:
    """A fifth of all heaps have wrong timestamps, a third of those far in the future: no jump in time is believed."""
    engines = world.record(wrong_timestamps=0.2, seed=3)
    drawn = faults_of(engines)
    assert world.event() == RecordingEnded(start=START, blocks=BLOCKS, missing=int((drawn != Fault.NONE).sum()))
    assert world.stream.counters().pktidx == STOP + 3 * PIPERBLK - 1
    assert world.stream.counters().heaps.antennas["wrong_timestamp"] == (drawn != 0).sum(axis=(0, 2)).tolist()


def test_time_that_goes_back_is_followed(world: World) -> None:
    """F-engines that begin to count anew are reported once, not late for ever; after joining again all is received."""
    engines = world.engine()
    world.arm(START, 1000)
    for pktidx in range(FIRST, FIRST + 32):
        engines.send(pktidx)
    assert isinstance(world.event(), RecordingStarted)
    event = None
    for pktidx in range(16, 2000):
        engines.send(pktidx % 64)
        with contextlib.suppress(queue.Empty):
            event = world.events.get(timeout=0.02)
            break
    assert isinstance(event, TimestampsWentBack) and event.heaps >= 16
    world.stream.leave().result(TIMEOUT)
    assert isinstance(world.event(), RecordingEnded)
    world.stream.join(TARGET).result(TIMEOUT)
    world.arm(24, 4, "/buf0/y")
    for pktidx in range(16, 56):
        engines.send(pktidx)
    assert isinstance(world.event(), RecordingStarted)
    assert world.event() == RecordingEnded(start=24, blocks=4, missing=0)
    assert world.stream.counters().heaps.late == 0 and world.samples("buf0/y").any(axis=(3, 4)).all()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3.5 blocks."""
    with disk.tiny_disk(tmp_path / "tiny", int(3.5 * TARGET.block_bytes)) as place:
        yield place


def test_a_disk_that_fills_up_ends_the_recording_cleanly(tiny_disk: Path) -> None:
    """On a real full file system: whole blocks and no more, the reason says so, and once there is room it records again."""
    world = World(tiny_disk)
    try:
        engines = world.record()
        ended = world.event()
        assert isinstance(ended, RecordingEnded)
        assert ended.blocks == 3 and "disk full: block 3 (PKTIDX 220)" in ended.fault
        assert world.samples().shape[0] == 3 * PIPERBLK
        np.testing.assert_array_equal(world.samples(), sent(engines)[: 3 * PIPERBLK])
        (files,) = guppi.find_recordings(tiny_disk / "buf0/x").values()
        headers = [block.header for block in guppi.iter_blocks(files)]
        assert files[0].stat().st_size == sum(header.nbytes + header.integer("BLOCSIZE") for header in headers)
        files[0].unlink()
        start = STOP + 4 * PIPERBLK
        world.arm(start, 2, "/buf0/y")
        for pktidx in range(STOP + 3 * PIPERBLK, start + 5 * PIPERBLK):
            engines.send(pktidx)
        assert isinstance(world.event(), RecordingStarted)
        assert world.event() == RecordingEnded(start=start, blocks=2, missing=0)
    finally:
        assert world.stream.stop()
        world.engines = None


@pytest.mark.parametrize(
    "module", ["socs_bl.agents.instance_recorder.agent", "socs_bl.capture.stream", "socs_bl.simulators.fengine"]
)
def test_a_missing_spead2_is_a_sentence(module: str) -> None:
    """Without the extra the import says what it is needed for and how to install it."""
    program = f"import sys; sys.modules['spead2'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1 and "needs spead2; install it with: pip install 'socs_bl[spead]'" in done.stderr
