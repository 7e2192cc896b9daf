"""Streams are divided among instances: disjoint, in order, and nobody is told of what does not exist."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.commensal.allocation import Plan, Streams, parse_streams, plan, shortage
from socs_bl.core.errors import Refused

NAMES = tuple(f"blpn{number}/0" for number in range(300))


def divide(more: int, instances: int, first: str = "239.9.0.0") -> Plan:
    return plan(parse_streams(f"spead://{first}+{more}:7148"), NAMES[:instances], 4, 16)


def groups(destip: str) -> list[int]:
    first, _, more = destip.partition("+")
    return [int(ipaddress.IPv4Address(first)) + number for number in range(int(more) + 1)]


@pytest.mark.parametrize(
    ("more", "instances", "sizes", "uncovered"),
    [
        (63, 16, [3] * 16, 0),
        (13, 4, [3, 3, 3, 1], 0),
        (63, 10, [3] * 10, 24),
        (255, 64, [3] * 64, 0),
    ],
)
def test_worked_examples(more: int, instances: int, sizes: list[int], uncovered: int) -> None:
    """The divisions that the original makes are ours."""
    divided = divide(more, instances)
    assert [int(share.destip.partition("+")[2]) for share in divided.shares] == sizes
    assert divided.uncovered == uncovered
    assert [share.destip.partition("+")[0] for share in divided.shares[:2]] == ["239.9.0.0", "239.9.0.4"]
    assert [share.first_channel for share in divided.shares[:3]] == [0, 64, 128]


def test_short_pool_keeps_the_number_of_streams() -> None:
    """With too few instances the last one still takes four streams, and says so in NSTRM."""
    assert [share.streams for share in divide(63, 10).shares] == [4] * 10
    assert [share.streams for share in divide(13, 4).shares] == [4, 4, 4, 2]


def test_octets_carry() -> None:
    """Addresses go on in the next octet; the original makes 239.9.1.258 of this."""
    shares = divide(11, 3, "239.9.1.250").shares
    assert [share.destip for share in shares] == ["239.9.1.250+3", "239.9.1.254+3", "239.9.2.2+3"]


def test_single_address() -> None:
    """A stream of one address works; the original crashes."""
    assert parse_streams("spead://239.9.1.7:7148") == Streams("239.9.1.7", 1, 7148)
    (share,) = plan(parse_streams("spead://239.9.1.7:7148"), NAMES[:3], 4, 16).shares
    assert (share.destip, share.streams, share.first_channel) == ("239.9.1.7+0", 1, 0)


@given(
    count=st.integers(1, 1024),
    available=st.integers(0, 300),
    per_instance=st.integers(1, 16),
    width=st.integers(1, 4096),
    offset=st.integers(0, 0x0FFFFFFF - 1024),
)
def test_shares_are_disjoint_ordered_and_complete(
    count: int, available: int, per_instance: int, width: int, offset: int
) -> None:
    """Whatever the numbers, shares follow one another from the first stream on and leave out only the uncovered end."""
    first = int(ipaddress.IPv4Address("224.0.0.0")) + offset
    streams = Streams(str(ipaddress.IPv4Address(first)), count, 7148)
    divided = plan(streams, NAMES[:available], per_instance, width)
    taken = [address for share in divided.shares for address in groups(share.destip)]
    assert taken == list(range(first, first + count - divided.uncovered))
    assert [share.instance for share in divided.shares] == list(NAMES[: len(divided.shares)])
    assert all(share.streams == len(groups(share.destip)) <= per_instance for share in divided.shares)
    begins = [index * per_instance * width for index in range(len(divided.shares))]
    assert [share.first_channel for share in divided.shares] == begins
    assert (divided.uncovered == 0) == (available >= divided.requested)
    assert bool(shortage(divided, available, {}, 0)) == (divided.uncovered > 0)


def test_shortage_explains() -> None:
    """The sentence says who has the instances that are missing."""
    text = shortage(divide(63, 10), 64, {"array_1": 50, "array_2": 0}, 4)
    assert "10 of 16" in text and "50 held by array_1" in text and "4 quarantined" in text and "24 streams" in text
    assert "array_2" not in text
    assert "none held" in shortage(divide(63, 0), 0, {}, 0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "spead://",
        "spead://239.9.1.0+3",
        "spead://239.9.1.0+3:0",
        "spead://239.9.1.0+3:65536",
        "spead://10.0.0.1+3:7148",
        "spead://239.9.1.256+3:7148",
        "spead://239.255.255.255+3:7148",
        "spead://255.255.255.255+3:7148",
        "spead://239.9.1.0+-1:7148",
        "spead://239.9.1.0+3:7148\n",
        "udp://239.9.1.0+3:7148",
    ],
)
def test_bad_streams_are_refused(url: str) -> None:
    """What is not a range of multicast addresses is refused."""
    with pytest.raises(Refused, match="stream"):
        parse_streams(url)


@given(st.text(max_size=60) | st.from_regex(r"spead://[0-9.+:]{0,30}", fullmatch=True))
def test_any_text_parses_or_is_refused(url: str) -> None:
    """No text has another outcome than streams or Refused."""
    try:
        streams = parse_streams(url)
    except Refused:
        return
    assert streams.count >= 1 and ipaddress.IPv4Address(streams.first).is_multicast
