"""Moving files between stores: by local copy, and by real rsync over real ssh."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from socs_bl.core.errors import Refused
from socs_bl.dataflow import rsync
from socs_bl.dataflow.hand import LocalHand, RemoteHand
from socs_bl.dataflow.hashing import digest
from socs_bl.dataflow.model import Digest
from socs_bl.dataflow.outcome import Cause, Next
from socs_bl.dataflow.receiver import INCOMING, Disk
from socs_bl.dataflow.rsync import Options, Progress
from socs_bl.dataflow.ssh import Link
from socs_bl.dataflow.transfer import LocalCarrier, SshCarrier, transfer
from socs_bl.services.process import Child, children, wait_gone
from tests.dataflow.moving import Meddling, arriving, causes, describe, flip, make, tree
from tests.harness.disk import tiny_disk
from tests.harness.programs import need_program
from tests.harness.sshd import Sshd, sshd

STRANGE = [
    "plain.rawacf",
    "with spaces.h5",
    "two\nlines",
    'it\'s "quoted" $(touch x) `id` *?[a]',
    "#comment",
    ";semicolon",
    "-rf",
    "deep/er/-x/.hidden",
    "trailing ",
    "\\backslash\\",
    "radär/données",
    os.fsdecode(b"not-utf8-\xff\xfe"),
    "CASE",
    "case",
]
EMPTY = "20240305.1400.00.sas.0.rawacf"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd of this file's own."""
    need_program("rsync")
    with sshd(tmp_path_factory.mktemp("transfer") / "sshd") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def link(server: Sshd) -> Iterator[Link]:
    """A link that all tests share."""
    with opened(server) as link:
        yield link


@contextmanager
def opened(server: Sshd) -> Iterator[Link]:
    """A link that is up."""
    link = Link(f"{server.user}@127.0.0.1", server.port, server.identity, server.known_hosts, timeout=60.0)
    try:
        link.open()
        link.wait()
        yield link
    finally:
        link.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The root of the store that files come from; its path has a space in it."""
    place = tmp_path / "source store"
    place.mkdir()
    return place


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The root of the store that files go to; its path has a space and a quote in it."""
    place = tmp_path / "target's store"
    place.mkdir()
    return place


def remote(link: Link, root: Path, **options: object) -> SshCarrier:
    """A carrier to a store behind the link."""
    return SshCarrier(RemoteHand(link, root, (sys.executable,)), Options(**options))  # type: ignore[arg-type]


@pytest.fixture(params=["local", "ssh"])
def way(request: pytest.FixtureRequest, link: Link) -> Callable[[Path], LocalCarrier | SshCarrier]:
    """Both ways to a store."""
    if request.param == "local":
        return lambda root: LocalCarrier(LocalHand(root))
    return lambda root: remote(link, root)


@pytest.fixture
def carrier(way: Callable[[Path], LocalCarrier | SshCarrier], target: Path) -> LocalCarrier | SshCarrier:
    """Both ways to the target."""
    return way(target)


def test_every_name_arrives(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """Names with spaces, line breaks, quotes, leading dashes and bytes that are no text arrive as they are, in one go."""
    items = [make(source, name, os.fsencode(name) * 100) for name in STRANGE] + [make(source, EMPTY, b"")]
    report = transfer(source, items, carrier, "hop")
    assert causes(report) == [Cause.DONE] * len(items)
    assert tree(target) == tree(source)
    assert [(target / item.target).stat().st_mtime_ns for item in items] == [item.seen.mtime_ns for item in items]
    assert report.digests == tuple(digest(source / item.seen.path)["xxh3_128"] for item in items)


def test_what_is_there_is_not_sent_again(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """A file that has arrived is verified where it is, not carried again, under another name if it was given one."""
    item = make(source, "a/b.h5", b"x" * 1000)
    items = [item, type(item)(make(source, "c.h5", b"y").seen, "archive/2024/03/d.h5")]
    assert causes(transfer(source, items, carrier, "hop")) == [Cause.DONE, Cause.DONE]
    again = transfer(source, items, carrier, "hop")
    assert causes(again) == [Cause.ALREADY_THERE] * 2 and again.carried == 0
    assert tree(target) == {"a/b.h5": b"x" * 1000, "archive/2024/03/d.h5": b"y"}


def test_a_corrupt_copy_of_the_same_length_is_repaired(
    source: Path, target: Path, carrier: LocalCarrier | SshCarrier
) -> None:
    """A name that is taken by other bytes stays as it is, until it is said that they are a broken copy of ours."""
    item = make(source, "block.h5", os.urandom(5000))
    transfer(source, [item], carrier, "hop")
    flip(target / "block.h5")
    broken = tree(target)
    refused = transfer(source, [item], carrier, "hop").outcomes[0]
    assert (refused.cause, refused.next, tree(target)) == (Cause.CONFLICT, Next.HOLD, broken)
    assert causes(transfer(source, [describe(source, "block.h5", replace=True)], carrier, "hop")) == [Cause.DONE]
    assert tree(target) == tree(source)


def test_a_longer_copy_is_repaired(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """Nothing is appended to what is there, and nothing that is longer is left alone for it."""
    make(source, "block.h5", b"right")
    (target / "block.h5").write_bytes(b"wrong and longer")
    assert causes(transfer(source, [describe(source, "block.h5", replace=True)], carrier, "hop")) == [Cause.DONE]
    assert tree(target) == tree(source)


def test_a_flip_on_the_way_is_carried_again(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """Bytes that changed on their way are found by reading them back, and sent again, whole."""
    items = [make(source, name, os.urandom(3000)) for name in ("a", "b")]
    once = Meddling(carrier, lambda round_: flip(target / INCOMING / "hop" / "b") if round_ == 1 else None)
    report = transfer(source, items, once, "hop")  # type: ignore[arg-type]
    assert causes(report) == [Cause.DONE, Cause.DONE] and once.rounds == 2
    assert tree(target) == tree(source)


def test_flips_every_time_keep_the_source(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """A way that breaks every copy is tried later; nothing broken is ever named."""
    item = make(source, "a", os.urandom(3000))
    always = Meddling(carrier, lambda _: flip(target / INCOMING / "hop" / "a"))
    outcome = transfer(source, [item], always, "hop").outcomes[0]  # type: ignore[arg-type]
    assert (outcome.cause, outcome.next) == (Cause.CORRUPT, Next.RETRY)
    assert tree(target) == {} and list(tree(source)) == ["a"]


def test_a_flip_at_rest_is_the_source_s(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """A source whose bytes are not those that were recorded is bad; it is not the way's fault, and nothing is named."""
    make(source, "a", os.urandom(3000))
    recorded = digest(source / "a")["xxh3_128"]
    flip(source / "a")
    outcome = transfer(source, [describe(source, "a", digest=recorded)], carrier, "hop").outcomes[0]
    assert (outcome.cause, outcome.next) == (Cause.AT_SOURCE, Next.BAD)
    assert tree(target) == {}


def test_sources_that_change_are_looked_at_again(
    source: Path, target: Path, carrier: LocalCarrier | SshCarrier
) -> None:
    """A source that grew, vanished or was replaced, before or while it was carried, is not named; the others are."""
    names = ["gone before", "grown before", "gone while", "grown while", "replaced while", "good"]
    items = [make(source, name, b"one" * 100) for name in names]
    (source / "gone before").unlink()
    with (source / "grown before").open("ab") as file:
        file.write(b"more")

    def meddle(_: int) -> None:
        (source / "gone while").unlink()
        with (source / "grown while").open("ab") as file:
            file.write(b"more")
        (source / "new").write_bytes(b"two" * 100)
        os.utime(source / "new", ns=(items[4].seen.mtime_ns, items[4].seen.mtime_ns))
        (source / "new").rename(source / "replaced while")

    report = transfer(source, items, Meddling(carrier, meddle), "hop")  # type: ignore[arg-type]
    expected = [Cause.VANISHED, Cause.CHANGED, Cause.VANISHED, Cause.CHANGED, Cause.CHANGED, Cause.DONE]
    assert causes(report) == expected
    assert {outcome.next for outcome in report.outcomes[:5]} == {Next.EVALUATE}
    assert tree(target) == {"good": b"one" * 100}


def test_what_is_no_file_is_not_moved(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """Symbolic links and pipes stay where they are."""
    make(source, "file", b"x")
    (source / "link").symlink_to("file")
    os.mkfifo(source / "pipe")
    items = [describe(source, name) for name in ("link", "pipe")]
    report = transfer(source, items, carrier, "hop")
    assert not any(outcome.good for outcome in report.outcomes)
    assert tree(target) == {}


def test_a_root_that_is_missing_is_not_made(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """A store that is not mounted is held; no directory, and no file in place of one, is made there."""
    target.rmdir()
    outcome = transfer(source, [make(source, "backup", b"x")], carrier, "hop").outcomes[0]
    assert (outcome.cause, outcome.next) == (Cause.NO_ROOT, Next.HOLD)
    assert not target.exists()


class Hopeful:
    """A carrier to a store that says it has room whenever it is asked."""

    def __init__(self, carrier: LocalCarrier | SshCarrier) -> None:
        self._carrier = carrier
        self.carry = carrier.carry
        self.algorithms = carrier.hand.algorithms
        self.hand = self

    def ask(self, do: str, stop: threading.Event | None = None, **arguments: object) -> Any:
        """As the real one answers, but for the room."""
        answer = self._carrier.hand.ask(do, stop, **arguments)
        return {**answer, "free_bytes": 1 << 40} if do == "survey" else answer


def test_a_full_disk_pauses_and_goes_on(
    source: Path, tmp_path: Path, way: Callable[[Path], LocalCarrier | SshCarrier]
) -> None:
    """A disk that is full, known before or met on the way, waits for room; what fitted is there and whole."""
    with tiny_disk(tmp_path / "disk", 1 << 20) as place:
        carrier = way(place)
        small, large = make(source, "a small one", os.urandom(300_000)), make(source, "large", os.urandom(2 << 20))
        known = transfer(source, [large], carrier, "hop")
        assert causes(known) == [Cause.DISK_FULL] and known.carried == 0
        met = transfer(source, [small, large], Hopeful(carrier), "hop")  # type: ignore[arg-type]
        assert causes(met) == [Cause.DONE, Cause.DISK_FULL] and met.outcomes[1].next is Next.WAIT_FOR_SPACE
        assert list(tree(place)) == ["a small one"], (
            "what was sent of the large one is gone, it would only be in the way"
        )
        subprocess.run(["mount", "-o", "remount,size=16M", str(place)], check=True)
        assert causes(transfer(source, [small, large], carrier, "hop")) == [Cause.ALREADY_THERE, Cause.DONE]
        assert tree(place) == tree(source)


def test_a_read_only_disk_is_held(source: Path, tmp_path: Path, link: Link) -> None:
    """A store that takes nothing is not a full one: a person has to look."""
    with tiny_disk(tmp_path / "disk", 1 << 20) as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        item = make(source, "a", b"x")
        for carrier in (LocalCarrier(LocalHand(place)), remote(link, place)):
            outcome = transfer(source, [item], carrier, "hop").outcomes[0]
            assert (outcome.cause, outcome.next) == (Cause.READ_ONLY, Next.HOLD)


def test_a_program_that_is_missing_moves_nothing(source: Path, target: Path, link: Link) -> None:
    """Without rsync, here or there, or Python there, the tool is at fault, not a file."""
    item = make(source, "a", b"x")
    for carrier in (
        remote(link, target, program="no-such-rsync"),
        remote(link, target, remote_program="no-such-rsync"),
        SshCarrier(RemoteHand(link, target, ("no-such-python",))),
    ):
        outcome = transfer(source, [item], carrier, "hop").outcomes[0]
        assert (outcome.cause, outcome.next) == (Cause.TOOL_MISSING, Next.TOOL), outcome
    assert tree(target) == {} and list(tree(source)) == ["a"]


def test_a_host_without_xxhash_uses_sha1(source: Path, target: Path, link: Link) -> None:
    """Where the other side cannot compute the default, both sides use what it can, and a recorded digest still counts."""
    hand = RemoteHand(link, target, (sys.executable, "-S"))  # without site-packages
    if "xxh3_128" in hand.algorithms():
        pytest.skip("the program xxhsum is installed here")
    make(source, "a", b"x" * 10)
    recorded = digest(source / "a")["xxh3_128"]
    report = transfer(source, [describe(source, "a", digest=recorded)], SshCarrier(hand), "hop")
    assert (causes(report), report.digests) == ([Cause.DONE], (digest(source / "a", ["sha1"])["sha1"],))
    wrong = describe(source, "a", digest=Digest("xxh3_128", "0" * 32))
    assert causes(transfer(source, [wrong], SshCarrier(hand), "hop")) == [Cause.AT_SOURCE]


def test_a_stopped_transfer_is_not_seen_and_goes_on(source: Path, target: Path, link: Link) -> None:
    """What a stop leaves is never under the final name, and is used when the transfer starts again."""
    item = make(source, "big", os.urandom(8 << 20))
    stop, seen = threading.Event(), []

    def progress(now: Progress) -> None:
        seen.append("big" in tree(target))
        if now.bytes > 1 << 20:
            stop.set()

    slow = remote(link, target, limit=2 << 20)
    outcome = transfer(source, [item], slow, "hop", on_progress=progress, stop=stop).outcomes[0]
    assert (outcome.cause, outcome.next) == (Cause.INTERRUPTED, Next.RETRY)
    assert seen and not any(seen) and "big" not in tree(target)
    kept = target / INCOMING / "hop" / rsync.partial("big")
    deadline = time.monotonic() + 60.0
    while not kept.exists():  # the other side notices a little later
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert kept.stat().st_size >= 1 << 20
    assert causes(transfer(source, [item], remote(link, target), "hop")) == [Cause.DONE]
    assert tree(target) == tree(source)


def test_a_link_that_breaks_is_retried(source: Path, target: Path, server: Sshd) -> None:
    """A connection that is cut in the middle of a file is tried again, and nothing half sent is named."""
    item = make(source, "big", os.urandom(8 << 20))
    with opened(server) as own:

        def cut(now: Progress) -> None:
            if now.bytes > 1 << 20:
                own.shut()

        outcome = transfer(source, [item], remote(own, target, limit=2 << 20), "hop", on_progress=cut).outcomes[0]
        assert (outcome.cause, outcome.next) == (Cause.UNREACHABLE, Next.RETRY)
        assert "big" not in tree(target)
        own.open()
        own.wait()
        assert causes(transfer(source, [item], remote(own, target), "hop")) == [Cause.DONE]
    assert tree(target) == tree(source)


_MOVER = """
import sys
from pathlib import Path
from socs_bl.dataflow.hand import RemoteHand
from socs_bl.dataflow.rsync import Options
from socs_bl.dataflow.ssh import Link
from socs_bl.dataflow.transfer import SshCarrier, transfer
from tests.dataflow.moving import describe
host, port, identity, known_hosts, source, target = sys.argv[1:]
link = Link(host, int(port), Path(identity), Path(known_hosts), timeout=60.0)
link.open()
link.wait()
carrier = SshCarrier(RemoteHand(link, Path(target), (sys.executable,)), Options(limit=2 << 20))
transfer(Path(source), [describe(Path(source), "big")], carrier, "hop", on_progress=lambda p: print(p.bytes, flush=True))
"""


def test_a_mover_that_is_killed_leaves_nothing_running(
    source: Path, target: Path, tmp_path: Path, server: Sshd, link: Link
) -> None:
    """After a SIGKILL in the middle of a file its ssh and rsync are gone too, nothing is visible, and the next one ends it."""
    item = make(source, "big", os.urandom(8 << 20))
    words = [f"{server.user}@127.0.0.1", server.port, server.identity, server.known_hosts, source, target]
    log = tmp_path / "log"
    scratch = tempfile.TemporaryDirectory()  # what the killed one leaves; short, for its socket
    argv = [sys.executable, "-c", _MOVER, *map(str, words)]
    mover = Child("mover", argv, log, {"TMPDIR": scratch.name}, Path(__file__).parents[2])
    try:
        mover.wait_ready(lambda: any(int(line) > 1 << 20 for line in mover.log_tail().splitlines()), 60.0)
        helpers = [helper for child in (mover.pid, *(c.pid for c in children(mover.pid))) for helper in children(child)]
        assert len(helpers) >= 2, "ssh and rsync"
    finally:
        mover.kill()
    assert wait_gone(helpers, 30.0) == []
    scratch.cleanup()
    assert "big" not in tree(target)
    assert causes(transfer(source, [item], remote(link, target), "hop")) == [Cause.DONE]
    assert tree(target) == tree(source)


def test_a_way_that_stands_still_is_a_timeout(source: Path, target: Path, link: Link) -> None:
    """A transfer that takes too long is ended and tried again."""
    item = make(source, "big", os.urandom(8 << 20))
    outcome = transfer(source, [item], remote(link, target, limit=1 << 20, longest=1.0), "hop").outcomes[0]
    assert (outcome.cause, outcome.next) == (Cause.TIMEOUT, Next.RETRY)


def test_modes_and_progress(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """Files get the mode that was asked for, and it is told how far the transfer is."""
    if isinstance(carrier, SshCarrier):
        carrier.options = Options(mode=0o664)
    else:
        carrier.mode = 0o664
    told: list[Progress] = []
    items = [make(source, f"f{number}", os.urandom(50_000)) for number in range(4)]
    transfer(source, items, carrier, "hop", on_progress=told.append)
    assert {(target / item.target).stat().st_mode & 0o777 for item in items} == {0o664}
    assert told[-1] == Progress(200_000, 4)


def test_names_that_differ_by_case_only_do_not_meet(source: Path, target: Path) -> None:
    """Where the target does not tell A from a, the second is a conflict, not a replacement."""

    class Caseless(Disk):
        def lstat(self, path: bytes) -> os.stat_result:
            return super().lstat(self._folded(path))

        def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
            return super().open(self._folded(path), flags, mode)

        def rename(self, source: bytes, target: bytes) -> None:
            super().rename(source, self._folded(target))

        def _folded(self, path: bytes) -> bytes:
            # What arrives keeps its name: two directories on their way are no conflict yet.
            final = path.startswith(os.fsencode(target)) and INCOMING.encode() not in path
            return os.path.join(os.path.dirname(path), os.path.basename(path).lower()) if final else path

    items = [make(source, "A.h5", b"one"), make(source, "a.h5", b"two")]
    report = transfer(source, items, LocalCarrier(LocalHand(target, Caseless())), "hop")
    assert causes(report) == [Cause.DONE, Cause.CONFLICT]
    assert tree(target) == {"a.h5": b"one"}


def test_what_was_left_long_ago_is_swept(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """What nobody has asked for since goes; what is on its way now, and everything that has a name, stays."""
    transfer(source, [make(source, "kept", b"x")], carrier, "hop")
    old = target / INCOMING / "hop" / "deep" / "old"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"half")
    assert carrier.hand.ask("sweep", before_ns=old.stat().st_ctime_ns) == []
    assert carrier.hand.ask("sweep", before_ns=old.stat().st_ctime_ns + 1) == [f"{INCOMING}/hop/deep/old"]
    assert arriving(target) == [] and list(tree(target)) == ["kept"]


def test_deleting_is_of_the_file_that_was_meant(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """A file that became another one since the decision stays; one that is gone already is said to be."""
    meant = [make(target, name, b"x" * 10).seen for name in ("kept", "deleted", "gone")]
    (target / "gone").unlink()
    (target / "kept").write_bytes(b"another")
    items = [{"path": s.path, "size": s.size, "mtime_ns": s.mtime_ns, "inode": s.inode} for s in meant]
    states = [answer["state"] for answer in carrier.hand.ask("delete", items=items)]
    assert states == ["changed", "ok", "missing"]
    assert tree(target) == {"kept": b"another"}


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "", f"{INCOMING}/x", "a\0b"])
def test_paths_that_lead_elsewhere_are_refused(source: Path, target: Path, path: str) -> None:
    """Nothing outside a store is read or written, nor what arrives there."""
    item = make(source, "a", b"x")
    with pytest.raises(Refused):
        transfer(source, [type(item)(item.seen, path)], LocalCarrier(LocalHand(target)), "hop")


def test_a_name_below_a_file_is_held(source: Path, target: Path, carrier: LocalCarrier | SshCarrier) -> None:
    """Where a directory would have to be and a file or another file system is, a person has to look; the rest arrives."""
    (target / "file").write_bytes(b"kept")
    (target / "dir").mkdir()
    good, below, above = (make(source, name, b"x") for name in ("good", "file2/x", "dir2"))
    items = [good, type(good)(below.seen, "file/x"), type(good)(above.seen, "dir", replace=True)]
    report = transfer(source, items, carrier, "hop")
    assert causes(report) == [Cause.DONE, Cause.PLACE, Cause.PLACE]
    assert tree(target).keys() - set(arriving(target)) == {"good", "file"} and (target / "dir").is_dir()


def test_two_files_of_one_name_are_refused(source: Path, target: Path) -> None:
    """A batch that would put two files under one name changes nothing."""
    items = [make(source, name, b"x") for name in ("a", "b")]
    with pytest.raises(Refused):
        transfer(source, [type(item)(item.seen, "same") for item in items], LocalCarrier(LocalHand(target)), "hop")
    with pytest.raises(Refused):
        transfer(source, [items[0], type(items[0])(items[0].seen, "b")], LocalCarrier(LocalHand(target)), "hop")
    with pytest.raises(Refused):
        transfer(source, items, LocalCarrier(LocalHand(target)), "../hop")
    assert tree(target) == {}
