"""Patterns of names are understood well enough to know what a field can be; quantities mean what people write."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.dataflow import quantities
from socs_bl.dataflow.naming import Pattern, check_directory, check_name


@pytest.mark.parametrize(
    ("expression", "optional", "words"),
    [
        (r"(?P<a>x|y\.z)", False, ("x", "y.z")),
        (r"(?P<a>x)?b", True, ("x",)),
        (r"(?P<a>x){0,2}b", True, ("x",)),
        (r"(?P<a>x){1,2}b", False, ("x",)),
        (r"(\.(?P<a>\d+))?b", True, ()),
        (r"((?P<a>x)|y)b", True, ("x",)),
        (r"(?P<a>x)|b", True, ("x",)),
        (r"[(|](?P<a>[)|]x)b", False, ()),
        (r"[]|](?P<a>[^]|]+)\|b", False, ()),
        (r"\((?P<a>(x|y)z)\)", False, ()),
        (r"(?P<b>x|y)(?P<a>(?P=b))", False, ()),
    ],
)
def test_what_a_field_can_be(expression: str, optional: bool, words: tuple[str, ...]) -> None:
    """Whether a name can do without a field, and which words it is chosen from, is read from the expression."""
    group = Pattern(re.compile(expression)).groups["a"]
    assert (group.optional, group.words) == (optional, words)


PARTS = st.recursive(
    st.sampled_from(["x", "y", r"\.", "[ab]", "[^)]", r"\d"]),
    lambda part: st.one_of(
        st.tuples(part, part).map("".join),
        part.map(lambda inner: f"({inner})?"),
        st.tuples(part, part).map(lambda two: f"({two[0]}|{two[1]})"),
    ),
    max_leaves=5,
)


@settings(max_examples=40)
@given(
    PARTS, PARTS, PARTS, st.sampled_from(("{0}(?P<f>{1}){2}", "{0}((?P<f>{1}){2})?", "({0}(?P<f>{1})|{2})")), st.data()
)
def test_no_value_that_a_field_has_is_thought_impossible(
    before: str, inner: str, after: str, form: str, data: st.DataObject
) -> None:
    """Whatever fits the whole expression: the value of the field is one that its part of the expression admits."""
    pattern = Pattern(re.compile(form.format(before, inner, after)))
    text = data.draw(st.from_regex(pattern.expression, fullmatch=True))
    match = pattern.expression.fullmatch(text)
    assert match is not None
    assert pattern.admits("f", match["f"] or "")


@given(st.text(max_size=30))
def test_an_accepted_directory_stays_in_its_store(text: str) -> None:
    """No accepted text has a part that leads up, is hidden, or is empty."""
    try:
        check_directory(text)
    except Refused:
        return
    assert text == "" or all(part and part[0] not in ".-" and "\0" not in part for part in text.split("/"))
    assert "/" in text or text == "" or check_name(text) == text


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (quantities.parse_size, "20GiB", 20 << 30),
        (quantities.parse_size, "1.5 kB", 1500),
        (quantities.parse_size, 7, 7),
        (quantities.parse_duration, "300s", 300.0),
        (quantities.parse_duration, "1.5h", 5400.0),
        (quantities.parse_duration, 0, 0.0),
        (quantities.parse_speed, "2MiB/s", 2 << 20),
        (quantities.parse_speed, "none", 0),
        (quantities.parse_share, "15%", 0.15),
        (quantities.parse_rate, "20/min", (20, 60.0)),
        (quantities.parse_span, "30s..1h", (30.0, 3600.0)),
        (quantities.parse_span, "30s", (30.0, 30.0)),
    ],
)
def test_quantities(parse: object, text: object, value: object) -> None:
    """A number with its unit is what it says."""
    assert callable(parse) and parse(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (quantities.parse_size, "20"),
        (quantities.parse_size, "-1GiB"),
        (quantities.parse_size, True),
        (quantities.parse_size, "1s"),
        (quantities.parse_duration, 300),
        (quantities.parse_duration, "1e3s"),
        (quantities.parse_speed, "2MiB"),
        (quantities.parse_speed, "2MiB/h"),
        (quantities.parse_share, "101%"),
        (quantities.parse_share, 15),
        (quantities.parse_rate, "0/min"),
        (quantities.parse_rate, "20"),
        (quantities.parse_span, "1h..30s"),
        (quantities.parse_span, "0..1h"),
    ],
)
def test_no_quantity_is_guessed(parse: object, text: object) -> None:
    """A missing or wrong unit is an error with an example, not a number of something."""
    assert callable(parse)
    with pytest.raises(ValueError, match="such as|at most|write"):
        parse(text)
