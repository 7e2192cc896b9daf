"""What the catalogue costs with a million files, copies and jobs: a job decision, the same on the disk, a start."""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from report import Figure

from socs_bl.dataflow.catalogue import Catalogue
from socs_bl.dataflow.catalogue_schema import prepare
from socs_bl.dataflow.changes import Change
from socs_bl.dataflow.model import JobState

MILLION, SMALL = 1_000_000, 1_000
WANTED_MS = 1.0
# Of a hundred jobs 60 are done, 30 ready for another store, 5 ready, 4 wait to be tried again, one is held.
FILL = """
WITH RECURSIVE number(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM number WHERE n < {count})
INSERT INTO file (name, block, fields, begins_ns, size, added_ns)
  SELECT printf('%08d.sas.0.rawacf', n), 'data', '{{}}', n, 100, n FROM number;
INSERT INTO copy (file, store, path, state, size, mtime_ns, inode, seen_ns, verified_ns)
  SELECT id, 'radar', CAST('20240305/' || name AS BLOB), 'verified', size, id, id, id, id FROM file;
INSERT INTO job (stage, file, resource, state, priority, order_ns, due_ns, changed_ns)
  SELECT 'to_nas', id, CASE WHEN id % 100 BETWEEN 60 AND 89 THEN 'store:campus' ELSE 'store:nas' END,
    CASE WHEN id % 100 < 60 THEN 'done' WHEN id % 100 < 95 THEN 'ready' WHEN id % 100 < 99 THEN 'retry' ELSE 'held' END,
    id % 3, begins_ns, 1 << 62, id FROM file;
"""


def fill(path: Path, count: int) -> None:
    """Make a catalogue of so many files, each with a copy and a job."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        prepare(connection, path)
        connection.executescript(f"BEGIN; {FILL.format(count=count)} COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")


def decisions(catalogue: Catalogue, times: int) -> tuple[float, float]:
    """Median milliseconds of a decision by itself, and of one that is on the disk."""
    alone: list[float] = []
    committed: list[float] = []

    def decide(change: Change) -> None:
        change.wake()
        began = time.perf_counter()
        job = change.claim("store:nas")
        alone.append(1e3 * (time.perf_counter() - began))
        assert job is not None
        change.put_job(job.id, JobState.DONE)

    for _ in range(times):
        began = time.perf_counter()
        catalogue.write(decide).result()
        committed.append(1e3 * (time.perf_counter() - began))
    return statistics.median(alone), statistics.median(committed)


def bare_commit(path: Path, times: int) -> float:
    """Median milliseconds of one row committed to a file of its own, as safely."""
    taken: list[float] = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE one (value)")
        for number in range(times):
            began = time.perf_counter()
            connection.execute("INSERT INTO one VALUES (?)", (number,))
            taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rows(quick: bool) -> list[Figure]:
    """The figures; `quick` takes a tenth of the files."""
    count, times = (MILLION // 10, 100) if quick else (MILLION, 500)
    with tempfile.TemporaryDirectory(prefix="catalogue-") as folder:
        measured: dict[int, tuple[float, float]] = {}
        known = 0.0
        for size in (SMALL, count):
            path = Path(folder) / f"{size}.sqlite"
            fill(path, size)
            with contextlib.closing(Catalogue(path)) as catalogue:
                measured[size] = decisions(catalogue, min(times, size // 25))
                with catalogue.read() as view:
                    known = seconds(lambda: view.known("radar"))
        bare = bare_commit(Path(folder) / "bare.sqlite", times)
    alone, small = measured[count][0], measured[SMALL][0]
    committed = measured[count][1]
    return [
        Figure(
            f"catalogue: a job decision at {count:,} rows, against {SMALL:,}", alone, small, alone / small,
            f"< {WANTED_MS:g} ms", "ms", alone < WANTED_MS,
        ),
        Figure(
            f"catalogue: decided, ended and on the disk at {count:,} rows, against one bare row", committed, bare,
            committed / bare, "", "ms", None,
        ),
        Figure(f"catalogue: what a scan of {count:,} known files is compared with", known, 5.0, known / 5.0, "", "s", None),
    ]  # fmt: skip
