"""From the simulated F-engines over loopback multicast to GUPPI RAW, and the injected tone found in the files."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from socs_bl.capture import guppi
from socs_bl.capture.cards import cards_of
from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Geometry, Plan, RecordingEnded, RecordingStarted, Target, Window
from socs_bl.capture.stream import CaptureStream
from socs_bl.core.event import Event
from socs_bl.services.process import free_port

pytestmark = [pytest.mark.live, pytest.mark.network]
TIMEOUT = 60.0
# A port of this run's own: multicast on loopback is heard by every process of the machine.
PORT = free_port()
PIPERBLK = 4
BLOCKS = 12
START = 80
GEOMETRY = Geometry(
    nants=4,
    nstrm=4,
    hnchan=16,
    hntime=256,
    hclocks=65536,
    fenchan=128,
    schan=64,
    chan_bw=0.004,
    fecenter=1284.0,
    synctime=0,
)
# Channel 90 of the F-engines is channel 26 of this instance; 700 Hz above its centre at the start of the recording.
TONE_CHANNEL = 90
TONE_OFFSET = 700.0
DRIFT = -3.0


class Run:
    """A stream under test and the events it has reported."""

    def __init__(self, root: Path, sync_time: float, **config: object) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.geometry = Geometry(
            **{**{f: getattr(GEOMETRY, f) for f in GEOMETRY.__struct_fields__}, "synctime": sync_time}
        )
        self.target = Target(
            groups=tuple(f"239.192.77.{4 + n}" for n in range(4)), port=PORT, geometry=self.geometry, piperblk=PIPERBLK
        )
        self.stream = CaptureStream(CaptureConfig(root=root, **config), self.events.put)
        self.stream.start()
        self.stream.join(self.target).result(TIMEOUT)

    def plan(self, start: int = START, blocks: int = BLOCKS) -> Plan:
        keys = {"OBSID": "MeerKAT:array_1:20261121T000000Z", "SRC_NAME": "TEST", "RA_STR": "1:2:3"}
        return Plan(
            window=Window(start, start + blocks * PIPERBLK),
            directory="/buf0/run/Unknown/GUPPI",
            source="TEST",
            scan=1,
            cards=cards_of(keys, self.target, "blpn64/0"),
        )

    def next_event(self) -> Event:
        return self.events.get(timeout=TIMEOUT)


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    """Streams to be stopped after the test."""
    made: list[Run] = []
    yield made
    for run in made:
        assert run.stream.stop()


def send(tmp_path: Path, sync_time: float, **changes: object) -> subprocess.Popen[str]:
    """Start the F-engine simulator as a process."""
    config = {
        "name": "array_1",
        "sync_time": sync_time,
        "first_group": "239.192.77.0",
        "port": PORT,
        "seed": 3,
        "first_pktidx": START - 2 * PIPERBLK,
        "tones": [
            {
                "frequency_hz": 1284e6 + (TONE_CHANNEL - 64) * 4000.0 + TONE_OFFSET,
                "drift_hz_s": DRIFT,
                "power": 0.05,
                "reference": sync_time + START * GEOMETRY.heap_seconds,
            }
        ],
        **changes,
    }
    path = tmp_path / "fengine.json"
    path.write_text(json.dumps(config))
    return subprocess.Popen(
        [sys.executable, "-m", "socs_bl.simulators.fengine", "--config", str(path)], stdout=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, int]:
    """SIGTERM; what the simulator says it has sent."""
    process.terminate()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    return json.loads(output)


def near_sync_time() -> float:
    """A synchronisation time such that the simulator's first packet index is a little ahead."""
    return float(int(time.time() - (START - 2 * PIPERBLK) * GEOMETRY.heap_seconds) + 6)


def test_tone_is_found_where_it_was_injected(tmp_path: Path, runs: list[Run]) -> None:
    """Every heap arrives, and the spectrum of the files has its peak at the injected frequency and drift."""
    sync_time = near_sync_time()
    run = Run(tmp_path, sync_time, blocks_per_file=8)
    runs.append(run)
    run.stream.arm(run.plan()).result(TIMEOUT)
    process = send(tmp_path, sync_time)
    try:
        started = run.next_event()
        assert isinstance(started, RecordingStarted) and started.pktidx == START
        assert Path(started.path).exists()
        ended = run.next_event()
    finally:
        summary = finish(process)
    assert ended == RecordingEnded(start=START, blocks=BLOCKS, missing=0)
    assert summary["lost"] == summary["skipped"] == 0
    paths = guppi.find_recordings(tmp_path / "buf0/run/Unknown/GUPPI")
    assert [[path.name[-8:] for path in files] for files in paths.values()] == [["0000.raw", "0001.raw"]]
    blocks = list(guppi.iter_blocks(next(iter(paths.values()))))
    assert [block.header.integer("PKTIDX") for block in blocks] == list(
        range(START, START + BLOCKS * PIPERBLK, PIPERBLK)
    )
    header = blocks[0].header
    seconds = header.integer("STT_SMJD") + header.number("STT_OFFS")
    start = (header.integer("STT_IMJD") - 40587) * 86400 + seconds
    assert start == pytest.approx(sync_time + START * GEOMETRY.heap_seconds, abs=1e-3)

    data = np.concatenate([block.data for block in blocks], axis=2).astype(np.float32)
    voltage = data[..., 0] + 1j * data[..., 1]
    # Undo the drift, then every antenna and polarisation must peak at the same fine channel.
    t = np.arange(voltage.shape[2]) * header.number("TBIN")
    power = np.abs(np.fft.fft(voltage * np.exp(-1j * np.pi * DRIFT * t**2)[:, None], axis=2)) ** 2
    total = power.sum(axis=(0, 3))
    channel, fine = np.unravel_index(np.argmax(total), total.shape)
    fine_frequency = np.fft.fftfreq(len(t), header.number("TBIN"))[fine]
    lowest = (header.number("OBSFREQ") - header.number("OBSBW") / 2 + 0.5 * header.number("CHAN_BW")) * 1e6
    found = lowest + channel * header.number("CHAN_BW") * 1e6 + fine_frequency
    expected = 1284e6 + (TONE_CHANNEL - 64) * 4000.0 + TONE_OFFSET
    assert abs(found - expected) <= 1 / (len(t) * header.number("TBIN"))
    assert total.max() > 30 * np.median(total[channel])
    per_input = power[:, channel, :, :].argmax(axis=1)
    assert (per_input == fine).all()


def test_heaps_that_do_not_come_are_zeroed_and_counted_exactly(tmp_path: Path, runs: list[Run]) -> None:
    """Every 37th heap is not sent: those and no others are zeros, and all counts say how many."""
    sync_time = near_sync_time()
    run = Run(tmp_path, sync_time)
    runs.append(run)
    run.stream.arm(run.plan(blocks=4)).result(TIMEOUT)
    first = START * 4 * 8
    process = send(tmp_path, sync_time, loss={"first": first, "every": 37})
    try:
        assert isinstance(run.next_event(), RecordingStarted)
        ended = run.next_event()
    finally:
        finish(process)
    lost = set()
    for number in range(first, first + 4 * PIPERBLK * 4 * 8, 37):
        packet, rest = divmod(number, 32)
        antenna, stream = divmod(rest, 8)
        if stream >= 4:  # this instance has the upper half of the band
            lost.add((packet, antenna, stream - 4))
    assert isinstance(ended, RecordingEnded) and ended.missing == len(lost) > 0
    zeros = set()
    dropped = 0
    for block in guppi.iter_blocks(sorted((tmp_path / "buf0/run/Unknown/GUPPI").iterdir())):
        dropped += block.header.integer("NDROP")
        heaps = block.data.reshape(4, 4, 16, PIPERBLK, -1)
        for antenna, stream, time_step in zip(*np.nonzero(~heaps.any(axis=(2, 4))), strict=True):
            zeros.add((block.header.integer("PKTIDX") + int(time_step), int(antenna), int(stream)))
    assert zeros == lost
    assert dropped == len(lost) == run.stream.counters().recorded_missing
