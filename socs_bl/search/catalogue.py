"""The catalogue of recordings and hit lists, in sotodlib's ObsDb and ObsFileDb.

A directory holds ``context.yaml``, ``obsdb.sqlite`` and ``obsfiledb.sqlite``, so that
``sotodlib.core.Context("context.yaml")`` finds everything. One observation is one instance's recording:
``<OBSID>:<host>-<n>``; what other instances recorded of the same pointing has the same value in column ``obsid``. Its
files are in two detector sets, ``raw`` (GUPPI RAW) and ``hits`` (products of the search).

Several analyzers write the same databases. Each change is one immediate transaction per database; everything is keyed
by observation and file name, so a change can be repeated. A database locked for longer than the time-out is a `Retry`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from sotodlib.core.metadata import ObsDb, ObsFileDb

from socs_bl.core.errors import Refused, Retry
from socs_bl.core.names import agent_suffix
from socs_bl.core.whole_file import write_whole

CONTEXT, OBSDB, OBSFILEDB = "context.yaml", "obsdb.sqlite", "obsfiledb.sqlite"
RAW, HITS = "raw", "hits"
LOCK_TIMEOUT_S = 10.0
COLUMNS: tuple[tuple[str, type], ...] = (
    ("obsid", str), ("instance", str), ("source", str), ("start_time", float), ("duration", float),
    ("centre_mhz", float), ("bandwidth_mhz", float), ("searched", int), ("hit_count", int), ("top_snr", float),
    ("reason", str),
)  # fmt: skip
_COLUMN_NAMES = frozenset(name for name, _ in COLUMNS) | {"timestamp"}


def observation_id(obsid: str, instance: str) -> str:
    """The catalogue's name for what `instance` (``host/number``) recorded of observation `obsid`."""
    if not obsid or any(character.isspace() for character in obsid):
        raise Refused(f"observation id {obsid!r} is empty or has blanks; nothing was catalogued")
    return f"{obsid}:{agent_suffix(instance)}"


class Catalogue:
    """A catalogue directory; it is made when it does not exist.

    Parameters
    ----------
    directory : Path
        Where the three files are.
    timeout_s : float
        How long to wait for other writers, seconds.

    Raises
    ------
    Retry
        When another writer holds the database for longer.
    OSError
        When the directory cannot be written.
    """

    def __init__(self, directory: Path, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.directory = directory
        self.timeout_s = timeout_s
        directory.mkdir(parents=True, exist_ok=True)
        # sotodlib commits when it has made its tables, which ends the transaction: what is ours has one of its own.
        with self._changing(OBSDB) as connection:
            ObsDb(connection)
        with self._changing(OBSDB) as connection:
            ObsDb(connection, init_db=False).add_obs_columns(COLUMNS, commit=False)
        with self._changing(OBSFILEDB) as connection:
            ObsFileDb(connection, prefix=str(directory))
        with self._changing(OBSFILEDB) as connection:
            files = ObsFileDb(connection, prefix=str(directory), init_db=False)
            known = {row["name"] for row in connection.execute("select name from detsets")}
            for name in (RAW, HITS):
                if name not in known:
                    files.add_detset(name, [name], commit=False)
        if not (directory / CONTEXT).exists():
            context = {"tags": {}, "obsdb": f"./{OBSDB}", "obsfiledb": f"./{OBSFILEDB}"}
            write_whole(directory / CONTEXT, yaml.safe_dump(context, sort_keys=False).encode())

    def register_recording(
        self, obsid: str, instance: str, facts: Mapping[str, str | float | int], files: Sequence[Path]
    ) -> str:
        """Enter a recording, or bring its entry up to date.

        Parameters
        ----------
        obsid, instance : str
            Observation id and ``host/number``.
        facts : Mapping[str, str | float | int]
            Values of the columns in `COLUMNS`, and ``timestamp`` (Unix UTC seconds).
        files : Sequence[Path]
            Its GUPPI RAW files.

        Returns
        -------
        str
            Its id in the catalogue.

        Raises
        ------
        Refused
            For an unknown column, or a file that belongs to another observation.
        Retry
            When another writer holds the database for too long.
        """
        return self._register(obsid, instance, facts, files, RAW)

    def register_hits(
        self, obsid: str, instance: str, facts: Mapping[str, str | float | int], files: Sequence[Path]
    ) -> str:
        """Enter the products of a search; as `register_recording`."""
        return self._register(obsid, instance, {**facts, "searched": 1}, files, HITS)

    def forget_raw(self, obsid: str, instance: str) -> None:
        """Take the GUPPI RAW files out of a recording's entry, since they are deleted; the observation stays."""
        name = observation_id(obsid, instance)
        with self._changing(OBSFILEDB) as connection:
            connection.execute("delete from files where obs_id = ? and detset = ?", (name, RAW))

    def _register(
        self, obsid: str, instance: str, facts: Mapping[str, str | float | int], files: Sequence[Path], detset: str
    ) -> str:
        unknown = sorted(set(facts) - _COLUMN_NAMES)
        if unknown:
            raise Refused(
                f"the catalogue has no column {', '.join(unknown)}; it has {', '.join(sorted(_COLUMN_NAMES))}"
            )
        name = observation_id(obsid, instance)
        # Files first: an observation that can be found has its files.
        with self._changing(OBSFILEDB) as connection:
            database = ObsFileDb(connection, prefix=str(self.directory), init_db=False)
            for path in files:
                self._add_file(database, path, name, detset)
        with self._changing(OBSDB) as connection:
            values = {**facts, "obsid": obsid, "instance": instance}
            ObsDb(connection, init_db=False).update_obs(name, values, tags=[detset], commit=False)
        return name

    def _add_file(self, database: ObsFileDb, path: Path, name: str, detset: str) -> None:
        """Enter one file, by its path from the directory where that is possible."""
        entry = os.path.abspath(path)
        if entry.startswith(os.path.abspath(self.directory) + os.sep):
            entry = os.path.relpath(entry, self.directory)
        there = database.lookup_file(entry, resolve_paths=False, fail_ok=True)
        if there is None:
            database.add_obsfile(entry, name, detset, commit=False)
        elif (there["obs_id"], there["detsets"]) != (name, [detset]):
            raise Refused(
                f"{path} is catalogued as {there['detsets'][0]} of {there['obs_id']}; it cannot be {name}'s too"
            )

    @contextmanager
    def _changing(self, database: str) -> Iterator[sqlite3.Connection]:
        """One immediate transaction on a database of this catalogue."""
        path = self.directory / database
        try:
            with closing(sqlite3.connect(path, timeout=self.timeout_s, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("begin immediate")
                try:
                    yield connection
                    if connection.in_transaction:
                        connection.execute("commit")
                finally:
                    if connection.in_transaction:
                        connection.execute("rollback")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise Retry(f"{path}: another writer holds the catalogue for {self.timeout_s:g} s ({error})") from error
            raise OSError(f"{path}: {error}") from error
