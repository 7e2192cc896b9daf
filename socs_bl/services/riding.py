"""Redis commands that ride in a commit: what may, and in which form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from socs_bl.core.errors import Refused
from socs_bl.core.journal import check_writes

MAXIMUM_ARGUMENTS = 4000  # of one command: Lua unpacks at most about 8,000 values


def _integer(word: str) -> bool:
    return word.lstrip("-").isascii() and word.lstrip("-").isdigit() and len(word) <= 18


def _number(word: str) -> bool:
    with contextlib.suppress(ValueError):
        return float(word) == float(word)  # not NaN, which ZADD refuses
    return False


def _added_to_stream(words: Sequence[str]) -> bool:
    rest = list(words[1:])
    if rest[:1] and rest[0].upper() == "MAXLEN":
        rest = rest[2:] if rest[1:2] in (["~"], ["="]) else rest[1:]
        if not rest or not _integer(rest[0]) or int(rest[0]) < 0:
            return False
        rest = rest[1:]
    # Only '*': an id of one's own could be too small, which shows only when it is too late.
    return len(rest) >= 3 and rest[0] == "*" and len(rest) % 2 == 1


# What follows the verb, well-formed; Redis would notice anything else only in the middle of the commit.
_WELL_FORMED: Mapping[str, Callable[[Sequence[str]], bool]] = {
    "SET": lambda words: (
        len(words) == 2
        or (len(words) == 4 and words[2].upper() in ("EX", "PX") and _integer(words[3]) and 0 < int(words[3]) < 10**12)
    ),
    "DEL": lambda words: len(words) >= 1,
    "HSET": lambda words: len(words) >= 3 and len(words) % 2 == 1,
    "HDEL": lambda words: len(words) >= 2,
    "EXPIRE": lambda words: len(words) == 2 and _integer(words[1]) and abs(int(words[1])) < 10**12,
    "LPUSH": lambda words: len(words) >= 2,
    "RPUSH": lambda words: len(words) >= 2,
    "LREM": lambda words: len(words) == 3 and _integer(words[1]),
    "SADD": lambda words: len(words) >= 2,
    "SREM": lambda words: len(words) >= 2,
    "ZADD": lambda words: len(words) >= 3 and len(words) % 2 == 1 and all(_number(word) for word in words[1::2]),
    "ZREM": lambda words: len(words) >= 2,
    "XADD": _added_to_stream,
    "PUBLISH": lambda words: len(words) == 2,
}


def check_command(command: Sequence[str]) -> None:
    """Raise Refused when a riding command is malformed, so that it cannot fail in the middle of a commit.

    The grammar is that of Redis 6.2, without the options nobody needs here: SET takes EX and PX, XADD takes MAXLEN and
    the id ``*``, ZADD no flags.
    """
    check_writes([command])
    well_formed = _WELL_FORMED.get(command[0].upper())
    if well_formed is None or len(command) > MAXIMUM_ARGUMENTS or not well_formed(command[1:]):
        raise Refused(f"riding command {' '.join(command)!r:.120} is malformed; see the Redis command reference for it")
