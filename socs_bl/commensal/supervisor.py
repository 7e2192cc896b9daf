"""Who starts searches and restarts recorders: one interface, so that a site keeps the supervisor it has.

`CircusSupervisor` is for sites whose nodes run circus. The one for OCS agents is beside the coordinator, since it
speaks to other agents.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from socs_bl.commensal.circus import Circus
from socs_bl.commensal.config import SupervisorConfig
from socs_bl.commensal.model import RestartPart, StartProcessing
from socs_bl.core.names import parse_instance

RECORDER = "recorder"
GATEWAY = "gateway"
MARGIN = 2.0  # seconds before the effect's deadline at which circus is given up


class Supervisor(Protocol):
    """What the coordinator needs of a supervisor.

    Every method is done when the thing is done, and raises `Retry` (nobody answered: ask again), `Faulty` (the node
    says that it cannot) or `Refused` (not to be had here).
    """

    async def start_processing(self, request: StartProcessing) -> None:
        """Have an instance's analyzer search a recording; done when it has taken it, also when it had already."""

    async def restart(self, instance: str, part: str) -> None:
        """Restart an instance's ``recorder`` or ``gateway``."""

    def close(self) -> None:
        """Give connections and threads back."""


class CircusSupervisor:
    """Instances supervised by circus, one watcher a program.

    An analyzer so started knows its work from ``<instance>:unprocessed`` and returns once; ``start`` of a watcher that
    runs does nothing and is answered with ok.

    Parameters
    ----------
    config : SupervisorConfig
    reactor : object
        The Twisted reactor that results come back to.
    """

    def __init__(self, config: SupervisorConfig, reactor: Any) -> None:
        self._config = config
        self._circus = Circus(config.endpoint, config.deadline)
        self._reactor = reactor
        self._started: dict[str, str] = {}

    async def start_processing(self, request: StartProcessing) -> None:
        """Start the watcher of the instance's analyzer, once for a run; asked again, it has taken it already.

        An analyzer of an agent tells its result again when it is asked again; this one would search nothing and
        return 0, whatever it has returned before.
        """
        if self._started.get(request.instance) == request.run:
            return
        await self._command(request.instance, "start", self._config.analyzer)
        self._started[request.instance] = request.run

    async def restart(self, instance: str, part: str) -> None:
        """Restart the watcher of the instance's recorder or gateway; circusd waits for a program that hangs."""
        watcher = self._config.recorder if part == RECORDER else self._config.gateway
        await self._command(instance, "restart", watcher, max(self._config.deadline, RestartPart.deadline - MARGIN))

    def close(self) -> None:
        """End the client."""
        self._circus.close()

    async def _command(self, instance: str, command: str, watcher: str, deadline: float | None = None) -> None:
        name = parse_instance(instance)
        answer = self._circus.send(name.host, command, watcher.replace("{number}", str(name.number)), deadline)
        await in_reactor(answer, self._reactor.callFromThread)


def in_reactor(future: Future[Any], call_from_thread: Callable[..., object]) -> Deferred[Any]:
    """A future of another thread as a Deferred; cancelling it cancels the future."""

    def give_up(_: object) -> None:
        future.cancel()

    deferred: Deferred[Any] = Deferred(give_up)

    def fire(error: BaseException | None) -> None:
        if deferred.called:
            return
        if error is not None:
            deferred.errback(error)
        else:
            deferred.callback(future.result())

    def ended(done: Future[Any]) -> None:
        if not done.cancelled():
            call_from_thread(fire, done.exception())

    future.add_done_callback(ended)
    return deferred
