"""Carries out what the analyzer's machine wants: searches, catalogue entries, deletions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from socs_bl.capture.guppi import find_recordings, read_header
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.event import Event
from socs_bl.core.names import agent_suffix
from socs_bl.search.catalogue import Catalogue
from socs_bl.search.child import SearchProcess, recordings_of
from socs_bl.search.engines import Engine
from socs_bl.search.model import (
    HIT_LISTS,
    DeleteRaw,
    DeletionEnded,
    Outcome,
    Proof,
    Recorded,
    RegisterProducts,
    RunSearch,
    SearchEnded,
)
from socs_bl.search.products import recordings_under
from socs_bl.search.rules import RULES

CATALOGUE = "catalogue"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}")


@dataclass(frozen=True)
class Places:
    """Where an analyzer finds and puts things.

    Attributes
    ----------
    instance : str
        ``host/number``.
    root : Path
        Directory under which the instance's absolute paths are placed.
    products : Path
        Directory for products; the catalogue is in ``catalogue`` below it, products are in
        ``<name of the data directory>/<host>-<number>``.
    engine : Engine
        What does the searching.
    """

    instance: str
    root: Path
    products: Path
    engine: Engine = Engine()

    def data(self, datadir: str) -> Path:
        """The directory on this machine that an instance calls `datadir`.

        Raises
        ------
        Refused
            When it is not an absolute path of plain names, so that it might lead out of `root`.
        """
        path = PurePosixPath(datadir)
        parts = path.parts[1:]
        if not path.is_absolute() or not parts or not all(_PART.fullmatch(part) for part in parts):
            raise Refused(
                f"data directory {datadir!r:.200} is not an absolute path of plain names, like /buf0/20261121T04"
            )
        return self.root.joinpath(*parts)

    def output(self, datadir: str) -> Path:
        """Where the products of a data directory go."""
        return self.products / self.data(datadir).name / agent_suffix(self.instance)


class SearchEffects:
    """The world's side of an analyzer.

    Parameters
    ----------
    places : Places
    reactor : object
        The Twisted reactor.
    in_thread : callable
        ``await in_thread(function, *args)`` calls what blocks.
    progress : callable
        Given run and contents of each progress line.
    """

    def __init__(
        self,
        places: Places,
        reactor: Any,
        in_thread: Callable[..., Any],
        progress: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.places = places
        self._reactor = reactor
        self._in_thread = in_thread
        self._progress = progress
        self._latest: SearchProcess | None = None
        self._warming: SearchProcess | None = None

    def warm_up(self) -> None:
        """Have the loops of the search compiled, in a process that nobody waits for."""
        self._warming = SearchProcess(lambda line: None)
        self._warming.start(self._reactor, ["--warm-up"])

    async def settled(self) -> None:
        """Wait until searches that were given up are really gone."""
        if self._warming is not None:
            self._warming.kill()
            await self._warming.gone
        if self._latest is not None:
            await self._latest.gone

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Carry out one effect and return its answers.

        Raises
        ------
        SocsError
            When it cannot be carried out.
        """
        match effect:
            case RunSearch():
                return [await self._search(effect)]
            case RegisterProducts():
                await self._in_thread(self.register, effect)
            case DeleteRaw():
                return [await self._in_thread(self.delete, effect)]
            case _:
                raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")
        return []

    async def _search(self, effect: RunSearch) -> SearchEnded:
        places = self.places
        try:
            source, output = places.data(effect.datadir), places.output(effect.datadir)
        except Refused as refusal:
            return SearchEnded(run=effect.run, attempt=effect.attempt, outcome=Outcome.MISSING, text=str(refusal))
        try:
            how = places.engine.arguments(effect.min_duration, effect.snr)
        except Refused as refusal:
            return SearchEnded(run=effect.run, attempt=effect.attempt, outcome=Outcome.SETTINGS, text=str(refusal))
        arguments = ["--input", str(source), "--output", str(output), *how]
        search = SearchProcess(lambda line: self._progress(effect.run, line))
        self._latest = search
        search.start(self._reactor, arguments)
        ending = await search.ended
        try:
            recordings = recordings_of(ending.result)
        except msgspec.ValidationError as error:
            raise Faulty(f"the search of {effect.run} gave a result that cannot be read: {error}", "search") from error
        products = tuple(str(path) for path in ending.result.get("products", ()))
        return SearchEnded(
            run=effect.run, attempt=effect.attempt, outcome=ending.outcome, text=ending.text,
            hits=int(ending.result.get("hits", 0)), stamps=int(ending.result.get("stamps", 0)),
            obsid=str(ending.result.get("obsid", "")),
            recordings=recordings, products=products,
        )  # fmt: skip

    def register(self, effect: RegisterProducts) -> None:
        """Enter recordings and their products in the catalogue. Blocks."""
        try:
            catalogue = Catalogue(self.places.products / CATALOGUE)
            for recorded in effect.recordings:
                obsid = recorded.obsid or recorded.stem
                facts: dict[str, str | float | int] = {
                    "timestamp": recorded.start, "start_time": recorded.start, "duration": recorded.duration_s,
                    "source": recorded.source, "centre_mhz": (recorded.low_hz + recorded.high_hz) / 2e6,
                    "bandwidth_mhz": (recorded.high_hz - recorded.low_hz) / 1e6, "hit_count": recorded.hit_count,
                }  # fmt: skip
                files = [Path(path) for path in recorded.files]
                catalogue.register_recording(obsid, self.places.instance, facts, files)
                if effect.searched:
                    catalogue.register_hits(obsid, self.places.instance, facts, _products_of(recorded, effect.products))
        except OSError as error:
            raise Retry(f"catalogue {self.places.products / CATALOGUE} cannot be written: {error}") from error

    def delete(self, effect: DeleteRaw) -> DeletionEnded:
        """Delete raw files, when the rule is proven for all of them. Blocks.

        The catalogue forgets them first: what it lists is there, and while it is locked nothing is deleted.

        Returns
        -------
        DeletionEnded
            With what was freed; or with the refusal when a recording was not searched completely, has changed since,
            has no hit list, or is not below the instance's root. Nothing was deleted then.

        Raises
        ------
        Retry
            When the catalogue or the file system refuses.
        """
        ended = DeletionEnded(datadir=effect.datadir, run=effect.run, rule=effect.rule)
        try:
            recordings = self._insisted(effect) if effect.proof is Proof.NOTHING else effect.recordings
            for recorded in recordings:
                self._prove(recorded, effect)
        except Refused as refusal:
            return msgspec.structs.replace(ended, refusal=str(refusal))
        files = [Path(name) for recorded in recordings for name in recorded.files]
        try:
            catalogue = Catalogue(self.places.products / CATALOGUE)
            for recorded in recordings:
                catalogue.forget_raw(recorded.obsid or recorded.stem, self.places.instance)
            freed = sum(_remove(path) for path in files)
        except (OSError, Retry) as error:
            left = sum(path.exists() for path in files)
            raise Retry(f"{left} of {len(files)} raw files of {effect.datadir} are still there: {error}") from error
        for directory in {path.parent for path in files}:
            # Not empty: somebody else's files are in it, which are none of our business.
            with contextlib.suppress(OSError):
                directory.rmdir()
        return msgspec.structs.replace(ended, freed=freed)

    def _insisted(self, effect: DeleteRaw) -> list[Recorded]:
        """What is in a directory that is deleted whatever it is: its raw files, and nothing else that may be there."""
        found = recordings_under(self.places.data(effect.datadir))
        obsids = {stem: _obsid(paths[0]) for stem, paths in found.items()}
        return [
            Recorded(stem, obsids[stem], self.places.instance, "", 0.0, 0.0, 0.0, 0.0, 0, tuple(map(str, paths)))
            for stem, paths in found.items()
        ]

    def _prove(self, recorded: Recorded, effect: DeleteRaw) -> None:
        """Raise Refused unless the raw files of `recorded` may go."""
        stay = f"its raw data stay (rule {effect.rule}: {RULES[effect.rule].text})"
        if recorded.damage:
            raise Refused(f"{recorded.stem} was not read to its end; {stay}")
        root = self.places.root.resolve()
        strays = [name for name in recorded.files if root not in Path(name).resolve().parents]
        if strays:
            raise Refused(f"{strays[0]} is not below {root}; nothing of {recorded.stem} was deleted")
        if effect.proof is Proof.NOTHING:
            return
        lists = [path for path in _products_of(recorded, effect.products) if path.suffix in HIT_LISTS]
        if effect.proof is Proof.SEARCHED and not _hit_lists_stand(lists):
            raise Refused(f"{recorded.stem} has no hit list; {stay}")
        self._prove_unchanged(recorded, stay)

    def _prove_unchanged(self, recorded: Recorded, stay: str) -> None:
        """Raise Refused unless the raw files are those that were there when the search began, or a part of them."""
        files = [Path(name) for name in recorded.files]
        seen = {path: path.stat() for path in files if path.exists()}
        size = sum(status.st_size for status in seen.values())
        # An earlier attempt may have deleted some of them; whatever it left is smaller than what was searched.
        if size != recorded.bytes if len(seen) == len(files) else size >= recorded.bytes:
            raise Refused(f"{recorded.stem} has {size} bytes, {recorded.bytes} were searched; {stay}")
        for path, changed in zip(files, recorded.changed, strict=False):
            if path in seen and seen[path].st_mtime_ns != changed:
                raise Refused(f"{path} was written anew after its search; {stay}")
        known = {path.name for path in files}
        for directory in {path.parent for path in seen}:
            later = [path for path in find_recordings(directory).get(recorded.stem, []) if path.name not in known]
            if later:
                raise Refused(f"{later[0]} was not searched; {stay}")


def _products_of(recorded: Recorded, products: Sequence[str]) -> list[Path]:
    """Those of `products` that belong to one recording."""
    return [Path(name) for name in products if Path(name).name.startswith(f"{recorded.stem}.")]


def _hit_lists_stand(lists: Sequence[Path]) -> bool:
    """Whether there are hit lists; one of text has a header at least, a binary one without a hit is empty."""
    return bool(lists) and all(path.is_file() and (path.suffix != ".dat" or path.stat().st_size) for path in lists)


def _remove(path: Path) -> int:
    """Remove a file that may be gone already; returns its size."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _obsid(path: Path) -> str:
    """The observation of a raw file; empty when its header cannot be read."""
    try:
        with open(path, "rb") as file:
            header = read_header(file)
    except (OSError, Refused):
        return ""
    return header.text("OBSID", "") if header is not None else ""
