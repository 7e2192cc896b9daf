"""The publisher's journal in words, for `socs_bl.core.explain`."""

from __future__ import annotations

from collections.abc import Callable

from socs_bl.bdf.machine import QUIET, RETRY, PublisherMachine
from socs_bl.bdf.model import Announce, Discard, Finish, Finished, Inform, Link, Looked, Measured, Sighting, Step, Tell
from socs_bl.core.effect import Effect
from socs_bl.core.event import Event
from socs_bl.core.explain import Teller, show
from socs_bl.core.machine import Outstanding
from socs_bl.core.walk import Change


class PublisherTeller(Teller[PublisherMachine]):
    """Knows the names of files, and effects (``118.2``)."""

    def concerns(self, machine: PublisherMachine, subject: str) -> Callable[[Change], bool]:
        """A file goes with its timers and steps."""

        def about(change: Change) -> bool:
            if change.key in (subject, QUIET + subject, RETRY + subject):
                return True
            part = change.after or change.before
            return isinstance(part, Outstanding) and part.effect.lane == subject

        return about

    def standing(self, machine: PublisherMachine, subject: str) -> list[str]:
        """What lies there and what is being done about it."""
        file = machine.files.get(subject)
        if file is None:
            published = [item for item in machine.tally.latest if item.name == subject]
            return ["is published and announced"] if published else ["is not among the files that are to be published"]
        lines = [f"{machine.stage(subject)}: {describe(file.sighting)}"]
        return [*lines, file.fault] if file.fault else lines

    def event(self, event: Event) -> str:
        """Looks by what was seen."""
        match event:
            case Looked(sightings=sightings):
                return f"it was seen: {'; '.join(f'{seen.name} {describe(seen)}' for seen in sightings)}"
            case Measured(name=name, size=size):
                return f"{name} had {size.bytes} bytes"
            case Finished(name=name, integrations=integrations):
                return f"{name} was finished with {integrations} integrations"
        return super().event(event)

    def effect(self, effect: Effect) -> str:
        """Steps by what they do to which file."""
        match effect:
            case Finish(name=name, reason=reason):
                return f"finish {name}" + (f" ({reason})" if reason else "")
            case Link(name=name, target=target):
                return f"publish {name} as {target}"
            case Inform(target=target):
                return f"write the side file of {target}"
            case Announce(target=target):
                return f"announce {target}"
            case Discard(name=name, rule=rule):
                return f"discard {name}: {rule}"
            case Step(name=name):
                return f"{type(effect).__name__.lower()} {name}"
        return show(effect)

    def said(self, effect: Effect) -> str:
        """What people were told."""
        return effect.text if isinstance(effect, Tell) else ""


def describe(seen: Sighting) -> str:
    """What lies under a name, in words."""
    things = {
        "a private file": seen.part,
        "a scan": seen.scan,
        f"markers of {', '.join(marker.node for marker in seen.markers)}": bool(seen.markers),
        f"published as {seen.linked}": bool(seen.linked),
        "a side file": seen.informed,
        "announced": seen.sent,
    }
    return ", ".join(text for text, there in things.items() if there) or "nothing"
