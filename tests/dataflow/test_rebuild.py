"""The catalogue comes back from the disks and the manifests, with no more trust than they deserve."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from socs_bl.core.clock import Instant
from socs_bl.core.config import check
from socs_bl.dataflow.catalogue import Catalogue, Opened, set_aside
from socs_bl.dataflow.manifest import Ack, Manifest, Origin, Sent, answer
from socs_bl.dataflow.model import CopyState, Digest, Seen
from socs_bl.dataflow.pipeline import Pipeline
from socs_bl.dataflow.rebuild import Rebuilt, rebuild
from socs_bl.dataflow.retention import Held, decide
from socs_bl.dataflow.stages import PipelineConfig, Retention
from tests.dataflow.borealis import raw

DAY = 86400 * 10**9
NOW = 20_000 * DAY
RAW = "20240305.1400.00.sas.a.rawacf"
PACKED = RAW + ".bz2"
IQ = "20240305.1400.00.sas.0.antennas_iq.h5"
SCANS = {
    "radar": [Seen("radar", f"20240305/{PACKED}", 60, 2, 3), Seen("radar", "20240305/notes.txt", 5, 2, 4)],
    "nas": [
        Seen("nas", f"rawacf/{PACKED}", 60, 2, 5),
        Seen("nas", f"backup/{PACKED}", 60, 2, 6),
        Seen("nas", IQ, 9, 2, 7),
    ],
}


class Noon:
    """A clock that stands."""

    def now(self) -> Instant:
        """The day of the tests."""
        return Instant(NOW / 1e9, 0.0)


@pytest.fixture
def pipeline() -> Pipeline:
    """That of the site."""
    return Pipeline(check(raw(), PipelineConfig, "test"))


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """A new one, where there has been one."""
    path = tmp_path / "site.sqlite"
    Catalogue(path, Noon()).close()
    set_aside(path)
    with contextlib.closing(Catalogue(path, Noon())) as opened:
        assert opened.opened is Opened.LOST
        yield opened


def digest(number: int) -> Digest:
    """One of different digests."""
    return Digest("xxh3_128", f"{number:032x}")


def sent(number: int = 1, pipeline: str = "borealis-site") -> Manifest:
    """What was brought to the site's store: the packed file, twice."""
    origin = Origin(RAW, 100, (digest(8),), "pack")
    file = Sent(
        name=PACKED, bytes=60, digests=(digest(number),), places=(f"rawacf/{PACKED}", f"backup/{PACKED}"), origin=origin,
        metadata={"cp": 151},
    )  # fmt: skip
    return Manifest(pipeline=pipeline, stage="to_nas", host="bore206", block="20240305.1400.00.sas", files=(file,))


def acked(days: int = 1, number: int = 1) -> Ack:
    """What the other side found so many days ago."""
    return answer(sent(), {PACKED: digest(number)}, "nas203", NOW - days * DAY)


def states(catalogue: Catalogue, name: str) -> dict[str, CopyState]:
    """The copies of a file, by place."""
    with catalogue.read() as view:
        entry = view.file(name)
        assert entry is not None
        return {f"{copy.store}:{copy.path}": copy.state for copy in view.copies(entry.id)}


def may_go(catalogue: Catalogue, pipeline: Pipeline) -> tuple[bool, str]:
    """Whether the rule of the radar's disk lets the packed file go."""
    rule = pipeline.stages["keep"]
    assert isinstance(rule, Retention)
    with catalogue.read() as view:
        entry, copy = view.file(PACKED), view.copy_at("radar", f"20240305/{PACKED}")
        assert entry is not None and copy is not None
        held = Held(file=entry, copy=copy, copies=tuple(view.copies(entry.id)))
        decision = decide(rule, held, NOW, view.rebuilding)
    return decision.delete, decision.reason


def test_disks_alone_say_where_files_are_and_no_more(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """Copies are present, not verified; what fits no pattern is told and left alone; nothing may go."""
    found = rebuild(catalogue, pipeline, SCANS)
    assert found == Rebuilt(files=2, copies=4, missing=0, unknown=(SCANS["radar"][1],), conflicts=())
    assert set(states(catalogue, PACKED).values()) == {CopyState.PRESENT}
    with catalogue.read() as view:
        entry = view.file(PACKED)
        assert entry is not None and entry.fields["type"] == "rawacf" and not view.rebuilding
        assert entry.begins_ns == 1_709_647_200 * 10**9
    assert may_go(catalogue, pipeline) == (False, "its bytes were never hashed")


def test_manifests_say_what_files_are(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """Digest, metadata and what a file was made of come back; a sender's word alone verifies no copy."""
    rebuild(catalogue, pipeline, SCANS, [sent()])
    with catalogue.read() as view:
        entry, origin = view.file(PACKED), view.file(RAW)
        assert entry is not None and origin is not None
        assert (entry.digests, entry.metadata) == ({"xxh3_128": digest(1)}, {"cp": 151})
        assert (entry.parent, entry.made_by, view.made_of(origin.id)) == (origin.id, "pack", [entry])
    assert may_go(catalogue, pipeline) == (False, "0 verified copies of 2 elsewhere")


def test_what_the_other_side_found_counts_from_when_it_looked(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """An acknowledgement verifies the copies at its own time, so that an old one opens nothing."""
    rebuild(catalogue, pipeline, {"radar": SCANS["radar"]}, [sent()], [acked(days=40)])
    assert "verified too long ago" in may_go(catalogue, pipeline)[1]
    for copy in states(catalogue, PACKED):
        assert copy.startswith(("radar:", "nas:"))
    with catalogue.read() as view:
        found = view.copy_at("nas", f"backup/{PACKED}")
        assert found is not None and found.verified_ns == NOW - 40 * DAY


def test_a_fresh_acknowledgement_is_a_proof(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """With it the rule is fulfilled; before the rebuild had ended it was not."""
    assert may_go_before(catalogue)
    rebuild(catalogue, pipeline, {"radar": SCANS["radar"]}, [sent()], [acked()])
    assert may_go(catalogue, pipeline)[0]


def may_go_before(catalogue: Catalogue) -> str:
    """Why nothing may go yet."""
    with catalogue.read() as view:
        return view.rebuilding


@pytest.mark.parametrize("wrong", [acked(number=2), answer(sent(), {PACKED: None}, "nas203", NOW)])
def test_another_finding_is_no_proof(catalogue: Catalogue, pipeline: Pipeline, wrong: Ack) -> None:
    """An acknowledgement of other bytes, or of nothing, verifies nothing."""
    rebuild(catalogue, pipeline, {"radar": SCANS["radar"]}, [sent()], [wrong])
    assert list(states(catalogue, PACKED)) == [f"radar:20240305/{PACKED}"]


def test_manifests_of_others_place_nothing_here(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """What another pipeline sent says what a file is, not where this one has copies."""
    rebuild(catalogue, pipeline, {"radar": SCANS["radar"]}, [sent(pipeline="another")], [acked()])
    assert list(states(catalogue, PACKED)) == [f"radar:20240305/{PACKED}"]


def test_what_contradicts_itself_is_told(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """Two digests or two sizes of one file are a conflict for a person; the rest is entered."""
    scans = {"radar": [*SCANS["radar"], Seen("radar", f"again/{PACKED}", 61, 2, 9)], "nas": SCANS["nas"]}
    found = rebuild(catalogue, pipeline, scans, [sent(), sent(number=2)])
    assert len(found.conflicts) == 2 and found.copies == 4
    assert "its bytes have changed" in found.conflicts[0] and "two files have one name" in found.conflicts[1]


def test_what_is_gone_is_missing_and_what_changed_is_suspect(catalogue: Catalogue, pipeline: Pipeline) -> None:
    """Held against the disks again: a copy that no scan finds is missing, one of another size suspect, and neither counts;
    doing it twice changes nothing more."""
    rebuild(catalogue, pipeline, SCANS, [sent()])
    now = {"radar": SCANS["radar"], "nas": [Seen("nas", f"rawacf/{PACKED}", 59, 3, 5)]}
    for expected in (2, 0):
        found = rebuild(catalogue, pipeline, now, [sent()])
        assert found.missing == expected and len(found.conflicts) == 1
        assert states(catalogue, PACKED) == {
            f"radar:20240305/{PACKED}": CopyState.PRESENT,
            f"nas:rawacf/{PACKED}": CopyState.SUSPECT,
            f"nas:backup/{PACKED}": CopyState.MISSING,
        }
