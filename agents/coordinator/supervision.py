"""How the coordinator has work done at the instances: through the agents there, or through the site's circus."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater

from socs_bl.client import AsyncClient, NoAnswer
from socs_bl.commensal.config import SupervisorConfig
from socs_bl.commensal.model import StartProcessing
from socs_bl.commensal.supervisor import CircusSupervisor, Supervisor
from socs_bl.core.errors import Refused, Retry
from socs_bl.core.names import agent_suffix

ASK_INTERVAL = 0.2  # seconds


class AgentSupervisor:
    """Instances whose programs are OCS agents; HostManager keeps those running.

    Parameters
    ----------
    client : AsyncClient
    reactor : object
        The Twisted reactor.
    analyzer_prefix : str
        Instance-ids of analyzers are this, the host and the number.
    """

    def __init__(self, client: AsyncClient, reactor: Any, analyzer_prefix: str) -> None:
        self._client = client
        self._reactor = reactor
        self._prefix = analyzer_prefix

    async def start_processing(self, request: StartProcessing) -> None:
        """Ask an analyzer to search; done when it does, also when it did already."""
        analyzer = f"{self._prefix}{agent_suffix(request.instance)}"
        try:
            reply = await self._client.start(
                analyzer,
                "process",
                run=request.run,
                datadir=request.datadir,
                duration=request.duration,
            )
            # A request that was started is not yet one that survives: it does when it is in the analyzer's journal.
            while not await self._has_taken(analyzer, request.run, reply.msg):
                await deferLater(self._reactor, ASK_INTERVAL)
        except NoAnswer as error:
            raise Retry(f"{analyzer} does not answer: {error}") from error

    async def _has_taken(self, analyzer: str, run: str, answer: str) -> bool:
        """Whether an analyzer has a run in its journal; raises Retry when it works for another or has refused it."""
        session = (await self._client.status(analyzer, "process")).session
        data = session.get("data") or {}
        if data.get("run") == run and "stage" in data:
            return True
        if data.get("run") != run or session.get("status") == "done":
            raise Retry(f"{analyzer} did not take {run}: {answer}")
        return False

    async def restart(self, instance: str, part: str) -> None:
        """Refused: recorders leave their groups by themselves, and HostManager restarts those that end."""
        raise Refused(f"the {part} of {instance} is an agent; ask the HostManager of its host to restart it")

    def close(self) -> None:
        """Nothing to give back: the client is the agent's own connection."""


def make_supervisor(config: SupervisorConfig, client: AsyncClient, reactor: Any, analyzer_prefix: str) -> Supervisor:
    """The supervisor a site has configured.

    Raises
    ------
    Refused
        When it needs a library that is not installed.
    """
    if config.kind == "circus":
        return CircusSupervisor(config, reactor)
    return AgentSupervisor(client, reactor, analyzer_prefix)
