"""Directories of a publisher that exist only as records, and steps on them that take no time."""

from __future__ import annotations

from dataclasses import dataclass, field

from socs_bl.bdf.model import (
    EMPTY,
    Announce,
    Announced,
    CleanUp,
    Discard,
    Finish,
    Finished,
    Inform,
    Link,
    Looked,
    Marker,
    Measure,
    Measured,
    NameTaken,
    Sighting,
    Size,
    Step,
    Unsend,
)
from socs_bl.core.event import Event


@dataclass
class Entry:
    """What lies in the creation directory under a name. `file` tells one file from another."""

    file: int = 0
    integrations: int = -1
    stop_ns: int = 0
    nodes: tuple[str, ...] = ()
    scan: bool = False
    markers: dict[str, Marker] = field(default_factory=dict)
    version: int = 0  # of the file's content


class Disk:
    """The directories, and what must never happen to them."""

    def __init__(self) -> None:
        self.private: dict[str, Entry] = {}
        self.public: dict[str, int] = {}  # name to file
        self.held: dict[int, int] = {}  # file to integrations, of all there ever were
        self.sides: set[str] = set()
        self.sent: set[str] = set()
        self.announced: list[str] = []
        self.asked_away: set[int] = set()
        self.told: dict[str, Sighting] = {}

    def create(self, name: str, stop_ns: int, nodes: tuple[str, ...], integrations: int) -> None:
        """A node begins a file, unless there is one."""
        entry = self.private.setdefault(name, Entry())
        entry.stop_ns, entry.nodes, entry.scan = stop_ns, nodes, True
        if not entry.file:
            entry.file = len(self.held) + 1
            entry.integrations = self.held[entry.file] = integrations

    def mark(self, name: str, marker: Marker) -> None:
        """A node has finished."""
        self.private.setdefault(name, Entry()).markers[marker.node] = marker

    def sight(self, name: str) -> Sighting:
        """As `Lookout.see`."""
        entry = self.private.get(name, Entry())
        linked = next((copy for copy, file in self.public.items() if file == entry.file), "")
        if not entry.file and name in self.sides:
            linked = name
        return Sighting(
            name=name, part=bool(entry.file), scan=entry.scan, stop_ns=entry.stop_ns, nodes=entry.nodes,
            markers=tuple(entry.markers[node] for node in sorted(entry.markers)), linked=linked,
            informed=linked in self.sides, sent=linked in self.sent,
        )  # fmt: skip

    def names(self) -> set[str]:
        """As `Lookout.names`; a copy that has its private name still is seen under that."""
        copies = {self.sight(name).linked for name in self.private if self.private[name].file}
        return set(self.private) | {name for name in self.sides - self.sent if name not in copies}

    def everything(self) -> list[Sighting]:
        """As `Lookout.all`."""
        self.told = {name: self.sight(name) for name in sorted(self.names())}
        return list(self.told.values())

    def look(self) -> list[Sighting]:
        """As `Lookout.look`."""
        before = dict(self.told)
        now = {name: self.sight(name) for name in sorted(self.names() | before.keys())}
        self.told = {name: seen for name, seen in now.items() if seen.leftovers or seen.linked}
        return [seen for name, seen in now.items() if before.get(name, Sighting(name=name)) != seen]

    def perform(self, step: Step) -> list[Event]:
        """As `Performer.perform`."""
        found = self._step(step)
        seen = self.sight(step.name)
        self.told[step.name] = seen
        return [*found, Looked(sightings=(seen,))]

    def _step(self, step: Step) -> list[Event]:
        name, entry = step.name, self.private.get(step.name, Entry())
        match step:
            case Measure():
                return [Measured(name=name, size=Size(entry.integrations, entry.version, 1.0))]
            case Finish():
                assert entry.file, "there is nothing to finish"
                return [Finished(name=name, integrations=entry.integrations, bytes=entry.integrations)]
            case Link(target=target):
                assert entry.file and entry.file not in self.public.values() or self.public.get(target) == entry.file
                if self.public.get(target, entry.file) != entry.file:
                    return [NameTaken(name=name, target=target)]
                self.public[target] = entry.file
            case Inform(target=target):
                assert self.public[target] == entry.file
                self.sides.add(target)
            case Announce(target=target):
                assert target in self.sides and target in self.public
                self.announced.append(target)
                self.sent.add(target)
                return [Announced(name=name, target=target, integrations=1, bytes=1)]
            case Unsend():
                self.sent.discard(name)
            case CleanUp():
                assert not entry.file or entry.file in self.public.values(), "the only copy would be gone"
                self.private.pop(name, None)
            case Discard(rule=rule):
                assert not entry.file or entry.file not in self.public.values()
                if rule == EMPTY:
                    assert entry.integrations <= 0, "the only copy would be gone"
                else:
                    self.asked_away.add(entry.file)
                self.private.pop(name, None)
        return []

    def check(self) -> None:
        """Every file that holds something is private or published, published once, or a person wanted it gone."""
        files = list(self.public.values())
        assert len(files) == len(set(files)), "published twice"
        there = {entry.file for entry in self.private.values()} | set(files) | self.asked_away
        lost = {file for file, integrations in self.held.items() if integrations > 0} - there
        assert not lost, f"lost: {lost}"
        assert self.sent <= self.sides <= self.public.keys()

    def done(self) -> bool:
        """Nothing waits any more."""
        return not self.private and self.sides == self.sent == set(self.public)
