"""An OCS agent of a few lines on a real router: it takes tasks as a node of the back end would, and keeps what it was told."""

from __future__ import annotations

import time
from typing import Any

import ocs
from twisted.internet.defer import Deferred

from socs_bl.services.crossbar_node import CrossbarNode
from tests.harness.wamp import Session, connect


class NodeAgent:
    """One node.

    Attributes
    ----------
    told : list of (str, dict)
        Tasks it has carried out, with their parameters.
    refuses : dict of str to str
        By task, the sentence it fails with; one use each.
    forgets : set of str
        Tasks that are carried out and whose answer never comes; one use each.
    configurations : dict of str to str
        Their paths; asked again for the same one it does nothing.
    running : bool
        Whether that process runs.
    """

    def __init__(self, router: CrossbarNode, name: str) -> None:
        self._router = router
        self.name = name
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuses: dict[str, str] = {}
        self.forgets: set[str] = set()
        self.configurations: dict[str, str] = {}
        self.running = True
        self._sessions: dict[str, dict[str, Any]] = {}
        self._wamp: Session | None = None

    async def start(self) -> None:
        """Join the router and register as OCS's agents do."""
        self._wamp = await connect(self._router.ws_url, self._router.realm)
        address = f"{self._router.address_root}.{self.name}"
        await self._wamp.register(self._ops, f"{address}.ops")
        await self._wamp.register(self._view, f"{address}.view")

    async def stop(self) -> None:
        """Leave."""
        wamp, self._wamp = self._wamp, None
        if wamp is not None:
            await wamp.close()

    def of(self, op: str) -> list[dict[str, Any]]:
        """Parameters of all calls of one task."""
        return [params for name, params in self.told if name == op]

    def _view(self, action: str, op: str, **_: object) -> tuple[int, str, dict[str, Any]]:
        status = "running" if self.running else "done"
        return ocs.OK, "", {"op_name": op, "status": status, "data": {}}

    def _ops(self, action: str, op: str, params: dict[str, Any] | None = None, **_: object) -> Any:
        if action == "wait":
            return (ocs.OK, "", self._sessions[op])
        session = {"session_id": len(self.told), "op_name": op, "status": "running", "success": None, "messages": []}
        self._sessions[op] = {**session, **self._perform(op, params or {}), "status": "done", "data": {}}
        if op in self.forgets:
            self.forgets.discard(op)
            return Deferred()
        return (ocs.OK, f'Started task "{op}".', session)

    def _perform(self, op: str, params: dict[str, Any]) -> dict[str, Any]:
        refusal = self.refuses.pop(op, "")
        if refusal:
            now = time.time()
            return {"success": False, "messages": [[now, refusal], [now, 'Status is now "done".']]}
        again = op == "create_configuration" and self.configurations.setdefault(params["name"], params["path"])
        self.told.append((op, params))
        assert again in (False, params.get("path")), f"{params['name']} is {again} already"
        return {"success": True, "messages": [[time.time(), "Done."]]}
