"""Names of configurations, instances of the back end and nodes: what may become a directory and a part of an address."""

from __future__ import annotations

import re

from socs_bl.core.errors import Refused

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,62}")


def parse_name(text: str, what: str = "configuration") -> str:
    """Accept a name such as ``c0``, ``04_12_59`` or ``01``: letters, digits and ``_``, no ``_`` first, at most 63.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if not _NAME.fullmatch(text):
        raise Refused(
            f"{what} name {text!r:.80} is not letters, digits and '_' (63 at most, no '_' first); write it like 'c0'"
        )
    return text
