"""Redis with TLS and users, by URL alone: everything we do works with the documented rights, and nothing shows a password."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from socs_bl.commensal import wire
from socs_bl.commensal.effects import Reader
from socs_bl.commensal.model import ReadMetadata
from socs_bl.core.archive import trim
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.journal import Commit
from socs_bl.core.names import parse_instance
from socs_bl.hashpipe.gateway import Gateway
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.redis_server import check_server, connect
from socs_bl.services.subscriber import StreamReader, Subscriber
from tests.commensal.bench import INSTANCES, Bench
from tests.harness.live import REPOSITORY, wait_until
from tests.harness.programs import need_program
from tests.services.tls import PASSWORD, Authority, TlsRedis, documented_users

pytestmark = pytest.mark.live

PATIENCE = 20.0
RESULT = ("XADD", wire.RESULTS_STREAM, "MAXLEN", "~", "1000", "*", "instance", "blpn64/0")
OTHERS = [
    f"user root on >{PASSWORD} ~* &* +@all",
    f"user cramped on >{PASSWORD} ~socs_bl:* ~k1 &* +@all -script",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    """A server with the documented users and two more."""
    users = documented_users(REPOSITORY / "docs" / "operations.rst")
    assert [line.split()[1] for line in users] == ["coordinator", "recorder", "analyzer", "viewer"]
    server = TlsRedis(need_program("redis-server"), tmp_path_factory.mktemp("tls"), users + OTHERS)
    yield server
    server.child.kill()


@pytest.fixture
def root(server: TlsRedis) -> Iterator[redis.Redis]:
    """A client that may do everything, on an empty server."""
    with connect(server.url("root")) as client:
        client.flushall()
        yield client


def cycle() -> tuple[tuple[str, ...], ...]:
    """All that a coordinator writes from configure to deconfigure, a bad result and a quarantine among it."""
    bench = Bench()
    bench.subscribe()
    bench.process()
    bench.result("blpn64/0")
    bench.result("blpn64/1", code=137)
    bench.record()
    bench.cam("not-tracking")
    bench.cam("deconfigure")
    return tuple(bench.vault.writes)


def test_a_coordinator_needs_no_more_than_its_line(server: TlsRedis, root: redis.Redis) -> None:
    """Commits with a whole cycle's writes, CAM's keys, status hashes, channels, results, and trimming."""
    url = server.url("coordinator")
    assert check_server(url) >= "6.2"
    heard: queue.Queue[tuple[str, str]] = queue.Queue()
    read: queue.Queue[str] = queue.Queue()
    subscriber = Subscriber(url, wire.CHANNELS, lambda *message: heard.put(message), lambda text: None)
    reader = StreamReader(url, wire.RESULTS_STREAM, "0-0", lambda cursor, fields: read.put(fields["instance"]))
    journal = RedisJournal(url, "socs_bl:commensal")
    try:
        subscriber.start()
        reader.start()
        assert subscriber.subscribed.wait(PATIENCE)
        epoch = journal.claim("coordinator").epoch
        writes = cycle()
        assert len(writes) > 100
        journal.commit(Commit(epoch, 1, (b"{}",), {"cell:x": b"1", "cell:y": b"2"}, writes))
        journal.commit(Commit(epoch, 2, (b"{}",), {"cell:y": None}))
        assert root.get("array_1:freesub_state") == b"FREE" and root.llen("blpn64/0:unprocessed") >= 1
        assert trim(journal, journal.name, server.directory / "archive").entries == 2
        root.publish(wire.ALERTS, "tracking:array_1")
        while heard.get(timeout=PATIENCE)[0] != wire.ALERTS:  # first comes what it said itself, rec-timeout
            pass
        root.xadd(wire.RESULTS_STREAM, {"instance": "blpn64/0"})
        assert read.get(timeout=PATIENCE) == "blpn64/0"
        root.mset({"array_1:cbf_name": "cbf", "array_1:cbf_prefix": "wide"})
        root.hset("bluse://blpn64/0/status", "PKTIDX", "1")
        with connect(url) as client:
            (found,) = Reader(client, "bluse").metadata(ReadMetadata(array="array_1", purpose="record"))
            assert getattr(found, "prefix") == "wide"  # noqa: B009
            assert Reader(client, "bluse").statuses(INSTANCES)["blpn64/0"] == {"PKTIDX": "1"}
            index = "array_1:cal_solutions:index"
            client.hset("array_1:cal_solutions:x", mapping={"nants": 4})
            client.expire("array_1:cal_solutions:x", 60)
            client.zadd(index, {"array_1:cal_solutions:x": 1})
            assert client.zrange(index, 0, -1) and client.zrem(index, "array_1:cal_solutions:x") == 1
            client.mset({"free_instances": "[]", "array_1:freesub_state": "FREE"})
            assert client.get("cam_says") is None
            for forbidden in (lambda: client.set("cam_says", "1"), client.flushall):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    forbidden()
    finally:
        subscriber.stop()
        reader.stop()
        journal.close()


def test_a_recorder_needs_no_more_than_its_line(server: TlsRedis, root: redis.Redis) -> None:
    """Gateway and journal of an instance; it may not touch what is the coordinator's."""
    url = server.url("recorder")
    changed: queue.Queue[dict[str, object]] = queue.Queue()
    gateway = Gateway(url, parse_instance("blpn64/0"), changed.put)
    gateway.start()
    journal = RedisJournal(url, "socs_bl:recorder:blpn64/0")
    try:
        assert gateway.wait_ready(PATIENCE)
        gateway.update({"DAQSTATE": "LISTEN"})
        root.publish("bluse://blpn64/0/set", "DWELL=20")
        assert changed.get(timeout=PATIENCE) == {"DWELL": 20}
        wait_until(lambda: root.hget("bluse://blpn64/0/status", "DAQSTATE"), PATIENCE, what="the status hash")
        journal.commit(Commit(journal.claim("recorder").epoch, 1, (b"{}",), {"cell:x": b"1"}))
        with connect(url) as client:
            for key in ("free_instances", "socs_bl:commensal:state"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.set(key, "1")
    finally:
        assert gateway.stop()
        journal.close()


def test_an_analyzer_needs_no_more_than_its_line(server: TlsRedis, root: redis.Redis) -> None:
    """Its journal with the result, the return and the work lists riding; what it looks up of a recording."""
    journal = RedisJournal(server.url("analyzer"), "socs_bl:analyzer:blpn64-0")
    epoch = journal.claim("analyzer").epoch
    directory = "/buf0/x"
    writes = (
        RESULT,
        ("PUBLISH", wire.PROC_RESULT, "RETURN:blpn64/0:0:-1"),
        ("PUBLISH", "target-selector:processing", "UPDATE:{}"),
        ("LREM", "blpn64/0:unprocessed", "0", directory),
        ("LREM", "blpn64/0:preserved", "0", directory),
        ("LPUSH", "blpn64/0:preserved", directory),
    )
    journal.commit(Commit(epoch, 1, (b"{}",), {}, writes))
    assert root.xlen(wire.RESULTS_STREAM) == 1
    with connect(server.url("analyzer")) as client:
        assert client.get(f"metadata:{directory}") is None
        assert client.lrange("blpn64/0:unprocessed", 0, -1) == []
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set(f"metadata:{directory}", "{}")
    journal.close()


def test_a_viewer_looks_and_changes_nothing(server: TlsRedis, root: redis.Redis) -> None:
    """A viewer reads state, entries and base of every journal and hears every channel; it writes and says nothing."""
    writer = RedisJournal(server.url("coordinator"), "socs_bl:commensal")
    epoch = writer.claim("coordinator").epoch
    writer.commit(Commit(epoch, 1, (b"one",), {"cell:x": b"1"}))
    viewer = RedisJournal(server.url("viewer"), "socs_bl:commensal")
    assert dict(viewer.load().fields) == {"cell:x": b"1"} and viewer.base().sequence == 0
    assert list(viewer.read()) == [(1, b"one")]
    for forbidden in (lambda: viewer.claim("viewer"), lambda: viewer.forget(1), lambda: viewer.rebase(1)):
        with pytest.raises(Retry, match="(?i)permission"):
            forbidden()
    with connect(server.url("viewer")) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.publish(wire.ALERTS, "tracking:array_1")
        assert "socs_bl:commensal:meta" in {key.decode() for key in client.scan_iter("*:meta")}
    assert (writer.load().epoch, writer.load().sequence) == (epoch, 1)
    writer.close()
    viewer.close()


def test_what_a_user_may_not_write_stops_the_whole_commit(server: TlsRedis, root: redis.Redis) -> None:
    """Rights are checked before the first write: a commit half of whose keys are forbidden leaves no trace."""
    journal = RedisJournal(server.url("cramped"), "socs_bl:commensal")
    epoch = journal.claim("cramped").epoch
    with pytest.raises(Retry, match="may not SET k2; correct its ACL"):
        journal.commit(Commit(epoch, 1, (b"one",), {"x": b"1"}, (("SET", "k1", "1"), ("SET", "k2", "1"))))
    assert root.exists("k1", "k2") == 0
    assert (journal.load().sequence, dict(journal.load().fields), list(journal.read())) == (0, {}, [])
    journal.commit(Commit(epoch, 1, (b"one",), {}, (("SET", "k1", "1"),)))
    journal.close()


def test_who_is_not_let_in_is_told_without_the_password(server: TlsRedis, tmp_path: Path) -> None:
    """A wrong password, no certificate, a certificate of somebody else's authority, a URL that is none: no secret is shown."""
    Authority(tmp_path).sign("stranger")
    strange = server.url("coordinator").replace(str(server.directory), str(tmp_path)).replace("client.", "stranger.")
    told = []
    for error, url in (
        (Refused, server.url("coordinator", password="gue/ss")),
        (Refused, server.url("nobody")),
        (Retry, server.url("coordinator", client="")),
        (Retry, strange),
        (Refused, f"rediss://coordinator:{PASSWORD}@127.0.0.1:{server.port}/0"),
    ):
        with pytest.raises(error) as caught:
            check_server(url)
        told.append(str(caught.value))
        journal_error: BaseException | None = caught.value
        while journal_error is not None:
            assert "p@ss" not in str(journal_error) and "p%40ss" not in str(journal_error), journal_error
            journal_error = journal_error.__cause__
    assert all("gue" not in text and "coordinator:***@" in text or "nobody:***@" in text for text in told), told
    assert "certificate" in told[3].lower()
    assert PASSWORD not in repr(connect(server.url("coordinator")))
