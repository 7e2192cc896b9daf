"""Published files in sotodlib's ObsDb and ObsFileDb, so that ``sotodlib.core.Context`` finds them.

One observation is one file, its id the file's name. Entries are keyed by it, so that they can be made again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from sotodlib.core.metadata import ObsDb, ObsFileDb

from socs_bl.bdf.scan import unix_ns
from socs_bl.bdf.sidefile import SideFile
from socs_bl.core.errors import Retry
from socs_bl.core.whole_file import write_whole

CONTEXT, OBSDB, OBSFILEDB = "context.yaml", "obsdb.sqlite", "obsfiledb.sqlite"
DETSET = "bdf"
TIMEOUT_S = 10.0
COLUMNS: tuple[tuple[str, type], ...] = (
    ("uid", str), ("dataset", str), ("scan", int), ("subscan", int), ("config", str), ("source", str),
    ("start_time", float), ("duration", float), ("integrations", int), ("antennas", int), ("aborted", int),
)  # fmt: skip


class Catalogue:
    """A catalogue directory; it is made when it does not exist.

    Parameters
    ----------
    directory : Path

    Raises
    ------
    Retry
        When another writer holds the databases for long.
    OSError
        When the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        with self._changing(OBSDB) as connection:
            ObsDb(connection).add_obs_columns(COLUMNS)
        with self._changing(OBSFILEDB) as connection:
            files = ObsFileDb(connection, prefix=str(directory))
            if DETSET not in {row["name"] for row in connection.execute("select name from detsets")}:
                files.add_detset(DETSET, [DETSET])
        if not (directory / CONTEXT).exists():
            context = {"tags": {}, "obsdb": f"./{OBSDB}", "obsfiledb": f"./{OBSFILEDB}"}
            write_whole(directory / CONTEXT, yaml.safe_dump(context, sort_keys=False).encode())

    def register(self, info: SideFile) -> None:
        """Enter a published file, or bring its entry up to date.

        Raises
        ------
        Retry
            When another writer holds the databases for long.
        OSError
            When they cannot be written.
        """
        values = {
            "uid": info.uid, "dataset": info.dataset_id, "scan": info.scan_no, "subscan": info.subscan_no,
            "config": info.config_id, "source": info.scan.source, "start_time": unix_ns(info.start_time_ns) / 1e9,
            "timestamp": unix_ns(info.start_time_ns) / 1e9, "integrations": info.num_integration,
            "duration": (info.stop_time_ns - info.start_time_ns) / 1e9, "antennas": info.num_antenna,
            "aborted": int(info.aborted),
        }  # fmt: skip
        # The file first: an observation that can be found has its file.
        with self._changing(OBSFILEDB) as connection:
            files = ObsFileDb(connection, prefix=str(self._directory), init_db=False)
            if files.lookup_file(info.path, resolve_paths=False, fail_ok=True) is None:
                files.add_obsfile(info.path, info.id, DETSET)
        with self._changing(OBSDB) as connection:
            ObsDb(connection, init_db=False).update_obs(info.id, values, tags=[DETSET])

    @contextmanager
    def _changing(self, database: str) -> Iterator[sqlite3.Connection]:
        path = self._directory / database
        try:
            with closing(sqlite3.connect(path, timeout=TIMEOUT_S)) as connection:
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise Retry(f"{path}: another writer holds the catalogue for {TIMEOUT_S:g} s ({error})") from error
            raise OSError(f"{path}: {error}") from error
