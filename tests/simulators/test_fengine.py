"""The F-engine simulator: its packets read by an independent decoder, its tones and noise measured."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.services.process import free_port
from socs_bl.simulators.faults import Fault, Faults, Stall
from socs_bl.simulators.fengine import FEngineConfig, FEngines, main
from socs_bl.simulators.signal import NOISE_SIGMA, Sky, Tone, bandpass, gains

GROUP = "239.192.80.0"
# A port of this run's own: multicast on loopback is heard by every process of the machine.
PORT = free_port()
TIMEOUT = 30.0


def decode(data: bytes) -> tuple[dict[int, int], bytes]:
    """Immediate items and payload of a SPEAD-64-48 packet, by the letter of the protocol."""
    magic, version, pointer, address, _, count = struct.unpack(">BBBBHH", data[:8])
    assert (magic, version, pointer, address) == (0x53, 4, 2, 6)
    words = struct.unpack(f">{count}Q", data[8 : 8 + 8 * count])
    items = {(word >> 48) & 0x7FFF: word & ((1 << 48) - 1) for word in words if word >> 63}
    assert [word >> 48 for word in words if not word >> 63] == [0x4300]
    return items, data[8 + 8 * count :]


def listen(group: str) -> socket.socket:
    """A socket that has joined a group on loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((group, PORT))
    sock.setsockopt(
        socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
    )
    sock.settimeout(TIMEOUT)
    return sock


def config(**changes: object) -> FEngineConfig:
    """A small subarray."""
    small = {"sync_time": 1e9, "first_group": GROUP, "port": PORT, "n_channels": 8, "n_groups": 2, "n_antennas": 2}
    return FEngineConfig.model_validate({**small, "seed": 5, **changes})


def counted(engines: FEngines) -> dict[str, int]:
    """What the F-engines count, without the zeros."""
    return {name: count for name, count in engines.summary().items() if count}


@pytest.mark.network
def test_packets_by_an_independent_decoder() -> None:
    """Timestamp, antenna, first channel, heap length and samples of each heap are as the protocol and the sky say."""
    made = config()
    expected = made.sky().samples(1000)
    engines = FEngines(made)
    with listen(GROUP) as low, listen("239.192.80.1") as high:
        engines.send(1000)
        seen = set()
        for sock, first in ((low, 0), (high, 4)):
            for _ in range(2):
                items, data = decode(sock.recv(65536))
                assert items[0x1600] == 1000 * 2 * 8 * 256 and items[0x4103] == first
                assert items[0x0002] == items[0x0004] == len(data) == 4 * 256 * 2 * 2 and items[0x0003] == 0
                raw = np.frombuffer(data, np.int8).reshape(4, 256, 2, 2)
                np.testing.assert_array_equal(raw, expected[items[0x4101], first : first + 4])
                seen.add((items[0x0001], items[0x4101], first))
        assert len({heap for heap, _, _ in seen}) == 4, "heap numbers are unique"
    assert counted(engines) == {"sent": 4}
    del engines


def test_tone_has_its_frequency_drift_and_power() -> None:
    """Over many packets the tone is one continuous chirp: after undoing it, all its power is in one fine channel."""
    width, lowest = 4000.0, 1e9
    tone = Tone(frequency_hz=lowest + 2 * width - 1234.5, drift_hz_s=2.5, power=0.1, reference=990.0)
    sky = Sky(antennas=1, channels=4, times=256, lowest=lowest, width=width, tones=[tone], sync_time=1000.0, seed=1)
    first, packets = 100, 64
    data = np.concatenate([sky.samples(first + n) for n in range(packets)], axis=2)[0].astype(float)
    voltage = data[..., 0, 0] + 1j * data[..., 0, 1]
    t = (first * 256 + np.arange(packets * 256)) / width + 10.0  # seconds since the reference
    offset = tone.frequency_hz - (lowest + 2 * width)
    mixed = voltage[2] * np.exp(-2j * np.pi * (offset * t + 0.5 * 2.5 * t**2))
    amplitude = abs(mixed.mean())
    assert amplitude == pytest.approx(NOISE_SIGMA * bandpass(4)[2] * np.sqrt(2 * 0.1), rel=0.05)
    other = abs((voltage[1] * np.exp(-2j * np.pi * (offset * t + 0.5 * 2.5 * t**2))).mean())
    assert other < 0.1 * amplitude


def test_noise_is_gaussian_with_the_bandpass_and_fresh() -> None:
    """Level per channel, kurtosis, and independence from packet to packet, antenna to antenna and re to im."""
    sky = Sky(antennas=2, channels=8, times=4096, lowest=0, width=1, tones=[], sync_time=0, seed=2)
    one, two = sky.samples(0).astype(float), sky.samples(1).astype(float)
    np.testing.assert_allclose(one.std(axis=(0, 2, 3, 4)), NOISE_SIGMA * bandpass(8), rtol=0.03)
    normal = (one / one.std(axis=2, keepdims=True)).ravel()
    assert abs(normal.mean()) < 0.01 and np.mean(normal**4) == pytest.approx(3.0, abs=0.15)
    for a, b in ((one, two), (one[0], one[1]), (one[..., 0], one[..., 1]), (one[:, :, 1:], one[:, :, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    again = Sky(antennas=2, channels=8, times=4096, lowest=0, width=1, tones=[], sync_time=0, seed=2)
    np.testing.assert_array_equal(again.samples(0), one)


def test_antennas_differ_in_their_passbands() -> None:
    """Each antenna has a passband of its own, as far from the common one as `ripple` says and no farther, by the seed."""
    ratio = gains(4, 128, 0.05, seed=3) / bandpass(128)
    assert np.abs(ratio - 1).max() <= 0.05 and (np.abs(ratio - 1).max(axis=1) > 0.04).all()
    assert len({tuple(row.round(6)) for row in ratio}) == 4
    np.testing.assert_array_equal(gains(4, 128, 0.05, seed=3), ratio * bandpass(128))
    sky = Sky(antennas=2, channels=8, times=4096, lowest=0, width=1, tones=[], sync_time=0, seed=2, ripple=0.3)
    levels = sky.samples(0).astype(float).std(axis=(2, 3, 4))
    np.testing.assert_allclose(levels, NOISE_SIGMA * gains(2, 8, 0.3, seed=2), rtol=0.03)


def test_phases_between_antennas_are_those_of_the_delays() -> None:
    """A tone from the phase centre is the same in all antennas; from elsewhere antenna a has it as exp(-2 pi i f tau_a)."""
    width, frequency, rate = 4000.0, 1.4e9, 2e-11
    delays = (0.0, 0.11e-9, -0.2e-9, 1.3e-9)
    tones = [
        Tone(frequency_hz=frequency + 700.0, drift_hz_s=1.0, power=4.0, reference=1000.0),
        Tone(
            frequency_hz=frequency + width + 300.0, drift_hz_s=-1.0, power=4.0, reference=1000.0,
            delays=delays, delay_rates=(0.0, rate, rate, rate),
        ),
    ]  # fmt: skip
    sky = Sky(antennas=4, channels=2, times=4096, lowest=frequency, width=width, tones=tones, sync_time=990.0, seed=4)
    data = sky.samples(10).astype(float)
    voltage = data[..., 0] + 1j * data[..., 1]
    seconds = 4096 * 10 / width + 4096 / 2 / width - 10.0  # from the reference to the middle of the heap
    for channel, wanted in ((0, [0.0] * 4), (1, [d + (rate * seconds if d else 0.0) for d in delays])):
        cross = (voltage[:, channel] * voltage[0, channel].conj()).mean(axis=(1, 2))
        found = np.angle(cross * np.exp(2j * np.pi * (frequency + channel * width) * np.array(wanted)))
        np.testing.assert_allclose(found, 0.0, atol=0.03)


def test_a_tone_is_there_only_in_its_time() -> None:
    """Before `start` and from `stop` on there is noise alone."""
    tone = Tone(frequency_hz=0.0, power=100.0, start=1010.0, stop=1020.0)
    sky = Sky(antennas=1, channels=1, times=256, lowest=0.0, width=256.0, tones=[tone], sync_time=1000.0, seed=1)
    power = [np.mean(sky.samples(second).astype(float) ** 2) for second in (9, 10, 19, 20)]
    assert [value > 4 * NOISE_SIGMA**2 for value in power] == [False, True, True, False]


@given(
    seed=st.integers(0, 2**32),
    shares=st.tuples(*[st.floats(0, 0.25)] * 4),
    pktidx=st.integers(0, 2**30),
    stalled=st.integers(0, 3),
)
@settings(max_examples=50)
def test_faults_come_from_the_seed(
    seed: int, shares: tuple[float, float, float, float], pktidx: int, stalled: int
) -> None:
    """The same seed and packet index give the same faults; a stalled antenna is silent; nothing asked, nothing wrong."""
    dropped, duplicated, reordered, wrong = shares
    faults = Faults(
        seed=seed, dropped=dropped, duplicated=duplicated, reordered=reordered, wrong_timestamps=wrong,
        stalls=(Stall(antenna=stalled, first=10),),
    )  # fmt: skip
    found = faults.of(pktidx, 4, 8)
    np.testing.assert_array_equal(found, faults.of(pktidx, 4, 8))
    assert (found[stalled] == Fault.STALLED).all() == (pktidx >= 10)
    assert not Faults(seed=seed).of(pktidx, 4, 8).any()
    assert not faults.model_copy(update={"last": 5, "first": 2}).of(pktidx, 4, 8).any() or 2 <= pktidx <= 5


def test_faults_are_as_frequent_as_asked() -> None:
    """Over many heaps each kind has its share; wrong timestamps are of three kinds, none of them another heap's place."""
    faults = Faults(seed=1, dropped=0.1, duplicated=0.2, reordered=0.05, wrong_timestamps=0.03)
    found = np.concatenate([faults.of(pktidx, 8, 16).ravel() for pktidx in range(400)])
    counts = np.bincount(found, minlength=len(Fault)) / found.size
    wanted = [0.62, 0.0, 0.1, 0.2, 0.05, 0.01, 0.01, 0.01]
    np.testing.assert_allclose(counts, wanted, atol=0.005)
    stamps = {fault: faults.timestamp(fault, 1 << 21, 1000) for fault in Fault}
    assert stamps[Fault.MISALIGNED] % 1000 and stamps[Fault.DROPPED] == (1 << 21) * 1000
    assert stamps[Fault.PAST] < (1 << 21) * 1000 < stamps[Fault.FUTURE]


@pytest.mark.network
def test_faults_on_the_wire_are_those_drawn() -> None:
    """What a listener hears is what `Faults.of` says: nothing, twice, later, or with another timestamp."""
    made = config(
        faults={"seed": 2, "dropped": 0.2, "duplicated": 0.2, "reordered": 0.2, "wrong_timestamps": 0.2}, first_pktidx=0
    )
    clocks, first = made.heap_clocks, 1 << 21
    engines = FEngines(made)
    seen, held = set(), list[int]()
    with listen(GROUP) as sock:
        for pktidx in range(first, first + 40):
            wanted, held = held, []
            for fault in made.faults.of(pktidx, 2, 2)[:, 0]:
                if fault == Fault.REORDERED:
                    held.append(pktidx * clocks)
                elif fault != Fault.DROPPED:
                    stamp = made.faults.timestamp(fault, pktidx, clocks)
                    wanted += [stamp] * (2 if fault == Fault.DUPLICATED else 1)
            engines.send(pktidx)
            assert [decode(sock.recv(65536))[0][0x1600] for _ in wanted] == wanted
            seen.update(wanted)
        engines.flush()
        assert [decode(sock.recv(65536))[0][0x1600] for _ in held] == held
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(65536)
    assert len(seen) > 40
    del engines


@pytest.mark.network
def test_lost_heaps_are_exactly_those_asked_for() -> None:
    """Every third heap from number 12 on is left out, and counted."""
    made = config(loss={"first": 12, "every": 3})
    engines = FEngines(made)
    for pktidx in range(2, 8):
        engines.send(pktidx)
    numbers = range(2 * 4, 8 * 4)
    lost = [number for number in numbers if number >= 12 and (number - 12) % 3 == 0]
    assert counted(engines) == {"sent": len(numbers) - len(lost), "lost": len(lost)}
    del engines


def test_impossible_configurations_are_refused(tmp_path: Path) -> None:
    """Unknown keys and channels that do not divide are refused with file, key and value."""
    path = tmp_path / "bad.json"
    for bad in ({"sync_time": 0, "n_channels": 10, "n_groups": 4}, {"sync_time": 0, "colour": "red"}, {}):
        path.write_text(json.dumps(bad))
        with pytest.raises(Refused, match="bad.json"):
            main(["--config", str(path)])


def start(tmp_path: Path) -> subprocess.Popen[str]:
    """The simulator as a process that has begun to send."""
    path = tmp_path / "fengine.json"
    path.write_text(config(sync_time=float(int(time.time()))).model_dump_json())
    with listen(GROUP) as sock:
        process = subprocess.Popen(
            [sys.executable, "-m", "socs_bl.simulators.fengine", "--config", str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        sock.recv(65536)
    return process


@pytest.mark.live
@pytest.mark.network
def test_ends_in_order_on_sigterm(tmp_path: Path) -> None:
    """SIGTERM ends it with status 0 and a summary."""
    process = start(tmp_path)
    process.terminate()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0 and json.loads(output)["sent"] > 0


@pytest.mark.live
@pytest.mark.network
def test_dies_with_its_parent(tmp_path: Path) -> None:
    """When the process that started it is killed, it does not stay behind."""
    path = tmp_path / "fengine.json"
    path.write_text(config(sync_time=float(int(time.time()))).model_dump_json())
    program = (
        "import subprocess, sys, signal\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'socs_bl.simulators.fengine', '--config', {str(path)!r}])\n"
        "print(child.pid, flush=True)\nsignal.pause()\n"
    )
    with listen(GROUP) as sock:
        parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        sock.recv(65536)
    handle = os.pidfd_open(child)
    try:
        parent.send_signal(signal.SIGKILL)
        parent.wait(TIMEOUT)
        assert select.select([handle], [], [], TIMEOUT)[0], "still there"
    finally:
        os.close(handle)
        parent.stdout.close()
