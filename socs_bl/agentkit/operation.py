"""``@operation``: one typed coroutine method is an OCS task or process, its parameters and its help."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from socs_bl.agentkit.params import Parameter, parameters_of

Kind = Literal["task", "process"]
Startup = bool | dict[str, Any]
Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, str | None]])
_MARK = "__socs_operation__"


@dataclass(frozen=True)
class Specification:
    """What the decorator knows about an operation.

    Attributes
    ----------
    name : str
        The name clients call it by; the method's.
    kind : {"task", "process"}
        A task ends by itself, a process when it is stopped.
    privs : int
        OCS access level needed to start or stop it, where a policy is set: 1 looks, 2 moves hardware,
        3 deletes or resets.
    startup : bool or dict
        Start it (with these parameters) when the agent has joined the router for the first time.
    hardware : str or None
        Name of the agent's hardware lock it holds while it runs.
    lock_timeout : float
        Seconds it waits for that lock: 0 refuses at once, -1 waits for ever.
    grace : float
        Seconds it has to end by itself after a stop or abort before it is cancelled.
    """

    name: str
    kind: Kind
    privs: int
    startup: Startup
    hardware: str | None
    lock_timeout: float
    grace: float
    doc: str
    parameters: tuple[Parameter, ...] = field(default=())


def operation(
    kind: Kind,
    *,
    privs: Literal[1, 2, 3] = 1,
    startup: Startup = False,
    hardware: str | None = None,
    lock_timeout: float = 0.0,
    grace: float | None = None,
) -> Callable[[Method], Method]:
    """Make an ``async def`` method an OCS operation; type checkers still see the method itself.

    The method is ``async def name(self, session: Session, *, parameter: type = default) -> str | None``. Its
    annotations (int, float, str, bool, Literal, list, dict, unions with None, pydantic's Annotated constraints) are
    the parameters. It succeeds by returning (a text or None) and fails by raising `Refused`, `Retry`, `Faulty` or
    `Lost`, whose text goes to the client. Any other exception is a crash: the session fails, the agent is degraded,
    people are told.

    Parameters
    ----------
    kind, privs, startup, hardware, lock_timeout
        See `Specification`.
    grace : float, optional
        See `Specification`; by default 0 for a task (cancelled at once) and 10 for a process.

    Raises
    ------
    TypeError
        At import, when the method has another form or no docstring.
    """

    def decorate(method: Method) -> Method:
        if not method.__doc__:
            raise TypeError(f"{method.__name__}: an operation needs a docstring; clients see it as help")
        wait = (10.0 if kind == "process" else 0.0) if grace is None else grace
        specification = Specification(
            name=method.__name__,
            kind=kind,
            privs=privs,
            startup=startup,
            hardware=hardware,
            lock_timeout=lock_timeout,
            grace=wait,
            doc=method.__doc__,
            parameters=parameters_of(method),
        )
        setattr(method, _MARK, specification)
        return method

    return decorate


def specifications(agent: type) -> dict[str, Specification]:
    """The operations of an agent class by name, inherited ones included."""
    found: dict[str, Specification] = {}
    for name in dir(agent):
        # zope.interface leaves names in dir() that the class itself does not answer.
        specification = getattr(getattr(agent, name, None), _MARK, None)
        if isinstance(specification, Specification):
            found[name] = specification
    return found
