"""A small machine that uses everything the core offers: a lamp factory that must light each ordered lamp once."""

from __future__ import annotations

from typing import ClassVar

from socs_bl.core.effect import Delivery, Effect, StoreWrites
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Cell, Machine, Outstanding


class Ordered(Event, frozen=True):
    """Someone wants a lamp lit."""

    lamp: str


class Seen(Event, frozen=True):
    """A lamp was seen to be lit."""

    lamp: str


class Light(Effect, frozen=True):
    """Light a lamp; twice is harmless."""

    lamp: str


class Fire(Effect, frozen=True):
    """Fire a salute; twice is not harmless."""

    delivery: ClassVar[Delivery] = Delivery.ONCE

    lamp: str


class Lamp(Cell, frozen=True):
    """One lamp and how far it has come."""

    name: str
    state: str = "ordered"
    tries: int = 1


class LampMachine(Machine):
    """Lights lamps, one lane each; tries again after 5 s; fires one salute a lamp."""

    event_types = (Ordered, Seen)
    effect_types = (Light, Fire)
    cell_types = (Lamp,)

    def handle(self, event: Event) -> None:
        """Order and see lamps."""
        if isinstance(event, Ordered) and f"lamp/{event.lamp}" not in self.cells:
            self.put(f"lamp/{event.lamp}", Lamp(name=event.lamp))
            self.issue(StoreWrites(commands=(("PUBLISH", "lamps", event.lamp),)))
            light = self.issue(Light(lamp=event.lamp), lane=event.lamp)
            self.issue(Fire(lamp=event.lamp), lane="salute", after=(light,))
            self.arm(f"retry/{event.lamp}", 5.0)
        elif isinstance(event, Seen):
            lamp = self.get(f"lamp/{event.lamp}", Lamp)
            if lamp is not None and lamp.state != "lit":
                self.put(f"lamp/{event.lamp}", Lamp(name=lamp.name, state="lit", tries=lamp.tries))
                self.cancel(f"retry/{event.lamp}")

    def fired(self, name: str) -> None:
        """Try again."""
        key = "lamp/" + name.partition("/")[2]
        lamp = self.get(key, Lamp)
        if lamp is not None and lamp.state != "lit":
            self.put(key, Lamp(name=lamp.name, state=lamp.state, tries=lamp.tries + 1))
            self.issue(Light(lamp=lamp.name), lane=lamp.name)
            self.arm(name, 5.0)

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """Remember a salute of which nobody knows."""
        if isinstance(effect, Fire) and unknown:
            lamp = self.get(f"lamp/{effect.lamp}", Lamp)
            if lamp is not None:
                self.put(f"salute/{effect.lamp}", Lamp(name=effect.lamp, state="unknown"))

    def keep(self, outstanding: Outstanding, event: Restarted) -> Effect | None:
        """Repeat everything."""
        return outstanding.effect

    def check(self) -> None:
        """A lamp that is not lit has a timer; one that is lit has none."""
        for cell in self.cells.values():
            if isinstance(cell, Lamp) and cell.state == "ordered":
                assert f"retry/{cell.name}" in self.timers, f"{cell.name} waits for nothing"
            if isinstance(cell, Lamp) and cell.state == "lit":
                assert f"retry/{cell.name}" not in self.timers, f"{cell.name} is lit and still retried"
