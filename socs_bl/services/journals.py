"""Which journal a URL means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from socs_bl.core.errors import Refused
from socs_bl.core.journal import Journal, Listed
from socs_bl.services import redis_journal, sqlite_journal
from socs_bl.services.redis_journal import RedisJournal
from socs_bl.services.redis_url import redact
from socs_bl.services.sqlite_journal import SqliteJournal

REDIS_SCHEMES = ("redis", "rediss")
SQLITE_SCHEME = "sqlite"


def open_journal(url: str, name: str, *, riding: bool = False) -> Journal:
    """Open the journal `name` at a URL; nothing is read or written yet.

    Parameters
    ----------
    url : str
        ``redis://`` or ``rediss://`` (TLS) for a Redis server, ``sqlite:///var/lib/x.db`` for a file.
    name : str
    riding : bool
        Whether the machine's commits carry Redis commands, which only a journal on Redis can.

    Raises
    ------
    Refused
        When the URL is another one, or the journal there cannot do what is asked.
    """
    scheme = urlsplit(url).scheme
    if scheme in REDIS_SCHEMES:
        return RedisJournal(url, name)
    if scheme != SQLITE_SCHEME:
        raise Refused(
            f"{redact(url)!r} is not the URL of a journal; write redis://127.0.0.1:6379/0 or sqlite:///var/lib/socs_bl.db"
        )
    if riding:
        raise Refused(
            f"journal {name} carries Redis commands in its commits and cannot be in a file; give the URL of a Redis server"
        )
    return SqliteJournal(sqlite_path(url), name)


def sqlite_path(url: str) -> Path:
    """The file of an ``sqlite://`` URL: its path, from the root on.

    Raises
    ------
    Refused
        When it names a host or no path.
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise Refused(
            f"{url!r} names no file; write three slashes and the path from the root on: sqlite:///var/lib/x.db"
        )
    return Path("/" + unquote(parts.path).lstrip("/"))


def list_journals(url: str) -> list[Listed]:
    """The journals at a URL, by name.

    Raises
    ------
    Refused
        When the URL is not one of journals.
    Retry, Faulty
        When it cannot be read.
    """
    if urlsplit(url).scheme == SQLITE_SCHEME:
        return sqlite_journal.list_journals(sqlite_path(url))
    if urlsplit(url).scheme in REDIS_SCHEMES:
        return redis_journal.list_journals(url)
    raise Refused(f"{redact(url)!r} is not the URL of journals")
