"""Names that come from outside, parsed once and strictly.

A subarray, instance, target or observation name becomes part of Redis keys, paths and WAMP URIs, so nothing
enters the house before one of these functions has accepted it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from socs_bl.core.errors import Refused

_SUBARRAY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}[0-9]")
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_SCHEDULE_BLOCK = re.compile(r"[0-9]{8}-[0-9]{4}")
_SOURCE_FORBIDDEN = re.compile(r"[^A-Za-z0-9+\-]")
UNKNOWN_SCHEDULE_BLOCK = "Unknown_SB"
SOURCE_NAME_LENGTH = 16


class Instance(NamedTuple):
    """One processing instance: ``host/number``, such as ``blpn64/1``."""

    host: str
    number: int

    def __str__(self) -> str:
        return f"{self.host}/{self.number}"


def parse_instance(text: str) -> Instance:
    """Parse ``host/number``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    host, slash, number = text.partition("/")
    if not slash or not _HOST.fullmatch(host) or not (number.isascii() and number.isdigit() and len(number) <= 3):
        raise Refused(f"instance name {text!r:.80} is not host/number; write it like 'blpn64/1'")
    return Instance(host, int(number))


def instance_order(name: str) -> tuple[str, int, int]:
    """Sort key for instance names: host letters, host number, instance number.

    Source: commensal-automator, order of allocation (sorted by host number, then instance number).
    """
    instance = parse_instance(name)
    digits = re.search(r"[0-9]+$", instance.host)
    stem = instance.host[: digits.start()] if digits else instance.host
    return stem, int(digits.group()) if digits else -1, instance.number


def parse_subarray(text: str) -> str:
    """Accept a subarray name such as ``array_1``: a letter first, a digit last, at most 32 characters.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if not _SUBARRAY.fullmatch(text):
        raise Refused(
            f"subarray name {text!r:.80} is not letters, digits and '_' ending in a digit; write it like 'array_1'"
        )
    return text


def subarray_number(name: str) -> str:
    """The digit CAM's sensor names use for a subarray: the last character of its name."""
    return parse_subarray(name)[-1]


def parse_schedule_block(text: str) -> str:
    """Accept a schedule-block id: ``YYYYMMDD-NNNN`` or ``Unknown_SB``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if text != UNKNOWN_SCHEDULE_BLOCK and not _SCHEDULE_BLOCK.fullmatch(text):
        raise Refused(f"schedule block {text!r:.80} is neither YYYYMMDD-NNNN nor {UNKNOWN_SCHEDULE_BLOCK}")
    return text


def source_name(text: str) -> str:
    """Make a target name safe for headers and paths: punctuation except + and - becomes ``_``, 16 characters.

    Source: commensal-automator, target handling.
    """
    return _SOURCE_FORBIDDEN.sub("_", text.strip())[:SOURCE_NAME_LENGTH] or "NOT_PROVIDED"


def agent_suffix(name: str) -> str:
    """An instance name as part of an OCS instance-id: ``blpn64/1`` gives ``blpn64-1``."""
    instance = parse_instance(name)
    return f"{instance.host}-{instance.number}"
