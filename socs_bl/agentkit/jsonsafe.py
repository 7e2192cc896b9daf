"""Anything an operation reports, made finite JSON that every client can read."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Set
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import PurePath

import msgspec
import numpy as np
from pydantic import BaseModel

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
DEPTH = 32
_INT64 = 2**63


def json_safe(value: object, depth: int = DEPTH) -> Json:
    """Turn `value` into None, bool, int, float, str, list and dict with str keys.

    NaN and infinities become None, times ISO 8601, bytes and paths text, sets sorted lists, integers beyond 64 bits
    and unknown objects their text. What lies deeper than `depth` levels (a cycle) becomes the text ``...``.
    """
    if value is None or isinstance(value, bool):
        return value
    simple = _scalar(value)
    if simple is not _NOT_SIMPLE:
        return simple  # type: ignore[return-value]  # the marker is the only object that is not Json
    if depth <= 0:
        return "..."
    return _container(value, depth - 1)


_NOT_SIMPLE = object()


def _scalar(value: object) -> object:
    if isinstance(value, Enum):
        return json_safe(value.value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int | np.integer):
        number = int(value)
        return number if -_INT64 <= number < _INT64 else str(number)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value).encode("utf-8", "replace").decode("utf-8")
    return _NOT_SIMPLE


def _container(value: object, depth: int) -> Json:
    if isinstance(value, Mapping):
        return {str(json_safe(key, 0)): json_safe(item, depth) for key, item in list(value.items())}
    if isinstance(value, Set):
        return [json_safe(item, depth) for item in sorted(value, key=repr)]
    if isinstance(value, list | tuple):
        return [json_safe(item, depth) for item in value]
    if isinstance(value, np.ndarray):
        return json_safe(value.tolist(), depth + 1)
    if isinstance(value, BaseModel):
        return json_safe(value.model_dump(), depth)
    if isinstance(value, msgspec.Struct):
        return json_safe(msgspec.structs.asdict(value), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: json_safe(getattr(value, item.name), depth) for item in dataclasses.fields(value)}
    return str(value)[:200].encode("utf-8", "replace").decode("utf-8")


def size(value: Json) -> int:
    """Bytes of `value` as JSON text."""
    return len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8"))
