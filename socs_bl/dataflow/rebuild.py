"""The catalogue made again from what is on the disks and in the manifests, or held against them.

What was hashed once is known from manifests; where copies are, from scans. That their bytes are right is known from nobody:
every copy begins as present, and counts for nothing until it is compared again. What an acknowledgement of another host
proves is taken for verified at the time it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.catalogue import Catalogue
from socs_bl.dataflow.changes import Change
from socs_bl.dataflow.manifest import Ack, Manifest, Sent, proven
from socs_bl.dataflow.model import CopyState, Seen
from socs_bl.dataflow.pipeline import Pipeline
from socs_bl.dataflow.stages import Move

TOGETHER = 500  # files a transaction


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild has found.

    Attributes
    ----------
    files, copies : int
        In the catalogue now, as far as they were found.
    missing : int
        Copies that the catalogue had and no scan has found.
    unknown : tuple of Seen
        Files that fit no pattern; they are left alone.
    conflicts : tuple of str
        What contradicts itself, for a person to look at.
    """

    files: int
    copies: int
    missing: int
    unknown: tuple[Seen, ...]
    conflicts: tuple[str, ...]


def rebuild(
    catalogue: Catalogue,
    pipeline: Pipeline,
    scans: Mapping[str, Iterable[Seen]],
    manifests: Iterable[Manifest] = (),
    acks: Iterable[Ack] = (),
) -> Rebuilt:
    """Enter all that was found; what is in the catalogue already stays, unless a scan contradicts it. Blocks.

    Parameters
    ----------
    catalogue : Catalogue
        New, or to be held against the disks.
    pipeline : Pipeline
    scans : mapping
        Everything that lies in each store that was looked at completely; the copies of other stores are left as they are.
    manifests : iterable of Manifest
        Those this host has sent, and those it was sent.
    acks : iterable of Ack
        Those it was sent.

    Raises
    ------
    Retry, Faulty
        When the catalogue cannot be written.
    """
    work = _Rebuild(catalogue, pipeline)
    answers: dict[tuple[str, str], list[Ack]] = {}
    for ack in acks:
        answers.setdefault((ack.stage, ack.block), []).append(ack)
    for manifest in manifests:
        work.enter_manifest(manifest, answers.get((manifest.stage, manifest.block), ()))
    for store, seen in scans.items():
        work.enter_scan(store, seen)
    catalogue.write(lambda change: change.trust()).result()
    catalogue.witness()
    return Rebuilt(
        files=len(work.files), copies=work.copies, missing=work.missing, unknown=tuple(work.unknown),
        conflicts=tuple(work.conflicts),
    )  # fmt: skip


class _Rebuild:
    """One rebuild, and what it has found so far."""

    def __init__(self, catalogue: Catalogue, pipeline: Pipeline) -> None:
        self._catalogue = catalogue
        self._pipeline = pipeline
        self.files: set[int] = set()
        self.copies = 0
        self.missing = 0
        self.unknown: list[Seen] = []
        self.conflicts: list[str] = []

    def _make(self, works: Iterable[Callable[[Change], object]]) -> None:
        """Make changes, `TOGETHER` at a time; what contradicts itself is noted and changes nothing."""
        for batch in _batched(works, TOGETHER):
            for future in [self._catalogue.write(work) for work in batch]:
                try:
                    future.result()
                except Refused as refusal:
                    self.conflicts.append(str(refusal))

    def enter_manifest(self, manifest: Manifest, acks: Iterable[Ack]) -> None:
        """What a manifest says of its files, and what the other side has found of them."""
        answers = [(ack.at_ns, proven(manifest, ack)) for ack in acks]
        self._make(
            partial(
                self._enter_sent, manifest, sent, max((at for at, names in answers if sent.name in names), default=None)
            )
            for sent in manifest.files
        )

    def _enter_sent(self, manifest: Manifest, sent: Sent, proven_ns: int | None, change: Change) -> None:
        origin = sent.origin
        parent = None
        if origin is not None and (parent := self._add(change, origin.name, origin.bytes)) is not None:
            for digest in origin.digests:
                change.set_digest(parent, digest)
        number = self._add(change, sent.name, sent.bytes, parent, origin.made_by if origin and parent else "")
        if number is None:
            return
        for digest in sent.digests:
            change.set_digest(number, digest)
        change.learn(number, sent.metadata)
        stage = self._pipeline.stages.get(manifest.stage)
        if proven_ns is not None and isinstance(stage, Move) and manifest.pipeline == self._pipeline.config.pipeline:
            for place in sent.places:
                known = change.copy_at(stage.to, place)
                if known is None or known.state is CopyState.PRESENT:
                    copy = change.see(number, Seen(stage.to, place, sent.bytes, 0)) if known is None else known
                    change.compare(copy, sent.digests[0], proven_ns)

    def enter_scan(self, store: str, seen: Iterable[Seen]) -> None:
        """What lies in a store; what should lie there and does not is missing."""
        with self._catalogue.read() as view:
            left = set(view.known(store))

        def found() -> Iterator[Callable[[Change], object]]:
            for one in seen:
                left.discard(one.path)
                yield partial(self._enter_seen, one)

        self._make(found())
        self._make([partial(self._lose, store, path) for path in sorted(left)])

    def _enter_seen(self, seen: Seen, change: Change) -> None:
        try:
            number = self._add(change, seen.path.rpartition("/")[2], seen.size)
        except Refused:
            if change.copy_at(seen.store, seen.path) is not None:
                self._doubt(seen, change)
                return
            raise
        if number is None:
            self.unknown.append(seen)
        else:
            change.see(number, seen)
            self.copies += 1

    def _doubt(self, seen: Seen, change: Change) -> None:
        """A copy that has another size than its file."""
        copy = change.copy_at(seen.store, seen.path)
        assert copy is not None
        reason = f"it has {seen.size} bytes, its file {copy.size}"
        change.mark(copy, CopyState.SUSPECT, reason)
        self.conflicts.append(f"{seen.store}:{seen.path} is suspect: {reason}; compare it with another copy")

    def _add(self, change: Change, text: str, size: int, parent: int | None = None, made_by: str = "") -> int | None:
        """Enter the file of a name; None when the name fits no pattern."""
        parsed = self._pipeline.parse(text)
        if parsed is None:
            return None
        block, name = parsed
        number = change.add_file(name, block, size, self._pipeline.patterns[block].time_ns(name), parent, made_by)
        self.files.add(number)
        return number

    def _lose(self, store: str, path: str, change: Change) -> None:
        copy = change.copy_at(store, path)
        if copy is not None:
            change.mark(copy, CopyState.MISSING, "no scan found it when the catalogue was rebuilt")
            self.missing += 1


def _batched(works: Iterable[Callable[[Change], object]], size: int) -> Iterator[list[Callable[[Change], object]]]:
    """So many at a time."""
    left = iter(works)
    while batch := list(islice(left, size)):
        yield batch
