"""The URL of a Redis server: where it comes from, and how it is shown without its secrets.

A URL can hold a user and a password and, for ``rediss://``, the files of TLS::

    rediss://coordinator:secret@redis.site:6380/0?ssl_ca_certs=/etc/ssl/site-ca.pem
        &ssl_certfile=/etc/ssl/coordinator.pem&ssl_keyfile=/etc/ssl/coordinator.key

A command line is shown to every user of a host, so a URL with a secret comes from the environment or from a file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
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
