"""What the listener to the pipe knows: who is to be configured with what; events, effects and cells."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from socs_bl.core.effect import Delivery, Effect
from socs_bl.core.event import Event
from socs_bl.core.machine import Cell

# -- events ------------------------------------------------------------------------------------------------------------


class PathGiven(Event, frozen=True):
    """Somebody wants the configuration of this document.

    Attributes
    ----------
    path : str
    asked : bool
        By the task `submit`, which waits for the answer.
    """

    path: str
    asked: bool = False


# -- effects -----------------------------------------------------------------------------------------------------------


class CreateConfiguration(Effect, frozen=True):
    """Have a node make a configuration that is destroyed when another is activated; with one it has, that is done."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    deadline: ClassVar[float] = 120.0  # a document of many megabytes, and processes for every pipeline of it

    node: str
    name: str
    path: str


class ActivateConfiguration(Effect, frozen=True):
    """Have a node activate a configuration; it does so when frames flow."""

    delivery: ClassVar[Delivery] = Delivery.KEYED
    deadline: ClassVar[float] = 30.0

    node: str
    name: str


class Notify(Effect, frozen=True):
    """Tell people."""

    level: str
    text: str


# -- cells -------------------------------------------------------------------------------------------------------------


class Settings(Cell, frozen=True):
    """What the machine must know of its configuration; comes with every restart. See `ListenerConfig`."""

    nodes: tuple[str, ...] = ()
    first_pause: float = 0.5
    longest_pause: float = 10.0
    give_up: float = 60.0


class Ledger(Cell, frozen=True):
    """Counts, and the names that were given last, the newest last."""

    names: tuple[str, ...] = ()
    given: int = 0
    activated: int = 0
    failed: int = 0


class Job(msgspec.Struct, frozen=True):
    """One configuration on its way to one node.

    Attributes
    ----------
    name, path : str
    since : float
        Unix time from which it was the node's next, seconds.
    created : bool
        The node has it; it is to be activated.
    tries : int
        Failures since the last success.
    """

    name: str
    path: str
    since: float
    created: bool = False
    tries: int = 0


class Queue(Cell, frozen=True):
    """What one node is still to be told, in order; only the first is under way."""

    node: str
    jobs: tuple[Job, ...] = ()


class Past(msgspec.Struct, frozen=True):
    """How a configuration has ended at a node, for people. `fault` is empty when it was activated."""

    node: str
    name: str
    path: str
    time: float
    fault: str = ""


class History(Cell, frozen=True):
    """The last configurations, the newest last."""

    jobs: tuple[Past, ...] = ()


EVENTS: tuple[type[Event], ...] = (PathGiven,)
EFFECTS: tuple[type[Effect], ...] = (CreateConfiguration, ActivateConfiguration, Notify)
CELLS: tuple[type[Cell], ...] = (Settings, Ledger, Queue, History)
