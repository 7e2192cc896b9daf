"""The books that the institutions of SuperDARN keep of their data, byte for byte, and what they say about a file.

* ``raw/YYYY/MM/YYYYMM.hashes``: a line ``<sha1>  <name>`` for each file of the month, as `sha1sum` writes and checks them; grows.
* ``.config/master.hashes``: a line ``<sha1>  ./raw/YYYYMM.hashes`` for each of those, sorted; written anew.
* ``.config/blocklist/*.txt``: names of files that their owners do not want distributed, one or more on a line.
* ``.config/all_failed.txt``: a line ``<sha1>  <name> | <reason>`` for each file that was found broken; grows.

Everything here is bytes in, bytes out: who fetches and stores the books is not asked.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.superdarn.pack import EMPTY_BYTES, unpack
from socs_bl.superdarn.work import Broken

FAILED_BZIP2 = "Failed BZ2 integrity test"
FAILED_EMPTY = "File contains no records (empty)"
MASTER = ".config/master.hashes"
FAILED = ".config/all_failed.txt"
BLOCKLIST = ".config/blocklist"

_LINE = re.compile(r"(?P<sha1>[0-9a-f]{40}) [ *](?P<name>[!-~][ -~]*)")
_MONTH = re.compile(r"[0-9]{4}(0[1-9]|1[0-2])")
_KIND = re.compile(r"[a-z]{3,8}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


class Standing(enum.StrEnum):
    """What the books say about a file."""

    BLOCKED = "blocked"  # its owner does not want it distributed
    FAILED = "failed"  # it was found broken
    MATCH = "match"  # it is there, with this content
    NOMATCH = "nomatch"  # another content is there under this name
    NEW = "new"  # it is not there


class MonthLedger(msgspec.Struct, frozen=True):
    """The book of one month.

    Attributes
    ----------
    month : str
        ``YYYYMM``.
    content : bytes
        As it is stored.
    hashes : dict of str to tuple of str
        Name and the sha1 of every line that has it.
    """

    month: str
    content: bytes
    hashes: dict[str, tuple[str, ...]]

    def standing(self, name: str, sha1: str) -> Standing:
        """Whether a file is there: new, the same, or another; where lines contradict each other it is another."""
        known = self.hashes.get(name)
        if known is None:
            return Standing.NEW
        return Standing.MATCH if set(known) == {sha1} else Standing.NOMATCH

    def with_files(self, files: Mapping[str, str]) -> MonthLedger:
        """The book with more lines, sorted by name among themselves; what was there stays as it is.

        Parameters
        ----------
        files : mapping of str to str
            Name and sha1 of files that have arrived.

        Raises
        ------
        Refused
            When a file is of another month, is no file name, or is there already with another content.
        """
        lines = []
        for name, sha1 in sorted(files.items()):
            if not _SHA1.fullmatch(sha1) or not _LINE.fullmatch(f"{sha1}  {name}") or "/" in name or "\\" in name:
                raise Refused(f"{name!r:.150} with hash {sha1!r:.50} cannot be a line of {self.month}.hashes")
            if not name.startswith(self.month):
                raise Refused(f"{name} is not of month {self.month}; it belongs into another book")
            standing = self.standing(name, sha1)
            if standing is Standing.NOMATCH:
                raise Refused(
                    f"{name} is in {self.month}.hashes with another content; a person has to decide which is right"
                )
            if standing is Standing.NEW:
                lines.append(f"{sha1}  {name}\n")
        # Two lines would become one where the last has no end.
        glue = b"" if not self.content or self.content.endswith(b"\n") or not lines else b"\n"
        return parse_month(self.month, self.content + glue + "".join(lines).encode())


def month_path(month: str, kind: str = "raw") -> str:
    """Where a month's book lies below a mirror's root.

    Raises
    ------
    Refused
        When the month or the kind of data is none.
    """
    if not _MONTH.fullmatch(month) or not _KIND.fullmatch(kind):
        raise Refused(f"month {month!r:.20} of {kind!r:.20} has no book; write it like '202403' and 'raw'")
    return f"{kind}/{month[:4]}/{month[4:]}/{month}.hashes"


def parse_month(month: str, content: bytes) -> MonthLedger:
    """Read a month's book.

    Raises
    ------
    Refused
        When a line is not ``<sha1>  <name>``: says which. A book that was cut must not pass for one with fewer files.
    """
    month_path(month)
    hashes: dict[str, tuple[str, ...]] = {}
    for sha1, name in _lines(content, f"{month}.hashes"):
        hashes[name] = (*hashes.get(name, ()), sha1)
    return MonthLedger(month, content, hashes)


def new_month(month: str, today: datetime.date) -> MonthLedger:
    """The empty book of a month that has none yet.

    Raises
    ------
    Refused
        When it is not this month: an older book that is missing has been lost, or the mirror is not what it should be.
    """
    month_path(month)
    if month != f"{today:%Y%m}":
        raise Refused(f"there is no {month}.hashes, and only {today:%Y%m} may begin; find out where the old book went")
    return MonthLedger(month, b"", {})


def update_master(content: bytes, ledgers: Iterable[MonthLedger], kind: str = "raw") -> bytes:
    """The master book with the hashes of the given books put in; sorted, one line each.

    Raises
    ------
    Refused
        When a line of it is none.
    """
    hashes = {name: sha1 for sha1, name in _lines(content, "master.hashes")}
    for ledger in ledgers:
        month_path(ledger.month, kind)
        hashes[f"./{kind}/{ledger.month}.hashes"] = sha1_of(ledger.content)
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def check_master(content: bytes, ledgers: Iterable[MonthLedger], kind: str = "raw") -> tuple[str, ...]:
    """Months whose book is not the one that the master book knows."""
    hashes = {name: sha1 for sha1, name in _lines(content, "master.hashes")}
    return tuple(
        ledger.month for ledger in ledgers if hashes.get(f"./{kind}/{ledger.month}.hashes") != sha1_of(ledger.content)
    )


class FailedList(msgspec.Struct, frozen=True):
    """The list of files that were found broken.

    Attributes
    ----------
    content : bytes
        As it is stored.
    """

    content: bytes

    def reason(self, name: str, sha1: str) -> str | None:
        """Why this content of this file was found broken; None when it was not."""
        for line in self.content.decode(errors="replace").split("\n"):
            if sha1 in line and name in line:
                return line.partition(" | ")[2].strip() or "no reason given"
        return None

    def with_files(self, files: Mapping[str, tuple[str, str]]) -> FailedList:
        """The list with more lines; a file whose name and hash are on a line is there already.

        Parameters
        ----------
        files : mapping of str to (str, str)
            Name; sha1 and reason, which is put on one line.

        Raises
        ------
        Refused
            When the list is empty: it never is, so it was not fetched whole, and storing it would lose the others'.
        """
        if not self.content.strip():
            raise Refused("all_failed.txt is empty; it never is, so fetch it again before adding to it")
        lines = [
            f"{sha1}  {name} | {' '.join(reason.split())}\n"
            for name, (sha1, reason) in files.items()
            if self.reason(name, sha1) is None
        ]
        glue = b"" if self.content.endswith(b"\n") or not lines else b"\n"
        return FailedList(self.content + glue + "".join(lines).encode())


class Blocklist(msgspec.Struct, frozen=True):
    """Files that their owners do not want distributed.

    Attributes
    ----------
    lists : dict of str to bytes
        Name of a list, such as ``cly.txt``, and its content; other files than ``*.txt`` are not looked at.
    """

    lists: dict[str, bytes]

    def blocked_by(self, name: str) -> str | None:
        """The list that has the name anywhere on one of its lines; None when none has."""
        wanted = name.encode()
        return next(
            (title for title, content in self.lists.items() if title.endswith(".txt") and wanted in content), None
        )


def standing(
    name: str, sha1: str, broken: str, blocklist: Blocklist, failed: FailedList, ledger: MonthLedger
) -> tuple[Standing, str]:
    """What is to become of a file in the holding directory, and why.

    Parameters
    ----------
    name, sha1 : str
        Of the file.
    broken : str
        What `packed_fault` says about it.
    blocklist, failed, ledger : Blocklist, FailedList, MonthLedger
        The mirror's books.

    Returns
    -------
    (Standing, str)
        In the order of the mirror's own checks: blocked before all; then what the month's book says; only what is new is
        looked into.
    """
    if blocker := blocklist.blocked_by(name):
        return Standing.BLOCKED, f"{name} is on {blocker}"
    known = ledger.standing(name, sha1)
    if known is Standing.NOMATCH:
        return known, f"{name} has sha1 {sha1}, {ledger.month}.hashes says {', '.join(ledger.hashes[name])}"
    if known is Standing.NEW and (reason := broken or failed.reason(name, sha1)):
        return Standing.FAILED, reason
    return known, ""


def packed_fault(path: Path) -> str:
    """Why a packed file may not go to a mirror, in the mirror's words; empty when it may.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for _ in unpack(file, path.name):
                pass
    except Broken:
        return FAILED_BZIP2
    # A stream of nothing is whole, and has 14 bytes.
    return FAILED_EMPTY if path.stat().st_size <= EMPTY_BYTES else ""


def sha1_of(content: bytes) -> str:
    """The hash that all mirrors use."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _lines(content: bytes, book: str) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise Refused(
                f"{book} line {number}: {line!r:.120} is not a sha1, two spaces and a name; fetch the book again"
            )
        yield match["sha1"], match["name"]
