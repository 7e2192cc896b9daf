"""Configurations as the ingest process has them, and switching between them in band: between two frames, in order.

Activate and destroy wait in one queue, in the order they came. An activation waits until frames flow, since their
timestamps are the only clock; it takes effect between two frames, and what is behind it in the queue waits with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from socs_bl.core.errors import Refused, SocsError
from socs_bl.correlator.assembly import Assembler, Assembly
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.names import parse_name
from socs_bl.correlator.plan import make_plan
from socs_bl.correlator.ring import RingWriter, choose_slots

ACTIVATE, DESTROY = "activate", "destroy"


class Switch:
    """The configurations of one ingest process.

    Parameters
    ----------
    assembler : Assembler
    report : callable
        ``report(type, **fields)`` tells the agent.
    ring_bytes : int
        The largest ring, when the agent does not say how many slots one has.

    Attributes
    ----------
    held : dict
        Configurations by name.
    active : str or None
    pending : deque
        ``[action, name]`` in the order they will be done.
    """

    def __init__(self, assembler: Assembler, report: Callable[..., None], ring_bytes: int) -> None:
        self._assembler, self._report, self._ring_bytes = assembler, report, ring_bytes
        self.held: dict[str, Assembly] = {}
        self.active: str | None = None
        self.pending: deque[tuple[str, str]] = deque()

    def create(self, name: str, configuration: Configuration, rings: Mapping[str, str], slots: int = 0) -> None:
        """Make tables and rings.

        Raises
        ------
        Refused
            When the name is taken, a pipe has no ring, or products cannot be told apart.
        Faulty
            When a ring cannot be made; nothing is left of the others.
        """
        parse_name(name)
        if name in self.held:
            raise Refused(f"configuration {name}: exists already; destroy it first, or give another name")
        writers: dict[str, RingWriter] = {}
        try:
            for pipe in configuration.pipes:
                plan = make_plan(configuration.pipe_products(pipe.name))
                if not plan.products:
                    continue
                if pipe.name not in rings:
                    raise Refused(f"configuration {name}: no ring is given for pipe {pipe.name}")
                dump = configuration.dump_ns
                count = slots or choose_slots(plan, self._assembler.timing.window(dump), dump, self._ring_bytes)
                writers[pipe.name] = RingWriter(Path(rings[pipe.name]), plan, count)
            self.held[name] = Assembly(configuration, writers)
        except SocsError:
            for writer in writers.values():
                writer.unlink()
                writer.close()
            raise

    def ask(self, action: str, name: str) -> None:
        """Queue an activation or a destruction.

        Raises
        ------
        Refused
            When there is no such configuration, or will be none.
        """
        if name not in self.held or (DESTROY, name) in self.pending:
            raise Refused(f"configuration {name!r:.80}: there is none; create it first")
        self.pending.append((action, name))

    def apply(self, cut_ns: int) -> None:
        """Do what is pending and can be done now; frames up to `cut_ns` will be stale."""
        while self.pending:
            action, name = self.pending[0]
            if action == ACTIVATE and not self._assembler.flowing:
                return
            self.pending.popleft()
            if action == ACTIVATE:
                self._assembler.activate(self.held[name], cut_ns)
                previous, self.active = self.active, name
                self._report("WCBE_CONFIG_ACTIVATED", name=name, previous=previous, cut_ns=cut_ns)
            else:
                self._destroy(name)
                self._report("WCBE_CONFIG_DESTROYED", name=name)

    def destroy_all(self) -> None:
        """Destroy all configurations at once, and forget what is pending."""
        self.pending.clear()
        for name in list(self.held):
            self._destroy(name)
            self._report("WCBE_CONFIG_DESTROYED", name=name)

    def close(self) -> None:
        """Emit what is open and give the rings up; their files stay for the pipelines to finish."""
        self._assembler.flush("the ingest process ends")
        for assembly in self.held.values():
            for ring in assembly.rings.values():
                ring.close()
        self.held.clear()

    def status(self) -> dict[str, Any]:
        """Each configuration: dumps, and what its rings hold and dropped."""
        return {name: _described(assembly) for name, assembly in self.held.items()}

    def _destroy(self, name: str) -> None:
        if name == self.active:
            self._assembler.deactivate("destroyed")
            self.active = None
        for ring in self.held.pop(name).rings.values():
            ring.unlink()
            ring.close()


def _described(assembly: Assembly) -> dict[str, Any]:
    rings = {
        pipe: {
            "slots": ring.slots,
            "waiting": ring.waiting,
            "dropped": ring.dropped,
            "abandoned": ring.abandoned,
            "bytes": ring.size_bytes,
        }
        for pipe, ring in assembly.rings.items()
    }
    return {
        "products": len(assembly.lookup.names),
        "dump_ns": assembly.dump_ns,
        "emitted": assembly.emitted,
        "incomplete": assembly.incomplete,
        "forced": assembly.forced,
        "bytes": assembly.size_bytes,
        "rings": rings,
    }
