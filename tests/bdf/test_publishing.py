"""Publishing on real files: every rule, every kind of failure, and a crash before and after every call to the system."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from socs_bl.bdf.config import PublisherConfig
from socs_bl.bdf.effects import Performer
from socs_bl.bdf.files import Files
from socs_bl.bdf.lookout import LISTED_ANYWAY, Lookout
from socs_bl.bdf.model import DiscardNow, Measure, PublishNow, Resend
from socs_bl.bdf.sidefile import SideFile, decode_side_file
from socs_bl.bdf.wire import parse_info
from socs_bl.core.effect import Answer
from socs_bl.core.memory_journal import MemoryJournal, Vault
from tests.bdf.publishing import (
    NODES,
    START_NS,
    Publisher,
    make_config,
    make_scan,
    mark,
    open_file,
    record,
    value_of,
)
from tests.harness.disk import tiny_disk

STOP = START_NS / 1e9 + 6


class Desk:
    """A publisher, its directories and what it has sent."""

    def __init__(self, tmp_path: Path, files: Files | None = None, **changes: Any) -> None:
        self.config: PublisherConfig = make_config(tmp_path, **changes)
        self.vault, self.files, self.sent = Vault(), files or Files(), list[bytes]()
        self.publisher = self.start()

    def start(self, wall: float = STOP) -> Publisher:
        self.publisher = Publisher(self.config, MemoryJournal(self.vault), self.files, self.sent, wall)
        return self.publisher

    def recorded(self, number: int = 1, nodes: tuple[str, ...] = NODES, **changes: Any) -> str:
        """A recording that `nodes` have finished."""
        name = record(self.config.private, make_scan(number, **changes))
        for node in nodes:
            mark(self.config.private, name, node)
        return name

    def side(self, name: str) -> SideFile:
        return decode_side_file((self.config.bdfdir / f"{name}.json").read_bytes(), name)

    def private(self) -> set[str]:
        return {path.name for path in self.config.private.iterdir()}

    def public(self) -> set[str]:
        return {path.name for path in self.config.bdfdir.iterdir() if path.is_file()}

    def told(self, level: str) -> str:
        return "\n".join(tell.text for tell in self.publisher.told if tell.level == level)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A publisher of empty directories."""
    return Desk(tmp_path)


def check_published(config: PublisherConfig, name: str, sent: list[bytes], number: int = 1) -> None:
    """Once, whole, announced under one id, cleaned up, in the SDM, and readable by two readers that are not ours."""
    import sdmpy
    from pyasdm.bdf import BDFReader

    copies = [path.name for path in config.bdfdir.glob("uid_*") if path.suffix != ".json"]
    assert copies.count(name) == 1 and f"{name}-2" not in copies
    assert {path.name for path in config.private.glob(f"{name}*")} == {f"{name}.sent"}
    infos = [info for info in map(parse_info, sent) if info.id == name]
    assert infos and len(set(infos)) == 1 and infos[0].num_integration == 6
    scan = sdmpy.SDM(str(config.bdfdir / "sdm" / "X_test.57897.1")).scan(number)
    assert scan.numIntegration == scan.bdf.numIntegration == 6 and scan.antennas == ["ea01", "ea02", "ea03"]
    expected = np.array([value_of(make_scan(number), index) for index in range(6)])
    for index in range(6):
        read = scan.bdf[index].get_data(0)
        assert np.array_equal(read.reshape(expected[index].shape), expected[index])
    reader = BDFReader()
    reader.open(str(config.bdfdir / name))
    count = 0
    while reader.hasSubset():
        reader.getSubset()
        count += 1
    reader.close()
    assert count == 6


def test_a_file_is_published_when_all_nodes_have_finished(desk: Desk) -> None:
    """Not before the last marker; then file, side file, SDM and BdfInfo say the same, and nothing is left behind."""
    name = desk.recorded(nodes=NODES[:1])
    desk.publisher.look()
    assert desk.public() == set() and f"{name}.part" in desk.private()
    mark(desk.config.private, name, NODES[1], integrations=5, dropped=1)
    desk.publisher.look()
    check_published(desk.config, name, desk.sent)
    info, side = parse_info(desk.sent[0]), desk.side(name)
    assert (
        side.uid == info.uid == make_scan().uid and side.size == info.size == (desk.config.bdfdir / name).stat().st_size
    )
    assert [antenna.name for antenna in side.antennas] == ["ea01", "ea02", "ea03"]
    assert side.nodes["cbe-02"].dropped == 1 and not side.aborted and side.windows[0].centre == 1.5e9
    assert desk.publisher.machine.files == {} and desk.publisher.machine.tally.published == 1


def test_a_node_that_says_nothing_is_not_waited_for_for_ever(desk: Desk) -> None:
    """A file that rests for the grace time after its stop is finished; a change begins that time anew."""
    name = desk.recorded(nodes=NODES[:1])
    desk.publisher.look()
    desk.publisher.wait(29.0)
    os.utime(desk.config.private / f"{name}.part")
    desk.publisher.wait(29.0)
    assert desk.public() == set()
    desk.publisher.wait(32.0)
    check_published(desk.config, name, desk.sent)
    side = desk.side(name)
    assert side.aborted and "no end from cbe-02" in side.reason and "unchanged" in side.reason


def test_a_recording_under_way_is_left_alone(desk: Desk) -> None:
    """Before its stop nothing is measured or finished, however long the file rests."""
    stop = START_NS + 3600 * 10**9
    name = record(desk.config.private, make_scan(stop_ns=stop))
    desk.publisher.look()
    desk.publisher.wait(3500.0)
    assert desk.public() == set() and desk.publisher.machine.stage(name) == "waiting"
    desk.publisher.wait(200.0)
    assert name in desk.public()


def _measure_while_it_shrinks(directory: str) -> None:
    """Measure a file whose end comes and goes, as on a full disk; a process of its own, since it may die of it."""
    config = PublisherConfig(bdfdir=Path(directory))
    config.private.mkdir(parents=True)
    name = record(config.private, make_scan())
    part = config.private / f"{name}.part"
    size, ended = part.stat().st_size, threading.Event()

    def shrink() -> None:
        while not ended.is_set():
            os.truncate(part, 4096)
            os.truncate(part, 100 * size)

    other = threading.Thread(target=shrink)
    other.start()
    performer = Performer(config, Lookout(config), lambda data: None)
    for _ in range(150):
        performer.perform(Measure(name=name, rested=0.0))
    ended.set()
    other.join()


def test_a_file_that_shrinks_is_measured(tmp_path: Path) -> None:
    """A writer whose disk is full takes back what it has begun; who looks at the file meanwhile lives."""
    child = multiprocessing.get_context("fork").Process(target=_measure_while_it_shrinks, args=(str(tmp_path),))
    child.start()
    child.join(60)
    status = child.exitcode
    child.close()
    assert status == 0


def test_an_abandoned_recording_is_published_in_the_end(desk: Desk) -> None:
    """Nobody has said when it ends, and it has not changed for an hour."""
    name = record(desk.config.private, make_scan(stop_ns=0, nodes=()))
    desk.publisher.look()
    desk.publisher.wait(3590.0)
    assert desk.public() == set()
    desk.publisher.wait(30.0)
    assert "unchanged for 3600 s" in desk.side(name).reason


def test_long_integrations_have_more_time(desk: Desk) -> None:
    """Five integrations, when they are longer than the grace time."""
    desk.config = desk.config.model_copy(update={"grace_seconds": 2.0})
    desk.start()
    name = desk.recorded(nodes=())
    desk.publisher.look()
    desk.publisher.wait(4.9)
    assert desk.public() == set()
    desk.publisher.wait(0.2)
    assert name in desk.public()


def test_an_aborted_recording_says_so(desk: Desk) -> None:
    """The reason of a node stands in the side file, in BdfInfo and in the file's last integration."""
    name = record(desk.config.private, make_scan())
    mark(desk.config.private, name, NODES[0])
    mark(desk.config.private, name, NODES[1], aborted=True, reason="disk full")
    desk.publisher.look()
    assert desk.side(name).reason == "cbe-02: disk full" and parse_info(desk.sent[0]).aborted
    assert b"cbe-02: disk full" in (desk.config.bdfdir / name).read_bytes()


def test_what_a_scan_lacks_is_told(desk: Desk) -> None:
    """Frames that stop, or come late, cost integrations and abort nothing: people and the side file hear how many."""
    whole = desk.recorded()
    short, open_end = (
        record(desk.config.private, scan, integrations=4) for scan in (make_scan(2), make_scan(3, stop_ns=0))
    )
    for name in (short, open_end):
        for node in NODES:
            mark(desk.config.private, name, node, integrations=4)
    desk.publisher.look()
    assert {short, whole, open_end} <= desk.public()
    assert desk.told("warning") == f"{short} has 4 of the 6 integrations of its time"
    expected = [desk.side(name).expected_integrations for name in (short, whole, open_end)]
    assert expected == [6, 6, 0] and not desk.side(short).aborted


def test_a_file_without_integrations_is_discarded(desk: Desk) -> None:
    """Only when there is nothing in it; people are told why."""
    open_file(desk.config.private, make_scan()).close()
    desk.publisher.look()
    for node in NODES:
        mark(desk.config.private, "uid____evla_bdf_1433189755001", node, integrations=0)
    desk.publisher.look()
    assert desk.private() == desk.public() == set() and desk.sent == []
    assert "holds no integration" in desk.told("warning") and desk.publisher.machine.tally.discarded == 1


def test_markers_without_a_file_are_tidied(desk: Desk) -> None:
    """Nodes that never had an integration leave markers only: after the grace time they go, and people are told."""
    mark(desk.config.private, "uid____evla_bdf_7", NODES[0], integrations=0, stop_ns=START_NS)
    desk.publisher.look()
    desk.publisher.wait(61.0)
    assert desk.private() == set() and desk.publisher.machine.tally.discarded == 1


def test_a_late_marker_of_a_published_file_is_removed(desk: Desk) -> None:
    """A node that comes late does not bring a published file back."""
    name = desk.recorded()
    desk.publisher.look()
    mark(desk.config.private, name, "cbe-03")
    desk.publisher.look()
    assert desk.private() == {f"{name}.sent"} and len(desk.sent) == 1


def test_a_second_copy_gets_a_name_of_its_own(desk: Desk) -> None:
    """A published file is never overwritten; the SDM goes on naming the first one."""
    name = desk.config.bdfdir / "uid____evla_bdf_1433189755001"
    private = desk.config.private / f"{name.name}.part"
    desk.recorded()
    content = private.read_bytes()
    desk.publisher.look()
    first = name.read_bytes()
    private.write_bytes(content.replace(b"\0\0\x80?", b"\0\0\0@"))
    desk.publisher.look()
    desk.publisher.take(PublishNow(name=name.name))
    assert name.read_bytes() == first and (desk.config.bdfdir / f"{name.name}-2").exists()
    assert [parse_info(data).id for data in desk.sent] == [name.name, f"{name.name}-2"]
    assert "published already" in desk.told("warning")
    assert desk.private() == {f"{name.name}.sent", f"{name.name}-2.sent"}
    binary = desk.config.bdfdir / "sdm" / "X_test.57897.1" / "ASDMBinary"
    assert os.path.samefile(binary / name.name, name)


def test_several_scans_of_a_block_are_in_one_sdm(desk: Desk) -> None:
    """Each publication makes the tables anew, with all scans published so far; other datasets have their own."""
    import sdmpy

    names = [desk.recorded(number) for number in (1, 2)]
    other = desk.recorded(3, dataset_id="Y_test.57897.2")
    desk.publisher.look()
    sdm = sdmpy.SDM(str(desk.config.bdfdir / "sdm" / "X_test.57897.1"))
    assert [(scan.idx, Path(scan.bdf_fname).name) for scan in sdm.scans()] == [("1", names[0]), ("2", names[1])]
    assert {path.name for path in (desk.config.bdfdir / "sdm").iterdir()} == {"X_test.57897.1", "Y_test.57897.2"}
    for number, name in enumerate(names, 1):
        check_published(desk.config, name, desk.sent, number)
    desk.start()
    desk.recorded(4, dataset_id="Y_test.57897.2")
    desk.publisher.look()
    rows = sdmpy.SDM(str(desk.config.bdfdir / "sdm" / "Y_test.57897.2"))["Main"]
    assert [int(row.scanNumber) for row in rows] == [3, 4] and other in desk.public()


def test_a_dataset_that_is_no_name_has_no_sdm(desk: Desk) -> None:
    """A hostile dataset id never becomes a path; the file is published and announced all the same."""
    name = desk.recorded(dataset_id="../../etc")
    desk.publisher.look()
    assert name in desk.public() and len(desk.sent) == 1 and "cannot be the name" in desk.told("error")
    assert not (desk.config.bdfdir / "sdm").exists()


def test_a_lost_scan_does_not_keep_the_file_back(desk: Desk) -> None:
    """An unreadable scan is told of; what the file itself says stands in for it."""
    name = desk.recorded()
    (desk.config.private / f"{name}.scan.json").write_text("{}")
    desk.publisher.look()
    assert "is not a scan" in desk.told("warning")
    desk.publisher.take(PublishNow(name=name))
    side = desk.side(name)
    assert side.uid == make_scan().uid and side.antennas[0].name == "antenna1" and side.scan_no == 1


def test_foreign_files_are_left_alone(desk: Desk) -> None:
    """What has no name of ours is neither published nor removed."""
    for name in ("notes.txt", "uid_x.part.bak", "UID.part", "uid_a.b.c.done"):
        (desk.config.private / name).write_text("x")
    desk.publisher.look()
    desk.publisher.wait(7200.0)
    assert len(desk.private()) == 4 and desk.public() == set() and not desk.publisher.machine.files


# -- people ------------------------------------------------------------------------------------------------------------


def answer(desk: Desk, event: Any) -> str:
    """The refusal of a wish; empty when it is granted."""
    (reply,) = [effect for effect in desk.publisher.take(event) if isinstance(effect, Answer)]
    return reply.refusal


def test_people_publish_discard_and_resend(desk: Desk) -> None:
    """By hand: publish without waiting, discard what is not published, announce again under the same id."""
    first, second = desk.recorded(1, nodes=()), desk.recorded(2, nodes=())
    desk.publisher.look()
    assert answer(desk, PublishNow(name=first)) == ""
    check_published(desk.config, first, desk.sent)
    assert "published by hand" in desk.side(first).reason
    assert "lie in the creation directory" in answer(desk, DiscardNow(name=first))
    assert answer(desk, DiscardNow(name=second)) == ""
    assert second not in desk.public() and "a person asked" in desk.told("warning")
    assert answer(desk, Resend(name=first)) == ""
    assert len(desk.sent) == 2 and desk.sent[0] == desk.sent[1]
    tally = desk.publisher.machine.tally
    assert (tally.published, tally.announced, tally.discarded) == (1, 2, 1)
    for event in (PublishNow(name="uid_no"), DiscardNow(name="uid_no")):
        assert "list_files" in answer(desk, event)


# -- failures ----------------------------------------------------------------------------------------------------------


class FailingFiles(Files):
    """Calls on paths with `what` in them fail, like on a bad disk."""

    def __init__(self) -> None:
        self.what, self.number = "", 0

    def _fail(self, path: Path) -> None:
        if self.what and self.what in str(path):
            raise OSError(self.number, os.strerror(self.number), str(path))

    def create(self, path: Path, data: bytes) -> None:
        self._fail(path)
        super().create(path, data)

    def sync(self, path: Path) -> None:
        self._fail(path)
        super().sync(path)

    def link(self, source: Path, target: Path) -> None:
        self._fail(target)
        super().link(source, target)


@pytest.mark.parametrize(("number", "advice"), [(errno.EIO, "kernel's log"), (errno.EROFS, "mount it writable")])
@pytest.mark.parametrize("where", ["{name}.part", "{name}.json", "{name}.sent"])
def test_a_bad_disk_costs_one_file(tmp_path: Path, where: str, number: int, advice: str) -> None:
    """One file is flagged, with what to do; the next one is published; and that one too when the disk is well again."""
    files = FailingFiles()
    desk = Desk(tmp_path, files)
    name, other = desk.recorded(1), desk.recorded(2)
    files.what, files.number = where.format(name=name), number
    desk.publisher.look()
    assert advice in desk.told("error") and desk.publisher.machine.stage(name) == "faulty"
    check_published(desk.config, other, desk.sent, 2)
    for _ in range(4):
        desk.publisher.wait(600.0)
    assert desk.told("error").count(advice) == 1, "told once"
    files.what = ""
    desk.publisher.wait(3600.0)
    check_published(desk.config, name, desk.sent)
    assert "goes on" in desk.told("info")


def test_a_bad_sdm_does_not_keep_the_news_back(tmp_path: Path) -> None:
    """BdfInfo is sent although the tables could not be written; people are told, and resend makes them."""
    files = FailingFiles()
    desk = Desk(tmp_path, files)
    files.what, files.number = "Main.xml", errno.ENOSPC
    name = desk.recorded()
    desk.publisher.look()
    assert len(desk.sent) == 1 and "not described" in desk.told("error") and "make room" in desk.told("error")
    files.what = ""
    assert answer(desk, Resend(name=name)) == ""
    check_published(desk.config, name, desk.sent)


def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system that is full to the last byte nothing is lost; with room everything is published."""
    with tiny_disk(tmp_path / "disk", 1 << 20) as place:
        desk = Desk(place)
        name = desk.recorded()
        filler = place / "filler"
        with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        desk.publisher.look()
        assert name not in desk.public() or not (desk.config.bdfdir / f"{name}.json").exists()
        assert "space" in desk.told("error") and desk.sent == []
        filler.unlink()
        desk.publisher.wait(3600.0)
        check_published(desk.config, name, desk.sent)


def test_a_read_only_disk(tmp_path: Path) -> None:
    """Mounted read-only and writable again: one message, then the file is published."""
    with tiny_disk(tmp_path / "disk", 1 << 20) as place:
        desk = Desk(place)
        name = desk.recorded()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        desk.publisher.look()
        assert desk.told("error").count("ead-only") == 1 and desk.publisher.machine.stage(name) == "faulty"
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        desk.publisher.wait(3600.0)
        check_published(desk.config, name, desk.sent)


def test_a_damaged_file_waits_for_people(desk: Desk) -> None:
    """Its header cannot be read: it is not tried again and again, the next works, discarding it is for people."""
    name, other = desk.recorded(1), desk.recorded(2)
    part = desk.config.private / f"{name}.part"
    part.write_bytes(b"garbage" + part.read_bytes()[7:])
    desk.publisher.look()
    assert desk.publisher.machine.stage(name) == "damaged" and "salvage" in desk.told("error")
    desk.publisher.wait(7200.0)
    check_published(desk.config, other, desk.sent, 2)
    assert part.exists() and desk.told("error").count(name) == 2  # the name and the path
    assert answer(desk, DiscardNow(name=name)) == "" and not part.exists()


# -- crashes -----------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process is gone."""


class CutFiles(Files):
    """Dies at call number `at`; odd numbers before the call, even ones after it. A dead one does nothing any more."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def _cut(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._point()
        call(*arguments)
        self._point()

    def _point(self) -> None:
        self.calls += 1
        if self.calls >= self.at > 0:
            raise Crash

    def create(self, path: Path, data: bytes) -> None:
        self._point()
        path.write_bytes(data[: len(data) // 2])
        self._cut(super().create, path, data)

    def sync(self, path: Path) -> None:
        self._cut(super().sync, path)

    def link(self, source: Path, target: Path) -> None:
        self._cut(super().link, source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._cut(super().replace, source, target)

    def remove(self, path: Path) -> None:
        self._cut(super().remove, path)

    def make_directory(self, path: Path) -> None:
        self._cut(super().make_directory, path)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory in memory where there is one: hundreds of publications wait for the disk otherwise."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="socs_bl-", dir=place) as directory:
        yield Path(directory)


@pytest.mark.parametrize("journal_lost", [False, True])
def test_a_crash_between_any_two_calls(in_memory: Path, journal_lost: bool) -> None:
    """Killed at every point: unpublished and whole, or published once; after a restart published, with one id."""
    whole = Desk(in_memory / "whole", CutFiles(0))
    whole.recorded()
    whole.publisher.look()
    assert isinstance(whole.files, CutFiles)
    points = whole.files.calls
    assert points > 100
    for at in range(1, points + 1):
        desk = Desk(in_memory / str(at), CutFiles(at))
        name = desk.recorded()
        with pytest.raises(Crash):
            desk.publisher.look()
        published, part = desk.config.bdfdir / name, desk.config.private / f"{name}.part"
        assert published.exists() or part.exists(), f"lost at point {at}"
        if desk.sent:
            assert (desk.config.bdfdir / f"{name}.json").exists(), f"announced before it was published at point {at}"
        desk.files = Files()
        if journal_lost:
            desk.vault = Vault()
        desk.start()
        assert [parse_info(data).id for data in desk.sent] in ([name], [name, name]), f"point {at}"
        assert {path.name for path in desk.config.private.iterdir()} <= {f"{name}.sent", f".{name}.sent.new"}
        assert desk.public() == {name, f"{name}.json"} | {path for path in desk.public() if path.endswith(".new")}
        if at % 8 == 0 or at == points:
            check_published(desk.config, name, desk.sent)


@pytest.mark.parametrize("at", range(1, 8))
def test_a_crash_while_a_file_is_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Killed before a call of finishing itself: after a restart the file is published whole."""
    name, calls = desk.recorded(), itertools.count(1)

    def cut(real: Callable[..., Any], *arguments: Any) -> Any:
        if next(calls) >= at:
            raise Crash
        return real(*arguments)

    with monkeypatch.context() as patch:
        for call in ("ftruncate", "pwrite", "pwritev", "fsync"):
            patch.setattr(os, call, partial(cut, getattr(os, call)))
        with pytest.raises(Crash):
            desk.publisher.look()
    assert at > 3 or not (desk.config.bdfdir / name).exists()
    desk.start()
    check_published(desk.config, name, desk.sent)


def test_a_crash_while_discarding(tmp_path: Path) -> None:
    """An empty file is gone in the end, wherever the publisher was killed; nothing was announced."""
    for at in range(1, 12):
        desk = Desk(tmp_path / str(at), CutFiles(at))
        open_file(desk.config.private, make_scan()).close()
        for node in NODES:
            mark(desk.config.private, "uid____evla_bdf_1433189755001", node, integrations=0)
        try:
            desk.publisher.look()
        except Crash:
            desk.files = Files()
            desk.start()
        desk.publisher.wait(120.0)
        assert desk.private() == desk.public() == set() and desk.sent == []


# -- looking and cataloguing -------------------------------------------------------------------------------------------


def test_a_quiet_directory_is_listed_now_and_then(desk: Desk) -> None:
    """A change that the directory's time does not show (a clock that lies) is found all the same, a little later."""
    name = desk.recorded()
    for _ in range(LISTED_ANYWAY + 1):
        for directory in (desk.config.private, desk.config.bdfdir):
            os.utime(directory, (1, 1))
        desk.publisher.look()
    check_published(desk.config, name, desk.sent)


def test_published_files_are_catalogued(tmp_path: Path) -> None:
    """sotodlib's Context finds a published file by its scan, with its numbers; a resend enters nothing twice."""
    from sotodlib.core import Context

    desk = Desk(tmp_path, catalogue=tmp_path / "catalogue")
    name = desk.recorded(1)
    desk.recorded(2)
    desk.publisher.look()
    assert answer(desk, Resend(name=name)) == ""
    context = Context(str(tmp_path / "catalogue" / "context.yaml"))
    assert len(context.obsdb.query()) == 2
    (found,) = context.obsdb.query("scan == 1 and source == '3C286'")
    assert found["obs_id"] == name and found["integrations"] == 6 and found["duration"] == 6.0
    (files,) = context.obsfiledb.get_files(name).values()
    assert [path for path, *_ in files] == [str(desk.config.bdfdir / name)]
    context.obsdb.conn.close()
    context.obsfiledb.conn.close()
