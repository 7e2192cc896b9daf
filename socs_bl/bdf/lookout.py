"""Looks into the creation and publication directories: what lies there under each name, and what has changed.

Polling, since nodes write over network file systems, where nobody is told of changes. It costs two calls a look while
nothing changes: a directory is listed again only when its time of change is another one, or so young that a change within
the same tick could have been missed. Now and then it is listed anyway.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from socs_bl.bdf.config import PublisherConfig
from socs_bl.bdf.files import read_limited, same_file
from socs_bl.bdf.model import Marker, Sighting
from socs_bl.bdf.scan import Scan, decode_scan, file_name
from socs_bl.core.errors import Refused

PART, SCAN, DONE, SENT, SIDE = ".part", ".scan.json", ".done", ".sent", ".json"
_PRIVATE = re.compile(r"(uid_[A-Za-z0-9_]{1,200})\.(part|scan\.json|[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.done)")
_NAME = r"(uid_[A-Za-z0-9_]{1,200}(?:-[1-9][0-9]{0,3})?)"
_SENT = re.compile(_NAME + r"\.sent")
_SIDE = re.compile(_NAME + r"\.json")
SETTLED_NS = 2 * 10**9  # a directory that has not changed for so long is as it was listed
LISTED_ANYWAY = 30  # looks between two listings of a directory that does not seem to change
LIMIT = 1 << 20  # bytes of a scan or marker


class Lookout:
    """Eyes on the directories of a publisher. All calls block.

    Parameters
    ----------
    config : PublisherConfig
    """

    def __init__(self, config: PublisherConfig) -> None:
        self._private = config.private
        self._public = config.bdfdir
        self._known: dict[str, Sighting] = {}
        self._stamps: tuple[int, int] = (0, 0)
        self._looks = 0

    def look(self) -> list[Sighting]:
        """What has changed since the last look; names under which nothing lies any more come without anything.

        Raises
        ------
        OSError
            When a directory cannot be read.
        """
        stamps = (self._private.stat().st_mtime_ns, self._public.stat().st_mtime_ns)
        quiet = max(stamps) < time.time_ns() - SETTLED_NS
        self._looks += 1
        if quiet and stamps == self._stamps and self._looks % LISTED_ANYWAY:
            return []
        # What changes while we list is listed again, since the directory is young then.
        self._stamps = stamps if quiet else (0, 0)
        return self._compare(self.names())

    def all(self) -> list[Sighting]:
        """Everything there is."""
        self._known = {}
        return self._compare(self.names())

    def see(self, name: str) -> Sighting:
        """What lies under one name now; whoever asks tells the machine, so that the next look need not."""
        sighting = self.peek(name)
        self._note(sighting)
        return sighting

    def names(self) -> set[str]:
        """Names under which something lies in the creation directory, or that are published and not announced."""
        private = os.listdir(self._private)
        sent = {found[1] for name in private if (found := _SENT.fullmatch(name))}
        created = {found[1] for name in private if (found := _PRIVATE.fullmatch(name))}
        return created | (self.published() - sent)

    def published(self) -> set[str]:
        """Names of the files that are published: those with a side file."""
        return {found[1] for name in os.listdir(self._public) if (found := _SIDE.fullmatch(name))}

    def _compare(self, names: Iterable[str]) -> list[Sighting]:
        seen = [self.peek(name) for name in sorted({*names, *self._known})]
        # A second copy that still has its private name is told of under that one.
        copies = {sighting.linked for sighting in seen if sighting.part and sighting.linked != sighting.name}
        changed = []
        for sighting in seen:
            if not sighting.leftovers and sighting.name in copies:
                continue
            if self._known.get(sighting.name, Sighting(name=sighting.name)) != sighting:
                changed.append(sighting)
            self._note(sighting)
        return changed

    def _note(self, sighting: Sighting) -> None:
        if sighting.leftovers or sighting.linked:
            self._known[sighting.name] = sighting
        else:
            self._known.pop(sighting.name, None)

    def peek(self, name: str) -> Sighting:
        """What lies under one name now, for a step that wants to be sure."""
        part = (self._private / f"{name}{PART}").exists()
        linked = self._linked(name, part)
        scan, wrong = None, []
        try:
            scan = read_scan(self._private, name)
        except Refused as error:
            wrong.append(str(error))
        markers = []
        for node in self._marking_nodes(name):
            try:
                markers.append(read_marker(self._private, name, node))
            except Refused as error:
                wrong.append(str(error))
        return Sighting(
            name=name,
            part=part,
            scan=scan is not None or bool(wrong),
            stop_ns=scan.stop_ns if scan is not None else 0,
            nodes=scan.nodes if scan is not None else (),
            markers=tuple(markers),
            linked=linked,
            informed=bool(linked) and (self._public / f"{linked}{SIDE}").exists(),
            sent=bool(linked) and (self._private / f"{linked}{SENT}").exists(),
            wrong="; ".join(wrong),
        )

    def _linked(self, name: str, part: bool) -> str:
        """The published name of the same file. Without a private name the file can only be published as what it is."""
        if not part:
            return name if (self._public / f"{name}{SIDE}").exists() else ""
        for target in published_names(name):
            if same_file(self._private / f"{name}{PART}", self._public / target):
                return target
            if not (self._public / target).exists():
                return ""
        return ""

    def _marking_nodes(self, name: str) -> list[str]:
        begin, end = len(name) + 1, -len(DONE)
        found = self._private.glob(f"{name}.*{DONE}")
        return sorted(path.name[begin:end] for path in found if _PRIVATE.fullmatch(path.name))


def published_names(name: str) -> Iterable[str]:
    """The names that copies of one file get, in order: ``NAME``, ``NAME-2``, ``NAME-3``..."""
    yield name
    for number in range(2, 10000):
        yield f"{name}-{number}"


def read_scan(private: Path, name: str) -> Scan | None:
    """The scan of a file; None when there is no record of it.

    Raises
    ------
    Refused
        When it cannot be read, or is of another file.
    """
    path = private / f"{name}{SCAN}"
    with contextlib.suppress(FileNotFoundError):
        scan = decode_scan(read_limited(path, LIMIT))
        if file_name(scan.uid) != name:
            raise Refused(f"{path.name} is the scan of {scan.uid}")
        return scan
    return None


def read_marker(private: Path, name: str, node: str) -> Marker:
    """What a node has said of a file.

    Raises
    ------
    Refused
        When it cannot be read.
    """
    path = private / f"{name}.{node}{DONE}"
    try:
        marker = msgspec.json.decode(read_limited(path, LIMIT), type=Marker)
    except (msgspec.MsgspecError, FileNotFoundError) as error:
        raise Refused(f"{path.name} is no marker: {error}") from error
    if marker.node != node:
        raise Refused(f"{path.name} is the marker of {marker.node!r:.40}")
    return marker
