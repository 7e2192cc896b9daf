"""The UDP receiver on loopback: unicast, multicast, coalesced or not, and what a full socket drops."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from socs_bl.core.errors import Faulty, Refused
from socs_bl.correlator.receive import FEWEST_ROWS, UdpReceiver
from socs_bl.correlator.source import FilePath, UdpAddress, check_source, parse_source
from socs_bl.services.process import free_port
from socs_bl.simulators.frame_sender import FrameSender
from tests.correlator.frames import PATIENCE, configuration, dump_of

CONFIG = configuration(40)


@pytest.fixture
def receiver() -> Iterator[UdpReceiver]:
    made = UdpReceiver(UdpAddress("127.0.0.1", 0), 16 << 20)
    yield made
    made.close()


def datagrams(receiver: UdpReceiver, count: int) -> list[bytes]:
    """The next datagrams, taken out of their messages."""
    found: list[bytes] = []
    while len(found) < count:
        batch = receiver.read(PATIENCE)
        assert batch is not None, f"{len(found)} of {count}"
        assert batch.datagrams > 0
        for message in range(batch.count):
            start, length, step = (int(a[message]) for a in (batch.starts, batch.lengths, batch.segments))
            data = batch.data[start : start + length].tobytes()
            found += [data[at : at + step] for at in range(0, length, step)]
    return found


@pytest.mark.parametrize("mode", ["gso", "mmsg", "plain"])
def test_every_frame_arrives(receiver: UdpReceiver, mode: Literal["gso", "mmsg", "plain"]) -> None:
    """However they are sent, the same frames come out, with their sender's address; coalesced ones are taken apart."""
    frames = np.array([one for dump in range(10) for one in dump_of(CONFIG, dump)])
    with FrameSender(("127.0.0.1", receiver.port), mode) as sender:
        sender.send(frames)
        found = datagrams(receiver, len(frames))
    assert found == [one.tobytes() for one in frames]
    assert receiver.origin(0).startswith("127.0.0.1:")
    assert receiver.dropped == 0 and receiver.read(0.0) is None


def test_how_much_is_asked_for_follows_what_comes(receiver: UdpReceiver) -> None:
    """Single frames are taken many at a time; runs of frames, few at a time: both make a batch of about one size."""
    frames = np.array(dump_of(CONFIG, 0) * 8)
    single = receiver._rows
    for mode, expected in (("gso", range(FEWEST_ROWS, single)), ("mmsg", range(single, single + 1))):
        with FrameSender(("127.0.0.1", receiver.port), mode) as sender:  # type: ignore[arg-type]
            sender.send(frames)
            datagrams(receiver, len(frames))
        if receiver.coalesced:
            assert receiver._rows in expected


def test_odd_datagrams(receiver: UdpReceiver) -> None:
    """Datagrams of any length come as they are: several frames, half frames, one byte, none."""
    sent = [b"x", bytes(dump_of(CONFIG, 0)[0]) * 8, b"", b"y" * 100, bytes(65507)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in sent:
            sender.sendto(data, ("127.0.0.1", receiver.port))
    found: list[bytes] = []
    while len(found) < len(sent):
        batch = receiver.read(PATIENCE)
        assert batch is not None
        for message in range(batch.count):
            start = int(batch.starts[message])
            found.append(batch.data[start : start + int(batch.lengths[message])].tobytes())
    assert found == sent


def test_multicast_from_several_senders() -> None:
    """Two receivers of one group each get what two boards send."""
    address = UdpAddress("239.192.50.1", free_port(), "127.0.0.1")
    receivers = [UdpReceiver(address, 1 << 20) for _ in range(2)]
    frames = np.array(dump_of(CONFIG, 0))
    for _ in range(2):
        with FrameSender((address.host, address.port)) as sender:
            sender.send(frames)
    for receiver in receivers:
        assert sorted(datagrams(receiver, 2 * len(frames))) == sorted([one.tobytes() for one in frames] * 2)
        receiver.close()


def test_a_full_socket_drops_and_says_so() -> None:
    """What the kernel drops is counted, and the receiver says how much room there is and how to get more."""
    receiver = UdpReceiver(UdpAddress("127.0.0.1", 0), 64 << 10)
    frames = np.array(dump_of(CONFIG, 0) * 10)
    with FrameSender(("127.0.0.1", receiver.port), "mmsg") as sender:
        sender.send(frames)
        got = 0
        while (batch := receiver.read(0.0)) is not None:
            got += batch.datagrams
        sender.send(frames[:1])
        assert datagrams(receiver, 1) == [frames[0].tobytes()]
    assert 0 < got < len(frames)
    assert receiver.dropped == len(frames) - got
    assert receiver.socket_bytes >= 64 << 10 and receiver.advice == ""
    receiver.close()


def test_addresses_that_cannot_be() -> None:
    """An address of another machine is refused in a sentence."""
    with pytest.raises(Faulty, match="check address, port and interface"):
        UdpReceiver(UdpAddress("192.0.2.1", 5000))


def test_sources_are_parsed_strictly() -> None:
    """URIs of the two kinds, and nothing else."""
    assert parse_source("udp://239.1.2.3:5000?interface=127.0.0.1") == UdpAddress("239.1.2.3", 5000, "127.0.0.1")
    assert parse_source("udp://0.0.0.0:5000") == UdpAddress("0.0.0.0", 5000)
    path = parse_source("file:///data/a%20b.blf")
    assert isinstance(path, FilePath) and str(path.path) == "/data/a b.blf"
    for uri in (
        "", "udp://", "udp://host:5000", "udp://1.2.3.4", "udp://1.2.3.4:0", "udp://1.2.3.4:99999", "udp://1.2.3.4:5/x",
        "udp://1.2.3.4:5?ttl=3", "udp://1.2.3.4:5?interface=x", "http://1.2.3.4:5", "file://host/x", "file:x",
        "file:///a%00b", "udp://[::1]:5", "udp://1.2.3.4:5#x", "file:///x?y=1", "x" * 10**6, "udp://1.2.3.4:5\n",
    ):  # fmt: skip
        with pytest.raises(Refused):
            parse_source(uri)


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    """A slip of the pen must not cost the configurations that another source would destroy."""
    with pytest.raises(Refused, match=r"typo\.blf is no file on this host"):
        check_source(f"file://{tmp_path}/typo.blf")
    (tmp_path / "x.blf").touch()
    check_source(f"file://{tmp_path}/x.blf")
    check_source("udp://239.1.2.3:5000")
