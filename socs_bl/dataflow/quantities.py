"""Quantities as people write them in a pipeline: ``2MiB``, ``5m``, ``2MiB/s``, ``20/min``, ``15%``, ``30s..1h``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema

BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
UNITS: dict[str, float] = {**BYTES, **SECONDS}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]*)")


class Span(NamedTuple):
    """From the first pause to the longest, seconds."""

    shortest: float
    longest: float


class Rate(NamedTuple):
    """So many `times` in every `seconds`."""

    times: int
    seconds: float


def _measure(value: object, units: Mapping[str, float], example: str) -> float:
    """A number with one of `units`; 0 needs none."""
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match and match[2] in units:
        return float(match[1]) * units[match[2]]
    if value in (0, "0") and not isinstance(value, bool):
        return 0.0
    raise ValueError(f"write a number with a unit ({', '.join(units)}), such as {example}")


def parse_size(value: object) -> int:
    """Bytes of ``20GiB``; a whole number without a unit is bytes already.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return round(_measure(value, BYTES, "20GiB"))


def parse_duration(value: object) -> float:
    """Seconds of ``300s``, ``10m``, ``2h``, ``30d``.

    Raises
    ------
    ValueError
        When it is anything else, a number without a unit too: nobody can say of what.
    """
    if isinstance(value, float):  # a default, in seconds already
        return value
    return _measure(value, SECONDS, "300s")


def parse_speed(value: object) -> int:
    """Bytes a second of ``2MiB/s``; ``none`` is 0, which limits nothing.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    if value in ("none", 0):
        return 0
    text, slash, second = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or second != "s":
        raise ValueError("write bytes a second, such as 2MiB/s, or none")
    return round(_measure(text, BYTES, "2MiB"))


def parse_share(value: object) -> float:
    """A share between 0 and 1 of ``15%``.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    if isinstance(value, float) and 0 <= value <= 1:
        return value
    share = _measure(value, {"%": 0.01}, "15%")
    if share > 1:
        raise ValueError("is more than all of it; write at most 100%")
    return share


def parse_rate(value: object) -> Rate:
    """So many in a time: ``20/min``.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    if isinstance(value, Rate):
        return value
    count, slash, unit = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or not (count.isascii() and count.isdigit()) or unit not in SECONDS or int(count) == 0:
        raise ValueError("write how many in which time, such as 20/min")
    return Rate(int(count), SECONDS[unit])


def parse_span(value: object) -> Span:
    """A shortest and a longest time: ``30s..1h``; one time alone is both.

    Raises
    ------
    ValueError
        When it is anything else, or the longest is shorter.
    """
    if isinstance(value, Span):
        return value
    first, dots, last = value.partition("..") if isinstance(value, str) else ("", "", "")
    shortest = parse_duration(first)
    longest = parse_duration(last) if dots else shortest
    if not 0 < shortest <= longest:
        raise ValueError("write the shortest time first, such as 30s..1h")
    return Span(shortest, longest)


def _as(kind: Any, parse: Callable[[object], Any], example: str) -> Any:
    return Annotated[kind, BeforeValidator(parse), WithJsonSchema({"type": "string", "examples": [example]})]


if TYPE_CHECKING:
    Size: TypeAlias = int
    Speed: TypeAlias = int
    Duration: TypeAlias = float
    Share: TypeAlias = float
    RateOf: TypeAlias = Rate
    SpanOf: TypeAlias = Span
else:
    Size = _as(int, parse_size, "20GiB")
    Duration = _as(float, parse_duration, "300s")
    Speed = _as(int, parse_speed, "2MiB/s")
    Share = _as(float, parse_share, "15%")
    RateOf = _as(Rate, parse_rate, "20/min")
    SpanOf = _as(Span, parse_span, "30s..1h")
