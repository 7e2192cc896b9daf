"""The checker of parameters: what OCS lets through is refused, in one sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from hypothesis import given
from hypothesis import strategies as st
from ocs.ocs_agent import ParamError, ParamHandler

from socs_bl.agentkit.operation import operation, specifications
from socs_bl.agentkit.params import Parameter, check_all, parameters_of, prescreen
from socs_bl.agentkit.session import Session
from socs_bl.core.errors import Refused

NAN = float("nan")


async def record(
    self: object, session: Session, *, array: str, dwell: float = 290.0, count: int | None = None,
    mode: Literal["fast", 1] = "fast", bands: list[int] | None = None, gain: Annotated[float, Gt(0)] = 1.0,
    dry: bool = False,
) -> None:  # fmt: skip
    """Record."""


PARAMETERS = parameters_of(record)


def check(**raw: Any) -> dict[str, Any]:
    return check_all("record", PARAMETERS, {"array": "array_1", **raw})


def test_defaults_and_none() -> None:
    """What is not given, or given as None as OCS clients do, is the default."""
    expected = {
        "array": "array_1",
        "dwell": 290.0,
        "count": None,
        "mode": "fast",
        "bands": None,
        "gain": 1.0,
        "dry": False,
    }
    assert check() == expected == check(dwell=None, count=None, mode=None, bands=None, gain=None, dry=None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dwell": NAN}, {"dwell": float("inf")}, {"dwell": True}, {"dwell": "290"}, {"count": True}, {"count": 1.0},
        {"count": "1"}, {"mode": True}, {"mode": 1.0}, {"mode": "slow"}, {"mode": []}, {"bands": [1, True]},
        {"bands": [1.5]}, {"bands": 3}, {"bands": "12"}, {"gain": 0.0}, {"gain": -1}, {"dry": 1}, {"dry": "yes"},
        {"array": 5}, {"array": None}, {"nothing": 1}, {"array": b"array_1"},
    ],
)  # fmt: skip
def test_wrong_values_are_refused_in_a_sentence(wrong: dict[str, Any]) -> None:
    """NaN, True for a number, 1.0 for an int, unknown and missing: one line that names operation and parameter."""
    with pytest.raises(Refused) as refused:
        check(**wrong)
    text = str(refused.value)
    assert text.startswith("record: ") and next(iter(wrong)) in text and "nothing was changed" in text
    assert "\n" not in text and len(text) < 300


@pytest.mark.parametrize("raw", [[], "array", 5, [("array", "array_1")]])
def test_parameters_must_be_a_mapping(raw: object) -> None:
    """A list or a text instead of names is refused, not a crash."""
    with pytest.raises(Refused, match="by name"):
        check_all("record", PARAMETERS, raw)


def test_a_bad_item_is_located() -> None:
    """The place inside a list is named."""
    with pytest.raises(Refused, match=r"'bands'\[2\]"):
        check(bands=[1, 2, "x"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(PARAMETERS), JSON)
def test_whatever_is_sent_is_accepted_right_or_refused(parameter: Parameter, value: object) -> None:
    """No value makes the checker crash, and what it accepts has the annotated type exactly."""
    kinds = {"array": str, "dwell": float, "count": int, "mode": str | int, "bands": list, "gain": float, "dry": bool}
    try:
        accepted = parameter.check(value)
    except Refused:
        return
    if value is not None:
        assert isinstance(accepted, kinds[parameter.name]) and accepted == value
        assert isinstance(accepted, bool) == (parameter.name == "dry")
        assert accepted == accepted  # no NaN


@given(st.dictionaries(st.sampled_from([item.name for item in PARAMETERS] + ["other"]), JSON, max_size=4))
def test_ocs_own_table_agrees(raw: dict[str, Any]) -> None:
    """What OCS's parameter handler does with our table is what we do ourselves, but for the conversion."""
    try:
        ours: object = check_all("record", PARAMETERS, raw)
    except Refused:
        ours = Refused
    try:
        theirs: object = ParamHandler(raw).batch(prescreen(PARAMETERS))
    except ParamError:
        theirs = Refused
    assert theirs == ours


def test_wrong_forms_fail_when_the_class_is_written() -> None:
    """An operation that could not be called is an error at import."""
    with pytest.raises(TypeError, match="async def"):
        parameters_of(lambda self, session: None)

    async def positional(self: object, session: Session, array: str) -> None:
        """No."""

    with pytest.raises(TypeError, match="write it as"):
        parameters_of(positional)

    async def untyped(self, session, *, array) -> None:  # type: ignore[no-untyped-def]
        """No."""

    with pytest.raises(TypeError, match="without annotation: array"):
        parameters_of(untyped)

    async def bad_default(self: object, session: Session, *, dwell: float = "long") -> None:  # type: ignore[assignment]
        """No."""

    with pytest.raises(Refused, match="dwell"):
        parameters_of(bad_default)

    async def silent(self: object, session: Session) -> None: ...

    with pytest.raises(TypeError, match="docstring"):
        operation("task")(silent)


def test_specifications_are_inherited() -> None:
    """A subclass has the operations of its base, and may replace one."""

    class Base:
        @operation("task", privs=3, hardware="disk", lock_timeout=2)
        async def wipe(self, session: Session) -> None:
            """Wipe."""

    class Derived(Base):
        @operation("process")
        async def spin(self, session: Session) -> None:
            """Spin."""

    found = specifications(Derived)
    assert set(found) == {"wipe", "spin"}
    assert (found["wipe"].privs, found["wipe"].hardware, found["wipe"].lock_timeout, found["wipe"].grace) == (
        3,
        "disk",
        2,
        0,
    )
    assert found["spin"].grace == 10
