"""Moving a batch of files from a store to another so that nothing is ever seen there before it is whole and verified.

Hash at the source, look at the target, carry into a hidden directory, look at the source again, read back and compare, name.
What arrived with other bytes is carried once more; if it is the source whose bytes are not those that were recorded, that is
said. The source is not touched: deleting it is another decision, made from what is reported here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from socs_bl.core.errors import Refused, Retry
from socs_bl.dataflow import local_copy, rsync
from socs_bl.dataflow.classify import of_errno
from socs_bl.dataflow.hand import Hand, LocalHand, RemoteHand
from socs_bl.dataflow.hashing import digest, same
from socs_bl.dataflow.model import ALGORITHMS, DEFAULT_ALGORITHM, Digest, Seen
from socs_bl.dataflow.outcome import Cause, Failure, Outcome
from socs_bl.dataflow.receiver import BLOCK, INCOMING, Answer, Disk, incoming_directory, text
from socs_bl.dataflow.rsync import Options, Progress
from socs_bl.dataflow.space import fitting

ROUNDS = 2  # times that a file is carried
# After these nothing more is asked of the other side.
_BROKEN_OFF = frozenset(
    {
        Cause.UNREACHABLE, Cause.TIMEOUT, Cause.INTERRUPTED, Cause.HOST_KEY, Cause.AUTHENTICATION, Cause.TOOL_MISSING,
        Cause.MISUSE, Cause.NO_ROOT,
    }
)  # fmt: skip


# What a file that arrived cut short has from the disk there; carrying it again at once is no use.
_CUT_SHORT = frozenset({Cause.DISK_FULL, Cause.QUOTA, Cause.MEDIUM})


class Item(msgspec.Struct, frozen=True):
    """One file to be moved.

    Attributes
    ----------
    seen : Seen
        The file that is meant; another one of its name is not moved.
    target : str
        Its path below the root of the target store.
    digest : Digest or None
        What was recorded of its bytes; None: it is hashed now.
    replace : bool
        A file of that name with other bytes may go: only for a copy that is known to be ours and known to be broken.
    """

    seen: Seen
    target: str
    digest: Digest | None = None
    replace: bool = False


class Report(msgspec.Struct, frozen=True):
    """What became of a batch.

    Attributes
    ----------
    outcomes : tuple of Outcome
        One an item, in their order.
    digests : tuple of Digest or None
        What the target was compared with; None where it did not come to that.
    carried : int
        Bytes of the files that were carried, those carried twice counted twice.
    """

    outcomes: tuple[Outcome, ...]
    digests: tuple[Digest | None, ...]
    carried: int


class Carrier(Protocol):
    """Brings bytes to a store; who looks after them there is its `hand`."""

    @property
    def hand(self) -> Hand:
        """At the target store."""
        ...

    def carry(
        self,
        source: Path,
        paths: Sequence[str],
        hop: str,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> Outcome:
        """Bring files into the incoming directory of `hop`, each at its own path."""
        ...


class SshCarrier:
    """To a store of another host."""

    def __init__(self, hand: RemoteHand, options: Options | None = None) -> None:
        self.hand = hand
        self.options = options or Options()

    def carry(
        self,
        source: Path,
        paths: Sequence[str],
        hop: str,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> Outcome:
        """As `Carrier.carry`."""
        target = text(incoming_directory(os.fsencode(self.hand.root), hop))
        return rsync.send(self.hand.link, source, paths, target, self.options, on_progress, stop)


class LocalCarrier:
    """To a store that this host has mounted."""

    def __init__(self, hand: LocalHand, mode: int | None = None) -> None:
        self.hand = hand
        self.mode = mode

    def carry(
        self,
        source: Path,
        paths: Sequence[str],
        hop: str,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
    ) -> Outcome:
        """As `Carrier.carry`."""
        target = incoming_directory(os.fsencode(self.hand.root), hop)
        return local_copy.copy_files(self.hand.disk, source, paths, target, self.mode, on_progress, stop)


def check_path(path: str) -> str:
    """Accept a path below a store's root.

    Raises
    ------
    Refused
        When it is absolute, has empty parts, ``.`` or ``..``, a zero byte, or goes where files arrive.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path or parts[0] == INCOMING:
        raise Refused(f"path {path!r:.200} does not lead to a file below the root of a store")
    return path


def transfer(
    source: Path,
    items: Sequence[Item],
    carrier: Carrier,
    hop: str,
    reserve: int = 0,
    disk: Disk | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Move a batch; blocks until it is done.

    Parameters
    ----------
    source : Path
        Root of the source store.
    items : sequence of Item
        No two with one source or one target, none of which is on its way in another batch.
    carrier : Carrier
    hop : str
        Name of this way from store to store, such as its stage: what a broken attempt leaves is found again under it.
    reserve : int
        Bytes that stay free at the target.
    disk : Disk, optional
        The system calls at the source.
    on_progress : callable, optional
        Called in this thread while files are carried.
    stop : threading.Event, optional
        Ends it when set; what has arrived is used the next time.

    Returns
    -------
    Report
        Whatever happens to one file or to all; nothing is raised for the world's faults.

    Raises
    ------
    Refused
        When a path or the name of the hop leads elsewhere, or two items have one source or one target.
    """
    if not hop or not hop.replace("-", "").replace("_", "").isalnum() or not hop.isascii():
        raise Refused(f"hop {hop!r:.80} is not letters, digits, '-' and '_'")
    for item in items:
        check_path(item.seen.path)
        check_path(item.target)
    if not len({item.target for item in items}) == len({item.seen.path for item in items}) == len(items):
        raise Refused(f"a batch of {hop} has a file twice, or two that would get the same name; give each its own")
    return _Batch(source, items, carrier, hop, disk or Disk(), stop).run(reserve, on_progress)


class _Batch:
    """A batch on its way: `outcomes` fills up."""

    def __init__(
        self, source: Path, items: Sequence[Item], carrier: Carrier, hop: str, disk: Disk, stop: threading.Event | None
    ) -> None:
        self._source = source
        self._items = items
        self._carrier = carrier
        self._hop = hop
        self._disk = disk
        self._stop = stop
        self._buffer = bytearray(BLOCK)
        self._carried = 0
        self.outcomes: list[Outcome | None] = [None] * len(items)
        self.digests: list[Digest | None] = [item.digest for item in items]

    def run(self, reserve: int, on_progress: Callable[[Progress], None] | None) -> Report:
        outcome = Outcome(Cause.UNKNOWN, "nothing was said of it")
        try:
            self._hash(self._carrier.hand.algorithms(self._stop))
            self._survey(reserve)
            for _ in range(ROUNDS):
                if open_ones := self._open():
                    self._carry(open_ones, on_progress)
            self._blame()
        except Failure as failure:
            outcome = failure.outcome
        return Report(tuple(done or outcome for done in self.outcomes), tuple(self.digests), self._carried)

    def _ask(self, do: str, **arguments: Any) -> Any:
        return self._carrier.hand.ask(do, self._stop, **arguments)

    def _open(self) -> list[int]:
        """The items of which nothing is decided."""
        return [index for index, outcome in enumerate(self.outcomes) if outcome is None]

    def _hash(self, available: Sequence[str]) -> None:
        """Have a digest of every file that the target can compute as well."""
        usable = next(name for name in (DEFAULT_ALGORITHM, *ALGORITHMS) if name in available)
        for index, item in enumerate(self._items):
            known = item.digest
            if known is not None and known.algorithm in available:
                self._check_source(index)
                continue
            found = self._hashed(index, {usable, known.algorithm if known else usable})
            if known is not None and found and found[known.algorithm] != known:
                self.outcomes[index] = Outcome(Cause.AT_SOURCE, f"{item.seen.path} has other bytes than were recorded")
            self.digests[index] = found.get(usable)

    def _hashed(self, index: int, algorithms: set[str]) -> dict[str, Digest]:
        """Hash a source; on failure that is its outcome."""
        seen = self._items[index].seen
        try:
            return digest(self._source / seen.path, sorted(algorithms), seen, self._disk, self._buffer)
        except Retry as retry:
            self._check_source(index)
            self.outcomes[index] = self.outcomes[index] or Outcome(Cause.CHANGED, str(retry))
        except Refused as refusal:
            cause = refusal.__cause__
            number = cause.errno if isinstance(cause, OSError) and cause.errno else 0
            self.outcomes[index] = of_errno(number, str(refusal))
        return {}

    def _check_source(self, index: int) -> None:
        """A source that is not what was seen is not moved."""
        seen = self._items[index].seen
        try:
            status = self._disk.lstat(os.fsencode(self._source / seen.path))
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            cause = Cause.VANISHED if gone else of_errno(error.errno or 0, "").cause
            self.outcomes[index] = Outcome(cause, f"{seen.path}: {error.strerror}")
        else:
            if not same(seen, status):
                self.outcomes[index] = Outcome(Cause.CHANGED, f"{seen.path} is not the file that was seen there")

    def _described(self, index: int) -> Answer:
        """An item as the receiver wants it."""
        item, known = self._items[index], self.digests[index]
        assert known is not None
        return {
            "path": item.target,
            "staged": item.seen.path,
            "size": item.seen.size,
            "algorithm": known.algorithm,
            "hex": known.hex,
            "replace": item.replace,
        }

    def _survey(self, reserve: int) -> None:
        """Leave out what is there already and what has no room."""
        indices = self._open()
        found = self._ask("survey", hop=self._hop, items=[self._described(index) for index in indices])
        for index, answer in zip(indices, found["items"], strict=True):
            item = self._items[index]
            if answer["state"] == "ok":
                self.outcomes[index] = Outcome(Cause.ALREADY_THERE)
            elif answer["state"] == "corrupt" and not item.replace:
                self.outcomes[index] = Outcome(Cause.CONFLICT, f"{item.target} is there with other bytes")
            elif answer["state"] == "error":
                self.outcomes[index] = of_errno(answer["errno"], f"{item.target}: {answer['text']}")
        indices = self._open()
        sizes = (self._items[index].seen.size for index in indices)
        fits = fitting(sizes, found["free_bytes"], found["free_inodes"], reserve)
        room = f"{found['free_bytes']} bytes free, {reserve} kept"
        for index in (index for index, fit in zip(indices, fits, strict=True) if not fit):
            self.outcomes[index] = Outcome(Cause.DISK_FULL, f"no room for {self._items[index].target}: {room}")
        self._make_room([index for index in indices if self.outcomes[index] is not None])

    def _make_room(self, indices: Sequence[int]) -> None:
        """Remove what has arrived of files there is no room for: it may be all that stands in their way."""
        paths = [self._items[index].seen.path for index in indices]
        if paths:
            self._ask("discard", hop=self._hop, items=[*paths, *map(rsync.partial, paths)])

    def _carry(self, indices: list[int], on_progress: Callable[[Progress], None] | None) -> None:
        """One round: carry, look at the sources again, compare, name."""
        paths = [self._items[index].seen.path for index in indices]
        carried = self._carrier.carry(self._source, paths, self._hop, on_progress, self._stop)
        self._carried += sum(self._items[index].seen.size for index in indices)
        if carried.cause in _BROKEN_OFF:
            raise Failure(carried)
        for index in indices:
            self._check_source(index)
        if spoilt := [self._items[index].seen.path for index in indices if self.outcomes[index] is not None]:
            self._ask("discard", hop=self._hop, items=spoilt)
        indices = [index for index in indices if self.outcomes[index] is None]
        answers = self._ask("publish", hop=self._hop, items=[self._described(index) for index in indices])
        for index, answer in zip(indices, answers, strict=True):
            self.outcomes[index] = self._judged(self._items[index], answer, carried)
        if carried.cause in (Cause.DISK_FULL, Cause.QUOTA):
            self._make_room([index for index in indices if self.outcomes[index] == carried])

    def _judged(self, item: Item, answer: Answer, carried: Outcome) -> Outcome | None:
        """What the receiver's answer means; None: it arrived with other bytes, and is carried again."""
        if answer["state"] == "ok":
            return Outcome(Cause.DONE)
        if answer["state"] == "corrupt":
            return carried if carried.cause in _CUT_SHORT else None
        if answer["state"] == "conflict":
            return Outcome(Cause.CONFLICT, f"{item.target} is there with other bytes")
        if answer["state"] == "error":
            return of_errno(answer["errno"], f"{item.target}: {answer['text']}")
        if carried.cause is Cause.DONE:
            return Outcome(Cause.UNKNOWN, f"{item.seen.path} has not arrived, and nobody says why")
        return carried

    def _blame(self) -> None:
        """For files that arrived wrong every time: are they still right where they come from?"""
        for index in self._open():
            item, known = self._items[index], self.digests[index]
            assert known is not None
            found = self._hashed(index, {known.algorithm})
            if self.outcomes[index] is None:
                cause = Cause.CORRUPT if found[known.algorithm] == known else Cause.AT_SOURCE
                self.outcomes[index] = Outcome(cause, f"{item.target} was not what was recorded, {ROUNDS} times")
