"""What can be changed in the catalogue: each change keeps its promises by itself, and leaves an event."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.entries import CopyEntry, JobEntry, View, job_of
from socs_bl.dataflow.model import ACTIVE, CopyState, Digest, FileName, JobState, Seen

_J = JobState
# From each state a job may go to these; to itself it may go always (another reason).
NEXT: Mapping[JobState, frozenset[JobState]] = {
    _J.WAITING: frozenset({_J.READY, _J.HELD, _J.DONE}),
    _J.READY: frozenset({_J.RUNNING, _J.WAITING, _J.HELD, _J.PAUSED_SPACE, _J.DONE}),
    _J.RUNNING: frozenset({_J.VERIFYING, _J.DONE, _J.RETRY, _J.PAUSED_SPACE, _J.READY, _J.WAITING, _J.HELD, _J.BAD}),
    _J.VERIFYING: frozenset({_J.DONE, _J.RETRY, _J.READY, _J.HELD, _J.BAD, _J.PAUSED_SPACE}),
    _J.RETRY: frozenset({_J.READY, _J.HELD}),
    _J.PAUSED_SPACE: frozenset({_J.READY, _J.HELD}),
    _J.HELD: frozenset({_J.READY, _J.BAD}),
    _J.BAD: frozenset({_J.READY}),  # a person asks for another attempt
    _J.DONE: frozenset({_J.READY}),  # what it made is gone or corrupt
}
_IN_PLACE = (CopyState.PRESENT, CopyState.VERIFIED, CopyState.SUSPECT, CopyState.CORRUPT)


class Change(View):
    """One change of the catalogue, in the writer's transaction: it takes place as a whole, or an error undoes it.

    Parameters
    ----------
    connection : sqlite3.Connection
    now_ns : int
        Unix ns.
    """

    def __init__(self, connection: sqlite3.Connection, now_ns: int) -> None:
        super().__init__(connection)
        self.now_ns = now_ns

    def note(self, file: int | None, what: str, text: str = "") -> None:
        """Leave an event."""
        self._connection.execute(
            "INSERT INTO event (at_ns, file, what, text) VALUES (?, ?, ?, ?)", (self.now_ns, file, what, text)
        )

    # -- files

    def add_file(
        self,
        name: FileName,
        block: str,
        size: int,
        begins_ns: int | None = None,
        parent: int | None = None,
        made_by: str = "",
    ) -> int:
        """Enter a file; one that is entered already is left as it is, but may learn what it was made of.

        Raises
        ------
        Refused
            When a file of this name and another size is entered: two files have one name.
        """
        row = self._connection.execute("SELECT id, size FROM file WHERE name = ?", (name.text,)).fetchone()
        if row is not None:
            if row[1] != size:
                raise Refused(
                    f"{name.text!r} has {size} bytes, but a file of this name with {row[1]} is in the catalogue; "
                    "two files have one name: rename one, or remove the wrong one by hand"
                )
            if parent is not None:
                query = "UPDATE file SET parent = ?, made_by = ? WHERE id = ? AND parent IS NULL"
                self._connection.execute(query, (parent, made_by, row[0]))
            return int(row[0])
        values = (
            name.text,
            block,
            msgspec.json.encode(name.fields).decode(),
            begins_ns,
            size,
            self.now_ns,
            parent,
            made_by,
        )
        cursor = self._connection.execute(
            "INSERT INTO file (name, block, fields, begins_ns, size, added_ns, parent, made_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        number = int(cursor.lastrowid or 0)
        self.note(number, "entered", f"{size} bytes" + (f", made by {made_by}" if made_by else ""))
        return number

    def set_digest(self, file: int, digest: Digest) -> None:
        """Enter what the bytes of a file hash to.

        Raises
        ------
        Refused
            When another digest by this algorithm is entered: the bytes are not those of before.
        """
        key = (file, digest.algorithm)
        row = self._connection.execute("SELECT hex FROM digest WHERE file = ? AND algorithm = ?", key).fetchone()
        if row is None:
            self._connection.execute("INSERT INTO digest VALUES (?, ?, ?)", (*key, digest.hex))
            self.note(file, "hashed", f"{digest.algorithm} {digest.hex}")
        elif row[0] != digest.hex:
            raise Refused(
                f"file {file} hashes to {digest.algorithm} {digest.hex}, but {row[0]} is in the catalogue; its bytes have changed"
            )

    def learn(self, file: int, metadata: Mapping[str, str | int | float]) -> None:
        """Enter what an inspection has found."""
        entry = self.file_of(file)
        if entry is not None and metadata:
            merged = msgspec.json.encode({**entry.metadata, **metadata}).decode()
            self._connection.execute("UPDATE file SET metadata = ? WHERE id = ?", (merged, file))
            self.note(file, "learnt", ", ".join(f"{name}={value}" for name, value in metadata.items()))

    # -- copies

    def see(self, file: int, seen: Seen) -> CopyEntry:
        """Enter a copy as a scan saw it. One that was verified and is not the same any more becomes suspect.

        Raises
        ------
        Refused
            When a copy of another file is known at this place.
        """
        known = self.copy_at(seen.store, seen.path)
        if known is None:
            self._connection.execute(
                "INSERT INTO copy (file, store, path, state, size, mtime_ns, inode, seen_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (file, seen.store, os.fsencode(seen.path), CopyState.PRESENT, *seen.identity, self.now_ns),
            )
            self.note(file, "seen", f"{seen.store}:{_printable(seen.path)}")
        elif known.file != file:
            raise Refused(
                f"{seen.store}:{_printable(seen.path)} is a copy of file {known.file}, not of {file}; "
                "two files have one place: look at both"
            )
        else:
            state, verified_ns = known.state, known.verified_ns
            if state not in _IN_PLACE:
                state, verified_ns = CopyState.PRESENT, 0
            elif state is CopyState.VERIFIED and seen.identity != known.seen.identity:
                state = CopyState.SUSPECT
            self._connection.execute(
                "UPDATE copy SET state = ?, size = ?, mtime_ns = ?, inode = ?, seen_ns = ?, verified_ns = ? WHERE id = ?",
                (state, *seen.identity, self.now_ns, verified_ns, known.id),
            )
            if state is not known.state:
                self.note(file, state, f"{seen.store}:{_printable(seen.path)} is not what it was ({known.state})")
        found = self.copy_at(seen.store, seen.path)
        assert found is not None
        return found

    def compare(self, copy: CopyEntry, found: Digest, at_ns: int) -> CopyState:
        """Enter that the bytes of a copy were hashed: it is verified, or corrupt.

        Parameters
        ----------
        copy : CopyEntry
        found : Digest
        at_ns : int
            When, Unix ns.

        Raises
        ------
        Refused
            When the file has no digest by this algorithm to compare with.
        """
        key = (copy.file, found.algorithm)
        row = self._connection.execute("SELECT hex FROM digest WHERE file = ? AND algorithm = ?", key).fetchone()
        if row is None:
            raise Refused(f"file {copy.file} has no {found.algorithm} to compare with; hash it at its source first")
        if row[0] == found.hex:
            self._put_copy(copy, CopyState.VERIFIED, "", at_ns)
            return CopyState.VERIFIED
        self._put_copy(copy, CopyState.CORRUPT, f"{found.algorithm} is {found.hex}, should be {row[0]}", 0)
        return CopyState.CORRUPT

    def mark(self, copy: CopyEntry, state: CopyState, reason: str) -> None:
        """Enter what became of a copy: ``suspect``, ``missing``, ``delivered``, ``deleted`` (the rule as the reason).

        Raises
        ------
        Refused
            For ``verified`` (only `compare` says so), and for ``delivered`` of a copy that was never verified.
        """
        if state is CopyState.VERIFIED:
            raise Refused(f"copy {copy.id} is verified by comparing its bytes and by nothing else")
        if state is CopyState.DELIVERED and copy.state is not CopyState.VERIFIED:
            raise Refused(
                f"copy {copy.id} in {copy.store} is {copy.state}, not verified, so that it cannot be delivered"
            )
        self._put_copy(copy, state, reason, copy.verified_ns if state is not CopyState.PRESENT else 0)

    def _put_copy(self, copy: CopyEntry, state: CopyState, reason: str, verified_ns: int) -> None:
        self._connection.execute(
            "UPDATE copy SET state = ?, reason = ?, verified_ns = ? WHERE id = ?", (state, reason, verified_ns, copy.id)
        )
        self.note(copy.file, state, f"{copy.store}:{_printable(copy.path)}" + (f": {reason}" if reason else ""))

    # -- jobs

    def add_job(
        self, stage: str, file: int, resource: str, target: str = "", priority: int = 0, order_ns: int = 0,
        state: JobState = JobState.READY,
    ) -> int:  # fmt: skip
        """Enter a job; one for this stage, file and target that is entered already is left as it is."""
        row = self._connection.execute(
            "INSERT INTO job (stage, file, target, resource, state, priority, order_ns, changed_ns) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (file, stage, target) DO NOTHING RETURNING id",
            (stage, file, target, resource, state, priority, order_ns, self.now_ns),
        ).fetchone()
        if row is None:
            key = (file, stage, target)
            row = self._connection.execute(
                "SELECT id FROM job WHERE file = ? AND stage = ? AND target = ?", key
            ).fetchone()
        return int(row[0])

    def claim(self, resource: str) -> JobEntry | None:
        """Start the job whose turn it is: the highest priority, then the oldest, of a file that no other job has."""
        row = self._connection.execute(
            "UPDATE job SET state = 'running', attempts = attempts + 1, reason = '', changed_ns = ? WHERE id = ("
            " SELECT id FROM job AS candidate INDEXED BY job_ready WHERE state = 'ready' AND resource = ? AND NOT EXISTS ("
            "  SELECT 1 FROM job AS other WHERE other.file = candidate.file AND other.state IN ('running', 'verifying'))"
            " ORDER BY priority DESC, order_ns, id LIMIT 1)"
            f" RETURNING {', '.join(JobEntry.__struct_fields__)}",
            (self.now_ns, resource),
        ).fetchone()
        return job_of(row) if row else None

    def put_job(self, number: int, state: JobState, reason: str = "", due_ns: int = 0) -> None:
        """Enter what became of a job.

        Raises
        ------
        Refused
            When it cannot go there from where it is, there is no such job, or another job has its file.
        """
        job = self.job(number)
        if job is None:
            raise Refused(f"there is no job {number}")
        if state is not job.state and state not in NEXT[job.state]:
            raise Refused(f"job {number} ({job.stage}) is {job.state} and cannot become {state}")
        try:
            self._connection.execute(
                "UPDATE job SET state = ?, reason = ?, due_ns = ?, changed_ns = ? WHERE id = ?",
                (state, reason, due_ns, self.now_ns, number),
            )
        except sqlite3.IntegrityError as error:
            raise Refused(f"job {number} ({job.stage}) cannot become {state}: another job has its file") from error
        if state is not _J.VERIFYING:
            named = f"{job.stage} {job.target}".rstrip()
            self.note(job.file, state, f"{named}: {reason}" if reason else named)

    def wake(self) -> int:
        """Make the retries ready that are due; returns how many."""
        query = "UPDATE job SET state = 'ready', due_ns = 0, changed_ns = ?1 WHERE state = 'retry' AND due_ns <= ?1"
        return self._connection.execute(query, (self.now_ns,)).rowcount

    def room(self, resource: str) -> int:
        """Make the jobs ready that waited for space of a resource; returns how many."""
        query = "UPDATE job SET state = 'ready', changed_ns = ? WHERE state = 'paused:space' AND resource = ?"
        return self._connection.execute(query, (self.now_ns, resource)).rowcount

    def recover(self) -> int:
        """After a crash: what was running is ready again; returns how many."""
        marks = ", ".join("?" * len(ACTIVE))
        query = f"UPDATE job SET state = 'ready', reason = 'interrupted', changed_ns = ? WHERE state IN ({marks})"
        return self._connection.execute(query, (self.now_ns, *ACTIVE)).rowcount

    # -- trust

    def distrust(self, reason: str) -> int:
        """Take no copy for verified any more until its bytes are compared again, and delete nothing until `trust`."""
        query = "UPDATE copy SET state = 'present', verified_ns = 0 WHERE state = 'verified'"
        count = self._connection.execute(query).rowcount
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'rebuilding'", (reason,))
        self.note(None, "distrusted", f"{reason}; {count} copies are to be verified again")
        return count

    def trust(self) -> None:
        """The catalogue has been held against the disks and manifests: retention may use it again."""
        self._connection.execute("UPDATE meta SET value = '' WHERE key = 'rebuilding'")
        self.note(None, "trusted", "held against the disks and manifests")

    def forget_events(self, before_ns: int, at_most: int = 10_000) -> int:
        """Remove old events, so many at a time; returns how many."""
        query = "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at_ns < ? LIMIT ?)"
        return self._connection.execute(query, (before_ns, at_most)).rowcount


def _printable(path: str) -> str:
    """A path for texts: bytes that are not UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode()
