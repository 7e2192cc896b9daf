"""Frames of the simulated baseline boards: their fields, their times, what goes wrong on request, and the process."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator import wire
from socs_bl.services.process import free_port
from socs_bl.simulators.boards import Boards, BoardsConfig, Command, Restart, Sender, TimedField
from socs_bl.simulators.boards_config import Correlation, SourceConfig
from socs_bl.simulators.boards_faults import BoardFault, BoardFaults
from socs_bl.simulators.boards_process import BoardsProcess
from socs_bl.simulators.lags import SkyField

STATIONS = [
    {"name": "ea03", "station": 3, "pad": "N03", "delay_ns": 1.0},
    {"name": "ea12", "station": 12, "pad": "E05", "delay_ns": 0.0},
    {"name": "ea07", "station": 7, "pad": "W06", "delay_ns": -1.0},
]
BASEBANDS = [
    {"subbands": [{"number": 1, "subband": 3, "channels": 256, "recirculation": 2, "bins": 2}]},
    {
        "name": "BD_8BIT", "right": 2, "left": 3, "edge_hz": 2100e6, "sideband": "L",
        "subbands": [{"number": 1, "subband": 0, "channels": 32, "half": True}],
    },
]  # fmt: skip
NUMBER = 17_952_336_005  # a dump of 100 ms in 2026, half a second after the full one
CHAIN = 3 * 4 + 3 * 3  # products of three baselines and three stations
FRAMES = CHAIN * 2 * 4 + CHAIN  # of one dump


def boards(**changes: object) -> Boards:
    """Boards of three stations and two subbands."""
    config = Correlation.model_validate({"stations": STATIONS, "basebands": BASEBANDS, "boards": 3, **changes})
    return Boards(BoardsConfig(correlation=config, delays_ns=(1.0, -1.0, 0.0)))


def parsed(sent: list[np.ndarray]) -> list[wire.Frame]:
    """All frames of a dump."""
    return [wire.parse_frame(frame.tobytes()) for frames in sent for frame in frames]


def test_every_frame_says_what_it_is() -> None:
    """A dump has each product, bin, block and recirculation block exactly once; the lower station is X; times are UTC."""
    made = boards()
    frames = parsed(made.dump(NUMBER))
    assert len(frames) == made.frames_per_dump == FRAMES
    seen = Counter()
    for frame in frames:
        header = frame.header
        assert frame.time_ns == NUMBER * 100_000_000
        assert (header["seconds"], header["nanoseconds"]) == (1795233600, 500_000_000)
        assert header["sid_x"] <= header["sid_y"] and {header["sid_x"], header["sid_y"]} <= {3, 7, 12}
        assert header["bbid_x"] // 2 == header["bbid_y"] // 2 and header["sbid_x"] == header["sbid_y"]
        assert header["status"] == 0 and header["frame_count"] == NUMBER & 0xFF and header["board"] < 3
        chain = header["sbid_x"] == 3
        assert (header["nlags"], header["nblocks"]) == ((128, 2) if chain else (64, 1))
        index = header["recirculation_x"] - header["recirculation_y"] + (1 if chain else 0)
        first = wire.first_lag(index, header["nblocks"], header["start_block"], header["nlags"])
        assert first in (range(0, 512, 128) if chain else (0,))
        pair = (header["sid_x"], header["bbid_x"], header["sid_y"], header["bbid_y"])
        seen[(*pair, header["sbid_x"], header["bin"], first)] += 1
    assert len(seen) == FRAMES and set(seen.values()) == {1}
    own = {key[:4] for key in seen if key[0] == key[2] == 7 and key[4] == 3}
    assert own == {(7, 0, 7, 0), (7, 0, 7, 1), (7, 1, 7, 1)}
    assert {key[:4] for key in seen if key[0] == 3 and key[2] == 12 and key[4] == 0} == {
        (3, 2, 12, 2), (3, 2, 12, 3), (3, 3, 12, 2), (3, 3, 12, 3)
    }  # fmt: skip


def test_frames_of_a_chain_make_one_set() -> None:
    """Put where their fields say, lags over their valid counts are one smooth correlation with its peak at lag zero."""
    made = boards(draw={"ripple": 0.0})
    frames = [frame for frame in parsed(made.dump(NUMBER)) if frame.header["sbid_x"] == 3]
    lags, counts = np.zeros((512, 2)), np.zeros(512)
    for frame in frames:
        header = frame.header
        if (header["sid_x"], header["sid_y"], header["bbid_x"], header["bbid_y"], header["bin"]) != (7, 7, 0, 0, 1):
            continue
        index = header["recirculation_x"] - header["recirculation_y"] + 1
        first = wire.first_lag(index, header["nblocks"], header["start_block"], 128)
        near, far = header["dv_centre"], header["dv_edge"]
        share = (np.arange(128) if first >= 256 else 128 - np.arange(128)) / 128
        lags[first : first + 128], counts[first : first + 128] = frame.lags, near + (far - near) * share
    assert counts.min() > 0 and np.argmax(counts) == 256
    r = (lags[:, 0] + 1j * lags[:, 1]) / counts
    assert abs(r[256] - 1) < 0.01 and np.argmax(np.abs(r)) == 256
    # A real spectrum has Hermitian lags.
    assert np.abs(r[257:] - r[255:0:-1].conj()).max() < 1e-5


FAULTS = {"lost": 0.1, "duplicated": 0.1, "reordered": 0.1, "corrupted": 0.1, "cut": 0.1, "wrong_clock": 0.1}


def test_faults_happen_as_counted() -> None:
    """Each fault does to frames what it says, the boards count it, and a seed says beforehand which."""
    made, sound = boards(faults={**FAULTS, "seed": 5}), boards()
    first, second = made.dump(NUMBER), made.dump(NUMBER + 1)
    counted = made.counters
    assert all(counted[name] > 0 for name in FAULTS)
    good: Counter[bytes] = Counter()
    bad = Counter()
    for frames in (*first, *second):
        for frame in frames:
            try:
                read = wire.parse_frame(frame.tobytes())
            except Refused as error:
                bad["cut" if "ends at byte" in str(error) else "corrupted"] += 1
            else:
                if abs(read.time_ns - NUMBER * 100_000_000) > 1_000_000_000:
                    assert read.time_ns - NUMBER * 100_000_000 in (3600 * 10**9, 3600 * 10**9 + 100_000_000)
                    bad["wrong_clock"] += 1
                else:
                    good[frame.tobytes()] += 1
    assert bad == {name: counted[name] for name in ("cut", "corrupted", "wrong_clock")}
    assert sum(1 for times in good.values() if times == 2) == counted["duplicated"]
    late = sum(1 for frames in made._held for _ in frames)
    kept = sum(len(frames) for frames in (*first, *second))
    assert kept + late == counted["frames"] == 2 * FRAMES - counted["lost"] + counted["duplicated"]
    wanted = {bytes(frame) for number in (NUMBER, NUMBER + 1) for frames in sound.dump(number) for frame in frames}
    assert set(good) < wanted, "what is sound is what would have been sent"
    found = BoardFaults(**FAULTS, seed=5).of(NUMBER << 8, np.zeros(CHAIN * 8, np.int64))
    assert 0 < (found == BoardFault.LOST).sum() < counted["lost"]


def test_faults_end_and_boards_restart() -> None:
    """Faults last as many dumps as asked; a board that restarts is away, comes back and counts from nothing."""
    made = boards()
    made.dump(NUMBER)
    made.tell(Command(faults=BoardFaults(lost=1.0), dumps=2))
    assert [sum(map(len, made.dump(NUMBER + k))) for k in (1, 2, 3)] == [0, 0, FRAMES]
    made.tell(Command(faults=BoardFaults(silent_boards=(0, 1, 2))))
    assert not parsed(made.dump(NUMBER + 4))
    made.tell(Command(faults=BoardFaults(), restart=Restart(board=1, dumps=2)))
    away = parsed(made.dump(NUMBER + 5))
    assert {frame.header["board"] for frame in away} == {0, 2}
    back = [frame.header for frame in parsed(made.dump(NUMBER + 7))]
    assert {header["frame_count"] for header in back if header["board"] == 1} == {0}
    assert {header["frame_count"] for header in back if header["board"] != 1} == {(NUMBER + 7) & 0xFF}


def test_a_field_begins_at_its_time() -> None:
    """The sky of a scan is in the dumps that start in it, and in no earlier one."""
    made = boards(sefd_jy=1e-3)
    start = (NUMBER + 1) * 0.1
    sky = SkyField(ra_deg=200.0, dec_deg=30.0, sources=(SourceConfig(flux_jy=100.0),))
    made.tell(
        Command(fields=(TimedField(start=start - 1e-6, field=sky), TimedField(start=start + 0.199, field=SkyField())))
    )

    def strength(number: int) -> float:
        frames = [frame for frame in parsed(made.dump(number)) if frame.header["sid_x"] != frame.header["sid_y"]]
        return max(float(np.hypot(*frame.lags.T).max()) / frame.header["dv_centre"] for frame in frames)

    quiet, loud, after = strength(NUMBER), strength(NUMBER + 1), strength(NUMBER + 3)
    assert loud > 0.8 and quiet < 0.1 and after < 0.1


@pytest.mark.network
@pytest.mark.parametrize("mode", ["gso", "mmsg", "plain"])
def test_frames_arrive_whole_by_every_way_of_sending(mode: str) -> None:
    """One datagram holds one frame, whole, however it was handed to the kernel; the clock sets the pace."""
    now = [NUMBER * 0.1 + 0.0001]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.settimeout(20.0)
        made = boards(network={"lag_group": "127.0.0.1", "lag_port": receiver.getsockname()[1], "mode": mode})
        sender, stop = Sender(made), threading.Event()

        def clock() -> float:
            now[0] += 0.11
            if made.counters["dumps"] >= 2:
                stop.set()
            return now[0]

        sender.run(stop, clock)
        sender.close()
        count = made.counters["dumps"] * FRAMES
        times = Counter(wire.parse_frame(receiver.recv(2048)).time_ns for _ in range(count))
    assert set(times.values()) == {FRAMES} and min(times) == (NUMBER + 2) * 100_000_000


def test_what_cannot_be_is_refused() -> None:
    """Chains that do not fit, twins and fractions above one are refused by name."""
    for change, said in (
        ({"basebands": [{"subbands": [{"channels": 4096}]}]}, "64 frames of 128 lags"),
        ({"stations": [STATIONS[0], STATIONS[0]]}, "must be distinct"),
        ({"stations": [{"name": "a", "station": 1, "pad": "X99"}]}, "no pad X99"),
        ({"faults": {"lost": 0.6, "cut": 0.6}}, "add up to 1.2"),
    ):
        with pytest.raises(ValueError, match=said):
            Correlation.model_validate(change)


@pytest.mark.live
def test_the_process_is_told_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boards' process takes commands, counts, ends in order with its counters; its end by itself is an error."""
    process = BoardsProcess(tmp_path)
    with pytest.raises(Retry, match="do not run"):
        process.tell(Command())
    network = {"lag_group": "127.0.0.1", "lag_port": free_port()}
    process.start(Correlation.model_validate({"stations": STATIONS, "dump_factor": 40, "network": network}))
    with pytest.raises(Faulty, match="run already"):
        process.start(Correlation())
    told, done = threading.Event(), threading.Event()
    for _ in range(1500):
        if not told.is_set():
            try:
                process.tell(Command(faults=BoardFaults(lost=0.5)))
                told.set()
            except Retry:
                pass
        if process.report().get("lost", 0) > 0:
            done.set()
            break
        done.wait(0.02)
    assert done.is_set(), (tmp_path / "boards.log").read_text()
    last = process.stop()
    assert last["lost"] > 0 and last["frames"] > 0 and not process.started
    json.loads((tmp_path / "boards.json").read_text())
    monkeypatch.setattr("socs_bl.simulators.boards_process.PROGRAM", (sys.executable, "-c", "raise SystemExit('no')"))
    process.start(Correlation())
    with pytest.raises(Faulty, match="have ended"):
        for _ in range(1500):
            process.report()
            threading.Event().wait(0.02)
    process.kill()
