"""The first start at a site where the original ran: the machine begins with what that had saved."""

from __future__ import annotations

from collections.abc import Mapping

from socs_bl.commensal.migration import import_state
from socs_bl.commensal.model import Instance, Run, Severity, Subarray
from socs_bl.commensal.pool import Pool


class Takeover(Pool):
    """The machine's way into a saved state."""

    def take_over(self, keys: Mapping[str, str]) -> None:
        """Begin with a saved state; call it when the configuration has been adopted and nothing else is known.

        Parameters
        ----------
        keys : mapping of str to str
            See `migration.import_state`.
        """
        imported = import_state(keys, self.config, self.now.wall)
        for key, cell in imported.cells.items():
            match cell:
                case Run():
                    self.set_run(cell)
                case Instance():
                    self.set_instance(cell)
                case Subarray():
                    self.set_array(cell)
                case _:
                    self.put(key, cell)
        for name, seconds in imported.timers.items():
            self.arm(name, seconds)
        for finding in imported.findings:
            self.notify(Severity.WARNING, "imported", finding)
