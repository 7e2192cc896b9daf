"""The tables of the catalogue, and how a file that older software has made becomes one of today."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from socs_bl.core.errors import Refused

# Each script brings a file from the format before to its own number, counted from 1 (PRAGMA user_version).
MIGRATIONS: tuple[str, ...] = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('sequence', 0), ('rebuilding', '');

CREATE TABLE file (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, block TEXT NOT NULL, fields TEXT NOT NULL, begins_ns INTEGER,
  size INTEGER NOT NULL, metadata TEXT NOT NULL DEFAULT '{}', added_ns INTEGER NOT NULL,
  parent INTEGER REFERENCES file (id), made_by TEXT NOT NULL DEFAULT '');
CREATE INDEX file_parent ON file (parent) WHERE parent IS NOT NULL;

CREATE TABLE digest (
  file INTEGER NOT NULL REFERENCES file (id), algorithm TEXT NOT NULL, hex TEXT NOT NULL,
  PRIMARY KEY (file, algorithm)) WITHOUT ROWID;

CREATE TABLE copy (
  id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES file (id), store TEXT NOT NULL, path BLOB NOT NULL,
  state TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL DEFAULT 0,
  seen_ns INTEGER NOT NULL, verified_ns INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX copy_place ON copy (store, path);
CREATE INDEX copy_file ON copy (file);
CREATE INDEX copy_verified ON copy (store, verified_ns) WHERE state IN ('present', 'verified', 'suspect');

CREATE TABLE job (
  id INTEGER PRIMARY KEY, stage TEXT NOT NULL, file INTEGER NOT NULL REFERENCES file (id), target TEXT NOT NULL DEFAULT '',
  resource TEXT NOT NULL, state TEXT NOT NULL, priority INTEGER NOT NULL, order_ns INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, due_ns INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
  changed_ns INTEGER NOT NULL);
CREATE UNIQUE INDEX job_key ON job (file, stage, target);
CREATE UNIQUE INDEX job_active ON job (file) WHERE state IN ('running', 'verifying');
CREATE INDEX job_ready ON job (resource, priority DESC, order_ns, id) WHERE state = 'ready';
CREATE INDEX job_retry ON job (due_ns) WHERE state = 'retry';
CREATE INDEX job_stage ON job (stage, state);

CREATE TABLE event (
  id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, file INTEGER, what TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX event_file ON event (file);
CREATE INDEX event_at ON event (at_ns);
""",
)


def prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[str] = MIGRATIONS) -> bool:
    """Bring a file to the format of today, all at once or not at all; whether it was empty.

    Raises
    ------
    Refused
        When newer software has made the file. Nothing has changed.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise Refused(f"{path} has format {version}, this software knows {len(migrations)}; update the software")
    if version < len(migrations):
        script = "".join(migrations[version:])
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {len(migrations)}; COMMIT;")
    return bool(version == 0)
