"""What happened: the events a machine is stepped with, and the envelope they travel and rest in.

An event is a small frozen record. The envelope around it says which version of the room's schema wrote it, its
place in the journal, the epoch of its writer, what caused it, and the clock pair at which it was taken in. Time
reaches a machine only as ``event.at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from socs_bl.core.clock import Instant


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Base of all events. The tag on the wire is the class name.

    Attributes
    ----------
    at : Instant
        When the shell took the event in. The shell fills it; whoever makes the event need not.
    """

    at: Instant = Instant()


class EffectAttempted(Event, frozen=True):
    """The shell is about to carry out an effect that must not happen twice."""

    effect: str


class EffectDone(Event, frozen=True):
    """The effect has been carried out; its answers, if any, came as events of the same batch."""

    effect: str


class EffectFailed(Event, frozen=True):
    """The effect could not be carried out.

    Attributes
    ----------
    effect : str
        Id of the effect.
    reason : str
        What happened, where.
    unknown : bool
        True when nobody can tell whether it happened (crash after the attempt, deadline passed).
    """

    effect: str
    reason: str
    unknown: bool = False


class TimerFired(Event, frozen=True):
    """A timer ran out. A firing whose generation is not the armed one is stale and ignored."""

    name: str
    generation: int


class Restarted(Event, frozen=True):
    """The shell has come back (or has started for the first time) and looked at the world.

    Attributes
    ----------
    epoch : int
        The new writer epoch.
    outstanding : tuple of str
        Ids of effects that were committed and not acknowledged.
    world : mapping
        What the shell saw outside, as plain data; the room's documentation says what is in it.
    """

    epoch: int
    outstanding: tuple[str, ...] = ()
    world: Mapping[str, Any] = {}


CORE_EVENTS: tuple[type[Event], ...] = (EffectAttempted, EffectDone, EffectFailed, TimerFired, Restarted)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An event and where it stands.

    Attributes
    ----------
    schema : int
        Version of the room's event schema.
    sequence : int
        Place in the journal, from 1, without gaps.
    epoch : int
        Writer epoch; a journal refuses an epoch older than the newest it has given out.
    cause : str
        Sequence of the event, or id of the effect, it comes from (of a timer: the event that armed it); empty when it
        came from outside.
    event : Event
        The event; its clock pair is written beside the other fields of the envelope.
    """

    schema: int
    sequence: int
    epoch: int
    cause: str
    event: Event
