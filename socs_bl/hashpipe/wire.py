"""Names and text formats of the gateway protocol: channels, the status hash, ``KEY=value`` pairs, commands.

Source: rb-hashpipe gateway (channel names, value typing, delay limits, commands); commensal-automator (group names).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from socs_bl.core.errors import Refused
from socs_bl.core.names import Instance, parse_subarray

Value = str | int | float

DOMAIN = "bluse"
DEFAULT_DELAY = 1.0
MINIMUM_DELAY = 0.25
MAXIMUM_DELAY = 60.0
EXPIRY_FACTOR = 3
MAX_PAYLOAD = 16384
MAX_VALUE = 68
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,7}")
_GROUP = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}-[0-9]{1,3}")
_DIGITS = re.compile(r"[0-9]{1,19}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Join:
    """Listen to the set channel of `group` too."""

    group: str


@dataclass(frozen=True)
class Leave:
    """Listen to the set channel of `group` no longer."""

    group: str


@dataclass(frozen=True)
class Delay:
    """Refresh the status hash every `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Quit:
    """End the gateway; its supervisor starts it anew, in no group."""


Command = Join | Leave | Delay | Quit


def set_channel(instance: Instance, domain: str = DOMAIN) -> str:
    """Channel on which one instance takes keys: ``bluse://host/n/set``."""
    return f"{domain}://{instance.host}/{instance.number}/set"


def broadcast_set_channel(domain: str = DOMAIN) -> str:
    """Channel on which all instances take keys: ``bluse:///set``."""
    return f"{domain}:///set"


def gateway_channel(instance: Instance, domain: str = DOMAIN) -> str:
    """Channel on which the gateway of one instance takes commands: ``bluse://host/n/gateway``."""
    return f"{domain}://{instance.host}/{instance.number}/gateway"


def status_key(instance: Instance, domain: str = DOMAIN) -> str:
    """Key of the hash that mirrors the status buffer of one instance: ``bluse://host/n/status``."""
    return f"{domain}://{instance.host}/{instance.number}/status"


def group_name(subarray: str, number: int) -> str:
    """Group of all instances number `number` of a subarray: ``array_1-0``."""
    return f"{parse_subarray(subarray)}-{number}"


def group_set_channel(group: str, domain: str = DOMAIN) -> str:
    """Channel on which the members of a group take keys: ``bluse:array_1-0///set``. Also a hash of the last values."""
    return f"{domain}:{parse_group(group)}///set"


def group_gateway_channel(group: str, domain: str = DOMAIN) -> str:
    """Channel on which ``leave=`` is published for a whole group: ``bluse:array_1-0///gateway``."""
    return f"{domain}:{parse_group(group)}///gateway"


def parse_group(text: str) -> str:
    """Accept a group name such as ``array_1-0``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    if not _GROUP.fullmatch(text):
        raise Refused(f"group name {text!r:.80} is not subarray-number; write it like 'array_1-0'")
    return text


def parse_value(text: str) -> Value:
    """A value of the status buffer: all digits give an integer, a decimal number a float, the rest stays text.

    Raises
    ------
    Refused
        When the text is empty, too long, or not printable.
    """
    if not text or len(text) > MAX_VALUE or not text.isprintable():
        raise Refused(f"value {text[:80]!r} is not 1-{MAX_VALUE} printable characters")
    if _DIGITS.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def format_value(value: Value) -> str:
    """Text of a value that `parse_value` gives back (17 significant digits at most)."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def parse_pairs(payload: bytes | str) -> tuple[dict[str, Value], list[str]]:
    """Parse the payload of a set channel: ``KEY=value``, several joined by newlines.

    Returns
    -------
    pairs : dict[str, str | int | float]
        What was good, in order.
    rejected : list[str]
        One sentence per bad pair; a bad pair does not cost the good ones beside it.
    """
    text = _decode(payload)
    if text is None:
        return {}, [f"payload of {len(payload)} bytes is not UTF-8 text of at most {MAX_PAYLOAD} bytes"]
    pairs: dict[str, Value] = {}
    rejected: list[str] = []
    for line in text.split("\n"):
        if not line:
            continue
        key, _, value = line.partition("=")
        if not _KEY.fullmatch(key):
            rejected.append(f"key {key[:40]!r} is not 1-8 letters, digits, '_' or '-'")
            continue
        try:
            pairs[key] = parse_value(value)
        except Refused as error:
            rejected.append(f"{key}: {error}")
    return pairs, rejected


def format_pairs(pairs: Mapping[str, Value]) -> str:
    """Payload for a set channel.

    Raises
    ------
    Refused
        When a key or a value would not be accepted by `parse_pairs`.
    """
    lines = []
    for key, value in pairs.items():
        text = format_value(value)
        if not _KEY.fullmatch(key):
            raise Refused(f"key {key[:40]!r} is not 1-8 letters, digits, '_' or '-'")
        parse_value(text)
        lines.append(f"{key}={text}")
    return "\n".join(lines)


def parse_command(payload: bytes | str) -> Command:
    """Parse the payload of a gateway channel: ``join=G``, ``leave=G``, ``delay=SECONDS``, ``quit``.

    Raises
    ------
    Refused
        When it is anything else.
    """
    text = _decode(payload) or ""
    word, _, argument = text.strip().partition("=")
    if word == "join":
        return Join(parse_group(argument))
    if word == "leave":
        return Leave(parse_group(argument))
    if word == "quit" and not argument:
        return Quit()
    if word == "delay" and _DECIMAL.fullmatch(argument):
        seconds = float(argument)
        if MINIMUM_DELAY <= seconds <= MAXIMUM_DELAY:
            return Delay(seconds)
    raise Refused(
        f"gateway command {text[:80]!r} is none of join=GROUP, leave=GROUP, quit,"
        f" delay=SECONDS ({MINIMUM_DELAY:g} to {MAXIMUM_DELAY:g})"
    )


def format_command(command: Command) -> str:
    """Payload for a gateway channel."""
    match command:
        case Join(group):
            return f"join={parse_group(group)}"
        case Leave(group):
            return f"leave={parse_group(group)}"
        case Delay(seconds):
            return f"delay={format_value(seconds)}"
        case Quit():
            return "quit"


def parse_status(fields: Mapping[bytes, bytes] | Mapping[str, str]) -> dict[str, Value]:
    """Fields of a status hash, as Redis gives them, with typed values; unreadable ones are left out."""
    status: dict[str, Value] = {}
    for raw_key, raw_value in fields.items():
        key, value = _decode(raw_key), _decode(raw_value)
        if key and value and len(value) <= MAX_VALUE and value.isprintable():
            status[key] = parse_value(value)
    return status


def format_status(status: Mapping[str, Value]) -> dict[str, str]:
    """Fields of a status hash, as Redis takes them."""
    return {key: format_value(value) for key, value in status.items()}


def _decode(payload: bytes | str) -> str | None:
    """UTF-8 text, or None when it is not or is too long."""
    if len(payload) > MAX_PAYLOAD:
        return None
    if isinstance(payload, str):
        return payload
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        return None
