"""A publisher without an agent: its machine, journal and steps one after the other, on files of a temporary directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from socs_bl.bdf.config import PublisherConfig
from socs_bl.bdf.effects import Performer, make_directories
from socs_bl.bdf.files import Files
from socs_bl.bdf.layout import Header, SpectralWindow
from socs_bl.bdf.lookout import Lookout
from socs_bl.bdf.machine import PublisherMachine
from socs_bl.bdf.model import File, Looked, Marker, Settings, Tell
from socs_bl.bdf.scan import Scan, ScanAntenna, ScanWindow, file_name, mjd_ns
from socs_bl.bdf.writer import BdfWriter, Piece
from socs_bl.core.clock import Instant
from socs_bl.core.codec import Codec
from socs_bl.core.driver import Caused, Driver
from socs_bl.core.effect import ArmTimer, CancelTimer, Effect
from socs_bl.core.errors import SocsError
from socs_bl.core.event import EffectDone, EffectFailed, Event, TimerFired
from socs_bl.core.journal import Journal
from socs_bl.core.whole_file import write_whole

START_NS = 1_795_233_600 * 10**9
INTERVAL_NS = 10**9
NODES = ("cbe-01", "cbe-02")
CODEC = Codec(PublisherMachine)
WINDOW = SpectralWindow("AC_8BIT", 1, 4, 1, ("RR", "LL"), ("RR", "LL"))
ANTENNAS = tuple(ScanAntenna(f"ea{n:02d}", n, f"W{n:02d}", 100.0 * n, 20.0, 3.0) for n in (1, 2, 3))


def make_scan(number: int = 1, **changes: Any) -> Scan:
    """A scan of six seconds that two nodes write."""
    start = START_NS + (number - 1) * 60 * 10**9
    values: dict[str, Any] = {
        "uid": f"uid:///evla/bdf/{1433189755000 + number}", "dataset_id": "X_test.57897.1", "scan": number,
        "start_ns": start, "stop_ns": start + 6 * INTERVAL_NS, "nodes": NODES, "source": "3C286", "ra": 3.5, "dec": 0.5,
        "intents": ("CALIBRATE_PHASE",), "antennas": ANTENNAS, "config_id": "X_test.57897.1.2",
        "exec_block": "uid:///evla/bdf/1433189754000", "windows": (ScanWindow("AC_8BIT", 1, 1.5e9, 64e6),),
    }  # fmt: skip
    return Scan(**{**values, **changes})


def value_of(scan: Scan, index: int) -> np.ndarray:
    """The cross data of an integration: (baselines, bins, channels, products)."""
    numbers = np.arange(3 * 1 * 4 * 2, dtype=np.float32).reshape(3, 1, 4, 2)
    return (numbers + 1j * index + 100 * scan.scan).astype(np.complex64)


def open_file(private: Path, scan: Scan) -> BdfWriter:
    """A writer of the scan's file."""
    header = Header(scan.uid, scan.block, scan.path, mjd_ns(scan.start_ns), INTERVAL_NS, 3, (WINDOW,))
    return BdfWriter.open(private, header, scan)


def record(private: Path, scan: Scan, integrations: int = 6) -> str:
    """Write a file of so many integrations; returns its name."""
    writer = open_file(private, scan)
    for index in range(integrations):
        middle = writer.layout.midpoint(index)
        shape = {"cross": (3, 1, 2), "auto": (3, 1, 2)}
        kinds = {
            f"{kind}_{part}": np.full(size, value, dtype)
            for kind, size in shape.items()
            for part, value, dtype in (("flags", 0, np.int32), ("times", middle, np.int64),
                                       ("durations", INTERVAL_NS, np.int64))
        }  # fmt: skip
        auto = np.full((3, 1, 4, 2), index + 1, np.float32)
        writer.write(index, [Piece(0, cross=value_of(scan, index), auto=auto, **kinds)])
    writer.close()
    return file_name(scan.uid)


def mark(private: Path, name: str, node: str, integrations: int = 6, **changes: Any) -> None:
    """What a node writes when it has finished a recording."""
    marker = Marker(node=node, integrations=integrations, **changes)
    write_whole(private / f"{name}.{node}.done", msgspec.json.encode(marker))


def make_config(directory: Path, **changes: Any) -> PublisherConfig:
    """A publisher below a directory."""
    config = PublisherConfig(bdfdir=directory / "data", **changes)
    make_directories(config)
    return config


class Publisher:
    """One life of a publisher.

    Parameters
    ----------
    config : PublisherConfig
    journal : Journal
        What it holds outlives the publisher.
    files : Files
    sent : list of bytes
        Datagrams, added to.
    wall : float
        The time it is.
    """

    def __init__(
        self, config: PublisherConfig, journal: Journal, files: Files, sent: list[bytes], wall: float = START_NS / 1e9
    ) -> None:
        self.config = config
        self.wall = wall
        self.told: list[Tell] = []
        self.timers: dict[str, tuple[float, int]] = {}
        self.lookout = Lookout(config)
        self.performer = Performer(config, self.lookout, sent.append, files)
        self.driver = Driver(_Checked, CODEC, journal)
        self.driver.claim("publisher")
        settings = Settings(grace_seconds=config.grace_seconds, abandoned_seconds=config.abandoned_seconds)
        world = {
            "settings": msgspec.to_builtins(settings),
            "sightings": msgspec.to_builtins(self.lookout.all()),
        }
        self.take(self.driver.restart_event(world))

    @property
    def machine(self) -> PublisherMachine:
        return self.driver.machine

    def file(self, name: str) -> File:
        return self.machine.files[name]

    def take(self, *events: Event, cause: str = "") -> list[Effect]:
        """Commit events, then carry out everything that follows."""
        prepared = self.driver.prepare([Caused(event, cause) for event in events], Instant(self.wall, self.wall))
        self.driver.journal.commit(prepared.commit)
        work = self.driver.committed(prepared.entries)
        for effect in work.local:
            if isinstance(effect, ArmTimer):
                self.timers[effect.name] = (self.wall + effect.seconds, effect.generation)
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.name, None)
        for effect in work.perform:
            self.take(*self._perform(effect), cause=effect.id)
        return [effect for entry in prepared.entries for effect in entry.effects]

    def look(self) -> None:
        """What the agent does every second."""
        if changed := self.lookout.look():
            self.take(Looked(sightings=tuple(changed)))

    def wait(self, seconds: float) -> None:
        """Let time pass, firing timers and looking around."""
        until = self.wall + seconds
        while due := [item for item in self.timers.items() if item[1][0] <= until]:
            name, (at, generation) = min(due, key=lambda item: item[1])
            del self.timers[name]
            self.wall = max(self.wall, at)
            self.take(TimerFired(name=name, generation=generation))
        self.wall = until
        self.look()

    def _perform(self, effect: Effect) -> list[Event]:
        if isinstance(effect, Tell):
            self.told.append(effect)
            return [EffectDone(effect=effect.id)]
        try:
            return [*self.performer.perform(effect), EffectDone(effect=effect.id)]
        except SocsError as error:
            return [EffectFailed(effect=effect.id, reason=str(error))]


class _Checked(PublisherMachine):
    """Its invariants are looked at after every event."""

    def step(self, event: Event) -> list[Effect]:
        effects = super().step(event)
        self.check()
        return effects
