"""Conditions of a pipeline: what is accepted, what is refused and where, and what holds when something is not known yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.dataflow.expression import Value, parse_expression

FILE: dict[str, Value] = {"type": "rawacf", "ext": "", "size": 3 << 30, "cp": -3800, "slice": "0"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("type == rawacf and not ext", True),
        ("type in (rawacf, plot)", True),
        ("type not in [rawacf, 'plot',]", False),
        ("ext in ('.h5', '.hdf5') or size > 1GiB", True),
        ("size >= 3GiB and size < 4GiB", True),
        ("cp in (151, 3503, -3800)", True),
        ('cp != -3800 or (type == "rawacf" and not (slice == "0"))', False),
        ("not not ext", False),
        ("type == rawacf or missing == 1 and ext", True),  # and binds more closely than or
    ],
)
def test_what_holds_of_a_file(text: str, holds: bool) -> None:
    """Every operator, list, literal and unit means what the page of the language says."""
    assert parse_expression(text).holds(FILE) is holds


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "where a name should"),
        ("type ==", 8, "where a word, a number or a text in quotes should"),
        ("type == rawacf plot", 16, "where and, or, or the end should"),
        ("'rawacf' == type", 1, "where a name should"),
        ("type in rawacf", 9, "where a list should"),
        ("type in (rawacf", 16, "',' or ')'"),
        ("(type in [a)", 12, "',' or ']'"),
        ("type in ()", 10, "where a word"),
        ("size > 3foo", 8, "unit 'foo'"),
        ("__import__('os')", 11, "where and, or, or the end should"),
        ("type.upper == 1", 5, "not understood"),
        ("type == 'raw", 9, "not understood"),
        ("type not rawacf", 10, "where 'in' should"),
        ("and == 1", 1, "where a name should"),
        ("((" * 30 + "a", 41, "nested deeper than 40"),
        ("not " * 50 + "a", 161, "nested deeper than 40"),
        ("a" * 2001, None, "write at most 2000"),
    ],
)
def test_what_is_none_is_refused_with_its_place(text: str, column: int | None, says: str) -> None:
    """A refusal names the column and what may stand there; the depth of the parser is bounded."""
    with pytest.raises(Refused, match=says.replace("(", r"\(").replace(")", r"\)").replace("]", r"\]")) as refusal:
        parse_expression(text)
    assert column is None or f"column {column}:" in str(refusal.value)


@given(st.text(alphabet="ab()[]'\"=!<>,. 1Mn\\\nötordi", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text brings anything but a condition or a refusal, and what was accepted can be asked."""
    try:
        expression = parse_expression(text)
    except Refused:
        return
    assert expression.holds({}) in (True, False, None)


Oracle = Callable[[dict[str, Value]], bool]
NAMES = ("a", "b", "c")


def _comparison(name: str, numbers: list[int], equal: bool) -> tuple[str, Oracle]:
    if len(numbers) == 1:
        sign = "==" if equal else "!="
        return f"{name} {sign} {numbers[0]}", lambda values: (values[name] == numbers[0]) == equal
    word = "in" if equal else "not in"
    return f"{name} {word} ({', '.join(map(str, numbers))})", lambda values: (values[name] in numbers) == equal


def _joined(first: tuple[str, Oracle], second: tuple[str, Oracle], word: str) -> tuple[str, Oracle]:
    either = any if word == "or" else all
    return f"({first[0]}) {word} ({second[0]})", lambda values: either((first[1](values), second[1](values)))


def _negated(part: tuple[str, Oracle]) -> tuple[str, Oracle]:
    return f"not ({part[0]})", lambda values: not part[1](values)


NUMBERS = st.integers(0, 2)
CONDITIONS = st.recursive(
    st.builds(_comparison, st.sampled_from(NAMES), st.lists(NUMBERS, min_size=1, max_size=3), st.booleans()),
    lambda part: st.builds(_joined, part, part, st.sampled_from(("and", "or"))) | part.map(_negated),
    max_leaves=6,
)


@given(
    CONDITIONS, st.dictionaries(st.sampled_from(NAMES), NUMBERS), st.fixed_dictionaries(dict.fromkeys(NAMES, NUMBERS))
)
def test_what_is_decided_early_stays_decided(
    condition: tuple[str, Oracle], known: dict[str, Value], others: dict[str, Value]
) -> None:
    """With all names known a condition is what logic makes of it; what is decided with some unknown stays so whatever
    they turn out to be."""
    text, oracle = condition
    expression = parse_expression(text)
    whole = {**others, **known}
    assert expression.holds(whole) is oracle(whole)
    assert expression.holds(known) in (None, oracle(whole))
    assert set(expression.unknown(known)) == {test.name for test in expression.tests()} - set(known)
