"""The Redis journal keeps the promises of every journal, and those about connections and riding commands."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import redis

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.journal import Commit, CommitUnknown, Fenced, OutOfSequence
from socs_bl.services.process import free_port
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.redis_server import RedisServer
from socs_bl.services.riding import check_command
from tests.core.journal_suite import RidingSuite, SurvivorSuite
from tests.harness.live import wait_until

pytestmark = pytest.mark.live

NAME = "socs_bl:journal:test"
MonitorLines = Callable[[], list[tuple[str, ...]]]


@pytest.fixture
def open_journal(fresh_redis: str) -> Iterator[Callable[[], RedisJournal]]:
    """Opens journals on the session's Redis."""
    opened: list[RedisJournal] = []

    def make() -> RedisJournal:
        opened.append(RedisJournal(fresh_redis, NAME))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


class TestRedisJournal(RidingSuite, SurvivorSuite):
    """The suite on a real server."""

    @pytest.fixture
    def journal_url(self, fresh_redis: str) -> str:
        return fresh_redis

    @pytest.fixture
    def journal_name(self) -> str:
        return NAME

    @pytest.fixture
    def written(self, fresh_redis: str) -> Iterator[MonitorLines]:
        """Riding commands as the server carried them out: its MONITOR shows what a script calls."""
        client = redis.Redis.from_url(fresh_redis, decode_responses=True)
        with client.monitor() as monitor:

            def lines() -> list[tuple[str, ...]]:
                client.echo("that is all")
                found = []
                for line in iter(monitor.next_command, None):
                    if line["command"] == "ECHO that is all":
                        return found
                    # MONITOR escapes what is not ASCII, byte by byte.
                    text = line["command"].encode().decode("unicode_escape").encode("latin-1").decode()
                    verb, *words = text.split(" ")
                    if line["client_type"] == "lua" and verb.upper() in ("SET", "PUBLISH", "LPUSH"):
                        found.append((verb, *words))
                raise AssertionError("the monitor ended")

            yield lines
        client.close()


class Cut:
    """A proxy before Redis that takes one request, waits for the server's answer, and hangs up without giving it."""

    def __init__(self, url: str) -> None:
        self.server = socket.create_connection((urlparse(url).hostname, urlparse(url).port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"
        self.cut = False
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        client, _ = self.listener.accept()
        with client, self.server, self.listener:
            while request := client.recv(1 << 20):
                self.server.sendall(request)
                answer = self.server.recv(1 << 20)
                if self.cut:
                    return
                client.sendall(answer)


def test_a_lost_answer_is_unknown_and_the_commit_stands(
    open_journal: Callable[[], RedisJournal], fresh_redis: str
) -> None:
    """When the answer is lost after the script ran, the writer is told that nobody knows, once, and may reload."""
    proxy = Cut(fresh_redis)
    journal = RedisJournal(proxy.url, NAME)
    epoch = journal.claim("a").epoch
    proxy.cut = True
    with pytest.raises(CommitUnknown):
        journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}, (("LPUSH", "list", "once"),)))
    proxy.thread.join()
    journal.close()
    stored = open_journal().load()
    assert (stored.sequence, dict(stored.fields)) == (1, {"x": b"1"})
    with redis.Redis.from_url(fresh_redis) as client:
        assert client.lrange("list", 0, -1) == [b"once"]


def test_an_absent_server_is_retry_not_unknown() -> None:
    """A commit that could not be sent is not called unknown."""
    journal = RedisJournal(f"redis://127.0.0.1:{free_port()}/0", NAME)
    with pytest.raises(Retry) as caught:
        journal.commit(Commit(1, 1, (b"one",), {}))
    assert not isinstance(caught.value, CommitUnknown)
    journal.close()


def test_a_restarted_server_is_used_again_and_forgot_nothing(tmp_path: Path) -> None:
    """SIGKILL of the server right after a commit loses nothing, and the same journal object goes on."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        journal = RedisJournal(server.url, NAME)
        epoch = journal.claim("a").epoch
        journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}))
        server.kill()
        server.start()
        journal.commit(Commit(epoch, 2, (b"two",), {"y": b"2"}))
        assert list(journal.read()) == [(1, b"one"), (2, b"two")]
        assert dict(journal.load().fields) == {"x": b"1", "y": b"2"}
        journal.close()
    finally:
        server.stop()


def test_a_server_killed_in_mid_commit_keeps_whole_commits(tmp_path: Path) -> None:
    """SIGKILL of the server while commits come all the time: what was confirmed is there, the next is whole or not."""
    server = RedisServer(tmp_path)
    server.start()
    journal = RedisJournal(server.url, NAME)
    chance = random.Random(20261121)
    sequence = 0
    try:
        for _ in range(3):
            epoch = journal.claim("a").epoch
            killer = threading.Timer(chance.uniform(0.01, 0.1), server.kill)
            killer.start()
            with pytest.raises(Retry):
                while True:
                    number = b"%d" % (sequence + 2)
                    writes = (("SET", "k", number.decode()),) * 200
                    journal.commit(Commit(epoch, sequence + 1, (b"a" * 3000, number), {"last": number}, writes))
                    sequence += 2
            killer.join()
            server.start()
            stored = journal.load()
            assert stored.sequence in (sequence, sequence + 2)
            sequence = stored.sequence
            assert stored.fields.get("last", b"0") == b"%d" % sequence
            with redis.Redis.from_url(server.url) as client:
                assert (client.get("k") or b"0") == b"%d" % sequence
        assert [number for number, _ in journal.read()] == list(range(1, sequence + 1))
    finally:
        journal.close()
        server.stop()


@pytest.mark.parametrize(
    "writes",
    [
        (("SET", "k", "1"), ("LPUSH", "hash", "x")),
        (("SET", "k", "1"), ("HSET", "k", "f", "v")),
        (("DEL", "hash"), ("SADD", "hash", "m"), ("XADD", "hash", "*", "f", "v")),
        (("SET", "k", "1"), ("ZADD", "z", "much", "m")),
        (("SET", "k", "1"), ("XADD", "s", "1-1", "f", "v")),
        (("SET", "k", "1"), ("HSET", "h", "f")),
        (("SET", "k", "1"), ("EXPIRE", "k", "soon")),
        (("SET", "k", "1"), ("SET", f"{NAME}:state", "1")),
    ],
)
def test_a_riding_command_that_would_fail_stops_the_whole_commit(
    open_journal: Callable[[], RedisJournal], fresh_redis: str, writes: tuple[tuple[str, ...], ...]
) -> None:
    """A wrong type or malformed command late in a commit leaves no trace of what stands before it."""
    with redis.Redis.from_url(fresh_redis) as client:
        client.hset("hash", "f", "v")
        journal = open_journal()
        epoch = journal.claim("a").epoch
        with pytest.raises(Refused):
            journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}, writes))
        assert client.exists("k") == 0
        assert client.hgetall("hash") == {b"f": b"v"}
    stored = journal.load()
    assert (stored.sequence, dict(stored.fields), list(journal.read())) == (0, {}, [])
    journal.commit(Commit(epoch, 1, (b"one",), {}))


def test_types_within_one_commit_are_followed(open_journal: Callable[[], RedisJournal], fresh_redis: str) -> None:
    """Commands that are right one after the other pass: a key is removed and made anew as another type."""
    with redis.Redis.from_url(fresh_redis) as client:
        client.hset("key", "f", "v")
        journal = open_journal()
        epoch = journal.claim("a").epoch
        trimmed_add = ("xadd", "s", "MAXLEN", "~", "100", "*", "f", "v")
        writes = (("DEL", "key"), ("LPUSH", "key", "1"), trimmed_add, ("SET", "t", "1", "EX", "9"))
        journal.commit(Commit(epoch, 1, (b"one",), {}, writes))
        assert client.lrange("key", 0, -1) == [b"1"]
        assert client.xlen("s") == 1


def test_the_same_epoch_number_twice_is_still_fenced(
    open_journal: Callable[[], RedisJournal], fresh_redis: str
) -> None:
    """After a power cut took an epoch back, the writer of the lost claim cannot write as the new one."""
    first, second = open_journal(), open_journal()
    epoch = first.claim("a").epoch
    with redis.Redis.from_url(fresh_redis) as client:
        client.hset(f"{NAME}:meta", "epoch", epoch - 1)
    assert second.claim("b").epoch == epoch
    with pytest.raises(Fenced):
        first.commit(Commit(epoch, 1, (b"late",), {}))
    second.commit(Commit(epoch, 1, (b"one",), {}))


def test_a_lost_tail_is_out_of_sequence(open_journal: Callable[[], RedisJournal], fresh_redis: str) -> None:
    """A writer ahead of what the server kept is told to reload; a stream and state that disagree are called damaged."""
    journal = open_journal()
    epoch = journal.claim("a").epoch
    journal.commit(Commit(epoch, 1, (b"one",), {}))
    with pytest.raises(OutOfSequence):
        journal.commit(Commit(epoch, 3, (b"three",), {}))
    with redis.Redis.from_url(fresh_redis) as client:
        client.xadd(f"{NAME}:entries", {"e": "foreign"}, id="2-0")
    with pytest.raises(Faulty, match="stream ends at 2-0"):
        journal.commit(Commit(epoch, 2, (b"two",), {}))


def test_reading_goes_on_over_chunks_and_trims(open_journal: Callable[[], RedisJournal]) -> None:
    """More entries than one fetch come in order without gaps or repetitions, also after all of them were forgotten."""
    journal = open_journal()
    epoch = journal.claim("a").epoch
    journal.commit(Commit(epoch, 1, tuple(b"%d" % n for n in range(1, 1101)), {}))
    assert [number for number, _ in journal.read(2, 1099)] == list(range(2, 1100))
    journal.rebase(1100)
    assert journal.forget(1100) == 1100
    journal.commit(Commit(epoch, 1101, (b"next",), {}))
    assert list(journal.read()) == [(1101, b"next")]


@pytest.mark.parametrize(
    "command",
    [("SET", "k", "v", "NX"), ("LREM", "l", "all", "x"), ("XADD", "s", "MAXLEN", "*", "f", "v"), ("PUBLISH", "c")],
)
def test_malformed_commands_are_refused(command: tuple[str, ...]) -> None:
    """What Redis would refuse, or what is not offered here, is refused before anything is sent."""
    with pytest.raises(Refused, match="malformed"):
        check_command(command)


def test_a_full_disk_of_the_server_is_told_and_tears_nothing(tiny_disk: Path) -> None:
    """A server that cannot write its file takes no commit, whole, and says so; with room it goes on, also when restarted."""
    server = RedisServer(tiny_disk)
    server.start()
    try:
        journal = RedisJournal(server.url, NAME)
        epoch = journal.claim("a").epoch
        number = 0
        with pytest.raises(Retry, match="cannot be written now"):
            while True:
                journal.commit(Commit(epoch, number + 1, (os.urandom(30_000),), {"x": b"%d" % (number + 1)}))
                number += 1
        assert number > 3
        assert (journal.load().sequence, journal.load().fields["x"]) == (number, b"%d" % number)
        subprocess.run(["mount", "-o", "remount,size=8m", str(tiny_disk)], check=True)

        def room_again() -> bool:
            with contextlib.suppress(Retry):
                journal.commit(Commit(epoch, number + 1, (b"room again",), {"x": b"room"}))
                return True
            return False

        wait_until(room_again, what="a commit with room again")
        server.kill()
        server.start()
        assert (journal.load().sequence, journal.load().fields["x"]) == (number + 1, b"room")
        assert [at for at, _ in journal.read()] == list(range(1, number + 2))
        journal.close()
    finally:
        server.stop()
