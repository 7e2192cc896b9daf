"""The parameters of an operation: read from its annotations, checked before anything changes.

OCS compares types with ``isinstance`` and so lets True pass for an int and NaN for a float. Here pydantic's strict
mode decides, and every refusal is one sentence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from ocs.ocs_agent import ParamError
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from socs_bl.core.errors import Refused

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_REQUIRED = inspect.Parameter.empty


class Parameter:
    """One parameter of an operation.

    Attributes
    ----------
    name : str
        Its keyword.
    annotation : object
        The type it was annotated with.
    default : object
        The value used when it is not given (or given as None, as OCS has it).
    required : bool
        True when there is no default.
    """

    def __init__(self, operation: str, name: str, annotation: Any, default: object) -> None:
        self.operation = operation
        self.name = name
        self.annotation = annotation
        self.required = default is _REQUIRED
        self.default = None if self.required else default
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=_STRICT)
        except PydanticSchemaGenerationError as error:
            raise TypeError(
                f"{operation}: parameter {name!r} has a type clients cannot send: {annotation!r}"
            ) from error
        if self.default is not None:
            self.default = self.check(self.default)

    def check(self, value: object) -> Any:
        """Accept `value`, with an int made a float where a float is meant.

        Raises
        ------
        Refused
            One sentence that names the operation, the parameter, what it must be and what was found.
        """
        if value is None:
            if self.required:
                raise Refused(f"{self.operation}: parameter {self.name!r} is required; nothing was changed")
            return self.default
        try:
            accepted = self._adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "".join(f"[{part!r}]" for part in first["loc"] if isinstance(part, int))
            wish = first["msg"].replace("Input should be", "must be")
            raise self._refusal(place, wish, first["input"]) from error
        # A Literal is looked up by equality, and True == 1 == 1.0 in Python.
        if isinstance(value, bool | float) and type(value) is not type(accepted):
            raise self._refusal("", f"must be of type {type(accepted).__name__}", value)
        return accepted

    def _refusal(self, place: str, wish: str, found: object) -> Refused:
        return Refused(
            f"{self.operation}: parameter {self.name!r}{place}: {wish}; found {found!r:.80}; nothing was changed"
        )


def parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """The parameters of ``async def operation(self, session, *, name: type = default)``.

    Raises
    ------
    TypeError
        When the method does not have that form; agents fail at import, not at the first call.
    """
    signature = list(inspect.signature(function).parameters.values())
    name = function.__name__
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{name}: an operation is an 'async def' method")
    if len(signature) < 2 or any(item.kind is not item.KEYWORD_ONLY for item in signature[2:]):
        raise TypeError(f"{name}: write it as 'async def {name}(self, session: Session, *, parameter: type = default)'")
    hints = get_type_hints(function, include_extras=True)
    missing = [item.name for item in signature[2:] if item.name not in hints]
    if missing:
        raise TypeError(f"{name}: parameters without annotation: {', '.join(missing)}")
    return tuple(Parameter(name, item.name, hints[item.name], item.default) for item in signature[2:])


def check_all(operation: str, parameters: Sequence[Parameter], raw: object) -> dict[str, Any]:
    """Check what a client sent against all parameters of an operation.

    Raises
    ------
    Refused
        For an unknown, missing or wrong parameter.
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise Refused(f"{operation}: parameters must be given by name; found {raw!r:.80}; nothing was changed")
    known = [parameter.name for parameter in parameters]
    unknown = [str(key)[:40] for key in raw if key not in known]
    if unknown:
        raise Refused(
            f"{operation}: unknown parameter {', '.join(unknown[:5])}; it takes "
            f"{', '.join(known) or 'none'}; nothing was changed"
        )
    return {parameter.name: parameter.check(raw.get(parameter.name)) for parameter in parameters}


def prescreen(parameters: Sequence[Parameter]) -> list[tuple[str, dict[str, Any]]]:
    """The same parameters as OCS's own table (``_ocs_prescreen``), which `OCSAgent.start` walks."""
    table: list[tuple[str, dict[str, Any]]] = []
    for parameter in parameters:
        entry: dict[str, Any] = {"check": _ocs_check(parameter)}
        if not parameter.required:
            entry["default"] = parameter.default
        table.append((parameter.name, entry))
    return table


def _ocs_check(parameter: Parameter) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        try:
            parameter.check(value)
        except Refused as refusal:
            raise ParamError(str(refusal)) from refusal
        return True

    return check
