"""What is to be done: the effects a machine answers with.

An effect is data. Its id is ``<sequence>.<n>``, the n-th effect of that event. It names its lane (effects of one lane
are carried out one after the other) and what it waits for. Its class says what a repetition costs.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec


class Delivery(enum.Enum):
    """What the shell must know about a class of effects.

    ``REPEATABLE`` is harmless twice. ``KEYED`` may be sent twice: the receiver drops the second by its id.
    ``ONCE`` must not happen twice: the attempt is journaled first, and after a crash the machine is told "unknown".
    ``RIDES`` is a write on the journal's own server and is part of the commit itself: it is done when the commit is.
    ``LOCAL`` changes only the shell (timers); it is derived from the state again after a restart.
    """

    REPEATABLE = "repeatable"
    KEYED = "keyed"
    ONCE = "once"
    RIDES = "rides"
    LOCAL = "local"


class Effect(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Base of all effects.

    Attributes
    ----------
    id : str
        ``<sequence>.<n>``; given by the machine when it is issued.
    lane : str
        Effects of one lane are carried out in order; the empty lane keeps no order.
    after : tuple of str
        Ids that must be acknowledged before this one starts.
    """

    delivery: ClassVar[Delivery] = Delivery.REPEATABLE
    deadline: ClassVar[float] = 10.0

    id: str = ""
    lane: str = ""
    after: tuple[str, ...] = ()


class StoreWrites(Effect, frozen=True):
    """Redis commands on the journal's own server; they take place in the commit, in order, or not at all.

    Attributes
    ----------
    commands : tuple of tuple of str
        For example ``(("SET", "free_instances", "[]"), ("PUBLISH", "bluse://blpn64/0/set", "DWELL=0"))``.
        The verbs allowed are those of `WRITE_VERBS`.
    """

    delivery: ClassVar[Delivery] = Delivery.RIDES

    commands: tuple[tuple[str, ...], ...]


class Answer(Effect, frozen=True):
    """Tell the person who asked; given with the commit, by whoever submitted the request.

    Attributes
    ----------
    refusal : str
        Why nothing was changed; empty when the request is being carried out.
    """

    delivery: ClassVar[Delivery] = Delivery.RIDES

    refusal: str = ""


WRITE_VERBS = frozenset(
    {
        "SET",
        "DEL",
        "HSET",
        "HDEL",
        "EXPIRE",
        "LPUSH",
        "RPUSH",
        "LREM",
        "SADD",
        "SREM",
        "ZADD",
        "ZREM",
        "XADD",
        "PUBLISH",
    }
)


class ArmTimer(Effect, frozen=True):
    """Arm a timer on the monotonic clock, replacing one of the same name."""

    delivery: ClassVar[Delivery] = Delivery.LOCAL

    name: str
    generation: int
    seconds: float


class CancelTimer(Effect, frozen=True):
    """Cancel a timer; nothing happens when it is not armed."""

    delivery: ClassVar[Delivery] = Delivery.LOCAL

    name: str


class Withdraw(Effect, frozen=True):
    """Take back an effect that has not been acknowledged: it is not started any more, its answer is not waited for."""

    delivery: ClassVar[Delivery] = Delivery.LOCAL

    effect: str


CORE_EFFECTS: tuple[type[Effect], ...] = (StoreWrites, Answer, ArmTimer, CancelTimer, Withdraw)


def effect_order(identity: str) -> tuple[int, int]:
    """Sort key of effect ids: by sequence, then by number."""
    sequence, _, number = identity.partition(".")
    return int(sequence), int(number)
