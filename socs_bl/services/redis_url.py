"""The URL of a Redis server: where it comes from, and how it is shown without its secrets.

A URL can hold a user and a password and, for ``rediss://``, the files of TLS::

    rediss://coordinator:secret@redis.site:6380/0?ssl_ca_certs=/etc/ssl/site-ca.pem
        &ssl_certfile=/etc/ssl/coordinator.pem&ssl_keyfile=/etc/ssl/coordinator.key

A command line is shown to every user of a host, so a URL with a secret comes from the environment or from a file.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from socs_bl.core.errors import Refused

VARIABLE = "SOCS_BL_REDIS_URL"
DEFAULT = "redis://127.0.0.1:6379/0"
HIDDEN = "***"
_SECRET_PARAMETER = re.compile(r"(?i)\b((?:ssl_)?password)=[^&\s'\"]*")
_USER_INFO = re.compile(r"(?<=://)([^\s/@:'\"]*):[^\s'\"]*@")


def redact(text: str) -> str:
    """A text with the passwords in its URLs replaced; for everything that is shown, logged or stored."""
    return _SECRET_PARAMETER.sub(rf"\1={HIDDEN}", _USER_INFO.sub(rf"\1:{HIDDEN}@", text))


def from_environment() -> str:
    """What ``SOCS_BL_REDIS_URL`` holds, else the server of this host."""
    return os.environ.get(VARIABLE, "").strip() or DEFAULT


def from_file(path: str) -> str:
    """The URL in the first line of a file.

    Raises
    ------
    Refused
        When it cannot be read, is readable by everybody, or holds no URL; the text does not show it.
    """
    try:
        if os.stat(path).st_mode & 0o007:
            raise Refused(f"{path} is open to every user of this host; chmod 640 {path}")
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: the URL of Redis cannot be read from it ({error})") from error
    url = lines[0].strip()
    if not urlsplit(url).scheme:
        raise Refused(f"{path}: its first line is not a URL such as {DEFAULT}")
    return url


def conceal(url: str) -> str:
    """What to store of a URL: nothing secret of the one in the environment, which `reveal` finds there again."""
    return redact(url) if url == from_environment() else url


def reveal(stored: str) -> str:
    """The URL of which `conceal` made what is stored."""
    url = from_environment()
    return url if redact(url) == stored else stored


class _FileAction(argparse.Action):
    """Reads the URL from the file that an option names."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            setattr(namespace, self.dest, from_file(str(values)))
        except Refused as refused:
            parser.error(str(refused))


def _url(text: str) -> str:
    return from_environment() if text == f"${VARIABLE}" else text


def add_redis_arguments(group: argparse._ActionsContainer, purpose: str) -> None:
    """``--redis-url`` and ``--redis-url-file``; either gives ``args.redis_url``.

    Parameters
    ----------
    group : argument group or parser
    purpose : str
        What the server is for, as the help says it.
    """
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--redis-url",
        metavar="URL",
        type=_url,
        default=f"${VARIABLE}",  # a text that the help may show, unlike what is in the variable
        help=f"{purpose}; by default ${VARIABLE}, or {DEFAULT}. Others on the host see it: no password here",
    )
    either.add_argument(
        "--redis-url-file",
        metavar="FILE",
        dest="redis_url",
        default=argparse.SUPPRESS,
        action=_FileAction,
        help="file with the URL in its first line, closed to other users of the host",
    )
